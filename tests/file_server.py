"""A small server of files on this machine that can be told to misbehave."""
from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer:
    """Serves what `find` gives; `cut` ends each answer after so many bytes, `ranges` obeys Range headers.

    `requests` holds (path, Range header) of each request. `status` other than 200 is the answer to all. Where `hold`
    is an event, connections stay open until it is set.
    """

    def __init__(self):
        self.cut, self.ranges, self.status, self.hold, self.requests = None, True, 200, None, []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.requests.append((self.path, self.headers.get("Range")))
                outer.answer(self)

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.base = f"http://127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def find(self, request) -> bytes | None:
        """The file that a request asks for; None if there is none, or if the request has been answered here."""
        raise NotImplementedError

    def answer(self, request):
        if self.status != 200:
            return request.send_error(self.status)
        body = self.find(request)
        if body is None:
            return None
        start, asked = 0, request.headers.get("Range")
        if asked and self.ranges:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(body):
                request.send_response(416)
                request.send_header("Content-Range", f"bytes */{len(body)}")
                return request.end_headers()
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            request.send_response(200)
        request.send_header("Content-Length", str(len(body) - start))
        request.end_headers()
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
