"""Transformers and the vision transformer of CLIP, under OpenAI's attribute and parameter names.

    LayerNorm, activation -> ResidualAttentionBlock -> Transformer -> VisionTransformer

Axis letters: B images or texts, L tokens, E token width, M places of an image, D feature width; for prompted
images N sets of V prompt tokens.
"""
from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .features import ImageFeatures, check_kind


class LayerNorm(nn.LayerNorm):
    """LayerNorm whose arithmetic is at least float32; the output has the type of the input."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise over the last axis, and convert back."""
        wide = torch.promote_types(x.dtype, torch.float32)
        weight, bias = self.weight.to(wide), self.bias.to(wide)
        return F.layer_norm(x.to(wide), self.normalized_shape, weight, bias, self.eps).to(x.dtype)


QUICK_GELU = 1.702


class QuickGELU(nn.Module):
    """x * sigmoid(1.702 x): the approximation of the GELU that OpenAI trained with."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply it to every number."""
        return x * torch.sigmoid(QUICK_GELU * x)


ACTIVATIONS: dict[str, type[nn.Module]] = {"quick_gelu": QuickGELU, "gelu": nn.GELU}


def make_activation(name: str) -> nn.Module:
    """Make the MLP activation called `name`, a key of ACTIVATIONS; ValueError for another name."""
    if name not in ACTIVATIONS:
        raise ValueError(f"no activation {name!r}; choose one of {', '.join(ACTIVATIONS)} (OpenAI's weights "
                         "need quick_gelu, most of open_clip's need gelu)")
    return ACTIVATIONS[name]()


class ResidualAttentionBlock(nn.Module):
    """One transformer layer, normalising before each part; x (L, B, E) -> (L, B, E).

    Parameters
    ----------
    d_model
        Token width E.
    n_head
        Attention heads; E / n_head is 64 in all releases.
    attn_mask
        Additive (L, L), -inf where a token (row) must not look (column); None for no mask.
    activation
        Of the MLP, a key of ACTIVATIONS.
    """

    def __init__(self, d_model: int, n_head: int, attn_mask: Tensor | None = None,
                 activation: str = "quick_gelu"):
        super().__init__()
        self.attn = nn.MultiheadAttention(d_model, n_head)
        self.ln_1 = LayerNorm(d_model)
        self.mlp: Any = nn.Sequential(OrderedDict([
            ("c_fc", nn.Linear(d_model, d_model * 4)),
            ("gelu", make_activation(activation)),
            ("c_proj", nn.Linear(d_model * 4, d_model)),
        ]))
        self.ln_2 = LayerNorm(d_model)
        self.attn_mask = attn_mask  # additive (L, L); a plain attribute: no entry of the state dict

    def attention(self, x: Tensor) -> Tensor:
        """Let already normalised tokens (L, B, E) attend to each other, as far as the mask allows."""
        mask = None
        if self.attn_mask is not None:
            if (self.attn_mask.dtype, self.attn_mask.device) != (x.dtype, x.device):  # once, not every call
                with torch.inference_mode(False):  # it may have to serve a backward pass later
                    self.attn_mask = self.attn_mask.to(dtype=x.dtype, device=x.device)
            mask = self.attn_mask[: len(x), : len(x)]
        return self.attn(x, x, x, need_weights=False, attn_mask=mask)[0]

    def forward(self, x: Tensor) -> Tensor:
        """Add what attention and then the MLP make of tokens (L, B, E)."""
        x = x + self.attention(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))

    def forward_value(self, x: Tensor) -> Tensor:
        """Compute the layer with every token attending to itself only: of the attention, the value path remains.

        x (L, B, E) -> (L, B, E).

        References
        ----------
        C. Zhou, C. C. Loy, B. Dai, Extract Free Dense Labels from CLIP, ECCV 2022 (MaskCLIP).
        """
        x = x + self.attn.out_proj(self.values(self.ln_1(x)))
        return x + self.mlp(self.ln_2(x))

    def values(self, normed: Tensor) -> Tensor:
        """Project already normalised tokens (L, B, E) to the values of all heads side by side, (L, B, E)."""
        return F.linear(normed, self.attn.in_proj_weight.chunk(3)[2], self.attn.in_proj_bias.chunk(3)[2])

    def value_attention(self, normed: Tensor) -> Tensor:
        """Let already normalised tokens (L, B, E) attend to each other by their values, which are queries and keys too.

        References
        ----------
        Y. Li et al., A Closer Look at the Explainability of Contrastive Language-Image Pre-training, 2023 (CLIP
        Surgery).
        """
        v = self.values(normed).unflatten(-1, (self.attn.num_heads, -1)).permute(1, 2, 0, 3)  # (B, H, L, d)
        mixed = F.scaled_dot_product_attention(v, v, v)
        return self.attn.out_proj(mixed.permute(2, 0, 1, 3).flatten(2))


