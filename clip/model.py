"""CLIP (Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision").

Attribute and parameter names are those of OpenAI's release, because they are an interface: published weights
load strictly, and trainers reach inside by name. Built from the smallest part to the whole:

    Transformer, VisionTransformer (clip/vit.py)
    Bottleneck, AttentionPool2d -> ModifiedResNet
    CLIP = an image encoder, a causal text transformer, and one temperature

and, at the end, from a state dict back to the model that it belongs to (`build_model`).

Beyond the original: both image encoders give local features besides the pooled one (`forward_dense`), the MLP
activation is a choice (open_clip's own checkpoints use the plain GELU), and `encode_text` skips the padding.

Axis letters: B images or texts, L tokens, E token width, M places of an image, D feature width.
"""
from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .features import ImageFeatures, check_kind
from .loading.layout import HEAD_WIDTH, SIZE_KEYS, describe, sizes_of
from .tokens import ClipTokens, Tokens

# all under this module's name too, as in the original
from .vit import ACTIVATIONS as ACTIVATIONS
from .vit import LayerNorm, Transformer, VisionTransformer
from .vit import QuickGELU as QuickGELU
from .vit import ResidualAttentionBlock as ResidualAttentionBlock

PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)  # of OpenAI's training images, red green blue in [0, 1]
PIXEL_STD = (0.26862954, 0.26130258, 0.27577711)


# --- residual network -----------------------------------------------------------------------------------

