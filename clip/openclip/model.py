"""The CLIP of another architecture that trainers see: the attributes of clip/model.py's, around open_clip's modules."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..model import CLIP, PIXEL_MEAN, PIXEL_STD
from ..prompt_text import TextEncoder
from ..tokens import Tokens
from .images import make_tower
from .sources import Source
from .texts import FullTextEncoder, shares_prefix

ALSO_LOWERED = {  # parameters by the class in open_clip that they are of, which meet those that `CLIP.lower` converts
    "LayerScale": ("gamma",),
    "AttentionalPooler": ("query",),
    "Attention": ("in_proj_weight", "in_proj_bias", "head_scale"),
}


class OpenClip(CLIP):
    """Image and text tower of open_clip under the names and methods of OpenAI's CLIP.

    Parameters
    ----------
    visual, text
        open_clip's modules; `text` a TextTransformer.
    logit_scale, logit_bias
        Log of the factor of the cosines, and what SigLIP adds to the product; None without one.
    tokens
        The tokenizer that the text tower was trained with.
    source
        Where it is from, and how its images are prepared.
    described
        What the config says of the image tower, see `ImageTower`.

    Attributes
    ----------
    pixel_mean, pixel_std, interpolation, resize_mode
        How images are prepared: "bicubic" or another, and "shortest" (the shorter side is resized, the centre cut out)
        or "squash" (both sides are resized).
    logit_bias
        Added to scaled cosines before a sigmoid.  Softmax over classes does not see it, so no trainer adds it.
    """

    def __init__(
        self, visual: Any, text: Any, logit_scale: nn.Parameter, logit_bias: nn.Parameter | None, tokens: Tokens,
        source: Source, described: Mapping[str, Any],
    ) -> None:  # fmt: skip
        nn.Module.__init__(self)  # the towers are there already
        pixels = source.pixels
        self.pixel_mean, self.pixel_std = tuple(pixels.get("mean", PIXEL_MEAN)), tuple(pixels.get("std", PIXEL_STD))
        self.interpolation = pixels.get("interpolation", "bicubic")
        self.resize_mode = pixels.get("resize_mode", "shortest")
        self.visual: Any = make_tower(visual, source.config["embed_dim"], described)
        self.text = text
        self.logit_scale, self.logit_bias = logit_scale, logit_bias
        self._tokens = tokens

    @property
    def tokens(self) -> Tokens:
        """The tokenizer that the text tower was trained with."""
        return self._tokens

    @property
    def shares_prefix(self) -> bool:
        """Whether prompts are encoded by the shared-prefix path of clip/prompt_text.py."""
        return shares_prefix(self.text)

    # the names of OpenAI's text side

    @property
    def context_length(self) -> int:  # type: ignore[override]
        """L, positions of a text."""
        return self.text.context_length

    @property
    def vocab_size(self) -> int:  # type: ignore[override]
        """Rows of the token embedding."""
        return self.text.vocab_size

    @property
    def transformer(self) -> Any:  # type: ignore[override]
        """The layers of the text tower."""
        return self.text.transformer

    @property
    def token_embedding(self) -> nn.Embedding:  # type: ignore[override]
        """The table of the tokens' embeddings."""
        return self.text.token_embedding

    @property
    def positional_embedding(self) -> nn.Parameter:  # type: ignore[override]
        """(L, E), or (L + 1, E) with a class token."""
        return self.text.positional_embedding

    @property
    def ln_final(self) -> nn.LayerNorm:  # type: ignore[override]
        """Normalisation behind the layers."""
        return self.text.ln_final

    @property
    def text_projection(self) -> Any:  # type: ignore[override]
        """Matrix (E, D), a linear layer, or None."""
        return self.text.text_projection

    def prompt_encoder(self) -> TextEncoder | FullTextEncoder:
        """Make what encodes prompts: sharing their prefix where the text tower allows it."""
        return TextEncoder(self) if self.shares_prefix else self._full_encoder()

    def _full_encoder(self) -> FullTextEncoder:
        return FullTextEncoder(self.text, self.tokens.pad)

    def encode_text(self, text: Tensor) -> Tensor:
        """Encode token ids (B, L) as features (B, D), not normalised."""
        words, ends = text != getattr(self.text, "pad_id", 0), self.tokens.ends(text)
        return self._full_encoder().encode(self.token_embedding(text), words, ends)

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """As CLIP's, with SigLIP's bias added: its sigmoid is the probability that image and text belong together."""
        logits, transposed = super().forward(image, text)
        if self.logit_bias is None:
            return logits, transposed
        return logits + self.logit_bias, transposed + self.logit_bias

    def lower(self, dtype: torch.dtype) -> None:
        """As `CLIP.lower`, and in the image tower the normalisations that do not convert what they are given.

        CUDA refuses a plain one whose weights are float32; open_clip's LayerNormFp32 stays so.  A tower of timm, which
        has none of that kind, is converted whole.
        """
        super().lower(dtype)
        whole = hasattr(self.visual.visual, "trunk")
        for module in self.visual.modules():
            if whole or type(module).__name__ == "LayerNorm":
                module.to(dtype)
        for module in self.modules():
            for name in ALSO_LOWERED.get(type(module).__name__, ()):
                if isinstance(parameter := getattr(module, name, None), nn.Parameter):
                    parameter.data = parameter.data.to(dtype)
