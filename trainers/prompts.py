"""The learned context of CoOp and PLOT: token vectors that stand where a prompt's words would.

A prompt for class "yin yang" with 4 context tokens reads [start] v1 v2 v3 v4 yin yang . [end]: only the v are learned.
Which token stands where is one table, `sources`, from which both forms of the prompts are built: the shared-prefix form
that is fast to encode, and the plain 77-token form of the original.
"""
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

import clip
from clip.model import CLIP
from clip.prompt_text import PromptTokens

from .options import POSITIONS

RANDOM_STD = 0.02  # as CoOp
COPY_NOISE_STD = 0.01  # between prompts that start from the same phrase: equal prompts get equal gradients for ever


class PromptLearner(nn.Module):
    """N contexts of n tokens, for C classes.

    classnames: C names, `_` read as space.  n_prompts None gives CoOp's layout of the parameter `ctx`: (n, E), or
    (C, n, E) when class_specific; a number N gives PLOT's: (N, n, E), or (C, N, n, E).
    init: empty for random vectors (std 0.02, drawn from `generator`); else one phrase, or N phrases separated by `|`
    with equally many tokens each, whose embeddings start the context and decide n.
    position: `end` [start] ctx name . ; `middle` [start] half of ctx, name, rest of ctx . ; `front` [start] name ctx .

    Its state dict has the original's entries: `ctx`, and the frozen `token_prefix` (N*C, 1, E) and `token_suffix`
    (N*C, 76 - n, E), which are written for other readers and ignored on loading.
    """

    vocabulary: Tensor  # (U, E) embeddings of the distinct tokens of all prompts
    ids: Tensor  # (C, 77) the tokenised prompts, as rows of `vocabulary`
    suffix_ids: Tensor  # (T,) the suffixes of all classes end to end, likewise
    slots: Tensor  # positions among the T that the context fills, and
    slot_sources: Tensor  # with which of its tokens

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
        names = [name.replace("_", " ") for name in classnames]
        self.has_prompt_axis = n_prompts is not None
        self.class_specific = class_specific
        self.n_prompts = n_prompts or 1

        start, words = self._initial_context(clip_model, n_context, init, generator)  # (N, n, E)
        self.n_context = start.shape[1]
        self.initial_words = words
        if class_specific:
            start = self._per_class(start, len(names), random=not init, generator=generator)
        self.ctx = nn.Parameter((start if self.has_prompt_axis else start.squeeze(-3)).to(dtype))

        tokens = _tokenize([f"{words} {name}." for name in names], self.n_context)  # (C, 77)
        name_lengths = [len(ids) for ids in _bpe(names)]
        self.name_lens = name_lengths
        self.end = tokens.argmax(dim=1)  # (C,) position of end-of-text, the largest id
        self.tokenized_prompts = tokens.repeat(self.n_prompts, 1)  # (N*C, 77), prompt-major like every row here
        distinct, ids = tokens.unique(return_inverse=True)
        self.register_buffer("vocabulary", _embed(clip_model, distinct), persistent=False)
        self.register_buffer("ids", ids, persistent=False)
        self._place(name_lengths, position)

    @property
    def n_classes(self) -> int:
        return len(self.ids)

    @property
    def layout(self) -> str:
        """The axes of `ctx` in words, for messages."""
        axes = ["classes"] * self.class_specific + ["prompts"] * self.has_prompt_axis
        return " x ".join([*axes, "context tokens", "token width"])

    def contexts(self) -> Tensor:
        """The context in one shape: (N, 1, n, E), or (N, C, n, E) when class-specific."""
        ctx = self.ctx if self.has_prompt_axis else self.ctx.unsqueeze(-3)
        return ctx.transpose(0, 1) if self.class_specific else ctx.unsqueeze(1)

    def forward(self) -> PromptTokens:
        """All N x C prompts, with what the classes share apart."""
        return self.place(self.contexts())

    def place(self, contexts: Tensor) -> PromptTokens:
        """Prompts with the given contexts, (N, 1, n, E) or (N, C, n, E), for any N."""
        learned = contexts.flatten(1, 2)  # (N, n, E) or (N, C*n, E)
        start = self.vocabulary[self.ids[0, 0]].to(learned).expand(len(learned), 1, -1)
        prefix = torch.cat([start, learned[:, : self.shared]], dim=1)  # (N, P, E)
        suffix = self.vocabulary[self.suffix_ids].to(learned)[None]  # (1, T, E)
        if len(self.slots):
            suffix = suffix.expand(len(learned), -1, -1).index_copy(1, self.slots, learned[:, self.slot_sources])
        return PromptTokens(prefix, suffix, self.lengths)

    def full_prompts(self) -> Tensor:
        """The plain form (N*C, 77, E): row n*C + c is prompt n of class c."""
        learned = self.contexts()
        learned = learned.expand(-1, self.n_classes, -1, -1)  # (N, C, n, E)
        sources = self.sources.to(learned.device)
        frozen = self.vocabulary[self.ids.gather(1, sources.clamp(min=0))].to(learned)  # (C, 77, E)
        index = (-1 - sources).clamp(min=0)[None, :, :, None].expand(self.n_prompts, -1, -1, learned.shape[-1])
        prompts = torch.where((sources < 0)[None, :, :, None], learned.gather(2, index), frozen[None])
        return prompts.flatten(0, 1)

    # --- where the context comes from --------------------------------------------------------------------

    def _initial_context(
        self, clip_model: CLIP, n_context: int, init: str, generator: torch.Generator | None
    ) -> tuple[Tensor, str]:
        """(N, n, E) start values, and the words that stand in for them in the tokenised prompts."""
        width = clip_model.ln_final.weight.shape[0]
        if not init:
            random = torch.empty(self.n_prompts, n_context, width)
            return random.normal_(std=RANDOM_STD, generator=generator), " ".join(["X"] * n_context)
        phrases = [phrase.replace("_", " ").strip() for phrase in init.split("|")]
        ids = _bpe(phrases)
        if len(phrases) not in (1, self.n_prompts):
            raise ValueError(f"CTX_INIT has {len(phrases)} phrases; give one, or {self.n_prompts}: one for each prompt")
        if len({len(phrase) for phrase in ids}) > 1 or not ids[0]:
            lengths = ", ".join(f"{phrase!r}: {len(i)}" for phrase, i in zip(phrases, ids, strict=True))
            raise ValueError(f"the phrases of CTX_INIT must have equally many tokens, at least one ({lengths})")
        start = torch.stack([_embed(clip_model, torch.tensor(phrase)) for phrase in ids])
        if len(phrases) < self.n_prompts:
            noise = torch.empty(self.n_prompts, *start.shape[1:]).normal_(std=COPY_NOISE_STD, generator=generator)
            start = start + noise.to(start)
        return start, phrases[0]

    def _per_class(self, start: Tensor, n_classes: int, random: bool, generator: torch.Generator | None) -> Tensor:
        """(C, N, n, E): fresh random vectors for every class, or a copy of the phrase's."""
        if random:
            return torch.empty(n_classes, *start.shape).normal_(std=RANDOM_STD, generator=generator)
        return start.expand(n_classes, -1, -1, -1).clone()

    # --- which token stands where ------------------------------------------------------------------------

    def _place(self, name_lengths: Sequence[int], position: str) -> None:
        """Build `sources` (C, 77): a position in the tokenised prompt, or -1 - j for context token j; and from it the
        packed suffixes: what follows the shared prefix, up to and including the end-of-text token."""
        n, length = self.n_context, self.ids.shape[1]
        before = {"end": n, "middle": n // 2, "front": 0}[position]  # context tokens ahead of the name
        context = [-1 - j for j in range(n)]
        rows = []
        for name_length in name_lengths:
            name = list(range(1 + n, 1 + n + name_length))
            rest = list(range(1 + n + name_length, length))
            rows.append([0, *context[:before], *name, *context[before:], *rest])
        self.sources = torch.tensor(rows)

        self.shared = 0 if self.class_specific else before
        ids: list[int] = []
        slots: list[int] = []
        slot_sources: list[int] = []
        lengths: list[int] = []
        for c, (row, end) in enumerate(zip(rows, self.end.tolist(), strict=True)):
            suffix = row[1 + self.shared : end + 1]
            for source in suffix:
                if source < 0:
                    slots.append(len(ids))
                    slot_sources.append(-1 - source + (c * n if self.class_specific else 0))
                ids.append(int(self.ids[c, max(source, 0)]))
            lengths.append(len(suffix))
        self.lengths = tuple(lengths)
        self.register_buffer("suffix_ids", torch.tensor(ids), persistent=False)
        self.register_buffer("slots", torch.tensor(slots, dtype=torch.int64), persistent=False)
        self.register_buffer("slot_sources", torch.tensor(slot_sources, dtype=torch.int64), persistent=False)

    # --- the original's checkpoint layout ----------------------------------------------------------------

    @property
    def token_prefix(self) -> Tensor:
        """Embedding of the start token, (N*C, 1, E)."""
        return self._frozen(0, 1)

    @property
    def token_suffix(self) -> Tensor:
        """Embeddings behind the context in the tokenised prompts, (N*C, 76 - n, E)."""
        return self._frozen(1 + self.n_context, self.ids.shape[1])

    def _frozen(self, first: int, last: int) -> Tensor:
        return self.vocabulary[self.ids[:, first:last]].to(self.ctx.dtype).repeat(self.n_prompts, 1, 1)

    def _save_to_state_dict(self, destination, prefix, keep_vars):  # type: ignore[no-untyped-def]
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[prefix + "token_prefix"] = self.token_prefix
        destination[prefix + "token_suffix"] = self.token_suffix

    def _load_from_state_dict(self, state_dict, prefix, *args):  # type: ignore[no-untyped-def]
        for name in ("token_prefix", "token_suffix"):
            state_dict.pop(prefix + name, None)
        super()._load_from_state_dict(state_dict, prefix, *args)


def _bpe(texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text on its own, without start and end."""
    tokens = clip.tokenize(list(texts))
    ends = tokens.argmax(dim=1).tolist()
    return [row[1:end].tolist() for row, end in zip(tokens, ends, strict=True)]


def _tokenize(prompts: Sequence[str], n_context: int) -> Tensor:
    try:
        return clip.tokenize(list(prompts)).long()
    except RuntimeError as error:
        remedy = f"the context takes {n_context} of them: lower N_CTX or shorten the name"
        raise ValueError(f"{error}; {remedy}") from None


@torch.no_grad()
def _embed(clip_model: CLIP, ids: Tensor) -> Tensor:
    device = clip_model.token_embedding.weight.device
    return clip_model.token_embedding(ids.to(device)).float().cpu()
