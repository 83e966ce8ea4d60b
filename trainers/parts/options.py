"""Settings of a trainer as a dataclass, and the only bridge between it and the config tree.

A field is declared once, with its config key, default, meaning and rule; the default node of the tree, the reading of a
config, the check of its values and the key list of the documentation all come from that declaration.

A trainer's options are a flat list of fields.  Those that several methods have in common are groups (`ContextOptions`,
`PhraseOptions`, and `TransportOptions` in trainers/plot/options.py), which a trainer's options combine.
"""
from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, TypeVar

from yacs.config import CfgNode

from .rules import Rule, at_least, between, one_of

Self = TypeVar("Self", bound="Options")
PRECISIONS = ("fp16", "fp32", "amp", "bf16", "fp64")
CONTEXT_PRECISIONS = ("fp32", "model")
POSITIONS = ("end", "middle", "front")
MOST_CONTEXT = 73  # of a prompt's 77 tokens; the others are its start, a class name, the full stop and the end


def option(key: str, default: Any, meaning: str, rule: Rule | None = None, effect: bool = True) -> Any:
    """Declare a dataclass field that lives under TRAINER.<node>.<key>.

    Parameters
    ----------
    key
        The last part of the config key.
    default
        What the original does, as a rule.
    meaning
        One line for `train.py --show-keys` and the documentation.
    rule
        What values are allowed; None for any.
    effect
        Whether the value changes what comes out, beyond the last digits of a float.
    """
    return field(default=default, metadata={"key": key, "meaning": meaning, "rule": rule, "effect": effect})


def with_default(group: type[Options], name: str, default: Any) -> Any:
    """Declare the field `name` of a group again, with another default and all else as there."""
    return field(default=default, metadata=dict(group.__dataclass_fields__[name].metadata))


@dataclass(frozen=True)
class Options:
    """Base of every trainer's settings; `node` is its child of cfg.TRAINER.

    Raises
    ------
    ValueError
        On construction, naming the key, what it may be and what it was, for a value that its rule does not allow.
    """

    node: ClassVar[str] = ""

    def __post_init__(self) -> None:
        for f in fields(self):
            if rule := f.metadata["rule"]:
                rule.check(self.key(f.name), getattr(self, f.name))

    @classmethod
    def defaults(cls) -> CfgNode:
        """Build the node with its default values, to be attached to a config tree."""
        return CfgNode({f.metadata["key"]: f.default for f in fields(cls)})

    @classmethod
    def from_cfg(cls: type[Self], cfg: CfgNode) -> Self:
        """Read TRAINER.<node>; keys that an older or foreign config lacks keep their defaults."""
        node = cfg.TRAINER.get(cls.node, {})
        return cls(**{f.name: node.get(f.metadata["key"], f.default) for f in fields(cls)})

    @classmethod
    def key(cls, name: str) -> str:
        """Spell the full config key of the field `name`."""
        return next(f"TRAINER.{cls.node}.{f.metadata['key']}" for f in fields(cls) if f.name == name)

    @classmethod
    def meanings(cls) -> dict[str, tuple[Any, str]]:
        """List {full key: (default, meaning)} for help texts."""
        return {cls.key(f.name): (f.default, f.metadata["meaning"]) for f in fields(cls)}

    @classmethod
    def without_effect(cls) -> list[str]:
        """List the full keys that change nothing that comes out."""
        return [cls.key(f.name) for f in fields(cls) if not f.metadata["effect"]]


INIT = ("CTX_INIT", "", "phrase(s) to start from, separated by |; empty: random, std 0.02")


@dataclass(frozen=True)
class ContextOptions(Options):
    """What every prompt method has: the context tokens and how they are computed."""

    n_context: int = option(
        "N_CTX",
        16,
        "context tokens of a prompt; overridden by CTX_INIT",
        between(1, MOST_CONTEXT, ": a prompt has 77 tokens, some of them for the class name"),
    )
    precision: str = option(
        "PREC", "fp16", f"arithmetic of the frozen towers: {', '.join(PRECISIONS)}", one_of(PRECISIONS)
    )
    context_precision: str = option(
        "CTX_PREC",
        "fp32",
        "number format of the learned context: fp32, or model (as the towers, like the original)",
        one_of(CONTEXT_PRECISIONS),
    )
    text_chunk: int = option(
        "TEXT_CHUNK",
        0,
        "classes encoded at a time, to bound the memory for a third more work; 0: all at once",
        at_least(0),
        effect=False,
    )
    class_sample: int = option(
        "CLASS_SAMPLE",
        0,
        "a training step sees the classes of its batch and so many others less one, drawn anew; 0: all. Tests see all",
        Rule(lambda value: value == 0 or value >= 2, "0 (all classes) or at least 2"),
    )


@dataclass(frozen=True)
class PhraseOptions(Options):
    """What CoOp and PLOT share besides: what the context starts from, where it stands, and for which classes."""

    init: str = option(*INIT)
    class_specific: bool = option("CSC", False, "one context per class instead of one for all")
    position: str = option(
        "CLASS_TOKEN_POSITION", "end", "where the class name stands: end, middle, front", one_of(POSITIONS)
    )
