"""Locks between processes that may run on different machines and meet in a folder of a network file system.

Such locks fail in many ways: the file system knows none (ENOLCK, ENOSYS), each machine grants its own (an NFS mount
with `nolock` or `local_lock`, Lustre with `localflock`), the server that keeps them does not answer, or a machine that
held one is gone and nobody releases it.  So a lock here only saves work: whoever cannot have it goes on without it
after a bounded time, and what is written must be right in any case (a name of its own, then a rename).

A process that holds a lock touches the lock's file every `BEAT` seconds.  Whoever waits compares what it reads there
with what it read before, on its own clock: the clocks of two machines are never compared.
"""
from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

__all__ = ["BEAT", "SILENCE", "is_local", "waiting_lock"]

BEAT = 20.0  # seconds between two signs of life
SILENCE = 180.0  # seconds without a sign of life after which a holder is taken for dead: NFS shows changes within 60 s
STUCK = 30.0  # seconds after which a file system that does not say whether a lock is free is taken for one without
POLL = 0.1  # seconds between two questions

LOCAL = frozenset("apfs bcachefs btrfs ext2 ext3 ext4 f2fs hfs jfs overlay ramfs reiserfs tmpfs xfs zfs".split())
MOUNTS = Path("/proc/self/mountinfo")

_held: set[tuple[int, str]] = set()  # threads of this process and the locks that they hold


def is_local(path: str | os.PathLike[str]) -> bool:
    """Tell whether a path lies on a file system that only this machine writes to.

    Unknown kinds count as shared.  So does nothing where the operating system does not list its mounts as Linux does.
    """
    try:
        lines = MOUNTS.read_bytes().splitlines()
    except OSError:
        return True
    place = os.fsencode(os.path.join(os.path.realpath(path), ""))
    longest, kind = b"", b""
    for line in lines:  # "36 35 98:0 /root /mount/point options - ext4 /dev/sda1 options"; later mounts cover earlier
        fields, _, rest = line.partition(b" - ")
        point = os.path.join(fields.split()[4].decode("unicode_escape").encode("latin-1"), b"")
        if place.startswith(point) and len(point) >= len(longest):
            longest, kind = point, rest.split()[0]
    return kind.decode() in LOCAL


@contextlib.contextmanager
def waiting_lock(
    path: str | os.PathLike[str], notice: Callable[[str], object], longest: float,
    done: Callable[[], bool] = lambda: False,
) -> Iterator[bool]:
    """Hold a lock within the block, having waited for other processes that hold it, but not for ever.

    The wait ends without the lock when its holder has shown no sign of life for `SILENCE` seconds, after `longest`
    seconds in any case, or when `done` says that there is nothing to wait for any more.  It never begins where the file
    system has no locks.  A thread that holds the lock already goes on.

    Parameters
    ----------
    path
        File of the lock; it is made, and stays.
    notice
        Is given a sentence when the wait begins, and when it ends in vain.
    longest
        In seconds.
    done
        Asked now and then during the wait.

    Yields
    ------
    bool
        Whether the lock is held.
    """
    mine = (threading.get_ident(), os.path.realpath(path))
    if mine in _held:  # to wait for oneself would be to wait for ever
        yield True
        return
    lock = FileLock(path, thread_local=False, fallback_to_soft=False)
    if not _wait(lock, Path(path), notice, longest, done):
        yield False
        return
    released = threading.Event()
    threading.Thread(target=_beat, args=(path, released), daemon=True).start()
    _held.add(mine)
    try:
        yield True
    finally:
        _held.discard(mine)
        released.set()
        with contextlib.suppress(OSError):  # its server has gone meanwhile
            lock.release()


def _wait(
    lock: FileLock, path: Path, notice: Callable[[str], object], longest: float, done: Callable[[], bool]
) -> bool:
    started = heard = time.monotonic()
    sign: tuple[int, int] | None = None
    while (free := _ask(lock)) is False:
        now = time.monotonic()
        if sign is None:
            notice("waiting for another process")
        elif done():
            return False
        elif now - heard > SILENCE or now - started > longest:
            notice(f"waited {now - started:.0f} s for another process, going on without it")
            return False
        if (latest := _sign_of_life(path)) != sign:
            sign, heard = latest, now
        time.sleep(POLL)
    if free is None:  # what was made for a lock is none
        with contextlib.suppress(OSError):
            path.unlink()
    return bool(free)


def _ask(lock: FileLock) -> bool | None:
    """Take a lock if it is free; False where it is not, None where the file system has no locks or gives no answer.

    Even a request that is not to wait hangs on NFS while the server's lock service is down, although files can be read
    and written: so a thread asks, and is left behind if need be.
    """
    answers: queue.SimpleQueue[bool | None] = queue.SimpleQueue()
    abandoned = threading.Event()

    def ask() -> None:
        try:
            lock.acquire(blocking=False)
        except Timeout:
            answers.put(False)
        except (OSError, NotImplementedError, RuntimeError):
            answers.put(None)
        else:
            if abandoned.is_set():
                lock.release()
            answers.put(True)

    threading.Thread(target=ask, daemon=True).start()
    try:
        return answers.get(timeout=STUCK)
    except queue.Empty:
        abandoned.set()
        return None


def _beat(path: str | os.PathLike[str], released: threading.Event) -> None:
    while not released.wait(BEAT):
        with contextlib.suppress(OSError):
            os.utime(path)


def _sign_of_life(path: Path) -> tuple[int, int]:
    """Read what a holder changes.

    The file is opened: an NFS client asks the server for the attributes of a file whenever it opens it, and otherwise
    answers from its memory for up to a minute.
    """
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            return status.st_ino, status.st_mtime_ns
    except OSError:
        return 0, 0
