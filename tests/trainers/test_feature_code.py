"""Which code the key of kept features depends on: all that runs while they are computed, and nothing else."""
from __future__ import annotations

import importlib.util
import inspect
import json
import linecache
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

import clip
from clip.frozen import freeze_image_tower
from clip.model import CLIP
from dassl.data import DatasetWrapper
from dassl.data.datasets import Datum
from dassl.data.transforms import build_transform
from tests.support.data import make_cfg, write_picture
from trainers.features import code as feature_code
from trainers.features.cache import steps_of
from trainers.features.code import PACKAGES, code_digest, code_of
from trainers.features.views import Views
from trainers.parts.model import encode_images
from trainers.plot.trainer import PLOT

ROOT = Path(__file__).resolve().parents[2]


def frozen_tower(name: str) -> torch.nn.Module:
    tower = clip.load_clip_to_cpu(name).float().visual.requires_grad_(False)
    freeze_image_tower(tower)
    return tower


def starts_of(tower: torch.nn.Module, steps=()) -> set:
    return {encode_images, DatasetWrapper, Views, *map(type, tower.modules()), *map(type, steps)}


@pytest.fixture(scope="module")
def towers():
    return {name: frozen_tower(name) for name in ("demo-rn", "demo-vit")}


@pytest.fixture(scope="module")
def starts(towers):
    return set.union(*map(starts_of, towers.values()))


@pytest.mark.parametrize("kind", ["pooled", "tokens", "value"])
@pytest.mark.parametrize("name", ["demo-rn", "demo-vit"])
def test_all_that_runs_on_the_way_to_features_counts(tmp_path, name, kind):
    """Anew from the weights, so that what is prepared for them runs, too."""
    tower = frozen_tower(name)
    paths = [write_picture(tmp_path / "a.png", 1), tmp_path / "deep.png"]
    Image.fromarray(np.full((9, 9), 40_000, np.uint16)).save(paths[1])
    side = tower.input_resolution
    cfg = make_cfg(INPUT__SIZE=(side, side), INPUT__TRANSFORMS=("normalize", "instance_norm"))
    transform = build_transform(cfg, is_train=False)
    images = DatasetWrapper(cfg, [Datum(str(path), 0, classname="a") for path in paths], transform)
    ran = set()

    def watch(frame, event, _):
        file = Path(frame.f_code.co_filename)
        if event == "call" and file.is_relative_to(ROOT) and file.relative_to(ROOT).parts[0] in PACKAGES:
            ran.add((".".join(file.relative_to(ROOT).with_suffix("").parts), frame.f_code.co_name))

    loaders = [DataLoader(dataset, batch_size=2) for dataset in (images, Views(images, 2, seed=1))]
    sys.setprofile(watch)
    try:
        for loader in loaders:
            for batch in loader:
                encode_images(tower, batch["img"], kind)
    finally:
        sys.setprofile(None)
    known = {(module, place.rpartition(".")[2]) for module, place in code_of(starts_of(tower, steps_of(transform)))}
    told = Datum.__module__  # paths and labels: the paths are in the key as they are
    ran = {(module, name) for module, name in ran if not name.startswith("<") and module != told}
    assert len(ran) > 15 and ran - known == set()


def edited(monkeypatch, module: str, old: str, new: str) -> None:
    """As if the file of a module read otherwise."""
    read = inspect.getsource

    def getsource(thing):
        text = read(thing)
        if getattr(thing, "__name__", "") == module:
            assert old in text
            text = text.replace(old, new)
        return text

    monkeypatch.setattr(inspect, "getsource", getsource)
    forget()


def forget() -> None:
    feature_code._module.cache_clear()
    feature_code._code_of.cache_clear()


@pytest.fixture(autouse=True)
def _as_before():
    yield
    forget()


