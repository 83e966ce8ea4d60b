"""Whether CLIP can tell the classes apart by their names; looked at once, before anything is trained or tested.

A text feature is a function of the embeddings of its tokens and of nothing else.  So names whose tokens are embedded
alike have one feature in every sentence, with every learned context, and no method that describes a class by its name
alone can tell them apart.  Comparing embeddings is exact, and nothing is encoded for it.

Tokens that a CLIP was never trained on can be told where their embedding is zero, as in a table that was cut down to a
small vocabulary: such a word says nothing, so names are also alike that differ only in such words.
"""
from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence

import torch

from clip.model import CLIP

from .fixed_tokens import embed, words_of

SHOWN = 8  # names, or groups of names, in a message


def check_names(clip_model: CLIP, classnames: Sequence[str], backbone: str, decisive: bool = True) -> None:
    """Warn of classes that are read alike, and of words that say nothing to this CLIP.

    Parameters
    ----------
    clip_model
        Whose token table is compared.
    classnames
        C names.
    backbone
        What to call it.
    decisive
        Whether classes differ in nothing but their names.

    Raises
    ------
    ValueError
        For a name that is empty or cut short, and where names are decisive but leave at most half as many classes to
        tell apart as there are.
    """
    tokenizer = clip_model.tokens
    marks = {*tokenizer.start, *tokenizer.end}
    ids = [tokenizer.encode(words) for words in words_of(classnames)]
    for name, tokens in zip(classnames, ids, strict=True):
        if not tokens:
            raise ValueError(f"the class name {name!r} holds nothing that CLIP reads; give the class another name")
        if marks & set(tokens):
            raise ValueError(
                f"the class name {name!r} holds CLIP's own mark of where a text starts or ends "
                f"({tokenizer.decode([*tokenizer.start, *tokenizer.end])}), so it would be cut short there; give the "
                "class another name"
            )

    distinct = list(dict.fromkeys(token for tokens in ids for token in tokens))
    table = embed(clip_model, torch.tensor(distinct))  # (U, E)
    rows = dict(zip(distinct, table.unique(dim=0, return_inverse=True)[1].tolist(), strict=True))
    silent = [token for token, row in zip(distinct, table, strict=True) if not row.any()]
    groups: dict[tuple[int, ...], list[str]] = {}
    for name, tokens in zip(classnames, ids, strict=True):
        groups.setdefault(tuple(rows[token] for token in tokens if token not in silent), []).append(name)

    words = _listed(repr(tokenizer.decode([token]).strip()) for token in silent)
    unseen = f"it has never seen {words}" if silent else ""
    alike = [names for names in groups.values() if len(names) > 1]
    if alike:
        examples = _listed((" = ".join(_shown(names)) for names in alike), "; ")
        problem = f"{backbone} reads the names of different classes alike: {examples}" + f" ({unseen})" * bool(unseen)
        if decisive and 2 * len(groups) <= len(classnames):
            raise ValueError(
                f"{problem}. It can tell {len(groups)} of {len(classnames)} classes apart; choose a "
                "MODEL.BACKBONE.NAME that knows these words, or give the classes other names"
            )
        warnings.warn(f"{problem}; it cannot tell these classes apart by name: give them other names", stacklevel=3)
    elif unseen:
        warnings.warn(f"{backbone} does not know all words of the class names: {unseen}", stacklevel=3)


def _shown(names: Sequence[str]) -> list[str]:
    """Quote names, the first few of many."""
    more = len(names) - SHOWN
    return [repr(name) for name in names[:SHOWN]] + [f"{more} more"] * (more > 0)


def _listed(texts: Iterable[str], between: str = ", ") -> str:
    """Join texts, the first few of many."""
    texts = list(texts)
    more = len(texts) - SHOWN
    return between.join(texts[:SHOWN] + [f"and {more} more"] * (more > 0))
