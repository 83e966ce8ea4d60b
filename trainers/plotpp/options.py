"""The settings of PLOT++."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..parts.options import MOST_CONTEXT, ContextOptions, option
from ..parts.rules import Rule, at_least, between, one_of
from ..plot.options import TransportOptions
from ..plot.recipe import epochs

UPDATES = Rule(
    lambda value: value in ("vision", "joint", ""),
    "vision (only the visual prompts are trained), joint or empty (the text prompts too, which is also what `visual`, "
    "in a comment of the original, does there)",
)
GENERIC = Rule(lambda value: not value, "False", "; PLOT++ has generic contexts only")


@dataclass(frozen=True)
class PlotPPOptions(TransportOptions, ContextOptions):
    """The keys TRAINER.PLOTPP.*."""

    node: ClassVar[str] = "PLOTPP"

    n_context: int = option("N_CTX", 4, "tokens of a text context, where CTX_INIT is False", between(1, MOST_CONTEXT))
    n_vision_context: int = option("N_CTX_V", 2, "tokens of a visual prompt", at_least(1))
    n_vision_prompts: int = option(
        "M", 4, "visual prompts; an image is the set of what is seen under each", at_least(1)
    )
    init: bool = option("CTX_INIT", True, "start from the data set's templates; the first one decides N_CTX")
    legacy: bool = option(
        "LEGACY_TEMPLATES", False, "ImageNet's third prompt without the first token of the class name, as published"
    )
    trade_off: bool = option("TRADE_OFF", False, "add the logits of the pooled features")
    update: str = option(
        "MODEL_UPD", "", "what is trained: vision (the visual prompts), or joint or empty (both)", UPDATES
    )
    pretrained: str = option("PRETRAIN_DIR", "", "checkpoint file, or run folder, whose prompts are the start")
    evaluate_untrained: bool = option("EVAL_UNTRAINED", False, "allow the evaluation of prompts without training")
    class_specific: bool = option(
        "CSC", False, "for old command lines: contexts are always generic", GENERIC, effect=False
    )
    position: str = option(
        "CLASS_TOKEN_POSITION",
        "end",
        "for old command lines: the name is always at the end",
        one_of(["end"]),
        effect=False,
    )

    def learns(self, parameter: str) -> bool:
        """Whether the prompt learner's parameter of this name is trained."""
        return self.update != "vision" or "vision" in parameter


def recipe(dataset_name: str, num_shots: int) -> dict[str, Any]:
    """Look up the published epochs, as a default; the batch of 32 is the preset's, for all data."""
    return {"OPTIM.MAX_EPOCH": epochs(dataset_name, num_shots)}
