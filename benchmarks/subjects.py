"""What is measured: training steps and their parts, at the sizes of real models with random weights.

Every subject takes the side ("old" or "new") and the `Sizes`, and returns a step that computes a result and a gradient.
Both sides have the same weights, images and names, so that their results can be compared. Numbers do not depend on what
the weights are; only the transport's count of iterations does, and there the features are made as alike as CLIP's.
"""
from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from clip.frozen import freeze_image_tower
from clip.model import CLIP
from clip.prompt_text import TextEncoder
from trainers.local.model import GlobalLocalModel
from trainers.local.options import GalLoPOptions, SotGlpOptions
from trainers.local.prompts import GlobalLocalLearner
from trainers.parts.local_projection import place_width
from trainers.parts.prompts import ContextLearner, PromptLearner
from trainers.plot.model import PlotModel
from trainers.plot.transport import Transport, transported
from trainers.plotpp.model import PlotPPModel
from trainers.plotpp.prompts import TwoSidedPromptLearner, start_at_random

from . import original, original_local
from .measure import Step
from .original_local import GALLOP, SOTGLP
from .sizes import ARCHITECTURES, RESOLUTION, TEXT_TOWER, Sizes

VISUAL_PROMPTS, VISUAL_TOKENS = 4, 2  # as published
WORDS = "red small old wild great golden river mountain house cat falcon engine lily pepper bridge sailing".split()
PIECE = 100  # classes that the old text path encodes at a time: more would not fit into 24 GB


def class_names(count: int) -> list[str]:
    """Make distinct names, of one, two and three words in turns; of what is left when those of a length are used up."""
    by_length = [itertools.permutations(WORDS, k) for k in (1, 2, 3, 4)]

    def name(c: int) -> str:
        return " ".join(next(itertools.chain(by_length[c % 3], *by_length[1:])))

    return [name(c) for c in range(count)]


def clip_model(backbone: str, with_images: bool = True) -> CLIP:
    """Make a CLIP of a published model's sizes, float32, frozen, with random weights that are always the same.

    Parameters
    ----------
    backbone : str
        One of `ARCHITECTURES`.
    with_images : bool
        Off: the image tower is the smallest there is, for what only encodes text.
    """
    torch.manual_seed(0)
    vision = ARCHITECTURES[backbone]
    if not with_images:
        vision = vision | {"vision_layers": 1, "vision_width": 64, "vision_patch_size": RESOLUTION}
    model = CLIP(image_resolution=RESOLUTION, **TEXT_TOWER | vision)
    return model.float().requires_grad_(False).eval()


def learner_of(model: CLIP, sizes: Sizes) -> PromptLearner:
    """Make the learned context of C made-up classes with N prompts each."""
    generator = torch.Generator().manual_seed(1)
    names = class_names(sizes.classes)
    return PromptLearner(names, model, n_context=sizes.context, n_prompts=sizes.prompts, generator=generator)


# --- subjects --------------------------------------------------------------------------------------------


def text(side: str, sizes: Sizes) -> Step:
    """Encode all prompts: features (N, C, D), and the gradient of the context."""
    model = clip_model(sizes.backbone, with_images=False)
    learner, tower = learner_of(model, sizes).to(sizes.device), TextEncoder(model).to(sizes.device)
    weights = torch.randn(sizes.prompts, sizes.classes, model.text_projection.shape[1])  # of a made-up loss
    weights = weights.to(sizes.device)

    def new() -> list[Tensor]:
        features = tower(learner())
        return [features.detach(), *torch.autograd.grad((features * weights).sum(), learner.ctx)]

    def old() -> list[Tensor]:
        pieces, gradient = [], torch.zeros_like(learner.ctx)
        for classes in torch.arange(sizes.classes).split(PIECE):
            features = original.text_features(tower, learner, classes)
            gradient += torch.autograd.grad((features * weights[:, classes]).sum(), learner.ctx)[0]
            pieces.append(features.detach())
        return [torch.cat(pieces, dim=1), gradient]

    return new if side == "new" else old


def transport(side: str, sizes: Sizes) -> Step:
    """From features to scores (B, C), and the gradient of the text features."""
    local, prompts = _features(sizes)
    score: Callable[[Tensor, Tensor], Tensor] = Transport().score if side == "new" else original.scores
    return _loss_step(lambda: score(local, prompts), prompts)


def matching(side: str, sizes: Sizes) -> Step:
    """From similarities to scores (B, C), without the product of the features, and the similarities' gradient.

    Each side has the similarities in its own layout; what is compared is in the original's, (M, N, B, C).
    """
    local, prompts = _features(sizes)
    layout = "ncbm" if side == "new" else "mnbc"
    similarity = torch.einsum(f"bmd,ncd->{layout}", local, prompts.detach()).contiguous().requires_grad_()
    if side == "old":
        return _loss_step(lambda: original.scores_of(similarity), similarity)
    solve = Transport().solve
    step = _loss_step(lambda: transported(similarity, solve(similarity).plan), similarity)

    def in_the_original_layout() -> list[Tensor]:
        result, gradient = step()
        return [result, gradient.permute(3, 0, 2, 1)]  # (N, C, B, M) -> (M, N, B, C)

    return in_the_original_layout


