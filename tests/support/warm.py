"""Python programs in processes of their own that start at once.

    done = warm.run([sys.executable, "train.py", *argv], cwd=REPOSITORY)
    program = warm.start([sys.executable, "-c", code])

Importing torch and torchvision takes a program two to five seconds, and many tests start some.  Here one process has
imported these packages of others, and every program is a fork of it that goes on as the interpreter would: with its own
arguments, folder, environment and signals, importing our modules anew, and ending as programs end.

Where a fork would not be the same (another environment of the interpreter or of the libraries' threads, no fork on this
system) the program is started as usual.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import io
import json
import multiprocessing.process
import os
import random
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
import types
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO, Any, NoReturn

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = (
    "torch", "torch._dynamo", "torch.utils.tensorboard", "torchvision", "scipy.optimize", "yaml", "tqdm",
    "matplotlib.pyplot",
)  # fmt: skip
DECISIVE = ("PYTHON", "OMP_", "MKL_", "ATEN_", "ONEDNN_", "DNNL_", "KMP_", "CUDA_", "LD_", "TORCH")  # read at imports
MOST_BYTES = 2**20  # of a request


class Program:
    """A program that was started here, with what tests use of `subprocess.Popen`."""

    def __init__(self, status: int) -> None:
        self._status = os.fdopen(status, "rb", buffering=0)
        self.pid = int(self._line())
        self.returncode: int | None = None

    def _line(self) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            part = self._status.read(1)
            assert part, "the process that watches the program has gone"
            line += part
        return line

    def poll(self) -> int | None:
        """The exit status, as `Popen` has it; None while it runs."""
        if self.returncode is None and select.select([self._status], [], [], 0)[0]:
            return self.wait()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; the exit status."""
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            self.returncode = int(self._line())
            self._status.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Server:
    """The process that has imported PACKAGES, and of which programs are forks."""

    def __init__(self) -> None:
        self.environment = dict(os.environ)
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        number = theirs.fileno()
        command = [sys.executable, "-m", __name__, str(number)]
        self.process = subprocess.Popen(command, pass_fds=[number], cwd=REPOSITORY, stdin=subprocess.DEVNULL)
        theirs.close()  # the server ends when nobody has the other end any more
        atexit.register(self.stop)

    def stop(self) -> None:
        """End the server; programs go on."""
        self.socket.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:  # some process of the tests still has a copy of the socket
            self.process.kill()
            self.process.wait()

    def suits(self, environment: Mapping[str, str]) -> bool:
        """Whether a fork is as good as a program that begins with this environment."""
        first, second = (
            {name: value for name, value in variables.items() if name.startswith(DECISIVE)}
            for variables in (environment, self.environment)
        )
        return first == second

    def start(
        self, words: Sequence[str], cwd: Path | str, environment: Mapping[str, str], out: IO[Any], err: IO[Any]
    ) -> Program:
        """Start the program of a command line, without the interpreter."""
        reading, writing = os.pipe()
        request = json.dumps([list(words), str(cwd), dict(environment)]).encode()
        assert len(request) < MOST_BYTES
        socket.send_fds(self.socket, [request], [out.fileno(), err.fileno(), writing])
        os.close(writing)
        return Program(reading)


@cache
def server() -> Server | None:
    """The one of this process, started when it is first needed; None where there can be none."""
    return Server() if hasattr(os, "fork") and hasattr(socket, "send_fds") else None


def start(
    command: Sequence[Any], cwd: Path | str | None = None, env: Mapping[str, str] | None = None,
    stdout: IO[Any] | None = None, stderr: IO[Any] | None = None,
) -> Program | subprocess.Popen[bytes]:  # fmt: skip
    """Start a Python program, as `subprocess.Popen` does; its output goes to open files, or nowhere.

    Parameters
    ----------
    command
        sys.executable, then a script, "-c" and code, or "-m" and a module, then what the program reads.
    """
    interpreter, *words = map(str, command)
    assert interpreter == sys.executable
    environment, forks = os.environ if env is None else env, server()
    with open(os.devnull, "wb") as nowhere:
        out, err = stdout or nowhere, stderr or nowhere
        if forks is None or not forks.suits(environment):
            return subprocess.Popen([interpreter, *words], cwd=cwd, env=environment, stdout=out, stderr=err)
        return forks.start(words, cwd or os.getcwd(), environment, out, err)


