"""python -m datasets fetch, against a server on this machine that stands in for every host."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import hashlib
import io
import json
import lzma
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import types
import zipfile
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dassl.data.datasets import DATASET_REGISTRY, DatasetBase
from dassl.plain.writing import host
from dassl.utils import unpacking
from dassl.utils.unpacking import BadArchive, unpack
from datasets import declared
from datasets.__main__ import main
from datasets.checking.check import check
from datasets.fetching.checks import IsArchive, PublishedNames, PublishedSplit
from datasets.fetching.downloads import downloads_of, wanted_downloads
from datasets.fetching.fetch import fetch
from datasets.fetching.sources import mirrored
from datasets.loaders.imagenet import CLASS_NAMES, find_classnames
from datasets.published import DRIVE, PARTS, drive_url
from tests.support import dataset_trees as trees
from tests.support.file_server import FileServer, without_proxies
from tests.support.programs import REPOSITORY

HOST = "drive.usercontent.google.com"
PETS = "https://www.robots.ox.ac.uk/~vgg/data/pets/data/images.tar.gz"
FORM = f"""<html><head><title>Google Drive - Virus scan warning</title></head><body><form id="download-form"
action="https://{HOST}/download" method="get"><input type="submit" value="Download anyway"/>
<input type="hidden" name="id" value="ID"><input type="hidden" name="export" value="download">
<input type="hidden" name="confirm" value="t"><input type="hidden" name="uuid" value="u&amp;1"></form></html>"""
LINK = '<html><title>old</title><a href="/uc?export=download&amp;confirm=AbC&amp;id=ID">Download anyway</a></html>'
QUOTA = "<html><title>Google Drive - Quota exceeded</title><p>Sorry</p></html>"


class Mirror(FileServer):
    """Serves `files`, by address without https://; Drive's by id, after the page in `pages` if there is one."""

    def __init__(self):
        super().__init__()
        self.files: dict[str, bytes] = {}
        self.pages: dict[str, str] = {}

    def add(self, url: str, body: bytes) -> bytes:
        self.files[url.partition("://")[2]] = body
        return body

    def find(self, request):
        address = urlsplit(request.path[1:])
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        if page := self.pages.get(query.get("id", "")):
            agreed = {"t": query.get("uuid") == "u&1", "AbC": "warned=1" in request.headers.get("Cookie", "")}
            if not agreed.get(query.get("confirm", "")):
                request.send_response(200)
                request.send_header("Content-Type", "text/html; charset=utf-8")
                request.send_header("Set-Cookie", "warned=1")
                request.end_headers()
                return request.wfile.write(page.replace("ID", query["id"]).encode()) and None
        name = drive_url(query["id"]).partition("://")[2] if "id" in query else address.path
        if name not in self.files:
            request.send_error(404)
        return self.files.get(name)

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.requests]


@pytest.fixture
def mirror(monkeypatch):
    without_proxies(monkeypatch)
    with Mirror() as server:
        monkeypatch.setenv("DATASETS_MIRROR", f"{server.base}/")
        yield server


@pytest.fixture
def root():
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # thousands of files take long on a disk
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


@pytest.fixture(autouse=True)
def any_archive(monkeypatch):
    """The archives made here are not the published ones, whose hashes are in the table."""
    for kind in declared():
        loose = tuple(dataclasses.replace(download, md5="") for download in kind.downloads)
        monkeypatch.setattr(kind, "downloads", loose)


kind_of = DATASET_REGISTRY.get
TINY = trees.picture_bytes((2, 2))


