"""Tests read frozen features from the cache: the same logits as without, for every trainer, and nothing stale."""
from __future__ import annotations

import errno
import os
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from filelock import FileLock
from PIL import Image
from torchvision import transforms as T

import train
from clip.feature_store import FeatureStore, StoredFeatures, key_of
from clip.feature_store import store as feature_store
from dassl.data.transforms import build_transform
from dassl.engine import TRAINER_REGISTRY, TrainerX, build_trainer
from dassl.utils import set_random_seed
from runs.config import request_of
from tests.support.programs import arguments, make_world
from trainers.clip_trainer import ClipTrainer
from trainers.features.cache import NotCacheable, describe, describe_transform, files_digest, steps_of
from trainers.parts.backbone import load_backbone
from trainers.parts.model import PromptModel

OURS = sorted(name for name in TRAINER_REGISTRY.registered_names()
              if issubclass(TRAINER_REGISTRY.get(name), ClipTrainer))
ON_RESNET = [name for name in OURS if name != "PLOTPP"]  # which wants a ViT


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "features"


def built(world, cache, *options, trainer="PLOT", output=None):
    """A trainer; its batches of 5 leave a short one."""
    options = ["DATALOADER.TEST.BATCH_SIZE", "5", "FEATURE_CACHE.DIR", str(cache), *options]
    argv = arguments(world, output or cache.parent / "out", *options, trainer=trainer)
    cfg = request_of(argv).cfg
    set_random_seed(cfg.SEED)
    return build_trainer(cfg)


def watched(trainer):
    """(accuracy, logits, what the test read: "images" or "features") of one test."""
    logits, seen, inference = [], set(), trainer.model_inference
    trainer.model_inference = lambda x: logits.append(inference(x)) or logits[-1]
    tower = trainer.frozen_tower()[0]
    handle = (tower.attnpool if hasattr(tower, "attnpool") else tower).register_forward_pre_hook(
        lambda *_: seen.add("images"))
    dense = tower.forward_dense
    tower.forward_dense = lambda *a, **k: seen.add("images") or dense(*a, **k)
    try:
        accuracy = trainer.test()
    finally:
        handle.remove()
        del tower.forward_dense
        trainer.model_inference = inference
    return accuracy, torch.cat(logits), "images" if seen else "features"


# --- the same results ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ON_RESNET)
def test_a_hit_gives_the_logits_of_no_cache(world, cache, name):
    plain = watched(built(world, cache, "FEATURE_CACHE.USE", "False", trainer=name))
    assert plain[2] == "images" and not cache.exists()
    cold = watched(built(world, cache, trainer=name))
    again = built(world, cache, trainer=name)
    warm = watched(again)
    assert (cold[2], warm[2]) == ("images", "features")
    for accuracy, logits, _ in (cold, warm, watched(again)):
        assert accuracy == plain[0] and torch.equal(logits, plain[1])
    assert len(FeatureStore(cache).entries()) == 1


def test_pooled_features_are_shared_by_methods(world, cache):
    for name in ("ZeroshotCLIP", "CoOp", "CoCoOp", "ZeroshotCLIP2"):
        built(world, cache, trainer=name).test()
    built(world, cache, "TRAINER.PLOT.MATCHING", "global").test()
    assert len(FeatureStore(cache).entries()) == 1
    built(world, cache).test()  # else PLOT wants places, too
    assert len(FeatureStore(cache).entries()) == 2


