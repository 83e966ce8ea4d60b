"""The settings of PLOT, and of the transport that it shares with PLOT++ and PLOT-Adapter."""
from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from clip.features import KINDS

from ..parts.dataset_facts import dataset_facts
from ..parts.options import ContextOptions, Options, PhraseOptions, option
from ..parts.rules import at_least, one_of
from .sinkhorn import STOP_RULES
from .transport import MATCHINGS, RULES, Transport

FUSE_GLOBAL = ("auto", "true", "false")


@dataclass(frozen=True)
class TransportOptions(Options):
    """N prompts per class and how they are matched; the original's constants are keys, with its values as defaults."""

    n_prompts: int = option("N", 4, "prompts per class", at_least(1))
    epsilon: float = option("EPS", 0.1, "weight of the entropy, in units of cosine distance", RULES["epsilon"])
    max_iterations: int = option("MAX_ITER", 100, "most Sinkhorn iterations", RULES["max_iterations"])
    threshold: float = option("THRESH", 0.01, "stop when the row scaling changes by less", RULES["threshold"])
    stop: str = option(
        "STOP", "batch", f"stop rule: {', '.join(STOP_RULES)}; batch is the original's", RULES["stop"]
    )
    matching: str = option(
        "MATCHING", "ot", f"how image features meet prompts: {', '.join(MATCHINGS)}", RULES["matching"]
    )
    match_chunk: int = option(
        "MATCH_CHUNK",
        0,
        "classes matched at a time, to bound the memory; 0: all at once",
        RULES["chunk"],
        effect=False,
    )

    def transport(self) -> Transport:
        """Build the matcher that these settings describe."""
        return Transport(
            self.epsilon, self.max_iterations, self.threshold, self.stop, self.matching, chunk=self.match_chunk
        )


@dataclass(frozen=True)
class PlotOptions(TransportOptions, PhraseOptions, ContextOptions):
    """The keys TRAINER.PLOT.*."""

    node: ClassVar[str] = "PLOT"

    dense: str = option(
        "DENSE",
        "tokens",
        "local features: tokens (what the encoder gives at every place) or value (the value path of its last "
        "attention, in which a place sees itself only)",
        one_of(KINDS),
    )
    fuse_global: str = option(
        "FUSE_GLOBAL",
        "auto",
        "add the logits of the pooled features: true, false, or auto (only on ImageNet)",
        one_of(FUSE_GLOBAL),
    )

    def __post_init__(self) -> None:
        # a YAML file, or the command line, may spell it as every other key does: True
        object.__setattr__(self, "fuse_global", str(self.fuse_global).lower())
        super().__post_init__()

    def fuses_global(self, dataset_name: str) -> bool:
        """Whether the logits of the pooled features are added on this data set.

        Notes
        -----
        Under "auto" the original's rule: the global logits are added for ImageNet itself and for no other data set.
        Prompts trained on ImageNet and evaluated on its variants therefore switch formula.
        """
        if self.fuse_global == "auto":
            return dataset_facts(dataset_name).is_imagenet_itself
        return self.fuse_global == "true"
