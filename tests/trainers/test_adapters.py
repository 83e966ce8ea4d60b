"""The adapters' formulas against plain loops in float64, the cache, the search, the settings."""
from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import Dataset
from yacs.config import CfgNode

from clip.features import ImageFeatures
from clip.model import build_model
from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY, build_dataset
from dassl.optim import build_lr_scheduler
from tests.support.closeness import assert_close
from tests.support.data import make_cfg
from tests.support.dataset_trees import write_imagenet
from tests.support.golden_data import tiny_state_dict
from trainers.adapters.cache import Cache, check_cache, encode_keys
from trainers.adapters.model import PlotAdapterModel, TipModel
from trainers.adapters.options import AdapterOptions, PlotAdapterOptions, TipAdapterFOptions, TipAdapterOptions
from trainers.adapters.selection import search, validation_images
from trainers.adapters.trainer import by_batch
from trainers.adapters.tuned import PLOT_ADAPTER, TIP_ADAPTER, grid
from trainers.parts.prompts import PromptLearner
from trainers.plot.model import PlotModel
from trainers.plot.sinkhorn import sinkhorn
from trainers.plot.transport import Transport

NAMES = ["accordion", "yin_yang", "cat", "dog"]
LABELS = st.lists(st.integers(0, 3), min_size=1, max_size=9)  # of cached images: uneven, and of some classes only


def unit(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=generator), dim=-1)


@pytest.fixture(scope="module")
def clip_model():
    return build_model(tiny_state_dict("tiny_rn")).requires_grad_(False).eval()


@pytest.fixture(scope="module")
def plot(clip_model):
    """A frozen PLOT with both kinds of logits."""
    generator = torch.Generator().manual_seed(5)
    learner = PromptLearner(NAMES, clip_model, n_context=3, n_prompts=2, generator=generator)
    return PlotModel(learner, clip_model, Transport(), fuse_global=True).requires_grad_(False)


@pytest.fixture(scope="module")
def width(clip_model):
    return clip_model.text_projection.shape[1]


def cache_of(labels, width, n_keys=1, alpha=1.3, beta=2.0, seed=0) -> Cache:
    cache = Cache(NAMES, n_keys, width).requires_grad_(False)
    cache.fill(unit(n_keys, len(labels), width, seed=seed), torch.tensor(labels))
    cache.alpha, cache.beta = alpha, beta
    return cache


def images_of(count, width, places=3, seed=3) -> ImageFeatures:
    """Features that are not of unit length."""
    return ImageFeatures(2.5 * unit(count, width, seed=seed), 0.7 * unit(count, places, width, seed=seed + 1))


def rows(tensor) -> list:
    return tensor.double().tolist()


def dot(a, b) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def of_unit_length(vector) -> list[float]:
    norm = math.sqrt(dot(vector, vector))
    return [x / norm for x in vector]


# --- formulas --------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(labels=LABELS, alpha=st.floats(0, 10), beta=st.floats(0, 30), seed=st.integers(0, 1000))
def test_tip_adapter_is_its_formula(clip_model, width, labels, alpha, beta, seed):
    cache, text = cache_of(labels, width, alpha=alpha, beta=beta, seed=seed), unit(4, width, seed=seed + 1)
    image = images_of(2, width, seed=seed + 2)
    expected = []
    for features in map(of_unit_length, rows(image.pooled)):
        logits = [float(clip_model.logit_scale.exp()) * dot(features, one) for one in rows(text)]
        for key, label in zip(rows(cache.keys[0]), labels, strict=True):
            logits[label] += alpha * math.exp(-beta * (1 - dot(features, key)))
        expected.append(logits)
    model = TipModel(clip_model, text, cache)
    assert_close(model(image), torch.tensor(expected), 1e-5)
    assert_close(model.train_logits(image), model(image))  # in training, too


def transported_score(similarity: list, epsilon: float, limit: int = 100, threshold: float = 0.01) -> list:
    """The transport of all problems [image][class][m][n] by plain loops, with the rule that stops them together."""
    problems = [one for image in similarity for one in image]
    m, n = len(problems[0]), len(problems[0][0])
    kernels = [[[math.exp(-(1 - s) / epsilon) for s in row] for row in one] for one in problems]
    r, c = [[1.0] * m for _ in problems], [[1.0] * n for _ in problems]
    for _ in range(limit):
        change = 0.0
        for g, kernel in enumerate(kernels):
            new = [1 / m / dot(row, c[g]) for row in kernel]
            change += sum(abs(x - y) for x, y in zip(new, r[g], strict=True)) / (m * len(problems))
            r[g] = new
            c[g] = [1 / n / sum(kernel[i][j] * r[g][i] for i in range(m)) for j in range(n)]
        if change < threshold:
            break
    totals = [
        sum(r[g][i] * kernels[g][i][j] * c[g][j] * one[i][j] for i in range(m) for j in range(n))
        for g, one in enumerate(problems)
    ]
    per_image = len(similarity[0])
    return [totals[i : i + per_image] for i in range(0, len(totals), per_image)]