def make_tar(files: dict[str, bytes], mode: str = "w:gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def make_zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def split_images(name: str, prefix: str, content: bytes = TINY) -> dict[str, bytes]:
    split = json.loads((trees.SPLITS / name).read_text())
    return {f"{prefix}/{item[0]}": content for items in split.values() for item in items}


def offer_split(mirror: Mirror, name: str) -> None:
    kind = kind_of(name)
    mirror.add(drive_url(kind.published.split_drive_id), (trees.SPLITS / kind.split_file).read_bytes())


def url_of(name: str) -> str:
    return kind_of(name).downloads[0].url


def listing(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


# --- the table -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind in declared() if kind.published])
def test_every_data_set_says_how_to_get_it(kind, root):
    name, downloads = kind.__name__, downloads_of(kind)
    assert {download.part for download in downloads} <= set(PARTS)
    for download in downloads:
        assert download.url.startswith(("https://", "http://")) or "login" in download.otherwise
        assert download.otherwise.format(folder="F") != download.otherwise or not download.otherwise
        assert not any(Path(path).is_absolute() or ".." in path for path in download.gives)
    assert len({download.file for download in downloads}) == len(downloads)
    images = [path for download in downloads if download.part == "images" for path in download.gives]
    assert any(kind.image_folder in ("", path, os.path.dirname(path)) for path in images)
    assert [d.file for d in downloads if d.part == "splits"] == [kind.split_file][: bool(kind.split_file)]
    assert {d.part for d in wanted_downloads(kind)} >= {"images"}
    todo = "\n".join(check(kind, str(root)).todo)
    assert f"datasets fetch {kind.config} --root {root}" in todo
    assert ("kaggle.com" in todo) == (name == "StanfordCars") and ("image-net.org" in todo) == (name == "ImageNet")


def test_addresses_behind_a_mirror():
    assert mirrored(PETS, "") == PETS
    assert mirrored(PETS, "http://m/x/") == "http://m/x/www.robots.ox.ac.uk/~vgg/data/pets/data/images.tar.gz"
    assert mirrored("http://m/x/a?b", "http://m/x") == "http://m/x/a?b"


# --- whole data sets -------------------------------------------------------------------------------------


def test_textures(mirror, root, capsys):
    files = split_images("split_zhou_DescribableTextures.json", "dtd/images") | {"dtd/labels/readme.txt": b"not needed"}
    mirror.add(url_of("DescribableTextures"), make_tar(files))
    offer_split(mirror, "DescribableTextures")
    command = ["fetch", "dtd", "--root", str(root)]
    assert main([*command, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "dtd-r1.0.1.tar.gz, 0.6 GB, from www.robots.ox.ac.uk" in out and url_of("DescribableTextures") in out
    assert mirror.requests == [] and listing(root) == []

    assert main(command) == 0
    out = capsys.readouterr().out
    assert "[ok] DescribableTextures (dtd): complete" in out and f"python train.py --root {root}" in out
    assert sorted(os.listdir(root / "dtd")) == ["images", "split_zhou_DescribableTextures.json"]
    asked = len(mirror.requests)
    assert asked == 2 and main(command) == 0 and len(mirror.requests) == asked  # nothing is fetched twice


def test_eurosat(mirror, root, capsys):
    mirror.add(url_of("EuroSAT"), make_zip(split_images("split_zhou_EuroSAT.json", "2750")))
    offer_split(mirror, "EuroSAT")
    assert main(["fetch", "EuroSAT", "--root", str(root)]) == 0
    assert "13,500 train; 5,400 val; 8,100 test" in capsys.readouterr().out


def test_caltech_is_an_archive_in_an_archive(mirror, root):
    inner = make_tar({f"101_ObjectCategories/{name}/image_0001.jpg": trees.PICTURE for name in ("Faces", "ibis")})
    outer = {"caltech-101/101_ObjectCategories.tar.gz": inner, "caltech-101/Annotations.tar": b"not needed"}
    mirror.add(url_of("Caltech101"), make_zip(outer))
    assert main(["fetch", "caltech101", "--root", str(root), "--only", "images"]) == 0
    tree = ["Faces/image_0001.jpg", "ibis/image_0001.jpg"]
    assert listing(root) == [f"caltech-101/101_ObjectCategories/{path}" for path in tree]


def test_aircraft_has_its_lists_in_the_archive(mirror, root):
    (root / "elsewhere").mkdir()
    made = trees.write_aircraft(root / "elsewhere")
    files = {f"fgvc-aircraft-2013b/data/{path}": (made / path).read_bytes() for path in listing(made)}
    mirror.add(url_of("FGVCAircraft"), make_tar(files))
    assert main(["fetch", "aircraft", "--root", str(root)]) == 1  # far from complete, but all in its place
    assert listing(root / "fgvc_aircraft") == listing(made)


def test_only_the_split_file(mirror, root, capsys):
    offer_split(mirror, "EuroSAT")
    assert main(["fetch", "eurosat", "--root", str(root), "--only", "splits"]) == 0
    assert listing(root) == ["eurosat/split_zhou_EuroSAT.json"] and len(mirror.requests) == 1
    todo = check(kind_of("EuroSAT"), str(root)).todo
    assert "EuroSAT.zip" in todo[0] and "split_zhou" not in todo[0]


def test_what_needs_a_login_says_so_and_is_unpacked_if_it_is_there(mirror, root, capsys):
    command = ["fetch", "cars", "imagenet", "--root", str(root), "--only", "images"]
    assert main(command) == 1
    err = capsys.readouterr().err
    assert "is dead. A mirror, behind a login: https://www.kaggle.com/" in err and "https://image-net.org/" in err
    assert err.count("kaggle.com") == 1 and mirror.requests == [] and os.listdir(root) == []
    (root / "stanford_cars").mkdir()
    assert f"no {root}/stanford_cars/cars_test" in check(kind_of("StanfordCars"), str(root)).problems
    for name in ("cars_train", "cars_test"):
        (root / "stanford_cars" / f"{name}.tgz").write_bytes(make_tar({f"{name}/00001.jpg": b"car"}))
    assert fetch(kind_of("StanfordCars"), str(root), ["images"]) == []
    assert {"cars_train/00001.jpg", "cars_test/00001.jpg", "cars_test.tgz"} <= set(listing(root / "stanford_cars"))


def test_nothing_is_fetched_that_is_there_under_another_name(mirror, root, capsys):
    (root / "DTD" / "images").mkdir(parents=True)
    assert main(["fetch", "dtd", "--root", str(root)]) == 1
    assert f"mv {root}/DTD {root}/dtd" in capsys.readouterr().err
    os.rename(root / "DTD", root / "dtd")
    os.rename(root / "dtd" / "images", root / "dtd" / "unpacked")
    (root / "dtd" / "unpacked" / "images").mkdir()
    assert main(["fetch", "dtd", "--root", str(root), "--only", "images"]) == 0
    assert main(["fetch", "dtd", "--root", str(root), "--only", "images", "--again"]) == 1
    assert f"mv {root}/dtd/unpacked/images {root}/dtd/images" in capsys.readouterr().err
    assert mirror.requests == []
    offer_split(mirror, "DescribableTextures")
    assert main(["fetch", "dtd", "--root", str(root), "--only", "splits"]) == 0


def test_nothing_is_missing_where_the_loader_finds_it(root, capsys):
    """Images in the data set's folder itself, and lists beside deeper images, are not to be fetched or moved."""
    trees.write_aircraft(root)
    os.rename(root / "fgvc_aircraft", root / "data")
    (root / "fgvc_aircraft").mkdir()
    os.rename(root / "data", root / "fgvc_aircraft" / "data")
    trees.write_imagenet(root)
    for part in ("train", "val"):
        os.rename(root / "imagenet" / "images" / part, root / "imagenet" / part)
    os.rmdir(root / "imagenet" / "images")
    trees.write_variant(root, "imagenet-a", "", trees.WNIDS[:2])
    command = ["fetch", "fgvc_aircraft", "imagenet", "imagenet_a", "--root", str(root), "--dry-run"]
    assert main(command) == 0
    assert capsys.readouterr().out.count("nothing to fetch") == 3
    (root / "imagenet" / "classnames.txt").unlink()
    report = check(kind_of("ImageNet"), str(root))
    assert "classnames.txt" in str(report.todo) and "login" not in str(report.todo)


def test_again_replaces_what_comes_and_leaves_the_rest(mirror, root):
    images = root / "oxford_pets" / "images"
    mirror.add(PETS, make_tar({"images/a.jpg": b"whole", "images/b.jpg": b"b"}))
    trees.write_images([images / "mine.jpg", images / "a.jpg"], b"wh")
    assert fetch(kind_of("OxfordPets"), str(root), ["images"], mirror=mirror.base) == [] and mirror.requests == []
    assert fetch(kind_of("OxfordPets"), str(root), ["images"], again=True, mirror=mirror.base) == []
    assert {path.name: path.read_bytes() for path in images.iterdir()} == {
        "a.jpg": b"whole",
        "b.jpg": b"b",
        "mine.jpg": b"wh",
    }
    assert fetch(kind_of("OxfordPets"), str(root), ["images"], again=True, keep=True, mirror=mirror.base) == []
    assert "images.tar.gz" in listing(root / "oxford_pets")


def test_several_at_once_fetch_once(mirror, root):
    mirror.add(PETS, make_tar({f"images/{number}.jpg": b"x" * 1000 for number in range(200)}))
    problems: list[str] = []
    threads = [
        threading.Thread(
            target=lambda: problems.extend(fetch(kind_of("OxfordPets"), str(root), ["images"], mirror=mirror.base))
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == [] and len(mirror.requests) == 1
    assert len(listing(root)) == 200 and os.listdir(root / "oxford_pets") == ["images"]


# --- what can go wrong on the way ------------------------------------------------------------------------


@pytest.mark.parametrize("page", [None, FORM, LINK], ids=["none", "form", "link"])
def test_drive_asks_back_and_is_cut_off(mirror, root, page):
    (archive,) = (download for download in kind_of("UCF101").downloads if download.part == "images")
    body = mirror.add(archive.url, make_zip({f"UCF-101-midframes/Yo_Yo/{k}.jpg": bytes(5000) for k in range(4)}))
    file_id = parse_qs(urlsplit(archive.url).query)["id"][0]
    if page:
        mirror.pages[file_id] = page
    mirror.cut = len(body) - 6000
    assert fetch(kind_of("UCF101"), str(root), ["images"], mirror=mirror.base) == []
    assert len(listing(root / "ucf101" / "UCF-101-midframes")) == 4
    assert mirror.requests[-1][1] == f"bytes={mirror.cut}-"
    assert {path.split("/")[1] for path in mirror.paths} == {HOST}


def test_drive_refuses(mirror, root, capsys):
    mirror.pages[kind_of("EuroSAT").published.split_drive_id] = QUOTA
    assert main(["fetch", "eurosat", "--root", str(root), "--only", "splits"]) == 1
    err = capsys.readouterr().err
    assert "Google Drive - Quota exceeded" in err
    assert f"https://drive.google.com/file/d/{kind_of('EuroSAT').published.split_drive_id}/view" in err
    assert f"put it at {root}/eurosat/split_zhou_EuroSAT.json" in err and listing(root) == []


def test_a_cut_download_goes_on_with_the_next_command(mirror, root, capsys):
    body = mirror.add(PETS, make_tar({f"images/{number}.jpg": os.urandom(1000) for number in range(50)}))
    mirror.cut = 7000
    command = ["fetch", "pets", "--root", str(root), "--only", "images"]
    assert main(command) == 1
    assert "the connection ended after 21,000 of" in capsys.readouterr().err
    part = "oxford_pets/images.tar.gz.part"
    assert listing(root) == [part, f"{part}.origin"]
    mirror.cut = None
    assert main(command) == 0 and mirror.requests[-1][1] == "bytes=21000-" and len(body) > 21000
    assert len(listing(root / "oxford_pets" / "images")) == 50


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (make_tar({"images/a.jpg": b"a"}), "has not the MD5 0123"),
        (b"<html>we have moved</html>", "has not the MD5 0123"),
    ],
)
def test_a_wrong_hash(mirror, root, monkeypatch, capsys, body, problem):
    pets = kind_of("OxfordPets")
    archive = dataclasses.replace(pets.downloads[0], md5="0123" * 8)
    monkeypatch.setattr(pets, "downloads", (archive,))
    mirror.add(PETS, body)
    assert main(["fetch", "pets", "--root", str(root), "--only", "images"]) == 1
    err = capsys.readouterr().err
    assert problem in err and "DATASETS_MIRROR" in err and listing(root) == []
    right = dataclasses.replace(archive, md5=hashlib.md5(body).hexdigest())
    monkeypatch.setattr(pets, "downloads", (right,))
    problems = fetch(pets, str(root), ["images"], mirror=mirror.base)
    assert (problems == []) == body.startswith(b"\x1f\x8b")


def test_not_an_archive_or_not_there(mirror, root, capsys):
    mirror.add(PETS, b"<html>we have moved</html>")
    (problem,) = fetch(kind_of("OxfordPets"), str(root), ["images"], mirror=mirror.base)
    assert "is no tar or zip archive and was thrown away" in problem
    mirror.files.clear()
    (problem,) = fetch(kind_of("OxfordPets"), str(root), ["images"], mirror=mirror.base)
    assert "404" in problem and f"put it at {root}/oxford_pets/images.tar.gz" in problem
    assert listing(root) == []


def test_a_split_file_that_is_not_the_published_one(mirror, root):
    other = (trees.SPLITS / "split_zhou_OxfordPets.json").read_bytes()
    mirror.add(drive_url(kind_of("EuroSAT").published.split_drive_id), other)
    (problem,) = fetch(kind_of("EuroSAT"), str(root), ["splits"], mirror=mirror.base)
    assert "is not the published split of EuroSAT and was thrown away" in problem and listing(root) == []


def test_one_failure_does_not_stop_the_others(mirror, root, capsys):
    offer_split(mirror, "OxfordPets")
    assert main(["fetch", "eurosat", "pets", "--root", str(root), "--only", "splits"]) == 1
    assert "eurosat: cannot download split_zhou_EuroSAT.json: HTTP Error 404" in capsys.readouterr().err
    assert listing(root) == ["oxford_pets/split_zhou_OxfordPets.json"]


@pytest.mark.parametrize("cut", [100, 4000])
def test_a_damaged_archive_leaves_nothing(mirror, root, cut):
    whole = make_tar({f"images/{number}.jpg": os.urandom(1000) for number in range(8)})
    middle = bytearray(whole)
    middle[cut] ^= 255
    mirror.add(PETS, bytes(middle))
    for body in (bytes(middle), whole[:-5]):
        mirror.add(PETS, body)
        (problem,) = fetch(kind_of("OxfordPets"), str(root), ["images"], mirror=mirror.base)
        assert "damaged" in problem or "no tar" in problem
        assert os.listdir(root) == []


def test_an_archive_that_could_not_be_placed_is_kept(mirror, root, capsys):
    mirror.add(PETS, make_tar({"images/a.jpg": b"a"}))
    (root / "oxford_pets").mkdir()
    (root / "oxford_pets" / "images").write_text("in the way")
    (problem,) = fetch(kind_of("OxfordPets"), str(root), ["images"], again=True, mirror=mirror.base)
    assert f"{root}/oxford_pets/images.tar.gz is kept, and the same command unpacks it" in problem
    (root / "oxford_pets" / "images").unlink()
    assert fetch(kind_of("OxfordPets"), str(root), ["images"], mirror=mirror.base) == [] and len(mirror.requests) == 1
    assert "images.tar.gz was there before and is kept" in capsys.readouterr().out
    assert listing(root / "oxford_pets") == ["images.tar.gz", "images/a.jpg"]


def test_what_a_killed_fetch_left_is_cleared_away(mirror, root):
    left = root / "oxford_pets" / f".unpacking.{host()}-{2**22 + 1}" / "inner"  # there is no such process
    left.mkdir(parents=True)
    (left / "images").write_text("half")
    mirror.add(PETS, make_tar({"images/a.jpg": b"a"}))
    assert fetch(kind_of("OxfordPets"), str(root), ["images"], mirror=mirror.base) == []
    assert os.listdir(root / "oxford_pets") == ["images"]


def test_ctrl_c(mirror, root):
    mirror.add(PETS, make_tar({"images/a.jpg": os.urandom(3_000_000)}))
    mirror.cut, mirror.hold = 2_500_000, threading.Event()  # after the cut, the connection stays open
    command = [sys.executable, "-m", "datasets", "fetch", "pets", "--root", str(root), "--only", "images"]
    program = subprocess.Popen(
        command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a suite in the background ignores it
    )  # fmt: skip
    part = root / "oxford_pets" / "images.tar.gz.part"
    while program.poll() is None and not (part.exists() and part.stat().st_size):
        time.sleep(0.01)
    program.send_signal(signal.SIGINT)
    _, err = program.communicate(timeout=60)
    mirror.hold.set()
    assert program.returncode == 130 and "goes on from here" in err and "Traceback" not in err
    mirror.cut = None
    assert fetch(kind_of("OxfordPets"), str(root), ["images"], mirror=mirror.base) == []
    assert mirror.requests[-1][1].startswith("bytes=") and listing(root) == ["oxford_pets/images/a.jpg"]


def test_no_room(mirror, root, monkeypatch):
    class Endless(bytes):
        def __len__(self):
            return 10**17

    mirror.files[PETS.partition("://")[2]] = Endless(b"x")
    (problem,) = fetch(kind_of("OxfordPets"), str(root), ["images"], mirror=mirror.base)
    assert "210,000,000.0 GB are needed there" in problem and "make room" in problem and listing(root) == []


# --- archives that are not to be trusted -----------------------------------------------------------------


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize("name", ["../evil", "images/../../evil", "/tmp/evil", "images\\..\\evil", "C:evil"])
@pytest.mark.parametrize("make", [make_tar, make_zip])
def test_names_that_lead_elsewhere(tmp_path, make, name):
    (tmp_path / "archive").write_bytes(make({"images/a.jpg": b"a", name: b"evil"}))
    with pytest.raises(BadArchive, match="leads out of the folder"):
        unpack(tmp_path / "archive", tmp_path / "out", ["images"])
    assert listing(tmp_path) in (["archive"], ["archive", "out/images/a.jpg"])


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, b"S"])
def test_links_and_devices(tmp_path, kind):
    with tarfile.open(tmp_path / "archive", "w") as archive:
        archive.addfile(special("images/link", kind, "/etc"))
    with pytest.raises(BadArchive, match="is a link or device"):
        unpack(tmp_path / "archive", tmp_path / "out", ["images"])
    assert listing(tmp_path) == ["archive"]


def test_a_link_in_a_zip(tmp_path):
    info = zipfile.ZipInfo("images/link")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "archive", "w") as archive:
        archive.writestr(info, "/etc")
    with pytest.raises(BadArchive, match="is a link or device"):
        unpack(tmp_path / "archive", tmp_path / "out", ["images"])


def test_what_is_not_wanted_is_not_written(tmp_path):
    with tarfile.open(tmp_path / "archive", "w") as archive:
        archive.addfile(special("./dtd", tarfile.DIRTYPE))
        archive.addfile(special("dtd/latest", tarfile.SYMTYPE, "images"))
        archive.addfile(special("./dtd/images/a.jpg", tarfile.REGTYPE))
        archive.addfile(special("dtd/images2/a.jpg", tarfile.REGTYPE))
    unpack(tmp_path / "archive", tmp_path / "out", ["dtd/images"])
    assert listing(tmp_path / "out") == ["dtd/images/a.jpg"]
    with pytest.raises(BadArchive, match="holds no images, but dtd"):
        unpack(tmp_path / "archive", tmp_path / "out2", ["images"])


def bomb(kind: str) -> bytes:
    """30 MB and more in a few kilobytes."""
    zeros = bytes(30_000_000)
    if kind == "zip":
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("images/a.jpg", zeros)
        return buffer.getvalue()
    if kind == "header":  # a long name of a gigabyte, which tarfile would read in one piece
        info = special("images/a.jpg", tarfile.GNUTYPE_LONGNAME)
        info.size = 1 << 30
        return gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + zeros)
    if kind == "behind the end":
        return gzip.compress(make_tar({"images/a.jpg": b"a"}, "w") + zeros)
    if kind == "not wanted":
        return make_tar({"images/a.jpg": b"a", "others/a.jpg": zeros, "images/b.jpg": b"b"}, "w:xz")
    return make_tar({"images/a.jpg": zeros, "images/b.jpg": b"b"}, kind)


