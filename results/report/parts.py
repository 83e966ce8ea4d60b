"""What sections are made of: tables, figures and pictures as plain data, for the macros of the templates."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from markupsafe import Markup

from runs.files import find_files
from runs.record import read_run, relative_to

from ..figures.style import inline_svg
from ..tables.layout import END, START, Block

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_BESIDE = 6  # runs of a section; the files of others stay where they are


class Cell(NamedTuple):
    """One cell of a table: text, small print behind it, and how it looks."""

    text: str
    small: str = ""
    kind: str = ""  # class: best, gap, left, code
    style: str = ""


class Table(NamedTuple):
    """A table with a name in the first column of every row.

    `kind` is "plain" for one of words rather than numbers, "pairs" where the first two columns are words.
    """

    label: str  # for those who cannot see it
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    kind: str = ""


class Picture(NamedTuple):
    """A PNG inside the page."""

    source: str  # data URI
    alt: str
    caption: str

    @classmethod
    def read(cls, path: Path, alt: str, caption: str) -> Picture:
        """Take the file into the page."""
        return cls(f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode('ascii')}", alt, caption)


class Pictures(NamedTuple):
    """Pictures that lie beside their runs: the first few of all."""

    by_run: list[tuple[str, list[Picture]]]  # (name of the run, its pictures)
    more: int  # that are not shown


def cells(*texts: object, kind: str = "") -> list[Cell]:
    """Make cells of texts that all look alike."""
    return [Cell(str(text), kind=kind) for text in texts]


def with_spread(text: str) -> Cell:
    """Make the spread of "71.25 ± 0.35" small print."""
    mean, sign, spread = text.partition(" ± ")
    return Cell(mean, sign + spread)


def shown_text(text: str) -> Cell:
    """Make the cell of a text of a block, which may be bold."""
    plain = text.replace(START, "").replace(END, "")
    return with_spread(plain)._replace(kind="best" if plain != text else "")


def block_table(block: Block) -> Table:
    """Show a table that was made for text."""
    rows = [[Cell(name), *map(shown_text, others)] for name, *others in block.rows]
    return Table(block.title, block.head, rows, kind="pairs" if block.words == 2 else "")


def figure(drawn: Figure, name: str, description: str) -> Markup:
    """Turn a figure into HTML that the template need not escape.

    Parameters
    ----------
    drawn
        The figure.
    name
        Unique on the page.
    description
        For those who cannot see it.
    """
    return Markup(inline_svg(drawn, anchor(name), description))


def pictures(
    output: Path, items: Sequence[tuple[Path, Any]], most: int, describe: Callable[[Any], tuple[str, str]]
) -> Pictures | None:
    """Read the first few of the pictures that lie in folders of runs, run by run.

    Parameters
    ----------
    output
        The folder of all runs.
    items
        PNG in a folder of the run's, and what `describe` takes.
    most
        How many are read.
    describe
        Returns words for those who cannot see the picture, and its caption.

    Returns
    -------
    pictures
        None without any item.
    """
    by_run: dict[str, list[Picture]] = {}
    for path, about in items[:most]:
        by_run.setdefault(relative_to(path.parent.parent, output), []).append(Picture.read(path, *describe(about)))
    return Pictures(list(by_run.items()), max(0, len(items) - most)) if items else None


def anchor(text: str) -> str:
    """Make a name for ids: letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


# --- records that lie beside runs ------------------------------------------------------------------------


def beside_runs(
    output: Path, name: str, read: Callable[[Path], tuple[Any, Any]], show: Callable[[Any, int], dict[str, Any]]
) -> dict[str, Any] | None:
    """Show what commands left beside runs, of MOST_BESIDE at most; None where there is nothing.

    Parameters
    ----------
    output
        Folder of the runs.
    name
        Of the files.
    read
        File -> what was measured, and when the result was finished that it was made of: after a later training it is
        stale.  ValueError, with the reason, for a file that cannot be read.
    show
        What was measured, and a number for the figure -> figure, table and words.
    """

    def entry(path: Path, number: int) -> dict[str, Any]:
        where = relative_to(path.parent, output)
        try:
            measured, finished = read(path)
        except ValueError as error:
            return {"name": where, "error": str(error)}
        stale = finished != read_run(path.parent).record.get("finished")
        return {"name": where, "error": "", "stale": stale, **show(measured, number)}

    paths = find_files(output, name)
    runs = [entry(path, number) for number, path in enumerate(paths[:MOST_BESIDE], start=1)]
    return {"runs": runs, "more": max(0, len(paths) - MOST_BESIDE), "file": name} if runs else None
