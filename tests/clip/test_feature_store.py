"""The store alone: what was written is read, what is damaged is not, what is full makes room."""
from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

import clip
from clip.__main__ import main
from clip.feature_store import FeatureStore, key_of, keys, tower_digest
from clip.feature_store import store as store_module
from clip.feature_store.files import INFO
from clip.features import ImageFeatures
from dassl.plain.text import shown_bytes
from tests.support import warm
from tests.support.programs import REPOSITORY

FACTS = {"weights": "w", "batch": 4}
KEY = key_of(FACTS)


def features(images=10, width=6, places=3, dtype=torch.float32, seed=0):
    draw = torch.Generator().manual_seed(seed)
    pooled, local = (torch.randn(images, *shape, generator=draw) for shape in ((width,), (places, width)))
    return ImageFeatures(pooled.to(dtype), local.to(dtype))


def write(store, key=KEY, data=None, batch=4, about="demo test"):
    data = features() if data is None else data
    with store.building(key), store.write(key, FACTS, len(data.pooled), about) as writer:
        for first in range(0, len(data.pooled), batch):
            writer.add(ImageFeatures(*(tensor[first:first + batch] for tensor in data)))
    return writer


def same(a, b):
    return all(x.dtype == y.dtype and torch.equal(x, y) for x, y in zip(a, b, strict=True))


def equal(stored, data):
    """Both ways to read are right: everything at once, and some rows."""
    part = ImageFeatures(*(tensor[3:7] for tensor in data))
    return stored is not None and same(stored.all(), data) and same(stored.rows(3, 7), part)


@pytest.fixture
def store(tmp_path):
    store_module._verified.clear()
    return FeatureStore(tmp_path / "features")


def forget():
    """As another process sees it."""
    store_module._verified.clear()


# --- there and back --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("places", [0, 3])
def test_what_was_written_is_read(store, dtype, places):
    data = features(places=places, dtype=dtype)
    assert store.open(KEY) is None
    assert write(store, data=data).problem == ""
    assert equal(store.open(KEY), data)
    forget()
    assert equal(FeatureStore(store.folder).open(KEY), data)
    assert [path.name for path in store.folder.iterdir() if not path.name.startswith(".")] == [KEY]


def test_views_are_written_in_order(store):
    whole = torch.randn(10, 4, 6)
    data = ImageFeatures(whole[:, 0], whole[:, 1:])  # as the attention pool gives them
    write(store, data=data)
    assert equal(store.open(KEY), data)


def test_writing_into_what_was_read_does_not_reach_the_file(store):
    write(store)
    store.open(KEY).all().pooled.zero_()
    forget()
    assert equal(store.open(KEY), features())


def test_keys_tell_every_fact_apart():
    keys = {key_of(FACTS), key_of(FACTS | {"batch": 5}), key_of(FACTS | {"weights": "v"}), key_of(FACTS | {"more": 0})}
    assert len(keys) == 4 and key_of({"batch": 4, "weights": "w"}) == KEY


# --- damage ----------------------------------------------------------------------------------------------


def cut(path):
    path.write_bytes(path.read_bytes()[:-4])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["pooled.bin", "local.bin", INFO])
@pytest.mark.parametrize("harm", [cut, flip, Path.unlink, lambda path: path.write_bytes(b"")])
@pytest.mark.parametrize("elsewhere", [True, False])
def test_damage_is_found_removed_and_mended(store, name, harm, elsewhere, capsys):
    write(store)
    assert equal(store.open(KEY), features())
    before = (store.folder / KEY / INFO).read_text()
    harm(store.folder / KEY / name)
    if elsewhere:
        forget()
    harmless = name == INFO and _same_facts(before, store.folder / KEY / INFO)
    if harmless:  # a letter of the description
        assert equal(store.open(KEY), features())
        return
    assert store.open(KEY) is None
    assert "damaged" in capsys.readouterr().out and not (store.folder / KEY).exists()
    write(store)
    assert equal(store.open(KEY), features())


def _same_facts(before, path):
    try:
        old, new = json.loads(before), json.loads(path.read_text())
    except (OSError, ValueError):
        return False
    return all(old[key] == new.get(key) for key in ("format", "dtype", "pooled", "local", "files"))


def test_other_formats_are_rebuilt(store, monkeypatch):
    write(store)
    monkeypatch.setattr(keys, "FORMAT", keys.FORMAT + 1)
    assert store.open(KEY) is None


