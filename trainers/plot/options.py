"""The settings of PLOT, and of the transport that it shares with PLOT++ and PLOT-Adapter."""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from clip.features import KINDS

from ..parts.dataset_facts import dataset_facts
from ..parts.options import ContextOptions, Options, PhraseOptions, option
from ..parts.rules import at_least, one_of
from .matchings import LEAVE_OUT, MATCHINGS
from .sinkhorn import STOP_RULES
from .transport import RULES, Transport

FUSE_GLOBAL = ("auto", "true", "false")


@dataclass(frozen=True)
class MatchingOptions(Options):
    """How prompts are matched; the original's constants are keys, with its values as defaults."""

    epsilon: float = option("EPS", 0.1, "weight of the entropy, in units of cosine distance", RULES["epsilon"])
    max_iterations: int = option("MAX_ITER", 100, "most Sinkhorn iterations", RULES["max_iterations"])
    threshold: float = option(
        "THRESH",
        0.01,
        "stop when the row scaling changes by less; of unbalanced and partial the plan, by less than so many percent",
        RULES["threshold"],
    )
    stop: str = option(
        "STOP",
        "batch",
        f"stop rule: {', '.join(STOP_RULES)}; batch is the original's (unbalanced and partial: as each)",
        RULES["stop"],
    )
    matching: str = option(
        "MATCHING", "ot", f"how image features meet prompts: {', '.join(MATCHINGS)}", RULES["matching"]
    )
    rho: float = option(
        "RHO",
        0.1,
        "MATCHING unbalanced: price of leaving equal masses, in units of cosine distance; the larger, the closer to ot",
        RULES["rho"],
    )
    share: float = option("SHARE", 0.5, "MATCHING partial: share of the mass that is moved; 1 is ot", RULES["share"])
    leave_out: str = option(
        "LEAVE_OUT",
        "places",
        f"what unbalanced and partial may leave out: {', '.join(LEAVE_OUT)} (places and prompts)",
        RULES["leave_out"],
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
            self.epsilon,
            self.max_iterations,
            self.threshold,
            self.stop,
            self.matching,
            chunk=self.match_chunk,
            rho=self.rho,
            share=self.share,
            leave_out=self.leave_out,
        )


@dataclass(frozen=True)
class TransportOptions(MatchingOptions):
    """N prompts per class, and how they are matched."""

    n_prompts: int = option("N", 4, "prompts per class", at_least(1))


@dataclass(frozen=True)
class PlacesOptions(MatchingOptions):
    """What a place is described by, and which places take part."""

    dense: str = option(
        "DENSE",
        "tokens",
        f"local features: {'; '.join(f'{kind} ({meaning})' for kind, meaning in KINDS.items())}",
        one_of(KINDS),
    )
    local_proj: bool = option(
        "LOCAL_PROJ", False, "learn a linear map of the places (a ViT's before its projection), at first the identity"
    )
    top_k: tuple[int, ...] = option(
        "TOPK", (), "only the so many best places take part: one number, or one a prompt (SELECT prompt); empty: all",
        RULES["top_k"],
    )  # fmt: skip
    select: str = option(
        "SELECT",
        "class",
        "places are selected by class (the same for its prompts) or by prompt (each its own; with MATCHING uniform)",
        RULES["select_by"],
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "top_k", tuple(self.top_k))  # a YAML file has a list
        super().__post_init__()
        self.transport()
        if MATCHINGS[self.matching].pooled and (self.local_proj or self.top_k):
            raise ValueError(
                f"{self.key('matching')} {self.matching} looks at no places, so {self.key('local_proj')} must be False "
                f"and {self.key('top_k')} empty"
            )

    def transport(self) -> Transport:
        """Build the matcher that these settings describe; ValueError for settings that do not go together."""
        try:
            return replace(super().transport(), top_k=self.top_k, select_by=self.select)
        except ValueError as error:
            raise ValueError(f"{self.key('top_k')} {list(self.top_k)}, {self.key('select')}: {error}") from None

    def check_counts(self, prompts: int, key: str) -> None:
        """Raise ValueError where TOPK has neither one number nor one for each of the prompts, whose key is named."""
        if len(self.top_k) > 1 and len(self.top_k) != prompts:
            raise ValueError(
                f"{self.key('top_k')} must have one number, or one for each of the {prompts} prompts of {key}, got "
                f"{list(self.top_k)}"
            )


@dataclass(frozen=True)
class PlotOptions(PlacesOptions, TransportOptions, PhraseOptions, ContextOptions):
    """The keys TRAINER.PLOT.*."""

    node: ClassVar[str] = "PLOT"

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
        self.check_counts(self.n_prompts, self.key("n_prompts"))

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
