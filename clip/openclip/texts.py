"""Text towers that are not causal, or do not read the feature at the end of the text: every prompt in full length.

SigLIP and MobileCLIP-S let every token see every other, the padding among them; SigLIP reads the last position of the
row; CoCa appends a class token that sees all words.  Nothing of a prompt can be shared with another one then, and the
rows (N * C, L) are encoded whole: each costs L tokens, where the shared-prefix path (clip/prompt_text.py) costs a few.
The blocks are those of clip/frozen.py where these compute what open_clip's do, and else open_clip's.

Axis letters: N prompts, C classes, R rows, L positions of a row, P prefix tokens, E token width, D feature width.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..frozen import can_freeze, frozen_blocks
from ..packed import Prepared
from ..prompt_text import PromptTokens, projected


def shares_prefix(tower: Any) -> bool:
    """Whether the shared-prefix path computes what a TextTransformer of open_clip does."""
    causal = tower.attn_mask is not None and tower.cls_emb is None
    at_end = getattr(tower, "pool_type", "argmax") in ("argmax", "eos")
    return causal and at_end and all(map(can_freeze, tower.transformer.resblocks))


def why_full(tower: Any) -> str:
    """Say why a tower's prompts are encoded in full length."""
    if tower.cls_emb is not None:
        return "the feature is read from a class token behind the padding"
    if tower.attn_mask is None:
        return "the tokens of this text tower also see those behind them"
    if getattr(tower, "pool_type", "argmax") not in ("argmax", "eos"):
        return f"the feature is read at the {tower.pool_type} position of a row"
    return "the layers of this text tower have normalisations of their own"


