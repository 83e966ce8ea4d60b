"""The text tower: how its layers start, and what lets contexts steer.

A learned context is to change what the tower says of every class, and of each class differently: a text feature t_c is
to become t_c + sum over context tokens j of a(q_c, k_j) v_j, where q_c depends on the class.  That is what one layer of
attention computes at the end-of-text token, which holds the class: a memory of keys and values that the context writes.
A tower that learns names under many templates does not keep this up by itself, since it learns to ignore what stands
before the name.  So it is built in:

- of the E dimensions of a token, the last S are 0 in every word, and no layer writes to them but the last.  A
  context has them: CoOp's random one a little, a learned one as much as training gives it;
- the attention of the last layer is not taught.  Its queries read the dimensions of words (at the end-of-text token:
  the class); its keys and values read the other S; all three are random orthogonal maps.  Words have keys and values 0
  there, so that a prompt of words is not steered.

A context starts small (standard deviation 0.02) beside the layers' activations, which are about 1: GAIN makes up for
it.  With it, what a context changes grows with the context, from little to as much as the class itself.

The first layer starts as the mean of the words: its values hand on the tokens, and the rows of the tokens come from a
ridge regression of the names' places on their tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STEERING = 64  # S, dimensions that words leave to contexts
GAIN = 20.0  # of keys and values in the last layer
SHARPNESS = 2.0  # of its queries
ROW_STD = 0.02  # of token rows, as CLIP's


class TextCourse(nn.Module):
    """The text tower in training: only the rows of the tokens that occur, and only their dimensions of words.

    Parameters
    ----------
    tower
        open_clip's TextTransformer.
    ids
        The tokens that have a row; all others share row 0, which stays 0: such a word says nothing.
    generator
        Of every random start.
    """

    def __init__(self, tower: Any, ids: Sequence[int], generator: torch.Generator) -> None:
        super().__init__()
        self.tower, self.ids = tower, list(ids)
        self.width = tower.token_embedding.weight.shape[1]
        self.words = self.width - STEERING
        self.row_of = torch.zeros(tower.vocab_size, dtype=torch.long)
        self.row_of[torch.tensor(self.ids)] = torch.arange(1, len(self.ids) + 1)
        tower.token_embedding = nn.Embedding(1, self.width)  # rows are kept here, small
        del tower.positional_embedding

        def normal(*shape: int, std: float = 1.0) -> Tensor:
            return torch.randn(*shape, generator=generator) * std

        self.rows = nn.Parameter(normal(len(self.ids) + 1, self.words, std=ROW_STD))
        self.positions = nn.Parameter(normal(tower.context_length, self.words, std=ROW_STD / 4))
        tower.text_projection = nn.Parameter(normal(self.width, tower.text_projection.shape[1], std=self.width**-0.5))
        depth = (2 * len(self.blocks)) ** -0.5  # of what is added to the residual stream
        for block in self.blocks:
            for linear, scale in ((block.attn.out_proj, depth), (block.mlp.c_fc, 1.0), (block.mlp.c_proj, depth)):
                linear.weight.data = normal(*linear.weight.shape, std=scale * linear.in_features**-0.5)
                linear.bias.data.zero_()
            block.attn.in_proj_weight.data = normal(3 * self.width, self.width, std=self.width**-0.5)
            block.attn.in_proj_bias.data.zero_()
        self._let_contexts_steer(generator)
        self.constrain()

    @property
    def blocks(self) -> Any:
        """The layers."""
        return self.tower.transformer.resblocks

    @torch.no_grad()
    def _let_contexts_steer(self, generator: torch.Generator) -> None:
        """Set the attention of the last layer, and take it out of the training."""
        last = self.blocks[-1]
        width = self.width // last.attn.num_heads

        def orthogonal(rows: int, columns: int) -> Tensor:
            return nn.init.orthogonal_(torch.empty(rows, columns), generator=generator)

        centred = torch.eye(STEERING) - 1 / STEERING  # LayerNorm shifts all dimensions of words alike: not seen
        maps = torch.zeros(3, self.width, self.width)
        for first in range(0, self.width, width):
            head = slice(first, first + width)
            maps[0, head, : self.words] = SHARPNESS * orthogonal(width, self.words)
            for part in maps[1:]:
                part[head, self.words :] = GAIN * orthogonal(width, STEERING) @ centred
        last.attn.in_proj_weight.copy_(maps.flatten(0, 1))
        last.attn.out_proj.weight.copy_(orthogonal(self.width, self.width))
        attention, norm = last.attn, last.ln_1
        for fixed in (attention.in_proj_weight, attention.in_proj_bias, attention.out_proj.weight, *norm.parameters()):
            fixed.requires_grad_(False)

    @torch.no_grad()
    def constrain(self) -> None:
        """Keep the dimensions of contexts free of what the layers before the last write, and unknown tokens silent."""
        for block in self.blocks[:-1]:
            for linear in (block.attn.out_proj, block.mlp.c_proj):
                linear.weight[self.words :] = 0
                linear.bias[self.words :] = 0
        self.rows[0] = 0

    @torch.no_grad()
    def start_from(self, texts: Sequence[Tensor], places: Tensor, weights: Tensor) -> None:
        """Start as the mean of words: rows by ridge regression, and a first layer that hands them on.

        Parameters
        ----------
        texts
            K rows of token ids.
        places
            (K, D), of unit length.
        weights
            (K,) how much each counts.
        """
        # minimise sum_k w_k |mean of rows of text k - place k|^2 + ridge |rows|^2, by conjugate gradients
        lengths = torch.tensor([len(text) for text in texts])
        tokens, owners = self.row_of[torch.cat(list(texts))], torch.arange(len(texts)).repeat_interleave(lengths)
        share = (weights / lengths).sqrt()[owners, None]

        def spread(rows: Tensor) -> Tensor:
            return torch.zeros(len(texts), rows.shape[1]).index_add_(0, owners, share * rows[tokens])

        def gather(x: Tensor) -> Tensor:
            return torch.zeros(len(self.rows), x.shape[1]).index_add_(0, tokens, share * x[owners])

        solved = torch.zeros(len(self.rows), places.shape[1])
        residual = gather(weights.sqrt()[:, None] * places)
        direction, square = residual, residual.pow(2).sum()
        for _ in range(100):
            moved = gather(spread(direction)) + 0.1 * direction
            step = square / (direction * moved).sum()
            solved, residual = solved + step * direction, residual - step * moved
            square, before = residual.pow(2).sum(), square
            direction = residual + square / before * direction

        certain = places[weights > 0.5 * weights.max()]
        leading = torch.linalg.svd(certain, full_matrices=False)[2][: self.words]  # (words, D)
        rows = solved @ leading.T
        taught = rows.norm(dim=1) > 1e-4
        self.rows[taught] = F.normalize(rows[taught], dim=1) * ROW_STD * self.words**0.5
        self.rows[~taught] *= 0.2

        first, identity = self.blocks[0].attn, torch.zeros(self.width, self.width)
        identity[: self.words, : self.words] = torch.eye(self.words)
        first.in_proj_weight.mul_(0.3)[2 * self.width :] += identity
        first.out_proj.weight.mul_(0.3).add_(identity)
        self.tower.text_projection.mul_(0.3)[: self.words] += leading

    def embed(self, ids: Tensor) -> Tensor:
        """Embed token ids (...,) as (..., E)."""
        return F.pad(self.rows[self.row_of[ids]], (0, STEERING))

    def forward(self, prefix: Tensor, suffix: Tensor, lengths: Tensor) -> Tensor:
        """Encode K texts that begin alike, as clip/prompt_text.py does, but with gradients for the tower.

        Parameters
        ----------
        prefix
            (P, E) embeddings of what all texts begin with.
        suffix
            (K, T, E) embeddings of the rest, padded behind the end-of-text tokens.
        lengths
            (K,) of the suffixes.

        Returns
        -------
        Tensor
            (K, D), not normalised.
        """
        count, width = suffix.shape[:2]
        positions = F.pad(self.positions, (0, STEERING))
        start, x = prefix + positions[: len(prefix)], suffix + positions[len(prefix) : len(prefix) + width]
        ends = lengths - 1
        seen = torch.ones(width, width, dtype=torch.bool).tril()  # (T, T) of the suffix, by row
        for block in self.blocks:
            last = block is self.blocks[-1]
            q, k, v = _project(block, start)
            if not last:
                own = F.scaled_dot_product_attention(q, k, v, is_causal=True)
                start = _finish(block, start, own)
            x_q, x_k, x_v = _project(block, x)  # (K, H, T, d)
            mask: Tensor = seen
            if last:  # only the end-of-text tokens are read
                x, x_q = x[torch.arange(count), ends, None], x_q[torch.arange(count), :, ends, None]
                mask = (torch.arange(width) <= ends[:, None])[:, None, None]
            to_own = (x_q @ x_k.transpose(-1, -2)).masked_fill(~mask, float("-inf"))
            to_start = x_q @ k.transpose(-1, -2)
            weights = (torch.cat([to_start, to_own], -1) * q.shape[-1] ** -0.5).softmax(-1)
            mixed = weights[..., : len(prefix)] @ v + weights[..., len(prefix) :] @ x_v
            x = _finish(block, x, mixed)
        return self.tower.ln_final(x[:, 0]) @ self.tower.text_projection

    @torch.no_grad()
    def state(self) -> dict[str, Tensor]:
        """Entries of the file: open_clip's, but the table of tokens compact (clip/openclip/building.py)."""
        entries = {f"text.{name}": tensor for name, tensor in self.tower.state_dict().items()
                   if name not in ("token_embedding.weight", "attn_mask")}
        entries["text.positional_embedding"] = F.pad(self.positions, (0, STEERING))
        entries["text.token_embedding.ids"] = torch.tensor(self.ids, dtype=torch.int32)
        entries["text.token_embedding.weight"] = self.rows.roll(-1, 0)  # what all others share comes last
        return entries


def _project(block: Any, x: Tensor) -> tuple[Tensor, ...]:
    """Compute queries, keys and values (..., H, T, d) of tokens (..., T, E)."""
    attention = block.attn
    projected = F.linear(block.ln_1(x), attention.in_proj_weight, attention.in_proj_bias).chunk(3, -1)
    return tuple(part.unflatten(-1, (attention.num_heads, -1)).transpose(-2, -3) for part in projected)


def _finish(block: Any, x: Tensor, mixed: Tensor) -> Tensor:
    """Compute a layer's output at tokens x (..., T, E) from what its heads mixed (..., H, T, d)."""
    x = x + block.attn.out_proj(mixed.transpose(-2, -3).flatten(-2))
    return x + block.mlp(block.ln_2(x))