def test_batches_are_those_of_the_loader(world, cache):
    trainer = built(world, cache)
    trainer.test()
    with torch.no_grad():
        kept = list(trainer.evaluation_batches("test", trainer.test_loader))
        for batch, of_loader in zip(kept, trainer.test_loader, strict=True):
            assert batch.keys() == of_loader.keys() and batch["impath"] == of_loader["impath"]
            assert all(torch.equal(batch[key], of_loader[key]) for key in ("label", "domain", "index"))
            assert all(torch.equal(a, b) for a, b in zip(batch["img"], trainer.encode(of_loader["img"]), strict=True))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_features_keep_the_towers_format(world, cache, precision):
    found = [watched(built(world, cache, "TRAINER.PLOT.PREC", precision)) for _ in range(2)]
    assert found[1][2] == "features" and torch.equal(found[0][1], found[1][1])
    (entry,) = FeatureStore(cache).entries()
    kept = FeatureStore(cache).open(entry.key).all()
    assert kept.local.dtype == {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]


def saved(folder, name="model.pth.tar-3"):
    return torch.load(folder / "prompt_learner" / name, weights_only=True)["state_dict"]


@pytest.mark.parametrize("workers", ["0", "1"])
def test_training_with_validation_is_the_same_with_and_without(world, cache, workers, tmp_path):
    """Validation after every epoch reads the cache, and must leave the random numbers of training as they were."""
    options = ["TEST.FINAL_MODEL", "best_val", "DATALOADER.NUM_WORKERS", workers]
    runs = {}
    for name, use in (("off", "False"), ("cold", "True"), ("warm", "True")):
        own = [*options, "FEATURE_CACHE.USE", use, "FEATURE_CACHE.DIR", str(cache)]
        runs[name] = train.run(arguments(world, tmp_path / name, *own))
        log = (tmp_path / name / "log.txt").read_text()
        wanted = {"off": ["off, "], "cold": ["built, ", "hit, ", "built, "], "warm": ["hit, ", "hit, "]}[name]
        assert [line.partition("Feature cache: ")[2][:len(word)] for line, word in zip(
            [line for line in log.splitlines() if line.startswith("Feature cache: ")], wanted, strict=True)] == wanted
    assert len(FeatureStore(cache).entries()) == 2  # val and test
    for name in ("cold", "warm"):
        assert runs[name]["history"] == runs["off"]["history"] and runs[name]["accuracy"] == runs["off"]["accuracy"]
        for file in ("model.pth.tar-3", "model-best.pth.tar"):
            ours, theirs = saved(tmp_path / name, file), saved(tmp_path / "off", file)
            assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    evaluate = ("--eval-only", "--model-dir", str(tmp_path / "off"))
    result = train.run(arguments(world, tmp_path / "eval", "FEATURE_CACHE.DIR", str(cache), flags=evaluate))
    assert result["correct"] == runs["off"]["correct"]
    assert "Feature cache: hit" in (tmp_path / "eval" / "log.txt").read_text()


def test_the_cache_is_no_other_run(world, cache, tmp_path):
    train.run(arguments(world, tmp_path / "run", "FEATURE_CACHE.DIR", str(cache)))
    options = ["FEATURE_CACHE.USE", "False", "FEATURE_CACHE.MAX_GB", "1", "DATALOADER.KEEP_MB", "0"]
    train.run(arguments(world, tmp_path / "run", *options))  # the folder is not refused


# --- the text side ---------------------------------------------------------------------------------------


def test_prompts_are_encoded_once_a_test_and_never_after_a_step(world, cache):
    trainer = built(world, cache)
    calls, encode = [], PromptModel.encode_prompts
    trainer.model.encode_prompts = lambda: calls.append(1) or encode(trainer.model)
    first = watched(trainer)[1]
    assert len(calls) == 1 and len(trainer.test_loader) > 1
    with torch.no_grad():
        trainer.model.prompt_learner.ctx += 0.1
    second = watched(trainer)[1]
    assert len(calls) == 2 and not torch.equal(first, second)
    images = next(iter(trainer.test_loader))["img"]
    with torch.no_grad():
        trainer.model(images)
        trainer.model(images)
    assert len(calls) == 4  # outside of a test nothing is held
    loss = trainer.model(images).sum()
    loss.backward()
    assert trainer.model.prompt_learner.ctx.grad.abs().sum() > 0


