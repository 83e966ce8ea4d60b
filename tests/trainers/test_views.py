"""Training on kept views: what a view is, and that training on its features is training on its images."""
from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

import train
from clip.feature_store import FeatureStore
from dassl.engine import TRAINER_REGISTRY, build_trainer
from dassl.utils import set_random_seed
from runs.config import request_of
from tests.support.closeness import assert_close
from tests.support.programs import arguments, failure, make_world
from trainers.clip_trainer import ClipTrainer
from trainers.features.views import ViewLoader, Views, drawing_from

LEARN = sorted(
    name for name in TRAINER_REGISTRY.registered_names()
    if issubclass(TRAINER_REGISTRY.get(name), ClipTrainer) and not TRAINER_REGISTRY.get(name).zero_shot
)  # fmt: skip
VIEWS = "DATALOADER.TRAIN_X.VIEWS"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


def built(world, output, *options, trainer="PLOT"):
    argv = arguments(world, output, "FEATURE_CACHE.DIR", str(output.parent / "features"), *options, trainer=trainer)
    cfg = request_of(argv).cfg
    set_random_seed(cfg.SEED)
    return build_trainer(cfg)


@pytest.fixture(scope="module")
def images(world, tmp_path_factory):
    """The training images of a run, as its loader wraps them."""
    return built(world, tmp_path_factory.mktemp("images") / "out").train_loader_x.dataset


def everything(views, **loader):
    return torch.cat([batch["img"] for batch in DataLoader(views, generator=torch.Generator(), **loader)])


# --- what a view is --------------------------------------------------------------------------------------


def test_a_view_depends_on_seed_number_and_position_alone(images):
    views = Views(images, 3, seed=1)
    whole = everything(views, batch_size=5)
    assert len(whole) == 3 * len(images) and [item.label for item in views.data_source] == [
        batch["label"].item() for batch in DataLoader(views)]
    assert torch.equal(whole, everything(views, batch_size=7, num_workers=2))
    assert torch.equal(whole[: 2 * len(images)], everything(Views(images, 2, seed=1), batch_size=5))
    assert torch.equal(whole[11], views[11]["img"])
    by_view = whole.unflatten(0, (3, len(images)))
    assert not torch.equal(by_view[0], by_view[1])  # other crops
    assert not torch.equal(whole, everything(Views(images, 3, seed=2), batch_size=5))


def drawn() -> tuple:
    return random.random(), np.random.rand(), torch.rand(()).item()


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=3), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_drawing_from_numbers_leaves_the_global_generators_alone(numbers, seed):
    set_random_seed(seed)
    undisturbed = [drawn(), drawn()]
    set_random_seed(seed)
    first = drawn()
    with drawing_from(*numbers):
        inside = drawn()
    assert [first, drawn()] == undisturbed
    with drawing_from(*numbers):
        assert drawn() == inside
    with pytest.raises(ZeroDivisionError), drawing_from(*numbers):
        drawn(), 1 / 0
    with drawing_from(*numbers, 1):
        assert drawn() != inside


