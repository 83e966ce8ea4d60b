"""Addresses that downloads come from: plain ones, Google Drive's, and the same behind a mirror.

A mirror (--mirror, or DATASETS_MIRROR) stands in for every host: https://HOST/PATH?QUERY is asked from
MIRROR/HOST/PATH?QUERY, which is what a caching proxy in front of the hosts serves.
"""

from __future__ import annotations

import http.cookiejar
import urllib.error
import urllib.request
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

from clip.loading.download import TIMEOUT, Source, request

from ..published import DRIVE

MOST_PAGES = 3  # of Drive's between the address and the file


def source_of(url: str, mirror: str = "") -> Source:
    """Return what answers for `url`: Google Drive asks back for large files, others send them at once."""
    return DriveSource(url, mirror) if url.startswith(DRIVE) else Source(mirrored(url, mirror))


def mirrored(url: str, mirror: str) -> str:
    """'https://example.org/a?b' -> 'MIRROR/example.org/a?b'; unchanged without a mirror, or if it is there already."""
    if not mirror or url.startswith(mirror.rstrip("/") + "/"):
        return url
    return f"{mirror.rstrip('/')}/{url.partition('://')[2]}"


@dataclass(frozen=True)
class DriveSource(Source):
    """A file on Google Drive. Large ones are sent only after a page that says they were not scanned for viruses.

    That page holds a form (earlier a link) with a token; asking again with it gives the file. Other pages say that
    there is none, because the file is gone or was fetched too often today: URLError with what the page says.
    """

    mirror: str = ""

    def open(self, headers: dict[str, str]) -> Any:
        """Ask for the file, on through the pages that may come in its place; URLError when none comes."""
        cookies = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())  # the link's token comes with one
        opener = urllib.request.build_opener(cookies)

        def ask(address: str, headers: dict[str, str]) -> Any:
            return opener.open(request(mirrored(address, self.mirror), headers), timeout=TIMEOUT)

        address, title = self.url, ""
        for _ in range(MOST_PAGES):
            response = ask(address, {})  # a page knows no ranges
            if not response.headers.get("Content-Type", "").startswith("text/html"):
                if not headers:
                    return response
                response.close()
                return ask(address, headers)
            with response:
                page = ConfirmationPage(response.read(1 << 20).decode(errors="replace"))
            address, title = page.next_address(address), page.title
            if not address:
                break
        raise urllib.error.URLError(f"Google Drive sent the page {title!r} in place of the file")

    @property
    def page(self) -> str:
        """Where a person gets the file."""
        return f"https://drive.google.com/file/d/{parse_qs(urlsplit(self.url).query)['id'][0]}/view"


class ConfirmationPage(HTMLParser):
    """The title of a page of Google Drive, and where it leads when one agrees to the download."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.title, self.action, self.link = "", "", ""
        self.fields: dict[str, str] = {}
        self._in_title = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the form to agree with, its hidden fields, and the link that old pages have in its place."""
        values = {name: value or "" for name, value in attrs}
        self._in_title = tag == "title"
        if tag == "form" and values.get("id") == "download-form":
            self.action = values.get("action", "")
        elif tag == "input" and self.action and values.get("type") == "hidden":
            self.fields[values.get("name", "")] = values.get("value", "")
        elif tag == "a" and "confirm=" in values.get("href", ""):
            self.link = values["href"]

    def handle_endtag(self, tag: str) -> None:
        """End the title; nothing is nested in it."""
        self._in_title = False

    def handle_data(self, data: str) -> None:
        """Collect the text of the title."""
        if self._in_title:
            self.title += data

    def next_address(self, address: str) -> str:
        """Where the form or link of the page at `address` leads; "" when there is none."""
        if self.action:
            return f"{urljoin(address, self.action).partition('?')[0]}?{urlencode(self.fields)}"
        return urljoin(address, self.link) if self.link else ""
