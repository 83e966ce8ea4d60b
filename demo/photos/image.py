"""From the trunk's features to the joint space: one linear map, fitted without a photograph.

The map is to do to every feature f what the classifier and the places t of its classes do together,

    f -> sum over classes k of softmax(classifier(f))_k t_k,

but linearly, so that it holds for the mean over places and for each place alone.  What it is fitted on: features of
drawn scenes (demo/scenes.py) moved along rows of the classifier, one or two classes at a time, and cut off at zero, as
the trunk's own features are.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..scenes import photo_scene

SHARPNESS = 20.0  # factor of cosines before the softmax


def scene_features(trunk: nn.Module, count: int, views: int, seed: int) -> Tensor:
    """Features (views * count, F), mean over places, of random cuts of drawn scenes."""
    from torchvision import transforms

    torch.manual_seed(seed)
    cut = transforms.Compose([
        transforms.RandomResizedCrop(224, scale=(0.1, 1), interpolation=transforms.InterpolationMode.BICUBIC),
        transforms.RandomHorizontalFlip(), transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3),
    ])  # fmt: skip
    scenes = [photo_scene(f"train/{i}").image.convert("RGB") for i in range(count)]
    with torch.inference_mode():
        batches = [torch.stack([cut(scene) for scene in scenes[i : i + 32]])
                   for _ in range(views) for i in range(0, count, 32)]
        return torch.cat([trunk.forward_features(batch).mean((2, 3)) for batch in batches])  # type: ignore[operator]


def fit_head(
    head: nn.Linear, features: Tensor, classifier: tuple[Tensor, Tensor], places: Tensor, steps: int, seed: int
) -> None:
    """Fit the map in place.

    Parameters
    ----------
    head
        F -> D.
    features
        (S, F) that the made-up ones start from.
    classifier
        Weight (1000, F) and bias (1000,).
    places
        (1000, D) of the classes, of unit length.
    steps
        Of AdamW, on 256 features each.
    seed
        Of the features.
    """
    generator = torch.Generator().manual_seed(seed)
    weight, bias = classifier
    towards = weight - weight.mean(0)
    spread = (features - features.mean(0)).norm(dim=1).mean()
    with torch.no_grad():  # the start: f -> sum over classes of (classifier(f))_k t_k
        start = (places - places.mean(0)).T @ towards
        head.weight.copy_(start * places.shape[1] ** 0.5 / start.norm())
        head.bias.zero_()
    optimiser = torch.optim.AdamW(head.parameters(), lr=1e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        first, second = torch.randint(len(weight), (2, 256), generator=generator)
        far, share = torch.rand(2, 256, 1, generator=generator)
        moved = 1.2 * far * spread * F.normalize(towards[first] + 0.5 * share * towards[second], dim=1)
        start_at = torch.randint(len(features), (256,), generator=generator)
        made_up = (features[start_at] + moved).clamp_min(0)

        logits = made_up @ weight.T + bias
        target = F.normalize(logits.softmax(1) @ places, dim=1)
        feature = F.normalize(head(made_up), dim=1)
        by_class = F.kl_div((SHARPNESS * feature @ places.T).log_softmax(1), logits.softmax(1), reduction="batchmean")
        loss = by_class + (1 - (feature * target).sum(1)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