class Bottleneck(nn.Module):
    """Residual block that strides by average pooling, before conv3 and in the shortcut.

    Strided convolutions would skip pixels; pooling first is what the paper calls anti-aliased.

    Parameters
    ----------
    inplanes
        Channels of the input.
    planes
        Channels within the block; the output has four times as many (`expansion`).
    stride
        Side of the pooling windows; 1 for none.
    """

    expansion = 4

    def __init__(self, inplanes: int, planes: int, stride: int = 1):
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.relu2 = nn.ReLU(inplace=True)
        self.avgpool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.conv3 = nn.Conv2d(planes, planes * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(planes * self.expansion)
        self.relu3 = nn.ReLU(inplace=True)
        self.downsample: nn.Sequential | None = None
        self.stride = stride
        if stride > 1 or inplanes != planes * self.expansion:
            self.downsample = nn.Sequential(OrderedDict([
                ("-1", nn.AvgPool2d(stride)),
                ("0", nn.Conv2d(inplanes, planes * self.expansion, 1, bias=False)),
                ("1", nn.BatchNorm2d(planes * self.expansion)),
            ]))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inplanes, h, w) to (B, 4 * planes, h / stride, w / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu1(self.bn1(self.conv1(x)))
        x = self.relu2(self.bn2(self.conv2(x)))
        x = self.bn3(self.conv3(self.avgpool(x)))
        return self.relu3(x + shortcut)


class AttentionPool2d(nn.Module):
    """Attention in place of global average pooling: the mean over places is one more place, and asks.

    Asked by every place instead of the mean alone, the same weights give the local features that PLOT uses
    (`forward_dense`).

    Parameters
    ----------
    spacial_dim
        Side h = w of the feature maps, in places; the name has the original's spelling.
    embed_dim
        Width E of a place.
    num_heads
        Attention heads, which share E among them.
    output_dim
        Width D of the features; E where it is not given.
    """

    def __init__(self, spacial_dim: int, embed_dim: int, num_heads: int, output_dim: int | None = None):
        super().__init__()
        self.positional_embedding = nn.Parameter(torch.randn(spacial_dim**2 + 1, embed_dim) / embed_dim**0.5)
        self.k_proj = nn.Linear(embed_dim, embed_dim)
        self.q_proj = nn.Linear(embed_dim, embed_dim)
        self.v_proj = nn.Linear(embed_dim, embed_dim)
        self.c_proj = nn.Linear(embed_dim, output_dim or embed_dim)
        self.num_heads = num_heads

    def places(self, x: Tensor) -> Tensor:
        """Turn a feature map (B, E, h, w) into tokens (B, 1 + M, E): the mean first, then every place, positions added.

        Raises
        ------
        ValueError
            For maps of another size than the positions were learned for.
        """
        x = x.flatten(2).transpose(1, 2)
        x = torch.cat([x.mean(dim=1, keepdim=True), x], dim=1)
        if x.shape[1] != len(self.positional_embedding):
            raise ValueError(f"images give {x.shape[1] - 1} places but this encoder knows "
                             f"{len(self.positional_embedding) - 1}; resize them to the model's "
                             "input_resolution")
        return x + self.positional_embedding.to(x.dtype)

    def attend(self, x: Tensor, queries: Tensor) -> Tensor:
        """Let queries collect features from the places.

        Parameters
        ----------
        x
            Tokens (B, 1 + M, E) that keys and values are made of.
        queries
            Tokens (B, Q, E) that ask.

        Returns
        -------
        Tensor
            (B, Q, D), projected into the joint space.
        """
        q, k, v = (
            projection(y).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for projection, y in ((self.q_proj, queries), (self.k_proj, x), (self.v_proj, x))
        )  # each (B, heads, Q or 1 + M, E / heads)
        return self.c_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    def forward(self, x: Tensor) -> Tensor:
        """Pool a feature map (B, E, h, w) to a feature (B, D)."""
        x = self.places(x)
        return self.attend(x, x[:, :1]).squeeze(1)

    def forward_dense(self, x: Tensor, kind: str = "tokens") -> ImageFeatures:
        """Pool (B, E, h, w) to (B, D), with local features (B, M, D); see `ModifiedResNet.forward_dense`."""
        tokens = self.places(x)
        if check_kind(kind) == "tokens":
            y = self.attend(tokens, tokens)
            return ImageFeatures(y[:, 0], y[:, 1:])
        places = tokens[:, 1:] if kind == "value" else x.flatten(2).transpose(1, 2)  # (B, M, E)
        return ImageFeatures(self.attend(tokens, tokens[:, :1]).squeeze(1), self.c_proj(self.v_proj(places)))


class ModifiedResNet(nn.Module):
    """ResNet with a stem of three convolutions, anti-aliased striding, and attention pooling at the end.

    Parameters
    ----------
    layers
        Blocks of each of the four stages, e.g. (3, 4, 6, 3) for RN50.
    output_dim
        Width D of the features.
    heads
        Heads of the attention pooling.
    input_resolution
        Side of the images in pixels; a place of the last map stands for 32 of them.
    width
        Channels after the stem; the last stage has 32 times as many.
    """

    def __init__(self, layers: Sequence[int], output_dim: int, heads: int, input_resolution: int = 224,
                 width: int = 64):
        super().__init__()
        self.output_dim = output_dim
        self.input_resolution = input_resolution
        self.conv1 = nn.Conv2d(3, width // 2, kernel_size=3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width // 2)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width // 2, width // 2, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width // 2)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv3 = nn.Conv2d(width // 2, width, kernel_size=3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.relu3 = nn.ReLU(inplace=True)
        self.avgpool = nn.AvgPool2d(2)
        self.layer1 = self._stage(width, width, layers[0])
        self.layer2 = self._stage(width * 4, width * 2, layers[1], stride=2)
        self.layer3 = self._stage(width * 8, width * 4, layers[2], stride=2)
        self.layer4 = self._stage(width * 16, width * 8, layers[3], stride=2)
        self.attnpool = AttentionPool2d(input_resolution // 32, width * 32, heads, output_dim)

    @staticmethod
    def _stage(inplanes: int, planes: int, blocks: int, stride: int = 1) -> nn.Sequential:
        rest = [Bottleneck(planes * Bottleneck.expansion, planes) for _ in range(1, blocks)]
        return nn.Sequential(Bottleneck(inplanes, planes, stride), *rest)

    @property
    def dtype(self) -> torch.dtype:
        """What images are converted to; ask again after `.float()` or `.half()`."""
        return self.conv1.weight.dtype

    def feature_map(self, x: Tensor) -> Tensor:
        """Map images (B, 3, H, W) to the last convolutional map (B, 32 * width, H/32, W/32)."""
        x = x.to(self.conv1.weight.dtype)
        x = self.relu1(self.bn1(self.conv1(x)))
        x = self.relu2(self.bn2(self.conv2(x)))
        x = self.relu3(self.bn3(self.conv3(x)))
        x = self.avgpool(x)
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))

    def forward(self, x: Tensor) -> Tensor:
        """Encode images (B, 3, H, W) as pooled features (B, D)."""
        return self.attnpool(self.feature_map(x))

    def forward_dense(self, x: Tensor, kind: str = "tokens") -> ImageFeatures:
        """Encode images (B, 3, H, W) as pooled (B, D) and local (B, M, D) features, M = (H/32) * (W/32).

        Parameters
        ----------
        x
            Normalised images.
        kind
            "tokens": every place asks the attention pool, as in PLOT.  "value": every place attends to itself only,
            which leaves the value and output projections.  "content", "vv", "vv_plain": the same without the positions
            that the pool adds.  The pooled feature is the same.
        """
        return self.attnpool.forward_dense(self.feature_map(x), kind)


# --- the whole ------------------------------------------------------------------------------------------

class CLIP(nn.Module):
    """Image and text encoder into one space of width `embed_dim`.

    A new model is initialised for training from scratch; `build_model` makes one from published weights.

    Parameters
    ----------
    embed_dim
        Width D of the joint space.
    image_resolution
        Side of the images in pixels.
    vision_layers
        Number of layers of a ViT, or the four stage lengths of a ResNet.
    vision_width
        Token width of a ViT, or channels after a ResNet's stem.
    vision_patch_size
        Side of a ViT's patches in pixels; None for a ResNet.
    context_length
        Most tokens of a text, with start and end; 77 in all releases.
    vocab_size
        Rows of the token embedding.
    transformer_width, transformer_heads, transformer_layers
        Of the text encoder.
    activation
        Of all MLPs: a key of `clip.vit.ACTIVATIONS`.
    """

    def __init__(self, embed_dim: int, image_resolution: int, vision_layers: Sequence[int] | int,
                 vision_width: int, vision_patch_size: int | None, context_length: int, vocab_size: int,
                 transformer_width: int, transformer_heads: int, transformer_layers: int,
                 activation: str = "quick_gelu"):
        super().__init__()
        self.context_length = context_length
        self.vocab_size = vocab_size
        self.activation = activation
        self.pixel_mean: tuple[float, ...] = PIXEL_MEAN  # what images are normalised with
        self.pixel_std: tuple[float, ...] = PIXEL_STD
        self.interpolation, self.resize_mode = "bicubic", "shortest"  # of the shorter side; then the centre
        self.logit_bias: nn.Parameter | None = None  # of models trained with a sigmoid, see clip/openclip/model.py
        self.visual: ModifiedResNet | VisionTransformer
        if isinstance(vision_layers, int):
            assert vision_patch_size is not None, "a ViT needs vision_patch_size"
            self.visual = VisionTransformer(image_resolution, vision_patch_size, vision_width, vision_layers,
                                            vision_width // HEAD_WIDTH, embed_dim, activation)
        else:
            self.visual = ModifiedResNet(vision_layers, embed_dim, vision_width * 32 // HEAD_WIDTH,
                                         image_resolution, vision_width)
        self.transformer = Transformer(transformer_width, transformer_layers, transformer_heads,
                                       self.build_attention_mask(), activation)
        self.token_embedding = nn.Embedding(vocab_size, transformer_width)
        self.positional_embedding = nn.Parameter(torch.empty(context_length, transformer_width))
        self.ln_final = LayerNorm(transformer_width)
        self.text_projection = nn.Parameter(torch.empty(transformer_width, embed_dim))
        self.logit_scale = nn.Parameter(torch.ones([]) * math.log(1 / 0.07))
        self.initialize_parameters()

    def initialize_parameters(self) -> None:
        """Draw random weights in the original's scales: small embeddings, residual branches near zero."""
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.positional_embedding, std=0.01)
        if isinstance(self.visual, ModifiedResNet):
            pool = self.visual.attnpool
            for projection in (pool.q_proj, pool.k_proj, pool.v_proj, pool.c_proj):
                nn.init.normal_(projection.weight, std=pool.c_proj.in_features**-0.5)
            for name, parameter in self.visual.named_parameters():
                if name.startswith("layer") and name.endswith("bn3.weight"):
                    nn.init.zeros_(parameter)
        width, layers = self.transformer.width, self.transformer.layers
        for block in self.transformer.resblocks:
            nn.init.normal_(block.attn.in_proj_weight, std=width**-0.5)
            nn.init.normal_(block.attn.out_proj.weight, std=width**-0.5 * (2 * layers) ** -0.5)
            nn.init.normal_(block.mlp.c_fc.weight, std=(2 * width) ** -0.5)
            nn.init.normal_(block.mlp.c_proj.weight, std=width**-0.5 * (2 * layers) ** -0.5)
        nn.init.normal_(self.text_projection, std=width**-0.5)

    def build_attention_mask(self) -> Tensor:
        """Build the additive causal mask (L, L) on the CPU: -inf strictly above the diagonal."""
        size = (self.context_length, self.context_length)
        return torch.full(size, float("-inf"), device="cpu").triu_(1)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the image encoder's first weights; ask again after `.float()` or `.half()`."""
        return self.visual.dtype

    @property
    def tokens(self) -> Tokens:
        """The tokenizer that the text encoder was trained with."""
        return ClipTokens(self.context_length)

    def encode_image(self, image: Tensor) -> Tensor:
        """Encode images (B, 3, H, W) as features (B, D), not normalised."""
        return self.visual(image.to(self.dtype))

    def encode_image_dense(self, image: Tensor, kind: str = "tokens") -> ImageFeatures:
        """Encode images (B, 3, H, W) as pooled (B, D) and local (B, M, D) features, not normalised."""
        return self.visual.forward_dense(image.to(self.dtype), kind)

    def encode_text(self, text: Tensor) -> Tensor:
        """Encode token ids (B, L), padded with 0, as features (B, D), not normalised.

        They are read at the end-of-text token, which has the largest id.  Attention is causal, so what follows the last
        end-of-text of the batch cannot matter and is not computed.
        """
        end = text.argmax(dim=-1)
        text = text[:, : int(end.max()) + 1]
        x = self.token_embedding(text).to(self.dtype)
        x = x + self.positional_embedding[: text.shape[1]].to(x.dtype)
        x = self.transformer(x.transpose(0, 1))  # (L, B, E)
        x = x[end, torch.arange(len(end), device=end.device)]
        return self.ln_final(x).to(self.dtype) @ self.text_projection

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Compare images with texts.

        Returns
        -------
        tuple of Tensor
            Cosines times exp(logit_scale): logits per image (B_image, B_text), and their transpose.
        """
        image_features = F.normalize(self.encode_image(image), dim=-1)
        text_features = F.normalize(self.encode_text(text), dim=-1)
        logits = self.logit_scale.exp() * image_features @ text_features.T
        return logits, logits.T

    def lower(self, dtype: torch.dtype) -> None:
        """Convert the weights that `convert_weights` makes fp16 to `dtype`, fp16 or bf16, in place."""
        convert_weights(self)
        for parameter in self.parameters():
            if parameter.dtype == torch.float16:
                parameter.data = parameter.data.to(dtype)


# --- precision, and the way back from a state dict ------------------------------------------------------

def convert_weights(model: nn.Module) -> None:
    """Make matrix weights fp16, in place; embeddings, normalisations and the temperature stay as they are.

    These are the weights that OpenAI stores in fp16: of convolutions, linear layers and attention, and the matrices
    called `text_projection` and `proj`.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
            names: tuple[str, ...] = ("weight", "bias")
        elif isinstance(module, nn.MultiheadAttention):
            names = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight", "in_proj_bias",
                     "bias_k", "bias_v")
        else:
            names = ("text_projection", "proj")
        for name in names:
            tensor = getattr(module, name, None)
            if isinstance(tensor, nn.Parameter):
                tensor.data = tensor.data.half()


