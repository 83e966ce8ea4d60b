"""What a run says: on the console, and in the log file of the run.

The engine speaks through the standard library: every module has `log = logging.getLogger(__name__)` and says
`log.info(...)`. One handler, on the logger "dassl", writes the bare message to whatever `sys.stdout` is at that moment.
So does `print`, which trainers use (the original engine, on which they must run too, shows nothing else), and both
reach the file that `setup_logger` opens:

    setup_logger(output_dir)       # from here on, what is said goes to the screen and to output_dir/log.txt
    ...
    restore_stdout()               # the screen alone again; or `with setup_logger(output_dir): ...` around a run

A program whose standard output is for something else (an answer, a table) wraps the engine's work in `quiet()`: in
that context, usually a thread, the console hears nothing, whereas an open log still gets every line. Programs that
want the messages elsewhere use `logging`: `logging.getLogger("dassl").handlers`, `.setLevel(logging.WARNING)`.

The file is line-buffered, so a run that dies leaves its last line behind. Standard error (progress bars) is not
logged, except the traceback of an exception that ends the run, and within `log_warnings` what is warned of.
"""
from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from types import TracebackType
from typing import IO, Any, TextIO

from tqdm import tqdm

from dassl.plain.ranks import RankError
from dassl.plain.text import GOES_ON, plain_warnings

from .tools import StrPath, mkdir_if_missing

__all__ = ["Logger", "log_warnings", "quiet", "restore_stdout", "setup_logger", "warned"]

# what takes the place of the console in the present context, in a tuple: a stream, or None for silence; () for none
_instead: ContextVar[tuple[()] | tuple[TextIO | None]] = ContextVar("_instead", default=())
_warned: list[str] = []  # since `log_warnings` was entered


class Logger:
    """A stand-in for sys.stdout that copies every write to a file.

    All that a stream has besides writing (`isatty`, `fileno`, `encoding`, `buffer`, ...) is the console's. Closing it
    closes the file, never the console, and puts the console back when this object is sys.stdout. So does the end of a
    `with` block, which also writes the traceback of an exception to the file.

    Parameters
    ----------
    fpath : path, optional
        The file, in UTF-8; its folder is made. None: there is no file.
    append : bool
        Write behind what the file holds.

    Attributes
    ----------
    console, file : stream
        The sys.stdout of when it was made, and the file (None once it is closed).
    """

    def __init__(self, fpath: StrPath | None = None, append: bool = False) -> None:
        self.console = sys.stdout or open(os.devnull, "w")  # noqa: SIM115 (a program without a console has no stdout)
        self.file: IO[str] | None = None
        if fpath is not None:
            mkdir_if_missing(os.path.dirname(os.fspath(fpath)))
            mode = "a" if append else "w"
            self.file = open(fpath, mode, encoding="utf-8", errors="backslashreplace", buffering=1)  # noqa: SIM115

    def write(self, msg: str) -> int:
        """Write to both; the console is another stream, or none, within `quiet`."""
        (console,) = _instead.get() or (self.console,)
        if console is not None:
            try:
                console.write(msg)
            except UnicodeEncodeError:  # what it cannot encode is escaped
                encoding = console.encoding or "ascii"
                console.write(msg.encode(encoding, "backslashreplace").decode(encoding))
        self.log(msg)
        return len(msg)

    def log(self, text: str) -> None:
        """Write to the file alone."""
        self._try(lambda file: file.write(text))

    def _try(self, write: Callable[[IO[str]], Any]) -> None:
        """Write to the file; a disk that is full ends the log, not the run."""
        if self.file is not None:
            try:
                write(self.file)
            except OSError as error:
                name = self.file.name
                self._close_file()
                warnings.warn(f"the log {name} ends here: {error.strerror or error}", stacklevel=5)

    def writelines(self, lines: list[str]) -> None:
        """Write lines that bring their own ends."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush the console and the file."""
        self.console.flush()
        self._try(lambda file: file.flush())

    def log_traceback(self, error: BaseException) -> None:
        """Write the traceback to the file alone: the console gets it from the interpreter.

        Of an interruption that says what is kept, these words alone; of the failure of another process its traceback.
        """
        if isinstance(error, RankError):
            self.log(f"{error.details}error: {error}\n")
        elif isinstance(error, KeyboardInterrupt) and str(error):
            self.log(f"{error}\n")
        else:
            self.log("".join(traceback.format_exception(type(error), error, error.__traceback__)))

    def close(self) -> None:
        """Close the file, and give sys.stdout back to the console."""
        if sys.stdout is self:
            sys.stdout = self.console
        self._close_file()

    def _close_file(self) -> None:
        if self.file is not None:
            file, self.file = self.file, None
            with contextlib.suppress(OSError):  # a full disk, which the failing write has already reported
                file.close()

    def __enter__(self) -> Logger:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, tb: TracebackType | None) -> None:
        if error is not None:
            self.log_traceback(error)
        self.close()

    def __getattr__(self, name: str) -> Any:
        if name == "console":  # not there yet: do not look it up in itself
            raise AttributeError(name)
        return getattr(self.console, name)


