"""Training on a sample of the classes: what is drawn, that the partition sum is right, and what it leaves alone."""
from __future__ import annotations

from itertools import combinations

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

import train
from dassl.engine import build_trainer
from results.__main__ import main as results
from runs.config import request_of
from runs.restore.rebuilding import load_trainer
from tests.support.closeness import assert_close
from tests.support.programs import arguments, make_world
from tests.support.records import make_record, write_run
from trainers.parts import prompts
from trainers.parts.class_sample import draw_classes

CLASSES = 8  # of the test's data set
TRAINERS = ["PLOT", "CoOp", "CoCoOp", "KgCoOp", "PLOTPP", "GalLoP", "SOTGLP"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


def built(world, trainer, *options):
    words = ["FEATURE_CACHE.USE", "False", *(f"TRAINER.{trainer.upper()}.{word}" if number % 2 == 0 else word
                                             for number, word in enumerate(options))]
    made = build_trainer(request_of(arguments(world, world / "built", *words, trainer=trainer)).cfg)
    made.epoch, made.batch_idx, made.num_batches = 0, 0, 4
    return made


# --- the draw --------------------------------------------------------------------------------------------


def test_the_classes_of_the_batch_and_as_many_others():
    labels = torch.tensor([7, 3, 7, 90])
    before = torch.get_rng_state()
    first, again, next_step, other_seed = (
        draw_classes(labels, 100, 11, seed, step) for seed, step in ((1, 5), (1, 5), (1, 6), (2, 5)))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.classes, again.classes)
    assert not torch.equal(first.classes, next_step.classes) and not torch.equal(first.classes, other_seed.classes)
    assert len(first.classes) == 3 + 10 and torch.equal(first.classes, first.classes.unique())
    assert torch.equal(first.classes[first.labels], labels)
    assert [int(c) for c in first.classes[first.correction == 0]] == [3, 7, 90]
    assert_close(first.correction[first.correction > 0].exp(), torch.full((10,), 97 / 10, dtype=torch.float64))


def test_every_other_class_is_drawn_equally_often():
    steps, labels = 2000, torch.tensor([0, 4])
    counts = sum(torch.bincount(draw_classes(labels, 12, 4, 1, step).classes, minlength=12) for step in range(steps))
    share = 3 / 10
    spread = (steps * share * (1 - share)) ** 0.5
    assert counts[0] == counts[4] == steps
    others = counts[[1, 2, 3, 5, 6, 7, 8, 9, 10, 11]]
    assert ((others - steps * share).abs() < 5 * spread).all() and others.sum() == 3 * steps


@pytest.mark.parametrize("labels", [[2], [2, 5], [0, 1, 6]])
def test_the_expected_partition_sum_is_that_of_all_classes(labels):
    scores = torch.randn(7, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3
    others = [c for c in range(7) if c not in labels]
    n = 2
    drawn = draw_classes(torch.tensor(labels), 7, n + 1, 1, 0)
    raised = {int(c): float(term) for c, term in zip(drawn.classes, drawn.correction, strict=True)}
    (term,) = {raised[c] for c in raised if c not in labels}
    sums = [torch.cat([scores[labels], scores[list(some)] + term]).exp().sum() for some in combinations(others, n)]
    assert_close(sum(sums) / len(sums), scores.exp().sum())


def test_where_nothing_would_be_left_out_nothing_is_drawn():
    labels = torch.tensor([1, 2])
    assert draw_classes(labels, 8, 7, 1, 0) is None and len(draw_classes(labels, 8, 6, 1, 0).classes) == 7


# --- a step ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trainer", TRAINERS)
def test_the_logits_of_a_sample_are_those_of_all_classes(world, trainer):
    options = ["CLASS_SAMPLE", "3", *(["STOP", "each"] if trainer not in ("CoOp", "CoCoOp", "KgCoOp") else [])]
    made = built(world, trainer, *options)
    batch = next(iter(made.train_loader_x))
    images, labels = made.parse_batch_train(batch)
    sample = made.sample_classes(batch["label"])
    assert len(sample.classes) == len(labels.unique()) + 2 < CLASSES
    with torch.no_grad():
        every = made.model(images)
        torch.manual_seed(0)
        with made.model.scoring(sample.classes, sample.correction):
            some = made.model(images)
            loss, _ = made.training_loss(images, sample.labels)
    assert_close(some, every[:, sample.classes])
    if trainer not in ("KgCoOp", "GalLoP", "SOTGLP"):  # whose losses have further terms
        assert_close(loss, F.cross_entropy(some + sample.correction.to(some), sample.labels))
    else:
        assert loss.isfinite()
    made.forward_backward(batch)


@pytest.mark.parametrize("size, note", [(CLASSES, "7 others of 8"), (50, "every step sees all of them")])
def test_a_sample_of_all_classes_is_the_run_without_bit_for_bit(world, tmp_path, size, note):
    """Batches of the demo have several classes, so 7 others are all that there are."""
    plain = train.run(arguments(world, tmp_path / "off", "OPTIM.MAX_EPOCH", "2"))
    whole = train.run(arguments(world, tmp_path / "on", "OPTIM.MAX_EPOCH", "2", "TRAINER.PLOT.CLASS_SAMPLE", str(size)))
    assert note in (tmp_path / "on/log.txt").read_text()
    assert whole["history"] == plain["history"] and whole["per_class"] == plain["per_class"]
    assert whole["config"]["TRAINER"]["PLOT"]["CLASS_SAMPLE"] == size


def test_a_resumed_run_draws_the_same_classes(world, tmp_path):
    sampled = ["TRAINER.PLOT.CLASS_SAMPLE", "3", "TRAINER.PLOT.CSC", "True"]
    straight = train.run(arguments(world, tmp_path / "straight", *sampled))
    assert straight["total"] == 48 and len(straight["per_class"]) == CLASSES  # tests see all classes
    interrupted = tmp_path / "interrupted"
    with pytest.MonkeyPatch.context() as patch:
        trainer = type(load_trainer(tmp_path / "straight"))
        step = trainer.forward_backward

        def broken(self, batch):
            if self.epoch == 1 and self.batch_idx == 2:
                raise KeyboardInterrupt
            return step(self, batch)

        patch.setattr(trainer, "forward_backward", broken)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            train.run(arguments(world, interrupted, *sampled, "TRAIN.CHECKPOINT_FREQ", "1"))
    resumed = train.run(arguments(world, interrupted, *sampled, "TRAIN.CHECKPOINT_FREQ", "1"))
    assert [epoch["loss"] for epoch in resumed["history"]] == [epoch["loss"] for epoch in straight["history"]]
    learned = [load_trainer(folder).model.prompt_learner.ctx for folder in (tmp_path / "straight", interrupted)]
    assert torch.equal(*learned)


class Largest(TorchDispatchMode):
    """The most bytes that a tensor has which is made meanwhile."""

    most = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **kwargs or {})
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, torch.Tensor):
                self.most = max(self.most, tensor.numel() * tensor.element_size())
        return out


