"""Settings of a trainer as a dataclass, and the only bridge between it and the config tree.

A field is declared once, with its config key, default and meaning; the default node of the tree, the reading of a
config and the key list of the documentation all come from that declaration.
"""
from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, TypeVar

from yacs.config import CfgNode

Self = TypeVar("Self", bound="Options")
PRECISIONS = ("fp16", "fp32", "amp", "bf16")
CONTEXT_PRECISIONS = ("fp32", "model")
POSITIONS = ("end", "middle", "front")
MOST_CONTEXT = 73  # of a prompt's 77 tokens; the others are its start, a class name, the full stop and the end


def option(key: str, default: Any, meaning: str, effect: bool = True) -> Any:
    """A dataclass field that lives under TRAINER.<node>.<key>; `effect`: whether it changes what comes out, beyond
    the last digits of a float."""
    return field(default=default, metadata={"key": key, "meaning": meaning, "effect": effect})


@dataclass(frozen=True)
class Options:
    """Base of every trainer's settings; `node` is its child of cfg.TRAINER."""

    node: ClassVar[str] = ""

    def __post_init__(self) -> None:
        """Raises ValueError for a bad value; a subclass adds its checks."""

    @classmethod
    def defaults(cls) -> CfgNode:
        """The node with its default values, to be attached to a config tree."""
        return CfgNode({f.metadata["key"]: f.default for f in fields(cls)})

    @classmethod
    def from_cfg(cls: type[Self], cfg: CfgNode) -> Self:
        """Read TRAINER.<node>; keys that an older or foreign config lacks keep their defaults."""
        node = cfg.TRAINER.get(cls.node, {})
        return cls(**{f.name: node.get(f.metadata["key"], f.default) for f in fields(cls)})

    @classmethod
    def meanings(cls) -> dict[str, tuple[Any, str]]:
        """{full key: (default, meaning)} for help texts."""
        return {f"TRAINER.{cls.node}.{f.metadata['key']}": (f.default, f.metadata["meaning"]) for f in fields(cls)}

    @classmethod
    def without_effect(cls) -> list[str]:
        """Full keys that change nothing that comes out."""
        return [f"TRAINER.{cls.node}.{f.metadata['key']}" for f in fields(cls) if not f.metadata["effect"]]

    def _require(self, name: str, allowed: tuple[str, ...]) -> None:
        value = getattr(self, name)
        if value not in allowed:
            raise ValueError(f"{self._key(name)} must be one of {', '.join(allowed)}, got {value!r}")

    def _require_at_least(self, name: str, least: float) -> None:
        value = getattr(self, name)
        if not least <= value < math.inf:
            raise ValueError(f"{self._key(name)} must be at least {least}, got {value}")

    def _require_above_zero(self, name: str, original: float) -> None:
        value = getattr(self, name)
        if not 0 < value < math.inf:
            raise ValueError(f"{self._key(name)} must be above 0, got {value}; the original uses {original}")

    def _key(self, name: str) -> str:
        return next(f"TRAINER.{self.node}.{f.metadata['key']}" for f in fields(self) if f.name == name)


@dataclass(frozen=True)
class ContextOptions(Options):
    """What every prompt method has: the context tokens and how they are computed."""

    n_context: int = option("N_CTX", 16, "context tokens of a prompt; overridden by CTX_INIT")
    precision: str = option("PREC", "fp16", f"arithmetic of the frozen towers: {', '.join(PRECISIONS)}")
    context_precision: str = option(
        "CTX_PREC", "fp32", "number format of the learned context: fp32, or model (as the towers, like the original)"
    )
    text_chunk: int = option(
        "TEXT_CHUNK",
        0,
        "classes encoded at a time, to bound the memory for a third more work; 0: all at once",
        effect=False,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("precision", PRECISIONS)
        self._require("context_precision", CONTEXT_PRECISIONS)
        self._require_at_least("n_context", 1)
        if self.n_context > MOST_CONTEXT:
            raise ValueError(
                f"{self._key('n_context')} must be at most {MOST_CONTEXT}, got {self.n_context}: "
                "a prompt has 77 tokens, some of them for the class name"
            )
        self._require_at_least("text_chunk", 0)


@dataclass(frozen=True)
class PhraseOptions(ContextOptions):
    """A context that may start from given words."""

    init: str = option("CTX_INIT", "", "phrase(s) to start from, separated by |; empty: random, std 0.02")


@dataclass(frozen=True)
class PromptOptions(PhraseOptions):
    """What CoOp and PLOT share besides: where the context stands, and for which classes."""

    class_specific: bool = option("CSC", False, "one context per class instead of one for all")
    position: str = option("CLASS_TOKEN_POSITION", "end", "where the class name stands: end, middle, front")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("position", POSITIONS)
