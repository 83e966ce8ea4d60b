"""The results of a protocol, sorted into the cells of its table, with the averages and harmonic means beside them.

The literature computes the harmonic mean of base and new accuracy from the means over seeds, and on average over data
sets from the two averages; `Grid` does the same, and offers the mean over seeds of each seed's harmonic mean besides,
since the two differ.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from datasets.draws import PER_CLASS
from runs.record import Run

from ..cells import ZERO_SHOT, Average, Cell, average
from .trees import DATASETS, DOMAINS, HALVES, SOURCE, Method, Protocol, Result

SEEDS = (1, 2, 3)  # of the publications


def harmonic_mean(base: float, new: float) -> float:
    """Return 2 base new / (base + new), for accuracies of at least 0; 0 where both are."""
    return 2 * base * new / (base + new) if base + new else 0.0


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
        """How many expected runs are not there."""
        return sum(cell.missing for cell in self.cells.values())

    def runs_by_method(self) -> dict[str, list[Run]]:
        """List the runs that every method has in the table."""
        return {
            method: [result.run for (name, *_), cell in self.cells.items() if name == method for result in cell.runs]
            for method in self.methods
        }

    @property
    def averaged(self) -> list[str]:
        """The data sets of the average: not the source of a transfer."""
        return [name for name in self.datasets if not (self.protocol.transfers and name == SOURCE)]

    def cell(self, method: str, dataset: str, part: str = "", shots: int = 0) -> Cell | None:
        """None where nothing is expected: a trained method at 0 shots, an untrained one elsewhere."""
        return self.cells.get((method, dataset, part, shots))

    def halves(self, method: str, dataset: str) -> list[Cell]:
        """Return the cells of the base and of the new classes."""
        return [self.cells[method, dataset, part, 0] for part in HALVES]

    def harmonic(self, method: str, dataset: str) -> float | None:
        """Take the harmonic mean of the means over seeds, as the literature does."""
        base, new = (cell.mean for cell in self.halves(method, dataset))
        return None if base is None or new is None else harmonic_mean(base, new)

    def harmonic_by_seed(self, method: str, dataset: str) -> float | None:
        """Average the harmonic mean of each seed, over the seeds that have both halves."""
        base, new = (cell.by_seed for cell in self.halves(method, dataset))
        seeds = sorted(base.keys() & new.keys())
        return statistics.fmean(harmonic_mean(base[seed], new[seed]) for seed in seeds) if seeds else None

    def average(self, method: str, part: str = "", shots: int = 0) -> Average | None:
        """Average the means over seeds over data sets; None where no cell is expected."""
        cells = [cell for name in self.averaged if (cell := self.cell(method, name, part, shots)) is not None]
        return average(cells) if cells else None

    def average_harmonic(self, method: str) -> Average:
        """Harmonic mean of the two averages (not the average of harmonic means), over the data sets that have both."""
        pairs = [self.halves(method, name) for name in self.averaged]
        means = [(base.mean, new.mean) for base, new in pairs if base.mean is not None and new.mean is not None]
        mean = harmonic_mean(*(statistics.fmean(half) for half in zip(*means, strict=True))) if means else None
        return Average(mean, len(means), len(pairs), sum(cell.missing for pair in pairs for cell in pair))


def arrange(
    results: Sequence[Result],
    protocol: Protocol,
    datasets: Sequence[str] | None = None,
    shots: Sequence[int] | None = None,
    seeds: Sequence[int] | None = None,
) -> Grid:
    """Sort results into cells.

    The schedule in a config's name (rn50_ep50) tells no methods apart, since the published one depends on shots, unless
    two runs of one place differ in it.

    Parameters
    ----------
    results, protocol
        What `find_results` returned for the protocol.
    datasets, shots, seeds
        What is expected of every method, and then exactly what counts.  By default: the data sets and shots that occur
        anywhere, and the three published seeds with any others that occur.
    """
    results = _merge_schedules(results) if protocol.by_shots else list(results)
    methods = sorted({result.method for result in results}, key=_rank)
    trained = [result for result in results if result.method.trained]
    rows = list(datasets) if datasets else sorted({result.dataset for result in results}, key=_place)
    expected = sorted(set(seeds) if seeds else {*SEEDS, *(result.seed for result in trained)})
    columns = sorted(set(shots) if shots else {result.shots for result in trained}) if protocol.by_shots else [0]

    chosen: dict[tuple[Method, str, str, int, int], Result] = {}
    repeated = []
    for result in sorted(results, key=lambda result: (result.accuracy is None, str(result.folder))):
        count = result.shots if protocol.by_shots else 0
        key = (result.method, result.dataset, result.part, count, result.seed)
        if chosen.setdefault(key, result) is not result:
            repeated.append(result)
    labels = _labels(methods)
    cells = {}
    for method in methods:
        for name in rows:
            for part in protocol.parts:
                for count in columns if method.trained or not protocol.by_shots else [ZERO_SHOT]:
                    wanted = expected if method.trained else [-1]
                    places = [chosen.get((method, name, part, count, seed)) for seed in wanted]
                    done = [result for result in places if result and result.accuracy is not None]
                    cells[labels[method], name, part, count] = Cell(done, len(wanted))
    if protocol.by_shots and any(not method.trained for method in methods):
        columns = [ZERO_SHOT, *columns]
    problems = [result for result in results if result.problem]
    names = [labels[method] for method in methods]
    return Grid(protocol, names, rows, columns, expected, cells, problems, repeated)


def _rank(method: Method) -> tuple:
    """Methods without training first, then by name; N=4 before N=16."""
    return method.trained, method.trainer, [int(count) for count in re.findall(r"\d+", method.prompts)], method


def _place(dataset: str) -> tuple[int, str]:
    """Sort data sets in the usual order, others last and by name."""
    known = [*DATASETS, *DOMAINS]
    return (known.index(dataset) if dataset in known else len(known)), dataset


def _merge_schedules(results: Sequence[Result]) -> list[Result]:
    """Drop _ep50 and the like from the names of configs, but not where this would put two runs into one place."""

    def short(result: Result) -> Result:
        config = re.sub(r"_ep\d+(?=_|$)", "", result.method.config)
        return result._replace(method=result.method._replace(config=config))

    configs: dict[tuple, set[str]] = {}
    for result in results:
        key = short(result)
        place = (key.method, result.dataset, result.part, result.shots, result.seed)
        configs.setdefault(place, set()).add(result.method.config)
    apart = {place[0] for place, names in configs.items() if len(names) > 1}
    return [result if short(result).method in apart else short(result) for result in results]


def _labels(methods: Iterable[Method]) -> dict[Method, str]:
    """Name methods: "PLOT N=4 rn50", with the context or the shots where they make the difference.

    Another draw of the few shots than the default is always named.
    """
    methods = list(methods)
    labels = {}
    for method in methods:
        alike = [other for other in methods if other[:3] == method[:3]]
        parts = [method.trainer, f"N={method.prompts}".replace("_M", " M=") if method.prompts else "", method.config]
        parts += [method.context] if len({other.context for other in alike}) > 1 else []
        parts += [f"{method.shots} shots"] if len({other.shots for other in alike}) > 1 else []
        parts += [f"{method.draw} draw"] if method.draw not in ("", PER_CLASS) else []
        labels[method] = " ".join(filter(None, parts)) + method.mark
    return labels
