from __future__ import annotations

import gc
import io
import json
import logging
import os
import random
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn

import dassl.utils as U
from dassl.utils.logger import Logger, quiet
from dassl.utils.rng import get_rng_state, set_rng_state
from dassl.utils.tools import atomic_write, path_hint
from tests.support.closeness import assert_close

ROOT = Path(__file__).parents[2]

IMPORT_SURFACE = {
    "dassl.engine": "TRAINER_REGISTRY TrainerX build_trainer TrainerXU TrainerBase SimpleTrainer SimpleNet",
    "dassl.engine.trainer": "TrainerX TrainerXU SimpleTrainer TrainerBase MetricMeter AverageMeter "
    "SummaryWriter DataManager build_optimizer build_lr_scheduler build_evaluator load_checkpoint "
    "save_checkpoint resume_from_checkpoint load_pretrained_weights mkdir_if_missing tolist_if_not "
    "count_num_param tqdm np osp time datetime torch nn OrderedDict",
    "dassl.metrics": "compute_accuracy compute_distance_matrix cosine_distance euclidean_squared_distance",
    "dassl.optim": "build_optimizer build_lr_scheduler",
    "dassl.optim.radam": "RAdam",
    "dassl.config": "get_cfg_default clean_cfg",
    "dassl.data": "DatasetWrapper DataManager",
    "dassl.data.datasets": "DATASET_REGISTRY Datum DatasetBase build_dataset",
    "dassl.data.datasets.build": "build_dataset",
    "dassl.data.datasets.base_dataset": "Datum DatasetBase",
    "dassl.data.data_manager": "DataManager DatasetWrapper build_data_loader",
    "dassl.data.samplers": "build_sampler",
    "dassl.data.transforms": "build_transform INTERPOLATION_MODES",
    "dassl.evaluation": "build_evaluator EVALUATOR_REGISTRY EvaluatorBase Classification",
    "dassl.evaluation.evaluator": "Classification EvaluatorBase",
    "dassl.evaluation.build": "EVALUATOR_REGISTRY build_evaluator",
    "dassl.utils": "load_pretrained_weights load_checkpoint setup_logger set_random_seed collect_env_info "
    "mkdir_if_missing listdir_nohidden read_json write_json check_isfile MetricMeter AverageMeter Registry "
    "check_availability tolist_if_not count_num_param save_checkpoint resume_from_checkpoint read_image "
    "download_url open_all_layers open_specified_layers init_network_weights "
    "get_most_similar_str_to_a_from_b Logger",
    "dassl.utils.tools": "mkdir_if_missing listdir_nohidden read_json write_json check_isfile",
}


def run_python(code: str, *args: object, **kwargs) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120, **kwargs)


# --- imports ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", IMPORT_SURFACE)
def test_every_name_that_plugins_import(module):
    imported = __import__(module, fromlist=["x"])
    for name in IMPORT_SURFACE[module].split():
        assert hasattr(imported, name), f"{module} lacks {name}"


def test_importing_registers_nothing_and_needs_neither_network_nor_optional_packages():
    code = """
import socket, sys
def refuse(*args, **kwargs): raise AssertionError("network at import")
socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
import dassl, dassl.engine.trainer, dassl.data, dassl.utils
from dassl.data.datasets import DATASET_REGISTRY
from dassl.engine import TRAINER_REGISTRY
print(TRAINER_REGISTRY.registered_names(), DATASET_REGISTRY.registered_names(), dassl.__version__)
heavy = "tensorboard sklearn gdown wilds matplotlib open_clip clip trainers datasets results".split()
print([name for name in heavy if name in sys.modules])
"""
    result = run_python(code)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "[] [] 0.6.3\n[]\n"


# --- registry and names ----------------------------------------------------------------------------------


