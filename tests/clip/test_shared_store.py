"""The store on a network file system: locks that fail, machines that are gone, entries that vanish or are not seen."""
from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import shutil
import signal
import threading
import time

import pytest

from clip.feature_store import FeatureStore, files, reading
from clip.feature_store import writing as store_writing
from clip.features import ImageFeatures
from dassl.plain import locking, writing
from tests.clip.test_feature_store import FACTS, KEY, equal, features, forget, write

QUICK = {"BEAT": 0.1, "SILENCE": 1.0, "POLL": 0.05, "STUCK": 0.5}


@pytest.fixture
def store(tmp_path):
    forget()
    return FeatureStore(tmp_path / "features")


@pytest.fixture
def quick(monkeypatch):
    for name, value in QUICK.items():
        monkeypatch.setattr(locking, name, value)


def error(number):
    return OSError(number, os.strerror(number))


class Builder:
    """Another process that builds, and stops for a while in the middle."""

    def __init__(self, store, seed, pause):
        fork = multiprocessing.get_context("fork")  # which needs no second to import torch
        self.ours, theirs = fork.Pipe()
        self.process = fork.Process(target=self._build, args=(store, seed, pause, theirs))
        self.process.start()
        assert self.ours.recv() == "half"

    def _build(self, store, seed, pause, pipe):
        data = features(seed=seed)
        for name, value in QUICK.items():
            setattr(locking, name, value)
        with store.building(KEY), store.write(KEY, FACTS, 10) as writer:
            writer.add(ImageFeatures(*(tensor[:5] for tensor in data)))
            pipe.send("half")
            time.sleep(pause)
            writer.add(ImageFeatures(*(tensor[5:] for tensor in data)))
        pipe.send(writer.problem or "built")

    def send_signal(self, number):
        os.kill(self.process.pid, number)

    def outcome(self):
        outcome = self.ours.recv()
        self.process.join()
        return outcome


def partials(store):
    return sorted(path.name for path in store.folder.glob(f"*{files.PARTIAL}"))


# --- locks -----------------------------------------------------------------------------------------------


def test_a_slow_builder_is_waited_for_and_a_frozen_one_is_not(store, quick, capsys):
    """Another process's signs of life decide, and never its clock."""
    slow = Builder(store, 1, 2.5)
    with store.building(KEY):
        assert equal(store.open(KEY), features(seed=1))  # 2.5 s are more than SILENCE
    assert slow.outcome() == "built"
    store.clear(store.entries())
    frozen = Builder(store, 2, 0.1)
    frozen.send_signal(signal.SIGSTOP)
    assert write(store).problem == "" and "going on without it" in capsys.readouterr().out
    frozen.send_signal(signal.SIGCONT)
    assert frozen.outcome() == "built"  # as it thinks; the first to finish has won
    forget()
    assert equal(store.open(KEY), features()) and partials(store) == []


def test_the_wait_has_an_end_even_where_the_builder_lives(store, quick):
    slow = Builder(store, 1, 60)
    started = time.monotonic()
    with store.building(KEY, longest=0.3), store.write(KEY, FACTS, 10) as writer:
        assert 0.3 < time.monotonic() - started < 20 and store.open(KEY) is None
        writer.add(features())
    assert writer.problem == "" and len(partials(store)) == 1  # the other build is left alone
    slow.send_signal(signal.SIGKILL)
    slow.process.join()
    assert equal(store.open(KEY), features())


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ESTALE, errno.EIO])
def test_without_locks_the_first_to_finish_wins(store, monkeypatch, number):
    def no_locks(*args):
        raise error(number)

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with store.building(KEY), store.write(KEY, FACTS, 10) as slow:
        slow.add(features(seed=1))
        assert write(store).problem == ""
    assert slow.problem == "" and len(store.entries()) == 1
    assert equal(store.open(KEY), features())


def test_a_lock_that_every_machine_has_for_itself(store, monkeypatch):
    """As on NFS with `nolock`: both believe that they are alone."""
    other = Builder(store, 1, 1)
    monkeypatch.setattr(fcntl, "flock", lambda *args: None)
    assert write(store).problem == ""
    assert other.outcome() == "built"
    assert len(store.entries()) == 1 and equal(store.open(KEY), features())


def test_a_lock_service_that_does_not_answer(store, quick, monkeypatch):
    answered = threading.Event()
    monkeypatch.setattr(fcntl, "flock", lambda *args: answered.wait())
    started = time.monotonic()
    assert write(store).problem == "" and 0.4 < time.monotonic() - started < 20
    answered.set()
    assert equal(store.open(KEY), features())


# --- machines that are gone ------------------------------------------------------------------------------


