"""CLIP's text tower for prompts that share their beginning: exact, and many times less work.

A prompt is 77 tokens, [start] [context] [class name] [.] [end] and padding.  Text attention is causal, so

1. nothing after the end-of-text token changes the feature, which is read at that token: cut it off;
2. with a context shared by all classes, the states of [start] + context are the same for every class: run these P
   prefix tokens once per prompt and keep each layer's keys and values; the suffix tokens of a class attend to them and
   to their own predecessors;
3. the last layer needs queries and the MLP only at the end-of-text tokens;
4. where the suffix of a class is the same in all N prompts, so is its input to the first layer: project it once.

For 4 prompts of 16 context tokens and 47 classes, 14,476 token positions become about 800.  The same shape serves every
placement of the class name: what comes before the first token that depends on the class is the prefix, the rest is the
suffix.  `encode_full` is the plain path over all 77 positions, as the original computes it; tests compare the two.
Suffixes of equal length are computed together, so nothing is padded.

Axes: N prompts (or images, where the context depends on the image), C classes, P prefix tokens, T suffix tokens of all
classes laid end to end, E token width, D feature width.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from itertools import accumulate, groupby
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .frozen import frozen_blocks
from .model import CLIP
from .packed import Prepared


class PromptTokens(NamedTuple):
    """N x C prompts as token embeddings, before positions are added.

    Attributes
    ----------
    prefix
        (N, P, E), what all classes share.
    suffix
        (N or 1, T, E), class after class, each ending with its end-of-text token.
    lengths
        C suffix lengths, summing to T.
    """

    prefix: Tensor  # (N, P, E) what all classes share
    suffix: Tensor  # (N or 1, T, E) class after class, each ending with its end-of-text token
    lengths: tuple[int, ...]  # C suffix lengths, summing to T


class TextEncoder(nn.Module):
    """The frozen text tower of a CLIP model, under the attribute names that whole-model checkpoints use.

    Text attention must be causal, the feature be read at the end-of-text token, and the layers be such as
    `frozen.can_freeze` allows; towers of open_clip that are otherwise have an encoder of their own (`prompt_encoder`).

    Parameters
    ----------
    clip_model
        Its transformer, positions, final LayerNorm and projection are shared, not copied.
    chunk
        How many classes are encoded at a time, 0 for all.  With a gradient, a chunk keeps nothing but its features and
        is computed again in the backward pass: memory then grows with the chunk instead of the number of classes, for
        about a third more work.
    """

    def __init__(self, clip_model: CLIP, chunk: int = 0) -> None:
        super().__init__()
        self.transformer = clip_model.transformer
        self.positional_embedding = clip_model.positional_embedding
        self.ln_final = clip_model.ln_final
        self.text_projection = clip_model.text_projection
        self.chunk = chunk
        self._blocks = Prepared(clip_model.transformer, frozen_blocks)

    @property
    def dtype(self) -> torch.dtype:
        """What the tower computes in."""
        return self.transformer.resblocks[0].mlp.c_fc.weight.dtype

    def project(self, x: Tensor) -> Tensor:
        """Bring tokens (..., E) behind the last layer into the joint space (..., D)."""
        return projected(self.ln_final(x), self.text_projection)

    def forward(self, prompts: PromptTokens) -> Tensor:
        """Encode prompts as features (N, C, D), not normalised."""
        n_prefix, n_classes = prompts.prefix.shape[1], len(prompts.lengths)
        where = self.positional_embedding.to(self.dtype)
        keys_values = self._prefix(prompts.prefix.to(self.dtype) + where[:n_prefix])

        size = self.chunk or n_classes
        features, first = [], 0
        encode: Callable[..., Tensor]
        for c in range(0, n_classes, size):
            lengths = prompts.lengths[c : c + size]
            tokens = prompts.suffix[:, first : first + sum(lengths)].to(self.dtype)
            first += sum(lengths)
            layout = _layout(lengths, tokens.device)
            suffix = tokens[:, layout.tokens] + where[layout.positions + n_prefix]  # (N or 1, T, E)
            if size < n_classes and torch.is_grad_enabled():
                encode = partial(checkpoint, self._suffix, use_reentrant=False, preserve_rng_state=False)
            else:
                encode = self._suffix
            features.append(encode(layout, suffix, *keys_values))
        return torch.cat(features, dim=1)

    def _prefix(self, x: Tensor) -> list[Tensor]:
        """Compute a prefix's keys and values in every layer: (N, P, E) -> k, v, k, v, ..., each (N, H, P, d)."""
        *blocks, last = self._blocks()
        keys_values = []
        for block in blocks:
            q, k, v = block.project(block.ln_1(x), "qkv")
            keys_values += [k, v]
            x = block.finish(x, F.scaled_dot_product_attention(q, k, v, is_causal=True))
        return [*keys_values, *last.project(last.ln_1(x), "kv")]

    def _suffix(self, layout: _Layout, x: Tensor, *keys_values: Tensor) -> Tensor:
        """Encode the suffixes (N or 1, T, E) of some classes, given the prefix's keys and values, as (N, C, D)."""
        *blocks, last = self._blocks()
        for i, block in enumerate(blocks):
            q, k, v = block.project(block.ln_1(x), "qkv")
            x = block.finish(x, _attend(q, keys_values[2 * i], keys_values[2 * i + 1], k, v, layout.groups))

        normed = last.ln_1(x)
        k, v = last.project(normed, "kv")
        (q,) = last.project(normed[:, layout.ends], "q")  # (N, H, C, d)
        mixed = _attend(q, keys_values[-2], keys_values[-1], k, v, layout.groups)
        x = last.finish(x[:, layout.ends], mixed)  # (N, C, E), the shortest class first
        return self.project(x)[:, layout.back]


