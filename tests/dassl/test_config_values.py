"""The tables of what values may be: complete, true of the defaults, and asked by whoever works with the values."""
from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import train
from dassl.config import ConfigError, check_names, check_values, get_cfg_default
from dassl.config.values import NAMES, NUMBERS
from dassl.data import DataManager
from dassl.data.samplers import build_sampler
from dassl.data.transforms import AVAI_CHOICES, INTERPOLATION_MODES, build_transform
from dassl.engine import SimpleTrainer
from dassl.optim import build_lr_scheduler, build_optimizer
from runs import config
from runs.config import extend_cfg, set_key
from tests.dassl.test_config import leaves
from tests.support.programs import arguments, failure, make_world

FREE = {  # numbers of which any will do: the meaning of negative ones is documented, or nothing here uses them
    "VERSION", "DATASET.NUM_SHOTS", "DATASET.NUM_LABELED", "DATASET.VAL_PERCENT", "DATASET.STL10_FOLD",
    "DATASET.CIFAR_C_LEVEL", "DATALOADER.TRAIN_X.N_DOMAIN", "DATALOADER.TRAIN_U.N_DOMAIN", "MODEL.HEAD.DROPOUT",
    "OPTIM.WARMUP_EPOCH", "TRAIN.CHECKPOINT_FREQ",
}  # fmt: skip
WRONG = {  # for keys of which neither -7 nor -7.5 is wrong, or which are no numbers
    "INPUT.SIZE": (0, 224),
    "INPUT.PIXEL_MEAN": [0.5, "x", 0.5],
    "INPUT.PIXEL_STD": [0.2, 0.0, 0.2],
    "INPUT.RRCROP_SCALE": (1.0, 0.5),
    "INPUT.GN_MEAN": math.inf,
    "OPTIM.SGD_DAMPNING": math.nan,
}


def with_value(key, value, cfg=None):
    cfg = cfg or get_cfg_default()
    set_key(cfg, key, value)
    return cfg


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


def test_every_number_of_the_tree_has_a_rule():
    cfg = get_cfg_default()
    extend_cfg(cfg)
    numbers = {
        key for key, value in leaves(cfg) if isinstance(value, (int, float, list)) and not isinstance(value, bool)
    }
    ours = {key for key in numbers if key.startswith("TRAINER.")}  # TRAINER: options.py, or not used here
    assert numbers - ours - FREE == (set(NUMBERS) | set(config.OUR_NUMBERS)) - {"INPUT.SIZE", "INPUT.RRCROP_SCALE"}


def test_the_defaults_are_allowed():
    cfg = get_cfg_default()
    extend_cfg(cfg)
    check_values(cfg, rules=NUMBERS | config.OUR_NUMBERS)
    check_names(cfg, names=NAMES | config.OUR_NAMES)


@pytest.mark.parametrize("key", NUMBERS)
@pytest.mark.parametrize("value", ["wrong", math.nan, "text"])
def test_refused_numbers_name_key_value_and_remedy(key, value):
    value = WRONG.get(key, -7) if value == "wrong" else value
    with pytest.raises(ConfigError) as caught:
        check_values(with_value(key, value))
    assert str(caught.value) == f"{key} is {value!r}; it must be {NUMBERS[key].allowed}"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("OPTIM.EPS", 0.0), ("OPTIM.LR", 0.0), ("OPTIM.MAX_EPOCH", 0), ("OPTIM.ADAM_BETA1", 0.0), ("SEED", -1),
        ("SEED", 2**32 - 1), ("INPUT.RANDAUGMENT_M", 30), ("INPUT.SIZE", [1, 1]), ("DATALOADER.NUM_WORKERS", 0),
    ],
)  # fmt: skip
def test_the_ends_of_what_is_allowed(key, value):
    check_values(with_value(key, value))


def test_all_mistakes_are_told_at_once():
    cfg = with_value("OPTIM.MOMENTUM", -1.0, with_value("TRAIN.PRINT_FREQ", 0))
    with pytest.raises(ConfigError, match="^OPTIM.MOMENTUM is -1.0; .* 0 or more\nTRAIN.PRINT_FREQ is 0; "):
        check_values(cfg)


@pytest.mark.parametrize("key", NAMES)
def test_unknown_names_name_their_key_and_the_nearest(key):
    name = NAMES[key][0]
    value = (name + "x",) if key == "INPUT.TRANSFORMS" else name + "x"
    with pytest.raises(ConfigError) as caught:
        check_names(with_value(key, value))
    assert str(caught.value).startswith(f"{key}: there is no '{name}x'; did you mean '{name}'? known: {name}, ")


def test_the_names_are_those_that_are_there():
    assert tuple(INTERPOLATION_MODES) == NAMES["INPUT.INTERPOLATION"]
    assert tuple(AVAI_CHOICES) == NAMES["INPUT.TRANSFORMS"]
    items = [SimpleNamespace(label=0, domain=0)] * 4
    for name in NAMES["DATALOADER.TEST.SAMPLER"]:
        assert type(build_sampler(name, data_source=items, batch_size=4, n_ins=4)).__name__ == name
    for name in NAMES["OPTIM.NAME"]:
        build_optimizer(nn.Linear(1, 1), with_value("OPTIM.NAME", name).OPTIM)
    for name in NAMES["OPTIM.LR_SCHEDULER"]:
        cfg = with_value("OPTIM.LR_SCHEDULER", name).OPTIM
        build_lr_scheduler(torch.optim.SGD(nn.Linear(1, 1).parameters(), 0.1), cfg)