def test_batches_are_those_of_the_loader_over_random_views(world, tmp_path):
    trainer = built(world, tmp_path / "out", "DATALOADER.TRAIN_X.BATCH_SIZE", "5")
    loader = trainer.train_loader_x
    n, count = len(loader.dataset), 4
    marks = torch.arange(float(count * n))[:, None]
    ours = ViewLoader(loader, trainer.encode(torch.zeros(1, 3, 96, 96))._replace(pooled=marks, local=marks[:, None]))
    assert len(ours) == len(loader)
    seen = set()
    for epoch in range(30):
        torch.manual_seed(epoch)
        order = list(iter(loader.sampler))
        torch.manual_seed(epoch)
        batches = list(ours)
        assert torch.cat([batch["index"] for batch in batches]).tolist() == order[: 5 * len(loader)]  # last one dropped
        for batch in batches:
            rows = batch["img"].pooled[:, 0].long()
            assert torch.equal(rows % n, batch["index"]) and torch.equal(batch["img"].local[:, 0, 0].long(), rows)
            items = [loader.dataset.data_source[position] for position in batch["index"]]
            assert batch["label"].tolist() == [item.label for item in items]
            assert batch["impath"] == [item.impath for item in items]
            seen |= {(int(row) // n, int(row) % n) for row in rows}
    assert len(seen) > 0.95 * count * n


# --- training --------------------------------------------------------------------------------------------


def learned(folder):
    (file,) = folder.glob("*/model.pth.tar-3")
    state = torch.load(file, weights_only=True)["state_dict"]
    return {key: tensor for key, tensor in state.items() if "token_" not in key}


@pytest.mark.parametrize("name", [name for name in LEARN if name != "PLOTPP"])
def test_kept_or_held_or_read_again_it_is_the_same_training(world, tmp_path, name):
    store = ["FEATURE_CACHE.DIR", str(tmp_path / "features")]
    options = [VIEWS, "3"]
    held = train.run(arguments(world, tmp_path / "held", *options, "FEATURE_CACHE.USE", "False", trainer=name))
    kept = train.run(arguments(world, tmp_path / "kept", *options, *store, trainer=name))
    again = train.run(arguments(world, tmp_path / "again", *options, *store, trainer=name))
    trains = held["history"] != []
    assert trains == (name != "TipAdapter")
    assert held["history"] == kept["history"] == again["history"] and held["correct"] == again["correct"]
    if trains:
        reference = learned(tmp_path / "held")
        for run in ("kept", "again"):
            assert all(torch.equal(tensor, reference[key]) for key, tensor in learned(tmp_path / run).items())
        assert sum("3 views" in entry.about for entry in FeatureStore(tmp_path / "features").entries()) == 1
        fresh = train.run(arguments(world, tmp_path / "fresh", *store, trainer=name))
        assert fresh["history"] != held["history"]


@pytest.mark.parametrize("name", ["PLOT", "CoCoOp"])
def test_training_on_features_is_training_on_the_images_of_the_views(world, tmp_path, name):
    """The reference shows the very same views to the tower, batch by batch."""
    options = [VIEWS, "2", "OPTIM.MAX_EPOCH", "2"]
    fast = built(world, tmp_path / "fast", *options, trainer=name)
    fast.train()

    slow = built(world, tmp_path / "slow", "OPTIM.MAX_EPOCH", "2", trainer=name)
    loader = slow.train_loader_x
    views = everything(Views(loader.dataset, 2, seed=1), batch_size=1)

    class Images(ViewLoader):
        def __iter__(self):
            for batch in super().__iter__():
                yield batch | {"img": views[batch["img"].pooled[:, 0].long()]}

    numbers = torch.arange(float(len(views)))[:, None]
    slow.train_loader_x = Images(loader, slow.encode(views[:1])._replace(pooled=numbers, local=numbers[:, None]))
    slow.train()
    for ours, reference in zip(fast.history, slow.history, strict=True):
        assert ours["loss"] == pytest.approx(reference["loss"], rel=1e-4)
    ours, reference = (trainer.model.prompt_learner.ctx for trainer in (fast, slow))
    assert_close(ours, reference, 1e-4)


def test_no_image_meets_the_tower_after_the_first_run(world, tmp_path):
    options = [VIEWS, "2", "TEST.NO_TEST", "True"]
    built(world, tmp_path / "first", *options).train()
    trainer = built(world, tmp_path / "second", *options, "TRAINER.PLOT.N", "2")
    trainer.encode = lambda images: pytest.fail("an image was encoded")
    trainer.train()
    assert len(trainer.history) == 3


def test_a_resumed_run_is_the_uninterrupted_one(world, tmp_path):
    store = ["FEATURE_CACHE.DIR", str(tmp_path / "features")]
    whole = train.run(arguments(world, tmp_path / "whole", VIEWS, "2", *store))
    cut = built(world, tmp_path / "cut", VIEWS, "2", "TRAIN.CHECKPOINT_FREQ", "1")
    cut.after_epoch, after = lambda: after() or (1 / 0 if cut.epoch else None), cut.after_epoch
    with pytest.raises(ZeroDivisionError):
        cut.train()
    resumed = train.run(arguments(world, tmp_path / "cut", VIEWS, "2", "TRAIN.CHECKPOINT_FREQ", "1", *store))
    assert resumed["history"] == whole["history"] and resumed["correct"] == whole["correct"]
    assert all(torch.equal(a, learned(tmp_path / "cut")[key]) for key, a in learned(tmp_path / "whole").items())


def test_transforms_that_do_not_tell_of_themselves_are_held_in_memory(world, tmp_path, capsys):
    trainer = built(world, tmp_path / "out", VIEWS, "2", "INPUT.TRANSFORMS", "('random_translation', 'normalize')")
    trainer.train()
    assert "Random2DTranslation always does the same" in capsys.readouterr().out
    assert all("views" not in entry.about for entry in FeatureStore(tmp_path / "features").entries())


# --- what is refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("trainer", "options", "told"), [
    ("PLOT", [VIEWS, "-1"], "VIEWS is -1"),
    ("CoOp", [VIEWS, "2", "DATALOADER.K_TRANSFORMS", "2"], "set DATALOADER.K_TRANSFORMS to 1"),
    ("PLOTPP", [VIEWS, "2"], "the image side of PLOTPP learns"),
])  # fmt: skip
def test_refused(world, tmp_path, capsys, trainer, options, told):
    assert told in failure(capsys, arguments(world, tmp_path / "out", *options, trainer=trainer))


def test_it_is_another_run(world, tmp_path, capsys):
    train.run(arguments(world, tmp_path / "out"))
    assert f"{VIEWS} was 0, is 2" in failure(capsys, arguments(world, tmp_path / "out", VIEWS, "2"))
