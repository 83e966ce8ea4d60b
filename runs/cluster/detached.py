"""A process of this machine that goes on when the command, and the terminal, that started it are gone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from ..plugins import CHECKOUT
from .processes import Process


def start(module: str, text: str, log: Path) -> Process:
    """Start `python -m MODULE` in a session of its own, so that neither Ctrl-C nor the end of the terminal reaches it.

    Parameters
    ----------
    module
        Of this checkout.
    text
        What it reads from its standard input.
    log
        Where all that it prints is appended.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    path = os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH", "")]))
    with open(log, "ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", module], stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True, env={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip
    assert process.stdin is not None
    with process.stdin as pipe:
        pipe.write(text.encode())
    process.returncode = 0  # nobody waits for it: without this, the interpreter would warn of it at its end
    return Process.of(process.pid)
