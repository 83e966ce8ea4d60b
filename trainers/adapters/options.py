"""The settings of Tip-Adapter, Tip-Adapter-F and PLOT-Adapter."""
from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..parts.options import Options, option
from ..parts.rules import Rule, above_zero, at_least, one_of, two_numbers
from ..plot.matchings import MATCHINGS
from ..plot.options import FUSE_GLOBAL, PlotOptions
from .tuned import PLOT_ADAPTER, TIP_ADAPTER, Tuned, grid, tuned_for

PRECISIONS = ("fp16", "fp32", "bf16", "fp64")  # no amp: no gradient reaches the towers
SEARCHES = ("val", "full_val", "train", "none")
LOCAL = [name for name, matching in MATCHINGS.items() if not matching.pooled]
ALPHA = "weight of the cache's score in training, and in a test where SEARCH is none"
NOT_POOLED = Rule(lambda value: value in LOCAL, f"one of {', '.join(LOCAL)}", ": the cache is asked by local features")

NO_SAMPLE = Rule(lambda value: not value, "0", ": the adapter learns no text; set it for the PLOT run")
UNMAPPED = Rule(lambda value: not value, "False", ": the keys of the cache are places as CLIP gives them")


@dataclass(frozen=True)
class Values:
    """Where alpha and beta start, and where they are looked for.

    Attributes
    ----------
    alpha, beta
        During training, and in a test where nothing is searched.
    alphas, betas
        The grids.
    """

    alpha: float
    beta: float
    alphas: list[float]
    betas: list[float]


@dataclass(frozen=True)
class AdapterOptions(Options):
    """What the three adapters have in common; `table` holds upstream's values of every data set."""

    table: ClassVar[dict[str, Tuned]] = TIP_ADAPTER

    precision: str = option(
        "PREC", "fp16", f"arithmetic of the frozen towers: {', '.join(PRECISIONS)}", one_of(PRECISIONS)
    )
    passes: int = option("AUGMENT_EPOCH", 10, "augmented views of an image whose mean feature is its key", at_least(1))
    alpha: float = option("ALPHA", 1.17, ALPHA, at_least(0))
    beta: float = option("BETA", 1.0, "sharpness of the cache, likewise", at_least(0))
    search: str = option(
        "SEARCH",
        "val",
        "images that alpha and beta are chosen on after training: val (few-shot, min(shots, 4) a class; where there is "
        "none, train), full_val (the whole official validation split), train (training images beyond the few shots, as "
        "many), none (ALPHA and BETA stay)",
        one_of(SEARCHES),
    )
    scale: tuple[float, float] = option(
        "SEARCH_SCALE", (12.0, 10.0), "upper ends of the search, of beta and of alpha", two_numbers(0.1)
    )
    steps: tuple[int, int] = option(
        "SEARCH_STEP", (200, 20), "values of beta and of alpha that are tried", two_numbers(1)
    )
    tuned: bool = option(
        "UPSTREAM_TUNED", False, "ALPHA, BETA and search ranges of upstream, of each data set, tuned on its test images"
    )
    leaky: bool = option(
        "SELECT_ON_TEST_LEAKY",
        False,
        "upstream's protocol, to repeat its figures: the epoch is chosen by test accuracy, and the better of two test "
        "accuracies is reported, with ALPHA and BETA and with those searched; marked wherever it is shown",
    )

    def values(self, dataset_name: str) -> Values:
        """Work out the values for a data set.

        Raises
        ------
        ValueError
            Where upstream's are asked for, and it had none for this data set.
        """
        alpha, beta, scale, steps = self.alpha, self.beta, self.scale, self.steps
        if self.tuned:
            scale, steps, beta, alpha, _ = tuned_for(self.table, dataset_name, self.key("tuned"))
        return Values(alpha, beta, betas=grid(scale[0], steps[0]), alphas=grid(scale[1], steps[1]))


@dataclass(frozen=True)
class TipAdapterOptions(AdapterOptions):
    """The keys TRAINER.TIPADAPTER.*."""

    node: ClassVar[str] = "TIPADAPTER"


@dataclass(frozen=True)
class LearningOptions(AdapterOptions):
    """What the adapters that learn their keys have besides."""

    adam_eps: float = option(
        "ADAM_EPS", 1e-4, "epsilon of AdamW, as the original's, in the place of OPTIM.EPS", at_least(0)
    )


@dataclass(frozen=True)
class TipAdapterFOptions(LearningOptions):
    """The keys TRAINER.TIPADAPTERF.*."""

    node: ClassVar[str] = "TIPADAPTERF"


@dataclass(frozen=True)
class PlotAdapterOptions(PlotOptions, LearningOptions):
    """The keys TRAINER.PLOTADAPTER.*: those of the PLOT run whose prompts are used, and of the cache."""

    node: ClassVar[str] = "PLOTADAPTER"
    table: ClassVar[dict[str, Tuned]] = PLOT_ADAPTER

    matching: str = option("MATCHING", "ot", f"how image features meet prompts: {', '.join(LOCAL)}", NOT_POOLED)
    alpha: float = option("ALPHA", 2.17, ALPHA, at_least(0))
    steps: tuple[int, int] = option(
        "SEARCH_STEP", (20, 200), "values of beta (each is a transport) and of alpha", two_numbers(1)
    )
    fuse_global: str = option(
        "FUSE_GLOBAL",
        "true",
        "PLOT's logits contain those of the pooled features: true, false, or auto (on ImageNet)",
        one_of(FUSE_GLOBAL),
    )
    cache_epsilon: float = option(
        "CACHE_EPS",
        0.3,
        "weight of the entropy in the transport between image and cache",
        above_zero(original=0.3),
    )
    local_proj: bool = option(
        "LOCAL_PROJ", False, "prompts that were learned with a map of the places are not taken", UNMAPPED, effect=False
    )
    class_sample: int = option(
        "CLASS_SAMPLE", 0, "no text is learned here, so there are no classes to sample", NO_SAMPLE, effect=False
    )
    pretrained: str = option(
        "PRETRAIN_DIR", "", "checkpoint or folder of the PLOT run; empty: OUTPUT_DIR, with PLOT instead of PLOTAdapter"
    )
