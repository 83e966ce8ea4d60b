"""The original algorithm, written plainly: what the fast paths are measured against, and tested against."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from clip.prompt_text import TextEncoder, encode_full
from trainers.prompts import PromptLearner


def text_features(text: TextEncoder, learner: PromptLearner) -> Tensor:
    """Every prompt of every class through all 77 positions of the tower -> (N, C, D)."""
    end = learner.end.repeat(learner.n_prompts)
    return encode_full(text, learner.full_prompts(), end).unflatten(0, (learner.n_prompts, -1))


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
    images, places = local.shape[:2]
    prompts, classes = text.shape[:2]
    similarity = torch.einsum("mbd,ncd->mnbc", local.transpose(0, 1), text).contiguous()
    similarity = similarity.view(places, prompts, images * classes).permute(2, 0, 1)
    with torch.no_grad():
        plan, _ = sinkhorn(1 - similarity, epsilon)
        if torch.isnan(plan).any():
            raise FloatingPointError("the original gives up here")
    return (plan * similarity).sum(dim=(1, 2)).view(images, classes)


def logits(local: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    """(B, C), from features that are not normalised yet."""
    return scale.exp() * scores(F.normalize(local, dim=-1), F.normalize(text, dim=-1))
