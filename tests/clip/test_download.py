"""clip/loading/download.py against a small server on this machine that can be told to misbehave."""
from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import threading
from pathlib import Path

import pytest

from clip import clip as clip_module
from clip.loading import download as download_module
from clip.loading.download import MODELS_URL, Source, digest_of, download_file, mirrored
from tests.support.file_server import FileServer, without_proxies

BODY = bytes(range(256)) * 1000  # 256,000 bytes
DIGEST = hashlib.sha256(BODY).hexdigest()


class Server(FileServer):
    """Serves `body` at any path."""

    def __init__(self):
        super().__init__()
        self.body, self.url = BODY, f"{self.base}/models/{DIGEST}/tiny.pt"

    def find(self, request):
        return self.body


@pytest.fixture
def server(monkeypatch):
    without_proxies(monkeypatch)
    monkeypatch.delenv("CLIP_MIRROR", raising=False)
    with Server() as server:
        yield server


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_fetched_once(server, tmp_path):
    root = tmp_path / "deep" / "cache"
    path = clip_module._download(server.url, str(root))
    assert path == str(root / "tiny.pt") and Path(path).read_bytes() == BODY
    assert listing(root) == ["tiny.pt"]
    server.status = 500  # from here on no network is needed
    assert clip_module._download(server.url, root) == path
    assert server.requests == [(f"/models/{DIGEST}/tiny.pt", None)]