def cache_similarity(local, keys, labels, beta, n_classes) -> list:
    """[class][m][n] of one image's local features (M, D) and keys (N, K, D)."""
    found = [[[0.0] * len(keys) for _ in local] for _ in range(n_classes)]
    for m, feature in enumerate(map(of_unit_length, local)):
        for n, ones in enumerate(keys):
            row = of_unit_length([math.exp(-beta * (1 - dot(feature, key))) for key in ones])
            for weight, label in zip(row, labels, strict=True):
                found[label][m][n] += weight
    return found


@settings(max_examples=15, deadline=None)
@given(labels=LABELS, alpha=st.floats(0, 10), beta=st.floats(0, 10), seed=st.integers(0, 1000))
def test_plot_adapter_is_its_formula(clip_model, plot, width, labels, alpha, beta, seed):
    cache, text = cache_of(labels, width, 2, alpha, beta, seed), unit(4, width, seed=seed + 1)
    image = images_of(2, width, seed=seed + 2)
    similarity = [cache_similarity(local, rows(cache.keys), labels, beta, 4) for local in rows(image.local)]
    scale = float(clip_model.logit_scale.exp())
    score = scale * torch.tensor(transported_score(similarity, epsilon=0.3))
    prompt = torch.tensor([[scale * dot(of_unit_length(f), one) for one in rows(text)] for f in rows(image.pooled)])
    model = PlotAdapterModel(clip_model, text, cache, plot, 0.3)
    assert_close(model.train_logits(image), prompt + alpha * score, 1e-4)
    halved = 0.5 * (0.5 * plot.score(image))  # 0.5 L + 0.5 Lg, and half of that
    assert_close(model(image), prompt + alpha * score + halved, 1e-4)
    explained = model.explain(image)
    assert_close(explained.logits, model(image))
    assert_close(explained.match.plan.sum(dim=(2, 3)), torch.ones(2, 4))


def test_plot_adapter_score_of_the_worked_example(plot):
    """M 3, b 2, D 4, C 2, 2 shots, N 2, epsilon 0.3, indices from 1; recorded with the original's formulas."""
    local = torch.tensor([[[math.sin(0.7 * m + 1.3 * b + 0.5 * k * m) for k in range(1, 5)] for m in range(1, 4)]
                          for b in range(1, 3)])
    weight = torch.tensor([[math.cos(0.3 * r * k) for k in range(1, 5)] for r in range(1, 9)])
    cache = Cache(["a", "b"], 2, 4).requires_grad_(False)
    cache.fill(F.normalize(weight, dim=-1).view(2, 4, 4), torch.tensor([0, 0, 1, 1]))
    plain = SimpleNamespace(visual=None, logit_scale=torch.tensor(100.0).log(), dtype=torch.float32)
    model = PlotAdapterModel(plain, torch.zeros(2, 4), cache, plot, 0.3)
    affinity = model.affinity(ImageFeatures(torch.zeros(2, 4), local))
    for beta, expected in ((1.0, [[105.9113, 115.8004], [102.7783, 111.5143]]),
                           (0.16, [[99.2791, 101.9349], [98.7194, 102.2762]])):
        assert_close(model.cache_score(affinity, beta), torch.tensor(expected), 5e-6)


def test_both_sides_of_a_step_have_their_gradients(clip_model, plot, width):
    cache = cache_of([0, 1, 1, 3], width, 2)
    cache.keys.requires_grad_(True)
    model = PlotAdapterModel(clip_model, unit(4, width), cache, plot, 0.3)
    image, weights = images_of(2, width), torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
    (found,) = torch.autograd.grad((model.train_logits(image) * weights).sum(), cache.keys)
    similarity = model.similarity(model.affinity(image), cache.beta)
    plan = model.transport.match(similarity, keep_plan=True).plan  # held fixed
    value = (plan * similarity.permute(2, 1, 3, 0)).sum(dim=(2, 3))
    scale = clip_model.logit_scale.exp() * cache.alpha
    (expected,) = torch.autograd.grad((scale * value * weights).sum(), cache.keys)
    assert found.abs().sum() > 0
    assert_close(found, expected)


