"""Copies of pictures by class: names of folders and files, and that nothing is ever overwritten."""

import errno
import os

import numpy as np
import pytest

from dassl.plain import writing
from dassl.plain.writing import copy_new
from predict.classifier import Prediction
from predict.sorting import Sorter, check_target, copy_into, folder_names
from runs.files import DiskError, ResultsError
from runs.restore.source import PredictError


def test_every_class_has_a_folder_of_its_own():
    classes = ["cat", "Cat", "guinea pig", "F/A-18", "a:b", "a_b", "..", "", " . ", ".hidden", "con", "NUL.jpg",
               "end. ", "e\u0301", "\xe9", "\x1b[2J", "caf\udce9", "n" * 300, "n" * 299, "猫" * 200, "cat"]  # fmt: skip
    names = folder_names(classes)
    assert list(names) == classes[:-1]
    assert [names[name] for name in classes[:6]] == ["cat", "Cat (2)", "guinea pig", "F_A-18", "a_b", "a_b (2)"]
    assert [names[name] for name in classes[6:13]] == ["_", "_ (2)", "_ (3)", "hidden", "_con", "_NUL.jpg", "end"]
    assert names["\xe9"] != names["e\u0301"]  # of which some systems make one
    for name in names.values():
        assert len(name.encode()) < 120 and name.isprintable() and not set('<>:"/\\|?*') & set(name)
        assert name == name.strip(" .") and name
    assert len({name.casefold() for name in names.values()}) == len(names)


def test_a_copy_has_the_pictures_name_or_that_and_a_number(tmp_path):
    for folder, content in (("a", b"1"), ("b", b"2"), ("c", b"3")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "IMG_1.jpg").write_bytes(content)
        os.utime(tmp_path / folder / "IMG_1.jpg", (1, 10**9))
    out = tmp_path / "out" / "cat"
    assert [copy_into(tmp_path / folder / "IMG_1.jpg", out) for folder in "abcabc"] == [True] * 3 + [False] * 3
    copies = {path.name: path.read_bytes() for path in out.iterdir()}
    assert copies == {"IMG_1.jpg": b"1", "IMG_1 (2).jpg": b"2", "IMG_1 (3).jpg": b"3"}
    assert (out / "IMG_1.jpg").stat().st_mtime == 10**9
    (out / "IMG_1.jpg").write_bytes(b"edited by its owner")
    assert copy_into(tmp_path / "a" / "IMG_1.jpg", out) and (out / "IMG_1.jpg").read_bytes() == b"edited by its owner"
    assert (out / "IMG_1 (4).jpg").read_bytes() == b"1"


def test_links_are_copied_as_what_they_lead_to_and_never_written_through(tmp_path):
    (tmp_path / "real.jpg").write_bytes(b"picture")
    (tmp_path / "link.jpg").symlink_to("real.jpg")
    out = tmp_path / "out"
    out.mkdir()
    (out / "link.jpg").symlink_to(tmp_path / "nowhere.jpg")  # a dangling one has that name
    assert copy_into(tmp_path / "link.jpg", out)
    assert (out / "link (2).jpg").read_bytes() == b"picture" and not (out / "link (2).jpg").is_symlink()
    assert not (tmp_path / "nowhere.jpg").exists()


@pytest.mark.parametrize("stem", ["n" * 250, "é" * 125])
def test_long_names_leave_room_for_the_number(tmp_path, stem):
    for folder in "ab":
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{stem}.jpg").write_bytes(folder.encode())
        assert copy_into(tmp_path / folder / f"{stem}.jpg", tmp_path / "out")
    assert sorted(path.read_bytes() for path in (tmp_path / "out").iterdir()) == [b"a", b"b"]


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "no hard links"])
def test_a_name_that_somebody_takes_meanwhile_stays_theirs(tmp_path, monkeypatch, links):
    (tmp_path / "a.jpg").write_bytes(b"mine")
    copy = writing.shutil.copy2

    def slowly(source, target):
        copy(source, target)
        if not (tmp_path / "out" / "a.jpg").exists():
            (tmp_path / "out" / "a.jpg").write_bytes(b"theirs")

    monkeypatch.setattr(writing.shutil, "copy2", slowly)
    if not links:

        def refuse(*_):
            raise OSError(errno.EPERM, "no links here")

        monkeypatch.setattr(writing.os, "link", refuse)
    assert copy_into(tmp_path / "a.jpg", tmp_path / "out")
    files = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert files == {"a.jpg": b"theirs", "a (2).jpg": b"mine"}
    with pytest.raises(FileExistsError):
        copy_new(tmp_path / "a.jpg", tmp_path / "out" / "a.jpg")


def prediction(path) -> Prediction:
    return Prediction(path, ["cat", "dog"], np.array([0.4, 0.6]), np.array([0.0, 0.405], np.float32))


def test_a_copy_that_fails_leaves_nothing_half_done(tmp_path, monkeypatch):
    (tmp_path / "a.jpg").write_bytes(b"picture")
    sorter = Sorter(tmp_path / "out", ["cat", "dog"])
    for number, kind in ((errno.ENOSPC, DiskError), (errno.EACCES, ResultsError)):

        def fail(source, target, number=number):
            with open(target, "wb") as file:
                file.write(b"pic")
            raise OSError(number, os.strerror(number))

        with monkeypatch.context() as patch:
            patch.setattr(writing.shutil, "copy2", fail)
            with pytest.raises(kind, match=r"cannot copy .*a\.jpg into .*dog: "):
                list(sorter.sort([prediction(tmp_path / "a.jpg")]))
        assert list((tmp_path / "out" / "dog").iterdir()) == []
    assert len(list(sorter.sort([prediction(tmp_path / "a.jpg")] * 2))) == 2
    assert sorter.summary() == f"copied: 1 image into {tmp_path / 'out'} (dog 1); 1 there already"


def test_copies_may_not_lie_among_what_is_searched(tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "in")
    for folder in ("in", "in/sorted", "in/deep/sorted", "link/sorted", "out/../in/x"):
        with pytest.raises(PredictError, match="is searched for pictures"):
            check_target(tmp_path / folder, [tmp_path / "in"])
    (tmp_path / "in" / "a.jpg").touch()
    check_target(tmp_path / "in" / "sorted", [tmp_path / "in" / "a.jpg"])  # a file is no folder that is searched
    check_target(tmp_path / "in2", [tmp_path / "in"])
    check_target(tmp_path, [tmp_path / "in"])
