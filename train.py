"""Train or evaluate one run; see `python train.py --help`."""

from __future__ import annotations

import os
import sys
from typing import Any

import dassl  # noqa: F401  (before torch: how its threads wait)
from dassl.plain.console import piped
from dassl.plain.text import error_text
from dassl.plain.writing import disk_failed
from runs.command_line import build_parser


def run(argv: list[str] | None = None) -> dict[str, Any]:
    """One run in this process; returns what result.json holds.  Raises on bad input, before any long work."""
    from runs.config import request_of
    from runs.execute import run as run_request

    return run_request(request_of(sys.argv[1:] if argv is None else argv))


def show_keys() -> None:
    """The config keys of the trainers, with default and meaning."""
    from runs.config import option_types

    for options in option_types():
        for key, (default, meaning) in options.meanings().items():
            print(f"{key:36} {default!r:10} {meaning}")


def _close_bars() -> None:
    """Of an unfinished loop, so that what is said next begins on a line of its own."""
    from dassl.utils.tools import end_bars

    end_bars()


def main(argv: list[str] | None = None) -> int:
    """Command line; exit status as in the help text."""

    def work() -> int:
        if build_parser().parse_args(argv).show_keys:
            show_keys()
        else:
            run(argv)
        return 0

    try:
        return piped(work)
    except KeyboardInterrupt as stop:
        from dassl.engine.interruption import exit_status

        _close_bars()
        print(str(stop) or "interrupted before training began; the same command starts again", file=sys.stderr)
        return exit_status(stop)
    except (ValueError, LookupError, OSError, AssertionError, RuntimeError, FloatingPointError) as error:
        if os.environ.get("PLOT_TRACEBACK"):
            raise
        _close_bars()
        print(f"error: {error_text(error)}", file=sys.stderr)
        print("(PLOT_TRACEBACK=1 shows where; so does the log, if the run had begun)", file=sys.stderr)
        failed = isinstance(error, RuntimeError | FloatingPointError) and not isinstance(error, ValueError)
        return 1 if failed or disk_failed(error) else 2


if __name__ == "__main__":
    sys.exit(main())
