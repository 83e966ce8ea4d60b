"""The command line: python -m results COMMAND ..."""

from __future__ import annotations

import argparse
import sys

from dassl.plain.console import run_command
from dassl.plain.text import plain_warnings
from dassl.utils.plugins import PluginError, use
from runs.files import DiskError, ResultsError
from runs.restore.trust import trusting

from .commands import accuracies, card, classes, cluster, comparison, export, inspection, predictions, protocols
from .commands.command import STATUS

MODULES = (accuracies, comparison, protocols, classes, predictions, inspection, card, export, cluster)
COMMANDS = tuple(command for module in MODULES for command in module.COMMANDS)


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of all commands; `sweep` stands in it for its help line alone."""
    parser = argparse.ArgumentParser(
        prog="python -m results",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Tables, curves, heat maps and a report from finished runs.",
        epilog=f"python -m results COMMAND --help says more, with examples.\n\n{STATUS}",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    commands.add_parser("sweep", help="Make them first: run a grid of trainers, data sets, shots and seeds")
    for command in COMMANDS:
        command.add_to(commands)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run a command line, by default that of this process; returns the exit status as in the help text."""
    words = sys.argv[1:] if argv is None else argv
    if words[:1] == ["sweep"]:  # reads its own command line
        from runs.sweeps.sweep import main as sweep

        return sweep(words[1:])
    expected = (ResultsError, PluginError)
    return run_command(lambda: run(words), expected, lambda error: isinstance(error, DiskError))


def run(words: list[str]) -> int:
    """Run one of COMMANDS."""
    args = build_parser().parse_args(words)
    use(args.plugins)
    with trusting(getattr(args, "trust_paths", False)), plain_warnings():
        return args.run(args)


if __name__ == "__main__":
    sys.exit(main())
