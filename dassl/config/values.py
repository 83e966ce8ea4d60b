"""What the values of the engine's keys may be, as two tables, and the check that names key, value and remedy.

yacs sees to the types alone. Numbers are checked by whoever works with them, so also under a plugin's own program;
names by the registries and builders that they are for, which may know more of them than these tables do.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from yacs.config import CfgNode as CN

from dassl.utils.tools import did_you_mean

__all__ = ["NAMES", "NUMBERS", "ConfigError", "Rule", "at_least", "check_names", "check_values"]


class ConfigError(ValueError):
    """A key or a value that does not fit the configuration; the text says which, where, and what to do."""


class Rule(NamedTuple):
    allowed: str  # ends the sentence "it must be ..."
    holds: Callable[[Any], bool]


def at_least(least: int) -> Rule:
    return Rule(f"{least} or more", lambda value: least <= value < float("inf"))


def above(limit: int) -> Rule:
    return Rule(f"above {limit}", lambda value: limit < value < float("inf"))


def between(least: float, most: float) -> Rule:
    return Rule(f"from {least} to {most}", lambda value: least <= value <= most)


def several(count: int, rule: Rule) -> Rule:
    """A list or tuple of that many numbers."""

    def holds(values: Any) -> bool:
        right = isinstance(values, (list, tuple)) and len(values) == count
        return right and all(isinstance(v, (int, float)) and rule.holds(v) for v in values)

    return Rule(f"{count} numbers, each {rule.allowed}", holds)


SIDE = Rule("two whole numbers of 1 or more, (height, width)",
            lambda size: several(2, at_least(1)).holds(size) and all(isinstance(side, int) for side in size))
SHARES = Rule("two shares of the area above 0, the smaller one first",
              lambda scale: several(2, above(0)).holds(scale) and scale[0] <= scale[1])
ANY = Rule("finite", lambda value: abs(value) < float("inf"))
BELOW_ONE = Rule("from 0 to below 1", lambda value: 0 <= value < 1)
SEED = Rule("from 0 to 4294967295, or -1 for a run without a seed", lambda seed: -1 <= seed < 2**32)

NUMBERS: dict[str, Rule] = {
    "SEED": SEED,
    "INPUT.SIZE": SIDE,
    "INPUT.PIXEL_MEAN": several(3, ANY),
    "INPUT.PIXEL_STD": several(3, above(0)),
    "INPUT.CROP_PADDING": at_least(0),
    "INPUT.RRCROP_SCALE": SHARES,
    "INPUT.CUTOUT_N": at_least(0),
    "INPUT.CUTOUT_LEN": at_least(0),
    "INPUT.GN_MEAN": ANY,
    "INPUT.GN_STD": at_least(0),
    "INPUT.RANDAUGMENT_N": at_least(0),
    "INPUT.RANDAUGMENT_M": between(0, 30),
    "INPUT.COLORJITTER_B": at_least(0),
    "INPUT.COLORJITTER_C": at_least(0),
    "INPUT.COLORJITTER_S": at_least(0),
    "INPUT.COLORJITTER_H": between(0, 0.5),
    "INPUT.RGS_P": between(0, 1),
    "INPUT.GB_P": between(0, 1),
    "INPUT.GB_K": Rule("an odd number of pixels, 1 or more", lambda pixels: pixels > 0 and pixels % 2 == 1),
    "DATALOADER.NUM_WORKERS": at_least(0),
    "DATALOADER.K_TRANSFORMS": at_least(1),
    "DATALOADER.TRAIN_X.BATCH_SIZE": at_least(1),
    "DATALOADER.TRAIN_X.N_INS": at_least(1),
    "DATALOADER.TRAIN_U.BATCH_SIZE": at_least(1),
    "DATALOADER.TRAIN_U.N_INS": at_least(1),
    "DATALOADER.TEST.BATCH_SIZE": at_least(1),
    "OPTIM.LR": at_least(0),
    "OPTIM.WEIGHT_DECAY": at_least(0),
    "OPTIM.MOMENTUM": at_least(0),
    "OPTIM.SGD_DAMPNING": ANY,
    "OPTIM.RMSPROP_ALPHA": at_least(0),
    "OPTIM.ADAM_BETA1": BELOW_ONE,
    "OPTIM.ADAM_BETA2": BELOW_ONE,
    "OPTIM.EPS": at_least(0),
    "OPTIM.BASE_LR_MULT": at_least(0),
    "OPTIM.GAMMA": at_least(0),
    "OPTIM.MAX_EPOCH": at_least(0),
    "OPTIM.WARMUP_CONS_LR": at_least(0),
    "OPTIM.WARMUP_MIN_LR": at_least(0),
    "TRAIN.PRINT_FREQ": at_least(1),
    "TRAIN.STATE_MINUTES": at_least(0),  # declared by train.py, heeded by the engine
}

TRANSFORMS = (
    "random_flip",
    "random_resized_crop",
    "normalize",
    "instance_norm",
    "random_crop",
    "random_translation",
    "center_crop",  # accepted, but changes nothing: the test pipeline always crops the centre
    "cutout",
    "imagenet_policy",
    "cifar10_policy",
    "svhn_policy",
    "randaugment",
    "randaugment_fixmatch",
    "randaugment2",
    "gaussian_noise",
    "colorjitter",
    "randomgrayscale",
    "gaussian_blur",
)
SAMPLERS = ("RandomSampler", "SequentialSampler", "RandomDomainSampler", "SeqDomainSampler", "RandomClassSampler")

NAMES: dict[str, Sequence[str]] = {
    "INPUT.INTERPOLATION": ("bilinear", "bicubic", "nearest"),
    "INPUT.TRANSFORMS": TRANSFORMS,  # any of them
    "DATALOADER.TRAIN_X.SAMPLER": SAMPLERS,
    "DATALOADER.TRAIN_U.SAMPLER": SAMPLERS,
    "DATALOADER.TEST.SAMPLER": SAMPLERS,
    "OPTIM.NAME": ("adam", "amsgrad", "sgd", "rmsprop", "radam", "adamw"),
    "OPTIM.LR_SCHEDULER": ("single_step", "multi_step", "cosine"),
    "OPTIM.WARMUP_TYPE": ("linear", "constant"),
    "TRAIN.COUNT_ITER": ("train_x", "train_u", "smaller_one"),
    "TEST.SPLIT": ("test", "val"),
    "TEST.FINAL_MODEL": ("last_step", "best_val"),
}


def check_values(cfg: CN, section: str = "", rules: Mapping[str, Rule] = NUMBERS) -> None:
    """Raise ConfigError, a line for each, unless all numbers below `cfg` are such as `rules` allow.

    `cfg` is the whole tree, or the section of it that `section` names. Keys that are not there are passed over.
    """
    problems = []
    for key, value in _values(cfg, section, rules):
        try:
            right = rules[key].holds(value)
        except TypeError:  # set in Python to something else than a number
            right = False
        if not right:
            problems.append(f"{key} is {value!r}; it must be {rules[key].allowed}")
    _report(problems)


def check_names(cfg: CN, section: str = "", names: Mapping[str, Sequence[str]] = NAMES) -> None:
    """The same for choices by name."""
    problems = []
    for key, value in _values(cfg, section, names):
        for name in value if isinstance(value, (list, tuple)) else [value]:
            if name not in names[key]:
                problems.append(f"{key}: there is no {name!r}{did_you_mean(name, names[key])}")
    _report(problems)


def _values(cfg: CN, section: str, keys: Mapping[str, Any]) -> list[tuple[str, Any]]:
    found = []
    for key in keys:
        node: Any = cfg
        if section and not key.startswith(f"{section}."):
            continue
        for part in key.removeprefix(f"{section}.").split("."):
            node = node.get(part) if isinstance(node, CN) else None
        if node is not None:
            found.append((key, node))
    return found


def _report(problems: list[str]) -> None:
    if problems:
        raise ConfigError("\n".join(problems))