@pytest.mark.parametrize("trainer", ["PLOT", "CoCoOp", "SOTGLP"])
def test_memory_grows_with_the_sample_and_not_with_the_classes(world, trainer):
    """What a step makes of 400 classes is not larger than what it makes of 8, but for contexts of the classes."""
    made = built(world, trainer, "CLASS_SAMPLE", "3", *(["CSC", "False"] if trainer == "SOTGLP" else []))
    batch = next(iter(made.train_loader_x))
    images, _ = made.parse_batch_train(batch)
    batch["img"] = made.model.encode(images)
    made.dm.dataset._classnames = [f"{name} {number}" for number in range(50) for name in made.dm.dataset.classnames]
    made.model = made.assemble(made.clip_model)
    made.model.eval()
    sizes = []
    for size in (3, 0):
        object.__setattr__(made.options, "class_sample", size)
        sample = made.sample_classes(batch["label"])
        scoring = made.model.scoring(sample.classes if sample else None)
        with Largest() as largest, scoring:
            loss, _ = made.training_loss(batch["img"], sample.labels if sample else batch["label"])
            loss.backward()
        sizes.append(largest.most)
    assert sizes[0] < sizes[1] / 20, sizes


@pytest.mark.parametrize("trainer, value, message", [
    ("PLOT", "1", "0 .all classes. or at least 2, got 1"), ("CoOp", "-3", "at least 2"),
    ("PLOTAdapter", "5", "learns no text"),
])
def test_what_makes_no_sense_is_refused(world, trainer, value, message):
    argv = arguments(world, world / "refused", f"TRAINER.{trainer.upper()}.CLASS_SAMPLE", value, trainer=trainer)
    with pytest.raises(ValueError, match=message):
        train.run(argv)


# --- a checkpoint ----------------------------------------------------------------------------------------


def test_a_checkpoint_of_very_many_classes_leaves_out_what_is_frozen(world, tmp_path, monkeypatch):
    monkeypatch.setattr(prompts, "LARGEST_SUFFIX", 1e5)
    options = ["OPTIM.MAX_EPOCH", "1", "TRAINER.PLOT.CSC", "True"]
    record = train.run(arguments(world, tmp_path / "run", *options))
    (path,) = (tmp_path / "run").rglob("model.pth.tar-1")
    state = torch.load(path, weights_only=False)["state_dict"]
    assert state.keys() == {"ctx", "token_prefix"}
    evaluated = train.run(arguments(world, tmp_path / "eval", "TRAINER.PLOT.CSC", "True",
                                    flags=("--eval-only", "--model-dir", str(tmp_path / "run"))))
    assert evaluated["correct"] == record["correct"]


# --- tables ----------------------------------------------------------------------------------------------


def test_every_table_names_the_sample_and_nothing_is_mixed(tmp_path, capsys):
    """Also beside records from before there was the key."""
    trees = {"some": ["some"], "old and some": ["old", "some"], "all and some": ["all", "some"], "all": ["all"]}
    sizes = {"old": {}, "all": {"TRAINER.COOP.CLASS_SAMPLE": 0}, "some": {"TRAINER.COOP.CLASS_SAMPLE": 1000}}
    for tree, kinds in trees.items():
        for kind in kinds:
            for seed in (1, 2):
                record = make_record("CoOp", 4, seed, config=dict(sizes[kind]))
                write_run(tmp_path / tree / kind / f"seed{seed}", record)

    def table(tree, *flags):
        assert results(["table", str(tmp_path / tree), *flags]) == 0
        return capsys.readouterr().out

    for tree in ("some", "old and some", "all and some"):
        text = table(tree)
        assert "CoOp CLASS_SAMPLE=1000" in text and "999 drawn" in text
        rows = [line for line in text.splitlines() if line.startswith("CoOp")]
        assert len(rows) == len(trees[tree]) and all("(2)" in row for row in rows)
    assert "training step" not in table("all") and "CLASS_SAMPLE" not in table("all")
    assert "CLASS_SAMPLE=1000" in table("some", "--format", "csv")
