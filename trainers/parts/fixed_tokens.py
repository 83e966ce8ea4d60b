"""The fixed part of prompts: the words around a learned context, and which token stands where.

Which token stands where is one table, `sources`, from which both forms of the prompts are built: the shared-prefix form
that is fast to encode, and the plain 77-token form of the original.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from clip.model import CLIP
from clip.prompt_text import PromptTokens
from clip.tokens import Tokens


class Suffixes(NamedTuple):
    """What follows the shared prefix in the prompts of some classes, class after class.

    Attributes
    ----------
    ids
        (T,), rows of the vocabulary.
    slots, slot_sources
        Positions among the T that the context fills, and with which of its tokens; those of the first of the classes
        come first, where each has a context of its own.
    lengths
        Tokens of each class, summing to T.
    """

    ids: Tensor
    slots: Tensor
    slot_sources: Tensor
    lengths: tuple[int, ...]


class FixedTokens(nn.Module):
    """One prompt for each of C classes, with room for a context of n tokens.

    Parameters
    ----------
    clip_model
        Whose token table is used.
    tokens
        (C, 77), tokenised prompts in which the n positions behind the start stand for the context and the class name
        follows.  77 is CLIP's context length; other models have another.
    n_context
        n.
    name_lengths
        Tokens of each class's name, which `middle` and `front` need.
    position
        `end`: [start] ctx name . ; `middle`: [start] half of ctx, name, rest of ctx . ; `front`: [start] name ctx .
    class_specific
        Whether every class has a context of its own; then nothing but the start token is shared.

    Attributes
    ----------
    vocabulary
        (U, E), embeddings of the distinct tokens of all prompts.
    ids
        (C, 77), the tokenised prompts, as rows of `vocabulary`.
    end
        (C,), position of end-of-text in each tokenised prompt.
    """

    vocabulary: Tensor  # (U, E) embeddings of the distinct tokens of all prompts
    ids: Tensor  # (C, 77) the tokenised prompts, as rows of `vocabulary`

    def __init__(
        self,
        clip_model: CLIP,
        tokens: Tensor,
        n_context: int,
        name_lengths: Sequence[int] | None = None,
        position: str = "end",
        class_specific: bool = False,
    ) -> None:
        super().__init__()
        self.n_context = n_context
        self.class_specific = class_specific
        self.start = len(clip_model.tokens.start)  # 1, or 0 where a tokenizer puts nothing before the text
        self.end = clip_model.tokens.ends(tokens)  # (C,) position of end-of-text
        distinct, ids = tokens.unique(return_inverse=True)
        self.register_buffer("vocabulary", embed(clip_model, distinct), persistent=False)
        self.register_buffer("ids", ids, persistent=False)
        self._place([0] * len(tokens) if name_lengths is None else name_lengths, position)

    def place(self, contexts: Tensor, classes: Tensor | None = None) -> PromptTokens:
        """Put contexts into the prompts.

        Parameters
        ----------
        contexts
            (N, 1, n, E) or (N, C, n, E), for any N.
        classes
            (c,) int64 on the CPU: the classes whose prompts are wanted, in this order; None for all.  Nothing of the
            size of all classes is made then.
        """
        words = self._suffixes_of(classes)
        if classes is not None and self.class_specific:
            contexts = contexts.index_select(1, classes.to(contexts.device))
        learned = contexts.flatten(1, 2)  # (N, n, E) or (N, C*n, E)
        start = self.vocabulary[self.ids[0, : self.start]].to(learned).expand(len(learned), -1, -1)
        prefix = torch.cat([start, learned[:, : self.shared]], dim=1)  # (N, P, E)
        suffix = self.vocabulary[words.ids].to(learned)[None]  # (1, T, E)
        if len(words.slots):
            suffix = suffix.expand(len(learned), -1, -1).index_copy(1, words.slots, learned[:, words.slot_sources])
        return PromptTokens(prefix, suffix, words.lengths)

    def full(self, contexts: Tensor) -> Tensor:
        """Build the plain form of one prompt from its context (1, n, E) or (C, n, E): (C, 77, E)."""
        learned = contexts.expand(len(self.ids), -1, -1)  # (C, n, E)
        sources = self.sources.to(learned.device)
        frozen = self.vocabulary[self.ids.gather(1, sources.clamp(min=0))].to(learned)  # (C, 77, E)
        index = (-1 - sources).clamp(min=0)[:, :, None].expand(-1, -1, learned.shape[-1])
        return torch.where((sources < 0)[:, :, None], learned.gather(1, index), frozen)

    def embedded(self, first: int, last: int | None = None) -> Tensor:
        """Embed the tokenised prompts' positions first ... last - 1 (None: to the end), (C, ..., E)."""
        return self.vocabulary[self.ids[:, first:last]]

    def _place(self, name_lengths: Sequence[int], position: str) -> None:
        """Build `sources` (C, 77), and from it the packed suffixes.

        A source is a position in the tokenised prompt, or -1 - j for context token j.  A suffix is what follows the
        shared prefix, up to and including the end-of-text token.
        """
        n, length, first = self.n_context, self.ids.shape[1], self.start + self.n_context
        before = {"end": n, "middle": n // 2, "front": 0}[position]  # context tokens ahead of the name
        context = [-1 - j for j in range(n)]
        rows = []
        for name_length in name_lengths:
            name = list(range(first, first + name_length))
            rest = list(range(first + name_length, length))
            rows.append([*range(self.start), *context[:before], *name, *context[before:], *rest])
        self.sources = torch.tensor(rows)

        self.shared = 0 if self.class_specific else before
        self.lengths = tuple(end + 1 - self.start - self.shared for end in self.end.tolist())
        self._latest: tuple[Tensor | None, Suffixes] | None = None  # of the classes that were last asked for

    def _suffixes_of(self, classes: Tensor | None) -> Suffixes:
        """Lay the suffixes of some classes (None: of all) end to end; those of the last call are kept."""
        device = self.vocabulary.device
        if self._latest is not None and self._latest[1].ids.device == device:
            before = self._latest[0]
            if before is classes or (before is not None and classes is not None and torch.equal(before, classes)):
                return self._latest[1]
        with torch.inference_mode(False):  # kept for later calls, which may want gradients
            chosen = torch.arange(len(self.lengths)) if classes is None else classes.clone()
            lengths = torch.tensor(self.lengths)[chosen]  # (c,)
            of = torch.arange(len(chosen)).repeat_interleave(lengths)  # (T,) the place of each token's class
            first = (lengths.cumsum(0) - lengths)[of]
            sources = self.sources[chosen[of], self.start + self.shared + torch.arange(len(of)) - first]  # (T,)
            slots = (sources < 0).nonzero().flatten()
            own = of[slots] * self.n_context if self.class_specific else 0  # the class's context, or that of all
            ids = self.ids[chosen[of].to(device), sources.clamp(min=0).to(device)]
            made = Suffixes(ids, slots.to(device), (own - 1 - sources[slots]).to(device), tuple(lengths.tolist()))
        self._latest = None if classes is None else chosen, made
        return made


def words_of(classnames: Sequence[str]) -> list[str]:
    """Read class names: `_` is a space."""
    return [name.replace("_", " ") for name in classnames]


def name_lengths(tokens: Tokens, words: str, classnames: Sequence[str]) -> list[int]:
    """Count the tokens of each class's name, as it stands behind `words`."""
    before = len(tokens.encode(words))
    return [len(tokens.encode(f"{words} {name}")) - before for name in words_of(classnames)]


def tokenize(
    tokens: Tokens, words: str, classnames: Sequence[str], n_context: int, clean: bool = True, stop: str = "."
) -> Tensor:
    """Tokenise `words` and each class's name as a sentence.

    Parameters
    ----------
    tokens
        The tokenizer of the model.
    words
        Whose first `n_context` tokens stand for the context.
    classnames
        C names.
    n_context
        n.
    clean
        Whether `_` is read as space.
    stop
        What ends the sentence.

    Returns
    -------
    Tensor
        Ids (C, 77).

    Raises
    ------
    ValueError
        For what is too long, and for a tokenizer that reads `words` otherwise in front of a name than alone.
    """
    try:
        names = words_of(classnames) if clean else classnames
        rows = tokens([f"{words} {name}{stop}" for name in names])
    except RuntimeError as error:
        reason = str(error).rpartition(";")[0]  # without the remedy of who calls the tokenizer
        remedy = f"the context takes {n_context} of them: shorten the name, or lower N_CTX, or shorten CTX_INIT"
        raise ValueError(f"{reason}; {remedy}") from None
    expected = torch.tensor(tokens.encode(words)[:n_context], dtype=rows.dtype)
    if not (rows[:, len(tokens.start) :][:, : len(expected)] == expected).all():
        raise ValueError(
            f"the tokenizer of this backbone reads {words!r} otherwise in front of a class name than alone; set "
            "CTX_INIT to words that it keeps apart from what follows"
        )
    return rows


@torch.no_grad()
def embed(clip_model: CLIP, ids: Tensor) -> Tensor:
    """Look up rows of the token embedding, float32 on the CPU."""
    device = clip_model.token_embedding.weight.device
    return clip_model.token_embedding(ids.to(device)).float().cpu()