def test_registry():
    registry = U.Registry("SHAPE")

    @registry.register()
    class Circle: ...

    class Square: ...

    assert registry.register(Square) is None
    assert registry.get("Circle") is Circle and registry.registered_names() == ["Circle", "Square"]
    with pytest.raises(KeyError, match="Circle.*SHAPE"):
        registry.register(Circle)
    other = type("Circle", (), {})
    registry.register(other, force=True)
    assert registry.get("Circle") is other
    with pytest.raises(KeyError, match=r"Circel.*SHAPE.*did you mean .*Circle.*\? known: Circle, Square"):
        registry.get("Circel")
    with pytest.raises(KeyError, match="circle"):
        registry.get("circle")
    with pytest.raises(KeyError, match="none are known"):
        U.Registry("EMPTY").get("x")


def test_availability_suggests_the_nearest_and_on_a_tie_the_later_name():
    U.check_availability("CoOp", ["CoOp"])
    with pytest.raises(ValueError, match=r"'Plot'; did you mean 'PLOT'\? known: CoOp, PLOT"):
        U.check_availability("Plot", ["CoOp", "PLOT"])
    with pytest.raises(ValueError, match="'plot'; did you mean 'PLOT'"):  # to difflib, TipAdapter is nearer
        U.check_availability("plot", ["PLOT", "TipAdapter"])
    assert U.get_most_similar_str_to_a_from_b("ab", ["ax", "ay"]) == "ay"
    assert U.get_most_similar_str_to_a_from_b("ab", []) is None
    with pytest.raises(ValueError, match="no choice 'Plot'; none are known yet"):
        U.check_availability("Plot", [])


def test_printable_escapes_what_would_command_a_terminal():
    name = "a\x1b[2J\r\n\tb\x9b\u2028\u202egnp.exe\u2069\udc80\x7f"
    assert U.printable(name) == r"a\x1b[2J\r\n\tb\x9b\u2028\u202egnp.exe\u2069\udc80\x7f"
    assert U.printable(Path("d") / "\x07.png") == os.path.join("d", r"\x07.png")
    for harmless in ("C:\\photos\\new", "Größe 12 µm", "猫", "क्‍ष", "👩‍👩‍👧", "سگ", " "):
        assert U.printable(harmless) == harmless
    every = "".join(map(chr, range(sys.maxunicode + 1)))
    assert "\n" not in U.printable(every) and U.printable(every).encode()  # one line, in UTF-8


def test_tolist_if_not():
    assert U.tolist_if_not("a") == ["a"] and U.tolist_if_not([1]) == [1]
    assert U.tolist_if_not(("a",)) == [("a",)]


# --- files -----------------------------------------------------------------------------------------------


def test_json_has_upstreams_form_and_bare_names_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    U.write_json({"b": [1, "ü"], "a": {}}, "bare.json")
    lines = ["{", '    "b": [', "        1,", '        "\\u00fc"', "    ],", '    "a": {}', "}"]
    assert Path("bare.json").read_text() == "\n".join(lines)
    U.write_json([1], "new/folder/x.json")
    assert U.read_json("new/folder/x.json") == [1]
    with pytest.raises(TypeError):
        U.write_json({1: object()}, "bare.json")
    assert U.read_json("bare.json")["b"] == [1, "ü"]


def test_listdir_and_check_isfile(tmp_path):
    for name in ("b", "a", ".hidden"):
        (tmp_path / name).touch()
    assert U.listdir_nohidden(tmp_path, sort=True) == ["a", "b"]
    assert sorted(U.listdir_nohidden(tmp_path)) == ["a", "b"]
    assert U.check_isfile(tmp_path / "a")
    with pytest.warns(UserWarning, match="No file found.*nowhere"):
        assert not U.check_isfile(tmp_path / "nowhere")