@pytest.mark.parametrize(("module", "old", "new"), [
    ("clip.vit", "QUICK_GELU = 1.702", "QUICK_GELU = 1.7"),
    ("clip.frozen", "x = block.layer(x)", "x = block.layer(x) + 0"),
    ("clip.model", "x = self.avgpool(x)", "x = self.avgpool(x) * 1"),
    ("clip.features", "return ImageFeatures(self.pooled.contiguous()", "return ImageFeatures(self.pooled"),
    ("clip.packed", '"none", [], ""', '"relu", [], ""'),
    ("trainers.parts.model", "images.to(tower.dtype)", "images.float()"),
    ("trainers.features.views", "divmod(index, len(self.images))", "divmod(index, self.count)"),
    ("dassl.data.data_manager", "transform(image)", "transform(image.copy())"),
    ("dassl.data.image_memory", "else read_image(path, reading)", "else read_image(path, reading).copy()"),
    ("dassl.data.data_manager", "InterpolationMode(cfg.INPUT.INTERPOLATION)", "InterpolationMode.LANCZOS"),
    ("dassl.utils.images", ">> 8", ">> 7"),
])
def test_whatever_computes_changes_the_digest(starts, monkeypatch, module, old, new):
    before = code_digest(starts)
    edited(monkeypatch, module, old, new)
    assert code_digest(starts) != before


@pytest.mark.parametrize(("module", "old", "new"), [
    ("clip.vit", '"""LayerNorm whose arithmetic', '"""A LayerNorm whose arithmetic'),
    ("clip.vit", "from __future__", "# a comment\nfrom __future__"),
    ("clip.vit", "no activation", "there is no activation"),
    ("clip.packed", "x: Tensor", "x: 'Tensor'"),
    ("clip.model", "def convert_weights(model: nn.Module)", "def convert_weights(model: nn.Module, more=1)"),
    ("dassl.utils.images", "cannot read the image", "could not read the image"),
    ("dassl.config.values", '"rmsprop", "radam"', '"radam"'),
    ("dassl.utils.tools", "def listdir_nohidden(", "def listdir_visible("),
    ("dassl.data.data_manager", "lower the batch size", "make it smaller"),
    ("dassl.data.image_memory", "LOOKED_AT = 64", "LOOKED_AT = 65"),
    ("trainers.parts.model", "return self._kept_text", "return self._kept_text + 0"),
])
def test_nothing_else_does(starts, monkeypatch, module, old, new):
    before = code_digest(starts)
    edited(monkeypatch, module, old, new)
    assert code_digest(starts) == before


PLUGIN = """
from trainers.plot.trainer import PLOT

SCALE = 2.0


def scaled(features, factor=SCALE):
    return features._replace(pooled=features.pooled * factor)


class Louder(PLOT):
    def encode(self, images):
        return scaled(super().encode(images))

    def learns(self, name):
        return "ctx" in name
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Import the plugin, as it is or with other words in it."""

    def load(old: str = "", new: str = ""):
        file = tmp_path / "louder.py"
        file.write_text(PLUGIN.replace(old, new))
        monkeypatch.delitem(sys.modules, "louder", raising=False)
        spec = importlib.util.spec_from_file_location("louder", file)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "louder", module)
        spec.loader.exec_module(module)
        linecache.clearcache()
        forget()
        return module.Louder

    return load


def test_code_of_a_plugin_counts_as_ours(starts, plugin):
    own = code_of({PLOT.encode})
    assert {name for module, name in own if module == "trainers.clip_trainer"} == {"ClipTrainer.encode"}
    followed = code_of({plugin().encode})
    assert {name for module, name in followed if module == "louder"} == {"Louder.encode", "scaled", "SCALE"}
    digests = {code_digest(starts | {PLOT.encode}), code_digest(starts | {plugin().encode})}
    digests.add(code_digest(starts | {plugin("2.0", "3.0").encode}))
    digests.add(code_digest(starts | {plugin("* factor", "+ factor").encode}))
    assert len(digests) == 4
    assert code_digest(starts | {plugin('"ctx" in', '"bias" in').encode}) in digests  # it decides no feature
    assert code_of({json.dumps, torch.nn.Linear}) == {}  # installed code counts by its version


def test_only_the_image_side_is_followed(starts):
    found = code_of(starts)
    assert {module.partition(".")[0] for module, _ in found} == set(PACKAGES)
    assert not {module for module, _ in found} & {"clip.loading.weights", "clip.prompt_text", "trainers.parts.prompts"}
    assert ("clip.model", CLIP.__name__) not in found
