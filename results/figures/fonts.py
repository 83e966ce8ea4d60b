"""Fonts for whatever the names in a figure are written in: where the usual one lacks a character, another has it.

matplotlib falls back from one font family to the next, but only among families that it is told.  `cover` looks which
characters a figure needs beyond the usual font, finds installed families that have them, and adds these to the texts.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING

from runs.files import to_stderr

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REMEDY = "install a font that has them, such as Noto (on Debian and Ubuntu: fonts-noto-core, fonts-noto-cjk)"
BOXES = "LastResort"  # a font that has all characters, as boxes
_reported: set[str] = set()  # characters that the user has been told of


def cover(figure: Figure) -> None:
    """Let every text of `figure` fall back on installed fonts that have its characters; say once which none has.

    Tick labels that are names are made first, since matplotlib otherwise makes them only while it draws, which would be
    too late; the usual font has all that numbers are made of.
    """
    from matplotlib.font_manager import FontProperties, findfont
    from matplotlib.text import Text
    from matplotlib.ticker import ScalarFormatter

    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        if not isinstance(axis.get_major_formatter(), ScalarFormatter):
            axis.get_ticklabels()  # makes them
    texts = [text for text in figure.findobj(Text) if not text.get_text().isascii()]  # type: ignore[attr-defined]
    usual = _characters(findfont(FontProperties()))
    needed = {letter for text in texts for letter in text.get_text() if _shows(letter)} - usual  # type: ignore[attr-defined]
    if not needed:
        return
    families, lacking = _families(frozenset(needed))
    for text in texts:
        if needed.intersection(text.get_text()):  # type: ignore[attr-defined]
            text.set_fontfamily([*text.get_fontfamily(), *families])  # type: ignore[attr-defined]
    if new := lacking - _reported:
        _reported.update(new)
        shown = " ".join(sorted(new)[:12])
        to_stderr(f"figures: no installed font has {len(new)} of the characters in names ({shown}); {REMEDY}")


def _shows(letter: str) -> bool:
    """Whether a font needs a shape for the character."""
    return not letter.isspace() and unicodedata.category(letter) not in ("Cc", "Cf", "Cn", "Mn")


@cache
def _families(needed: frozenset[str]) -> tuple[list[str], set[str]]:
    """Return (families that together have the characters, in order of preference; the characters that none has)."""
    chosen: list[str] = []
    lacking = set(needed)
    for path, family in _installed():
        if not lacking:
            break
        if family not in chosen and (has := lacking & _characters(path)):
            chosen.append(family)
            lacking -= has
    return chosen, lacking


def _installed() -> Iterator[tuple[str, str]]:
    """Yield (file, family) of all fonts, plain ones without serifs first.

    Fonts that were installed after matplotlib made its list are added to it.
    """
    from matplotlib.font_manager import findSystemFonts, fontManager

    known = {entry.fname for entry in fontManager.ttflist}
    for path in findSystemFonts():
        if path not in known:
            try:
                fontManager.addfont(path)
            except Exception:  # a font that FreeType cannot read is none
                continue
    fonts = [font for font in fontManager.ttflist if font.style == "normal" and BOXES not in font.name.replace(" ", "")]
    plain = lambda font: ("Sans" not in font.name, "Mono" in font.name, font.weight not in (400, "normal"))  # noqa: E731
    yield from ((font.fname, font.name) for font in sorted(fonts, key=lambda font: (plain(font), font.name)))


@cache
def _characters(path: str) -> frozenset[str]:
    """List the characters that a font file has outlines for."""
    from matplotlib.font_manager import get_font

    try:
        return frozenset(map(chr, get_font(path).get_charmap()))
    except (RuntimeError, OSError):  # pictures instead of outlines, or gone
        return frozenset()
