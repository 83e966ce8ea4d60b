"""The evaluation protocols of this literature, read from a tree of run folders.

    few-shot        accuracy at 1 to 16 shots, per data set and over data sets
    base to new     trained on the first half of the classes, tested on both; harmonic mean
    cross-data-set  trained on ImageNet, tested on other data sets
    domain shift    trained on ImageNet, tested on its variants

Folders say what a run is (their names are the original's), so trees of other programs are read too: the accuracy comes
from result.json, or where there is none from the newest complete log.
"""

from __future__ import annotations

import os
import re
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from dassl.plain.text import printable
from datasets import declared
from runs.files import ResultsError
from runs.methods import mark
from runs.record import Run, read_run

from .parse import ParseOptions, deviation, newest_result
from .summary import Average

# Folder name -> name in tables, in the usual order: the eleven of the few-shot protocol, and ImageNet's variants.
DATASETS, DOMAINS = (
    {kind.config: kind.table_name for kind in declared() if kind.benchmark == benchmark}
    for benchmark in ("fewshot", "domain")
)
SOURCE = "imagenet"  # of cross-data-set and domain shift
SEEDS = (1, 2, 3)
ZERO_SHOT = 0

_METHOD = r"(?P<trainer>[^/]+)/(?P<config>[^/]+)"
_SHOTS = r"_(?P<shots>\d+)shots(?:/(?P<context>nctx[^/]+))?"
_SEED = r"/seed(?P<seed>\d+)$"
_TRAINED = rf"(?:^|/)(?:OP_N(?P<prompts>\d+(?:_M\d+)?)/)?(?P<dataset>[^/]+)/{_METHOD}{_SHOTS}{_SEED}"
_ZERO = r"(?:^|/)(?P<trainer>ZeroshotCLIP2?)/(?P<config>[^/]+)/(?P<dataset>[^/]+)$"
_HALF = rf"/(?P<dataset>[^/]+)/shots_(?P<shots>\d+)/{_METHOD}{_SEED}"
_TRANSFER = rf"(?:^|/)evaluation/{_METHOD}{_SHOTS}/(?!nctx)(?P<dataset>[^/]+){_SEED}"


class Layout(NamedTuple):
    """Folders of one kind; `part` is the column that their accuracy belongs to."""

    part: str
    pattern: re.Pattern[str]
    test_log: bool = False  # the logs hold an evaluation, and no training
    classes: str = "all"


@dataclass(frozen=True)
class Protocol:
    """What belongs to a table: where its runs are, and which data sets it has when it is complete."""

    name: str
    title: str
    layouts: tuple[Layout, ...]
    datasets: tuple[str, ...]  # of the average
    parts: tuple[str, ...] = ("",)
    by_shots: bool = False  # one column each, instead of one method each

    @property
    def transfers(self) -> bool:
        """Whether one data set, the source, was trained on, and the others are only tested."""
        return self.name in ("crossdataset", "domain")

    def wants(self, dataset: str) -> bool:
        if self.name == "domain":
            return dataset in (*DOMAINS, SOURCE)
        return self.name != "crossdataset" or dataset not in DOMAINS


_TESTS = (
    Layout("", re.compile(_TRANSFER), test_log=True),
    Layout("", re.compile(_TRAINED.replace("(?P<dataset>[^/]+)", f"(?P<dataset>{SOURCE})"))),
    Layout("", re.compile(_ZERO), test_log=True),
)
PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "fewshot",
            "Few-shot classification",
            (Layout("", re.compile(_TRAINED)), Layout("", re.compile(_ZERO), test_log=True)),
            tuple(DATASETS),
            by_shots=True,
        ),
        Protocol(
            "base2new",
            "Base-to-new generalisation",
            (
                Layout("base", re.compile(rf"(?:^|/)train_base{_HALF}"), classes="base"),
                Layout("new", re.compile(rf"(?:^|/)test_new{_HALF}"), test_log=True, classes="new"),
            ),
            tuple(DATASETS),
            parts=("base", "new"),
        ),
        Protocol("crossdataset", "Cross-data-set transfer", _TESTS, tuple(name for name in DATASETS if name != SOURCE)),
        Protocol("domain", "Domain generalisation", _TESTS, tuple(DOMAINS)),
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
    mark: str = ""  # as `methods.mark` says of the runs

    @property
    def trained(self) -> bool:
        return not self.trainer.startswith("Zeroshot")


class Result(NamedTuple):
    """One run folder; `problem` says why it has no accuracy."""

    folder: Path
    method: Method
    dataset: str
    part: str
    shots: int
    seed: int  # -1 for methods without training
    accuracy: float | None
    problem: str