def setup_logger(output: StrPath | None = None, goes_on: bool = False) -> Logger | None:
    """Send what is said also to a log file, until `restore_stdout`.

    A log that is still open from an earlier call ends here.

    Parameters
    ----------
    output : path, optional
        A file ending in .txt or .log, or a folder that gets log.txt. A file that exists stays as it is: the new one's
        name is its path followed by -YYYY-MM-DD-HH-MM-SS. None does nothing.
    goes_on : bool
        Go on in a file that exists, behind a line that says so (`GOES_ON`), as for a run that is resumed.

    Returns
    -------
    Logger or None
        What stands for sys.stdout now.
    """
    if output is None:
        return None
    restore_stdout()
    path = _path(os.fspath(output))
    goes_on = goes_on and os.path.isfile(path)
    logger = Logger(path if goes_on else _free_name(path), append=goes_on)
    if goes_on:
        logger.log(f"\n{GOES_ON}{time.strftime('%Y-%m-%d %H:%M:%S')}\n")
    for text in _warned:
        logger.log(f"Warning: {text}\n")
    sys.stdout = logger  # type: ignore[assignment]
    _install_excepthook()
    return logger


def _path(output: str) -> str:
    return output if output.endswith((".txt", ".log")) else os.path.join(output, "log.txt")


def _free_name(path: str) -> str:
    """Return the path, with the time behind it where there is such a file."""
    moment, free = time.time(), path
    while os.path.exists(free):  # two runs within a second: the later one counts up
        free = path + time.strftime("-%Y-%m-%d-%H-%M-%S", time.localtime(moment))
        moment += 1
    return free


def restore_stdout() -> None:
    """Close the open log, if there is one, and give sys.stdout back to the console."""
    while isinstance(sys.stdout, Logger):
        sys.stdout.close()


@contextlib.contextmanager
def log_warnings() -> Iterator[None]:
    """Within the block, write warnings also to the open log, or to the one that is opened next.

    They are all shown, even those that have been shown before: each run speaks for itself.
    """
    with warnings.catch_warnings(), plain_warnings():
        show = warnings.showwarning

        def show_and_log(message: Warning | str, *where: Any, **more: Any) -> None:
            show(message, *where, **more)
            _warned.append(str(message))
            if isinstance(sys.stdout, Logger):
                sys.stdout.log(f"Warning: {message}\n")

        warnings.showwarning = show_and_log
        try:
            yield
        finally:
            _warned.clear()


def warned() -> list[str]:
    """Return the texts of the warnings since `log_warnings` was last entered, each once."""
    return list(dict.fromkeys(_warned))


@contextlib.contextmanager
def quiet(on: bool = True, instead: TextIO | None = None) -> Iterator[None]:
    """Keep standard output free of what is logged and printed within the block; the log of a run still gets it.

    This holds for the current context (`contextvars`): other threads go on speaking. Standard error, where warnings
    and progress bars go, is left alone.

    Parameters
    ----------
    on : bool
        Off: nothing changes.
    instead : stream, optional
        Where it goes in place of the console, as a rule sys.stderr; by default nowhere.
    """
    if not on:
        yield
        return
    token = _instead.set((instead,))
    # trainers print, and print knows no contexts, but the stand-in for stdout does
    stand_in = None if isinstance(sys.stdout, Logger) else Logger()
    sys.stdout = stand_in or sys.stdout  # type: ignore[assignment]
    try:
        yield
    finally:
        _instead.reset(token)
        if stand_in is not None:
            stand_in.close()


class _ToStdout(logging.Handler):
    """Writes bare messages to the present `sys.stdout`, above progress bars.

    Unlike the library's own handlers it lets errors through, as `print` does: a reader that has gone away ends the
    program.
    """

    def emit(self, record: logging.LogRecord) -> None:
        stream = sys.stdout
        if not isinstance(stream, Logger):  # which asks for itself
            (stream,) = _instead.get() or (stream,)
        if stream is not None:
            tqdm.write(self.format(record), file=stream)


_messages = logging.getLogger("dassl")
_messages.setLevel(logging.INFO)
_messages.propagate = False  # a program that configures the root logger would show every line twice
_messages.addHandler(_ToStdout())


def _install_excepthook() -> None:
    """Let an exception that ends the program leave its traceback in the log, too."""
    if getattr(sys.excepthook, "writes_to_log", False):
        return
    previous = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, tb: TracebackType | None) -> None:
        if isinstance(sys.stdout, Logger):
            sys.stdout.log_traceback(error)
        previous(kind, error, tb)

    hook.writes_to_log = True  # type: ignore[attr-defined]
    sys.excepthook = hook