class FullTextEncoder(nn.Module):
    """Encodes prompts row by row, as the tower encodes texts; the interface of `TextEncoder`.

    Parameters
    ----------
    tower
        open_clip's TextTransformer, frozen; its modules are shared, not copied.
    pad
        Id that fills a row.
    chunk
        As of `TextEncoder`: how many classes are encoded at a time, 0 for all.

    Attributes
    ----------
    note
        Why nothing is shared, for the log.
    """

    pad_embedding: Tensor  # (E,)

    def __init__(self, tower: Any, pad: int, chunk: int = 0) -> None:
        super().__init__()
        self.transformer, self.ln_final = tower.transformer, tower.ln_final
        self.positional_embedding, self.text_projection = tower.positional_embedding, tower.text_projection
        self.class_token = tower.cls_emb
        self.causal = tower.attn_mask is not None
        self.pool = getattr(tower, "pool_type", "argmax")
        self.context_length = tower.context_length
        self.register_buffer("pad_embedding", tower.token_embedding.weight[pad].detach().clone(), persistent=False)
        self.chunk = chunk
        self.note = f"Every prompt is encoded in full length, {self.context_length} tokens: {why_full(tower)}"
        known = all(map(can_freeze, tower.transformer.resblocks))
        self._blocks = Prepared(tower.transformer, frozen_blocks) if known else None

    @property
    def dtype(self) -> torch.dtype:
        """What the tower computes in."""
        return self.transformer.resblocks[0].mlp.c_fc.weight.dtype

    def forward(self, prompts: PromptTokens) -> Tensor:
        """Encode prompts as features (N, C, D), not normalised."""
        size = self.chunk or len(prompts.lengths)
        features, first = [], 0
        for c in range(0, len(prompts.lengths), size):
            lengths = prompts.lengths[c : c + size]
            suffix = prompts.suffix[:, first : first + sum(lengths)]
            first += sum(lengths)
            encode: Callable[..., Tensor] = self._encode_prompts
            if size < len(prompts.lengths) and torch.is_grad_enabled():
                encode = partial(checkpoint, encode, use_reentrant=False, preserve_rng_state=False)
            features.append(encode(lengths, prompts.prefix, suffix))
        return torch.cat(features, dim=1)

    def _encode_prompts(self, lengths: Sequence[int], prefix: Tensor, suffix: Tensor) -> Tensor:
        """Encode the prompts of some classes, (N, P, E) and (N or 1, T, E) -> (N, C, D)."""
        n, p, _ = prefix.shape
        rows = _rows(tuple(lengths), self.context_length - p, suffix.device)
        behind = torch.cat([suffix, self.pad_embedding.to(suffix).expand(len(suffix), 1, -1)], dim=1)
        behind = behind[:, rows.tokens].expand(n, -1, -1, -1)  # (N, C, L - P, E)
        whole = torch.cat([prefix[:, None].expand(-1, len(lengths), -1, -1), behind], dim=2)  # (N, C, L, E)
        ends = rows.lengths.repeat(n) + (p - 1)  # (N*C,)
        positions = torch.arange(self.context_length, device=suffix.device)
        features = self.encode(whole.flatten(0, 1), positions <= ends[:, None], ends)
        return features.unflatten(0, (n, len(lengths)))

    def encode(self, x: Tensor, words: Tensor, ends: Tensor) -> Tensor:
        """Encode rows of token embeddings.

        Parameters
        ----------
        x
            (R, L, E), before positions are added.
        words
            (R, L) bool, False for padding; only a class token asks.
        ends
            (R,), where the text of each row ends.

        Returns
        -------
        Tensor
            (R, D), not normalised.
        """
        x = x.to(self.dtype)
        if self.class_token is not None:
            x = torch.cat([x, self.class_token.to(x).expand(len(x), 1, -1)], dim=1)
            ends = torch.full_like(ends, x.shape[1] - 1)
        elif self.pool == "last":
            ends = torch.full_like(ends, x.shape[1] - 1)
        elif self.pool == "first":
            ends = torch.zeros_like(ends)
        x = x + self.positional_embedding[: x.shape[1]].to(x.dtype)
        mask = self._mask(x, words)
        rows = torch.arange(len(x), device=x.device)
        if self._blocks is None:
            x = self._by_transformer(x, mask)[rows, ends]
        else:
            *blocks, last = self._blocks()
            for block in blocks:
                x = block.layer(x, mask)
            normed = last.ln_1(x)
            k, v = last.project(normed, "kv")
            (q,) = last.project(normed[rows, ends][:, None], "q")  # only what is read is computed in the last layer
            seen = mask if mask is None else mask.expand(len(x), -1, -1, -1)[rows, :, ends][:, :, None]
            x = last.finish(x[rows, ends][:, None], F.scaled_dot_product_attention(q, k, v, attn_mask=seen))[:, 0]
        return projected(self.ln_final(x), self.text_projection)

    def _mask(self, x: Tensor, words: Tensor) -> Tensor | None:
        """Say which position (row) sees which (column): (R or 1, 1, L, L) bool, or None where all see all.

        As CoCa's published weights were trained, with the mask of the padding one position too late: the first position
        is always seen, and with it the first of the padding.
        """
        length = x.shape[1]
        mask = torch.ones(1, 1, length, length, dtype=torch.bool, device=x.device).tril() if self.causal else None
        if self.class_token is not None:
            seen = torch.cat([torch.ones_like(words[:, :1]), words], dim=1)[:, None, None]  # (R, 1, 1, L + 1)
            mask = seen.expand(-1, -1, length, -1) if mask is None else mask & seen
        return mask

    def _by_transformer(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Pass rows through open_clip's own layers, for blocks that `FrozenBlock` does not know."""
        added = None
        if mask is not None:
            heads = self.transformer.resblocks[0].attn.num_heads
            added = torch.zeros(mask.shape, dtype=x.dtype, device=x.device).masked_fill(~mask, float("-inf"))
            one = self.class_token is None
            added = added[0, 0] if one else added.squeeze(1).repeat_interleave(heads, 0)
        if hasattr(self.transformer, "batch_first"):
            return self.transformer(x, attn_mask=added)
        return self.transformer(x.transpose(0, 1), attn_mask=added).transpose(0, 1)  # open_clip before 2.27


class _Rows(NamedTuple):
    """Where the tokens behind the prefix come from, for some classes."""

    tokens: Tensor  # (C, L - P) positions among the T suffix tokens; T for padding
    lengths: Tensor  # (C,) of the suffixes


@lru_cache(maxsize=256)  # a run has one class list, or a few, in chunks
def _rows(lengths: tuple[int, ...], room: int, device: torch.device) -> _Rows:
    """Lay out suffixes one row a class, filled up with padding."""
    padding, rows, first = sum(lengths), [], 0
    for length in lengths:
        rows.append([*range(first, first + length), *[padding] * (room - length)])
        first += length
    with torch.inference_mode(False):  # kept for later calls, which may want gradients
        return _Rows(torch.tensor(rows, device=device), torch.tensor(lengths, device=device))
