"""The settings of PLOT++."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..options import ContextOptions, option
from ..plot.options import TransportOptions, published_epochs

UPDATES = ("vision", "joint", "")


@dataclass(frozen=True)
class PlotPPOptions(TransportOptions, ContextOptions):
    """TRAINER.PLOTPP.*"""

    node: ClassVar[str] = "PLOTPP"

    n_context: int = option("N_CTX", 4, "tokens of a text context, where CTX_INIT is False")
    n_vision_context: int = option("N_CTX_V", 2, "tokens of a visual prompt")
    n_vision_prompts: int = option("M", 4, "visual prompts; an image is the set of what is seen under each")
    init: bool = option("CTX_INIT", True, "start from the data set's templates; the first one decides N_CTX")
    legacy: bool = option(
        "LEGACY_TEMPLATES", False, "ImageNet's third prompt without the first token of the class name, as published"
    )
    trade_off: bool = option("TRADE_OFF", False, "add the logits of the pooled features")
    update: str = option("MODEL_UPD", "", "what is trained: vision (the visual prompts), or joint or empty (both)")
    pretrained: str = option("PRETRAIN_DIR", "", "checkpoint file, or run folder, whose prompts are the start")
    evaluate_untrained: bool = option("EVAL_UNTRAINED", False, "allow the evaluation of prompts without training")
    class_specific: bool = option("CSC", False, "for old command lines: contexts are always generic", effect=False)
    position: str = option(
        "CLASS_TOKEN_POSITION", "end", "for old command lines: the name is always at the end", effect=False
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_at_least("n_vision_prompts", 1)
        self._require_at_least("n_vision_context", 1)
        if self.update not in UPDATES:
            hint = " (`visual` stands in a comment of the original, which then trains both)" * (self.update == "visual")
            raise ValueError(
                f"{self._key('update')} must be vision (only the visual prompts are trained), joint or empty (the text "
                f"prompts too), got {self.update!r}{hint}"
            )
        self._require("position", ("end",))
        if self.class_specific:
            raise ValueError(f"{self._key('class_specific')} must be False: PLOT++ has generic contexts only")

    def fuses_global(self, dataset_name: str) -> bool:
        return self.trade_off

    def learns(self, parameter: str) -> bool:
        """Whether the prompt learner's parameter of this name is trained."""
        return self.update != "vision" or "vision" in parameter


def recipe(dataset_name: str, num_shots: int) -> dict[str, Any]:
    """The epochs of the original's training program, as a default.  (The batch of 32 is the preset's, for all data.)"""
    return {"OPTIM.MAX_EPOCH": published_epochs(dataset_name, num_shots)}