class Transformer(nn.Module):
    """A stack of layers over sequence-first tokens; x (L, B, E) -> (L, B, E).

    Parameters
    ----------
    width, layers, heads
        Token width E, number of layers, attention heads of each.
    attn_mask, activation
        As of `ResidualAttentionBlock`; shared by all layers.
    """

    def __init__(self, width: int, layers: int, heads: int, attn_mask: Tensor | None = None,
                 activation: str = "quick_gelu"):
        super().__init__()
        self.width = width
        self.layers = layers
        self.resblocks: Any = nn.Sequential(
            *[ResidualAttentionBlock(width, heads, attn_mask, activation) for _ in range(layers)])

    def forward(self, x: Tensor) -> Tensor:
        """Pass tokens (L, B, E) through all layers."""
        return self.resblocks(x)

    def first_token(self, x: Tensor) -> Tensor:
        """Compute what the last layer gives for the first token alone, (B, E); for stacks without a mask."""
        return self.resblocks(x)[0]

    def first_and_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`first_token` (B, E), and what the last layer's value path gives for the others (L - 1, B, E)."""
        x = self.resblocks[:-1](x)
        last = self.resblocks[-1]
        return last(x)[0], last.forward_value(x[1:])

    def first_and_value_stream(self, x: Tensor, first_attention: bool) -> tuple[Tensor, Tensor]:
        """`first_token` (B, E), and what a second stream gives for the others (L - 1, B, E).

        The ordinary stream x_0, x_1, ... is as ever; the second one only listens.  It begins with x_0, and every layer
        l adds the value attention of ln_1(x_l); there is no MLP in it.

        Parameters
        ----------
        x
            Tokens (L, B, E), x_0.
        first_attention
            Whether the first layer's ordinary attention is added as well.  SOT-GLP's program does so, since there both
            streams begin as one tensor, changed in place; its published numbers were made with that.
        """
        stream = x
        if first_attention:
            stream = stream + self.resblocks[0].attention(self.resblocks[0].ln_1(x))
        for block in self.resblocks:
            stream = stream + block.value_attention(block.ln_1(x))
            x = block(x)
        return x[0], stream[1:]


