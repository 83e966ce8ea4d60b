"""From runs to answers: paired differences in every world, tested in the families of the design.

Everything that the design asks is a `Question`; `answer` looks up the runs, and says it in the words of
docs/transport.md: helps, hurts, same, cannot be seen.  Nothing is chosen here by what came out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dassl.plain.writing import atomic_write
from results.numbers.cells import Spread, spread
from results.numbers.comparison import holm
from results.numbers.paired import LEVEL, Difference, paired
from results.tables.layout import Block, csv_text, show_document, show_mean
from runs.files import ResultsError
from runs.predictions import correct_images, images_of
from runs.record import Run, find_runs

from .design import DESIGN, METHODS, PHOTOGRAPHS, REFERENCE, WORLDS, cells

FEWEST_SEEDS = 2
VERDICTS = HELPS, HURTS, SAME, UNSEEN = "helps", "hurts", "same", "cannot be seen"
SELECTED = ("best 4, ot", "best 4, uniform")  # the methods between which a selection of places is the same
Runs = dict[str, dict[str, dict[int, Run]]]  # world -> method -> seed -> run


@dataclass(frozen=True)
class Question:
    """What is compared: `first` minus `second` in a world; for a contrast, minus the same in the world `less`."""

    family: str
    world: str
    first: str
    second: str
    less: str = ""

    @property
    def name(self) -> str:
        """Where, in words."""
        return f"{self.world} - {self.less}" if self.less else self.world


@dataclass(frozen=True)
class Answer:
    """A question with its difference in points, and its p value after Holm's correction in its family."""

    question: Question
    difference: Difference
    seeds: int
    p_holm: float = 1.0

    @property
    def verdict(self) -> str:
        """HELPS or HURTS beyond chance; SAME where a difference that matters is ruled out; else UNSEEN."""
        if self.p_holm < LEVEL:
            return HELPS if self.difference.difference > 0 else HURTS
        within = max(-self.difference.low, self.difference.high) <= DESIGN["matters"]
        return SAME if within else UNSEEN


def questions() -> Iterator[Question]:
    """List what the design asks, family by family."""
    for world in WORLDS:
        yield Question("1 transport", world, "ot", REFERENCE)
    for more, less in DESIGN["contrasts"]:
        yield Question("2 contrasts", more, "ot", REFERENCE, less)
    for world in WORLDS:
        for method in METHODS:
            if method not in ("ot", REFERENCE):
                yield Question("3 other matchings", world, method, REFERENCE)
        yield Question("3 other matchings", world, *SELECTED)
    for world in DESIGN["strengths"]["worlds"]:
        for method in DESIGN["strengths"]["methods"]:
            yield Question("4 epsilon and N", world, method, REFERENCE)
    for world in DESIGN["prompts"]["worlds"]:
        for method in DESIGN["prompts"]["methods"]:
            if method.startswith("ot"):
                yield Question("4 epsilon and N", world, method, method.replace("ot", REFERENCE))
    for method in DESIGN["photographs"]["methods"]:
        if method != "ot":
            yield Question("5 photographs", PHOTOGRAPHS, method, "ot")


def read_runs(output: Path) -> Runs:
    """Read the complete runs of the design below the folder of a study.

    Raises
    ------
    ResultsError
        Where there is none.
    """
    runs: Runs = {}
    by_folder = {cell.folder: cell for cell in cells()}
    folder = output / "runs"
    for run in find_runs(folder) if folder.is_dir() else ():
        cell = by_folder.get("/".join(run.folder.relative_to(folder).parts[:2]))
        if cell and run.complete:
            runs.setdefault(cell.world, {}).setdefault(cell.method, {})[run.seed] = run
    if not runs:
        raise ResultsError(f"no complete run of the study below {output}; `python -m study run` makes them")
    return runs


def answers(runs: Runs) -> list[Answer]:
    """Answer every question whose methods share at least FEWEST_SEEDS seeds, and correct each family."""
    families: dict[str, list[Answer]] = {}
    for question in questions():
        if reply := answer(runs, question):
            families.setdefault(question.family, []).append(reply)
    return [
        replace(reply, p_holm=p)
        for family in families.values()
        for reply, p in zip(family, holm([reply.difference.p for reply in family]), strict=True)
    ]


def answer(runs: Runs, question: Question) -> Answer | None:
    """Compare on the seeds that both methods have; None where there are too few."""
    more = _compare(runs, question.world, question)
    if more is None or not question.less:
        return more
    less = _compare(runs, question.less, question)
    if less is None:
        return None
    return replace(more, difference=_minus(more.difference, less.difference), seeds=min(more.seeds, less.seeds))


def _compare(runs: Runs, world: str, question: Question) -> Answer | None:
    first, second = (runs.get(world, {}).get(method, {}) for method in (question.first, question.second))
    seeds = sorted(first.keys() & second.keys())
    if len(seeds) < FEWEST_SEEDS:
        return None
    images = {images_of(run[seed]) for run in (first, second) for seed in seeds}
    if len(images) != 1 or "" in images:
        raise ResultsError(
            f"the runs of {world!r} were not all tested on the same images, or kept no predictions; "
            "make them again in an empty folder (--output)"
        )
    return Answer(question, paired(_correct(first, seeds), _correct(second, seeds)), len(seeds))


