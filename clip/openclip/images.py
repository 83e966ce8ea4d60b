"""Pooled and dense features of open_clip's image towers.

The pooled feature is the tower's own.  The feature of a place is, for every kind of tower, what the tower's own head
makes of that place alone: of an image all of whose places are this one.  The last step of a tower, from places to the
joint space, then reads

    mean over places, norm, linear           norm, linear                               (ConvNeXt, MobileCLIP, Swin)
    class token, norm, linear                norm, linear, as on OpenAI's ViTs          (EVA02, ViT-H/14)
    attention with learned queries, MLP      value and output projection, MLP           (SigLIP, PE, CoCa)
    CLIP's attention pool                    the place asks the pool, as on OpenAI's ResNets

since attention over equal places gives the value of each of them.  Where a tower has no places, `no_places` says why.

Axis letters: B images, M = h * w places (row by row), E token width, D feature width.
"""
from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..features import KINDS, ImageFeatures, check_kind
from ..frozen import FrozenBlock, can_freeze
from ..model import AttentionPool2d


class NoPlaces(ValueError):
    """A tower has no features of places, or not of the kind that was asked for."""


class ImageTower(nn.Module):
    """An image tower of open_clip under the interface of clip/model.py's: images (B, 3, H, W) -> features (B, D).

    Parameters
    ----------
    visual
        open_clip's module, with weights.
    output_dim
        D.
    described
        What its config says of it, as plain data: part of what features depend on.

    Attributes
    ----------
    input_resolution
        Side of the images in pixels.

    Raises
    ------
    ValueError
        For a tower whose images are not square.
    """

    def __init__(self, visual: Any, output_dim: int, described: Mapping[str, Any]) -> None:
        super().__init__()
        height, width = size if isinstance(size := visual.image_size, tuple | list) else (size, size)
        if height != width:
            raise ValueError(f"it reads images of {height} x {width} pixels, and only square ones can be given")
        self.visual = visual
        self.input_resolution, self.output_dim = int(height), output_dim
        self.described = json.dumps({**described, **_versions()}, sort_keys=True, default=str)
        self._missing = ""  # why there are no features of places

    def extra_repr(self) -> str:
        """Show the config, by which features on disk are told apart (clip/feature_store/)."""
        return self.described

    @property
    def dtype(self) -> torch.dtype:
        """What images are converted to; ask again after `.float()` or `.half()`."""
        kinds = (nn.Conv2d, nn.Linear)
        return next(module.weight.dtype for module in self.visual.modules() if isinstance(module, kinds))

    def forward(self, x: Tensor) -> Tensor:
        """Encode images (B, 3, H, W) as pooled features (B, D)."""
        pooled = self.visual(x)
        return pooled[0] if isinstance(pooled, tuple) else pooled

    def forward_dense(self, x: Tensor, kind: str = "tokens") -> ImageFeatures:
        """Encode images (B, 3, H, W) as pooled (B, D) and local (B, M, D) features.

        Parameters
        ----------
        x
            Normalised images.
        kind
            One of `kinds`.

        Raises
        ------
        NoPlaces
            Where there are none of this kind.
        """
        if reason := self.no_places(kind):
            raise NoPlaces(reason)
        return self.dense(x, kind)

    def no_places(self, kind: str) -> str:
        """Say why there are no local features of a kind; "" where there are."""
        if check_kind(kind) not in self.kinds():
            return (
                f"the local features {kind!r} need attention whose weights are known, as in OpenAI's towers, not "
                f"{self._kind}; choose one of {', '.join(self.kinds())}"
            )
        return self._missing

    @torch.no_grad()
    def try_out(self) -> None:
        """Encode one grey image, so that what does not fit is known before any work.

        Raises
        ------
        ValueError
            Where the pooled feature has another width than the config says.
        """
        side = self.input_resolution
        image = torch.zeros(1, 3, side, side, dtype=self.dtype)
        pooled = self(image)
        if tuple(pooled.shape) != (1, self.output_dim):
            raise ValueError(
                f"the image tower gives features of shape {tuple(pooled.shape[1:])}, and the text tower of width "
                f"{self.output_dim} (embed_dim); the config lacks the projection between them"
            )
        try:
            local = self.dense(image, "tokens").local
        except NoPlaces as error:
            self._missing = str(error)
        except (RuntimeError, ValueError, TypeError, AttributeError, IndexError) as error:
            self._missing = f"the head of {self._kind} cannot look at a place alone ({type(error).__name__}: {error})"
        else:
            if local.shape[1] < 2 or local.shape[2] != self.output_dim:
                self._missing = f"{self._kind} ends in {local.shape[1]} places of width {local.shape[2]}"

    def dense(self, x: Tensor, kind: str) -> ImageFeatures:
        """Compute what `forward_dense` returns, for a kind that is there."""
        raise NoPlaces(f"features of places are not known of {self._kind}")

    def kinds(self) -> Sequence[str]:
        """List the kinds of local features that are defined, of clip.features.KINDS."""
        return ["tokens"]

    @property
    def _kind(self) -> str:
        return type(getattr(self.visual, "trunk", self.visual)).__name__


