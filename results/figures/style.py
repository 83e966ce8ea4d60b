"""What all figures share: type, colours, and how they become files or inline SVG.

Colours are those of Okabe and Ito (2008), which are told apart with any common colour blindness; marker and line style
double them, for prints without colour.  Files carry no time stamp and no random ids: the same data gives the same
bytes.
"""

from __future__ import annotations

import contextlib
import io
import re
import textwrap
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from runs.files import ResultsError, write_atomic

from .fonts import cover

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FAINT = "#1f2328", "#c9d1d9"
# Stand-ins that no figure uses otherwise: inline SVG takes the page's text colour instead, light or dark.
PAGE_INK, PAGE_FAINT = "#010203", "#010204"
TITLE = 48  # letters of a line of a title that is not measured
SUFFIXES = (".png", ".svg", ".pdf")
STYLE = Path(__file__).with_name("plot.mplstyle")


class Look(NamedTuple):
    """How one method is drawn, everywhere: colour, marker, and line style as matplotlib has them."""

    color: str
    marker: str
    line: Any


LOOKS = tuple(
    Look(color, marker, line)
    for line in ("-", (0, (5, 2)), (0, (1.5, 1.5)))
    for color, marker in (
        ("#0072b2", "o"),
        ("#d55e00", "s"),
        ("#009e73", "D"),
        ("#cc79a7", "^"),
        ("#56b4e9", "v"),
        ("#e69f00", "P"),
    )
)
GREY = Look("#808890", "*", (0, (6, 3)))


@contextlib.contextmanager
def drawing(ink: str = INK, faint: str = FAINT) -> Iterator[None]:
    """Let figures be drawn in our style; afterwards matplotlib has its own settings again.

    Parameters
    ----------
    ink, faint
        Colours of text and frames, and of grid lines; for inline SVG the stand-ins PAGE_INK and PAGE_FAINT.
    """
    from matplotlib import style

    inked = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    with style.context([STYLE, dict.fromkeys(inked, ink) | {"grid.color": faint}]):
        yield


def new_figure(width: float, height: float) -> Figure:
    """Make a figure of a size in inches that lays its panels out by itself."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    engine: Any = figure.get_layout_engine()
    engine.set(w_pad=0.06, h_pad=0.06, wspace=0.03, hspace=0.03)
    return figure


def set_title(axes: Axes, text: str) -> None:
    """Write the title in as many lines as it takes.

    matplotlib wraps by itself, but where it wraps it reads a formula between two dollar signs, in spite of
    text.parse_math; such a title is broken by counting letters.
    """
    if text.count("$") > 1:  # where matplotlib wraps, it reads a formula in spite of text.parse_math
        axes.set_title(textwrap.fill(text, TITLE))
    else:
        axes.set_title(text, wrap=True)


def cut(text: str, most: int) -> str:
    """Shorten text to at most `most` characters, all of which can be drawn."""
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text if len(text) <= most else text[: most - 1] + "…"


def short_name(name: str, most: int = 26) -> str:
    """Show a class name as figures do: no underscores, and cut off where it is long."""
    return cut(str(name).replace("_", " "), most)


def legend_below(figure: Figure, columns: int) -> None:
    """Put one legend for all panels below them, a label once, in at most `columns` columns and as many as fit."""
    handles = {
        label: handle for axes in figure.axes for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    widest = 0.6 + 0.075 * max(map(len, handles), default=0)  # inches of a column: the mark, and letters
    columns = max(1, min(columns, len(handles), int(figure.get_figwidth() / widest)))
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=columns)


def save_figure(figure: Figure, path: str | Path, dpi: int | None = None) -> Path:
    """Write PNG, SVG or PDF, by the ending of `path`, atomically and without a time stamp.

    Parameters
    ----------
    figure
        Drawn within `drawing`.
    path
        Its ending is one of SUFFIXES.
    dpi
        Of a PNG, unless the usual.

    Raises
    ------
    ResultsError
        For another ending, or where the file cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ResultsError(f"cannot draw to {path}: its name must end in one of {', '.join(SUFFIXES)}")
    dates = {".png": {"Software": None}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    options: dict[str, Any] = {"format": suffix[1:], "metadata": dates[suffix], "facecolor": "white", "dpi": dpi}
    with _writing(figure, path.name):
        return write_atomic(path, lambda file: figure.savefig(file, **options))


@contextlib.contextmanager
def _writing(figure: Figure, salt: str) -> Iterator[None]:
    """Let a figure become a file: with a font for every letter, and ids that follow from `salt` alone."""
    import matplotlib

    cover(figure)
    with matplotlib.rc_context({"svg.hashsalt": salt, "svg.fonttype": "none"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)  # `cover` has told
        yield


def inline_svg(figure: Figure, name: str, description: str) -> str:
    """Turn a figure into an <svg> for an HTML page, which scales with its column and takes the page's font and ink.

    Parameters
    ----------
    figure
        Drawn within `drawing(PAGE_INK, PAGE_FAINT)`.
    name
        Keeps its ids apart from those of other figures on the page; letters, digits and dashes.
    description
        What it shows, for those who cannot see it (aria-label).
    """
    import html

    buffer = io.BytesIO()
    with _writing(figure, name):
        figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    svg = buffer.getvalue().decode("utf-8")
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    for side in ("width", "height"):  # the page's style decides
        svg = re.sub(rf'(<svg[^>]*?) {side}="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r"(font(?:-family)?: [^;\"]*?)'DejaVu Sans'[^;\"]*", r"\1inherit", svg)
    svg = svg.replace(PAGE_FAINT, "var(--line)").replace(PAGE_INK, "currentColor")
    label = html.escape(description, quote=True)
    return svg.replace("<svg", f'<svg role="img" aria-label="{label}" class="figure"', 1)
