"""The learned context of CoOp and PLOT: token vectors that stand where a prompt's words would.

A prompt for class "yin yang" with 4 context tokens reads [start] v1 v2 v3 v4 yin yang . [end]: only the v are learned.
The rest, and where the context stands in it, is trainers/fixed_tokens.py.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from clip.model import CLIP
from clip.prompt_text import PromptTokens

from .fixed_tokens import FixedTokens, embed, name_lengths, tokenize
from .local_projection import LocalProjection
from .options import POSITIONS

Learner = TypeVar("Learner", bound="PromptLearner")

RANDOM_STD = 0.02  # as CoOp
LARGEST_SUFFIX = 2e9  # bytes of the frozen embeddings behind the context, in a checkpoint; ImageNet's have 0.5 GB
COPY_NOISE_STD = 0.01  # between prompts that start from the same phrase: equal prompts get equal gradients for ever


class ContextLearner(nn.Module):
    """What every prompt learner is: a parameter `ctx` for N prompts of n context tokens, among fixed tokens.

    Its state dict has the original's entries: what is learned, and the frozen `token_prefix` (N*C, 1, E) and
    `token_suffix` (N*C, 76 - n, E), which are written for other readers and ignored on loading.  The latter is left out
    where it would have more than `LARGEST_SUFFIX` bytes: at 21,841 classes and N = 4 it has 10.7 GB, in every
    checkpoint, and the original's programs could not run either.

    Attributes
    ----------
    n_prompts, n_context
        N and n.
    layout
        The axes of `ctx` in words, for messages.
    shaped_by
        The settings that decide them, likewise.
    fixed
        Entries of the state dict that tell what the contexts were learned for, and are ignored on loading.
    local_proj
        A learned map of the places, where there is one; learned, saved and loaded with the contexts.
    """

    ctx: nn.Parameter
    n_prompts: int
    n_context: int
    layout: str  # the axes of `ctx` in words, for messages
    shaped_by: str = "N, N_CTX, CSC (with CSC also the same classes)"  # what decides them
    fixed: tuple[str, ...] = ("token_prefix", "token_suffix")

    def __init__(self) -> None:
        super().__init__()
        self.local_proj: LocalProjection | None = None

    def wordings(self) -> Sequence[FixedTokens]:
        """List the fixed tokens of each of the N prompts."""
        raise NotImplementedError

    @property
    def n_classes(self) -> int:
        """C."""
        return len(self.wordings()[0].end)

    def contexts(self) -> Tensor:
        """Bring the context into one shape: (N, 1, n, E), or (N, C, n, E) when class-specific."""
        raise NotImplementedError

    def full_prompts(self) -> Tensor:
        """Build the plain form (N*C, 77, E), in which row n*C + c is prompt n of class c."""
        return torch.cat([words.full(ctx) for words, ctx in zip(self.wordings(), self.contexts(), strict=True)])

    def ends(self) -> Tensor:
        """Find where the end-of-text token of every row stands, (N*C,)."""
        return torch.cat([words.end for words in self.wordings()])

    def of_own_classes(self, state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
        """Take what belongs to this learner's classes out of what was saved of another one; here all of it.

        Parameters
        ----------
        state
            The entries of its state dict.
        path
            Where they were read, for messages.
        """
        return state

    # --- the original's checkpoint layout ----------------------------------------------------------------

    @property
    def token_prefix(self) -> Tensor:
        """Embedding of the start token, (N*C, 1, E); (N*C, 0, E) where the tokenizer has none."""
        return self.fixed_embeddings(0, self.wordings()[0].start)

    @property
    def token_suffix(self) -> Tensor:
        """Embeddings behind the context in the tokenised prompts, (N*C, 76 - n, E)."""
        return self.fixed_embeddings(self.wordings()[0].start + self.n_context)

    def fixed_embeddings(self, first: int, last: int | None = None) -> Tensor:
        """Embed the tokenised prompts' positions first ... last - 1, (N*C, last - first, E)."""
        dtype = next(self.parameters()).dtype
        return torch.cat([words.embedded(first, last).to(dtype) for words in self.wordings()])

    def _save_to_state_dict(self, destination, prefix, keep_vars):  # type: ignore[no-untyped-def]
        super()._save_to_state_dict(destination, prefix, keep_vars)
        words, dtype = self.wordings(), next(self.parameters()).dtype
        rows, width = sum(len(part.end) for part in words), words[0].vocabulary.shape[1]
        size = rows * (words[0].ids.shape[1] - words[0].start - self.n_context) * width * dtype.itemsize
        for name in self.fixed:
            if name != "token_suffix" or size <= LARGEST_SUFFIX:
                destination[prefix + name] = getattr(self, name)

    def _load_from_state_dict(self, state_dict, prefix, *args):  # type: ignore[no-untyped-def]
        for name in self.fixed:
            state_dict.pop(prefix + name, None)
        super()._load_from_state_dict(state_dict, prefix, *args)


