"""The original algorithm in plain code: what the fast paths are measured against, and tested against.

It computes what the published implementations of PLOT and PLOT++ compute, with their layouts of tensors and their order
of operations, on our model: every prompt goes through all 77 positions of the text tower, every image through the whole
image tower, and Sinkhorn's algorithm scales the kernel itself, asking the host after every iteration whether to stop.

Axes: B images, C classes, N prompts, M local features (or visual prompts), D feature width, E token width.

References
----------
.. [1] Chen et al., "PLOT: Prompt Learning with Optimal Transport for Vision-Language Models", ICLR 2023.
.. [2] Cuturi, "Sinkhorn Distances: Lightspeed Computation of Optimal Transport", NeurIPS 2013.
"""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from clip.model import CLIP
from clip.prompt_text import TextEncoder, encode_full
from clip.vit import VisionTransformer
from trainers.parts.prompts import ContextLearner
from trainers.plotpp.prompts import TwoSidedPromptLearner


def text_features(text: TextEncoder, learner: ContextLearner, classes: Tensor | None = None) -> Tensor:
    """Encode every prompt through all 77 positions of the tower.

    Parameters
    ----------
    text : TextEncoder
        The text tower.
    learner : ContextLearner
        What makes the prompts.
    classes : Tensor, optional
        Indices of classes; by default all.

    Returns
    -------
    Tensor (N, C, D)
        Not normalised.
    """
    by_prompt = (learner.n_prompts, -1)
    prompts, end = learner.full_prompts().unflatten(0, by_prompt), learner.ends().unflatten(0, by_prompt)  # (N, C, ...)
    if classes is not None:
        prompts, end = prompts[:, classes], end[:, classes]
    return encode_full(text, prompts.flatten(0, 1), end.flatten()).unflatten(0, by_prompt)


def seen_under(visual: VisionTransformer, images: Tensor, prompts: Tensor) -> Tensor:
    """Encode images under each of M visual prompts: M * B images through the whole tower.

    Parameters
    ----------
    visual : VisionTransformer
        The image tower.
    images : Tensor (B, 3, H, W)
        Pixels.
    prompts : Tensor (M, V, E)
        V tokens each, put behind the patches.

    Returns
    -------
    Tensor (B, M, D)
        What the first token of each says.
    """
    embedded = visual.embed(images)  # (B, 1 + P, E)
    tokens = torch.cat([
        embedded.expand(len(prompts), -1, -1, -1), prompts[:, None].expand(-1, len(images), -1, -1)
    ], dim=2)  # (M, B, 1 + P + V, E)
    out = visual.transformer(visual.ln_pre(tokens.flatten(0, 1)).transpose(0, 1))
    return visual.head(out[0]).unflatten(0, (len(prompts), -1)).transpose(0, 1)


def sinkhorn(
    cost: Tensor, epsilon: float, max_iterations: int = 100, threshold: float = 1e-2
) -> tuple[Tensor, int]:
    """Solve entropic transport by scaling K = exp(-cost / epsilon) itself, with uniform weights on both sides.

    Parameters
    ----------
    cost : Tensor (G, M, N)
        Costs of G independent problems.
    epsilon : float
        Weight of the entropy, in the unit of `cost`; below 1/80 or so float32's K has zeros.
    max_iterations : int
        At most so many.
    threshold : float
        Stop where the mean change of r over all problems is less.

    Returns
    -------
    tuple
        Plans (G, M, N), and the number of iterations.
    """
    kernel = torch.exp(-cost / epsilon)
    groups, rows, columns = kernel.shape
    # the plan is diag(r) K diag(c): scale its rows to sum to 1 / M, then its columns to 1 / N, again and again
    r, c = cost.new_ones(groups, rows), cost.new_ones(groups, columns)
    iteration = 0
    while iteration < max_iterations:
        iteration += 1
        before = r
        r = (1 / rows) / torch.matmul(kernel, c.unsqueeze(-1)).squeeze(-1)
        c = (1 / columns) / torch.matmul(kernel.transpose(1, 2).contiguous(), r.unsqueeze(-1)).squeeze(-1)
        if (r - before).abs().mean().item() < threshold:
            break
    return torch.matmul(r.unsqueeze(-1), c.unsqueeze(-2)) * kernel, iteration


def scores(local: Tensor, text: Tensor, epsilon: float = 0.1) -> Tensor:
    """Return the transported similarity (B, C) of images and classes.

    As in the original the similarities are laid out (M, N, B, C), and the problems (B * C, M, N) are a view of them.

    Parameters
    ----------
    local : Tensor (B, M, D)
        Local features of the images, of unit length.
    text : Tensor (N, C, D)
        Features of the prompts, of unit length.
    epsilon : float
        Weight of the entropy, in units of the cosine distance.
    """
    return scores_of(torch.einsum("mbd,ncd->mnbc", local.transpose(0, 1), text).contiguous(), epsilon)


def scores_of(similarity: Tensor, epsilon: float = 0.1) -> Tensor:
    """Return what `scores` does, from similarities (M, N, B, C).

    The plan is held fixed in the backward pass.

    Raises
    ------
    FloatingPointError
        Where a plan is not a number.
    """
    places, prompts, images, classes = similarity.shape
    problems = similarity.view(places, prompts, images * classes).permute(2, 0, 1)
    with torch.no_grad():
        plan, _ = sinkhorn(1 - problems, epsilon)
        if torch.isnan(plan).any():
            raise FloatingPointError("a plan is not a number: here the original gives up")
    return (plan * problems).sum(dim=(1, 2)).view(images, classes)


def logits(model: CLIP, text: TextEncoder, learner: ContextLearner, images: Tensor) -> Tensor:
    """Return the logits (B, C) of images (B, 3, H, W); everything is encoded, every time.

    With visual prompts (PLOT++) an image is the set of what is seen under each, and else (PLOT) of its local features.
    """
    prompts = text_features(text, learner)
    if isinstance(learner, TwoSidedPromptLearner):
        assert isinstance(model.visual, VisionTransformer)
        local = seen_under(model.visual, images, learner.ctx_vision)
    else:
        with torch.no_grad():
            local = model.visual.forward_dense(images).local
    return model.logit_scale.exp() * scores(F.normalize(local, dim=-1), F.normalize(prompts, dim=-1))
