"""Train or evaluate one run: the entry script, under the name and with the flags of Dassl's.

`python train.py --help` shows the flags (runs/command_line.py).  What a run does is runs/execute.py's; here are only
the words and the exit status with which it ends.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import dassl  # noqa: F401  (before torch: how its threads wait)
from dassl.plain.console import piped
from dassl.plain.ranks import first_speaks, started
from dassl.plain.text import error_text
from dassl.plain.writing import disk_failed
from dassl.utils.tools import end_bars
from runs.command_line import build_parser
from runs.files import ResultsError

EXPECTED = (ValueError, LookupError, OSError, AssertionError, RuntimeError, FloatingPointError, ResultsError)


def run(argv: list[str] | None = None) -> dict[str, Any]:
    """Make one run in this process, as its command line says (default: that of the program).

    Returns and raises what `runs.execute.run` does.
    """
    from runs.config import request_of
    from runs.execute import run as run_request
    from runs.restore.exported import exported_at

    request = request_of(sys.argv[1:] if argv is None else argv)
    exported = exported_at(request.args.model_dir) if request.args.eval_only else None
    if exported is None:
        return run_request(request)
    request.args.model_dir = str(exported.path)
    exported.check_test(request.cfg)
    return run_request(request, exported.restore_for_test)


def show_keys() -> None:
    """Print the config keys of the trainers, with default and meaning."""
    from runs.config import option_types

    for options in option_types():
        for key, (default, meaning) in options.meanings().items():
            print(f"{key:36} {default!r:10} {meaning}")


def main(argv: list[str] | None = None) -> int:
    """Run the command line, by default that of the program.

    Returns
    -------
    int
        The exit status: 0 done, 1 failed, 2 bad command line or config, 128 + signal stopped.
    """
    with first_speaks():
        return _main(argv)


def _main(argv: list[str] | None) -> int:
    def work() -> int:
        if build_parser().parse_args(argv).show_keys:
            show_keys()
        else:
            run(argv)
        return 0

    try:
        return piped(work, many=True)
    except KeyboardInterrupt as stop:
        from dassl.engine.interruption import exit_status

        end_bars()
        print(str(stop) or "interrupted before training began; the same command starts again", file=sys.stderr)
        return exit_status(stop)
    except Exception as error:
        expected = isinstance(error, EXPECTED)
        if os.environ.get("PLOT_TRACEBACK") or not (expected or started() > 1):
            raise
        end_bars()
        where = "(PLOT_TRACEBACK=1 shows where; so does the log, if the run had begun)"
        _report(error, f"error: {error_text(error)}\n{where}")
        failed = isinstance(error, RuntimeError | FloatingPointError) and not isinstance(error, ValueError)
        return 1 if failed or not expected or disk_failed(error) else 2


def _report(error: Exception, lines: str) -> None:
    if started() == 1:
        print(lines, file=sys.stderr)
    else:  # once, and for others than this one
        from dassl.engine.endings import report

        report(error, lines)


if __name__ == "__main__":
    sys.exit(main())