class PromptLearner(ContextLearner):
    """N contexts of n tokens, for C classes.

    Parameters
    ----------
    classnames
        C names, `_` read as space.
    clip_model
        Whose token table is used.
    n_context
        n, unless `init` decides it.
    n_prompts
        None gives CoOp's layout of the parameter `ctx`: (n, E), or (C, n, E) when class_specific; a number N gives
        PLOT's: (N, n, E), or (C, N, n, E).
    class_specific
        Whether every class has contexts of its own.
    init
        Empty for random vectors (std 0.02); else one phrase, or N phrases separated by `|` with equally many tokens
        each, whose embeddings start the context.
    position
        Where the class name stands, see FixedTokens.
    dtype, generator
        Number format of the context, and what random numbers are drawn from.

    Raises
    ------
    ValueError
        For an unknown position, phrases of unequal length, or a prompt that is too long.
    """

    def __init__(
        self,
        classnames: Sequence[str],
        clip_model: CLIP,
        n_context: int = 16,
        n_prompts: int | None = None,
        class_specific: bool = False,
        init: str = "",
        position: str = "end",
        dtype: torch.dtype = torch.float32,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if position not in POSITIONS:
            raise ValueError(f"position must be one of {', '.join(POSITIONS)}, got {position!r}")
        self.has_prompt_axis = n_prompts is not None
        self.class_specific = class_specific
        self.n_prompts = n_prompts or 1
        self.from_phrase = bool(init)

        start, words = self._initial_context(clip_model, n_context, init, generator)  # (N, n, E)
        self.n_context = start.shape[1]
        self.initial_words = (init or words).replace("_", " ")  # of all prompts, for the log
        if class_specific:
            start = start.expand(len(classnames), -1, -1, -1).clone()  # (C, N, n, E)
            if not init:
                start.normal_(std=RANDOM_STD, generator=generator)
        self.ctx = nn.Parameter((start if self.has_prompt_axis else start.squeeze(-3)).to(dtype))

        tokens = tokenize(clip_model.tokens, words, classnames, self.n_context)  # (C, 77)
        self.tokenized_prompts = tokens.repeat(self.n_prompts, 1)  # (N*C, 77), prompt-major like every row here
        self.name_lens = name_lengths(clip_model.tokens, words, classnames)
        self.words = FixedTokens(clip_model, tokens, self.n_context, self.name_lens, position, class_specific)
        axes = ["classes"] * class_specific + ["prompts"] * self.has_prompt_axis
        self.layout = " x ".join([*axes, "context tokens", "token width"])

    def wordings(self) -> Sequence[FixedTokens]:
        """List the same fixed tokens N times."""
        return [self.words] * self.n_prompts

    def contexts(self) -> Tensor:
        """Bring `ctx` into the shape (N, 1, n, E), or (N, C, n, E)."""
        ctx = self.ctx if self.has_prompt_axis else self.ctx.unsqueeze(-3)
        return ctx.transpose(0, 1) if self.class_specific else ctx.unsqueeze(1)

    def forward(self, classes: Tensor | None = None) -> PromptTokens:
        """Build the N prompts of all C classes, or of those that are wanted (see `FixedTokens.place`)."""
        return self.words.place(self.contexts(), classes)

    # --- where the context comes from --------------------------------------------------------------------

    def _initial_context(
        self, clip_model: CLIP, n_context: int, init: str, generator: torch.Generator | None
    ) -> tuple[Tensor, str]:
        """Make start values (N, n, E), and the words that stand for them in the tokenised prompts."""
        if not init:
            return random_context(clip_model, self.n_prompts, n_context, generator)
        phrases = [phrase.replace("_", " ").strip() for phrase in init.split("|")]
        ids = [clip_model.tokens.encode(phrase) for phrase in phrases]
        if len(phrases) not in (1, self.n_prompts):
            raise ValueError(f"CTX_INIT has {len(phrases)} phrases; give one, or {self.n_prompts}: one for each prompt")
        if len({len(phrase) for phrase in ids}) > 1 or not ids[0]:
            lengths = ", ".join(f"{phrase!r}: {len(i)}" for phrase, i in zip(phrases, ids, strict=True))
            raise ValueError(f"the phrases of CTX_INIT must have equally many tokens, at least one ({lengths})")
        start = torch.stack([embed(clip_model, torch.tensor(phrase)) for phrase in ids])
        if len(phrases) < self.n_prompts:
            noise = torch.empty(self.n_prompts, *start.shape[1:]).normal_(std=COPY_NOISE_STD, generator=generator)
            start = start + noise.to(start)
        return start, phrases[0]

def context_settings(precision: str, clip_model: CLIP, seed: int) -> dict[str, Any]:
    """Choose number format and random state that contexts start with, as arguments of a prompt learner.

    Parameters
    ----------
    precision
        "fp32" (fp64 where the towers are), or "model" for the number format of the towers, as the original.
    clip_model
        The CLIP that the context is for.
    seed
        A generator of their own makes contexts independent of whatever else draws random numbers; below 0 there is
        none, and the global generator is drawn from.
    """
    return {
        "dtype": clip_model.dtype if precision == "model" else torch.promote_types(clip_model.dtype, torch.float32),
        "generator": torch.Generator().manual_seed(seed) if seed >= 0 else None,
    }


def start_learner(
    kind: Callable[..., Learner], options: Any, classnames: Sequence[str], clip_model: CLIP, seed: int, **settings: Any
) -> Learner:
    """Build a prompt learner, and say in the log what its context starts from.

    Parameters
    ----------
    kind
        PromptLearner, or what extends it.
    options
        ContextOptions with a phrase to start from (`init`).
    classnames, clip_model
        As of PromptLearner.
    seed
        As of `context_settings`.
    settings
        Further arguments of the learner.
    """
    chosen = context_settings(options.context_precision, clip_model, seed) | settings
    learner = kind(classnames, clip_model, n_context=options.n_context, init=options.init, **chosen)
    start = "class-specific contexts" if learner.class_specific else "a generic context"
    print(f"Initializing {start}" + (" from given words" if learner.from_phrase else ""))
    print(f'Initial context: "{learner.initial_words}"')
    print(f"Number of context words (tokens): {learner.n_context}")
    return learner


def random_context(
    clip_model: CLIP, n_prompts: int, n_context: int, generator: torch.Generator | None
) -> tuple[Tensor, str]:
    """Draw start values (N, n, E), and name the words that stand in for them: X, n times.

    Raises
    ------
    ValueError
        For a tokenizer that does not read them as n tokens.
    """
    words = " ".join(["X"] * n_context)
    if len(clip_model.tokens.encode(words)) != n_context:
        raise ValueError(
            f"the tokenizer of this backbone does not read {n_context} words X as so many tokens, and no others can "
            "stand in for random context vectors; set CTX_INIT to a phrase"
        )
    random = torch.empty(n_prompts, n_context, clip_model.token_embedding.weight.shape[1])
    return random.normal_(std=RANDOM_STD, generator=generator), words
