"""`build_transform`: the configured steps from PIL image to tensor, always in one fixed order.

With SIZE (224, 224), bicubic, CLIP's mean and std, and "normalize", the test pipeline is CLIP's own
preprocessing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from torchvision import transforms as T
from torchvision.transforms import InterpolationMode

from dassl.config.values import NAMES, TRANSFORMS, check_values
from dassl.utils import check_availability
from dassl.utils.tools import did_you_mean

from .autoaugment import CIFAR10Policy, ImageNetPolicy, SVHNPolicy
from .operations import Cutout, GaussianNoise, InstanceNormalization, Random2DTranslation
from .randaugment import RandAugment, RandAugment2, RandAugmentFixMatch

log = logging.getLogger(__name__)

INTERPOLATION_MODES = {name: InterpolationMode(name) for name in NAMES["INPUT.INTERPOLATION"]}
AVAI_CHOICES = list(TRANSFORMS)

Step = tuple[str, Callable[[Any], Any]]  # what is printed, what is done


def build_transform(
    cfg: Any, is_train: bool = True, choices: Sequence[str] | None = None
) -> Callable[[Any], Any] | None:
    """The transform for training or test images, or None with INPUT.NO_TRANSFORM.

    `choices` replaces `cfg.INPUT.TRANSFORMS`; their order does not matter. Prints the steps.
    Raises AssertionError for an unknown name, ValueError for other settings that cannot be.
    """
    if cfg.INPUT.NO_TRANSFORM:
        log.info("Note: no transform is applied")
        return None
    choices = cfg.INPUT.TRANSFORMS if choices is None else choices
    for name in choices:
        if name not in AVAI_CHOICES:
            raise AssertionError(f"no transform (INPUT.TRANSFORMS) named {name!r}{did_you_mean(name, AVAI_CHOICES)}")
    check_availability(cfg.INPUT.INTERPOLATION, INTERPOLATION_MODES, "interpolation (INPUT.INTERPOLATION)")
    check_values(cfg.INPUT, "INPUT")
    log.info("Building transform_train" if is_train else "Building transform_test")
    steps = _train_steps(cfg.INPUT, choices) if is_train else _test_steps(cfg.INPUT, choices)
    for description, _ in steps:
        log.info(f"+ {description}")
    return T.Compose([step for _, step in steps])


def _train_steps(options: Any, choices: Sequence[str]) -> list[Step]:
    """The training steps in their fixed order; `options` is cfg.INPUT."""
    size = height, width = tuple(options.SIZE)
    interpolation = INTERPOLATION_MODES[options.INTERPOLATION]
    brightness, contrast, saturation, hue = (
        options.COLORJITTER_B,
        options.COLORJITTER_C,
        options.COLORJITTER_S,
        options.COLORJITTER_H,
    )
    steps: list[Step] = []

    def add(description: str, step: Callable[[Any], Any]) -> None:
        steps.append((description, step))

    if "random_crop" not in choices and "random_resized_crop" not in choices:
        add(f"resize to {height}x{width}", T.Resize(size, interpolation=interpolation))
    if "random_translation" in choices:
        add("random translation", Random2DTranslation(height, width))
    if "random_crop" in choices:
        padding = options.CROP_PADDING
        add(f"random crop (padding = {padding})", T.RandomCrop(size, padding=padding, pad_if_needed=True))
    if "random_resized_crop" in choices:
        scale = tuple(options.RRCROP_SCALE)
        crop = T.RandomResizedCrop(size, scale=scale, interpolation=interpolation)
        add(f"random resized crop (size={size}, scale={scale})", crop)
    if "random_flip" in choices:
        add("random flip", T.RandomHorizontalFlip())
    if "imagenet_policy" in choices:
        add("imagenet policy", ImageNetPolicy())
    if "cifar10_policy" in choices:
        add("cifar10 policy", CIFAR10Policy())
    if "svhn_policy" in choices:
        add("svhn policy", SVHNPolicy())
    n, m = options.RANDAUGMENT_N, options.RANDAUGMENT_M
    if "randaugment" in choices:
        add(f"randaugment (n={n}, m={m})", RandAugment(n, m))
    if "randaugment_fixmatch" in choices:
        add(f"randaugment_fixmatch (n={n})", RandAugmentFixMatch(n))
    if "randaugment2" in choices:
        add(f"randaugment2 (n={n})", RandAugment2(n))
    if "colorjitter" in choices:
        jitter = T.ColorJitter(brightness, contrast, saturation, hue)
        add(f"color jitter (b={brightness}, c={contrast}, s={saturation}, h={hue})", jitter)
    if "randomgrayscale" in choices:
        add(f"random gray scale (p={options.RGS_P})", T.RandomGrayscale(p=options.RGS_P))
    if "gaussian_blur" in choices:
        blur = T.RandomApply([T.GaussianBlur(options.GB_K)], p=options.GB_P)
        add(f"gaussian blur (kernel={options.GB_K}, p={options.GB_P})", blur)
    steps.append(_to_tensor())
    if "cutout" in choices:
        holes, length = options.CUTOUT_N, options.CUTOUT_LEN
        add(f"cutout (n_holes={holes}, length={length})", Cutout(holes, length))
    if "normalize" in choices:
        steps.append(_normalize(options))
    if "gaussian_noise" in choices:
        mean, std = options.GN_MEAN, options.GN_STD
        add(f"gaussian noise (mean={mean}, std={std})", GaussianNoise(mean, std))
    if "instance_norm" in choices:
        add("instance normalization", InstanceNormalization())
    return steps


def _test_steps(options: Any, choices: Sequence[str]) -> list[Step]:
    """Shorter side to max(SIZE), centre crop of SIZE, tensor; `options` is cfg.INPUT."""
    size = height, width = tuple(options.SIZE)
    smaller_edge = max(size)
    resize = T.Resize(smaller_edge, interpolation=INTERPOLATION_MODES[options.INTERPOLATION])
    steps: list[Step] = [
        (f"resize the smaller edge to {smaller_edge}", resize),
        (f"{height}x{width} center crop", T.CenterCrop(size)),
        _to_tensor(),
    ]
    if "normalize" in choices:
        steps.append(_normalize(options))
    if "instance_norm" in choices:
        steps.append(("instance normalization", InstanceNormalization()))
    return steps


def _to_tensor() -> Step:
    return "to torch tensor of range [0, 1]", T.ToTensor()


def _normalize(options: Any) -> Step:
    mean, std = list(options.PIXEL_MEAN), list(options.PIXEL_STD)
    return f"normalization (mean={mean}, std={std})", T.Normalize(mean=mean, std=std)
