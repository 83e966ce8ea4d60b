"""GalLoP and SOT-GLP in plain code, as `original` has PLOT: what the model of both is measured and tested against.

Written from the published description of both programs. Every prompt goes through all 77 positions of the text tower;
the image tower computes its second path in every layer, though GalLoP reads the last one only; the cosines of all
places with all prompts of all classes are one tensor, and are all kept for the backward pass; and the transport of
SOT-GLP is `original.sinkhorn`. GalLoP's program computes the value path in the text tower, too, and SOT-GLP's in both
towers: nothing reads it, and it is left out.

Axes: B images, C classes, N local and G global prompts, M places, K selected places, D feature width, E width of a
ViT's tokens, L tokens.

References
----------
.. [1] Lafon et al., "GalLoP: Learning Global and Local Prompts for Vision-Language Models", ECCV 2024.
.. [2] "SOT-GLP", arXiv 2603.08347, 2026.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from clip.model import CLIP
from clip.prompt_text import TextEncoder
from clip.vit import VisionTransformer
from trainers.local.prompts import GlobalLocalLearner

from . import original

GALLOP, SOTGLP = "gallop", "sotglp"
ROWS = 400  # prompts of all classes whose activations are kept for the backward pass: 16 GB


class Forward(NamedTuple):
    """One forward pass.

    Attributes
    ----------
    whole
        (B, C, G) cosines of the pooled feature and the global prompts.
    similarity
        (B, M, C, N) cosines of the places and the local prompts.
    local
        Scores of the local branch: GalLoP (B, C, N), SOT-GLP (B, C).
    """

    whole: Tensor
    similarity: Tensor
    local: Tensor


# --- features --------------------------------------------------------------------------------------------


def dense_features(visual: VisionTransformer, images: Tensor, method: str) -> tuple[Tensor, Tensor]:
    """Encode images (B, 3, H, W) as pooled features (B, D), and places (B, M, E) before map and projection."""
    x = visual.ln_pre(visual.embed(images)).transpose(0, 1)  # (L, B, E), the class token first
    # SOT-GLP's program begins its second stream as the very tensor to which the first layer adds its attention
    first = visual.transformer.resblocks[0]
    stream = x + first.attention(first.ln_1(x)) if method == SOTGLP else x
    for block in visual.transformer.resblocks:
        normed = block.ln_1(x)
        if method == SOTGLP:  # of every layer the sum
            stream = stream + attended_by_values(block.attn, normed)
        else:  # of every layer the whole, and the last is read
            stream = x + block.attn.out_proj(values(block.attn, normed))
            stream = stream + block.mlp(block.ln_2(stream))
        x = block(x)
    return visual.ln_post(x[0]) @ visual.proj, visual.ln_post(stream[1:]).transpose(0, 1)


def values(attention: nn.MultiheadAttention, normed: Tensor) -> Tensor:
    """Project normalised tokens (L, B, E) to values, the heads side by side."""
    width = attention.embed_dim  # queries, keys and values stand below each other in the weight
    return F.linear(normed, attention.in_proj_weight[2 * width :], attention.in_proj_bias[2 * width :])


def attended_by_values(attention: nn.MultiheadAttention, normed: Tensor) -> Tensor:
    """Attention whose queries and keys are the values, with all weights (B, heads, L, L) in memory."""
    length, images, width = normed.shape
    v = values(attention, normed).view(length, images, attention.num_heads, -1).permute(1, 2, 0, 3)  # (B, H, L, d)
    weights = (v @ v.transpose(2, 3) / math.sqrt(v.shape[3])).softmax(dim=3)
    return attention.out_proj((weights @ v).permute(2, 0, 1, 3).reshape(length, images, width))


def text_features(text: TextEncoder, learner: GlobalLocalLearner) -> Tensor:
    """Encode all prompts, the global ones first: (G + N, C, D), not normalised.

    Where the activations would not fit into memory, classes are encoded in pieces, whose activations are computed again
    in the backward pass: the programs offer that, and their settings for ImageNet and SUN397 use it.
    """
    pieces = torch.arange(learner.n_classes).split(max(1, ROWS // learner.n_prompts))
    if len(pieces) == 1:
        return original.text_features(text, learner)
    encoded = [checkpoint(original.text_features, text, learner, piece, use_reentrant=False) for piece in pieces]
    return torch.cat(encoded, dim=1)


# --- scores ----------------------------------------------------------------------------------------------


def best_by_prompt(similarity: Tensor, counts: Sequence[int]) -> Tensor:
    """GalLoP: average the k_n best places of every image, class and prompt, each by itself: (B, M, C, N) -> (B, C, N).

    `counts` has k_n for each prompt, or one number for all.
    """
    places, prompts = similarity.shape[1], similarity.shape[3]
    counts = [*counts] * (prompts if len(counts) == 1 else 1)
    by_prompt = zip(similarity.unbind(dim=3), counts, strict=True)
    return torch.stack([cosines.topk(min(k, places), dim=1).values.mean(dim=1) for cosines, k in by_prompt], dim=2)


def transported_best(similarity: Tensor, count: int) -> Tensor:
    """SOT-GLP: transport between the K best places of an image and class, and its prompts: (B, M, C, N) -> (B, C).

    The prompts have the same places, those with the largest mean over them. The plan sums to 1, and its score is
    divided by N once more.
    """
    images, _, classes, prompts = similarity.shape
    chosen = similarity.mean(dim=3).topk(count, dim=1).indices  # (B, K, C)
    best = similarity.gather(1, chosen[..., None].expand(-1, -1, -1, prompts))  # (B, K, C, N)
    problems = best.permute(0, 2, 1, 3).reshape(images * classes, count, prompts)
    with torch.no_grad():
        plan, _ = original.sinkhorn(1 - problems, epsilon=0.1)
    return (plan * problems).sum(dim=(1, 2)).view(images, classes) / prompts


def forward(
    method: str, model: CLIP, text: TextEncoder, learner: GlobalLocalLearner, images: Tensor, top_k: Sequence[int]
) -> Forward:
    """Compute the cosines of both branches, and the local scores.

    Parameters
    ----------
    method
        GALLOP or SOTGLP.
    model, text, learner
        The frozen CLIP with a ViT, its text tower, and the contexts with the map of the places.
    images
        (B, 3, H, W).
    top_k
        Places that take part; of SOT-GLP the largest number counts.
    """
    visual, local_proj = model.visual, learner.local_proj
    assert isinstance(visual, VisionTransformer) and local_proj is not None
    with torch.no_grad():
        pooled, places = dense_features(visual, images, method)
    places = places @ local_proj.linear.weight.t() @ visual.proj  # (B, M, D)
    prompts = F.normalize(text_features(text, learner), dim=-1)
    whole = prompts[: learner.n_global]
    local = prompts[learner.n_global :] if learner.n_local else whole
    similarity = torch.einsum("bmd,ncd->bmcn", F.normalize(places, dim=-1), local).contiguous()
    score = best_by_prompt(similarity, top_k) if method == GALLOP else transported_best(similarity, max(top_k))
    return Forward(torch.einsum("bd,ncd->bcn", F.normalize(pooled, dim=-1), whole), similarity, score)


def losses(out: Forward, labels: Tensor, scale: Tensor, dropout: float) -> tuple[Tensor, Tensor]:
    """Compute the losses of the global and the local branch; draws which global prompts each image sees.

    Parameters
    ----------
    out
        A forward pass.
    labels
        (B,).
    scale
        exp(logit_scale).
    dropout
        Share of the global prompts that an image does not see.
    """
    images, classes, prompts = out.whole.shape
    keep = max(prompts - math.floor(dropout * prompts), 1)
    drawn = torch.randint(prompts, (images, 1, keep)).to(out.whole.device)  # for all classes; may draw one twice
    seen = out.whole.gather(2, drawn.expand(-1, classes, -1)).mean(dim=2)
    if out.local.dim() == 2:
        return F.cross_entropy(scale * seen, labels), F.cross_entropy(scale * out.local, labels)
    alone = [F.cross_entropy(scale * score, labels) for score in out.local.unbind(dim=2)]  # every prompt for itself
    return F.cross_entropy(scale * seen, labels), torch.stack(alone).mean()


def logits(out: Forward, scale: Tensor) -> Tensor:
    """Fuse both branches to logits (B, C); all global prompts take part."""
    local = out.local.mean(dim=2) if out.local.dim() == 3 else out.local
    return scale * (out.whole.mean(dim=2) + local) / 2
