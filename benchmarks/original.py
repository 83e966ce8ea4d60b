"""The original algorithm, written plainly: what the fast paths are measured against, and tested against."""
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
    """Every prompt through all 77 positions of the tower -> (N, C, D), of all classes or of those at some indices."""
    by_prompt = (learner.n_prompts, -1)
    prompts, end = learner.full_prompts().unflatten(0, by_prompt), learner.ends().unflatten(0, by_prompt)  # (N, C, ...)
    if classes is not None:
        prompts, end = prompts[:, classes], end[:, classes]
    return encode_full(text, prompts.flatten(0, 1), end.flatten()).unflatten(0, by_prompt)


def seen_under(visual: VisionTransformer, images: Tensor, prompts: Tensor) -> Tensor:
    """Features (B, M, D) of images (B, 3, H, W) under M visual prompts (M, V, E): M * B images through the whole tower,
    of which the first token is read."""
    embedded = visual.embed(images)  # (B, 1 + P, E)
    tokens = torch.cat([
        embedded.expand(len(prompts), -1, -1, -1), prompts[:, None].expand(-1, len(images), -1, -1)
    ], dim=2)  # (M, B, 1 + P + V, E)
    out = visual.transformer(visual.ln_pre(tokens.flatten(0, 1)).transpose(0, 1))
    return visual.head(out[0]).unflatten(0, (len(prompts), -1)).transpose(0, 1)


def sinkhorn(
    cost: Tensor, epsilon: float, max_iterations: int = 100, threshold: float = 1e-2
) -> tuple[Tensor, int]:
    """Plans of all problems by scaling K = exp(-cost / epsilon) itself, in batched products of a matrix and a vector,
    with one decision on the host per iteration; cost (G, M, N) -> (plan (G, M, N), iterations)."""
    kernel = torch.exp(-cost / epsilon)
    groups, rows, columns = kernel.shape
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
    """Transported similarity; local (B, M, D), text (N, C, D), unit length -> (B, C).

    As in the original the similarities are laid out (M, N, B, C), and the problems (B * C, M, N) are a view of them.
    """
    return scores_of(torch.einsum("mbd,ncd->mnbc", local.transpose(0, 1), text).contiguous(), epsilon)


def scores_of(similarity: Tensor, epsilon: float = 0.1) -> Tensor:
    """The same from similarities (M, N, B, C) -> (B, C)."""
    places, prompts, images, classes = similarity.shape
    problems = similarity.view(places, prompts, images * classes).permute(2, 0, 1)
    with torch.no_grad():
        plan, _ = sinkhorn(1 - problems, epsilon)
        if torch.isnan(plan).any():
            raise FloatingPointError("a plan is not a number: here the original gives up")
    return (plan * problems).sum(dim=(1, 2)).view(images, classes)


def logits(model: CLIP, text: TextEncoder, learner: ContextLearner, images: Tensor) -> Tensor:
    """images (B, 3, H, W) -> (B, C): everything is encoded, every time.  With visual prompts (PLOT++) an image is the
    set of what is seen under each, and else (PLOT) of its local features."""
    prompts = text_features(text, learner)
    if isinstance(learner, TwoSidedPromptLearner):
        assert isinstance(model.visual, VisionTransformer)
        local = seen_under(model.visual, images, learner.ctx_vision)
    else:
        with torch.no_grad():
            local = model.visual.forward_dense(images).local
    return model.logit_scale.exp() * scores(F.normalize(local, dim=-1), F.normalize(prompts, dim=-1))
