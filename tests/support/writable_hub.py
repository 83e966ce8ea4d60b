"""The hub of fake_hub.py, to which one can also upload: repositories are made, and commits add files, some by Git LFS.

    with WritableHub({}) as hub:
        hub.reach(monkeypatch, tmp_path / "cache")
        monkeypatch.setenv("HF_TOKEN", hub.token)
        HfApi().upload_file(...)
"""
from __future__ import annotations

import base64
import hashlib
import json
import re
from urllib.parse import unquote, urlsplit

from tests.support.fake_hub import LARGE, FakeHub

PREUPLOAD = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)/preupload/(?P<revision>[^/]+)")
COMMIT = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)/commit/(?P<revision>[^/]+)")
BRANCH = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)/branch/(?P<revision>[^/]+)")
BATCH = re.compile(r"/(?P<repo>[^/]+/[^/]+)\.git/info/lfs/objects/batch")


class WritableHub(FakeHub):
    """Takes what comes with its `token`; `closed` repositories answer reads only with it.

    Attributes
    ----------
    private
        Repositories that were made so.
    branches
        {(repository, branch): {path: bytes}} beside main.
    commits
        (repository, revision, summary, paths) of each commit.
    gated
        Repositories whose conditions nobody has accepted.
    writes
        Paths of all requests that would change something.
    """

    token = "hf_of_a_test"

    def __init__(self, repos: dict[str, dict[str, bytes]]):
        super().__init__(repos)
        self.private, self.gated, self.closed = set(), set(), set()
        self.branches, self.commits, self.writes = {}, [], []
        self._blobs: dict[str, bytes] = {}
        hub = self

        def do_POST(request):
            body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
            hub.writes.append(request.path)
            hub.write(request, unquote(urlsplit(request.path).path), body)

        self.http.RequestHandlerClass.do_POST = self.http.RequestHandlerClass.do_PUT = do_POST

    def reach(self, monkeypatch, cache) -> None:
        """As FakeHub, and without the token of whoever runs the test, nor the protocol Xet."""
        from huggingface_hub import constants

        super().reach(monkeypatch, cache)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache / "no token"))
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
            monkeypatch.delenv(name, raising=False)

    # --- reading -----------------------------------------------------------------------------------------

    def _known(self, request, repo: str, revision: str) -> bool:
        if repo in self.gated:
            self.reply(request, 403, {"error": "Access is restricted"}, {"X-Error-Code": "GatedRepo"})
            return False
        if repo in self.closed and not self._may(request):
            self.reply(request, 401, {"error": "Invalid credentials"}, {"X-Error-Code": "RepoNotFound"})
            return False
        return super()._known(request, repo, revision)

    # --- writing -----------------------------------------------------------------------------------------

    def write(self, request, path: str, body: bytes) -> None:
        """Answer a POST or PUT."""
        if path.startswith("/lfs/"):  # the address that LFS uploads go to is signed: it needs no token
            self._blobs[path.removeprefix("/lfs/")] = body
            return self.reply(request, 200, {})
        if path == "/api/validate-yaml":
            return self.reply(request, 200, {"errors": [], "warnings": []})
        if not self._may(request):
            return self.reply(request, 401, {"error": "Invalid username or password."})
        if path == "/api/repos/create":
            return self._create(request, json.loads(body))
        for pattern, answer in ((PREUPLOAD, self._preupload), (COMMIT, self._commit), (BRANCH, self._branch),
                                (BATCH, self._batch)):  # fmt: skip
            if match := pattern.fullmatch(path):
                return answer(request, body, **match.groupdict())
        return self.reply(request, 404, {"error": "no such address"})

    def _may(self, request) -> bool:
        return request.headers.get("Authorization") == f"Bearer {self.token}"

    def _create(self, request, wanted: dict) -> None:
        repo = f"{wanted['organization']}/{wanted['name']}" if wanted.get("organization") else wanted["name"]
        if not repo.startswith("me/"):
            return self.reply(request, 403, {"error": f"You don't have the rights to create {repo}"})
        status = 409 if repo in self.repos else 200
        if status == 200:
            self.repos[repo] = {".gitattributes": b"*.safetensors filter=lfs\n"}
            self.private |= {repo} if wanted.get("private") or wanted.get("visibility") == "private" else set()
        return self.reply(request, status, {"url": f"{self.base}/{repo}", "name": repo})

    def _branch(self, request, body: bytes, repo: str, revision: str) -> None:
        status = 409 if (repo, revision) in self.branches else 200
        self.branches.setdefault((repo, revision), dict(self.repos[repo]))
        return self.reply(request, status, {"error": "it is there"} if status == 409 else {})

    def _preupload(self, request, body: bytes, repo: str, revision: str) -> None:
        files = [{"path": file["path"], "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
                  "shouldIgnore": False} for file in json.loads(body)["files"]]  # fmt: skip
        return self.reply(request, 200, {"files": files})

    def _batch(self, request, body: bytes, repo: str) -> None:
        objects = [entry | {"actions": {"upload": {"href": f"{self.base}/lfs/{entry['oid']}"}}}
                   for entry in json.loads(body)["objects"]]  # fmt: skip
        return self.reply(request, 200, {"transfer": "basic", "objects": objects})

    def _commit(self, request, body: bytes, repo: str, revision: str) -> None:
        header, *operations = map(json.loads, body.splitlines())
        files = self.repos[repo] if revision == "main" else self.branches[repo, revision]
        for operation in operations:
            value = operation["value"]
            if operation["key"] == "lfsFile":
                content = self._blobs[value["oid"]]
                assert hashlib.sha256(content).hexdigest() == value["oid"]
            else:
                content = base64.b64decode(value["content"])
            files[value["path"]] = content
        paths = [operation["value"]["path"] for operation in operations]
        self.commits.append((repo, revision, header["value"]["summary"], paths))
        commit = self.commit(repo)
        url = f"{self.base}/{repo}/commit/{commit}"
        return self.reply(request, 200, {"success": True, "commitUrl": url, "commitOid": commit, "hookOutput": ""})

    def reply(self, request, status: int, content: dict, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(content).encode()
        request.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)),
                            **(headers or {})}.items():  # fmt: skip
            request.send_header(name, value)
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(body)
