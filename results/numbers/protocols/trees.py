"""The evaluation protocols of this literature, and their results in a tree of run folders.

    few-shot        accuracy at 1 to 16 shots, per data set and over data sets
    base to new     trained on the first half of the classes, tested on both; harmonic mean
    cross-data-set  trained on ImageNet, tested on other data sets
    domain shift    trained on ImageNet, tested on its variants

Here, unlike in `summary`, the names of folders say what a run is.  They are those of the published code, so that trees
of other programs are read too: the accuracy comes from result.json, or where there is none from the newest complete
log.  `grid` sorts what is found here into the cells of a table.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from dassl.plain.text import printable
from datasets import declared
from datasets.draws import PER_CLASS
from runs.files import ResultsError, visible_folders
from runs.layout import BASE_CLASSES, FEW_SHOT, NEW_CLASSES, TRANSFER, ZERO_SHOT, Layout
from runs.methods import mark
from runs.record import Run, read_run

from .logs import LogOptions, newest_result

# Folder name -> name in tables, in the usual order: the eleven of the few-shot protocol, and ImageNet's variants.
DATASETS, DOMAINS = (
    {kind.config: kind.table_name for kind in declared() if kind.benchmark == benchmark}
    for benchmark in ("fewshot", "domain")
)
SOURCE = "imagenet"  # of cross-data-set and domain shift
HALVES = ("base", "new")  # of the classes


class Place(NamedTuple):
    """Folders of one kind; `part` is the column that their accuracy belongs to."""

    layout: Layout
    part: str = ""
    test_log: bool = False  # the logs hold an evaluation, and no training
    classes: str = "all"


@dataclass(frozen=True)
class Protocol:
    """What belongs to a table: where its runs are, and which data sets it has when it is complete."""

    name: str
    title: str
    places: tuple[Place, ...]
    datasets: tuple[str, ...]  # of the average
    parts: tuple[str, ...] = ("",)
    by_shots: bool = False  # one column each, instead of one method each

    @property
    def transfers(self) -> bool:
        """Whether one data set, the source, was trained on, and the others are only tested."""
        return self.name in ("crossdataset", "domain")

    def wants(self, dataset: str) -> bool:
        """Whether runs on the data set of this folder name belong to the protocol."""
        if self.name == "domain":
            return dataset in (*DOMAINS, SOURCE)
        return self.name != "crossdataset" or dataset not in DOMAINS


_TARGETS = tuple(name for name in DATASETS if name != SOURCE)
_UNTRAINED = Place(ZERO_SHOT, test_log=True)
_ON_SOURCE = Place(replace(FEW_SHOT, patterns={"dataset": SOURCE}))
_TRANSFERS = (Place(TRANSFER, test_log=True), _ON_SOURCE, _UNTRAINED)
_HALVES = (
    Place(BASE_CLASSES, "base", classes="base"),
    Place(NEW_CLASSES, "new", test_log=True, classes="new"),
)
PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("fewshot", "Few-shot classification", (Place(FEW_SHOT), _UNTRAINED), tuple(DATASETS), by_shots=True),
        Protocol("base2new", "Base-to-new generalisation", _HALVES, tuple(DATASETS), parts=HALVES),
        Protocol("crossdataset", "Cross-data-set transfer", _TRANSFERS, _TARGETS),
        Protocol("domain", "Domain generalisation", _TRANSFERS, tuple(DOMAINS)),
    )
}


# --- runs ------------------------------------------------------------------------------------------------


class Method(NamedTuple):
    """What tells methods apart, as far as folders tell."""

    trainer: str
    prompts: str  # PLOT's N, PLOT++'s N_M, or ""
    config: str
    context: str  # "nctx16_cscFalse_ctpend", or ""
    shots: int  # of the training; 0 where shots are columns, and for methods without training
    draw: str = ""  # of these shots: per_class or proportional; "" without training
    mark: str = ""  # as `methods.mark` says of the runs
    trained: bool = True  # by the record, or else by the kind of folder


class Result(NamedTuple):
    """One run folder of a protocol.

    Its place in the tree says what it is, its record or log how good; `problem` says why it has no accuracy.
    """

    folder: Path
    method: Method
    dataset: str
    part: str
    shots: int
    seed: int  # -1 for methods without training
    accuracy: float | None
    problem: str
    run: Run


def find_results(output: str | Path, protocol: Protocol) -> list[Result]:
    """Read every run folder of the protocol at or below `output`.

    Two kinds of runs lie under names of this protocol without belonging to it. For a transfer, a few-shot run on the
    source counts only if it was also tested elsewhere; for few-shot, a method that was trained on the source only to be
    tested elsewhere does not.

    Raises
    ------
    ResultsError
        Where there is no such folder, or no run of the protocol in it.
    """
    output = Path(output)
    if not output.is_dir():
        raise ResultsError(f"{output} is no folder; give the output folder of finished runs")
    folders = [folder for folder, _ in visible_folders(output.resolve())]
    results = [result for folder in folders if (result := _read(folder, protocol)) is not None]
    if protocol.transfers:  # a few-shot run on the source belongs here only if it was tested elsewhere
        tested = {result.method for result in results if result.dataset != SOURCE}
        results = [result for result in results if result.method in tested]
    if protocol.by_shots:  # and what only learned on the source, to be tested elsewhere, is no few-shot method
        matches = map(TRANSFER.match, map(Path.as_posix, folders))
        transfers = {(match["trainer"], match["config"]) for match in matches if match}
        swept = {result.method for result in results if result.dataset != SOURCE}
        results = [
            result
            for result in results
            if result.method in swept or (result.method.trainer, result.method.config) not in transfers
        ]
    if not results:
        raise ResultsError(
            f"{output} holds no run of {protocol.title.lower()}: no folder has the names of this protocol "
            f"(`python -m results {protocol.name} --help` tells them)"
        )
    return results


def _read(folder: Path, protocol: Protocol) -> Result | None:
    """Read a folder by the first place that its path fits; None where it is no run of the protocol."""
    for place in protocol.places:
        match = place.layout.match(folder.as_posix())
        if match is None:
            continue
        names = {key: printable(name) for key, name in match.items()}
        if not protocol.wants(names["dataset"]):
            return None
        shots, seed = int(names.get("shots", 0)), int(names.get("seed", -1))
        draw = names.get("draw", "").removeprefix("-") or (PER_CLASS if shots else "")
        run = read_run(folder)
        method = Method(
            names["trainer"],
            names.get("prompts", ""),
            names["config"],
            names.get("context", ""),
            0 if protocol.by_shots else shots,
            draw,
            mark(run),
            place.layout is not ZERO_SHOT and run.trained,
        )
        accuracy, problem = _accuracy(run, place, seed, draw)
        return Result(folder, method, names["dataset"], place.part, shots, seed, accuracy, problem, run)
    return None


def _accuracy(run: Run, place: Place, seed: int, draw: str) -> tuple[float | None, str]:
    """Return (accuracy in %, ""), or (None, why there is none).

    A record is believed only where it is of the seed, draw, classes and split that its place in the tree stands for.
    (That of a test on other data says nothing of the draw of the training images.)
    """
    if not (run.folder / "result.json").exists():
        newest = newest_result(run.folder, LogOptions(test_log=place.test_log))
        return (newest[1], "") if newest else (None, "no result.json and no complete log: not finished")
    if not run.complete:
        return None, run.problem
    for what, actual, expected in (
        ("seed", run.seed, seed),
        ("draw", run.draw or draw, draw),
        ("classes", run.classes, place.classes),
        ("split", run.split, "test"),
    ):
        if actual != expected:
            return None, f"result.json is of {what} {actual!r}, but the folder's place is for {expected!r}"
    return run.accuracy, ""