def test_the_folder_is_in_the_home_by_default(server, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert clip_module._download(server.url) == str(tmp_path / ".cache" / "clip" / "tiny.pt")


def test_a_cut_connection_is_taken_up_where_it_ended(server, tmp_path):
    server.cut = 100_000
    assert Path(clip_module._download(server.url, tmp_path)).read_bytes() == BODY
    assert [asked for _, asked in server.requests] == [None, "bytes=100000-", "bytes=200000-"]


def test_what_came_is_kept_for_the_next_call(server, tmp_path):
    server.cut = 10_000
    with pytest.raises(RuntimeError, match=r"the connection ended after 30,000 of 256,000 bytes"):
        clip_module._download(server.url, tmp_path)
    assert listing(tmp_path) == ["tiny.pt.part", "tiny.pt.part.origin"]
    server.cut = None
    clip_module._download(server.url, tmp_path)
    assert server.requests[-1][1] == "bytes=30000-" and listing(tmp_path) == ["tiny.pt"]
    assert digest_of(tmp_path / "tiny.pt") == DIGEST


class Anything:
    """The check of a file of which nothing is known."""

    def problem(self, path):
        return ""


OTHER = bytes(range(255, -1, -1)) * 1000  # another file, of the same length


@pytest.mark.parametrize("tells", [("ETag",), ("Last-Modified",), ("ETag", "Last-Modified"), ()], ids="-".join)
@pytest.mark.parametrize("heeds", [True, False])
@pytest.mark.parametrize("other", [OTHER, OTHER[:200_000], OTHER[:8_000]], ids=len)
def test_two_files_are_never_joined(server, tmp_path, tells, heeds, other):
    def fetch():
        return download_file(Source(f"{server.base}/file"), tmp_path / "file", Anything(), "--mirror")

    server.tells, server.heeds, server.cut = tells, heeds, 10_000
    with contextlib.suppress(RuntimeError):
        fetch()
    assert server.requests[1][1] == ("bytes=10000-" if tells else None)  # without a mark of the file it cannot be told
    server.body, server.cut = other, None
    assert fetch().read_bytes() == other and listing(tmp_path) == ["file"]


def test_a_file_without_a_known_hash_is_resumed_where_the_server_can_tell_it(server, tmp_path):
    server.cut = 100_000
    path = download_file(Source(f"{server.base}/file"), tmp_path / "file", Anything(), "--mirror")
    assert path.read_bytes() == BODY
    assert [asked for _, asked in server.requests] == [None, "bytes=100000-", "bytes=200000-"]


def test_a_known_hash_lets_another_server_go_on(server, tmp_path):
    server.cut = 10_000
    with pytest.raises(RuntimeError, match="goes on from there if the file is still the same"):
        clip_module._download(server.url, tmp_path)
    with Server() as mirror:
        clip_module._download(mirror.url, tmp_path)
        assert mirror.requests == [(f"/models/{DIGEST}/tiny.pt", "bytes=30000-")]
    assert listing(tmp_path) == ["tiny.pt"]


def test_of_a_stalled_download_every_byte_is_kept(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download_module, "TIMEOUT", 0.3)
    server.cut, server.hold = 50_000, threading.Event()  # less than is read at a time, and then nothing more
    with pytest.raises(RuntimeError, match="timed out"):
        clip_module._download(server.url, tmp_path)
    server.hold.set()
    assert [asked for _, asked in server.requests] == [None, "bytes=50000-", "bytes=100000-"]
    assert (tmp_path / "tiny.pt.part").read_bytes() == BODY[:150_000]


@pytest.mark.parametrize("origin", [b"{", b"[1]", b'{"url": "x"}', b"\xff"])
def test_a_damaged_note_of_the_origin_is_as_none(server, tmp_path, origin):
    (tmp_path / "tiny.pt.part").write_bytes(BODY[:5000])
    (tmp_path / "tiny.pt.part.origin").write_bytes(origin)
    assert Path(clip_module._download(server.url, tmp_path)).read_bytes() == BODY
    assert server.requests[0][1] == "bytes=5000-" and listing(tmp_path) == ["tiny.pt"]


def test_a_server_without_ranges_starts_over(server, tmp_path):
    (tmp_path / "tiny.pt.part").write_bytes(BODY[:5000])
    server.ranges = False
    assert Path(clip_module._download(server.url, tmp_path)).read_bytes() == BODY


@pytest.mark.parametrize("part", [BODY, b"nonsense", b"x" * 300_000], ids=["whole", "wrong", "too-long"])
def test_an_old_part_is_checked_like_the_rest(server, tmp_path, part):
    (tmp_path / "tiny.pt.part").write_bytes(part)
    assert Path(clip_module._download(server.url, tmp_path)).read_bytes() == BODY
    assert listing(tmp_path) == ["tiny.pt"]


def test_a_wrong_file_in_the_cache_is_replaced_with_a_warning(server, tmp_path):
    (tmp_path / "tiny.pt").write_bytes(b"tampered")
    with pytest.warns(UserWarning, match="it has not the SHA-256 .*; downloading it again"):
        path = clip_module._download(server.url, tmp_path)
    assert Path(path).read_bytes() == BODY


def test_a_wrong_answer_is_thrown_away(server, tmp_path):
    server.body = b"<html>please log in</html>"
    with pytest.raises(RuntimeError, match="has not the SHA-256"):
        clip_module._download(server.url, tmp_path)
    assert listing(tmp_path) == []


def test_a_folder_in_its_place_is_an_error(server, tmp_path):
    (tmp_path / "tiny.pt").mkdir()
    with pytest.raises(RuntimeError, match="is not a regular file"):
        clip_module._download(server.url, tmp_path)
    assert server.requests == []


@pytest.mark.parametrize("status", [None, 404])
def test_without_network_it_says_what_to_put_where(server, tmp_path, status):
    url = server.url
    if status is None:
        url = f"http://127.0.0.1:9/models/{DIGEST}/tiny.pt"  # the discard port: nobody listens
    else:
        server.status = status
    with pytest.raises(RuntimeError) as caught:
        clip_module._download(url, tmp_path)
    for part in (url, DIGEST, str(tmp_path / "tiny.pt"), "CLIP_MIRROR", "https_proxy"):
        assert part in str(caught.value)
    assert ("404" in str(caught.value)) == (status == 404)
    assert listing(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_named(server, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RuntimeError, match="cannot write .*tiny.pt"):
        clip_module._download(server.url, tmp_path / "file")


def test_a_full_disk_leaves_no_file_that_looks_whole(server, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(download_module.os, "replace", full)
    with pytest.raises(RuntimeError, match="No space left"):
        clip_module._download(server.url, tmp_path)
    assert not (tmp_path / "tiny.pt").exists()


def test_a_mirror_replaces_the_beginning_of_the_address(server, tmp_path, monkeypatch):
    url = f"{MODELS_URL}/{DIGEST}/RN50.pt"
    assert mirrored(url) == url
    monkeypatch.setenv("CLIP_MIRROR", f"{server.base}/mirror/")
    assert mirrored(url) == f"{server.base}/mirror/{DIGEST}/RN50.pt"
    assert mirrored("https://example.org/x") == "https://example.org/x"
    assert Path(clip_module._download(url, tmp_path)).read_bytes() == BODY


@pytest.mark.parametrize("round", range(20))  # a race: one round in twenty or so found the last defect
def test_several_at_once_fetch_once(server, tmp_path, round):
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(clip_module._download(server.url, tmp_path)))
               for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [str(tmp_path / "tiny.pt")] * 6
    assert len(server.requests) == 1 and listing(tmp_path) == ["tiny.pt"]
    assert (tmp_path / "tiny.pt").read_bytes() == BODY


# --- on a network file system ------------------------------------------------------------------------------


def test_without_locks_each_fetches_into_a_file_of_its_own(server, tmp_path, monkeypatch):
    def no_locks(*args):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    paths: list[str] = []
    threads = [threading.Thread(target=lambda: paths.append(clip_module._download(server.url, tmp_path)))
               for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert paths == [str(tmp_path / "tiny.pt")] * 4 and (tmp_path / "tiny.pt").read_bytes() == BODY
    server.body = b"other"
    with pytest.raises(RuntimeError):
        clip_module._download(server.url, tmp_path / "new")
    assert [name for name in listing(tmp_path) + listing(tmp_path / "new") if "tiny.pt." in name] == []


def test_where_each_machine_has_locks_of_its_own_each_has_a_part_of_its_own(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download_module, "is_local", lambda folder: False)
    theirs = tmp_path / "tiny.pt.elsewhere.part"
    theirs.write_bytes(BODY[:100])
    server.cut = 100_000
    with pytest.raises(RuntimeError):
        monkeypatch.setattr(download_module, "ATTEMPTS", 1)
        clip_module._download(server.url, tmp_path)
    ours = f"tiny.pt.{download_module.host()}.part"
    assert listing(tmp_path) == sorted([theirs.name, ours, f"{ours}.origin"])
    monkeypatch.undo()
    monkeypatch.setattr(download_module, "is_local", lambda folder: False)
    assert Path(clip_module._download(server.url, tmp_path)).read_bytes() == BODY
    assert server.requests[1][1] == "bytes=100000-" and theirs.read_bytes() == BODY[:100]
