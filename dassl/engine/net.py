"""The network of trainers that define no `build_model`: a torchvision backbone and a linear classifier."""
from __future__ import annotations

from typing import Any

import torchvision
from torch import Tensor, nn
from yacs.config import CfgNode

from dassl.utils import check_availability

__all__ = ["SimpleNet"]


class SimpleNet(nn.Module):
    """A torchvision network whose last layer is replaced by a linear classifier.

    Parameters
    ----------
    cfg : CfgNode
        The whole tree; not used.
    model_cfg : CfgNode
        The MODEL section. BACKBONE.NAME is any of torchvision's classification models that ends in a linear layer,
        which is taken off; BACKBONE.PRETRAINED loads torchvision's weights (a download, the first time). A head
        (HEAD.NAME) is a ValueError.
    num_classes : int
        C; with 0 there is no classifier (None), and the features are the output.
    **kwargs
        Ignored, as by the original engine.
    """

    def __init__(self, cfg: CfgNode, model_cfg: CfgNode, num_classes: int, **kwargs: Any) -> None:
        super().__init__()
        if model_cfg.HEAD.NAME:
            raise ValueError(f"MODEL.HEAD.NAME is {model_cfg.HEAD.NAME!r}; only '' (no head) is offered")
        name = model_cfg.BACKBONE.NAME
        known = torchvision.models.list_models(module=torchvision.models)
        check_availability(name, known, "backbone (MODEL.BACKBONE.NAME)")
        weights = "DEFAULT" if model_cfg.BACKBONE.PRETRAINED else None
        self.backbone = torchvision.models.get_model(name, weights=weights)
        linear = [pair for pair in self.backbone.named_modules() if isinstance(pair[1], nn.Linear)]
        if not linear:
            raise ValueError(f"MODEL.BACKBONE.NAME {name!r} does not end in a linear layer; choose another")
        path, last = linear[-1]
        self._fdim = last.in_features
        parent, _, attribute = path.rpartition(".")
        setattr(self.backbone.get_submodule(parent), attribute, nn.Identity())
        self.classifier = nn.Linear(self._fdim, num_classes) if num_classes > 0 else None

    @property
    def fdim(self) -> int:
        """Width D of the features."""
        return self._fdim

    def forward(self, x: Tensor, return_feature: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Return logits (B, C) of images (B, 3, H, W), with `return_feature` also the features (B, D)."""
        feature = self.backbone(x)  # (B, D)
        if self.classifier is None:
            return feature
        logits = self.classifier(feature)
        return (logits, feature) if return_feature else logits