def test_mkdir_in_many_threads(tmp_path):
    errors = []

    def make():
        try:
            U.mkdir_if_missing(tmp_path / "a" / "b" / "c")
        except OSError as error:
            errors.append(error)

    threads = [threading.Thread(target=make) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and (tmp_path / "a/b/c").is_dir()
    U.mkdir_if_missing("")


def test_atomic_write_keeps_the_old_file_when_the_writer_fails(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_write(path) as file:
        file.write("new")
        raise RuntimeError
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["x.txt"]
    old_mask = os.umask(0o027)
    try:
        with atomic_write(path) as file:
            file.write("new")
    finally:
        os.umask(old_mask)
    assert path.read_text() == "new" and path.stat().st_mode & 0o777 == 0o640
    with pytest.raises(ValueError, match="mode"), atomic_write(path, "a"):
        pass


def test_atomic_write_on_a_full_disk(tmp_path):
    code = """
import resource, sys
from dassl.utils import atomic_write
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
for mode, data in (("w", "x" * 5000), ("wb", bytes(5000))):
    try:
        with atomic_write(sys.argv[1], mode) as file: file.write(data)
    except OSError as error: print(error.errno, error)
"""
    path = tmp_path / "x.txt"
    path.write_text("old")
    result = run_python(code, path)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) == 2
    for line in lines:
        assert "too large" in line and str(path) in line and "the old file is as it was" in line
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["x.txt"]


def test_read_image(tmp_path):
    palette = Image.new("P", (3, 2))
    palette.save(tmp_path / "p.png")
    picture = U.read_image(str(tmp_path / "p.png"))
    assert picture.mode == "RGB" and picture.size == (3, 2)
    whole = tmp_path / "whole.jpg"
    Image.effect_noise((64, 64), 50).save(whole)
    torn = tmp_path / "torn.jpg"
    torn.write_bytes(whole.read_bytes()[:400])
    empty = tmp_path / "empty.jpg"
    empty.touch()
    for bad in (torn, empty):
        with pytest.raises(OSError, match=f"cannot read the image .*{bad.name}"):
            U.read_image(str(bad))
    with pytest.raises(FileNotFoundError, match="No file exists at"):
        U.read_image(str(tmp_path / "none.jpg"))


def test_only_pictures_of_known_formats_reach_a_decoder(tmp_path, monkeypatch):
    for suffix in ("jpg", "png", "webp", "bmp", "gif", "tif", "ppm"):
        Image.new("RGB", (8, 6), "red").save(tmp_path / f"a.{suffix}")
        assert U.read_image(tmp_path / f"a.{suffix}").size == (8, 6)
    first, second = (Image.new("RGB", (40, 30), colour) for colour in ("red", "blue"))
    first.save(tmp_path / "phone.jpg", "MPO", save_all=True, append_images=[second])
    assert U.read_image(tmp_path / "phone.jpg").size == (40, 30)
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *args, **kwargs: pytest.fail("a program was started"))
    (tmp_path / "script.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n")
    Image.new("RGB", (32, 32)).save(tmp_path / "icon.png", "ICO")
    Image.new("RGB", (32, 32)).save(tmp_path / "paint.png", "PCX")
    for name in ("script.png", "icon.png", "paint.png"):
        with pytest.raises(OSError, match=f"{name}: it is damaged, or no picture in one of the formats JPEG, PNG"):
            U.read_image(tmp_path / name)


def test_pipes_and_devices_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", "/dev/zero", tmp_path):
        with pytest.raises(OSError, match=f"{path}: it is a folder, pipe or device"):
            U.read_image(path)
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "a.png")
    assert U.read_image(tmp_path / "link.png").size == (4, 4)
    with pytest.raises(OSError, match="pipe.png: it is a folder, pipe or device"):
        U.read_json(tmp_path / "pipe.png")


@pytest.mark.parametrize("size", [(1, 101), (20_000, 1), (3, 301)])
def test_pictures_that_would_be_huge_after_resizing_are_not_decoded(tmp_path, monkeypatch, size):
    Image.new("RGB", size).save(tmp_path / "thin.png")
    Image.new("RGB", (1, 100)).save(tmp_path / "strip.png")
    assert U.read_image(tmp_path / "strip.png").height == 100
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("it was decoded"))
    says = rf"thin.png: it has {size[0]:,} x {size[1]:,} pixels, .* at most 100 times the shorter, .*; cut it"
    with pytest.raises(OSError, match=says):
        U.read_image(tmp_path / "thin.png")