# --- whoever works with a value asks, so that plugins with a program of their own are told, too ----------


@pytest.mark.parametrize("key", [key for key in NUMBERS if key != "SEED"])
def test_builders_refuse_what_cannot_be(key):
    cfg = with_value(key, WRONG.get(key, -7))
    build = {
        "INPUT": lambda: build_transform(cfg),
        "DATALOADER": lambda: DataManager(cfg),
        "OPTIM": lambda: build_optimizer(nn.Linear(1, 1), cfg.OPTIM),
        "TRAIN": lambda: SimpleTrainer(cfg),
    }[key.split(".")[0]]
    with pytest.raises(ValueError, match=key):
        build()


def test_nesterov_without_momentum():
    cfg = with_value("OPTIM.SGD_NESTEROV", True, with_value("OPTIM.MOMENTUM", 0.0, with_value("OPTIM.NAME", "sgd")))
    with pytest.raises(ValueError, match=r"OPTIM.SGD_NESTEROV needs OPTIM.MOMENTUM above 0 .* not 0.0 and 0"):
        build_optimizer(nn.Linear(1, 1), cfg.OPTIM)


# --- train.py --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["OPTIM.LR=-1"], "OPTIM.LR is -1.0; it must be 0 or more"),
        (["DATASET.NUM_SHOT=16"], "no key DATASET.NUM_SHOT (on the command line); did you mean DATASET.NUM_SHOTS?"),
        (["INPUT.TRANSFORMS", "('flip',)"], "INPUT.TRANSFORMS: there is no 'flip'; did you mean 'random_flip'?"),
        (["DATALOADER.TRAIN_X.SAMPLER", "Random"], "DATALOADER.TRAIN_X.SAMPLER: there is no 'Random'"),
        (["TEST.EVALUATOR", "Classify"], "evaluator (TEST.EVALUATOR) 'Classify'; did you mean 'Classification'?"),
        (["DATASET.NAME", "Caltec101"], "dataset (DATASET.NAME) 'Caltec101'; did you mean 'Caltech101'?"),
        (["MODEL.BACKBONE.NAME", "RN5O"], "MODEL.BACKBONE.NAME: no CLIP model named 'RN5O' and no file there"),
        (["TRAINER.PLOT.EPS", "0"], "TRAINER.PLOT.EPS must be above 0, got 0.0"),
        (["TRAINER.PLOT.STOP", "sometimes"], "TRAINER.PLOT.STOP must be one of"),
        (["MODEL.INIT_WEIGHTS", "nowhere.pth"], "MODEL.INIT_WEIGHTS: there is no file nowhere.pth"),
        (["TRAINER.PLOT.EPS", "1e400"], "TRAINER.PLOT.EPS must be above 0, got inf"),
        (["TRAINER.PLOT.RHO", "0"], "TRAINER.PLOT.RHO must be above 0 and finite, got 0.0"),
        (["TRAINER.PLOT.RHO", "-0.1"], "TRAINER.PLOT.RHO must be above 0 and finite, got -0.1"),
        (["TRAINER.PLOT.SHARE", "0"], "TRAINER.PLOT.SHARE must be above 0 and at most 1, got 0.0"),
        (["TRAINER.PLOT.SHARE", "1.5"], "TRAINER.PLOT.SHARE must be above 0 and at most 1, got 1.5"),
        (["TRAINER.PLOT.LEAVE_OUT", "prompts"], "TRAINER.PLOT.LEAVE_OUT must be one of places, both, got 'prompts'"),
        (["SEED", "-5"], "SEED is -5; it must be from 0 to 4294967295, or -1 for a run without a seed"),
        (["DATALOADER.KEEP_MB", "-1"], "DATALOADER.KEEP_MB is -1; it must be 0 or more"),
        (["DATASET.SUBSAMPLE_CLASSES", "old"], "DATASET.SUBSAMPLE_CLASSES: there is no 'old'"),
        (["TRAINER.PLOT.N_CTX", "100"], "TRAINER.PLOT.N_CTX must be from 1 to 73, got 100: a prompt has 77 tokens"),
        (["--eval-only", "--model-dir", "nowhere/run"], "--model-dir: there is no folder nowhere/run"),
        (["--trainer", "PLOTPP", "TRAINER.PLOTPP.PRETRAIN_DIR", "nowhere"], "TRAINER.PLOTPP.PRETRAIN_DIR: no nowhere"),
    ],
)  # fmt: skip
def test_mistakes_are_told_before_anything_is_printed_or_written(world, tmp_path, capsys, options, words):
    at = next((index for index, word in enumerate(options) if "." in word), len(options))  # where the flags end
    assert train.main(arguments(world, tmp_path / "run", *options[at:], flags=options[:at])) == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: ") and words in said.err
    assert said.out == "" and not (tmp_path / "run").exists()


@pytest.mark.parametrize("seed", ["-5", "4294967296"])
def test_a_seed_that_cannot_be(world, tmp_path, capsys, seed):
    message = failure(capsys, arguments(world, tmp_path / "run", seed=seed))
    assert f"SEED is {seed}; it must be from 0 to 4294967295, or -1 for a run without a seed" in message