def find_results(output: str | Path, protocol: Protocol) -> list[Result]:
    """Every run folder of the protocol at or below `output`.  Raises ResultsError where there is none."""
    output = Path(output)
    if not output.is_dir():
        raise ResultsError(f"{output} is no folder; give the output folder of finished runs")
    folders = list(_folders(output))
    results = [result for folder in folders if (result := _read(folder, protocol)) is not None]
    if protocol.transfers:  # a few-shot run on the source belongs here only if it was tested elsewhere
        tested = {one.method for one in results if one.dataset != SOURCE}
        results = [one for one in results if one.method in tested]
    if protocol.by_shots:  # and what only learned on the source, to be tested elsewhere, is no few-shot method
        matches = [re.search(_TRANSFER, folder.as_posix()) for folder in folders]
        transfers = {(match["trainer"], match["config"]) for match in matches if match}
        swept = {one.method for one in results if one.dataset != SOURCE}
        results = [
            one
            for one in results
            if one.method in swept or (one.method.trainer, one.method.config) not in transfers
        ]
    if not results:
        raise ResultsError(
            f"{output} holds no run of {protocol.title.lower()}: no folder has the names of this protocol "
            f"(`python -m results {protocol.name} --help` tells them)"
        )
    return results


def _folders(output: Path) -> Iterator[Path]:
    for folder, children, _ in os.walk(output.resolve()):
        children[:] = sorted(child for child in children if not child.startswith("."))
        yield Path(folder)


def _read(folder: Path, protocol: Protocol) -> Result | None:
    for layout in protocol.layouts:
        match = layout.pattern.search(folder.as_posix())
        if match is None:
            continue
        names = {key: name and printable(name) for key, name in match.groupdict().items()}
        if not protocol.wants(names["dataset"]):
            return None
        shots, seed = int(names.get("shots") or ZERO_SHOT), int(names.get("seed") or -1)
        run = read_run(folder)
        method = Method(
            names["trainer"],
            names.get("prompts") or "",
            names["config"],
            names.get("context") or "",
            0 if protocol.by_shots else shots,
            mark(run),
        )
        accuracy, problem = _accuracy(run, layout, seed)
        return Result(folder, method, names["dataset"], layout.part, shots, seed, accuracy, problem)
    return None


def _accuracy(run: Run, layout: Layout, seed: int) -> tuple[float | None, str]:
    """(accuracy in %, "") or (None, why there is none)."""
    if not (run.folder / "result.json").exists():
        found = newest_result(run.folder, ParseOptions(test_log=layout.test_log))
        return (found[1], "") if found else (None, "no result.json and no complete log: not finished")
    if not run.complete:
        return None, run.problem
    for what, is_, due in (
        ("seed", run.seed, seed),
        ("classes", run.classes, layout.classes),
        ("split", run.split, "test"),
    ):
        if is_ != due:
            return None, f"result.json is of {what} {is_!r}, but the folder's place is for {due!r}"
    return run.accuracy, ""


# --- numbers ---------------------------------------------------------------------------------------------


def harmonic_mean(base: float, new: float) -> float:
    """2 base new / (base + new), for accuracies of at least 0; 0 where both are."""
    return 2 * base * new / (base + new) if base + new else 0.0


@dataclass(frozen=True)
class Cell:
    """The accuracies of one method in one place, by seed."""

    values: dict[int, float]
    expected: int

    @property
    def mean(self) -> float | None:
        return statistics.fmean(self.values.values()) if self.values else None

    @property
    def missing(self) -> int:
        return max(0, self.expected - len(self.values))

    def spread(self, options: ParseOptions) -> float | None:
        """None for fewer than two seeds."""
        return deviation(list(self.values.values()), options) if len(self.values) > 1 else None


@dataclass
class Grid:
    """All cells of a protocol: {(method name, data set, part, shots): cell}; shots is 0 except in few-shot."""

    protocol: Protocol
    methods: list[str]
    datasets: list[str]  # rows, source first
    shots: list[int]
    seeds: list[int]
    cells: dict[tuple[str, str, str, int], Cell]
    problems: list[Result] = field(default_factory=list)  # folders without a result
    repeated: list[Result] = field(default_factory=list)  # folders whose place another one has taken

    @property
    def missing(self) -> int:
        return sum(cell.missing for cell in self.cells.values())

    @property
    def averaged(self) -> list[str]:
        """The data sets of the average: not the source of a transfer."""
        return [name for name in self.datasets if not (self.protocol.transfers and name == SOURCE)]

    def cell(self, method: str, dataset: str, part: str = "", shots: int = 0) -> Cell | None:
        """None where nothing is expected: a trained method at 0 shots, an untrained one elsewhere."""
        return self.cells.get((method, dataset, part, shots))

    def harmonic(self, method: str, dataset: str) -> float | None:
        """Of the means over seeds, as the literature does."""
        base, new = (self.cells[method, dataset, part, 0].mean for part in ("base", "new"))
        return None if base is None or new is None else harmonic_mean(base, new)

    def harmonic_by_seed(self, method: str, dataset: str) -> float | None:
        """Mean over the seeds that have both, of the harmonic mean of each."""
        base, new = (self.cells[method, dataset, part, 0].values for part in ("base", "new"))
        seeds = base.keys() & new.keys()
        return statistics.fmean(harmonic_mean(base[seed], new[seed]) for seed in sorted(seeds)) if seeds else None

    def average(self, method: str, part: str = "", shots: int = 0) -> Average | None:
        """Mean over data sets of the means over seeds."""
        cells = [cell for name in self.averaged if (cell := self.cell(method, name, part, shots)) is not None]
        if not cells:
            return None
        means = [cell.mean for cell in cells if cell.mean is not None]
        missing = sum(cell.missing for cell in cells)
        return Average(statistics.fmean(means) if means else None, len(means), len(cells), missing)

    def average_harmonic(self, method: str) -> Average:
        """Harmonic mean of the two averages (not the average of harmonic means), over the data sets that have both."""
        pairs = [[self.cells[method, name, part, 0] for part in ("base", "new")] for name in self.averaged]
        whole = [(base.mean, new.mean) for base, new in pairs if base.mean is not None and new.mean is not None]
        mean = harmonic_mean(*(statistics.fmean(half) for half in zip(*whole, strict=True))) if whole else None
        return Average(mean, len(whole), len(pairs), sum(cell.missing for pair in pairs for cell in pair))