@pytest.mark.parametrize("kind", ["w:gz", "w:bz2", "w:xz", "zip", "not wanted", "header", "behind the end"])
def test_what_would_become_far_too_large_is_not_unpacked(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(unpacking, "MOST_ANYWAY", 2_000_000)
    (tmp_path / "archive").write_bytes(bomb(kind))
    assert (tmp_path / "archive").stat().st_size < 100_000
    with pytest.raises(BadArchive, match="header of 1,073,741,824 bytes" if kind == "header" else "would become"):
        unpack(tmp_path / "archive", tmp_path / "out", ["images"])
    assert sum(path.stat().st_size for path in tmp_path.rglob("*")) < 20_000_000
    assert IsArchive().problem(tmp_path / "archive") == ("" if kind != "header" else "is no tar or zip archive")


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz"])
def test_what_a_plugin_fetches_is_no_more_trusted(tmp_path, monkeypatch, name):
    monkeypatch.setattr(unpacking, "MOST_ANYWAY", 2_000_000)
    make = make_zip if name == "a.zip" else make_tar
    contents = [make({"images/a.jpg": b"picture"}), make({"../a.jpg": b"out"})]
    contents.append(bomb("zip" if name == "a.zip" else "w:gz"))
    served = iter(contents)
    drive = types.SimpleNamespace(download=lambda url, target, quiet: Path(target).write_bytes(next(served)))
    monkeypatch.setitem(sys.modules, "gdown", drive)

    def download() -> None:
        DatasetBase.download_data(None, "address", str(tmp_path / "sub" / name))

    download()
    assert (tmp_path / "sub" / "images" / "a.jpg").read_bytes() == b"picture"
    for complaint in ("leads out of the folder", "would become"):
        with pytest.raises(BadArchive, match=complaint):
            download()
    assert not (tmp_path / "a.jpg").exists()


def test_an_archive_of_too_many_members(tmp_path, monkeypatch):
    monkeypatch.setattr(unpacking, "MOST_MEMBERS", 3)
    for make in (make_tar, make_zip):
        (tmp_path / "archive").write_bytes(make({f"images/{number}": b"" for number in range(4)}))
        with pytest.raises(BadArchive, match="more than 3 members"):
            unpack(tmp_path / "archive", tmp_path / "out", ["images"])


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
@pytest.mark.parametrize("harm", ["header", "zeros", "cut", "cut in a file"])
def test_a_tar_that_ends_too_early_is_damaged(tmp_path, mode, harm):
    plain = bytearray(make_tar({f"images/{number}.jpg": b"x" * 1000 for number in range(4)}, "w"))
    second = 512 + 1024  # where the header of the second member begins
    if harm == "header":
        plain[second + 150] ^= 1  # in its check sum
    elif harm == "zeros":
        plain[second : second + 512] = bytes(512)
    else:
        del plain[second + (600 if harm == "cut in a file" else 0) :]
    pack = {"w": bytes, "w:gz": gzip.compress, "w:xz": lzma.compress}[mode]
    (tmp_path / "archive").write_bytes(pack(bytes(plain)))
    with pytest.raises(BadArchive, match="is damaged or no archive"):
        unpack(tmp_path / "archive", tmp_path / "out", ["images"])


def test_a_zip_whose_content_is_another_than_it_says(tmp_path):
    whole = make_zip({"images/a.jpg": b"content of a", "images/b.jpg": b"content of b"})
    other_content = whole.replace(b"content of b", b"kontent of b")
    other_name = whole.replace(b"s/b.jpg", b"s/c.jpg", 1)
    for harmed in (other_content, other_name, whole[:-30]):
        (tmp_path / "archive").write_bytes(harmed)
        with pytest.raises(BadArchive, match="is damaged or no archive"):
            unpack(tmp_path / "archive", tmp_path / "out", ["images"])


@pytest.mark.parametrize("make", [make_tar, make_zip])
def test_names_that_would_command_a_terminal(tmp_path, make):
    (tmp_path / "archive").write_bytes(make({"images/\x1b[2J.jpg": b"a"}))
    with pytest.raises(BadArchive, match=r"'images/\\x1b\[2J.jpg' has control characters"):
        unpack(tmp_path / "archive", tmp_path / "out", ["images"])
    with pytest.raises(BadArchive) as caught:
        unpack(tmp_path / "archive", tmp_path / "out", ["others"])
    assert "\x1b" not in str(caught.value)


def test_one_name_for_a_file_and_a_folder(tmp_path):
    (tmp_path / "archive").write_bytes(make_tar({"images/a": b"a", "images/a/b": b"b"}))
    with pytest.raises(BadArchive, match="is damaged"):
        unpack(tmp_path / "archive", tmp_path / "out", ["images"])


NAMES = st.lists(st.sampled_from(["..", ".", "", "images", "a", "a.jpg", "/", "\\", "C:", "é", "~"]), max_size=5)


@settings(deadline=None, max_examples=80)
@given(names=st.lists(NAMES.map("/".join).filter(bool), min_size=1, max_size=4), zipped=st.booleans())
def test_nothing_is_ever_written_outside(names, zipped):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "archive")
        path.write_bytes((make_zip if zipped else make_tar)(dict.fromkeys(names, b"content")))
        with contextlib.suppress(BadArchive):
            unpack(path, Path(folder, "deep", "down", "out"), ["images"])
        assert all(name == "archive" or name.startswith("deep/down/out/images") for name in listing(Path(folder)))


