"""What the values of the engine's keys may be, as two tables, and the checks that name key, value and remedy.

yacs sees to the types alone. Numbers are checked by whoever works with them (`check_values` on the section at hand), so
also under a plugin's own program; names are checked by the registries and builders that they are for, which may know
more of them than these tables do.
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
    """What a number, or a list of numbers, may be.

    Attributes
    ----------
    allowed : str
        Ends the sentence "it must be ...".
    holds : callable
        value -> whether it is allowed. Comparisons are written so that NaN never is.
    """

    allowed: str
    holds: Callable[[Any], bool]


def at_least(least: int) -> Rule:
    """Allow `least` and everything above it but infinity."""
    return Rule(f"{least} or more", lambda value: least <= value < float("inf"))


def above(limit: int) -> Rule:
    """Allow everything above `limit` but infinity."""
    return Rule(f"above {limit}", lambda value: limit < value < float("inf"))


def between(least: float, most: float) -> Rule:
    """Allow numbers from `least` to `most`, both included."""
    return Rule(f"from {least} to {most}", lambda value: least <= value <= most)


def several(count: int, rule: Rule) -> Rule:
    """Allow a list or tuple of `count` numbers that each obey `rule`."""

    def holds(values: Any) -> bool:
        right = isinstance(values, (list, tuple)) and len(values) == count
        return right and all(isinstance(v, (int, float)) and rule.holds(v) for v in values)

    return Rule(f"{count} numbers, each {rule.allowed}", holds)


SIDE = Rule("two whole numbers of 1 or more, (height, width)",
            lambda size: several(2, at_least(1)).holds(size) and all(isinstance(side, int) for side in size))
SHARES = Rule("two shares of the area above 0, the smaller one first",
              lambda scale: several(2, above(0)).holds(scale) and scale[0] <= scale[1])
ODD = Rule("an odd number of pixels, 1 or more", lambda pixels: pixels > 0 and pixels % 2 == 1)
FINITE = Rule("finite", lambda value: abs(value) < float("inf"))
BELOW_ONE = Rule("from 0 to below 1", lambda value: 0 <= value < 1)
SEED = Rule("from 0 to 4294967295, or -1 for a run without a seed", lambda seed: -1 <= seed < 2**32)

# (rule, keys); TRAIN.STATE_MINUTES, TRAIN.RANK_MINUTES and DATALOADER.KEEP_MB are keys of programs, see defaults.py
_RULES: list[tuple[Rule, str]] = [
    (SEED, "SEED"),
    (SIDE, "INPUT.SIZE"),
    (several(3, FINITE), "INPUT.PIXEL_MEAN"),
    (several(3, above(0)), "INPUT.PIXEL_STD"),
    (SHARES, "INPUT.RRCROP_SCALE"),
    (FINITE, "INPUT.GN_MEAN OPTIM.SGD_DAMPNING"),
    (between(0, 30), "INPUT.RANDAUGMENT_M"),
    (between(0, 0.5), "INPUT.COLORJITTER_H"),  # of the colour circle, to either side
    (between(0, 1), "INPUT.RGS_P INPUT.GB_P"),
    (ODD, "INPUT.GB_K"),
    (above(0), "TRAIN.RANK_MINUTES"),
    (BELOW_ONE, "OPTIM.ADAM_BETA1 OPTIM.ADAM_BETA2"),
    (at_least(0), "INPUT.CROP_PADDING INPUT.CUTOUT_N INPUT.CUTOUT_LEN INPUT.GN_STD INPUT.RANDAUGMENT_N "
                  "INPUT.COLORJITTER_B INPUT.COLORJITTER_C INPUT.COLORJITTER_S DATALOADER.NUM_WORKERS "
                  "OPTIM.LR OPTIM.WEIGHT_DECAY OPTIM.MOMENTUM OPTIM.RMSPROP_ALPHA OPTIM.EPS OPTIM.BASE_LR_MULT "
                  "OPTIM.GAMMA OPTIM.MAX_EPOCH OPTIM.WARMUP_CONS_LR OPTIM.WARMUP_MIN_LR TRAIN.STATE_MINUTES"),
    (at_least(1), "DATALOADER.K_TRANSFORMS DATALOADER.TRAIN_X.BATCH_SIZE DATALOADER.TRAIN_X.N_INS "
                  "DATALOADER.TRAIN_U.BATCH_SIZE DATALOADER.TRAIN_U.N_INS DATALOADER.TEST.BATCH_SIZE "
                  "TRAIN.PRINT_FREQ"),
]  # fmt: skip
NUMBERS: dict[str, Rule] = {key: rule for rule, keys in _RULES for key in keys.split()}

# "center_crop" is accepted, but changes nothing: the test pipeline always crops the centre
TRANSFORMS = tuple(
    "random_flip random_resized_crop normalize instance_norm random_crop random_translation center_crop cutout "
    "imagenet_policy cifar10_policy svhn_policy randaugment randaugment_fixmatch randaugment2 gaussian_noise "
    "colorjitter randomgrayscale gaussian_blur".split()
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
    """Check all numbers below `cfg` against `rules`.

    Parameters
    ----------
    cfg : CfgNode
        The whole tree, or the section of it that `section` names. Keys that it lacks are passed over: trees of other
        engines have fewer.
    section : str
        Dotted name of the section, like "DATALOADER"; empty for the whole tree.
    rules : mapping
        Dotted key -> what its value may be.

    Raises
    ------
    ConfigError
        With a line for each number that is not allowed.
    """
    problems = []
    for key, value in _values(cfg, section, rules):
        try:
            allowed = rules[key].holds(value)
        except TypeError:  # set in Python to something else than a number
            allowed = False
        if not allowed:
            problems.append(f"{key} is {value!r}; it must be {rules[key].allowed}")
    _report(problems)


def check_names(cfg: CN, section: str = "", names: Mapping[str, Sequence[str]] = NAMES) -> None:
    """Check all choices by name, as `check_values` does numbers; the nearest name is suggested."""
    problems = []
    for key, value in _values(cfg, section, names):
        for name in value if isinstance(value, (list, tuple)) else [value]:
            if name not in names[key]:
                problems.append(f"{key}: there is no {name!r}{did_you_mean(name, names[key])}")
    _report(problems)


def _values(cfg: CN, section: str, keys: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return (key, value) for those of the dotted `keys` that lie in the section and are in the tree."""
    values = []
    for key in keys:
        node: Any = cfg
        if section and not key.startswith(f"{section}."):
            continue
        for part in key.removeprefix(f"{section}.").split("."):
            node = node.get(part) if isinstance(node, CN) else None
        if node is not None:
            values.append((key, node))
    return values


def _report(problems: list[str]) -> None:
    if problems:
        raise ConfigError("\n".join(problems))
