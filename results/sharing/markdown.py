"""Pieces of Markdown pages, and sections that cards of classifiers and of results have in common.

What stands on a page comes from records: names and settings in them are escaped, and never read as Markdown or HTML.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dassl.plain.text import printable

from .published import departures


def page(title: str, lead: str, sections: Mapping[str, Iterable[str]]) -> str:
    """Put a page together; ends with a newline.

    Parameters
    ----------
    title, lead
        Its heading, and the paragraph below.
    sections
        {heading: blocks}; a section without blocks is left out, and one without a heading has none.
    """
    lines = [f"# {escaped(title)}", "", lead, ""]
    for heading, blocks in sections.items():
        texts = [block for block in blocks if block]
        lines += [f"## {heading}", ""] * bool(heading and texts)
        lines += [line for text in texts for line in (text, "")]
    return "\n".join(lines).rstrip() + "\n"


def table(rows: Iterable[Sequence[object]], head: Sequence[str] = ("", "")) -> str:
    """Make a table of texts that are still to be escaped."""
    lines = [head, ["---"] * len(head), *([escaped(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def code(language: str, text: str) -> str:
    """Make a block of code, shown as it is."""
    return f"```{language}\n{text}\n```"


def folded(summary: str, text: str) -> str:
    """Hide a block behind a line that opens it."""
    return f"<details>\n<summary>{escaped(summary)}</summary>\n\n{text}\n\n</details>"


def escaped(text: object) -> str:
    """Return text as it can stand on a page: names and settings may hold marks of Markdown or HTML."""
    shown = printable(text).replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")
    return shown if shown.startswith("`") else shown.replace("*", "\\*").replace("[", "\\[")


def counted(number: int, thing: str) -> str:
    """Say "1 shot", "16 shots"."""
    return f"{number:,} {thing}{'s' * (number != 1)}"


def departures_blocks(configs: Mapping[str, Mapping[str, Any]], zero_shot: bool) -> list[str]:
    """Say in which settings the runs of one method depart from the published ones.

    Parameters
    ----------
    configs
        {where the run stands among the others: its whole flat config}; a single one may be called "".
    zero_shot
        Whether the method sees no training image.
    """
    nearest = {place: departures(config, zero_shot) for place, config in configs.items()}
    recipes = dict.fromkeys(f"`{known.recipe}`" for known in nearest.values() if known)
    if not recipes:
        return ["No published settings of this method are known to compare with."]
    places: dict[tuple[str, str, str], list[str]] = {}  # of every (key, published value, value here)
    for place, known in nearest.items():
        for key, (theirs, ours) in (known.changed if known else {}).items():
            places.setdefault((f"`{key}`", str(theirs), str(ours)), []).append(place)
    text = f"With the published settings ({', '.join(recipes)})"
    if not places:
        return [f"{text}."]
    head, rows = ["key", "published", "here"], [list(row) for row in places]
    if any(len(where) < len(configs) for where in places.values()):
        head.append("where")
        for row, where in zip(rows, places.values(), strict=True):
            row.append("everywhere" if len(where) == len(configs) else "; ".join(where))
    return [f"{text}, except:", table(rows, head)]
