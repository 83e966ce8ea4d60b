"""What a command of `python -m results` is: words for its help, its arguments, and what it does."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NamedTuple

STATUS = """exit status: 0 done; 1 done, but results are incomplete (what is missing is named on stderr;
--allow-missing, where there is one, makes it 0); 2 bad command line or input; 130 interrupted."""


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


def add_allow_missing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--allow-missing", action="store_true", help="exit 0 although runs are missing")
