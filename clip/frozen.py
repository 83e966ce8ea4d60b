"""A frozen image tower in the form that is cheapest to evaluate; the features stay the same up to rounding.

In evaluation mode a BatchNorm is a fixed affine map of every channel, and goes into the weights of the convolution
before it: a third of a ResNet's passes over memory disappear.  Channels-last is the layout in which the convolutions of
CPUs and tensor cores work without reordering.
"""
from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .model import Bottleneck, ModifiedResNet


@torch.no_grad()
def freeze_image_tower(visual: nn.Module) -> None:
    """Fold the BatchNorms of a ModifiedResNet into its convolutions and make it channels-last, in place.

    Nothing happens to other towers.  Afterwards the tower cannot be trained, its state dict has no BatchNorm entries,
    and its features differ from before by rounding (about 1e-6 of the largest in float32).  Call it while the weights
    are float32: folding in half precision would round twice.
    """
    if not isinstance(visual, ModifiedResNet):
        return
    visual.eval()
    _fold(visual, ("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"))
    for block in visual.modules():
        if isinstance(block, Bottleneck):
            _fold(block, ("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"))
            if block.downsample is not None:
                _fold(block.downsample, ("0", "1"))
    visual.to(memory_format=torch.channels_last)


def _fold(module: nn.Module, *pairs: tuple[str, str]) -> None:
    for conv, norm in pairs:
        setattr(module, conv, fuse_conv_bn_eval(getattr(module, conv), getattr(module, norm)))
        setattr(module, norm, nn.Identity())