def test_a_test_that_fails_holds_nothing(world, cache):
    trainer = built(world, cache)
    trainer.evaluator.process = lambda *_: 1 / 0
    with pytest.raises(ZeroDivisionError):
        trainer.test()
    with pytest.raises(ZeroDivisionError) as kept:  # the traceback keeps the frames of the test alive
        trainer.test()
    assert kept.tb
    for path in cache.glob(f".*{feature_store.LOCK}"):
        with FileLock(path, timeout=0):
            pass  # nobody else held it
    assert trainer.model._kept_text is None and not trainer.model._keeps_text
    assert [entry for entry in FeatureStore(cache).entries() if entry.complete] == []


# --- what the key tells apart ----------------------------------------------------------------------------


def facts_of(trainer):
    return describe(*trainer.frozen_tower(), trainer.test_loader) | {"precision": trainer.precision}


def test_everything_that_matters_changes_the_key(world, cache, tmp_path):
    base = facts_of(built(world, cache))
    assert facts_of(built(world, cache, "TRAINER.PLOT.N", "2", "SEED", "2")) == base
    keys = {key_of(base)}
    for options in (["TRAINER.PLOT.PREC", "bf16"], ["INPUT.INTERPOLATION", "bilinear"],
                    ["DATALOADER.TEST.BATCH_SIZE", "7"], ["INPUT.PIXEL_MEAN", "[0.1, 0.1, 0.1]"],
                    ["INPUT.TRANSFORMS", "('normalize', 'instance_norm')"], ["DATASET.SUBSAMPLE_CLASSES", "base"],
                    ["MODEL.BACKBONE.ACTIVATION", "gelu"], ["TRAINER.PLOT.DENSE", "value"],
                    ["INPUT.EXIF_ORIENTATION", "True"], ["INPUT.ALPHA", "white"], ["INPUT.ALPHA", "black"]):
        keys.add(key_of(facts_of(built(world, cache, *options))))
    keys.add(key_of(facts_of(built(world, cache, trainer="CoOp"))))
    assert len(keys) >= 12  # the activation is of the text tower, in a ResNet
    weights = torch.load(world / "tiny_rn.pt", weights_only=True)
    weights["visual.conv1.weight"][0, 0, 0, 0] += 1e-3
    other = shutil.copytree(world, tmp_path / "other")
    torch.save(weights, other / "tiny_rn.pt")
    keys.add(key_of(facts_of(built(other, cache))))
    assert len(keys) >= 13