@pytest.mark.parametrize("n_keys", [1, 2])
def test_without_weight_the_cache_says_nothing(clip_model, plot, width, n_keys):
    image, text = images_of(3, width), unit(4, width)
    for cache in (cache_of([0, 1, 2], width, n_keys, alpha=0.0), Cache(NAMES, n_keys, width)):  # weight 0; empty
        model = (TipModel(clip_model, text, cache) if n_keys == 1
                 else PlotAdapterModel(clip_model, text, cache, plot, 0.3))
        torch.testing.assert_close(model.train_logits(image), model.zero_shot(image), rtol=0, atol=0)


@pytest.mark.parametrize("n_keys", [1, 2])
def test_the_order_of_cached_images_is_none(clip_model, plot, width, n_keys):
    image, text, order = images_of(3, width), unit(4, width), torch.tensor([4, 0, 3, 1, 2])
    one = cache_of([0, 1, 1, 3, 3], width, n_keys)
    other = Cache(NAMES, n_keys, width).requires_grad_(False)
    other.fill(one.keys[:, order], one.labels[order])
    other.alpha, other.beta = one.alpha, one.beta
    kinds = (lambda c: TipModel(clip_model, text, c)) if n_keys == 1 else (
        lambda c: PlotAdapterModel(clip_model, text, c, plot, 0.3))
    assert_close(kinds(one)(image), kinds(other)(image), 1e-5)


def test_a_class_of_many_alike_images_stays_finite(clip_model, plot, width):
    """Similarities are then far from cosines: sqrt(n) instead of 1, which the solver must know."""
    cache = Cache(NAMES, 2, width).requires_grad_(False)
    cache.fill(unit(2, 1, width).expand(-1, 900, -1), torch.zeros(900, dtype=torch.int64))
    model = PlotAdapterModel(clip_model, unit(4, width), cache, plot, 0.01)
    similarity = model.similarity(model.affinity(images_of(2, width)), 1.0)
    torch.testing.assert_close(similarity[:, 0], torch.full((2, 2, 3), 30.0), rtol=1e-4, atol=0)
    score = model.cache_score(model.affinity(images_of(2, width)), 1.0)
    expected = clip_model.logit_scale.exp() * torch.tensor([30.0, 0, 0, 0]).expand(2, -1)
    assert_close(score, expected, 1e-4)
    assert (1 - similarity).abs().max() <= model.transport.max_cost * (1 + 1e-4)


@pytest.mark.parametrize("beta", [20.0, 50.0, 150.0])
def test_a_sharp_cache_is_still_asked(clip_model, plot, width, beta):
    """exp(-beta (1 - cosine)) is then far below float32, for images that are unlike all that are cached."""
    cache, image = cache_of([0, 1, 1, 3], width, 2, 1.0, beta), images_of(2, width, seed=3)
    model = PlotAdapterModel(clip_model, unit(4, width), cache, plot, 0.3)
    expected = torch.tensor([cache_similarity(x, rows(cache.keys), [0, 1, 1, 3], beta, 4) for x in rows(image.local)])
    assert_close(model.similarity(model.affinity(image), beta).permute(2, 1, 3, 0), expected, 1e-6 * beta, floor=1)


@settings(max_examples=20, deadline=None)
@given(labels=LABELS, seed=st.integers(0, 1000))
def test_the_plan_is_the_solvers(clip_model, plot, width, labels, seed):
    model = PlotAdapterModel(clip_model, unit(4, width), cache_of(labels, width, 2, seed=seed), plot, 0.3)
    similarity = model.similarity(model.affinity(images_of(2, width)), 2.0)  # (N, C, B, M)
    match = model.transport.match(similarity, keep_plan=True)
    assert_close(match.plan.permute(3, 1, 0, 2), sinkhorn(1 - similarity, 0.3).plan, 1e-4)


# --- keys ------------------------------------------------------------------------------------------------


class Views(Dataset):
    """Samples that differ from call to call: image i is i, and its k-th look adds k."""

    def __init__(self, count: int) -> None:
        self.looks = [0] * count

    def __len__(self) -> int:
        return len(self.looks)

    def __getitem__(self, index: int) -> dict:
        self.looks[index] += 1
        return {"img": torch.tensor([100.0 * index, float(self.looks[index])])}


