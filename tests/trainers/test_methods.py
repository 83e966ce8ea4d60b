"""What a method says of itself: for every registered trainer of ours, attributes that agree with what it does."""
from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import datasets  # noqa: F401  (registers the data sets)
import trainers  # noqa: F401  (registers the methods)
from dassl.data.datasets import DATASET_REGISTRY
from dassl.engine import TRAINER_REGISTRY, TrainerBase, build_trainer
from runs.config import option_types, request_of
from tests.support.closeness import assert_close
from tests.support.programs import REPOSITORY, arguments, make_world
from trainers.adapters.trainer import AdapterTrainer
from trainers.clip_trainer import ClipTrainer
from trainers.local.model import GlobalLocalModel
from trainers.parts.checkpoints import FIXED
from trainers.parts.dataset_facts import dataset_facts, template_of

METHODS = [
    kind for kind in map(TRAINER_REGISTRY.get, TRAINER_REGISTRY.registered_names())
    if kind.__module__.startswith("trainers.") and issubclass(kind, ClipTrainer)
]
by_name = pytest.mark.parametrize("method", METHODS, ids=[method.__name__ for method in METHODS])


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module", params=METHODS, ids=[method.__name__ for method in METHODS])
def trainer(request, world):
    return build_trainer(request_of(arguments(world, world / "out", trainer=request.param.__name__)).cfg)


def test_plot_is_five_levels_from_the_engine():
    levels = [kind.__name__ for kind in TRAINER_REGISTRY.get("PLOT").__mro__[:-1]]
    assert levels == ["PLOT", "ClipTrainer", "TrainerX", "SimpleTrainer", "TrainerBase"]
    assert all(issubclass(method, TrainerBase) and len(method.__mro__) <= 7 for method in METHODS)


def test_what_is_saved_is_learned_or_made_anew(trainer):
    """The state of the registered models is the tensors that are declared to be learned, and fixed tokens."""
    saved = {key for name in trainer.get_model_names() for key in trainer._models[name].state_dict()}
    assert saved - set(FIXED) == set(trainer.learned_tensors)
    assert trainer.zero_shot == (not saved)


def test_what_it_can_show_is_there(trainer):
    assert trainer.transports == hasattr(trainer.model, "explain") == (trainer.evidence is not None)
    assert trainer.transports or not trainer.has_places
    if trainer.transports:
        assert trainer.evidence.has_places == trainer.has_places
    else:
        with pytest.raises(NotImplementedError, match="nothing to show"):
            trainer.explain(None)
    learner = getattr(trainer.model, "prompt_learner", None)
    assert trainer.has_words == hasattr(learner, "contexts")
    if trainer.can_be_mapped:
        assert trainer.model.text_features().dim() == 3


def test_cosines_with_classes(trainer):
    """Those of the pooled feature, and of places where there are any; an adapter has other scores, and says so."""
    model, images = trainer.model, torch.rand(2, 3, *trainer.cfg.INPUT.SIZE)
    with torch.no_grad():
        features = trainer.encode(images)
        if isinstance(trainer, AdapterTrainer):
            with pytest.raises(NotImplementedError, match="no cosines"):
                model.class_cosines(features)
            return
        cosines, logits = model.class_cosines(features), model(images)
    assert cosines.pooled.shape == logits.shape and cosines.pooled.abs().max() <= 1 + 1e-5
    assert (cosines.places is not None) == trainer.has_places
    if not trainer.transports:
        assert_close(model.logit_scale.exp() * cosines.pooled, logits, 1e-5)
        return
    if isinstance(model, GlobalLocalModel):  # two sets of prompts: tests/trainers/test_local.py
        return
    text = F.normalize(model.text_features(), dim=-1)
    image = F.normalize(features.pooled, dim=-1)
    plain = torch.stack([image @ prompt.t() for prompt in text]).mean(dim=0)
    assert_close(cosines.pooled, plain, 1e-5)
    if trainer.has_places:
        local = F.normalize(features.local, dim=-1)
        assert_close(cosines.places, torch.stack([local @ prompt.t() for prompt in text]).mean(dim=0), 1e-5)


@by_name
def test_names_lead_somewhere(method):
    assert not method.starts_from or issubclass(TRAINER_REGISTRY.get(method.starts_from), TrainerBase)
    family = method.config_family or method.__name__
    assert list((REPOSITORY / "configs" / "trainers" / family).glob("*.yaml"))
    assert bool(method.config_family) != (REPOSITORY / "configs" / "trainers" / method.__name__).is_dir()


@by_name
def test_recipes_set_keys_that_there_are(method, world):
    cfg = request_of(arguments(world, world / "out", trainer=method.__name__)).cfg
    for name in ("Caltech101", "ImageNet", "NoSuch"):
        for shots in (1, 16):
            for key in method.recipe(name, shots):
                node = cfg
                for part in key.split("."):
                    node = node[part]


def test_options_are_those_of_the_methods():
    assert set(option_types()) == {method.options_type for method in METHODS if method.options_type}
    assert [kind.node for kind in option_types()] == sorted(kind.node for kind in option_types())


# --- what methods read of a data set ---------------------------------------------------------------------


def test_facts_are_read_off_the_class():
    ours = [name for name in DATASET_REGISTRY.registered_names() if hasattr(DATASET_REGISTRY.get(name), "template")]
    assert len(ours) > 15
    for name in ours:  # others come from other tests
        kind, facts = DATASET_REGISTRY.get(name), dataset_facts(name)
        assert facts.is_imagenet_itself == (name == "ImageNet") and facts.is_imagenet == name.startswith("ImageNet")
        assert facts.template == kind.template and facts.prompt_starts == kind.prompt_starts


def test_a_data_set_that_says_nothing_has_the_usual_template(capsys, monkeypatch):
    assert template_of("Caltech101") == "a photo of a {}." and capsys.readouterr().out == ""

    class Silent:
        """As in a repository that was written for another engine."""

    DATASET_REGISTRY.register(Silent)
    try:
        assert template_of("Silent") == "a photo of a {}."
        assert "Silent declares no `template`" in capsys.readouterr().out
        assert dataset_facts("Silent").prompt_starts == () and not dataset_facts("Silent").is_imagenet
    finally:
        del DATASET_REGISTRY._obj_map["Silent"]
