"""CLIP's text tower for prompts that share their beginning: exact, and many times less work.

A prompt is 77 tokens, [start] [context] [class name] [.] [end] and padding.  Text attention is causal, so

1. nothing after the end-of-text token changes the feature, which is read at that token: cut it off;
2. with a context shared by all classes, the states of [start] + context are the same for every class: run these P
   prefix tokens once per prompt and keep each layer's keys and values; the suffix tokens of a class attend to them and
   to their own predecessors;
3. the last layer needs queries and the MLP only at the end-of-text tokens.

For 4 prompts of 16 context tokens and 47 classes, 14,476 token positions become about 800.  The same shape serves every
placement of the class name: what comes before the first token that depends on the class is the prefix, the rest is the
suffix.  `encode_full` is the plain path over all 77 positions, as the original computes it; tests compare the two.

Axes: N prompts (or images, where the context depends on the image), C classes, P prefix tokens, T suffix tokens of all
classes laid end to end, E token width, D feature width.
"""
from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate, groupby
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .model import CLIP, ResidualAttentionBlock


class PromptTokens(NamedTuple):
    """N x C prompts as token embeddings, before positions are added."""

    prefix: Tensor  # (N, P, E) what all classes share
    suffix: Tensor  # (N or 1, T, E) class after class, each ending with its end-of-text token
    lengths: tuple[int, ...]  # C suffix lengths, summing to T


class _Group(NamedTuple):
    """Classes whose suffixes are equally long, as one contiguous slice of the (reordered) suffix tokens."""

    tokens: slice
    classes: int
    length: int


class TextEncoder(nn.Module):
    """The frozen text tower of a CLIP model, under the attribute names that whole-model checkpoints use."""

    def __init__(self, clip_model: CLIP) -> None:
        super().__init__()
        self.transformer = clip_model.transformer
        self.positional_embedding = clip_model.positional_embedding
        self.ln_final = clip_model.ln_final
        self.text_projection = clip_model.text_projection

    @property
    def dtype(self) -> torch.dtype:
        return self.text_projection.dtype

    def forward(self, prompts: PromptTokens) -> Tensor:
        """Features (N, C, D), not normalised."""
        layout = _layout(prompts.lengths, prompts.prefix.device)
        n_prefix = prompts.prefix.shape[1]

        where = self.positional_embedding.to(self.dtype)
        prefix = prompts.prefix.to(self.dtype) + where[:n_prefix]  # (N, P, E)
        suffix = prompts.suffix.to(self.dtype)[:, layout.tokens] + where[layout.positions + n_prefix]
        suffix = suffix.expand(len(prefix), -1, -1)  # (N, T, E)

        *blocks, last = self.transformer.resblocks
        for block in blocks:
            prefix, suffix = _layer(block, prefix, suffix, layout.groups)
        features = _last_layer(last, prefix, suffix, layout.groups, layout.ends)  # (N, C, E), shortest class first
        features = self.ln_final(features) @ self.text_projection
        return features[:, layout.back]


def encode_full(text: TextEncoder, prompts: Tensor, end: Tensor) -> Tensor:
    """The plain path, and the oracle: prompts (R, 77, E) token embeddings, end (R,) positions -> features (R, D)."""
    x = prompts.to(text.dtype) + text.positional_embedding.to(text.dtype)
    x = text.transformer(x.permute(1, 0, 2)).permute(1, 0, 2)  # the tower wants the sequence first
    x = text.ln_final(x)[torch.arange(len(x), device=x.device), end]
    return x @ text.text_projection


# --- where every suffix token lies -----------------------------------------------------------------------


class _Layout(NamedTuple):
    """The suffix tokens in the order that they are computed in: classes by length, the shortest first."""

    groups: tuple[_Group, ...]
    tokens: Tensor  # (T,) where each token stands in the order of the classes
    positions: Tensor  # (T,) its place within its suffix
    ends: Tensor  # (C,) the last token of each class
    back: Tensor  # (C,) from this order of the classes to theirs


@lru_cache(maxsize=32)  # a run has one class list, or a few
def _layout(lengths: tuple[int, ...], device: torch.device) -> _Layout:
    order = sorted(range(len(lengths)), key=lambda c: lengths[c])
    starts = [0, *accumulate(lengths)]
    groups: list[_Group] = []
    first = 0
    for length, members in groupby(order, key=lambda c: lengths[c]):
        classes = len(list(members))
        groups.append(_Group(slice(first, first + classes * length), classes, length))
        first += classes * length
    tokens = [starts[c] + i for c in order for i in range(lengths[c])]
    positions = [i for c in order for i in range(lengths[c])]
    ends = [end - 1 for end in accumulate(lengths[c] for c in order)]
    with torch.inference_mode(False):  # kept for later calls, which may want gradients
        t, p, e, o = (torch.tensor(table, device=device) for table in (tokens, positions, ends, order))
        return _Layout(tuple(groups), tokens=t, positions=p, ends=e, back=o.argsort())