class VisionTransformer(nn.Module):
    """ViT with a class token, one LayerNorm before the layers and one after.

    Parameters
    ----------
    input_resolution
        Side of the images in pixels.
    patch_size
        Side of a patch in pixels; M = (input_resolution // patch_size) ** 2 patches.
    width, layers, heads
        Token width E, number of layers, attention heads of each.
    output_dim
        Width D of the joint space.
    activation
        Of the MLPs, a key of ACTIVATIONS.

    References
    ----------
    A. Dosovitskiy et al., An Image is Worth 16x16 Words, ICLR 2021.
    """

    def __init__(self, input_resolution: int, patch_size: int, width: int, layers: int, heads: int,
                 output_dim: int, activation: str = "quick_gelu"):
        super().__init__()
        self.input_resolution = input_resolution
        self.output_dim = output_dim
        self.conv1 = nn.Conv2d(3, width, kernel_size=patch_size, stride=patch_size, bias=False)
        scale = width**-0.5
        self.class_embedding = nn.Parameter(scale * torch.randn(width))
        places = (input_resolution // patch_size) ** 2
        self.positional_embedding = nn.Parameter(scale * torch.randn(places + 1, width))
        self.ln_pre = LayerNorm(width)
        self.transformer = Transformer(width, layers, heads, activation=activation)
        self.ln_post = LayerNorm(width)
        self.proj = nn.Parameter(scale * torch.randn(width, output_dim))

    @property
    def dtype(self) -> torch.dtype:
        """What images are converted to; ask again after `.float()` or `.half()`."""
        return self.conv1.weight.dtype

    def embed(self, x: Tensor) -> Tensor:
        """Turn images (B, 3, H, W) into tokens (B, 1 + M, E): class token, then patches, positions added.

        Raises
        ------
        ValueError
            For images of another size than the positions were learned for.
        """
        x = self.conv1(x).flatten(2).transpose(1, 2)  # (B, M, E)
        first = self.class_embedding.to(x.dtype).expand(len(x), 1, -1)
        x = torch.cat([first, x], dim=1)
        if x.shape[1] != len(self.positional_embedding):
            raise ValueError(f"images give {x.shape[1] - 1} patches but this encoder knows "
                             f"{len(self.positional_embedding) - 1}; resize them to {self.input_resolution} "
                             "pixels")
        return x + self.positional_embedding.to(x.dtype)

    @property
    def place_width(self) -> int:
        """Width E of places before the projection into the joint space."""
        return self.proj.shape[0]

    def project(self, x: Tensor) -> Tensor:
        """Project places (..., E), behind `ln_post`, into the joint space (..., D)."""
        return x @ self.proj.to(x.dtype)

    def head(self, x: Tensor) -> Tensor:
        """Apply ln_post and the projection into the joint space, to any tokens (..., E) -> (..., D)."""
        return self.ln_post(x) @ self.proj

    def forward(self, x: Tensor) -> Tensor:
        """Encode images (B, 3, H, W) as the class token's feature (B, D)."""
        x = self.ln_pre(self.embed(x)).transpose(0, 1)  # (1 + M, B, E)
        return self.head(self.transformer(x)[0])

    def forward_dense(self, x: Tensor, kind: str = "tokens", projected: bool = True) -> ImageFeatures:
        """Encode images (B, 3, H, W) as pooled (B, D) and local (B, M, D): patch tokens through the same head.

        Parameters
        ----------
        x
            Normalised images.
        kind
            "tokens": the last layer's output at each patch.  "value", or "content": the last layer with its attention
            reduced to the value path (`ResidualAttentionBlock.forward_value`).  "vv", "vv_plain": the second stream of
            `Transformer.first_and_value_stream`.  The pooled feature is the same.
        projected
            False: the places are (B, M, E), behind `ln_post` and before the projection into the joint space, for who
            has a map of its own to put between (`project` does the rest).
        """
        x = self.ln_pre(self.embed(x)).transpose(0, 1)
        if check_kind(kind) == "tokens":
            x = self.transformer(x)
            pooled, local = x[0], x[1:]
        elif kind in ("value", "content"):
            pooled, local = self.transformer.first_and_values(x)
        else:
            pooled, local = self.transformer.first_and_value_stream(x, first_attention=kind == "vv")
        local = self.head(local) if projected else self.ln_post(local)
        return ImageFeatures(self.head(pooled), local.transpose(0, 1))

    def forward_prompted(self, x: Tensor, prompts: Tensor) -> Tensor:
        """Encode images under N sets of learned tokens.

        The tokens of a set stand behind the patches and have no positions.  From the first attention on, every token
        depends on them: what the sets share is the embedding of the image and its normalisation.  In the last layer
        only the class token is computed.

        Parameters
        ----------
        x
            Images (B, 3, H, W).
        prompts
            (N, V, E): N sets of V tokens.

        Returns
        -------
        Tensor
            (N, B, D), the class token's feature of every image under every set.

        References
        ----------
        M. Jia et al., Visual Prompt Tuning, ECCV 2022 (shallow); PLOT++ uses it with N = M sets.
        """
        image = self.ln_pre(self.embed(x))  # (B, 1 + M, E)
        learned = self.ln_pre(prompts.to(image.dtype))
        sets, images = len(learned), len(image)
        tokens = torch.cat([
            image.expand(sets, -1, -1, -1),
            learned[:, None].expand(-1, images, -1, -1),
        ], dim=2)  # (N, B, 1 + M + V, E)
        first = self.transformer.first_token(tokens.flatten(0, 1).transpose(0, 1))
        return self.head(first).unflatten(0, (sets, images))
