"""What a command of `python -m results` is, and what several of them take and do."""

from __future__ import annotations

import argparse
import gc
import inspect
import sys
import textwrap
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from dassl.utils.plugins import add_plugin_flag
from runs.files import ResultsError, to_stderr, write_text

from ..tables.layout import FORMATS

if TYPE_CHECKING:
    from ..numbers.summary import Summary

STATUS = """exit status: 0 done; 1 done, but results are incomplete (what is missing is named on stderr;
--allow-missing, where there is one, makes it 0), or the disk is full; 2 bad command line or input; 130 interrupted."""

Argument = Callable[[argparse.ArgumentParser], Any]  # adds itself to a parser


class Command(NamedTuple):
    """One command: words for its help, its arguments, and what it does."""

    name: str
    help: str  # a summary line; whatever else there is to say; examples
    arguments: tuple[Argument, ...]
    run: Callable[[argparse.Namespace], int]  # returns the exit status

    def add_to(self, commands: argparse._SubParsersAction) -> None:
        """Add it to the commands of a command line."""
        about, _, examples = self.help.partition("\nExamples\n--------\n")
        parser = commands.add_parser(
            self.name,
            help=about.partition("\n")[0].removesuffix("."),
            description=about.rstrip(),
            epilog=f"examples:\n{textwrap.indent(examples, '  ')}\n\n{STATUS}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        for add in (*self.arguments, add_plugin_flag):
            add(parser)
        parser.set_defaults(run=self.run)


def command(name: str, *arguments: Argument, help: str = "") -> Callable[..., Command]:
    """Make the decorated function a command, of which its docstring is the help.

    Parameters
    ----------
    name
        What is typed.
    arguments
        What it takes, beside --plugin.
    help
        Instead of the docstring, for functions that serve several commands.  Either has a summary line, then whatever
        there is to say, and at its end a section "Examples" of command lines.

    Returns
    -------
    decorator
        Of a function from parsed arguments to the exit status.
    """
    return lambda run: Command(name, help or inspect.getdoc(run) or "", arguments, run)


def argument(*names: str, **options: Any) -> Argument:
    """Make an argument as `add_argument` has it, for any number of commands."""
    return lambda parser: parser.add_argument(*names, **options)


# --- what several commands take, and do with it ----------------------------------------------------------

ALLOW_MISSING = argument("--allow-missing", action="store_true", help="exit 0 although runs are missing")
OUTPUT = (argument("output", metavar="OUTPUT", help="folder with runs, at any depth"), ALLOW_MISSING)
TO_FILE = argument("--out", metavar="FILE", help="write there instead of to the console")
TEXT = (argument("--format", choices=tuple(FORMATS), default="text", help="default: text"), TO_FILE)
SHOTS = argument("--shots", type=int, metavar="K", help="default: the most shots of each method")
SPREAD = (
    argument("--ci95", action="store_true", help="spread: 1.96 std / sqrt(n) instead of std"),
    argument("--sample-std", action="store_true", help="std with ddof 1; default: ddof 0, as the original"),
)


def deliver(text: str, out: str | None) -> None:
    """Write text to the file `out`, or to the console; where it was written is said on stderr."""
    if out:
        to_stderr(f"written: {write_text(out, text)}")
    else:
        sys.stdout.write(text)


def check_shots(summary: Summary, shots: int | None) -> None:
    """Raise ResultsError where no run has the number of shots that is asked for."""
    known = sorted({run.shots for run in summary.complete_runs if run.shots > 0})
    if shots is not None and shots not in known:
        raise ResultsError(f"--shots {shots}: there are runs of {', '.join(map(str, known)) or 'no number of'} shots")


def read_summary(args: argparse.Namespace) -> tuple[Summary, int]:
    """Summarise the runs below `args.output`, and name on stderr what is not there.

    Returns
    -------
    summary, status
        The exit status is 1 where something is missing, unless `args.allow_missing`.

    Raises
    ------
    ResultsError
        Where there is no complete run.
    """
    from runs.record import find_runs

    from ..numbers.summary import summarise

    # records hold no cycles, and looking for some in all of them, again and again, takes a fifth of the time
    gc.disable()
    runs = find_runs(args.output)
    gc.freeze()
    gc.enable()
    summary = summarise(runs)
    for run in summary.incomplete:
        to_stderr(f"incomplete: {run.folder}: {run.problem}")
    for run in summary.repeated:
        to_stderr(f"not counted: {run.folder}: another run has the same method, data, shots and seed")
    if summary.missing:
        to_stderr(f"missing: {summary.missing} of {summary.missing + len(summary.complete_runs)} runs")
    if not summary.complete_runs:
        raise ResultsError(f"{args.output} holds no complete run: nothing to show")
    return summary, int(not summary.whole and not args.allow_missing)