def training_step(side: str, sizes: Sizes, kept_views: bool = False) -> Step:
    """PLOT: images, text, transport, loss, and the gradient of the context.

    With `kept_views` the new side has the features of its images already, as where they are kept between epochs.
    """
    model = clip_model(sizes.backbone)
    return _whole_step(side, PlotModel, model, learner_of(model, sizes), sizes, kept_views)


def prompted_step(side: str, sizes: Sizes, update: str) -> Step:
    """PLOT++: images under four visual prompts, text, transport, loss, and gradients.

    They are those of both contexts (update "joint", the second stage) or of the visual prompts alone ("vision", the
    first).
    """
    model, generator = clip_model(sizes.backbone), torch.Generator().manual_seed(1)
    start = start_at_random(sizes.context, sizes.prompts, class_names(sizes.classes), model, generator)
    learner = TwoSidedPromptLearner(model, start, VISUAL_PROMPTS, VISUAL_TOKENS, generator=generator)
    learner.ctx.requires_grad_(update == "joint")
    return _whole_step(side, PlotPPModel, model, learner, sizes)


def local_step(side: str, sizes: Sizes, method: str) -> Step:
    """GalLoP or SOT-GLP: images, text, both branches, the sum of their losses, backward pass and optimiser's step.

    Settings are the published ones, with the sizes' number of local prompts; contexts start at random, so that no two
    prompts are equal. The results are logits and gradients of the contexts and the map of the places.
    """
    options: GalLoPOptions = GalLoPOptions() if method == GALLOP else SotGlpOptions()
    counts = options.top_k if method == SOTGLP else tuple(5 * n for n in range(1, sizes.prompts + 1))
    options = replace(options, n_local=sizes.prompts, top_k=counts)
    model = clip_model(sizes.backbone)
    learner = GlobalLocalLearner(
        class_names(sizes.classes), model, options.n_global, options.n_local, options.class_specific, init="",
        n_context=sizes.context, local_start=options.local_start, place_width=place_width(model.visual),
        generator=torch.Generator().manual_seed(1),
    )  # fmt: skip
    model, learner = model.to(sizes.device), learner.to(sizes.device)
    images = torch.randn(sizes.batch, 3, RESOLUTION, RESOLUTION).to(sizes.device)
    labels = torch.arange(sizes.batch, device=sizes.device) % sizes.classes
    learned = list(learner.parameters())
    optimiser = torch.optim.SGD(learned, lr=0.002, momentum=0.9, weight_decay=0.01)

    def finish(loss: Tensor, logits: Tensor) -> list[Tensor]:
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return [logits.detach(), *(parameter.grad for parameter in learned if parameter.grad is not None)]

    tower = TextEncoder(model)

    def old() -> list[Tensor]:
        torch.manual_seed(0)  # both sides drop the same global prompts
        out = original_local.forward(method, model, tower, learner, images, options.top_k)
        scale = model.logit_scale.exp()
        whole, local = original_local.losses(out, labels, scale, options.dropout)
        return finish(whole + local, original_local.logits(out, scale))

    if side == "old":
        return old
    freeze_image_tower(model.visual)
    ours = GlobalLocalModel(
        learner, model, options.transport(), options.dense, options.dropout, options.replace,
        every_prompt=options.local_loss == "each", divided=options.local_scale == "divided",
    )  # fmt: skip

    def new() -> list[Tensor]:
        torch.manual_seed(0)
        branches = ours.branches(ours.encode(images))
        whole, local = ours.losses(branches, labels)
        return finish(whole + local, ours.logits(branches.whole.mean(dim=2), branches.local.mean(dim=2)))

    return new


def _whole_step(
    side: str, kind: Callable[..., Any], model: CLIP, learner: ContextLearner, sizes: Sizes, kept_views: bool = False
) -> Step:
    images = torch.randn(sizes.batch, 3, RESOLUTION, RESOLUTION)
    model, learner, images = model.to(sizes.device), learner.to(sizes.device), images.to(sizes.device)
    learned = [parameter for parameter in learner.parameters() if parameter.requires_grad]
    if side == "old":
        tower = TextEncoder(model)
        return _loss_step(lambda: original.logits(model, tower, learner, images), learned, scale=1.0)
    freeze_image_tower(model.visual)
    ours = kind(learner, model, Transport())
    seen = ours.encode(images) if kept_views else images
    return _loss_step(lambda: ours(seen), learned, scale=1.0)


def _features(sizes: Sizes) -> tuple[Tensor, Tensor]:
    """Make local (B, M, D) and text (N, C, D) features of unit length, as alike as CLIP's."""
    torch.manual_seed(0)
    width, places = (1024, 49) if sizes.backbone == "RN50" else (512, 196)
    common = 0.5 * torch.randn(width)  # CLIP's features lie in a narrow cone
    local = F.normalize(torch.randn(sizes.batch, places, width) + common, dim=-1)
    text = F.normalize(torch.randn(sizes.prompts, sizes.classes, width) + common, dim=-1)
    return local.to(sizes.device), text.to(sizes.device).requires_grad_()


def _loss_step(scores: Callable[[], Tensor], of: Tensor | Sequence[Tensor], scale: float = 100.0) -> Step:
    """Make a step of scores (B, C), which `scale` makes logits, and of the cross entropy's gradients `of` tensors."""

    def step() -> list[Tensor]:
        result = scale * scores()
        labels = torch.arange(len(result), device=result.device) % result.shape[1]
        return [result.detach(), *torch.autograd.grad(F.cross_entropy(result, labels), of)]

    return step
