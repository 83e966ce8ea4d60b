"""A small server of files on this machine that can be told to misbehave."""
from __future__ import annotations

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer:
    """Serves what `find` gives; `cut` ends each answer after so many bytes, `ranges` obeys Range headers.

    `requests` holds (path, Range header) of each request. `status` other than 200 is the answer to all. Where `hold`
    is an event, connections stay open until it is set. `tells` are the headers by which a file is known again, and
    `heeds` whether If-Range is: without, a range of another file is sent.
    """

    def __init__(self):
        self.cut, self.ranges, self.status, self.hold, self.requests = None, True, 200, None, []
        self.tells, self.heeds = ("ETag",), True
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.requests.append((self.path, self.headers.get("Range")))
                outer.answer(self)

            do_HEAD = do_GET  # the same headers; `answer` leaves the body out

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.base = f"http://127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def find(self, request) -> bytes | None:
        """The file that a request asks for; None if there is none, or if the request has been answered here."""
        raise NotImplementedError

    def extra(self, request, body: bytes) -> dict[str, str]:
        """Further headers of an answer."""
        return {}

    def answer(self, request):
        if self.status != 200:
            return request.send_error(self.status)
        body = self.find(request)
        if body is None:
            return None
        start, asked = 0, request.headers.get("Range")
        digest = hashlib.sha256(bytes(body[:1000])).hexdigest()
        date = f"Sun, 06 Nov 1994 08:49:{int(digest[:8], 16) % 60:02} GMT"
        known = {"ETag": f'"{digest[:16]}"', "Last-Modified": date}
        known = {name: known[name] for name in self.tells}
        changed = self.heeds and request.headers.get("If-Range") not in (None, *known.values())
        if asked and self.ranges and not changed:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(body):
                request.send_response(416)
                request.send_header("Content-Range", f"bytes */{len(body)}")
                for name, value in known.items():
                    request.send_header(name, value)
                return request.end_headers()
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            request.send_response(200)
        for name, value in {**known, **self.extra(request, body)}.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(body) - start))
        request.end_headers()
        if request.command == "HEAD":
            return None
        request.wfile.write(body[start : len(body) if self.cut is None else start + self.cut])
        if self.hold:
            self.hold.wait(60)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


def without_proxies(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
