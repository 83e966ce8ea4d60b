"""Global and local prompts: selection of places, the map, dropout, fusion; GalLoP's and SOT-GLP's recorded runs are in
tests/golden, compared by tests/conformance."""
from __future__ import annotations

import argparse
import re

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import train
from clip.frozen import freeze_image_tower
from clip.model import build_model
from dassl.engine import TRAINER_REGISTRY
from runs.config import request_of
from tests.support.closeness import assert_close
from tests.support.golden_data import tiny_state_dict
from tests.support.programs import arguments, failure, make_world
from trainers.local.dropout import draw_prompts, kept_prompts, mean_of_drawn
from trainers.local.model import GlobalLocalModel
from trainers.local.prompts import GlobalLocalLearner
from trainers.parts.local_projection import LocalProjection, mapped, place_width, unprojected
from trainers.parts.model import encode_images
from trainers.plot.selection import select_places
from trainers.plot.transport import MATCHINGS, Transport, similarities

NAMES = ["cat", "great_dane", "owl"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module", params=["tiny_vit", "tiny_rn"])
def clip_model(request):
    return build_model(tiny_state_dict(request.param)).float().requires_grad_(False).eval()


def pictures(clip_model, count=2):
    side = clip_model.visual.input_resolution
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def unit(*shape, seed=0):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


# --- which places ----------------------------------------------------------------------------------------


@given(
    seed=st.integers(0, 2**31),
    prompts=st.integers(1, 4),
    places=st.integers(1, 9),
    k=st.integers(1, 12),
    data=st.data(),
)
@settings(deadline=None, max_examples=40)
def test_the_best_places(seed, prompts, places, k, data):
    """By class they are those of the largest mean over prompts; by prompt each has its own; one image at a time."""
    similarity = torch.rand(prompts, 2, 3, places, generator=torch.Generator().manual_seed(seed))
    counts = data.draw(st.lists(st.integers(1, 12), min_size=prompts, max_size=prompts))
    by_class, by_prompt = select_places(similarity, (k,), "class"), select_places(similarity, counts, "prompt")
    spread = by_class.spread(torch.ones_like(by_class.similarity), places)
    for c in range(2):
        for b in range(3):
            best = sorted(range(places), key=lambda m: -similarity[:, c, b, m].mean().item())[:k]
            assert sorted(by_class.chosen[c, b].tolist()) == sorted(best)
            assert spread[:, c, b].sum(dim=1).tolist() == [len(best)] * prompts and spread[0, c, b, best[0]] == 1
            for n, count in enumerate(counts):
                mean = similarity[n, c, b].sort(descending=True).values[:count].mean()
                assert_close((by_prompt.share[n, 0, 0] * by_prompt.similarity[n, c, b]).sum(), mean, 1e-5)


@pytest.mark.parametrize("matching", [name for name, kind in MATCHINGS.items() if not kind.pooled])
def test_all_places_are_no_selection(matching):
    local, text = unit(2, 9, 16), unit(3, 5, 16, seed=1)
    chosen, plain = (Transport(matching=matching, stop="never", top_k=k)(local, text) for k in ((9,), ()))
    assert_close(chosen.score, plain.score, 1e-5)
    assert_close(chosen.plan, plain.plan, 1e-4)


@pytest.mark.parametrize("chunk", [0, 2])
def test_places_that_do_not_take_part_have_no_mass(chunk):
    local, text = unit(2, 9, 16), unit(3, 5, 16, seed=1)
    transport = Transport(top_k=(4,), chunk=chunk)
    match = transport(local, text)
    assert ((match.plan.sum(dim=3) > 0).sum(dim=2) == 4).all()
    assert_close((match.plan * match.similarity).sum(dim=(2, 3)), match.score, 1e-5)
    assert_close(transport.score(local, text, each=True).mean(dim=2), match.score, 1e-5)
    assert_close(match.score, Transport(top_k=(4,))(local, text).score, 1e-5)
    own = select_places(similarities(local, text), (2, 3, 9), "prompt")
    by_prompt = Transport(matching="uniform", top_k=(2, 3, 9), select_by="prompt", chunk=chunk)(local, text)
    assert ((by_prompt.plan > 0).sum(dim=2) == torch.tensor([2, 3, 9])).all()
    assert_close(by_prompt.score, (own.share * own.similarity).sum(dim=-1).mean(dim=0).t(), 1e-5)
    assert_close(by_prompt.distance_from_uniform, 0.0, 1e-6, floor=1.0)  # of a total mass of 1


# --- local features, and their map -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["tokens", "value", "content", "vv", "vv_plain"])
def test_the_map_is_the_identity_at_the_start(clip_model, kind):
    tower, images = clip_model.visual, pictures(clip_model)
    whole, before = (encode_images(tower, images, wanted) for wanted in (kind, unprojected(tower, kind)))
    projection = LocalProjection(place_width(tower))
    assert before.local.shape[2] == place_width(tower)
    assert_close(mapped(projection, tower, before.local), whole.local, 1e-5)
    assert_close(before.pooled, tower(images), 1e-5)


def test_kinds_of_local_features(clip_model):
    """A ViT has no positions to leave out, a ResNet no second stream; the accident of the first block is no other."""
    seen = {kind: clip_model.encode_image_dense(pictures(clip_model), kind).local for kind in
            ("tokens", "value", "content", "vv", "vv_plain")}
    is_vit = hasattr(clip_model.visual, "transformer")
    assert torch.equal(seen["value"], seen["content"]) == is_vit
    assert torch.equal(seen["vv"], seen["content"]) == torch.equal(seen["vv"], seen["vv_plain"]) == (not is_vit)


def test_the_second_stream_by_hand():
    """The frozen tower, which projects once for both streams, gives what the plain one does: the formula."""
    plain = build_model(tiny_state_dict("tiny_vit")).float().eval().visual
    frozen = build_model(tiny_state_dict("tiny_vit")).float().requires_grad_(False).eval().visual
    freeze_image_tower(frozen)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        x = plain.ln_pre(plain.embed(images)).transpose(0, 1)
        stream = x + plain.transformer.resblocks[0].attention(plain.transformer.resblocks[0].ln_1(x))
        for block in plain.transformer.resblocks:
            width, heads = block.attn.embed_dim, block.attn.num_heads
            weight, bias = block.attn.in_proj_weight[2 * width :], block.attn.in_proj_bias[2 * width :]
            values = F.linear(block.ln_1(x), weight, bias).transpose(0, 1)  # (B, L, E)
            mixed = []
            for v in values.split(width // heads, dim=-1):
                mixed.append((v @ v.transpose(1, 2) / v.shape[-1] ** 0.5).softmax(dim=-1) @ v)
            stream = stream + block.attn.out_proj(torch.cat(mixed, dim=-1)).transpose(0, 1)
            x = block(x)
        expected = (plain.ln_post(stream[1:]) @ plain.proj).transpose(0, 1)
        for tower in (plain, frozen):
            assert_close(tower.forward_dense(images, "vv").local, expected, 1e-5)


# --- dropout ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("prompts", "kept"), [(1, 1), (3, 1), (4, 1), (8, 2)])
def test_how_many_prompts_an_image_sees(prompts, kept):
    assert kept_prompts(prompts, 0.75) == kept
    drawn = draw_prompts(500, prompts, 0.75)
    assert drawn.shape == (500, kept) and set(drawn.flatten().tolist()) == set(range(prompts))
    assert kept == 1 or (drawn[:, 0] == drawn[:, 1]).any()  # with replacement, as in the authors' program
    apart = draw_prompts(500, prompts, 0.75, replace=False)
    assert all(len(set(row)) == kept for row in apart.tolist())
    cosines = torch.rand(500, 3, prompts)
    assert_close(mean_of_drawn(cosines, drawn)[7, 2], cosines[7, 2, drawn[7]].mean(), 1e-6)


# --- the model -------------------------------------------------------------------------------------------


def model_of(clip_model, transport, **settings):
    layout = {"n_global": 2, "n_local": 3, "class_specific": False, "local_start": "xavier"}
    layout |= {key: settings.pop(key) for key in layout.keys() & settings.keys()}
    generator = torch.Generator().manual_seed(0)
    learner = GlobalLocalLearner(
        NAMES, clip_model, **layout, place_width=place_width(clip_model.visual), generator=generator
    )
    return GlobalLocalModel(learner, clip_model, transport, **settings)


@pytest.mark.parametrize("specific", [False, True])
def test_logits_are_those_of_explain_and_fuse_both_branches(clip_model, specific):
    model = model_of(clip_model, Transport(top_k=(4,)), class_specific=specific, divided=True, every_prompt=False)
    images, scale = pictures(clip_model), model.logit_scale.exp()
    with torch.no_grad():
        image = model.encode(images)
        branches = model.branches(image)
        whole, local = branches.whole.mean(dim=2), branches.local.mean(dim=2) / 3
        assert_close(model(images), scale * (whole + local) / 2, 1e-5)
        assert_close(model.explain(images).logits, model(images), 1e-5)
        assert torch.equal(model(image), model(images))
        cosines = model.class_cosines(image)
        assert_close(cosines.pooled, whole, 1e-5)
        assert cosines.places.shape == (2, image.local.shape[1], 3)
        labels = torch.tensor([0, 2])
        losses = model.losses(branches, labels)
        assert_close(losses[1], F.cross_entropy(scale * local, labels), 1e-5)


def test_a_loss_for_every_local_prompt(clip_model):
    transport = Transport(matching="uniform", top_k=(1, 2, 4), select_by="prompt")
    model, labels = model_of(clip_model, transport), torch.tensor([1, 2])
    with torch.no_grad():
        branches = model.branches(model.encode(pictures(clip_model)))
        local = model.losses(branches, labels)[1]
        each = [F.cross_entropy(model.logit_scale.exp() * branches.local[:, :, n], labels) for n in range(3)]
        assert_close(local, torch.stack(each).mean(), 1e-5)


def test_class_names_with_and_without_their_underscore(clip_model):
    def tokens(name, clean):
        return GlobalLocalLearner([name], clip_model, clean_names=clean).class_tokens

    clean, raw, spaced = tokens("great_dane", True), tokens("great_dane", False), tokens("great dane", False)
    assert torch.equal(clean, spaced) and not torch.equal(clean, raw)


# --- PLOT with the same parts ----------------------------------------------------------------------------


def test_plot_with_a_map_starts_as_plot_and_trains_it(world, tmp_path):
    run = {}
    for name, options in {"plain": [], "mapped": ["TRAINER.PLOT.LOCAL_PROJ", "True"]}.items():
        train.run(arguments(world, tmp_path / name, *options, "OPTIM.MAX_EPOCH", "1"))
        run[name] = torch.load(tmp_path / name / "prompt_learner" / "model.pth.tar-1", weights_only=True)["state_dict"]
    weight = run["mapped"].pop("local_proj.linear.weight")
    assert run["mapped"].keys() == run["plain"].keys()
    assert 0 < (weight - torch.eye(len(weight))).abs().max() < 0.1
    again = train.run(arguments(
        world, tmp_path / "again", "TRAINER.PLOT.LOCAL_PROJ", "True",
        flags=["--eval-only", "--model-dir", str(tmp_path / "mapped")],
    ))  # fmt: skip
    assert again["accuracy"] is not None


# --- runs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trainer", ["GalLoP", "SOTGLP"])
def test_a_sweep_over_selection_and_matching_encodes_test_images_once(world, tmp_path, monkeypatch, trainer):
    """What is kept of an image are its places before the map: neither TOPK, matching nor what was learned matters."""
    node = f"TRAINER.{trainer.upper()}"
    store = ["FEATURE_CACHE.DIR", str(tmp_path / "store"), "OPTIM.MAX_EPOCH", "1", "DATALOADER.TRAIN_X.VIEWS", "2"]
    train.run(arguments(world, tmp_path / "first", *store, trainer=trainer))

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("an image was encoded")

    monkeypatch.setattr("trainers.parts.model.encode_images", fail)
    other = [f"{node}.TOPK", "(5,)", f"{node}.N_LOCAL", "2", f"{node}.EPS", "0.2"]
    with monkeypatch.context() as patched:
        patched.setattr("trainers.plot.trainer.encode_images", encode_images)  # one grey image, to count the places
        result = train.run(arguments(world, tmp_path / "second", *store, *other, trainer=trainer))
    assert torch.isfinite(torch.tensor(result["history"][0]["loss"]))


BAD = {
    "TOPK (10,)": "TRAINER.GALLOP.TOPK is .10., but this backbone sees 9 places",
    "TOPK (1,2,3)": "TOPK must have one number, or one for each of the 4 prompts of TRAINER.GALLOP.N_LOCAL, got",
    "TOPK (0,)": "TRAINER.GALLOP.TOPK must be a list of whole numbers of at least 1",
    "MATCHING ot": "matching must be uniform, or select_by class",
    "MATCHING global SELECT class": "looks at no places",
    "N_LOCAL 0 CSC True": "TRAINER.GALLOP.CSC needs local prompts",
    "DROPOUT 1.0": "TRAINER.GALLOP.DROPOUT must be from 0 to below 1",
    "DENSE patches": "TRAINER.GALLOP.DENSE must be one of tokens",
}


@pytest.mark.parametrize("setting", BAD)
def test_settings_that_cannot_be(world, tmp_path, capsys, setting):
    words = setting.split(" ")
    options = [f"TRAINER.GALLOP.{word}" if n % 2 == 0 else word for n, word in enumerate(words)]
    assert re.search(BAD[setting], failure(capsys, arguments(world, tmp_path / "run", *options, trainer="GalLoP")))


def test_local_prompts_of_classes_serve_those_classes_in_any_order(clip_model, tmp_path):
    from trainers.parts.checkpoints import find_learned

    trained = model_of(clip_model, Transport(), class_specific=True)
    state = trained.prompt_learner.state_dict()

    def learner_for(names, places=16):
        width = place_width(clip_model.visual)
        learner = GlobalLocalLearner(names, clip_model, 2, 3, True, place_width=width, n_places=places)
        return GlobalLocalModel(learner, clip_model, Transport())

    found = find_learned(dict(state), learner_for(["owl", "cat"]), tmp_path)
    assert torch.equal(found["local_prompts"], state["local_prompts"][[2, 0]])
    with pytest.raises(ValueError, match="none for 1 of the 2 classes of this run: 'dog'; test it on its own classes"):
        find_learned(dict(state), learner_for(["owl", "dog"]), tmp_path)
    state["n_places"] = torch.tensor(49)
    with pytest.raises(ValueError, match="learned on images of 49 places, and the backbone of this run sees 16"):
        find_learned(dict(state), learner_for(["owl", "cat"]), tmp_path)


@pytest.mark.parametrize(("method", "dataset", "expected"), [
    ("GalLoP", "EuroSAT", {"OPTIM.MAX_EPOCH": 200, "OPTIM.LR": 0.002, "DATALOADER.TRAIN_X.BATCH_SIZE": 10}),
    ("GalLoP", "ImageNet", {"OPTIM.MAX_EPOCH": 50, "OPTIM.LR": 0.002, "DATALOADER.TRAIN_X.BATCH_SIZE": 128}),
    ("SOTGLP", "FGVCAircraft", {"OPTIM.MAX_EPOCH": 200, "OPTIM.LR": 0.01, "DATALOADER.TRAIN_X.BATCH_SIZE": 128,
                                "TRAINER.SOTGLP.N_LOCAL": 2}),
    ("SOTGLP", "OxfordPets", {"OPTIM.MAX_EPOCH": 200, "OPTIM.LR": 0.005, "DATALOADER.TRAIN_X.BATCH_SIZE": 32,
                              "TRAINER.SOTGLP.N_LOCAL": 6}),
])  # fmt: skip
def test_published_settings_of_data_sets(method, dataset, expected):
    assert TRAINER_REGISTRY.get(method).recipe(dataset, 16) == expected


def test_published_settings_are_what_a_run_has(world, tmp_path):
    argv = arguments(world, tmp_path, trainer="SOTGLP")
    assert request_of(argv).cfg.TRAINER.SOTGLP.N_LOCAL == 6  # Caltech101
    assert request_of([*argv, "TRAINER.SOTGLP.N_LOCAL", "2"]).cfg.TRAINER.SOTGLP.N_LOCAL == 2


def test_checkpoints_of_the_authors(world, tmp_path, capsys):
    """One file with the three tensors, an optimiser, and a parsed command line, of which nothing is run."""
    run = tmp_path / "run"
    ours = train.run(arguments(world, run, "OPTIM.MAX_EPOCH", "1", trainer="GalLoP"))
    state = torch.load(run / "prompt_learner" / "model.pth.tar-1", weights_only=True)["state_dict"]
    learned = {key: state[key] for key in TRAINER_REGISTRY.get("GalLoP").learned_tensors}
    theirs = {"epoch": 50, "state_dict": learned, "args": argparse.Namespace(lr=0.002), "train_meter": {"loss": 1.0}}
    torch.save(theirs, tmp_path / "gallop_caltech101_vit_b16_seed1.ckpt")
    flags = ["--eval-only", "--model-dir", str(tmp_path / "gallop_caltech101_vit_b16_seed1.ckpt")]
    again = train.run(arguments(world, tmp_path / "again", trainer="GalLoP", flags=flags))
    assert (again["accuracy"], again["macro_f1"]) == (ours["accuracy"], ours["macro_f1"])
    assert "(epoch = 50)" in capsys.readouterr().out
