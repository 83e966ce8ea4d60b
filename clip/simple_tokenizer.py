"""CLIP's byte-pair tokenizer under OpenAI's names; vocabulary and merges are those that open_clip ships.

A text is cleaned, lower-cased and cut into letters, single digits and runs of other symbols; each piece
becomes byte symbols, the last one marked `</w>`, which are merged greedily by rank (Sennrich et al. 2016).
49,408 ids: 256 byte symbols, the same at the end of a word, 48,894 merges, start 49406 and end 49407.

open_clip's tokenizer module needs nothing else of open_clip, whose import takes seconds: it is loaded alone.
"""
from __future__ import annotations

import copy
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable
from functools import cache, lru_cache, partial
from pathlib import Path
from types import ModuleType

START, END = "<|startoftext|>", "<|endoftext|>"
PIECES = r"""<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""


@cache
def _open_clip_tokenizer() -> ModuleType:
    """open_clip's tokenizer module, without running open_clip/__init__.py where that can be avoided."""
    if "open_clip.tokenizer" in sys.modules:
        return sys.modules["open_clip.tokenizer"]
    package = importlib.util.find_spec("open_clip")
    if package is None or not package.submodule_search_locations:
        raise ImportError("the tokenizer and its vocabulary come from open_clip: pip install open_clip_torch")
    file = Path(package.submodule_search_locations[0]) / "tokenizer.py"
    spec = importlib.util.spec_from_file_location("_open_clip_tokenizer", file)
    try:
        module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
        spec.loader.exec_module(module)  # type: ignore[union-attr]
    except (ImportError, OSError):  # another release may keep it elsewhere, or lean on its siblings
        return importlib.import_module("open_clip.tokenizer")
    return module


@cache
def default_bpe() -> str:
    """Path of the merge file, bpe_simple_vocab_16e6.txt.gz, inside the installed open_clip."""
    return _open_clip_tokenizer().default_bpe()


def _clean(text: str, slow: Callable[[str], str]) -> str:
    """Mended, unescaped, single-spaced, lower-cased text: `slow` does it, plain ASCII needs little of it."""
    if text.isascii() and text.isprintable() and "&" not in text:
        return " ".join(text.lower().split())
    return slow(text)


class SimpleTokenizer:
    """Text to ids and back.

    Parameters
    ----------
    bpe_path
        A gzipped merge file; by default the one that CLIP was trained with.

    Attributes
    ----------
    encoder, decoder
        Symbol -> id, and back.
    bpe_ranks
        Pair of symbols -> rank of their merge.
    byte_encoder, byte_decoder
        Byte -> printable character, and back.
    """

    def __init__(self, bpe_path: str | Path | None = None):
        import regex

        self.bpe_path = bpe_path
        module = _open_clip_tokenizer()
        if bpe_path is None and hasattr(module, "_tokenizer"):  # it made one on import: a copy is quicker
            theirs = copy.copy(module._tokenizer)
            theirs.encoder, theirs.decoder = dict(theirs.encoder), dict(theirs.decoder)
        else:
            theirs = module.SimpleTokenizer(str(bpe_path or default_bpe()))
        for name, index in ((START, theirs.sot_token_id), (END, theirs.eot_token_id)):  # renamed there
            del theirs.encoder[theirs.decoder[index]]
            theirs.encoder[name], theirs.decoder[index] = index, name
        theirs.cache = {START: START, END: END}
        theirs.pat = regex.compile(PIECES, regex.IGNORECASE)
        theirs.clean_fn = partial(_clean, slow=module.get_clean_fn("lower"))
        self._bpe = theirs
        self.encoder: dict[str, int] = theirs.encoder
        self.decoder: dict[int, str] = theirs.decoder
        self.bpe_ranks: dict[tuple[str, str], int] = theirs.bpe_ranks
        self.byte_encoder: dict[int, str] = theirs.byte_encoder
        self.byte_decoder: dict[str, int] = theirs.byte_decoder
        self._encode = lru_cache(maxsize=100_000)(lambda text: tuple(theirs.encode(text)))

    def bpe(self, token: str) -> str:
        """Merge the symbols of one piece (already as byte symbols), and separate them by spaces."""
        return self._bpe.bpe(token)

    def encode(self, text: str) -> list[int]:
        """Turn a text into ids, without start and end; an empty text has none."""
        return list(self._encode(text))

    def decode(self, tokens: Iterable[int]) -> str:
        """Turn ids into text; every word is followed by a space. Bytes that are no UTF-8 become U+FFFD."""
        return self._bpe.decode([int(token) for token in tokens])

    def __reduce__(self) -> tuple:
        return SimpleTokenizer, (self.bpe_path,)


@cache
def default_tokenizer() -> SimpleTokenizer:
    """Make the tokenizer that `clip.tokenize` shares, on first use."""
    return SimpleTokenizer()
