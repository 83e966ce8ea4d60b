"""Texts to rows of token ids: what a text tower reads, and what trainers ask when they build prompts.

Every model carries the tokenizer that it was trained with as `model.tokens`.  OpenAI's models share one (`ClipTokens`);
those of open_clip may bring others, with another vocabulary and length, without a start token, or with padding that the
tower reads (clip/openclip/tokens.py).  A row is always [start] text [end] [padding].
"""
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .simple_tokenizer import END, START, default_tokenizer


class Tokens:
    """The tokenizer of a text tower.

    Attributes
    ----------
    start, end
        Ids that stand before and behind the text in every row; `start` may be empty.
    pad
        Id that fills the rest of a row.
    context_length
        L, ids of a row.
    """

    start: tuple[int, ...]
    end: tuple[int, ...]
    pad: int
    context_length: int

    def encode(self, text: str) -> list[int]:
        """Turn a text into ids, without start and end; an empty text has none."""
        raise NotImplementedError

    def decode(self, ids: Sequence[int]) -> str:
        """Turn ids into text for people."""
        raise NotImplementedError

    def spell(self, token: int) -> str:
        """Spell one token as it reads."""
        return self.decode([token]).strip()

    def __call__(self, texts: str | Sequence[str], truncate: bool = False) -> Tensor:
        """Turn texts into rows.

        Parameters
        ----------
        texts
            One text or several.
        truncate
            Cut a text that is too long, keeping what stands behind it.

        Returns
        -------
        Tensor
            (number of texts, L), int64.

        Raises
        ------
        RuntimeError
            For a text that does not fit, without `truncate`.
        """
        room = self.context_length - len(self.start) - len(self.end)
        rows = []
        for text in [texts] if isinstance(texts, str) else texts:
            ids = self.encode(text)
            if len(ids) > room:
                if not truncate:
                    raise RuntimeError(
                        f"Input {text!r} is too long for context length {self.context_length}: it has "
                        f"{len(ids) + len(self.start) + len(self.end)} tokens with start and end; shorten it, or "
                        "pass truncate=True"
                    )
                ids = ids[:room]
            row = [*self.start, *ids, *self.end]
            rows.append(row + [self.pad] * (self.context_length - len(row)))
        return torch.tensor(rows, dtype=torch.long).reshape(-1, self.context_length)

    def ends(self, rows: Tensor) -> Tensor:
        """Find where the text of each row (R, L) ends: the position (R,) of its last token before the padding."""
        behind = rows[:, len(self.start) :] == self.end[0]
        return behind.int().argmax(dim=1) + len(self.start) + len(self.end) - 1


class ClipTokens(Tokens):
    """CLIP's byte-pair encoding, with rows of any length; 77 in all of OpenAI's releases."""

    pad = 0

    def __init__(self, context_length: int = 77) -> None:
        self.context_length = context_length

    @property
    def start(self) -> tuple[int, ...]:  # type: ignore[override]
        """The start token, <|startoftext|>."""
        return (default_tokenizer().encoder[START],)

    @property
    def end(self) -> tuple[int, ...]:  # type: ignore[override]
        """The end token, <|endoftext|>."""
        return (default_tokenizer().encoder[END],)

    def encode(self, text: str) -> list[int]:
        """Turn a text into ids, without start and end."""
        return default_tokenizer().encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        """Turn ids into text; every word is followed by a space."""
        return default_tokenizer().decode(ids)

    def spell(self, token: int) -> str:
        r"""Spell a token as it reads: without the mark of its end, bytes decoded; bytes that are no text as \\xe2."""
        tokenizer = default_tokenizer()
        symbols = tokenizer.decoder[token].removesuffix("</w>")
        if not all(symbol in tokenizer.byte_decoder for symbol in symbols):
            return symbols
        return bytes(tokenizer.byte_decoder[symbol] for symbol in symbols).decode("utf-8", errors="backslashreplace")

    def ends(self, rows: Tensor) -> Tensor:
        """Find the end token, which has the largest id, in each row (R, L)."""
        return rows.argmax(dim=1)