# --- a transformer layer in two parts --------------------------------------------------------------------

_QKV, _Q, _KV = slice(0, 3), slice(0, 1), slice(1, 3)  # of the fused input projection


def _layer(
    block: ResidualAttentionBlock, prefix: Tensor, suffix: Tensor, groups: Sequence[_Group]
) -> tuple[Tensor, Tensor]:
    """One residual block over prefix (N, P, E) and suffix (N, T, E)."""
    attention = block.attn
    q, k, v = _project(attention, block.ln_1(prefix))
    suffix_q, suffix_k, suffix_v = _project(attention, block.ln_1(suffix))

    own = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    prefix = prefix + _join(attention, own)
    mixed = [
        _attend(suffix_q[:, :, g.tokens], k, v, suffix_k[:, :, g.tokens], suffix_v[:, :, g.tokens], g)
        for g in groups
    ]
    suffix = suffix + _join(attention, torch.cat(mixed, dim=2))
    return prefix + block.mlp(block.ln_2(prefix)), suffix + block.mlp(block.ln_2(suffix))


def _last_layer(
    block: ResidualAttentionBlock, prefix: Tensor, suffix: Tensor, groups: Sequence[_Group], at_end: Tensor
) -> Tensor:
    """The last block, whose output is wanted at the end-of-text tokens only: (N, C, E)."""
    attention = block.attn
    k, v = _project(attention, block.ln_1(prefix), _KV)
    normed = block.ln_1(suffix)
    suffix_k, suffix_v = _project(attention, normed, _KV)
    (q,) = _project(attention, normed[:, at_end], _Q)  # (N, H, C, d)

    mixed, first = [], 0
    for g in groups:
        queries = q[:, :, first : first + g.classes]
        mixed.append(_attend(queries, k, v, suffix_k[:, :, g.tokens], suffix_v[:, :, g.tokens], g))
        first += g.classes
    x = suffix[:, at_end] + _join(attention, torch.cat(mixed, dim=2))
    return x + block.mlp(block.ln_2(x))


def _attend(q: Tensor, k: Tensor, v: Tensor, own_k: Tensor, own_v: Tensor, group: _Group) -> Tensor:
    """Suffix queries over [prefix | own suffix so far], one softmax over both, nothing of the prefix copied.

    q (N, H, classes * L, d) with L = the suffix length, or L = 1 for the end-of-text tokens alone, which see all of
    their suffix; k, v (N, H, P, d); own_k, own_v (N, H, classes * length, d).  Returns the shape of q.
    """
    n, heads, total, width = q.shape
    queries = total // group.classes
    q = q * width**-0.5
    by_class = (n, heads, group.classes, group.length, width)
    own_k, own_v = own_k.reshape(by_class), own_v.reshape(by_class)

    to_prefix = q @ k.transpose(-1, -2)  # (N, H, classes * L, P)
    to_own = q.reshape(n, heads, group.classes, queries, width) @ own_k.transpose(-1, -2)
    if queries > 1:
        future = torch.ones(queries, group.length, dtype=torch.bool, device=q.device).triu(1)
        to_own = to_own.masked_fill(future, float("-inf"))
    scores = torch.cat([to_prefix, to_own.reshape(n, heads, total, group.length)], dim=-1)
    weights = scores.softmax(dim=-1)
    from_prefix, from_own = weights.split([k.shape[2], group.length], dim=-1)
    mixed_own = from_own.reshape(n, heads, group.classes, queries, group.length) @ own_v
    return from_prefix @ v + mixed_own.reshape(q.shape)


def _project(attention: nn.MultiheadAttention, x: Tensor, parts: slice = _QKV) -> tuple[Tensor, ...]:
    """Queries, keys, values (N, H, tokens, d) of x (N, tokens, E), or those of them that `parts` selects."""
    width = x.shape[-1]
    rows = slice(parts.start * width, parts.stop * width)
    projected = F.linear(x, attention.in_proj_weight[rows], attention.in_proj_bias[rows])
    return tuple(_heads(part, attention.num_heads) for part in projected.split(width, dim=-1))


def _heads(x: Tensor, heads: int) -> Tensor:
    """(N, tokens, E) -> (N, H, tokens, E / H)"""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _join(attention: nn.MultiheadAttention, x: Tensor) -> Tensor:
    """(N, H, tokens, d) -> (N, tokens, E), through the output projection."""
    return attention.out_proj(x.transpose(1, 2).flatten(2))
