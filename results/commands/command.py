"""What a command of `python -m results` is: words for its help, its arguments, and what it does."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from runs.files import ResultsError, tell, write_text

from ..tables.tables import FORMATS

if TYPE_CHECKING:
    from ..numbers.summary import Summary

STATUS = """exit status: 0 done; 1 done, but results are incomplete (what is missing is named on stderr;
--allow-missing, where there is one, makes it 0), or the disk is full; 2 bad command line or input; 130 interrupted."""


class Command(NamedTuple):
    """`summary` has no full stop; `arguments` adds to the command's parser; `run` returns the exit status."""

    name: str
    summary: str
    text: str
    examples: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]

    def add_to(self, commands: argparse._SubParsersAction) -> None:
        parser = commands.add_parser(
            self.name,
            help=self.summary,
            description=f"{self.summary}. {self.text}",
            epilog=f"examples:\n{self.examples}\n\n{STATUS}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.arguments(parser)
        parser.set_defaults(run=self.run)


# --- what several commands take, and do with it ----------------------------------------------------------


def add_allow_missing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--allow-missing", action="store_true", help="exit 0 although runs are missing")


def add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output", metavar="OUTPUT", help="folder with runs, at any depth")
    add_allow_missing(parser)


def add_text(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", choices=tuple(FORMATS), default="text", help="default: text")
    parser.add_argument("--out", metavar="FILE", help="write there instead of to the console")


def deliver(text: str, out: str | None) -> None:
    """To the file `out`, or to the console."""
    if out:
        tell(f"written: {write_text(out, text)}")
    else:
        sys.stdout.write(text)


def read_summary(args: argparse.Namespace) -> tuple[Summary, int]:
    """(summary of args.output, exit status); names on stderr what is not there."""
    from runs.record import find_runs

    from ..numbers.summary import summarise

    runs = find_runs(args.output)
    summary = summarise(runs)
    for run in summary.incomplete:
        tell(f"incomplete: {run.folder}: {run.problem}")
    for run in summary.repeated:
        tell(f"not counted: {run.folder}: another run has the same method, data, shots and seed")
    if summary.missing:
        tell(f"missing: {summary.missing} of {summary.missing + len(summary.complete_runs)} runs")
    if not summary.complete_runs:
        raise ResultsError(f"{args.output} holds no complete run: nothing to show")
    return summary, int(not summary.whole and not args.allow_missing)
