"""What is measured: a training step of PLOT and its parts, at the sizes of real models with random weights."""
from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from clip.frozen import freeze_image_tower
from clip.model import CLIP
from clip.prompt_text import TextEncoder
from trainers.parts.prompts import ContextLearner, PromptLearner
from trainers.plot.model import PlotModel
from trainers.plot.transport import Transport, transported
from trainers.plotpp.model import PlotPPModel
from trainers.plotpp.prompts import TwoSidedPromptLearner, start_at_random

from . import original
from .measure import Step

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "RN50": {"embed_dim": 1024, "vision_layers": (3, 4, 6, 3), "vision_width": 64, "vision_patch_size": None},
    "ViT-B/16": {"embed_dim": 512, "vision_layers": 12, "vision_width": 768, "vision_patch_size": 16},
    "ViT-B/32": {"embed_dim": 512, "vision_layers": 12, "vision_width": 768, "vision_patch_size": 32},
}
PLOTPP = {"backbone": "ViT-B/16", "context": 4, "batch": 4}  # what its subjects differ in, where nothing else is asked
VISUAL_PROMPTS, VISUAL_TOKENS = 4, 2  # as published
RESOLUTION = 224
WORDS = "red small old wild great golden river mountain house cat falcon engine lily pepper bridge sailing".split()
PIECE = 100  # classes that the old text path encodes at a time: more would not fit into 24 GB


def class_names(count: int) -> list[str]:
    """Distinct made-up names, of one, two and three words in turns (two, once the single words are used up)."""
    by_length = [itertools.permutations(WORDS, k) for k in (1, 2, 3)]
    names = (next(by_length[c % 3], ()) or next(by_length[1], ()) or next(by_length[2]) for c in range(count))
    return [" ".join(words) for words in names]


def clip_model(backbone: str, with_images: bool = True) -> CLIP:
    """Random weights in the sizes of a published model; without images, the image tower is the smallest there is."""
    torch.manual_seed(0)
    vision = ARCHITECTURES[backbone]
    if not with_images:
        vision = vision | {"vision_layers": 1, "vision_width": 64, "vision_patch_size": RESOLUTION}
    text: dict[str, Any] = {"context_length": 77, "vocab_size": 49408, "transformer_width": 512, "transformer_heads": 8}
    model = CLIP(image_resolution=RESOLUTION, **vision, **text, transformer_layers=12)
    return model.float().requires_grad_(False).eval()


def learner_of(model: CLIP, classes: int, prompts: int, context: int) -> PromptLearner:
    generator = torch.Generator().manual_seed(1)
    return PromptLearner(class_names(classes), model, n_context=context, n_prompts=prompts, generator=generator)


# --- subjects --------------------------------------------------------------------------------------------


def text(side: str, backbone: str, classes: int, prompts: int, context: int, batch: int) -> Step:
    """The text tower for all prompts, forwards, and back to the gradient of the context."""
    model = clip_model(backbone, with_images=False)
    learner, tower = learner_of(model, classes, prompts, context), TextEncoder(model)
    weights = torch.randn(prompts, classes, model.text_projection.shape[1])

    def new() -> list[Tensor]:
        features = tower(learner())
        return [features.detach(), *torch.autograd.grad((features * weights).sum(), learner.ctx)]

    def old() -> list[Tensor]:
        found, gradient = [], torch.zeros_like(learner.ctx)
        for part in torch.arange(classes).split(PIECE):
            features = original.text_features(tower, learner, part)
            gradient += torch.autograd.grad((features * weights[:, part]).sum(), learner.ctx)[0]
            found.append(features.detach())
        return [torch.cat(found, dim=1), gradient]

    return new if side == "new" else old


def transport(side: str, backbone: str, classes: int, prompts: int, context: int, batch: int) -> Step:
    """From features to scores, and back to the gradient of the text features."""
    local, prompt_features = _features(backbone, classes, prompts, batch)
    score: Callable[[Tensor, Tensor], Tensor] = Transport().score if side == "new" else original.scores
    return _loss_step(lambda: score(local, prompt_features), prompt_features, batch)