def test_what_other_machines_left_is_removed_after_a_day_by_the_clock_of_the_file_system(store, monkeypatch):
    fresh, old = (store.folder / f"{KEY}.elsewhere-1-0123456{digit}{files.PARTIAL}" for digit in "78")
    for folder in (fresh, old):
        folder.mkdir(parents=True)
        (folder / "pooled.bin").write_bytes(b"half")
    past = time.time() - 2 * writing.FORGOTTEN
    os.utime(old / "pooled.bin", (past, past))
    os.utime(old, (past, past))
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 10 * writing.FORGOTTEN)  # the clock of this machine is off
    write(store)
    assert partials(store) == [fresh.name]


# --- entries that vanish, appear late, or are replaced ---------------------------------------------------


def test_an_entry_is_not_removed_for_being_unreadable(store, monkeypatch):
    write(store)
    forget()

    def stale(*args, **kwargs):
        raise error(errno.ESTALE)

    monkeypatch.setattr(reading, "open", stale, raising=False)
    assert store.open(KEY) is None
    monkeypatch.undo()
    assert equal(store.open(KEY), features())


@pytest.mark.parametrize("shared", [False, True])
def test_what_is_open_does_not_change(store, monkeypatch, shared):
    """Also when another process removes the entry, or puts another one in its place."""
    monkeypatch.setattr(reading, "is_local", lambda folder: not shared)
    write(store)
    stored = store.open(KEY)
    whole = stored.all()
    store.clear(store.entries())
    write(store, data=features(seed=1))
    assert equal(stored, features()) and all((a == b).all() for a, b in zip(whole, features(), strict=True))
    assert equal(store.open(KEY), features(seed=1))


def test_a_folder_replaced_between_two_files_is_looked_at_again(store, monkeypatch):
    write(store)
    forget()
    other = FeatureStore(store.folder.parent / "other")
    write(other, data=features(images=11))

    def open_late(path, *args, **kwargs):
        if path.name == "local.bin" and other.folder.exists():
            shutil.rmtree(store.folder / KEY)
            os.rename(other.folder / KEY, store.folder / KEY)
            shutil.rmtree(other.folder)
        return open(path, *args, **kwargs)

    monkeypatch.setattr(reading, "open", open_late, raising=False)
    assert equal(store.open(KEY), features(images=11))


@pytest.mark.parametrize("number", [errno.ENOTEMPTY, errno.EEXIST])
def test_an_entry_of_another_machine_that_is_not_seen_yet(store, monkeypatch, number):
    def taken(*args):
        raise error(number)

    monkeypatch.setattr(store_writing.os, "rename", taken)
    assert write(store).problem == ""
    monkeypatch.undo()
    assert write(store).problem == "" and equal(store.open(KEY), features())


def test_a_rename_whose_answer_was_lost(store, monkeypatch):
    rename = os.rename

    def twice(source, target):
        rename(source, target)
        raise error(errno.ENOENT)  # the second try of the client, after the first one was done

    monkeypatch.setattr(store_writing.os, "rename", twice)
    writer = write(store)
    monkeypatch.undo()
    assert writer.problem == "" and equal(store.open(KEY), features())


def test_a_file_system_that_breaks_while_writing_ends_the_writing_alone(store):
    data = features()
    with store.building(KEY), store.write(KEY, FACTS, 10) as writer:
        writer.add(data)
        shutil.rmtree(writer.folder)  # by another machine that took this one for dead
    assert writer.problem and store.open(KEY) is None
    assert write(store).problem == "" and equal(store.open(KEY), data)


# --- which file systems are shared -----------------------------------------------------------------------


def test_which_file_systems_are_local(tmp_path, monkeypatch):
    mounts = tmp_path / "mountinfo"
    point = str(tmp_path).encode("unicode_escape").decode()
    mounts.write_text(
        "22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n"
        f"23 22 0:50 / {point}/nfs rw - nfs4 server:/home rw,vers=4.2\n"
        f"24 22 0:51 / {point}/nfs/local rw shared:1 - xfs /dev/sdb rw\n"
        f"25 22 0:52 / {point}/a\\040space rw - lustre mds:/x rw,localflock\n"
        f"26 22 0:53 / {point}/fuse rw - fuse.sshfs host: rw\n"
    )
    monkeypatch.setattr(locking, "MOUNTS", mounts)
    places = ["", "nfs", "nfs/x", "nfs/local/x", "nfsx", "a space/x", "fuse"]
    expected = [True, False, False, True, True, False, False]
    assert [locking.is_local(tmp_path / place) for place in places] == expected
    monkeypatch.setattr(locking, "MOUNTS", tmp_path / "none")
    assert locking.is_local(tmp_path)