def check_keys(state_dict: Mapping[str, Tensor], model: nn.Module, what: str) -> None:
    """Compare a state dict with the model that it is to be loaded into.

    Parameters
    ----------
    state_dict
        What was read.
    model
        What it should fit, by names and shapes.
    what
        How to call the model in the message.

    Raises
    ------
    RuntimeError
        Naming the first missing, unexpected and mis-shaped entries, if there are any.
    """
    expected = model.state_dict()
    common = [key for key in expected if key in state_dict]
    complaints = {
        "missing": [key for key in expected if key not in state_dict],
        "unexpected": [key for key in state_dict if key not in expected],
        "of the wrong shape": [f"{key} {tuple(state_dict[key].shape)}, expected {tuple(expected[key].shape)}"
                               for key in common if state_dict[key].shape != expected[key].shape],
    }
    misfits = [f"{len(keys)} {kind} ({'; '.join(keys[:3])}{'; ...' if len(keys) > 3 else ''})"
               for kind, keys in complaints.items() if keys]
    if misfits:
        raise RuntimeError(f"the state dict looks like a CLIP with a {what}, but its entries do not fit: "
                           f"{', '.join(misfits)}")


def build_model(state_dict: Mapping[str, Tensor], activation: str = "quick_gelu",
                convert: bool = True) -> CLIP:
    """Build the model that a state dict in OpenAI's layout belongs to: strictly, on the CPU, in eval mode.

    Parameters
    ----------
    state_dict
        Neither changed nor aliased.  Sizes are read off the entries; BatchNorm counters may be missing.
    activation
        Of the MLPs, which the entries do not tell.
    convert
        Whether weights become fp16 where OpenAI's are (before loading); False loads everything as float32.

    Raises
    ------
    KeyError, ValueError, RuntimeError
        If the entries do not fit; the message says what was recognised.
    """
    weights = {key: value for key, value in state_dict.items() if key not in SIZE_KEYS}
    sizes = sizes_of(weights)
    with torch.device("meta"):  # no time spent on random numbers that the weights replace
        model = CLIP(**sizes, activation=activation)
    for key in model.state_dict():
        if key.endswith("num_batches_tracked"):
            weights.setdefault(key, torch.tensor(0))
    check_keys(weights, model, describe(sizes))
    if convert:
        convert_weights(model)
    model.to_empty(device="cpu")
    model.load_state_dict(weights)
    return model.eval()