def arrange(
    results: Sequence[Result],
    protocol: Protocol,
    datasets: Sequence[str] | None = None,
    shots: Sequence[int] | None = None,
    seeds: Sequence[int] | None = None,
) -> Grid:
    """Sort results into cells.

    Expected of every method: the data sets and shots that occur anywhere, and the three published seeds with any
    others that occur; each list can be given instead, and then is exactly what counts.  The schedule in a config's
    name (rn50_ep50) tells no methods apart, since the published one depends on shots, unless two runs of one place
    differ in it.
    """
    results = _merge_schedules(results) if protocol.by_shots else list(results)
    methods = sorted({one.method for one in results}, key=_rank)
    trained = [one for one in results if one.method.trained]
    rows = list(datasets) if datasets else sorted({one.dataset for one in results}, key=_place)
    due_seeds = sorted(set(seeds) if seeds else {*SEEDS, *(one.seed for one in trained)})
    columns = sorted(set(shots) if shots else {one.shots for one in trained}) if protocol.by_shots else [0]

    kept: dict[tuple[Method, str, str, int, int], Result] = {}
    repeated = []
    for one in sorted(results, key=lambda one: (one.accuracy is None, str(one.folder))):
        key = (one.method, one.dataset, one.part, one.shots if protocol.by_shots else 0, one.seed)
        if key in kept:
            repeated.append(one)
        else:
            kept[key] = one
    labels = _labels(methods)
    cells = {}
    for method in methods:
        for name in rows:
            for part in protocol.parts:
                for count in columns if method.trained or not protocol.by_shots else [ZERO_SHOT]:
                    due = due_seeds if method.trained else [-1]
                    there = [kept.get((method, name, part, count, seed)) for seed in due]
                    values = {one.seed: one.accuracy for one in there if one and one.accuracy is not None}
                    cells[labels[method], name, part, count] = Cell(values, len(due))
    if protocol.by_shots and any(not method.trained for method in methods):
        columns = [ZERO_SHOT, *columns]
    problems = [one for one in results if one.problem]
    names = [labels[method] for method in methods]
    return Grid(protocol, names, rows, columns, due_seeds, cells, problems, repeated)


def _rank(method: Method) -> tuple:
    """Methods without training first, then by name; N=4 before N=16."""
    return method.trained, method.trainer, [int(count) for count in re.findall(r"\d+", method.prompts)], method


def _place(dataset: str) -> tuple[int, str]:
    known = [*DATASETS, *DOMAINS]
    return (known.index(dataset) if dataset in known else len(known)), dataset


def _merge_schedules(results: Sequence[Result]) -> list[Result]:
    """Drop _ep50 and the like from the names of configs, but not where this would put two runs into one place."""

    def short(one: Result) -> Result:
        return one._replace(method=one.method._replace(config=re.sub(r"_ep\d+(?=_|$)", "", one.method.config)))

    if not any(one.method.config != short(one).method.config for one in results):
        return list(results)
    configs: dict[tuple, set[str]] = {}
    for one in results:
        key = short(one)
        place = (key.method, one.dataset, one.part, one.shots, one.seed)
        configs.setdefault(place, set()).add(one.method.config)
    apart = {place[0] for place, names in configs.items() if len(names) > 1}
    return [one if short(one).method in apart else short(one) for one in results]


def _labels(methods: Iterable[Method]) -> dict[Method, str]:
    """ "PLOT N=4 rn50"; with the context or the shots where they make the difference."""
    methods = list(methods)
    labels = {}
    for method in methods:
        alike = [other for other in methods if other[:3] == method[:3]]
        parts = [method.trainer, f"N={method.prompts}".replace("_M", " M=") if method.prompts else "", method.config]
        parts += [method.context] if len({other.context for other in alike}) > 1 else []
        parts += [f"{method.shots} shots"] if len({other.shots for other in alike}) > 1 else []
        labels[method] = " ".join(filter(None, parts)) + method.mark
    return labels
