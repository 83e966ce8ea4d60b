"""As much of the Hugging Face hub as downloads need, on this machine: repositories in memory, and ways to misbehave.

    with FakeHub({"user/repo": {"config.json": b"{}"}}) as hub:
        hub.reach(monkeypatch, tmp_path / "cache")
        huggingface_hub.hf_hub_download("user/repo", "config.json")
"""
from __future__ import annotations

import hashlib
import json
import re
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tests.support.file_server import FileServer, without_proxies

LARGE = (".safetensors", ".bin", ".pt", ".pth")  # kept by Git LFS there, and so known by their SHA-256
FILE = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")
ABOUT = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+?)(?:/(?P<part>revision|tree)/(?P<revision>[^/]+))?/?")
LOGIN = b"<html><body>Please log in to this network.</body></html>"


class FakeHub(FileServer):
    """Serves `repos`: files' bytes by their paths, by the names of the repositories. Each has one revision, main.

    Beside what a FileServer may do wrong: `login` answers everything with a page of HTML and status 200, and `tampered`
    holds bytes that are sent in place of a file's own, under the headers of the right ones.

    `requests` holds (path, Range header) of what was asked, HEAD and GET alike.
    """

    def __init__(self, repos: dict[str, dict[str, bytes]]):
        super().__init__()
        self.repos, self.login, self.tampered = repos, False, {}
        self.tells = ()  # `extra` gives the ETag, as the hub does

    def reach(self, monkeypatch, cache: Path) -> None:
        """Make huggingface_hub of this process ask this server and keep files in `cache`, until the test's end.

        It reads HF_ENDPOINT, HF_HUB_CACHE and HF_HUB_OFFLINE once, when it is imported; `environment` is for programs.
        """
        without_proxies(monkeypatch)
        set_constants(monkeypatch, ENDPOINT=self.base, HF_HUB_CACHE=str(cache), HF_HUB_OFFLINE=False,
                      HUGGINGFACE_CO_URL_TEMPLATE=self.base + "/{repo_id}/resolve/{revision}/{filename}")
        for name, value in self.environment(cache).items():
            monkeypatch.setenv(name, value)

    def environment(self, cache: Path) -> dict[str, str]:
        """The variables under which a program asks this server and keeps files in `cache`."""
        return {"HF_ENDPOINT": self.base, "HF_HUB_CACHE": str(cache), "HF_HOME": str(cache.parent),
                "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}

    def commit(self, repo: str) -> str:
        """Name of the only revision: it changes with the content."""
        digest = hashlib.sha1(usedforsecurity=False)
        for path, body in sorted(self.repos[repo].items()):
            digest.update(path.encode() + hashlib.sha256(body).digest())
        return digest.hexdigest()

    def find(self, request) -> bytes | None:
        path = unquote(urlsplit(request.path).path)
        if self.login:
            return LOGIN
        if match := FILE.fullmatch(path):
            return self._file(request, **match.groupdict())
        if match := ABOUT.fullmatch(path):
            return self._about(request, **match.groupdict())
        return self._missing(request, None)

    def extra(self, request, body: bytes) -> dict[str, str]:
        if self.login:
            return {"Content-Type": "text/html"}
        match = FILE.fullmatch(unquote(urlsplit(request.path).path))
        if match is None:
            return {"Content-Type": "application/json"}
        right, commit = self.repos[match["repo"]][match["file"]], self.commit(match["repo"])
        tag = identity(match["file"], right)
        headers = {"X-Repo-Commit": commit, "ETag": f'"{tag}"', "Accept-Ranges": "bytes"}
        if match["file"].endswith(LARGE):
            headers |= {"X-Linked-Etag": f'"{tag}"', "X-Linked-Size": str(len(right))}
        return headers

    def _file(self, request, repo: str, revision: str, file: str) -> bytes | None:
        if not self._known(request, repo, revision):
            return None
        if file not in self.repos[repo]:
            return self._missing(request, "EntryNotFound", self.commit(repo))
        return self.tampered.get(file, self.repos[repo][file])

    def _about(self, request, repo: str, part: str | None, revision: str | None) -> bytes | None:
        if not self._known(request, repo, revision or "main"):
            return None
        files, commit = self.repos[repo], self.commit(repo)
        if part == "tree":
            return json.dumps([
                {"type": "file", "path": path, "size": len(body), "oid": identity("", body)}
                | ({"lfs": {"oid": identity(path, body), "size": len(body), "pointerSize": 130}}
                   if path.endswith(LARGE) else {})
                for path, body in files.items()
            ]).encode()
        siblings = [{"rfilename": path} for path in files]
        return json.dumps({"_id": "1", "id": repo, "modelId": repo, "sha": commit, "private": False, "tags": [],
                           "downloads": 0, "likes": 0, "siblings": siblings}).encode()

    def _known(self, request, repo: str, revision: str) -> bool:
        """Whether there is such a repository and revision; otherwise the request is answered."""
        if repo not in self.repos:
            self._missing(request, "RepoNotFound")
        elif revision not in ("main", self.commit(repo)):
            self._missing(request, "RevisionNotFound")
        else:
            return True
        return False

    def _missing(self, request, code: str | None, commit: str | None = None) -> None:
        request.send_response(404)
        for name, value in (("X-Error-Code", code), ("X-Repo-Commit", commit), ("Content-Length", "0")):
            if value is not None:
                request.send_header(name, value)
        request.end_headers()


def identity(path: str, body: bytes) -> str:
    """The ETag that the hub gives a file: its SHA-256 where Git LFS keeps it, else the name of its Git object."""
    if path.endswith(LARGE):
        return hashlib.sha256(body).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(body) + body, usedforsecurity=False).hexdigest()


def set_constants(monkeypatch, **values) -> None:
    """Change constants of huggingface_hub until the test's end, in every module of it that has taken them over."""
    import huggingface_hub.file_download
    import huggingface_hub.hf_api  # noqa: F401

    for name in [name for name in sys.modules if name.partition(".")[0] == "huggingface_hub"]:
        for constant, value in values.items():
            if constant in vars(sys.modules[name]):
                monkeypatch.setattr(sys.modules[name], constant, value)
    renew = getattr(huggingface_hub.utils._http, "reset_sessions", None)  # before 1.0 a session keeps HF_HUB_OFFLINE
    if renew:
        renew()
