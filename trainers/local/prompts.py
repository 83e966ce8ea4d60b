"""What GalLoP and SOT-GLP learn: global contexts, local contexts, and a map of the features of places.

A prompt reads [start] context, class name, [end], without a full stop.  The global contexts are shared by all classes.
So are GalLoP's local ones; in SOT-GLP every class has its own.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from clip.model import CLIP
from clip.prompt_text import PromptTokens

from ..parts.fixed_tokens import FixedTokens, embed, tokenize
from ..parts.local_projection import LocalProjection
from ..parts.prompts import ContextLearner, random_context

STARTS = ("global", "xavier")


class GlobalLocalLearner(ContextLearner):
    """N_g global and N_l local contexts of n tokens for C classes, and the map of the places.

    The entries of its state dict are those of the authors' checkpoints, `global_prompt` (N_g, n, E), `local_prompts`
    (N_l, n, E) or (C, N_l, n, E), `local_proj.linear.weight`; beside them stands which classes it was made for.

    Parameters
    ----------
    classnames
        C names.
    clip_model
        Whose token table is used.
    n_global, n_local
        N_g and N_l; no local contexts mean that the global ones do both.
    class_specific
        Whether every class has local contexts of its own.
    init
        The phrase that all contexts start from, equal to each other; empty for random vectors (std 0.02).
    n_context
        n, unless `init` decides it.
    local_start
        "global": the local contexts start as copies of the first global one; "xavier": uniform between -l and l,
        l = sqrt(6 / ((N_l + C) n E)), Glorot's bound for a tensor of these four axes.
    place_width
        Width of the map of the places; 0 for none.
    clean_names
        Whether `_` is read as space; False as in published runs.
    n_places
        How many places the image tower sees, 0 for unknown; prompts and map that were learned on another grid are
        refused.
    dtype, generator
        Number format of the contexts, and what random numbers are drawn from.

    Raises
    ------
    ValueError
        For a prompt that is too long.

    References
    ----------
    M. Lafon et al., GalLoP, ECCV 2024; SOT-GLP, arXiv 2603.08347, 2026.
    """

    fixed = ("token_prefix", "n_places", "class_tokens")

    def __init__(
        self,
        classnames: Sequence[str],
        clip_model: CLIP,
        n_global: int = 4,
        n_local: int = 4,
        class_specific: bool = False,
        init: str = "A photo of a",
        n_context: int = 4,
        local_start: str = "global",
        place_width: int = 0,
        clean_names: bool = True,
        n_places: int = 0,
        dtype: torch.dtype = torch.float32,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.class_specific = class_specific and n_local > 0
        self.from_phrase = bool(init)
        phrase = init.replace("_", " ").strip()
        start, words = (  # (1, n, E), and the words that stand for it in the tokenised prompts
            (embed(clip_model, torch.tensor(clip_model.tokens.encode(phrase)))[None], phrase)
            if init
            else random_context(clip_model, 1, n_context, generator)
        )
        self.initial_words = words
        self.n_context = start.shape[1]
        self.n_global, self.n_local, self.n_prompts = n_global, n_local, n_global + n_local
        self.global_prompt = nn.Parameter(start.expand(n_global, -1, -1).clone().to(dtype))
        self.local_prompts: nn.Parameter | None = None
        if n_local:  # copies that are drawn over, or not
            shape = (len(classnames),) * class_specific + (n_local, *start.shape[1:])
            local = start.expand(shape).clone()
            if local_start == "xavier":
                bound = math.sqrt(6 / ((n_local + len(classnames)) * start[0].numel()))
                local.uniform_(-bound, bound, generator=generator)
            self.local_prompts = nn.Parameter(local.to(dtype))
        precise = torch.promote_types(dtype, torch.float32)
        self.local_proj = LocalProjection(place_width).to(precise) if place_width else None

        tokens = tokenize(clip_model.tokens, words, classnames, self.n_context, clean=clean_names, stop="")  # (C, 77)
        self.n_places = torch.tensor(n_places)
        self.classnames = list(classnames)
        self.tokens = tokens
        self.words = FixedTokens(clip_model, tokens, self.n_context)
        if self.class_specific:
            self.words_apart = FixedTokens(clip_model, tokens, self.n_context, class_specific=True)

    shaped_by = "N_GLOBAL, N_LOCAL, CSC, LOCAL_PROJ, N_CTX (with CSC also the same classes)"

    def wordings(self) -> Sequence[FixedTokens]:
        """Give the one wording that all prompts have."""
        return [self.words]

    @property
    def class_tokens(self) -> Tensor:
        """Tokens of the class names alone, (C, 77 - n): what tells for which classes this was made."""
        start = self.words.start
        return torch.cat([self.tokens[:, :start], self.tokens[:, start + self.n_context :]], dim=1)

    def of_own_classes(self, state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
        """Take the local prompts of this learner's classes, by the names that they were learned for.

        So prompts of ImageNet's classes serve the test sets that have some of them, in any order.

        Raises
        ------
        ValueError
            Naming classes that have no prompts there; also for what was learned on another grid of places.
        """
        theirs, ours = int(state.get("n_places", 0)), int(self.n_places)
        if theirs and ours and theirs != ours:
            raise ValueError(
                f"{path} was learned on images of {theirs} places, and the backbone of this run sees {ours}; set "
                "MODEL.BACKBONE.NAME and INPUT.SIZE to those that it was trained with"
            )
        names, prompts = state.get("class_tokens"), state.get("local_prompts")
        if not self.class_specific or names is None or prompts is None or prompts.dim() != 4:
            return state
        width = min(names.shape[1], self.class_tokens.shape[1])
        if names[:, :width].tolist() == self.class_tokens[:, :width].tolist():
            return state  # also where two classes have one name
        rows = {tuple(tokens): row for row, tokens in enumerate(names[:, :width].tolist())}
        wanted = [tuple(tokens) for tokens in self.class_tokens[:, :width].tolist()]
        missing = [name for name, tokens in zip(self.classnames, wanted, strict=True) if tokens not in rows]
        if missing:
            shown = ", ".join(map(repr, missing[:4])) + ", ..." * (len(missing) > 4)
            raise ValueError(
                f"{path} holds local prompts for each of {len(names)} classes, and none for {len(missing)} of the "
                f"{len(wanted)} classes of this run: {shown}; test it on its own classes, or train with CSC False, "
                "whose prompts serve any"
            )
        chosen = [rows[tokens] for tokens in wanted]
        return state | {"local_prompts": prompts[chosen], "class_tokens": names[chosen]}

    def groups(self) -> list[tuple[FixedTokens, Tensor]]:
        """List contexts (N, 1 or C, n, E) with their fixed tokens, global ones first, those together that can share."""
        shared = self.global_prompt[:, None]  # (N_g, 1, n, E)
        if self.local_prompts is None:
            return [(self.words, shared)]
        if self.class_specific:
            return [(self.words, shared), (self.words_apart, self.local_prompts.transpose(0, 1))]
        return [(self.words, torch.cat([shared, self.local_prompts[:, None]]))]

    def contexts(self) -> Tensor:
        """Bring all contexts into one shape, global ones first: (N, 1, n, E), or (N, C, n, E) when class-specific."""
        parts = [contexts for _, contexts in self.groups()]
        classes = max(part.shape[1] for part in parts)
        return torch.cat([part.expand(-1, classes, -1, -1) for part in parts])

    def forward(self, classes: Tensor | None = None) -> list[PromptTokens]:
        """Build all prompts, global ones first, in as few groups as can share their prefixes: one or two.

        Of all classes, or of those that are wanted.
        """
        return [words.place(contexts, classes) for words, contexts in self.groups()]

    def full_prompts(self) -> Tensor:
        """Build the plain form (N*C, 77, E), in which row n*C + c is prompt n of class c, global ones first."""
        return torch.cat([words.full(context) for words, contexts in self.groups() for context in contexts])

    def ends(self) -> Tensor:
        """Find where the end-of-text token of every row stands, (N*C,)."""
        return self.words.end.repeat(self.n_prompts)
