"""Frozen towers in the form that is cheapest to evaluate; the features stay the same up to rounding (1e-6 in float32).

Three things are done once instead of in every pass:

- weights are packed for the matrix library (packed.py);
- x * sigmoid(1.702 x), CLIP's activation, is silu(1.702 x) / 1.702: with the factors in the weights around it, one
  kernel remains where there were three, and backwards one where there were five;
- in evaluation mode a BatchNorm is a fixed affine map of every channel, and goes into the weights of the convolution
  before it: a third of a ResNet's passes over memory disappear.  Channels-last is the layout in which the
  convolutions of CPUs and tensor cores work without reordering.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .model import Bottleneck, ModifiedResNet, QuickGELU, Transformer, VisionTransformer
from .packed import FrozenLinear, PackedLinear, Prepared, can_pack, frozen_linear
from .vit import QUICK_GELU

PARTS = {"qkv": slice(0, 3), "q": slice(0, 1), "kv": slice(1, 3)}  # of the fused input projection, in thirds


def can_freeze(block: Any) -> bool:
    """Whether `FrozenBlock` computes what a layer does: ours, or open_clip's usual one.

    open_clip's blocks with a normalisation within the attention or the MLP are others.
    """
    return isinstance(block.attn, nn.MultiheadAttention) and {*dict(block.mlp.named_children())} == {
        "c_fc", "gelu", "c_proj",
    }  # fmt: skip


class FrozenBlock:
    """The parts of one transformer layer, for tokens (N, T, E) with the batch first.

    Its weights are as they were when it was made; see `packed.Prepared` for when it is made again.

    Parameters
    ----------
    block
        A layer as `can_freeze` allows it; its mask, if it has one, is not applied here.
    """

    def __init__(self, block: Any) -> None:
        self.ln_1, self.ln_2 = block.ln_1, block.ln_2
        self._scales = [getattr(block, name, None) for name in ("ls_1", "ls_2")]  # LayerScale of open_clip's
        self.heads = block.attn.num_heads
        self._in = (block.attn.in_proj_weight, block.attn.in_proj_bias)
        self._projections: dict[str, FrozenLinear] = {}
        self._out = frozen_linear(block.attn.out_proj)

        first, second = block.mlp.c_fc, block.mlp.c_proj
        self._activation: Callable[[Tensor], Tensor] = block.mlp.gelu
        quick = type(block.mlp.gelu).__name__ == QuickGELU.__name__  # open_clip has a class of this name, too
        if quick and can_pack(first.weight) and can_pack(second.weight):
            self._fc = FrozenLinear(first.weight * QUICK_GELU, first.bias * QUICK_GELU)
            self._proj = FrozenLinear(second.weight / QUICK_GELU, second.bias)
            self._activation = F.silu
        else:
            self._fc, self._proj = frozen_linear(first), frozen_linear(second)

    def project(self, normed: Tensor, parts: str) -> tuple[Tensor, ...]:
        """Project normalised tokens (N, T, E) to queries, keys and values.

        Parameters
        ----------
        normed
            Tokens behind the layer's first LayerNorm.
        parts
            A key of PARTS: which of the three to compute; each choice has packed weights of its own.

        Returns
        -------
        tuple of Tensor
            Each (N, H, T, d), H heads of width d.
        """
        width = normed.shape[-1]
        if parts not in self._projections:
            rows = slice(PARTS[parts].start * width, PARTS[parts].stop * width)
            self._projections[parts] = FrozenLinear(self._in[0][rows], self._in[1][rows])
        projected = self._projections[parts](normed)
        return tuple(x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in projected.split(width, dim=-1))

    def joined(self, mixed: Tensor) -> Tensor:
        """Put what the heads mixed (N, H, T, d) side by side and project it, (N, T, E)."""
        return self._out(mixed.transpose(1, 2).flatten(2))

    def finish(self, x: Tensor, mixed: Tensor) -> Tensor:
        """Compute the layer's output at tokens x (N, T, E), given what their heads mixed (N, H, T, d)."""
        scale_1, scale_2 = self._scales
        attended = self.joined(mixed)
        x = x + (attended if scale_1 is None else scale_1(attended))
        changed = self._proj(self._activation(self._fc(self.ln_2(x))))
        return x + (changed if scale_2 is None else scale_2(changed))

    def layer(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compute the whole layer over tokens (N, T, E).

        Parameters
        ----------
        x
            Tokens.
        mask
            Bool, broadcast to (N, H, T, T): True where a token (row) sees another (column); None where all do.
        """
        q, k, v = self.project(self.ln_1(x), "qkv")
        return self.finish(x, F.scaled_dot_product_attention(q, k, v, attn_mask=mask))


def frozen_blocks(transformer: Any) -> list[FrozenBlock]:
    """Prepare every layer of a transformer."""
    return [FrozenBlock(block) for block in transformer.resblocks]


class FrozenTransformer(Transformer):
    """A transformer without a mask, with the same layers under the same names; x (L, B, E) -> (L, B, E).

    It takes the place of the `Transformer` that it is made from, so state dicts do not change.
    """

    def __init__(self, transformer: Transformer) -> None:
        nn.Module.__init__(self)  # the layers are there already
        self.width, self.layers, self.resblocks = transformer.width, transformer.layers, transformer.resblocks
        self._blocks = Prepared(transformer, frozen_blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Pass tokens (L, B, E) through all layers."""
        x = x.transpose(0, 1)
        for block in self._blocks():
            x = block.layer(x)
        return x.transpose(0, 1)

    def first_token(self, x: Tensor) -> Tensor:
        """As `Transformer.first_token`."""
        last, x, normed = self._up_to_last(x)
        return self._first(last, x, normed, *last.project(normed, "kv"))

    def first_and_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """As `Transformer.first_and_values`."""
        last, x, normed = self._up_to_last(x)
        k, v = last.project(normed, "kv")
        return self._first(last, x, normed, k, v), last.finish(x[:, 1:], v[:, :, 1:]).transpose(0, 1)

    def first_and_value_stream(self, x: Tensor, first_attention: bool) -> tuple[Tensor, Tensor]:
        """As `Transformer.first_and_value_stream`; queries, keys and values of a layer are projected once for both."""
        x = x.transpose(0, 1)
        stream = x
        blocks = self._blocks()
        for layer, block in enumerate(blocks):
            q, k, v = block.project(block.ln_1(x), "qkv")
            mixed = F.scaled_dot_product_attention(q, k, v)
            if first_attention and layer == 0:
                stream = stream + block.joined(mixed)
            stream = stream + block.joined(F.scaled_dot_product_attention(v, v, v))
            if block is blocks[-1]:  # of which the class token alone is read
                x, mixed = x[:, :1], mixed[:, :, :1]
            x = block.finish(x, mixed)
        return x[:, 0], stream[:, 1:].transpose(0, 1)

    def _up_to_last(self, x: Tensor) -> tuple[FrozenBlock, Tensor, Tensor]:
        """Compute the last layer's input (B, L, E); return that layer, its input, and the input normalised."""
        x = x.transpose(0, 1)
        *blocks, last = self._blocks()
        for block in blocks:
            x = block.layer(x)
        return last, x, last.ln_1(x)

    @staticmethod
    def _first(last: FrozenBlock, x: Tensor, normed: Tensor, k: Tensor, v: Tensor) -> Tensor:
        (q,) = last.project(normed[:, :1], "q")
        return last.finish(x[:, :1], F.scaled_dot_product_attention(q, k, v))[:, 0]


@torch.no_grad()
def freeze_image_tower(visual: nn.Module) -> None:
    """Bring a VisionTransformer or a ModifiedResNet into the form described above, in place.

    Another tower may have a method `freeze` of its own; else it does not change.

    Afterwards a ResNet cannot be trained and its state dict has no BatchNorm entries; features differ from before by
    rounding (about 1e-6 of the largest in float32).

    Notes
    -----
    Call it while the weights are float32: folding in half precision would round twice.
    """
    visual.eval()
    if isinstance(visual, VisionTransformer):
        visual.transformer = FrozenTransformer(visual.transformer)
    elif isinstance(visual, ModifiedResNet):
        _fold(visual, ("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"))
        for block in visual.modules():
            if isinstance(block, Bottleneck):
                _fold(block, ("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"))
                if block.downsample is not None:
                    _fold(block.downsample, ("0", "1"))
        visual.to(memory_format=torch.channels_last)
        pool = visual.attnpool
        for name in ("q_proj", "k_proj", "v_proj", "c_proj"):
            setattr(pool, name, PackedLinear(getattr(pool, name)))
    elif freeze := getattr(visual, "freeze", None):
        freeze()


def _fold(module: nn.Module, *pairs: tuple[str, str]) -> None:
    """Put each BatchNorm into the weights of the convolution before it."""
    for conv, norm in pairs:
        setattr(module, conv, fuse_conv_bn_eval(getattr(module, conv), getattr(module, norm)))
        setattr(module, norm, nn.Identity())