def run(
    command: Sequence[Any], cwd: Path | str | None = None, env: Mapping[str, str] | None = None,
    timeout: float | None = None, check: bool = False,
) -> subprocess.CompletedProcess[str]:  # fmt: skip
    """Run a Python program to its end, as `subprocess.run` does with `capture_output=True, text=True`."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        program = start(command, cwd, env, out, err)
        try:
            status = program.wait(timeout)
        except subprocess.TimeoutExpired:
            program.kill()
            raise
        done = subprocess.CompletedProcess(list(command), status, _text(out), _text(err))
    if check:
        done.check_returncode()
    return done


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


# --- the server ------------------------------------------------------------------------------------------


def serve(connection: socket.socket) -> None:
    """Fork for every request, until the other end of the connection is closed."""
    gc.collect()
    gc.freeze()  # what is imported is not looked at again, which would copy it into every fork
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests, which end this process
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that watch programs
    while True:
        request, files, _, _ = socket.recv_fds(connection, MOST_BYTES, 3)
        if not request:
            sys.exit()
        if os.fork() == 0:
            connection.close()
            words, cwd, environment = json.loads(request)
            _watch(words, cwd, environment, *files)
        for file in files:
            os.close(file)


def _watch(words: list[str], cwd: str, environment: dict[str, str], out: int, err: int, status: int) -> NoReturn:
    """Fork the program, and say which process it is, and in the end how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    program = os.fork()
    if program == 0:
        os.close(status)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for number, file in enumerate((nothing, out, err)):
            os.dup2(file, number)
        for file in {nothing, out, err} - {0, 1, 2}:
            os.close(file)
        _become(words, cwd, environment)
    os.close(out)
    os.close(err)
    with suppress(BrokenPipeError):  # nobody asks any more
        os.write(status, b"%d\n" % program)
        code = os.waitstatus_to_exitcode(os.waitpid(program, 0)[1])
        os.write(status, b"%d\n" % code)
    os._exit(0)


def _become(words: list[str], cwd: str, environment: dict[str, str]) -> NoReturn:
    """Go on as the interpreter would with this command line, and end as it would, without tidying its memory up."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(cwd)
    multiprocessing.process.ORIGINAL_DIR = cwd  # type: ignore[attr-defined]  # where its children look for the script
    os.environ.clear()
    os.environ.update(environment)
    for number, name in ((1, "stdout"), (2, "stderr")):
        before = getattr(sys, name)
        text = {"encoding": before.encoding, "errors": before.errors, "line_buffering": before.line_buffering}
        stream = io.TextIOWrapper(io.BufferedWriter(io.FileIO(number, "wb", closefd=False)), **text)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    random.seed()
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    if "torch" in sys.modules:
        sys.modules["torch"].seed()
    code = 0
    try:
        _run(words, cwd)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
    except BaseException as error:
        code = -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
        frames = error.__traceback__
        while frames is not None and frames.tb_frame.f_code.co_filename in (__file__, runpy.__file__):
            frames = frames.tb_next
        traceback.print_exception(type(error), error, frames)
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as the interpreter does
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    if code < 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(code)


def _run(words: list[str], cwd: str) -> None:
    """Execute the program as the main module."""
    if words[0] == "-u":
        words = words[1:]
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(write_through=True)  # type: ignore[union-attr]
    if words[0] == "-c":
        sys.argv, sys.path[0] = ["-c", *words[2:]], ""
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(words[1], "<string>", "exec"), main.__dict__)
    elif words[0] == "-m":
        sys.argv, sys.path[0] = words[1:], cwd
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[0] = words, os.path.dirname(os.path.abspath(words[0]))
        runpy.run_path(words[0], run_name="__main__")


if __name__ == "__main__":
    for name in PACKAGES:
        with suppress(ImportError):
            importlib.import_module(name)
    serve(socket.socket(fileno=int(sys.argv[1])))
