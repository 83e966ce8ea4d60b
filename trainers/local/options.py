"""The settings of GalLoP and SOT-GLP: the same keys, with each method's published values as defaults."""
from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..parts.options import MOST_CONTEXT, ContextOptions, option, with_default
from ..parts.rules import Rule, at_least, between, one_of
from ..plot.options import PlacesOptions
from .model import FUSIONS
from .prompts import STARTS

LOCAL_LOSSES = ("each", "joint")
LOCAL_SCALES = ("mean", "divided")
SHARE = Rule(lambda value: 0 <= value < 1, "from 0 to below 1")
N_LOCAL = "local prompts per class; 0: the global prompts do both"
CSC = "local prompts of their own for every class, which then serve no other classes"
LOCAL_INIT = "start of the local prompts: global (as the global ones), or xavier (uniform, in Glorot's bound)"
LOCAL_LOSS = "each (every local prompt has a cross-entropy of its own) or joint (their mean score has one)"
LOCAL_SCALE = "mean (cosines, as the global score) or divided (by N_LOCAL once more, as SOT-GLP's program)"


@dataclass(frozen=True)
class GalLoPOptions(PlacesOptions, ContextOptions):
    """The keys TRAINER.GALLOP.*."""

    node: ClassVar[str] = "GALLOP"

    n_global: int = option("N_GLOBAL", 4, "global prompts per class", at_least(1))
    n_local: int = option("N_LOCAL", 4, N_LOCAL, at_least(0))
    class_specific: bool = option("CSC", False, CSC)
    n_context: int = option("N_CTX", 4, "context tokens of a prompt; overridden by CTX_INIT", between(1, MOST_CONTEXT))
    init: str = option("CTX_INIT", "A photo of a", "phrase that the contexts start from; empty: random, std 0.02")
    local_start: str = option("LOCAL_INIT", "global", LOCAL_INIT, one_of(STARTS))
    raw_names: bool = option("RAW_NAMES", False, "class names as they stand, with their `_`, as in published runs")
    precision: str = with_default(ContextOptions, "precision", "amp")
    dense: str = with_default(PlacesOptions, "dense", "content")
    local_proj: bool = with_default(PlacesOptions, "local_proj", True)
    top_k: tuple[int, ...] = with_default(PlacesOptions, "top_k", (5, 10, 15, 20))
    select: str = with_default(PlacesOptions, "select", "prompt")
    matching: str = with_default(PlacesOptions, "matching", "uniform")
    dropout: float = option("DROPOUT", 0.75, "share of the global prompts that an image does not see", SHARE)
    replace: bool = option("DROPOUT_REPLACE", True, "an image may draw one global prompt twice, as in published runs")
    local_loss: str = option("LOCAL_LOSS", "each", LOCAL_LOSS, one_of(LOCAL_LOSSES))
    local_scale: str = option("LOCAL_SCALE", "mean", LOCAL_SCALE, one_of(LOCAL_SCALES))
    fuse: str = option("FUSE", "mean", f"what predicts: {', '.join(FUSIONS)} (of both branches)", one_of(FUSIONS))

    def __post_init__(self) -> None:
        super().__post_init__()
        key = "n_local" if self.n_local else "n_global"
        self.check_counts(getattr(self, key), self.key(key))
        if self.class_specific and not self.n_local:
            raise ValueError(f"{self.key('class_specific')} needs local prompts: set {self.key('n_local')} above 0")


@dataclass(frozen=True)
class SotGlpOptions(GalLoPOptions):
    """The keys TRAINER.SOTGLP.*: those of GalLoP, with other defaults."""

    node: ClassVar[str] = "SOTGLP"

    n_global: int = with_default(GalLoPOptions, "n_global", 3)
    class_specific: bool = with_default(GalLoPOptions, "class_specific", True)
    local_start: str = with_default(GalLoPOptions, "local_start", "xavier")
    dense: str = with_default(GalLoPOptions, "dense", "vv")
    top_k: tuple[int, ...] = with_default(GalLoPOptions, "top_k", (10,))
    select: str = with_default(GalLoPOptions, "select", "class")
    matching: str = with_default(GalLoPOptions, "matching", "ot")
    local_loss: str = with_default(GalLoPOptions, "local_loss", "joint")
    local_scale: str = with_default(GalLoPOptions, "local_scale", "divided")
