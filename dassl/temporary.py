"""Names of temporary files that tell who writes them, so that what a killed process left behind is known and cleared.

A file that is being written is called .NAME.HOST-PID-RANDOM.tmp and lies beside the one that it will become. Nothing
here imports torch: programs that only read results start at once.
"""
from __future__ import annotations

import contextlib
import os
import platform
import re
import time
import uuid
from pathlib import Path

__all__ = ["clear_leftovers", "lives", "temporary_name"]

OURS = re.compile(r"\.(?P<name>.+)\.(?P<host>\w*)-(?P<pid>\d+)-[0-9a-f]{8}\.tmp", re.DOTALL)
FORGOTTEN = 24 * 3600  # seconds without a byte after which no process is writing any more, wherever it runs


def host() -> str:
    """The name of this machine, as far as it goes into a file name."""
    return re.sub(r"[^A-Za-z0-9]", "", platform.node())[:32]


def lives(pid: int) -> bool:
    """Whether a process of this machine is there; True where nobody can tell."""
    if os.name != "posix":  # elsewhere the question would end it
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


def temporary_name(path: str | os.PathLike[str]) -> str:
    """Where to write what is to become `path`: a new name in the same folder, that fits also where `path` just does."""
    folder, name = os.path.split(os.fspath(path))
    short = name.encode("utf-8", "surrogateescape")[:100].decode("utf-8", "ignore")
    return os.path.join(folder, f".{short}.{host()}-{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")


def clear_leftovers(folder: str | os.PathLike[str]) -> None:
    """Remove the temporary files in `folder` and below whose process has died, or not written for a day."""
    with contextlib.suppress(OSError):
        for path in Path(folder).rglob(".*.tmp"):
            found = OURS.fullmatch(path.name)
            if found is None:
                continue
            with contextlib.suppress(OSError):
                dead = found["host"] == host() and not lives(int(found["pid"]))
                if dead or time.time() - path.lstat().st_mtime > FORGOTTEN:
                    path.unlink()
