"""The tokenizers of open_clip's models: CLIP's own, or one that Hugging Face's transformers reads from its files."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..tokens import ClipTokens, Tokens
from .sources import Source

OPTIONS = {"clean", "strip_sep_token", "language"}  # of a config; transformers takes others, of which some run code
FILES = ("tokenizer.json", "tokenizer_config.json", "spiece.model", "vocab.txt")
PROBE = "a photo of a dog."


def load_tokens(source: Source) -> Tokens:
    """Load the tokenizer that a model's config names.

    Raises
    ------
    RuntimeError
        Where transformers, or the tokenizer's files, are not there; says how to get them.
    ValueError
        For a tokenizer that does not build rows of [start] text [end] [padding].
    """
    text = source.config["text_cfg"]
    length, name = text.get("context_length", 77), text.get("hf_tokenizer_name")
    options = dict(text.get("tokenizer_kwargs") or {})
    if not name:
        if options:
            raise ValueError(f"{source.name}: its config gives CLIP's tokenizer options that are not known, {options}")
        return ClipTokens(length)
    if unknown := options.keys() - OPTIONS:
        raise ValueError(
            f"{source.name}: its config gives the tokenizer {name} the options {', '.join(sorted(unknown))}; known are "
            f"{', '.join(sorted(OPTIONS))}, and no others are handed on"
        )
    own = source.folder is not None and any((source.folder / file).is_file() for file in FILES)
    place = str(source.folder) if own else name
    try:
        from open_clip.tokenizer import HFTokenizer

        mode = {"tokenizer_mode": text["tokenizer_mode"]} if text.get("tokenizer_mode") else {}
        tokenizer = HFTokenizer(place, context_length=length, **mode, **options)
    except ImportError as error:
        raise RuntimeError(
            f"{source.name} reads texts with the tokenizer {name}, for which {error.name or 'a package'} is missing: "
            "pip install transformers sentencepiece"
        ) from error
    except Exception as error:  # transformers raises many kinds, for files that are missing or damaged
        raise RuntimeError(
            f"{source.name} reads texts with the tokenizer {name}, which cannot be loaded ({error}). On a machine "
            f"without network, put its files ({', '.join(FILES[:2])}, ...) into the folder of weights and "
            "open_clip_config.json and give that folder as MODEL.BACKBONE.NAME, or copy them into the hub's cache; "
            "its mirror and cache are HF_ENDPOINT and HF_HOME"
        ) from error
    return HubTokens(tokenizer, length, source.name)


class HubTokens(Tokens):
    """A tokenizer of transformers, as open_clip calls it.

    Parameters
    ----------
    tokenizer
        open_clip's HFTokenizer.
    context_length
        L.
    name
        Of the model, for messages.
    """

    def __init__(self, tokenizer: Any, context_length: int, name: str) -> None:
        self.context_length = context_length
        self._clean, self._inner = tokenizer.clean_fn, tokenizer.tokenizer
        self.pad = self._inner.pad_token_id or 0
        text, whole = self.encode(PROBE), self._inner(self._clean(PROBE)).input_ids
        at = next((i for i in range(len(whole)) if whole[i : i + len(text)] == text), 0)
        dropped = self._inner.sep_token_id if getattr(tokenizer, "strip_sep_token", False) else None
        self.start = tuple(whole[:at])
        self.end = tuple(0 if token == dropped else token for token in whole[at + len(text) :])
        if not self.end or self(PROBE).tolist() != tokenizer([PROBE]).tolist():
            raise ValueError(
                f"{name}: its tokenizer {self._inner.name_or_path} does not write [start] text [end] [padding]; "
                "prompts cannot be built with it"
            )

    def encode(self, text: str) -> list[int]:
        """Turn a text into ids, without start and end."""
        return self._inner(self._clean(text), add_special_tokens=False).input_ids

    def decode(self, ids: Sequence[int]) -> str:
        """Turn ids into text for people."""
        return self._inner.decode(list(ids))