def matching(side: str, backbone: str, classes: int, prompts: int, context: int, batch: int) -> Step:
    """The same without the product of the features: from similarities to scores, and back to their gradient."""
    local, prompt_features = _features(backbone, classes, prompts, batch)
    if side == "new":
        similarity = torch.einsum("bmd,ncd->ncbm", local, prompt_features.detach()).contiguous().requires_grad_()
        transport = Transport()
        step = _loss_step(lambda: transported(similarity, transport.solve(similarity).plan), similarity, batch)


        def in_the_original_layout() -> list[Tensor]:
            result, gradient = step()  # (N, C, B, M) -> (M, N, B, C)
            return [result, gradient.permute(3, 0, 2, 1)]

        return in_the_original_layout
    similarity = torch.einsum("bmd,ncd->mnbc", local, prompt_features.detach()).contiguous().requires_grad_()
    return _loss_step(lambda: original.scores_of(similarity), similarity, batch)


def training_step(
    side: str, backbone: str, classes: int, prompts: int, context: int, batch: int, kept_views: bool = False
) -> Step:
    """Images, text, transport, loss, and back to the gradient of the context; with `kept_views` the new side has the
    features of its images already."""
    model = clip_model(backbone)
    learner = learner_of(model, classes, prompts, context)
    return _whole_step(side, PlotModel, model, learner, batch, kept_views)


def prompted_step(side: str, update: str, backbone: str, classes: int, prompts: int, context: int, batch: int) -> Step:
    """PLOT++: images under four visual prompts, text, transport, loss, and back to the gradients of both contexts
    (update "joint", the second stage) or of the visual prompts alone ("vision", the first)."""
    model, generator = clip_model(backbone), torch.Generator().manual_seed(1)
    start = start_at_random(context, prompts, class_names(classes), model, generator)
    learner = TwoSidedPromptLearner(model, start, VISUAL_PROMPTS, VISUAL_TOKENS, generator=generator)
    learner.ctx.requires_grad_(update == "joint")
    return _whole_step(side, PlotPPModel, model, learner, batch)


def _whole_step(
    side: str, kind: Callable[..., Any], model: CLIP, learner: ContextLearner, batch: int, kept_views: bool = False
) -> Step:
    images = torch.randn(batch, 3, RESOLUTION, RESOLUTION)
    if side == "new":
        freeze_image_tower(model.visual)
        ours = kind(learner, model, Transport())
        seen = ours.encode(images) if kept_views else images
        forward = lambda: ours(seen)  # noqa: E731
    else:
        tower = TextEncoder(model)
        forward = lambda: original.logits(model, tower, learner, images)  # noqa: E731
    learned = [parameter for parameter in learner.parameters() if parameter.requires_grad]
    return _loss_step(forward, learned, batch, scale=1.0)


def _features(backbone: str, classes: int, prompts: int, batch: int) -> tuple[Tensor, Tensor]:
    """Local (B, M, D) and text (N, C, D) features of unit length, as alike as CLIP's."""
    torch.manual_seed(0)
    width, places = (1024, 49) if backbone == "RN50" else (512, 196)
    common = 0.5 * torch.randn(width)
    local = F.normalize(torch.randn(batch, places, width) + common, dim=-1)
    return local, F.normalize(torch.randn(prompts, classes, width) + common, dim=-1).requires_grad_()


def _loss_step(scores: Callable[[], Tensor], of: Tensor | Sequence[Tensor], batch: int, scale: float = 100.0) -> Step:
    def step() -> list[Tensor]:
        result = scale * scores()
        labels = torch.arange(batch) % result.shape[1]
        return [result.detach(), *torch.autograd.grad(F.cross_entropy(result, labels), of)]

    return step
