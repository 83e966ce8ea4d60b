"""clip/download.py against a small server on this machine that can be told to misbehave."""
from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import pytest

from clip import clip as clip_module
from clip import download as download_module
from clip.download import MODELS_URL, digest_of, mirrored
from tests.file_server import FileServer, without_proxies

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
    assert listing(tmp_path) == ["tiny.pt.part"]
    server.cut = None
    clip_module._download(server.url, tmp_path)
    assert server.requests[-1][1] == "bytes=30000-" and listing(tmp_path) == ["tiny.pt"]
    assert digest_of(tmp_path / "tiny.pt") == DIGEST


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
