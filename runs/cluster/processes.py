"""One process of one machine, told from all others: numbers of processes are given out again, so its start counts too.

What a `Process` says is written to files that other machines read.  Only the machine itself can tell whether its
process lives; nobody else may conclude anything from a number.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import NamedTuple

from dassl.plain.writing import lives


class Process(NamedTuple):
    """A process, as `born` knows it: its start, as the system counts it; "" where that cannot be learned."""

    host: str
    pid: int
    born: str = ""

    @classmethod
    def of(cls, pid: int) -> Process:
        """Return the process of this machine that has this number now."""
        return cls(platform.node(), pid, _born(pid))

    @classmethod
    def this(cls) -> Process:
        """Return the process that asks."""
        return cls.of(os.getpid())

    @property
    def here(self) -> bool:
        """Whether it is of this machine."""
        return self.host == platform.node()

    @property
    def alive(self) -> bool:
        """Whether it is of this machine and has not ended; a dead one that nobody has waited for has ended."""
        if not self.here or self.pid <= 0 or not lives(self.pid):
            return False
        now = _born(self.pid)
        return now != ZOMBIE and (not self.born or not now or now == self.born)


ZOMBIE = "ended"


def _born(pid: int) -> str:
    """Return when a process began, in ticks since this boot of the machine; "" where /proc does not say.

    The second field of /proc/PID/stat is the program's name in brackets and may hold anything; the state is the first
    one behind it, the start the twentieth.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
    except OSError:
        return ""
    return ZOMBIE if fields[0] in "ZX" else f"{boot}-{fields[19]}"