def test_a_picture_beyond_pillows_limit_is_named_with_what_to_do(tmp_path, monkeypatch):
    Image.new("RGB", (50, 50)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(OSError, match=r"large.png: Image size \(2500 pixels\) exceeds limit of 2000 .*smaller"):
        U.read_image(tmp_path / "large.png")


@pytest.mark.parametrize(("name", "dtype"), [("a.png", "<u2"), ("a.tif", "<u2"), ("b.tif", ">u2")])
def test_of_16_bits_of_grey_the_upper_ones_are_read(tmp_path, name, dtype):
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray((grey * np.uint16(257)).astype(dtype)).save(tmp_path / name)
    assert np.array_equal(np.asarray(U.read_image(tmp_path / name)), np.repeat(grey[..., None], 3, axis=2))


def test_download_leaves_a_whole_file_or_none(tmp_path):
    source = tmp_path / "source.bin"
    source.write_bytes(os.urandom(3_000_000))
    U.download_url(source.as_uri(), str(tmp_path / "copy.bin"))
    assert (tmp_path / "copy.bin").read_bytes() == source.read_bytes()
    with pytest.raises(OSError):
        U.download_url((tmp_path / "missing.bin").as_uri(), str(tmp_path / "never.bin"))
    assert sorted(os.listdir(tmp_path)) == ["copy.bin", "source.bin"]


def test_path_hint(tmp_path):
    (tmp_path / "caltech101.yaml").touch()
    assert path_hint(tmp_path / "caltech11.yaml") == f"; did you mean {tmp_path / 'caltech101.yaml'}?"
    assert "caltech101.yaml" in path_hint(tmp_path / "zzz")
    assert path_hint(tmp_path) == ": it is a folder"


# --- seeds and environment -------------------------------------------------------------------------------


def draws():
    python = random.random(), random.gauss(0, 1)
    return *python, float(np.random.normal()), float(torch.rand(1)), float(torch.randn(1))


def test_seeds():
    for seed in (0, 1, 2**32 - 1):
        U.set_random_seed(seed)
        first = draws()
        U.set_random_seed(seed)
        assert draws() == first
    random.seed(1)
    expected = [random.sample(range(30), 1)[0] for _ in range(5)]
    U.set_random_seed(1)
    assert [random.sample(range(30), 1)[0] for _ in range(5)] == expected == [4, 18, 27, 25, 24]
    for seed in (-1, 2**32, True):
        with pytest.raises(ValueError, match="seed"):
            U.set_random_seed(seed)


@given(st.integers(0, 2**32 - 1), st.integers(0, 5))
def test_random_state_goes_round(seed, warm_up):
    U.set_random_seed(seed)
    for _ in range(warm_up):
        draws()
    state = get_rng_state()
    expected = draws(), draws()
    U.set_random_seed(seed + 1 if seed < 2**32 - 1 else 0)
    set_rng_state(state)
    assert (draws(), draws()) == expected


def test_environment_report_is_cheap(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("started another program")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    monkeypatch.setattr(os, "system", refuse)
    start = time.perf_counter()
    report = U.collect_env_info()
    assert time.perf_counter() - start < 2
    assert f"PyTorch version: {torch.__version__}" in report and "Pillow (" in report and "numpy==" in report


# --- log -------------------------------------------------------------------------------------------------


@pytest.fixture()
def take_console(monkeypatch, tmp_path):
    """A function that puts an ASCII console of our own in place of the test runner's and returns it."""
    with open(tmp_path / "console.txt", "w", encoding="ascii", buffering=1) as stream:

        def take():
            monkeypatch.setattr(sys, "stdout", stream)
            return stream

        yield take
        U.restore_stdout()


def test_logger_copies_what_is_printed_at_once(take_console, tmp_path):
    console = take_console()
    assert U.setup_logger(None) is None and sys.stdout is console
    logger = U.setup_logger(tmp_path / "run")
    assert sys.stdout is logger and isinstance(logger, Logger)
    log = tmp_path / "run" / "log.txt"
    print("first line")
    assert log.read_text() == "first line\n"  # nothing was flushed or closed
    assert not sys.stdout.isatty() and sys.stdout.encoding == console.encoding == "ascii"
    assert sys.stdout.fileno() == console.fileno() and sys.stdout.buffer is console.buffer
    assert sys.stdout.closed is False and sys.stdout.errors == "strict"
    sys.stdout.writelines(["a\n", "b\n"])
    print("Ÿ über \ud800")
    U.restore_stdout()
    assert sys.stdout is console and not console.closed
    print("after")
    text = log.read_text(encoding="utf-8")
    assert text.startswith("first line\na\nb\nŸ über") and "after" not in text
    shown = Path(console.name).read_text()
    assert shown.startswith("first line\na\nb\n") and r"\xfcber" in shown and shown.endswith("after\n")


def test_users_see_what_is_warned_of_and_programmers_where():
    program = "import warnings; from dassl.utils.logger import log_warnings; warnings.simplefilter('always')\n"
    program += "with log_warnings():\n    for kind in (UserWarning, DeprecationWarning): "
    program += "warnings.warn('careful', kind)\n"
    shown = run_python(f"{program}warnings.warn('afterwards')").stderr.splitlines()
    assert shown[:2] == ["warning: careful", "<string>:3: DeprecationWarning: careful"]
    assert shown[-1] == "<string>:4: UserWarning: afterwards"


def test_the_log_of_a_run_goes_on_where_that_is_asked_for(tmp_path, capsys):
    from dassl.utils.logger import restore_stdout

    for word in ("first", "second"):
        logger = U.setup_logger(tmp_path, goes_on=True)
        print(word)
        logger.log_traceback(KeyboardInterrupt("after epoch 3"))
        restore_stdout()
    assert os.listdir(tmp_path) == ["log.txt"]
    pattern = r"first\nafter epoch 3\n\n\*\* The run goes on: 2[-\d]+ [:\d]+\nsecond\nafter epoch 3\n"
    assert re.fullmatch(pattern, (tmp_path / "log.txt").read_text())


def test_a_full_disk_ends_the_log_and_not_the_program(tmp_path):
    code = """
import resource, signal, sys
from dassl.utils import setup_logger
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
setup_logger(sys.argv[1])
for number in range(200): print("line", number)
sys.stdout.flush()
"""
    done = run_python(code, tmp_path)
    assert done.returncode == 0 and done.stdout.endswith("line 199\n")
    assert done.stderr.count("log.txt ends here: File too large") == 1, done.stderr


def test_several_runs_in_one_process(take_console, tmp_path):
    take_console()
    for run in ("one", "two"):
        U.setup_logger(tmp_path / run)  # the second call also ends the first log
        print(f"this is {run}")
    U.restore_stdout()
    for _ in range(2):  # later runs in the same folder, within a second
        U.setup_logger(tmp_path / "one")
        print("again")
        U.restore_stdout()
    assert (tmp_path / "one/log.txt").read_text() == "this is one\n"
    assert (tmp_path / "two/log.txt").read_text() == "this is two\n"
    later = sorted(name for name in os.listdir(tmp_path / "one") if name != "log.txt")
    assert len(later) == 2
    for name in later:
        assert re.fullmatch(r"log\.txt-\d{4}-\d\d-\d\d-\d\d-\d\d-\d\d", name)
        assert (tmp_path / "one" / name).read_text() == "again\n"
    U.setup_logger(tmp_path / "named.log")
    print("x")
    U.restore_stdout()
    assert (tmp_path / "named.log").read_text() == "x\n"


def test_closing_never_closes_the_console(take_console, tmp_path):
    console = take_console()
    logger = Logger(tmp_path / "a.txt")
    logger.close()
    logger.close()
    with Logger(tmp_path / "b.txt") as other:
        other.write("x")
    del logger, other
    gc.collect()
    assert not console.closed
    Logger().write("no file\n")


def test_without_a_console_there_is_the_log(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "stdout", None)
    engine.info("nobody hears this")
    U.setup_logger(tmp_path)
    print("hello", flush=True)
    engine.info("world")
    U.restore_stdout()
    assert (tmp_path / "log.txt").read_text() == "hello\nworld\n"


engine = logging.getLogger("dassl.engine.trainer")


def test_the_engine_speaks_through_logging(take_console, tmp_path):
    console = take_console()
    engine.info("100 % of it")
    engine.debug("not this")
    with U.setup_logger(tmp_path):
        engine.info("one\ntwo")
        print("three")
        engine.info("four")
    assert Path(console.name).read_text() == "100 % of it\none\ntwo\nthree\nfour\n"
    assert (tmp_path / "log.txt").read_text() == "one\ntwo\nthree\nfour\n"


def test_a_reader_that_has_gone_away_ends_the_program():
    program = "import os, dassl.utils, logging\nos.dup2(os.open('/dev/full', os.O_WRONLY), 1)\n"
    program += "import sys; sys.stdout.reconfigure(write_through=True)\n"
    ran = run_python(program + "logging.getLogger('dassl.x').info('lost')")
    assert ran.returncode == 1 and "OSError: [Errno 28]" in ran.stderr and "Logging error" not in ran.stderr


def test_what_is_said_can_go_elsewhere(take_console, tmp_path):
    console, elsewhere = take_console(), io.StringIO()
    with quiet(instead=elsewhere), U.setup_logger(tmp_path):
        print("printed")
        engine.info("logged")
    with quiet(instead=elsewhere):
        engine.info("once more")
    print("afterwards")
    assert elsewhere.getvalue() == "printed\nlogged\nonce more\n"
    assert (tmp_path / "log.txt").read_text() == "printed\nlogged\n"
    assert Path(console.name).read_text() == "afterwards\n"


def test_one_thread_is_quiet_and_others_are_not(take_console, tmp_path):
    console = take_console()

    def speak(word):
        print(f"printed {word}")
        engine.info(f"logged {word}")

    with quiet():
        speak("in secret")
        with quiet(False):
            speak("in secret too")
        thread = threading.Thread(target=speak, args=("elsewhere",))
        thread.start()
        thread.join()
        with U.setup_logger(tmp_path):
            speak("to the log")
    assert sys.stdout is console
    speak("afterwards")
    assert Path(console.name).read_text() == "".join(
        f"printed {word}\nlogged {word}\n" for word in ("elsewhere", "afterwards"))
    assert (tmp_path / "log.txt").read_text() == "printed to the log\nlogged to the log\n"


def test_traceback_goes_to_the_log(take_console, tmp_path):
    console = take_console()
    with pytest.raises(ZeroDivisionError), U.setup_logger(tmp_path):
        print("before")
        1 / 0  # noqa: B018
    assert sys.stdout is console
    text = (tmp_path / "log.txt").read_text()
    assert text.startswith("before\nTraceback") and "ZeroDivisionError" in text
    assert "Traceback" not in Path(console.name).read_text()


def test_a_killed_process_leaves_its_last_line_and_an_uncaught_error_its_traceback(tmp_path):
    code = """
import os, signal, sys
from dassl.utils import setup_logger
from tests.support.closeness import assert_close
setup_logger(sys.argv[1])
print("last line")
if sys.argv[2] == "kill": os.kill(os.getpid(), signal.SIGKILL)
raise ValueError("what went wrong")
"""
    assert run_python(code, tmp_path / "a", "kill").returncode == -9
    assert (tmp_path / "a/log.txt").read_text() == "last line\n"
    result = run_python(code, tmp_path / "b", "raise")
    assert result.returncode == 1 and result.stdout == "last line\n" and "what went wrong" in result.stderr
    assert "ValueError: what went wrong" in (tmp_path / "b/log.txt").read_text()


# --- meters ----------------------------------------------------------------------------------------------


@given(st.lists(st.floats(-1e6, 1e6), min_size=1), st.integers(1, 5))
def test_average_meter(values, n):
    meter = U.AverageMeter()
    for value in values:
        meter.update(torch.tensor(value, dtype=torch.float64), n)
    assert meter.val == values[-1] and meter.count == n * len(values)
    assert_close(meter.avg, np.mean(values), 1e-12, floor=max(map(abs, values)))
    assert_close(meter.sum, n * sum(values), 1e-12, floor=meter.count * max(map(abs, values)))


def test_exponential_meter_starts_at_zero():
    meter = U.AverageMeter(ema=True)
    meter.update(1.0)
    meter.update(2.0)
    assert meter.avg == pytest.approx(0.1 * 0.9 + 0.2)


def test_metric_meter():
    meter = U.MetricMeter()
    meter.update(None)
    meter.update({"loss": torch.tensor(1.0), "acc": 50})
    meter.update({"loss": 2.0, "acc": 100})
    assert str(meter) == "loss 2.0000 (1.5000) acc 100.0000 (75.0000)"
    assert list(meter.meters) == ["loss", "acc"]
    with pytest.raises(TypeError, match="list"):
        meter.update([1])


# --- weights and layers ----------------------------------------------------------------------------------


class ConvBlock(nn.Sequential):
    """Called as a convolution is, but has no weight of its own."""


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = ConvBlock(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.head = nn.Linear(4, 2)


def test_count_and_open_layers():
    net = Net()
    assert U.count_num_param(net) == U.count_num_param(params=net.parameters()) == 3 * 4 * 9 + 4 + 8 + 10
    assert U.count_num_param(params=[{"params": net.head.parameters()}, {"params": net.head.weight}]) == 18
    U.open_specified_layers(nn.DataParallel(net), "head")
    assert net.head.training and not net.body.training
    assert [p.requires_grad for p in net.parameters()] == [False] * 4 + [True] * 2
    U.open_all_layers(net)
    assert net.body.training and all(p.requires_grad for p in net.parameters())
    with pytest.raises(ValueError, match=r"hed.*did you mean 'head'"):
        U.open_specified_layers(net, ["hed"])
    with pytest.raises(ValueError, match="needs a model"):
        U.count_num_param()


@pytest.mark.parametrize("kind", ["normal", "xavier", "kaiming", "orthogonal"])
def test_init_network_weights(kind):
    net = Net()
    nn.init.constant_(net.body[1].weight, 7.0)
    before = net.head.weight.clone()
    U.init_network_weights(net, kind)
    assert not torch.equal(net.head.weight, before)
    assert (net.head.bias == 0).all() and (net.body[0].bias == 0).all()
    assert (net.body[1].weight == 1).all() and (net.body[1].bias == 0).all()
    with pytest.raises(ValueError, match="orthogonal"):
        U.init_network_weights(net, "orthogonall")


def test_load_pretrained_weights_takes_what_fits(tmp_path, capsys):
    source, target = Net(), Net()
    state = {f"module.{key}": value for key, value in source.state_dict().items()}
    state["module.head.weight"] = torch.zeros(3, 4)
    state["extra"] = torch.zeros(1)
    kept = target.head.weight.clone()
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "x.pth")
    U.load_pretrained_weights(nn.DataParallel(target), str(tmp_path / "x.pth"))
    out = capsys.readouterr().out
    assert "Successfully loaded" in out and "['head.weight', 'extra']" in out
    assert torch.equal(target.body[0].weight, source.body[0].weight) and torch.equal(target.head.weight, kept)
    torch.save(source.state_dict(), tmp_path / "bare.pth")
    U.load_pretrained_weights(target, str(tmp_path / "bare.pth"))
    assert torch.equal(target.head.weight, source.head.weight)
    torch.save({"a": torch.zeros(1)}, tmp_path / "none.pth")
    with pytest.warns(UserWarning, match="Cannot load.*none of its 1 entries"):
        U.load_pretrained_weights(target, str(tmp_path / "none.pth"))


def test_json_is_ascii(tmp_path):
    U.write_json("é", tmp_path / "x.json")
    assert (tmp_path / "x.json").read_bytes() == b'"\\u00e9"' and json.loads('"\\u00e9"') == "é"