def prompt_encoder(clip_model: CLIP) -> nn.Module:
    """Make what encodes a model's prompts, PromptTokens -> features (N, C, D): its own encoder, or the above."""
    own = getattr(clip_model, "prompt_encoder", None)
    return own() if own else TextEncoder(clip_model)


def projected(x: Tensor, projection: Tensor | nn.Linear | None) -> Tensor:
    """Multiply with a projection: a matrix (E, D) as OpenAI's, or what open_clip has in its place."""
    if projection is None:
        return x
    return projection(x) if isinstance(projection, nn.Linear) else x @ projection


def encode_full(text: TextEncoder, prompts: Tensor, end: Tensor) -> Tensor:
    """Encode by the plain path, as the original does; the oracle of the fast one.

    Parameters
    ----------
    text
        The tower.
    prompts
        (R, 77, E) token embeddings.
    end
        (R,) positions of the end-of-text tokens.

    Returns
    -------
    Tensor
        (R, D), not normalised.
    """
    x = prompts.to(text.dtype) + text.positional_embedding.to(text.dtype)
    x = text.transformer(x.permute(1, 0, 2)).permute(1, 0, 2)  # the tower wants the sequence first
    x = text.ln_final(x)[torch.arange(len(x), device=x.device), end]
    return projected(x, text.text_projection)


# --- where every suffix token lies -----------------------------------------------------------------------


class _Group(NamedTuple):
    """Classes whose suffixes are equally long, as one contiguous slice of the (reordered) suffix tokens."""

    classes: slice  # in the order of the layout
    tokens: slice
    length: int


class _Layout(NamedTuple):
    """The suffix tokens in the order that they are computed in: classes by length, the shortest first."""

    groups: tuple[_Group, ...]
    tokens: Tensor  # (T,) where each token stands in the order of the classes
    positions: Tensor  # (T,) its place within its suffix
    ends: Tensor  # (C,) the last token of each class
    back: Tensor  # (C,) from this order of the classes to theirs


@lru_cache(maxsize=256)  # a run has one class list, or a few, in chunks
def _layout(lengths: tuple[int, ...], device: torch.device) -> _Layout:
    """Sort classes by the length of their suffix, so that equal ones are computed together without padding."""
    order = sorted(range(len(lengths)), key=lambda c: lengths[c])
    starts = [0, *accumulate(lengths)]
    groups: list[_Group] = []
    c = token = 0
    for length, members in groupby(order, key=lambda c: lengths[c]):
        classes = len(list(members))
        groups.append(_Group(slice(c, c + classes), slice(token, token + classes * length), length))
        c, token = c + classes, token + classes * length
    tokens = [starts[c] + i for c in order for i in range(lengths[c])]
    positions = [i for c in order for i in range(lengths[c])]
    ends = [end - 1 for end in accumulate(lengths[c] for c in order)]
    with torch.inference_mode(False):  # kept for later calls, which may want gradients
        t, p, e, o = (torch.tensor(table, device=device) for table in (tokens, positions, ends, order))
        return _Layout(tuple(groups), tokens=t, positions=p, ends=e, back=o.argsort())


# --- attention in two parts ------------------------------------------------------------------------------


def _attend(
    q: Tensor, k: Tensor, v: Tensor, own_k: Tensor, own_v: Tensor, groups: Sequence[_Group]
) -> Tensor:
    """Let suffix queries attend to [prefix | own suffix so far]: one softmax over both, nothing of the prefix copied.

    Parameters
    ----------
    q
        (N, H, T, d), or (N, H, C, d) for the end-of-text tokens alone, which see all of their suffix.
    k, v
        (N, H, P, d), of the prefix.
    own_k, own_v
        (N, H, T, d), of the suffixes.  What does not depend on the prompt may have 1 in place of N.
    groups
        Where the classes of each length lie.

    Returns
    -------
    Tensor
        The shape of q.
    """
    only_ends = q.shape[2] != own_k.shape[2] or all(group.length == 1 for group in groups)
    q = q * q.shape[-1] ** -0.5
    mixed = []
    for group in groups:
        part = q[:, :, group.classes if only_ends else group.tokens]  # (N, H, classes * L, d)
        by_class = part.unflatten(2, (-1, 1 if only_ends else group.length))  # (N, H, classes, L, d)
        keys, values = (x[:, :, group.tokens].unflatten(2, (-1, group.length)) for x in (own_k, own_v))

        to_prefix = part @ k.transpose(-1, -2)  # (N, H, classes * L, P)
        to_own = by_class @ keys.transpose(-1, -2)  # (N, H, classes, L, length)
        if not only_ends and group.length > 1:
            to_own = to_own.masked_fill(_future(group.length, q.device), float("-inf"))
        to_own = to_own.flatten(2, 3).expand(len(to_prefix), -1, -1, -1)
        weights = torch.cat([to_prefix, to_own], dim=-1).softmax(dim=-1)
        from_prefix, from_own = weights.split([k.shape[2], group.length], dim=-1)
        from_own = from_own.unflatten(2, (-1, by_class.shape[3]))
        mixed.append(from_prefix @ v + (from_own @ values).flatten(2, 3))
    return torch.cat(mixed, dim=2)


@lru_cache(maxsize=256)
def _future(length: int, device: torch.device) -> Tensor:
    """(length, length) bool: True where a token (row) must not look yet (column)."""
    with torch.inference_mode(False):
        return torch.ones(length, length, dtype=torch.bool, device=device).triu(1)
