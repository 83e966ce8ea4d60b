"""Class names that a CLIP cannot tell apart: named before anything is trained or tested, by every trainer."""
from __future__ import annotations

import time
import warnings

import pytest
import torch
import torch.nn.functional as F

import clip
from dassl.engine import TRAINER_REGISTRY, build_trainer
from demo import CLASSES
from runs.config import request_of
from tests.support.programs import ADAPTERS, own_options
from trainers.parts.class_words import check_names
from trainers.zsclip import class_features

OURS = [name for name in TRAINER_REGISTRY.registered_names()
        if TRAINER_REGISTRY.get(name).__module__.startswith("trainers.")]
UNKNOWN = ["airplane", "pizza", "panda"]  # to the demo's CLIP, which has seen drawings of other things


def trainer_of(kind: str, classnames: list[str], *options: str):
    """A trainer with the demo's CLIP, for these classes and without data."""
    tower, side = ("demo-vit", 64) if kind == "PLOTPP" else ("demo-rn", 128)
    words = ["--trainer", kind, "--backbone", tower, "DATASET.NAME", "Demo", "INPUT.SIZE", f"({side}, {side})"]
    words += ["USE_CUDA", "False", *(word for key, value in own_options(kind, {"TOPK": "(2,)"}).items()
                                      for word in (f"TRAINER.{kind.upper()}.{key}", value)), *options]
    return build_trainer(request_of(words).cfg, classnames)


@pytest.fixture(scope="module")
def demo_clip():
    return clip.load_clip_to_cpu("demo-rn").float()


def found(clip_model, names: list[str]) -> str:
    """What is said of names that are no reason to stop."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_names(clip_model, names, "demo-rn")
    return " ".join(str(warning.message) for warning in caught)


@pytest.mark.parametrize("kind", OURS)
def test_every_trainer_says_which_classes_are_read_alike(kind):
    with pytest.warns(UserWarning, match="'airplane' = 'pizza' .it has never seen 'airplane', 'pizza'"):
        trainer_of(kind, ["house", "train", "truck", "windmill", "airplane", "pizza"])


@pytest.mark.parametrize("kind", OURS)
def test_no_trainer_goes_on_that_could_only_guess(kind):
    """An adapter has images of the classes, too, and contexts of single classes tell them apart."""
    if kind in ADAPTERS or own_options(kind, {"CSC": ""}) and TRAINER_REGISTRY.get(kind).options_type.defaults().CSC:
        with pytest.warns(UserWarning, match="'airplane' = 'pizza' = 'panda'"):
            trainer_of(kind, UNKNOWN)
    else:
        with pytest.raises(ValueError, match="'airplane' = 'pizza' = 'panda'.*1 of 3 classes.*MODEL.BACKBONE.NAME"):
            trainer_of(kind, UNKNOWN)


@pytest.mark.parametrize("kind", ["CoOp", "PLOT", "GalLoP"])
def test_contexts_of_single_classes_tell_them_apart(kind):
    with pytest.warns(UserWarning, match="'airplane' = 'pizza' = 'panda'"):
        trainer_of(kind, UNKNOWN, f"TRAINER.{kind.upper()}.CSC", "True")


def test_what_is_said_is_true_of_the_features(demo_clip):
    names = ["airplane", "pizza", "House", " house", "snow_man", "snow man", "truck", "train"]
    text = class_features(demo_clip, ["a photo of a {}."], names)
    cosines = text @ text.t()
    for a, b in ((0, 1), (2, 3), (4, 5)):
        assert cosines[a, b] > 1 - 1e-5
    assert cosines[6, 7] < 0.99
    said = found(demo_clip, names)
    assert "'airplane' = 'pizza'; 'House' = ' house'; 'snow_man' = 'snow man'" in said and "train" not in said


def test_known_names_are_not_talked_about(demo_clip):
    assert found(demo_clip, list(CLASSES)) == ""
    assert found(demo_clip, [*CLASSES, "fire truck", "blue house"]) != ""


def test_words_that_were_never_seen_count_for_nothing(demo_clip):
    """Two of them read like one, though the length of a prompt shifts its feature a little."""
    assert "'airplane' = 'pizza panda'" in found(demo_clip, ["airplane", "pizza panda", "house", "train"])
    assert "'fire truck' = 'truck'" in found(demo_clip, ["fire truck", "truck", "house", "train"])
    only_unknown = found(demo_clip, ["fire house", "truck", "train"])
    assert "never seen 'fire'" in only_unknown and "=" not in only_unknown


def test_a_few_classes_of_one_name_stop_nothing(demo_clip):
    """ImageNet has two kinds of crane."""
    assert "'truck' = 'truck'" in found(demo_clip, ["truck", "house", "truck"])


@pytest.mark.parametrize("name", ["<|endoftext|>", "a <|EndOfText|> b", "<|startoftext|>house", "&lt;|endoftext|&gt;"])
def test_names_that_would_be_cut_short(demo_clip, name):
    with pytest.raises(ValueError, match="cut short there; give the class another name") as error:
        check_names(demo_clip, ["house", name], "demo-rn", decisive=False)
    assert repr(name) in str(error.value)


@pytest.mark.parametrize("name", ["", " ", "__", "\t\n"])
def test_names_that_are_empty(demo_clip, name):
    with pytest.raises(ValueError, match="holds nothing that CLIP reads") as error:
        check_names(demo_clip, ["house", name], "demo-rn", decisive=False)
    assert repr(name) in str(error.value)


@pytest.mark.parametrize("kind", OURS)
def test_names_that_are_too_long(kind):
    """Nothing is cut off."""
    with pytest.raises((ValueError, RuntimeError), match="too long for context length 77"):
        trainer_of(kind, ["house", "train " * 80])


def test_the_look_draws_no_random_number_and_costs_less_than_one_encoding(demo_clip):
    names = [f"{a} {b} {c}" for a in CLASSES for b in CLASSES for c in CLASSES[:5]]  # 980
    state = torch.get_rng_state()
    found(demo_clip, names)  # tokens are kept
    start = time.perf_counter()
    found(demo_clip, names)
    looked = time.perf_counter() - start
    start = time.perf_counter()
    with torch.no_grad():
        F.normalize(demo_clip.encode_text(clip.tokenize(names)), dim=-1)
    assert looked < time.perf_counter() - start
    assert torch.equal(state, torch.get_rng_state())
