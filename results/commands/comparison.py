"""The command that asks which differences between methods are real."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence
from typing import Any

from runs.files import ResultsError, to_stderr
from runs.methods import group

from ..numbers.cells import shots_name
from .command import OUTPUT, TEXT, argument, command, deliver, read_summary


@command(
    "compare",
    *OUTPUT,
    *TEXT,
    argument("--shots", type=int, nargs="+", metavar="K", help="only these numbers of shots; default: all"),
    argument("--methods", nargs="+", metavar="METHOD", help="only these, the earlier minus the later; default: all"),
    argument("--against", metavar="METHOD", help="only pairs with this method, the other one minus it"),
    argument("--bootstrap", type=int, default=0, metavar="DRAWS",
             help="take standard errors from so many draws; default: their limit, which is known exactly"),
)  # fmt: skip
def compare(args: argparse.Namespace) -> int:
    """Which methods differ, beyond chance.

    Pairs of methods on the same test images, shots, draw and seeds: difference, 95 % interval over images and seeds, p
    after Holm's correction, McNemar's test of every seed, and wins, ties and losses over data sets. What shares no
    images is refused, with the reason. Needs no more than the records of runs that kept their predictions.

    Examples
    --------
    python -m results compare output
    python -m results compare output --against ZeroshotCLIP --shots 16
    python -m results compare output --methods "PLOT N=4" CoOp --format latex --out compare.tex
    python -m results compare output --bootstrap 2000 --format csv
    """
    from ..numbers import comparison
    from ..tables.comparison import format_comparison

    if args.bootstrap < 0 or args.bootstrap == 1:
        raise ResultsError(f"--bootstrap must be 0, or at least 2 draws; got {args.bootstrap}")
    summary, status = read_summary(args)
    _check("--methods", args.methods or (), summary.methods)
    _check("--against", [args.against] if args.against else (), summary.methods)
    _check("--shots", args.shots or (), sorted({shots for section in summary.sections for shots in section.shots}))
    if len({*(args.methods or summary.methods), *([args.against] if args.against else [])}) < 2:
        raise ResultsError(f"two methods are needed, {args.output} has {_list(args.methods or summary.methods)}")
    compared = comparison.compare(summary, args.methods or (), args.against, args.shots or (), args.bootstrap)
    for (dataset, first, second, reason), places in group(compared.refused, _refusal).items():
        shots = ", ".join(shots_name(place.shots) for place, _ in places)
        to_stderr(f"not compared: {first} and {second} on {dataset}, shots {shots}: {reason}")
    partial = [pair for pair in compared.pairs if pair.note]
    for pair in partial:
        place = pair.place
        where = f"{place.dataset}{place.kind.qualifier}, shots {shots_name(place.shots)}"
        to_stderr(f"compared in part: {place.first} and {place.second} on {where}: {pair.note}")
    if not compared.pairs:
        raise ResultsError(f"{args.output} holds no two methods that can be compared")
    deliver(format_comparison(compared, summary.runs_by_method(), args.format, args.bootstrap), args.out)
    return status or int(bool(compared.refused or partial) and not args.allow_missing)


def _refusal(refused: tuple[Any, str]) -> tuple[str, str, str, str]:
    """Return what refusals have in common that stand on one line."""
    place, reason = refused
    return place.dataset + place.kind.qualifier, place.first, place.second, reason


def _check(flag: str, values: Sequence[Any], known: Collection[Any]) -> None:
    """Raise a ResultsError for a value that no run has."""
    for value in values:
        if value not in known:
            raise ResultsError(f"{flag} {value}: there is only {_list(known)}")


def _list(values: Collection[Any]) -> str:
    return ", ".join(f'"{value}"' if " " in str(value) else str(value) for value in values)


COMMANDS = (compare,)
