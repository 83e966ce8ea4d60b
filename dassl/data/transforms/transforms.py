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

def build_transform(
    cfg: Any, is_train: bool = True, choices: Sequence[str] | None = None
) -> Callable[[Any], Any] | None:
    """Build the transform for training or test images, and print its steps.

    Parameters
    ----------
    cfg : CfgNode
        The whole tree; INPUT is read.
    is_train : bool
        For training, all chosen steps. For testing, the shorter side is resized to max(SIZE) and the centre of SIZE is
        cut out (or, with RESIZE squash, both sides are resized), and of the chosen steps only the normalisations are
        done.
    choices : sequence of str, optional
        Replaces INPUT.TRANSFORMS. The order of the names does not matter.

    Returns
    -------
    callable or None
        PIL image -> float tensor (3, height, width); None with INPUT.NO_TRANSFORM.

    Raises
    ------
    AssertionError
        For an unknown name.
    ValueError
        For other settings that cannot be.
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
    chosen = {"to_tensor", *choices}
    if not is_train:
        squashed = cfg.INPUT.get("RESIZE") == "squash"  # as SigLIP was trained
        resizing = {"resize"} if squashed else {"resize_edge", "crop_centre"}
        chosen = chosen & {"to_tensor", "normalize", "instance_norm"} | resizing
    elif not chosen & {"random_crop", "random_resized_crop"}:
        chosen.add("resize")
    steps = [(text, make()) for name, text, make in _all_steps(cfg.INPUT) if name in chosen]
    for text, _ in steps:
        log.info(f"+ {text}")
    return T.Compose([step for _, step in steps])


def _all_steps(options: Any) -> list[tuple[str, str, Callable[[], Any]]]:
    """Return (name, what is printed, what makes the step) in the order in which steps are done.

    `options` is the INPUT section. Names beside those of INPUT.TRANSFORMS are steps that nobody has to ask for.
    """
    size = height, width = tuple(options.SIZE)
    mode = INTERPOLATION_MODES[options.INTERPOLATION]
    edge, padding, scale = max(size), options.CROP_PADDING, tuple(options.RRCROP_SCALE)
    n, m = options.RANDAUGMENT_N, options.RANDAUGMENT_M
    b, c, s, h = options.COLORJITTER_B, options.COLORJITTER_C, options.COLORJITTER_S, options.COLORJITTER_H
    gray, kernel, blurred = options.RGS_P, options.GB_K, options.GB_P
    holes, length = options.CUTOUT_N, options.CUTOUT_LEN
    mean, std = list(options.PIXEL_MEAN), list(options.PIXEL_STD)
    noise, spread = options.GN_MEAN, options.GN_STD
    return [
        ("resize_edge", f"resize the smaller edge to {edge}", lambda: T.Resize(edge, mode)),
        ("crop_centre", f"{height}x{width} center crop", lambda: T.CenterCrop(size)),
        ("resize", f"resize to {height}x{width}", lambda: T.Resize(size, mode)),
        ("random_translation", "random translation", lambda: Random2DTranslation(height, width)),
        ("random_crop", f"random crop (padding = {padding})",
         lambda: T.RandomCrop(size, padding=padding, pad_if_needed=True)),
        ("random_resized_crop", f"random resized crop (size={size}, scale={scale})",
         lambda: T.RandomResizedCrop(size, scale=scale, interpolation=mode)),
        ("random_flip", "random flip", T.RandomHorizontalFlip),
        ("imagenet_policy", "imagenet policy", ImageNetPolicy),
        ("cifar10_policy", "cifar10 policy", CIFAR10Policy),
        ("svhn_policy", "svhn policy", SVHNPolicy),
        ("randaugment", f"randaugment (n={n}, m={m})", lambda: RandAugment(n, m)),
        ("randaugment_fixmatch", f"randaugment_fixmatch (n={n})", lambda: RandAugmentFixMatch(n)),
        ("randaugment2", f"randaugment2 (n={n})", lambda: RandAugment2(n)),
        ("colorjitter", f"color jitter (b={b}, c={c}, s={s}, h={h})", lambda: T.ColorJitter(b, c, s, h)),
        ("randomgrayscale", f"random gray scale (p={gray})", lambda: T.RandomGrayscale(p=gray)),
        ("gaussian_blur", f"gaussian blur (kernel={kernel}, p={blurred})",
         lambda: T.RandomApply([T.GaussianBlur(kernel)], p=blurred)),
        ("to_tensor", "to torch tensor of range [0, 1]", T.ToTensor),
        ("cutout", f"cutout (n_holes={holes}, length={length})", lambda: Cutout(holes, length)),
        ("normalize", f"normalization (mean={mean}, std={std})", lambda: T.Normalize(mean=mean, std=std)),
        ("gaussian_noise", f"gaussian noise (mean={noise}, std={spread})", lambda: GaussianNoise(noise, spread)),
        ("instance_norm", "instance normalization", InstanceNormalization),
    ]  # fmt: skip