@pytest.mark.parametrize(("count", "batch", "passes"), [(7, 3, 4), (1, 5, 1), (6, 6, 10)])
def test_keys_are_means_over_the_looks(count, batch, passes):
    images = Views(count)
    keys = encode_keys(images, passes, batch, 0, ImageFeatures.without_places, lambda mean: mean.pooled[None])
    mean_look = sum(range(1, passes + 1)) / passes
    assert_close(keys, torch.tensor([[[100.0 * i, mean_look] for i in range(count)]]))
    assert images.looks == [passes] * count


def test_keys_of_tip_adapter(clip_model, width):
    """Raw features are averaged over the looks, then normalised."""
    looks = [images_of(2, width, seed=seed) for seed in range(3)]
    model = TipModel(clip_model, unit(4, width), Cache(NAMES, 1, width))
    found = encode_keys([{"img": torch.zeros(3, 2, 2)}] * 2, 3, 2, 0, lambda _: looks.pop(), model.keys_of)
    looks = [images_of(2, width, seed=seed) for seed in range(3)]
    for image in range(2):
        columns = zip(*(rows(look.pooled[image]) for look in looks), strict=True)
        expected = of_unit_length([sum(column) / 3 for column in columns])
        assert_close(found[0, image], torch.tensor(expected))


def test_keys_of_plot_adapter(clip_model, plot, width):
    """Features of every look are normalised, averaged, normalised again; local ones then averaged over places."""
    looks = [images_of(2, width, seed=seed) for seed in range(3)]
    model = PlotAdapterModel(clip_model, unit(4, width), Cache(NAMES, 2, width), plot, 0.3)
    seen = [model.view(look) for look in looks]
    found = encode_keys([{"img": torch.zeros(3, 2, 2)}] * 2, 3, 2, 0, lambda _: seen.pop(), model.keys_of)
    for image in range(2):
        def averaged(features) -> list[float]:
            columns = zip(*(of_unit_length(rows(feature)) for feature in features), strict=True)
            return of_unit_length([sum(column) / 3 for column in columns])

        pooled = averaged([look.pooled[image] for look in looks])
        places = [averaged([look.local[image, m] for look in looks]) for m in range(3)]
        local = [sum(column) / 3 for column in zip(*places, strict=True)]
        assert_close(found[:, image], torch.tensor([pooled, local]))
    assert found[1].norm(dim=-1).max() < 0.999  # not of unit length again


# --- the cache -------------------------------------------------------------------------------------------


def saved(cache: Cache) -> dict:
    return {key: value.clone() for key, value in cache.state_dict().items()}


def test_a_state_is_tensors_and_comes_back(width):
    cache = cache_of([0, 2, 2, 3, 1], width, 2, alpha=0.1 + 0.2, beta=1 / 3)
    cache.notes = {"protocol": None, "selection": {"alpha": 0.1 + 0.2, "prompts": "a/b – ü"}}
    state = saved(cache)
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    other = Cache(NAMES, 2, width)
    keys = other.keys
    other.load_state_dict(state)
    assert other.keys is keys and torch.equal(keys, cache.keys)  # an optimiser holds on to it
    assert (other.alpha, other.beta, other.notes) == (cache.alpha, cache.beta, cache.notes)
    assert torch.equal(other.values, F.one_hot(torch.tensor([0, 2, 2, 3, 1]), 4).float())


def test_other_classes_are_met_by_name(width):
    names = ["crane", "cat", "crane", "dog"]  # as ImageNet, which has two cranes
    cache = Cache(names, 1, width)
    cache.fill(unit(1, 4, width), torch.tensor([0, 1, 2, 3]))
    state = saved(cache)
    other = Cache(["dog", "crane", "new", "crane", "crane"], 1, width)
    other.load_state_dict(state)
    expected = torch.zeros(4, 5)
    expected[0, 1] = expected[2, 3] = expected[3, 0] = 1
    assert torch.equal(other.values, expected) and other.n_known == 3
    again = Cache(names, 1, width)
    again.load_state_dict(saved(other))
    assert torch.equal(again.values, torch.eye(4))


