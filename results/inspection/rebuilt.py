"""The run that is looked into, and how it is rebuilt."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dassl.plain.devices import AUTO
from dassl.utils.logger import quiet
from runs.restore.rebuilding import load_trainer


@dataclass(frozen=True)
class RunAtRest:
    """The folder of a finished run, and where the parts are now that it names.

    Parameters
    ----------
    folder
        Of the run.
    backbone
        Path of the weights, if they have moved.
    root
        Folder of the data sets, if they have moved.
    verbose
        Whether what building the model prints is shown.
    device
        Where to compute, as of --device.
    """

    folder: Path
    backbone: str = ""
    root: str = ""
    verbose: bool = False
    device: str = AUTO

    def rebuild(self, classnames: Sequence[str] | None = None) -> Any:
        """Build its trainer, with what it learned; given class names, no data set is read.

        Raises
        ------
        ResultsError
            For whatever is missing or wrong.
        """
        return load_trainer(
            self.folder, self.backbone, self.root, classnames, verbose=self.verbose, device=self.device
        )

    def quiet(self) -> AbstractContextManager[Any]:
        """Keep stdout clean of what the engine prints, unless `verbose`."""
        return quiet(not self.verbose)