def _correct(runs: Mapping[int, Run], seeds: Sequence[int]) -> np.ndarray:
    """(S, n) which images were right under each seed."""
    rows = [correct_images(runs[seed]) for seed in seeds]
    return np.stack([row for row in rows if row is not None])


def _minus(first: Difference, second: Difference) -> Difference:
    """Subtract two differences as if they were independent, with Welch's degrees of freedom."""
    variances = first.standard_error**2, second.standard_error**2
    slack = variances[0] ** 2 / first.degrees + variances[1] ** 2 / second.degrees
    degrees = sum(variances) ** 2 / slack if slack else math.inf
    return Difference(first.difference - second.difference, math.sqrt(sum(variances)), degrees)


# ---- tables
TITLE = """# The study of the transport: all numbers

Made by `python -m study analyse`; [When does the transport matter?](transport.md) says what they mean."""
COLUMNS = "family world first second seeds difference low high visible p p_holm verdict".split()


def row(answer: Answer) -> tuple[object, ...]:
    """Return the values of COLUMNS."""
    question, gap = answer.question, answer.difference
    return (
        question.family, question.name, question.first, question.second, answer.seeds,
        gap.difference, gap.low, gap.high, gap.visible, gap.p, answer.p_holm, answer.verdict,
    )  # fmt: skip


def tables(runs: Runs, replies: Sequence[Answer]) -> list[Block]:
    """Make tables of how many say what, of accuracies, of how far plans are from the even one, and of every family."""
    names = list(METHODS)
    blocks = [
        Block(title, ["world", *names], [
            [world, *(show_mean(_over_seeds(runs, world, name, value), digits=digits) for name in names)]
            for world in WORLDS
        ])
        for title, value, digits in (
            ("Accuracy in %, mean ± standard deviation over seeds", _accuracy, 1),
            ("Distance of the plans from the even one: 0 none, 1 its limit", _distance, 3),
        )
    ]  # fmt: skip
    others = [cell for cell in cells() if cell.world == PHOTOGRAPHS or cell.method not in METHODS]
    blocks.append(Block("The other arms", ["world", "method", "accuracy", "distance"], [
        [cell.world, cell.method, *(
            show_mean(_over_seeds(runs, cell.world, cell.method, value), digits=digits)
            for value, digits in ((_accuracy, 1), (_distance, 3)))]
        for cell in others
    ], words=2))  # fmt: skip
    families = list(dict.fromkeys(reply.question.family for reply in replies))
    verdicts = [(reply.question.family, reply.verdict) for reply in replies]
    blocks.insert(0, Block("How many say what", ["family", *VERDICTS], [
        [family, *(str(verdicts.count((family, verdict))) for verdict in VERDICTS)] for family in families
    ]))  # fmt: skip
    head = ["where", "what", "difference", "95 % interval", "smallest visible", "p, Holm", "verdict"]
    for family in families:
        rows = [_shown(reply) for reply in replies if reply.question.family == family]
        blocks.append(Block(f"Family {family}", head, rows, words=2))
    return blocks


def _shown(reply: Answer) -> list[str]:
    question, gap = reply.question, reply.difference
    what = f"{question.first} - {question.second}".replace(f"{SELECTED[0]} - {SELECTED[1]}", "best 4: ot - uniform")
    interval = f"{gap.low:+.2f} to {gap.high:+.2f}"
    return [question.name, what, f"{gap.difference:+.2f}", interval, f"{gap.visible:.2f}", f"{reply.p_holm:.2g}",
        reply.verdict]  # fmt: skip


def _over_seeds(runs: Runs, world: str, method: str, value: Callable[[Run], float | None]) -> Spread | None:
    values = [value(run) for run in runs.get(world, {}).get(method, {}).values()]
    known = [number for number in values if number is not None]
    return spread(known) if known else None


def _accuracy(run: Run) -> float:
    return run.accuracy


def _distance(run: Run) -> float | None:
    """Return the total variation from the uniform plan, mean over images and classes; None where nothing is matched."""
    return (run.record.get("transport") or {}).get("distance_from_uniform")


def analyse(output: Path, pages: Path) -> int:
    """Write answers.csv to `output`, the tables and figures to `pages`, and print the tables; returns 0."""
    from .figures import draw_all

    runs = read_runs(output)
    replies = answers(runs)
    complete = sum(len(by_seed) for methods in runs.values() for by_seed in methods.values())
    note = f"{complete} of {sum(cell.seeds for cell in cells())} runs are complete."
    blocks = tables(runs, replies)
    files = {
        pages / "transport-tables.md": show_document([TITLE, note], blocks, "markdown"),
        output / "answers.csv": csv_text(COLUMNS, map(row, replies)),
    }
    for path, text in files.items():
        with atomic_write(path) as file:
            file.write(text)
    print(show_document([note], blocks, "text"), end="")
    for path in (*files, *draw_all(replies, pages)):
        print(f"wrote {path}")
    return 0