def test_a_build_that_stops_early_leaves_nothing(store):
    data = features()
    with store.building(KEY), store.write(KEY, FACTS, 11) as writer:
        writer.add(data)
    assert "only 10 of 11" in writer.problem and store.entries() == []
    with pytest.raises(ZeroDivisionError), store.building(KEY), store.write(KEY, FACTS, 10) as writer:
        writer.add(data)
        raise ZeroDivisionError
    assert store.entries() == [] and store.open(KEY) is None


BUILD = """
import sys, time
from tests.clip.test_feature_store import *
store = FeatureStore(sys.argv[1])
data = features(seed=int(sys.argv[2]))
with store.building(KEY):
    if store.open(KEY) is None:
        with store.write(KEY, FACTS, 10) as writer:
            writer.add(ImageFeatures(*(tensor[:5] for tensor in data)))
            for file in writer._files.values():
                file.flush()
            print("half", flush=True)
            time.sleep(float(sys.argv[3]))
            writer.add(ImageFeatures(*(tensor[5:] for tensor in data)))
        print("built", flush=True)
    else:
        print("found", flush=True)
"""


def builder(store, seed, pause):
    argv = [sys.executable, "-c", BUILD, str(store.folder), str(seed), str(pause)]
    reading, writing = os.pipe()
    with open(writing, "wb") as out:
        process = warm.start(argv, cwd=REPOSITORY, stdout=out)
    process.stdout = open(reading, encoding="utf-8")  # noqa: SIM115
    return process


def test_a_killed_build_leaves_nothing_that_looks_complete(store):
    process = builder(store, 0, 600)
    assert process.stdout.readline() == "half\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    (left,) = store.entries()
    assert not left.complete and left.about == "unfinished" and store.open(KEY) is None
    write(store)
    (entry,) = store.entries()
    assert entry.complete and equal(store.open(KEY), features())


def test_of_two_processes_one_builds_and_the_other_waits(store):
    first = builder(store, 0, 2)
    assert first.stdout.readline() == "half\n"
    second = builder(store, 1, 0)
    assert first.stdout.read() == "built\n"
    assert second.stdout.read().endswith("found\n")
    assert equal(store.open(KEY), features(seed=0))


def test_a_process_does_not_wait_for_itself(store):
    with store.building(KEY):
        assert write(store).problem == ""
    with store.building(KEY):
        assert equal(store.open(KEY), features())
    other = builder(store, 0, 0)
    assert other.wait(timeout=60) == 0 and other.stdout.read() == "found\n"  # it lets go


def test_a_lock_that_children_have_inherited_is_let_go(store):
    with store.building(KEY):
        child = os.fork()
        if not child:
            time.sleep(60)
            os._exit(0)
    try:
        other = builder(store, 0, 0)
        assert other.wait(timeout=30) == 0 and other.stdout.read() == "half\nbuilt\n"
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


# --- room ------------------------------------------------------------------------------------------------


def size_of_one(store):
    write(store)
    (entry,) = store.entries()
    return entry.size


def test_the_least_recently_used_go_first(store):
    keys = [key_of({"number": i}) for i in range(4)]
    size = size_of_one(store)
    store.clear(store.entries())
    for age, key in enumerate(keys[:3]):
        write(store, key)
        os.utime(store.folder / key / INFO, (1000 + age, 1000 + age))
    store.open(keys[0])  # used just now
    store.limit = 3.2 * size
    write(store, keys[3])
    assert [entry.key for entry in store.entries()] == [keys[2], keys[0], keys[3]]


def test_what_is_larger_than_the_limit_is_not_begun(store):
    write(store, key_of({"other": 1}))
    store.limit = 100
    writer = write(store)
    assert "more than its limit of 100 bytes" in writer.problem
    assert [entry.key for entry in store.entries()] == [key_of({"other": 1})]  # and nothing was evicted for it


def test_a_small_disk_is_left_alone(store, monkeypatch):
    usage = shutil.disk_usage(store.folder.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=store_module.RESERVE + 100))
    writer = write(store)
    assert "do not fit on the disk" in writer.problem and store.entries() == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_disk_that_fills_up_ends_the_writing_alone(store):
    data = features()
    with store.building(KEY), store.write(KEY, FACTS, 10) as writer:
        writer.add(ImageFeatures(*(tensor[:5] for tensor in data)))
        writer._files["pooled"].close()
        writer._files["pooled"] = open("/dev/full", "wb", buffering=0)  # noqa: SIM115
        writer.add(ImageFeatures(*(tensor[5:] for tensor in data)))
    assert "No space left" in writer.problem and store.entries() == []


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(store):
    store.folder.mkdir()
    store.folder.chmod(0o500)
    assert "ermission" in write(store).problem and store.open(KEY) is None
    store.folder.chmod(0o700)