FAULTS = {
    "prompts": (lambda s: {"ctx": s["keys"], "token_prefix": s["labels"]}, "of another method"),
    "other width": (lambda s: s | {"keys": s["keys"][..., :5]}, "another method or backbone"),
    "one key": (lambda s: s | {"keys": s["keys"][:1]}, "needs 2 x images"),
    "labels missing": (lambda s: s | {"labels": s["labels"][1:]}, "needs 2 x images"),
    "diverged": (lambda s: s | {"keys": s["keys"] * math.nan}, "NaN or infinite numbers in `keys`"),
    "other prompts": (lambda s: s | {"ctx": s["ctx"][:1]}, "set the same N, N_CTX"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_wrong_files_say_what_they_hold(plot, width, fault, tmp_path):
    cache = Cache(NAMES, 2, width, plot.prompt_learner.ctx)
    cache.fill(unit(2, 3, width), torch.tensor([0, 1, 2]))
    change, complaint = FAULTS[fault]
    check_cache(saved(cache), cache, tmp_path / "file")
    with pytest.raises(ValueError, match=complaint) as error:
        check_cache(change(saved(cache)), cache, tmp_path / "file")
    assert str(tmp_path / "file") in str(error.value)


# --- the search ------------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(labels=LABELS, seed=st.integers(0, 1000), n_keys=st.sampled_from([1, 2]), cut=st.integers(1, 11))
def test_search_finds_the_first_of_the_best(clip_model, plot, width, labels, seed, n_keys, cut):
    cache, text = cache_of(labels, width, n_keys, seed=seed), unit(4, width, seed=seed + 1)
    if n_keys == 1:
        model = TipModel(clip_model, text, cache)
    else:
        model = PlotAdapterModel(clip_model, text, cache, plot, 0.3)
        cut = 12  # one batch: the transport's stop rule looks at a whole one
    image = images_of(12, width, seed=seed + 2)
    truth = torch.randint(4, (12,), generator=torch.Generator().manual_seed(seed))
    alphas, betas = grid(3.0, 4), grid(2.0, 3)
    best = (-1.0, 0.0, 0.0)
    for beta in betas:
        for alpha in alphas:
            cache.alpha, cache.beta = alpha, beta
            accuracy = 100 * (model(image).argmax(dim=1) == truth).double().mean().item()
            best = (accuracy, alpha, beta) if accuracy > best[0] + 1e-9 else best
    parts = [(ImageFeatures(*(t[i : i + cut] for t in image)), truth[i : i + cut]) for i in range(0, 12, cut)]
    found = search(model, parts, alphas, betas)
    assert (found.alpha, found.beta) == best[1:] and found.accuracy == pytest.approx(best[0])


def test_grids_are_the_originals():
    assert grid(7.0, 3) == pytest.approx([0.1, 2.4, 4.7])
    values = TipAdapterOptions().values("Caltech101")
    assert len(values.betas) == 200 and len(values.alphas) == 20 and values.betas[0] == values.alphas[0] == 0.1
    tuned = PlotAdapterOptions(tuned=True).values("EuroSAT")
    assert (tuned.alpha, tuned.beta, len(tuned.betas), len(tuned.alphas)) == (0.1, 3.67, 200, 20)
    assert max(tuned.betas) < 12 and max(tuned.alphas) < 10


def test_tuned_values_are_of_the_eleven_data_sets():
    import datasets  # noqa: F401  (registers them)

    assert TIP_ADAPTER.keys() == PLOT_ADAPTER.keys() and len(TIP_ADAPTER) == 11
    assert TIP_ADAPTER.keys() <= set(DATASET_REGISTRY.registered_names())
    for table in (TIP_ADAPTER, PLOT_ADAPTER):
        assert all(min(*one.scale, *one.steps, one.alpha, one.beta, one.epochs) > 0 for one in table.values())


# --- images to choose on ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory):
    """A data set whose validation list is the test set: 6 classes of 8 images."""
    import datasets  # noqa: F401

    root = tmp_path_factory.mktemp("imagenet")
    write_imagenet(root)
    cfg = make_cfg(root, "ImageNet", DATASET__NUM_SHOTS=2, SEED=1)
    return cfg, build_dataset(cfg)


def test_imagenet_holds_out_training_images(imagenet):
    cfg, dataset = imagenet
    images, source = validation_images(cfg, dataset, "val")
    paths = {item.impath for item in images}
    assert source == "train" and len(paths) == 12  # min(shots, 4) of each class
    assert not paths & {item.impath for item in dataset.test} and not paths & {i.impath for i in dataset.train_x}
    assert [sum(item.label == label for item in images) for label in range(6)] == [2] * 6
    again, _ = validation_images(cfg, dataset, "train")
    assert [item.impath for item in again] == [item.impath for item in images]
    other = cfg.clone()
    other.SEED = 2
    assert {item.impath for item in validation_images(other, build_dataset(other), "val")[0]} != paths


def test_only_the_leaky_protocol_takes_the_test_images(imagenet):
    cfg, dataset = imagenet
    assert validation_images(cfg, dataset, "val", test_is_val=True) == (dataset.test, "test")
    with pytest.raises(ValueError, match="no validation split of its own"):
        validation_images(cfg, dataset, "full_val", test_is_val=True)


def test_nothing_is_left_to_hold_out(imagenet):
    cfg, _ = imagenet
    everything = cfg.clone()
    everything.DATASET.NUM_SHOTS = -1
    dataset = build_dataset(everything)
    with pytest.raises(ValueError, match="ImageNet are in the cache, and it has no validation split of its own; set"):
        validation_images(everything, dataset, "val")
    val = [SimpleNamespace(impath="elsewhere.jpg")]
    dataset = SimpleNamespace(train_x=dataset.train_x, val=val, test=dataset.test)
    with pytest.raises(ValueError, match="ImageNet are in the cache; set DATASET.NUM_SHOTS to less, or SEARCH to val"):
        validation_images(everything, dataset, "train")


# --- settings --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "settings_", "complaint"), [
    (TipAdapterOptions, {"search": "test"}, "TRAINER.TIPADAPTER.SEARCH must be one of val, full_val, train, none"),
    (TipAdapterOptions, {"precision": "amp"}, "TRAINER.TIPADAPTER.PREC must be one of fp16, fp32, bf16"),
    (TipAdapterFOptions, {"passes": 0}, "TRAINER.TIPADAPTERF.AUGMENT_EPOCH must be at least 1"),
    (TipAdapterFOptions, {"alpha": -1.0}, "TRAINER.TIPADAPTERF.ALPHA must be at least 0"),
    (PlotAdapterOptions, {"steps": (5,)}, "TRAINER.PLOTADAPTER.SEARCH_STEP must be two numbers"),
    (PlotAdapterOptions, {"scale": (0.0, 1.0)}, "TRAINER.PLOTADAPTER.SEARCH_SCALE must be two numbers of at least 0.1"),
    (PlotAdapterOptions, {"cache_epsilon": 0.0}, "TRAINER.PLOTADAPTER.CACHE_EPS must be above 0"),
    (PlotAdapterOptions, {"matching": "global"}, "PLOTADAPTER.MATCHING must be one of ot, unbalanced, partial"),
    (PlotAdapterOptions, {"n_prompts": 0}, "TRAINER.PLOTADAPTER.N must be at least 1"),
])
def test_bad_settings_are_named(kind, settings_, complaint):
    with pytest.raises(ValueError, match=complaint.replace(".", r"\.")):
        kind(**settings_)


