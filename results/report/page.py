"""The HTML of the report: escaping, tables, figures, sections, and the page.  No script, no outside file."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Sequence
from pathlib import Path

from dassl.plain.text import printable

CSS = Path(__file__).with_name("report.css")
MOST_LETTERS = 12  # of a head that stands in one line
LONG = ' class="long"'
MOST_ROWS = 16  # of a table in full length
FEW = 3  # data sets that are shown one below the other


def esc(value: object) -> str:
    """Text for anywhere between tags or inside a quoted attribute."""
    return html.escape(printable(value), quote=True)


def anchor(text: str) -> str:
    """A name for ids: letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def table(head: Sequence[str], rows: Sequence[Sequence[str]], label: str, caption: str = "", kind: str = "") -> str:
    """Scrolls inside its frame on a narrow page.  Heads and first cells are HTML, other cells <td>s.

    kind: "plain" for one of words rather than numbers, "pairs" where the first two columns are words.  A long one
    scrolls downward too.
    """
    tall = " tall" * (len(rows) > MOST_ROWS)
    header = "".join(f'<th scope="col"{LONG * (len(cell) > MOST_LETTERS)}>{cell}</th>' for cell in head)
    body = "".join(f'<tr><th scope="row"><div>{row[0]}</div></th>{"".join(row[1:])}</tr>\n' for row in rows)
    note = f'<p class="soft">{caption}</p>' if caption else ""
    return (
        f'<div class="scroll {kind}{tall}" tabindex="0" role="region" aria-label="{esc(label)}">'
        f"<table><thead><tr>{header}</tr></thead>\n<tbody>\n{body}</tbody></table></div>\n{note}"
    )


def cell(content: object, style: str = "", kind: str = "") -> str:
    """`content` is HTML."""
    attributes = (f' class="{kind}"' if kind else "") + (f' style="{style}"' if style else "")
    return f"<td{attributes}>{content}</td>"


def section(anchor: str, title: str, *parts: str) -> str:
    """ "" where there is nothing to say."""
    parts = tuple(part for part in parts if part)
    if not parts:
        return ""
    return (
        f'<section aria-labelledby="{anchor}">\n<h2 id="{anchor}">{esc(title)}</h2>\n'
        + "\n".join(parts)
        + "\n</section>\n"
    )


def paragraph(text: str, kind: str = "") -> str:
    """`text` is HTML."""
    return f'<p class="{kind}">{text}</p>' if kind else f"<p>{text}</p>"


def fold(title: str, body: str, opened: bool = False) -> str:
    """`title` is HTML; a click shows the body."""
    return f"<details{' open' * opened}><summary>{title}</summary>\n{body}\n</details>"


def by_data_set(parts: Sequence[tuple[str, str]]) -> str:
    """(title, HTML) of every data set: a single one needs no title, many fold away but for the first."""
    if len(parts) == 1:
        return parts[0][1]
    if len(parts) <= FEW:
        return "\n".join(f"<h3>{esc(title)}</h3>\n{body}" for title, body in parts)
    return "\n".join(fold(esc(title), body, opened=not index) for index, (title, body) in enumerate(parts))


def flow(parts: Sequence[str], kind: str = "figure") -> str:
    """Side by side where there is room, below each other where not.  kind: "figure" for pictures, else "div"."""
    return '<div class="flow">\n' + "\n".join(f"<{kind}>{one}</{kind}>" for one in parts) + "\n</div>" if parts else ""


def image(path: Path, description: str, caption: str) -> str:
    """A PNG inside the page; scrolls sideways on a phone rather than shrinking beyond reading."""
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return (
        f'<figure class="map"><div class="scroll" tabindex="0" role="region" aria-label="{esc(caption)}">'
        f'<img alt="{esc(description)}" src="data:image/png;base64,{data}"></div>'
        f"<figcaption>{esc(caption)}</figcaption></figure>"
    )


def page(title: str, header: str, sections: Sequence[tuple[str, str, str]], footer: str) -> str:
    """The whole document; `sections` are (anchor, name for the navigation, HTML), empty ones are left out."""
    shown = [(anchor, name, body) for anchor, name, body in sections if body]
    links = "".join(f'<a href="#{anchor}">{esc(name)}</a>' for anchor, name, _ in shown)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{esc(title)}</title>
<link rel="icon" href="data:,">
<style>
{CSS.read_text(encoding="utf-8")}</style>
</head>
<body>
<header>
<h1>{esc(title)}</h1>
{header}
</header>
<nav aria-label="Sections">{links}</nav>
<main>
{"".join(body for _, _, body in shown)}</main>
<footer>{footer}</footer>
</body>
</html>
"""