# --- how files are known ---------------------------------------------------------------------------------


def test_published_splits_and_names(tmp_path):
    for name in ("EuroSAT", "OxfordPets"):
        file = DATASET_REGISTRY.get(name).split_file
        compact = tmp_path / "compact.json"
        compact.write_text(json.dumps(json.loads((trees.SPLITS / file).read_text())))
        check = PublishedSplit(kind_of(name))
        assert check.problem(trees.SPLITS / file) == check.problem(compact) == ""
    assert PublishedSplit(kind_of("Food101")).problem(compact) == "is not the published split of Food101"
    names = tmp_path / "classnames.txt.part"
    names.write_text("".join(f"{wnid} {name}\n" for wnid, name in find_classnames(str(tmp_path)).items()))
    check = PublishedNames(CLASS_NAMES)
    assert check.problem(names) == ""
    names.write_text("n01440764 tench\n")
    assert check.problem(names).startswith("does not hold the published names")
    for content in (b"[]", b"{", b"\xff", b'{"x": 1}'):
        part = tmp_path / "x.json.part"
        part.write_bytes(content)
        assert "no" in check.problem(part) and "no" in PublishedSplit(kind_of("EuroSAT")).problem(part)


def test_drive_addresses():
    assert drive_url("a-b") == f"{DRIVE}?id=a-b&export=download"
