"""Short names for runs: `output/photos:PLOT@16` instead of the whole path of a run's folder.

    OUTPUT:METHOD             runs of a method (a trainer, or a name as in tables) below OUTPUT
    OUTPUT:METHOD@SHOTS       ... with so many shots, of every class: @16; or by another draw: @16-proportional
    OUTPUT:METHOD@SHOTS#SEED  ... and this seed
    OUTPUT:DATASET/METHOD...  ... on this data set, where OUTPUT holds several

Case does not matter.  A name must leave one run, but for its seed: of several seeds the first one is meant, or, where
the best run is asked for, the one with the highest test accuracy of all that are left.
`python -m results runs OUTPUT` lists the names.  A name that begins with hf:// is of a classifier on the Hugging Face
hub (hub.py).
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..files import ResultsError
from ..layout import draw_suffix
from ..methods import name_methods
from ..record import CONFIG_NAME, Run, find_runs
from .hub import fetch_export, is_on_hub

NAME = re.compile(
    r"(?:(?P<dataset>[^/@#]+)/)?(?P<method>[^/@#]*)(?:@(?P<shots>\d+)(?P<draw>-[a-z]+)?)?(?:#(?P<seed>\d+))?"
)


class Named(NamedTuple):
    """A complete run and what to call it."""

    name: str  # "output:PLOT@16#1"
    run: Run


def find_run(name: str, best: bool = False) -> Path:
    """Return the folder of the run that `name` stands for.

    Parameters
    ----------
    name
        A path, which is given back as it is, a short name (see above), or a name of the hub, whose file is fetched.
    best
        Choose, of all runs that match, or that are below a folder, the one with the highest test accuracy.

    Raises
    ------
    ResultsError
        Where no run matches, or several do (the message lists names), and where the hub's file cannot be had.
    """
    if is_on_hub(name):
        return fetch_export(name)
    path = Path(name)
    output, colon, pattern = name.rpartition(":")
    if path.exists() or not colon or not Path(output).is_dir():
        if not best or (path / CONFIG_NAME).exists() or not path.is_dir():
            return path
        output, pattern = name, ""
    parts = NAME.fullmatch(pattern)
    if parts is None:
        raise ResultsError(f"{name}: write OUTPUT:METHOD, with @SHOTS and #SEED where needed, as in output:PLOT@16#1")
    known = list_runs(output)
    matching = [named for named in known if _matches(named, parts.groupdict())]
    if not matching:
        raise ResultsError(f"{name} stands for no complete run; there are {_listed(known)}")
    if best:
        return max(matching, key=lambda named: named.run.accuracy).run.folder
    if len({_but_seed(named) for named in matching}) > 1:
        raise ResultsError(f"{name} stands for several runs: {_listed(matching)}; name one of them, or add --best")
    return min(matching, key=lambda named: named.run.seed).run.folder


def list_runs(output: str | Path) -> list[Named]:
    """Return the complete runs below a folder with their short names, in the order of the tables."""
    methods = name_methods([run for run in find_runs(output) if run.complete])
    variants = [members[0].trainer for members in methods.values()]
    datasets = {run.dataset for members in methods.values() for run in members}
    named = []
    for method, members in methods.items():
        label = method if variants.count(members[0].trainer) > 1 else members[0].trainer
        for run in sorted(members, key=lambda run: (run.dataset, run.draw, run.shots, run.seed)):
            name = f"{output}:" + (f"{run.dataset}/" if len(datasets) > 1 else "") + label
            name += f"@{run.shots}{draw_suffix(run.draw)}" if run.shots > 0 else ""
            name += f"#{run.seed}" if run.seed >= 0 else ""
            named.append(Named(name, run))
    return named


def _matches(named: Named, parts: dict[str, str | None]) -> bool:
    label = named.name.rpartition(":")[2].rpartition("/")[2].partition("@")[0].partition("#")[0]
    method = (parts["method"] or "").lower()
    return (
        method in ("", label.lower(), named.run.trainer.lower())
        and (parts["dataset"] or named.run.dataset).lower() == named.run.dataset.lower()
        and (parts["shots"] is None or int(parts["shots"]) == named.run.shots)
        and (parts["shots"] is None or (parts["draw"] or "") == draw_suffix(named.run.draw))
        and (parts["seed"] is None or int(parts["seed"]) == named.run.seed)
    )


def _but_seed(named: Named) -> tuple[str, str]:
    return named.name.partition("#")[0], named.run.classes


def _listed(named: Sequence[Named], most: int = 12) -> str:
    shown = ", ".join(f'"{entry.name}"' if " " in entry.name else entry.name for entry in named[:most])
    return shown + (f", ... ({len(named)} in all)" if len(named) > most else "")


def add_run_argument(parser: argparse.ArgumentParser, help: str = "folder of one trained run") -> None:
    """Declare RUN and --best; `run_of` reads them."""
    parser.add_argument("folder", metavar="RUN", help=f"{help}, or a short name for it such as output:PLOT@16")
    text = "of the runs that RUN stands for (or that are below that folder), the one with the highest test accuracy"
    parser.add_argument("--best", action="store_true", help=text)


def run_of(args: argparse.Namespace) -> Path:
    """Return the folder of the run that a command line names; ResultsError as in `find_run`."""
    return find_run(args.folder, args.best)
