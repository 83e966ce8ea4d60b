"""Command lines in processes of their own that need no start: each is a fork of one that has imported everything.

    with Forks(home) as run:
        run("python -m results table ~/runs --plugin ~/mine")

Nothing that a command loads, registers or changes reaches the next one, and importing torch is paid for once.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shlex
import subprocess
import sys
import traceback
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parents[2]
MAINS = {  # what the words of a command line begin with: the module whose `main` reads the others
    "python train.py": "train",
    "python scripts/sweep.py": "runs.sweeps.sweep",
    "python -m results": "results.__main__",
    "python -m predict": "predict.__main__",
    "python -m datasets": "datasets.__main__",
}


class Done(NamedTuple):
    """What came of a command."""

    status: int
    out: str
    err: str


class Forks:
    """Runs command lines as a user of `home` would who stands in the checkout."""

    def __init__(self, home: Path) -> None:
        self.home = home
        own = {"HOME": str(home), "PLOT_TRUSTED": "", "PLOT_PLUGINS": "", "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", __name__], cwd=REPOSITORY, env=os.environ | own, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def __call__(self, line: str, **environment: str) -> Done:
        """Run one command line; variables of the environment are for it alone."""
        assert self.process.stdin and self.process.stdout
        words = [os.path.join(self.home, word[2:]) if word.startswith("~/") else word for word in shlex.split(line)]
        files = [self.home / "out.txt", self.home / "err.txt"]
        print(json.dumps([words, [*map(str, files)], environment]), file=self.process.stdin, flush=True)
        status = json.loads(self.process.stdout.readline())
        return Done(status, *(file.read_text(encoding="utf-8") for file in files))

    def __enter__(self) -> Forks:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()


def serve() -> None:
    """Read commands from stdin, and answer each with its exit status."""
    mains = {start: importlib.import_module(module) for start, module in MAINS.items()}
    for module in ("runs.execute", "matplotlib.pyplot", "results.inspection.transport", "tqdm"):
        importlib.import_module(module)
    for line in sys.stdin:
        words, files, environment = json.loads(line)
        child = os.fork()
        if child == 0:
            for number, file in enumerate(files, start=1):
                os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), number)
            os.environ.update(environment)
            os._exit(_status(mains, words))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _status(mains: dict, words: list[str]) -> int:
    start = next(start for start in mains if words[: len(start.split())] == start.split())
    try:
        return mains[start].main(words[len(start.split()) :])
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        traceback.print_exc()
        return 99
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()


if __name__ == "__main__":
    serve()