def test_a_file_where_the_folder_should_be(tmp_path):
    (tmp_path / "features").write_text("")
    store = FeatureStore(tmp_path / "features")
    assert write(store).problem and store.open(KEY) is None and store.entries() == []


# --- what a tower computes with --------------------------------------------------------------------------


def test_digest_of_a_tower():
    torch.manual_seed(0)
    tower = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    first = tower_digest(tower)
    assert first == tower_digest(tower)
    torch.manual_seed(0)
    assert tower_digest(nn.Sequential(nn.Linear(3, 4), nn.ReLU())) == first  # the same, elsewhere
    assert tower_digest(nn.Sequential(tower[0], nn.GELU())) != first
    with torch.no_grad():
        tower[0].weight[1, 1] += 1e-6
    second = tower_digest(tower)
    assert second != first
    tower[0].bias.data = tower[0].bias.data.clone() + 1
    assert tower_digest(tower) not in (first, second)
    assert tower_digest(tower.half()) not in (first, second)


# --- the command -----------------------------------------------------------------------------------------


def command(*argv, capsys):
    status = main(["cache", *argv])
    out = capsys.readouterr()
    return status, out.out, out.err


def test_command_shows_verifies_and_clears(store, capsys):
    flags = ("--dir", str(store.folder))
    other = key_of({"other": 1})
    write(store, about="Caltech101 test")
    write(store, other)
    status, out, _ = command("show", *flags, capsys=capsys)
    assert status == 0 and "Caltech101 test" in out and KEY[:12] in out and "2 entries" in out
    assert command("verify", *flags, capsys=capsys)[0] == 0
    flip(store.folder / other / "local.bin")
    status, out, _ = command("verify", *flags, capsys=capsys)
    assert status == 1 and f"{other[:12]} damaged" in out and f"{KEY[:12]} sound" in out
    assert [entry.key for entry in store.entries()] == [KEY]
    write(store, other)
    status, _, err = command("clear", "zz", *flags, capsys=capsys)
    assert status == 2 and KEY[:12] in err and len(store.entries()) == 2
    status, out, _ = command("clear", other[:6], *flags, capsys=capsys)
    assert status == 0 and "removed 1 entries" in out and [entry.key for entry in store.entries()] == [KEY]
    assert command("clear", *flags, capsys=capsys)[0] == 0
    assert list(store.folder.iterdir()) == []
    assert command("show", *flags, capsys=capsys)[0] == 0


def test_clear_leaves_what_is_being_written(store, capsys):
    process = builder(store, 0, 3)
    assert process.stdout.readline() == "half\n"
    command("clear", "--dir", str(store.folder), capsys=capsys)
    assert process.stdout.read() == "built\n"
    assert equal(store.open(KEY), features(seed=0))


def test_command_line_of_its_own():
    def run(*argv):
        return subprocess.run([sys.executable, "-m", "clip", *argv], cwd=REPOSITORY, capture_output=True, text=True)

    done = run("cache", "--help")
    assert done.returncode == 0 and "examples:" in done.stdout and "FEATURE_CACHE.DIR" in done.stdout
    assert [run(*argv).returncode for argv in ([], ["cash"], ["cache"])] == [2, 2, 2]


def test_help_and_the_package_alone_import_no_torch():
    program = "import sys, clip.__main__ as m; m.main(['--help']); assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True).returncode == 0
    with pytest.raises(AttributeError, match="no attribute 'laod'"):
        clip.laod  # noqa: B018


def test_sizes_for_people():
    assert [shown_bytes(size) for size in (5, 1500, 2.34e6, 10.24e9, 2e12)] == [
        "5 bytes", "1.5 kB", "2.3 MB", "10.2 GB", "2000.0 GB"]


def test_folder_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("PLOT_FEATURE_CACHE", str(tmp_path / "there"))
    assert FeatureStore().folder == tmp_path / "there"
    monkeypatch.delenv("PLOT_FEATURE_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert FeatureStore().folder == tmp_path / ".cache" / "plot-features"