def test_tuned_values_of_unknown_data_are_refused():
    with pytest.raises(ValueError, match="UPSTREAM_TUNED is True, but upstream has no values for Demo; it has Caltech"):
        TipAdapterOptions(tuned=True).values("Demo")


def test_the_defaults_know_no_data_set():
    """What comes without being asked for is the same everywhere: tuned values know the test images."""
    for kind in (TipAdapterOptions, TipAdapterFOptions, PlotAdapterOptions):
        options: AdapterOptions = kind()
        assert not options.leaky and not options.tuned and options.search == "val"
        assert options.values("EuroSAT") == options.values("OxfordFlowers") == options.values("Demo")


@pytest.mark.parametrize(("epochs", "batches", "warm"), [(5, 3, 0), (4, 2, 1)])
def test_the_rate_falls_after_every_batch(epochs, batches, warm):
    cfg: CfgNode = get_cfg_default()
    cfg.OPTIM.merge_from_list(["MAX_EPOCH", epochs, "LR_SCHEDULER", "cosine", "LR", 0.1, "WARMUP_EPOCH", warm])
    cfg.OPTIM.merge_from_list(["WARMUP_TYPE", "constant", "WARMUP_CONS_LR", 1e-3])
    cfg.freeze()
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=0.1)
    schedule = build_lr_scheduler(optimizer, by_batch(cfg.OPTIM, batches))
    total, ahead = epochs * batches, warm * batches
    for step in range(total):
        expected = 1e-3 if step < ahead else 0.05 * (1 + math.cos(math.pi * (step - ahead) / total))
        assert optimizer.param_groups[0]["lr"] == pytest.approx(expected, rel=1e-6), step
        optimizer.step()
        schedule.step()
    assert epochs == cfg.OPTIM.MAX_EPOCH
