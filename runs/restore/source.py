"""What a trained classifier is restored from: the folder of a run, or (exported.py) a file that was made from one.

A `Source` is read before anything heavy is imported, so that a wrong path, an unfinished run or a method that lacks
what is asked for is reported at once.  Nothing in it is believed before its shape has been checked, and nothing that it
names outside of itself is opened without the user's word (trust.py).
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dassl.plain.reading import TEXT, Maybe, wrong

from ..files import ResultsError as PredictError
from ..files import find_files
from ..keys import effective, flatten
from ..record import (
    CONFIG_NAME,
    RESULT_NAME,
    Declared,
    beside,
    declared_in,
    load_config,
    read_classnames,
    read_record,
    read_result,
)  # fmt: skip
from .trust import UNNEEDED, check_places

# of the keys that decide a result, those that decide predictions or tell how they were learned; and the trainer's own
KEPT = ("SEED", "TRAINER.NAME", "INPUT.", "MODEL.BACKBONE.", "OPTIM.", "DATASET.")
DATA = ("FOLDER.PATH", "CSV")  # ends of keys: where own pictures were
NEEDED = {"TRAINER.NAME": TEXT, "DATASET.ROOT": Maybe(TEXT)}  # what is read of a flat config here
TRANSPORTS = ("transport plan", "transports")  # for `RunFolder.require`
EXPORTED = ".safetensors"  # end of an exported file's name
WEIGHTS = (".pt", ".pth", ".bin", ".safetensors")
REMEDY = "give the folder of a run, or a file that `python -m results export` wrote, or hf://USER/REPOSITORY with one"


@dataclass(frozen=True)
class Source(ABC):
    """A trained classifier at rest."""

    path: Path
    config: Mapping[str, Any]  # {"TRAINER.NAME": "PLOT", ...}: flat, as it was trained
    result: Mapping[str, Any]  # accuracy, dataset, ... of the run, as in result.json
    method: Declared

    @abstractmethod
    def classnames(self) -> Sequence[str] | None:
        """Return the classes by label; None where the run does not say."""

    @abstractmethod
    def restore(self, trainer: Any) -> None:
        """Give a trainer that was built from `config` what the run has learned.

        Raises
        ------
        ValueError, RuntimeError, OSError
            Where it does not fit.
        """

    @property
    def trainer(self) -> str:
        """The trainer's name."""
        return str(self.config["TRAINER.NAME"])

    def option(self, name: str) -> Any:
        """Return a key of the trainer's own node, such as N of TRAINER.PLOT.N; None where it has none."""
        return self.config.get(f"TRAINER.{self.trainer.upper()}.{name}")

    @property
    def class_specific(self) -> bool:
        """Whether something was learned for each class, so that it serves no other class names."""
        return self.method.class_specific or bool(self.option("CSC"))

    def check_places(self, moved_to: str = "") -> None:
        """Check the files that the run names, and that its weights are there.

        Parameters
        ----------
        moved_to
            Where the user says that the weights are now.

        Raises
        ------
        PredictError
            Where weights or checkpoint are of somebody else's choice, or the weights a file that is not there.  (A
            model's name is tried when it is loaded.)
        """
        name = moved_to or str(self.config.get("MODEL.BACKBONE.NAME", ""))
        if "/" in name and not Path(name).exists():  # perhaps open_clip's ARCHITECTURE/PATH
            from clip.loading.open_clip_table import path_in

            name = path_in(name)
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
        if self.option("MATCHING") == "global":
            raise PredictError(
                f"{self.path} was trained with MATCHING global, which looks at an image's one pooled feature and at no "
                "place: there are no heat maps to draw"
            )