def test_files_are_told_apart_by_name_size_and_time(tmp_path):
    paths = []
    for number in range(3):
        paths.append(str(tmp_path / "a" / f"{number}.jpg"))
        Path(paths[-1]).parent.mkdir(exist_ok=True)
        Image.new("RGB", (9, 9)).save(paths[-1])
    first = files_digest(paths)
    assert files_digest(paths) == first
    assert files_digest(paths[::-1]) != first and files_digest(paths[:2]) != first
    moved = shutil.copytree(tmp_path / "a", tmp_path / "b")  # times are copied, too
    assert files_digest([str(moved / Path(path).name) for path in paths]) == first
    stat = os.stat(paths[1])
    os.utime(paths[1], ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    second = files_digest(paths)
    Image.new("RGB", (90, 90)).save(paths[1])
    os.utime(paths[1], ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert len({first, second, files_digest(paths)}) == 3
    os.unlink(paths[0])
    with pytest.raises(FileNotFoundError):
        files_digest(paths)


def test_a_changed_image_is_encoded_again(world, cache, tmp_path):
    copied = shutil.copytree(world, tmp_path / "copied")
    trainer = built(copied, cache)
    first = watched(trainer)
    path = trainer.dm.dataset.test[3].impath
    Image.new("RGB", (120, 100), "red").save(path)
    second = watched(trainer)
    assert second[2] == "images"
    changed = (first[1] != second[1]).any(dim=1)
    assert changed[3] and not changed[5:].any()  # the batch rule of the transport joins the first five


def test_changed_weights_are_seen_by_the_next_test(world, cache):
    trainer = built(world, cache, "MODEL.BACKBONE.NAME", str(world / "tiny_rn.pt"), trainer="CoOp")
    first = watched(trainer)
    tower = trainer.frozen_tower()[0]
    with torch.no_grad():
        tower.conv1.weight.mul_(1.5)
    try:
        second = watched(trainer)
        assert second[2] == "images" and not torch.equal(first[1], second[1])
    finally:
        load_backbone.__globals__["_frozen_clip"].cache_clear()  # others share the model that was changed here


@pytest.mark.parametrize("transform", [
    T.Compose([T.Resize(9), T.RandomCrop(5)]), T.Lambda(lambda x: x), lambda image: image, None,
    T.Compose([T.Compose([T.RandomHorizontalFlip()])]),
])
def test_transforms_that_may_be_random_are_not_cached(transform):
    with pytest.raises(NotCacheable):
        describe_transform(steps_of(transform))


def test_test_transforms_are_described(world, cache):
    cfg = built(world, cache).cfg
    texts = {describe_transform(steps_of(build_transform(cfg, is_train=False, choices=choices)))
             for choices in ([], ["normalize"], ["normalize", "instance_norm"])}
    assert len(texts) == 3 and all("object at" not in text for text in texts)


# --- what cannot be kept ---------------------------------------------------------------------------------


def test_an_image_side_that_learns_is_never_kept(world, cache, capsys):
    trainer = built(world, cache)

    class Prompted(type(trainer.model)):
        def encode(self, images):
            return super().encode(images + 1)

    trainer.model.__class__ = Prompted
    trainer.test()
    assert "Feature cache: off, the image side learns" in capsys.readouterr().out and not cache.exists()
    trainer = built(world, cache)
    tower = trainer.frozen_tower()[0]
    tower.conv1.weight.requires_grad_(True)
    try:
        trainer.test()
    finally:
        tower.conv1.weight.requires_grad_(False)
    assert not cache.exists()


@pytest.mark.parametrize("option", [["DATALOADER.TEST.SAMPLER", "RandomSampler"]])
def test_other_orders_are_not_kept(world, cache, option, capsys):
    built(world, cache, *option).test()
    assert "Feature cache: off" in capsys.readouterr().out and not cache.exists()


def test_a_limit_that_is_too_small_only_costs_time(world, cache, capsys):
    plain = watched(built(world, cache, "FEATURE_CACHE.USE", "False"))
    small = watched(built(world, cache, "FEATURE_CACHE.MAX_GB", "0"))
    assert "off, " in capsys.readouterr().out and torch.equal(small[1], plain[1])
    assert FeatureStore(cache).entries() == []


def test_a_cache_that_cannot_be_used_only_costs_time(world, tmp_path, capsys):
    plain = watched(built(world, tmp_path / "features", "FEATURE_CACHE.USE", "False"))
    (tmp_path / "file").write_text("")
    found = watched(built(world, tmp_path / "file"))
    assert "Feature cache: off" in capsys.readouterr().out and torch.equal(found[1], plain[1])


def test_damage_is_mended_by_the_next_test(world, cache, capsys):
    trainer = built(world, cache)
    first = watched(trainer)
    (entry,) = FeatureStore(cache).entries()
    path = entry.folder / "local.bin"
    path.write_bytes(path.read_bytes()[:-1])
    second, third = watched(trainer), watched(trainer)
    assert "damaged" in capsys.readouterr().out
    assert (second[2], third[2]) == ("images", "features")
    assert torch.equal(first[1], second[1]) and torch.equal(first[1], third[1])


def test_a_broken_off_test_leaves_no_entry(world, cache):
    trainer = built(world, cache)
    with torch.no_grad():
        batches = trainer.evaluation_batches("test", trainer.test_loader)
        next(iter(batches))
        del batches
    assert [entry for entry in FeatureStore(cache).entries() if entry.complete] == []
    assert watched(trainer)[2] == "images" and watched(trainer)[2] == "features"


def test_an_entry_that_goes_away_while_it_is_read_only_costs_time(world, cache, monkeypatch, capsys):
    """A stale file handle, as on NFS when another machine removes the entry: the other batches are encoded."""
    trainer = built(world, cache)
    first = watched(trainer)
    read, calls = StoredFeatures.rows, []

    def stale(self, start, stop):
        calls.append(start)
        if len(calls) > 1:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return read(self, start, stop)

    monkeypatch.setattr(StoredFeatures, "rows", stale)
    state = torch.get_rng_state()
    second = watched(trainer)
    after = torch.get_rng_state()
    assert "lost, Stale file handle" in capsys.readouterr().out and len(calls) == 2 and len(trainer.test_loader) > 2
    assert torch.equal(first[1], second[1])
    monkeypatch.setattr(StoredFeatures, "rows", read)
    torch.set_rng_state(state)
    assert torch.equal(watched(trainer)[1], first[1]) and torch.equal(torch.get_rng_state(), after)


def test_two_trainers_at_once_encode_once(world, cache):
    """Threads stand in for processes here; tests/test_feature_store.py has processes."""
    trainers = [built(world, cache) for _ in range(2)]
    feature_store._verified.clear()
    threads = [threading.Thread(target=trainer.test) for trainer in trainers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [entry.complete for entry in FeatureStore(cache).entries()] == [True]
    assert trainers[0].last_test["correct"] == trainers[1].last_test["correct"]


# --- the engine, and what a process shares ---------------------------------------------------------------


def test_the_engine_hands_out_whatever_batches_a_trainer_has(world, cache):
    trainer = built(world, cache, "FEATURE_CACHE.USE", "False", trainer="CoOp")
    asked = []
    own = [{"img": torch.zeros(2, 3, 96, 96), "label": torch.tensor([0, 1])}] * 3
    trainer.evaluation_batches = lambda split, loader: asked.append((split, loader)) or own
    trainer.test()
    trainer.test("val")
    assert asked == [("test", trainer.test_loader), ("val", trainer.val_loader)]
    assert trainer.last_test["total"] == 6
    loader = object()
    assert TrainerX.evaluation_batches(SimpleNamespace(), "test", loader) is loader


def test_one_frozen_model_for_all_runs_of_a_process(world, cache, tmp_path):
    copied = shutil.copytree(world, tmp_path / "copied")
    first, second = (built(copied, cache, trainer=name) for name in ("PLOT", "CoOp"))
    assert first.model.image_encoder is second.model.image_encoder
    assert not any(p.requires_grad for p in first.model.image_encoder.parameters())
    other = built(copied, cache, "TRAINER.PLOT.PREC", "bf16")
    assert other.model.image_encoder is not first.model.image_encoder
    weights = torch.load(copied / "tiny_rn.pt", weights_only=True)
    torch.save({key: value + 0 for key, value in weights.items()}, copied / "tiny_rn.pt")
    assert built(copied, cache).model.image_encoder is not first.model.image_encoder


@pytest.mark.parametrize("name", ON_RESNET)
def test_no_trainer_changes_the_shared_model(world, cache, name, tmp_path):
    before = built(world, cache, trainer=name)
    tower, text = before.frozen_tower()[0], before.clip_model
    state = [{key: value.clone() for key, value in part.state_dict().items()} for part in (tower, text)]
    train.run(arguments(world, tmp_path / "run", "OPTIM.MAX_EPOCH", "1", trainer=name))
    for part, old in zip((tower, text), state, strict=True):
        assert all(torch.equal(value, old[key]) for key, value in part.state_dict().items())