class TimmTower(ImageTower):
    """A tower of timm: the trunk, and open_clip's projection behind it."""

    def dense(self, x: Tensor, kind: str) -> ImageFeatures:
        """As `ImageTower.dense`."""
        trunk, head = self.visual.trunk, self.visual.head
        features = trunk.forward_features(x)
        if not isinstance(features, Tensor) or features.dim() not in (3, 4):
            raise NoPlaces(f"timm's {self._kind} keeps no places up to its last layer")
        pooled = head(trunk.forward_head(features))
        if (asking := self._asking_pool()) is not None:
            return ImageFeatures(pooled, asking(features).flatten(2).transpose(1, 2))  # (B, D, h, w) -> (B, M, D)
        if features.dim() == 3:  # class token and other tokens, then the places
            prefix = getattr(trunk, "num_prefix_tokens", 0)
            places = features[:, prefix:]
            alone = places.flatten(0, 1)[:, None].expand(-1, prefix + 1, -1)  # (B*M, prefix + 1, E), all the same
        elif getattr(trunk, "output_fmt", "NCHW") == "NHWC":
            places = features.flatten(1, 2)
            alone = places.flatten(0, 1)[:, None, None]  # (B*M, 1, 1, E)
        else:
            places = features.flatten(2).transpose(1, 2)
            alone = places.flatten(0, 1)[:, :, None, None]  # (B*M, E, 1, 1)
        local = head(trunk.forward_head(alone))
        return ImageFeatures(pooled, local.unflatten(0, places.shape[:2]))

    def freeze(self) -> None:
        """Join the parallel convolutions of trunks that are trained with several (FastViT, in MobileCLIP)."""
        from timm.utils import reparameterize_model

        self.visual.trunk = reparameterize_model(self.visual.trunk)

    def _asking_pool(self) -> Any:
        """Make CLIP's attention pool answer at every place, (B, E, h, w) -> (B, D, h, w); None without such a pool.

        It shares the pool's weights.
        """
        pool = getattr(self.visual.head, "pool", None)
        if pool is None:
            return None
        if not hasattr(pool, "pool_type"):
            raise NoPlaces("the attention pool of this timm gives the pooled feature alone; install timm 1.0 or newer")
        asking = copy.copy(pool)
        asking.pool_type = ""
        return asking


class VitTower(ImageTower):
    """A ViT of open_clip's own, with a class token, or CoCa's, with a pool of learned queries."""

    def dense(self, x: Tensor, kind: str) -> ImageFeatures:
        """As `ImageTower.dense`."""
        transformer = self.visual.transformer
        last = transformer.resblocks[-1]
        seen: list[Tensor] = []  # the tokens behind the last layer, or before it
        if kind == "tokens":
            watch = transformer.register_forward_hook(lambda module, inputs, output: seen.append(output))
            batch_first = hasattr(transformer, "batch_first")  # before open_clip 2.27 the sequence came first
        else:
            watch = last.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
            batch_first = getattr(transformer, "batch_first", False)
        try:
            pooled = self(x)
        finally:
            watch.remove()
        tokens = (seen[0] if batch_first else seen[0].transpose(0, 1))[:, 1:]  # (B, M, E), without the class token
        if kind != "tokens":
            block = FrozenBlock(last)
            tokens = block.finish(tokens, *block.project(block.ln_1(tokens), "qkv")[2:])
        return ImageFeatures(pooled, self._head(tokens))

    def kinds(self) -> Sequence[str]:
        """Those of the value path too, where the last layer is of the usual form."""
        usual = can_freeze(self.visual.transformer.resblocks[-1])
        return ["tokens", "value", "content"] if usual else ["tokens"]

    def _head(self, tokens: Tensor) -> Tensor:
        """Bring places (B, M, E) into the joint space (B, M, D)."""
        visual = self.visual
        if visual.attn_pool is not None:
            if getattr(visual, "attn_pool_contrastive", None) is not None:
                raise NoPlaces("this ViT pools twice, and no feature of a place follows from that")
            tokens = _value_path(visual.attn_pool.attn, visual.attn_pool.ln_k(tokens))
        tokens = visual.ln_post(tokens)
        return tokens if visual.proj is None else tokens @ visual.proj


class ResNetTower(ImageTower):
    """CLIP's ResNet in open_clip's form, beside another text tower than OpenAI's."""

    def dense(self, x: Tensor, kind: str) -> ImageFeatures:
        """As `ModifiedResNet.forward_dense`."""
        visual = self.visual
        for part in (visual.stem, visual.layer1, visual.layer2, visual.layer3, visual.layer4):
            x = part(x)
        theirs = visual.attnpool
        with torch.device("meta"):
            pool = AttentionPool2d(1, theirs.c_proj.in_features, theirs.num_heads, theirs.c_proj.out_features)
        pool.positional_embedding = theirs.positional_embedding
        for name in ("q_proj", "k_proj", "v_proj", "c_proj"):
            setattr(pool, name, getattr(theirs, name))
        return pool.forward_dense(x, kind)

    def kinds(self) -> Sequence[str]:
        """All, of the attention pool."""
        return list(KINDS)


def make_tower(visual: Any, output_dim: int, described: Mapping[str, Any]) -> ImageTower:
    """Wrap an image tower of open_clip; one of an unknown kind has no places."""
    kinds = {"TimmModel": TimmTower, "VisionTransformer": VitTower, "ModifiedResNet": ResNetTower}
    return kinds.get(type(visual).__name__, ImageTower)(visual, output_dim, described)


def _value_path(attention: nn.MultiheadAttention, x: Tensor) -> Tensor:
    """Compute what attention gives where every query sees one token alone: x (..., E) -> (..., D)."""
    weight = attention.v_proj_weight if attention.in_proj_weight is None else attention.in_proj_weight.chunk(3)[2]
    bias = None if attention.in_proj_bias is None else attention.in_proj_bias.chunk(3)[2]
    return attention.out_proj(F.linear(x, weight, bias))


def _versions() -> dict[str, str]:
    """Versions of the packages whose code the tower runs."""
    return {name: version(name) for name in ("open_clip_torch", "timm")}