@dataclass(frozen=True)
class RunFolder(Source):
    """The folder of a run."""

    problem: str = ""  # why the run does not count as finished; empty where it does

    @classmethod
    def open(cls, folder: Path) -> RunFolder:
        """Read what a folder says of its run, finished or not; ResultsError where it is no run folder."""
        config = _read_config(folder)
        record, problem = read_record(folder / RESULT_NAME)
        if not problem and record.get("complete") is not True:
            problem = f"{RESULT_NAME} is not complete"
        return cls(folder, config, record, declared_in(folder, record), problem)

    def require(self, what: str = "what was learned", needs: str = "") -> RunFolder:
        """Return itself, if it is a run that was trained to its end.

        Parameters
        ----------
        what
            What other methods lack, for the message.
        needs
            A field of `Declared` that must be true of the run's method.

        Raises
        ------
        ResultsError
            Where it is unfinished, or of another method.
        """
        if self.method.zero_shot or (self.require_finished() and needs and not getattr(self.method, needs)):
            raise PredictError(
                f"{self.path} is a run of {self.trainer}, which has no {what}; give the folder of another run"
            )
        return self

    def require_finished(self) -> RunFolder:
        """Return itself, if the run is finished and, where it trains at all, has kept a checkpoint; or ResultsError."""
        evaluated = self.result.get("checkpoint") if self.result.get("mode") == "eval" else None
        kept = Path(evaluated).exists() if evaluated else any(self.path.glob("*/model*.pth.tar*"))
        if not self.method.zero_shot and not kept:
            remedy = "nothing was trained there, or not to the end. Give the folder of a finished training run"
            if evaluated:
                remedy = f"it evaluated {evaluated}, which is gone"
            raise PredictError(f"{self.path} holds no checkpoint: {remedy}")
        if self.problem:
            raise PredictError(f"{self.path} is unfinished: {self.problem}. The command that started it finishes it")
        return self

    def classnames(self) -> Sequence[str] | None:
        """Return the classes by label; None for an older record, which does not say."""
        return read_classnames(self.path)

    def restore(self, trainer: Any) -> None:
        """Load the checkpoint that the run was tested with, or the exported file that it evaluated."""
        if str(self.result.get("checkpoint") or "").endswith(EXPORTED):
            from .exported import ExportedFile

            return ExportedFile.read(Path(self.result["checkpoint"])).restore(trainer)
        directory, epoch = evaluated_checkpoint(self.path)
        trainer.load_model(directory, epoch=epoch)


def evaluated_checkpoint(folder: str | Path) -> tuple[str, int | None]:
    """Find the checkpoint that the run in `folder` was tested with: its own, or of an evaluation the one it evaluated.

    Returns
    -------
    folder, epoch
        For a trainer's `load_model`: the folder of the run that made the checkpoint, and its epoch; None for the best
        one, and where no file is recorded, so that the trainer chooses.

    Raises
    ------
    CheckpointError
        Where the file has changed since it was tested.
    """
    from dassl.utils.checkpoint import CheckpointError, checksum

    record = read_result(folder) or {}
    tested = Path(folder, record.get("checkpoint") or "")
    for name, recorded in (record.get("checkpoints_sha256") or {}).items():
        file = beside(tested, Path(name).name)
        if file.is_file() and checksum(file) != recorded:
            raise CheckpointError(
                f"{file} is damaged or was replaced: its SHA-256 is not the one in {Path(folder, RESULT_NAME)}, of the "
                "file that was tested; get that one from a copy, or test what there is with train.py --eval-only"
            )
    if not record.get("checkpoint") or tested.is_dir():
        return str(tested), None
    epoch = re.fullmatch(r"model\.pth\.tar-(\d+)", tested.name)
    return str(tested.parent.parent), int(epoch[1]) if epoch else None


def _read_config(run: Path) -> dict[str, Any]:
    """Return the run's config.yaml, flat, without the places that only training needs; ResultsError where it is bad."""
    if not run.is_dir():
        problem = "is a file, not a folder" if run.exists() else "does not exist"
        raise PredictError(f"{run} {problem}; give the folder of one run")
    try:
        config = flatten(load_config(run / CONFIG_NAME))
    except FileNotFoundError:
        raise PredictError(
            f"{run} holds no {CONFIG_NAME}, so it is no run folder; give the folder of one run, the one with "
            f"{CONFIG_NAME} and prompt_learner/{_runs_below(run)}"
        ) from None
    except (OSError, ValueError) as error:
        raise PredictError(f"{run / CONFIG_NAME} cannot be read: {error}") from None
    if bad := wrong(config, NEEDED):
        raise PredictError(f"{run / CONFIG_NAME} has no valid {bad}")
    return {key: value for key, value in config.items() if not key.endswith(UNNEEDED)}


def _runs_below(folder: Path) -> str:
    runs = [file.parent for file in find_files(folder, RESULT_NAME)]
    shown = ", ".join(map(str, runs[:3])) + ", ..." * (len(runs) > 3)
    return f"; below it are {len(runs)}: {shown}" if runs else ""


def kept_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return, of a flat config, the keys that decide predictions or tell how they were learned.

    No path is among them but the backbone's.  Of the trainer's own keys all are: also what only bounds its memory.
    """
    own = f"TRAINER.{config['TRAINER.NAME']}.".upper()
    kept = {key for key in effective(config) if key.startswith(KEPT)}
    kept |= {key for key in config if key.upper().startswith(own)} | ({"PLUGINS"} if config.get("PLUGINS") else set())
    return {key: value for key, value in config.items() if key in kept and not key.endswith((*UNNEEDED, *DATA))}
