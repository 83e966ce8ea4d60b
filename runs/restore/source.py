"""What predictions start from: the folder of a finished run.  (exported.py: or a file that was made from one.)

Nothing here imports torch before it has to, so that a wrong path is told at once.
"""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import ResultsError as PredictError
from ..keys import effective, flatten
from ..record import Declared, declared_in
from .trained_run import read_config, require_finished
from .trust import UNNEEDED, check_places

# of the keys that decide a result, those that decide predictions or tell how they were learned; and the trainer's own
KEPT = ("SEED", "TRAINER.NAME", "INPUT.", "MODEL.BACKBONE.", "OPTIM.", "DATASET.")
DATA = ("FOLDER.PATH", "CSV")  # ends of keys: where own pictures were
WEIGHTS = (".pt", ".pth", ".bin", ".safetensors")
REMEDY = "give the folder of a run, or a file that `python -m results export` wrote"


@dataclass(frozen=True)
class Source(ABC):
    """A trained classifier at rest."""

    path: Path
    config: Mapping[str, Any]  # {"TRAINER.NAME": "PLOT", ...}: what decides predictions, and how it was trained
    result: Mapping[str, Any]  # accuracy, dataset, ... of the run, as in result.json
    method: Declared

    @abstractmethod
    def classnames(self) -> Sequence[str] | None:
        """The classes by label; None where the run does not tell."""

    @abstractmethod
    def restore(self, trainer: Any) -> None:
        """Give a trainer that was built from `config` what the run has learned; raises ValueError, RuntimeError or
        OSError where it does not fit."""

    @property
    def trainer(self) -> str:
        return str(self.config["TRAINER.NAME"])

    @property
    def class_specific(self) -> bool:
        """Whether something was learned for each class, so that it serves no other class names."""
        return self.method.class_specific or bool(self.config.get(f"TRAINER.{self.trainer.upper()}.CSC"))

    def check_places(self, moved_to: str = "") -> None:
        """Raise PredictError where weights (`moved_to`, if they are given) or checkpoint are of somebody else's choice,
        or the weights a file that is not there (a name is tried when it is loaded)."""
        name = moved_to or str(self.config.get("MODEL.BACKBONE.NAME", ""))
        check_places(self.path, "" if moved_to else name, self.result)
        if name.endswith(WEIGHTS) and not Path(name).is_file():
            remedy = "" if moved_to else "; if it has moved, say --backbone PATH"
            raise PredictError(f"the backbone's weights are not at {name}{remedy}")

    def check_explains(self) -> None:
        """Raise PredictError where there are no heat maps to draw."""
        if not self.method.has_places:
            raise PredictError(
                f"{self.path} is of {self.trainer}, which does not match places of an image with prompts: there are no "
                "heat maps to draw, as there are of PLOT"
            )
        if self.config.get(f"TRAINER.{self.trainer.upper()}.MATCHING") == "global":
            raise PredictError(
                f"{self.path} was trained with MATCHING global, which looks at an image's one pooled feature and at no "
                "place: there are no heat maps to draw"
            )


class RunFolder(Source):
    """The folder of a finished run."""

    @classmethod
    def read(cls, folder: Path) -> RunFolder:
        """Raises PredictError where the folder holds no run, or one that cannot predict."""
        config, method = flatten(read_config(folder)), declared_in(folder)
        record = require_finished(folder, trained=not method.zero_shot)
        return cls(folder, kept_settings(config), record, method)

    def classnames(self) -> Sequence[str] | None:
        from ..record import read_classnames

        return read_classnames(self.path)

    def restore(self, trainer: Any) -> None:
        from ..writing import evaluated_checkpoint

        directory, epoch = evaluated_checkpoint(self.path)
        trainer.load_model(directory, epoch=epoch)


def kept_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Of a whole config the keys that decide predictions or tell how they were learned; no place but the backbone's."""
    own = f"TRAINER.{config['TRAINER.NAME']}.".upper()  # whole: also what only bounds its memory
    kept = {key for key in effective(config) if key.startswith(KEPT)}
    kept |= {key for key in config if key.upper().startswith(own)} | ({"PLUGINS"} if config.get("PLUGINS") else set())
    return {key: value for key, value in config.items() if key in kept and not key.endswith((*UNNEEDED, *DATA))}
