"""Transforms: their fixed order, what they print, and what they do to pixels."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms as T

from dassl.data.transforms import (
    AVAI_CHOICES,
    INTERPOLATION_MODES,
    CIFAR10Policy,
    Cutout,
    GaussianNoise,
    ImageNetPolicy,
    InstanceNormalization,
    RandAugment,
    RandAugment2,
    RandAugmentFixMatch,
    Random2DTranslation,
    SVHNPolicy,
    autoaugment,
    build_transform,
    randaugment,
)
from tests.support.closeness import assert_close
from tests.support.data import make_cfg

CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
CLIP_STD = [0.26862954, 0.26130258, 0.27577711]


def picture(width: int = 50, height: int = 40, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def printed(capsys) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_the_lines_of_prompt_learning(capsys):
    """As recorded from the original for its configuration at 96 pixels."""
    cfg = make_cfg(INPUT__SIZE=(96, 96), INPUT__INTERPOLATION="bicubic")
    cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD = CLIP_MEAN, CLIP_STD
    cfg.INPUT.TRANSFORMS = ("random_resized_crop", "random_flip", "normalize")
    build_transform(cfg, is_train=True)
    build_transform(cfg, is_train=False)
    normalization = (
        "+ normalization (mean=[0.48145466, 0.4578275, 0.40821073], std=[0.26862954, 0.26130258, 0.27577711])"
    )
    assert printed(capsys) == [
        "Building transform_train",
        "+ random resized crop (size=(96, 96), scale=(0.08, 1.0))",
        "+ random flip",
        "+ to torch tensor of range [0, 1]",
        normalization,
        "Building transform_test",
        "+ resize the smaller edge to 96",
        "+ 96x96 center crop",
        "+ to torch tensor of range [0, 1]",
        normalization,
    ]


def test_all_choices_in_their_order(capsys):
    cfg = make_cfg(INPUT__TRANSFORMS=tuple(AVAI_CHOICES))
    transform = build_transform(cfg)
    order = [line.split(" (")[0].removeprefix("+ ") for line in printed(capsys)]
    assert order == [
        "Building transform_train",
        "random translation",
        "random crop",
        "random resized crop",
        "random flip",
        "imagenet policy",
        "cifar10 policy",
        "svhn policy",
        "randaugment",
        "randaugment_fixmatch",
        "randaugment2",
        "color jitter",
        "random gray scale",
        "gaussian blur",
        "to torch tensor of range [0, 1]",
        "cutout",
        "normalization",
        "gaussian noise",
        "instance normalization",
    ]
    for seed in range(20):  # every policy draws other operations each time
        assert transform(picture(seed=seed)).shape == (3, 32, 32)
    build_transform(cfg, choices=random.Random(0).sample(AVAI_CHOICES, len(AVAI_CHOICES)))
    assert [line.split(" (")[0].removeprefix("+ ") for line in printed(capsys)] == order


@pytest.mark.parametrize("name", AVAI_CHOICES)
@pytest.mark.parametrize("is_train", [True, False])
def test_every_choice_alone(name, is_train, capsys):
    transform = build_transform(make_cfg(INPUT__SIZE=(24, 32)), is_train, [name])
    resized = "+ resize to 24x32" in printed(capsys)
    assert resized == (is_train and name not in ("random_crop", "random_resized_crop"))
    for width, height in ((50, 40), (20, 60), (24, 24)):
        image = transform(picture(width, height))
        assert image.shape == (3, 24, 32) and image.dtype == torch.float32 and bool(image.isfinite().all())


def test_no_transform_and_unknown_names(capsys):
    assert build_transform(make_cfg(INPUT__NO_TRANSFORM=True)) is None
    with pytest.raises(AssertionError, match="'random_flop'; did you mean 'random_flip'"):
        build_transform(make_cfg(INPUT__TRANSFORMS=("random_flop",)))
    with pytest.raises(ValueError, match="INPUT.INTERPOLATION.*'cubic'; did you mean 'bicubic'. known: bilinear"):
        build_transform(make_cfg(INPUT__INTERPOLATION="cubic"))


@pytest.mark.parametrize("size", [(300, 224), (100, 400), (224, 224)])
def test_the_test_pipeline_is_clips(size):
    """Shorter side to 224 (bicubic), centre crop, normalise: done here with Pillow and NumPy."""
    cfg = make_cfg(INPUT__SIZE=(224, 224), INPUT__INTERPOLATION="bicubic")
    cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD, cfg.INPUT.TRANSFORMS = CLIP_MEAN, CLIP_STD, ("normalize",)
    image = picture(*size)
    width, height = (int(224 * side / min(size)) for side in size)
    left, top = round((width - 224) / 2), round((height - 224) / 2)
    crop = image.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + 224, top + 224))
    expected = (np.asarray(crop) / 255 - CLIP_MEAN) / CLIP_STD
    got = build_transform(cfg, is_train=False)(image).permute(1, 2, 0).numpy()
    assert_close(got, expected, 1e-6)


def test_interpolations_differ():
    images = [
        build_transform(make_cfg(INPUT__INTERPOLATION=name), choices=[])(picture())
        for name in INTERPOLATION_MODES
    ]
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(images, 2))


def test_random_translation():
    image = picture(32, 32)
    random.seed(0)
    results = [np.asarray(Random2DTranslation(32, 32)(image)) for _ in range(200)]
    unmoved = sum(np.array_equal(result, np.asarray(image)) for result in results)
    assert 70 < unmoved < 130
    assert len({result.tobytes() for result in results}) > 15  # 5 x 5 places


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 20), width=st.integers(1, 20), length=st.integers(0, 25), holes=st.integers(0, 3)
)
def test_cutout_blanks_squares(height, width, length, holes):
    image = torch.ones(3, height, width)
    result = Cutout(holes, length)(image)
    blank = result[0] == 0
    assert torch.equal(result[0], result[2]) and bool(image.all())
    assert int(blank.sum()) <= holes * length * length
    if holes == 1 and length > 1:
        assert bool(blank.any())
        rows, columns = blank.any(1), blank.any(0)
        assert bool(blank[rows][:, columns].all())  # one rectangle
        assert int(rows.sum()) <= length and int(columns.sum()) <= length


def test_noise_and_instance_normalization():
    torch.manual_seed(0)
    image = torch.rand(3, 64, 64)
    results = [GaussianNoise(0.5, 0.1)(image) - image for _ in range(100)]
    noisy = [noise for noise in results if noise.any()]
    assert 30 < len(noisy) < 70
    noise = torch.stack(noisy)
    assert_close([noise.mean(), noise.std()], [0.5, 0.1], 0.02)
    normal = InstanceNormalization()(image * torch.tensor([1.0, 2.0, 3.0])[:, None, None])
    assert_close(normal.mean((1, 2)), torch.zeros(3), 1e-5, floor=1)
    assert_close(normal.std((1, 2)), torch.ones(3))
    assert bool(InstanceNormalization()(torch.ones(3, 4, 4)).isfinite().all())


def test_augmentation_follows_the_seeds():
    transform = build_transform(make_cfg(INPUT__TRANSFORMS=tuple(AVAI_CHOICES)))

    def once():
        for seed in (torch.manual_seed, random.seed, np.random.seed):
            seed(1)
        return transform(picture())

    assert torch.equal(once(), once())
    assert isinstance(transform, T.Compose)


def test_noise_cutout_and_translation_draw_as_the_original(monkeypatch):
    """Whether there is noise is drawn from `random`, the noise from torch, cutout's places from NumPy."""
    image = torch.zeros(3, 40, 40)
    for seed in range(8):
        random.seed(seed)
        torch.manual_seed(seed)
        result = GaussianNoise(0.5, 0.1)(image)
        torch.manual_seed(seed)
        noise = torch.randn(3, 40, 40) * 0.1 + 0.5
        assert torch.equal(result, noise if random.Random(seed).random() <= 0.5 else image)

        np.random.seed(seed)
        (top, bottom), (left, right) = (axis[[0, -1]] for axis in (Cutout(1, 8)(image + 1)[0] == 0).nonzero().unbind(1))
        draws = np.random.RandomState(seed)
        y, x = draws.randint(40), draws.randint(40)
        assert (top, bottom, left, right) == (max(y - 4, 0), min(y + 3, 39), max(x - 4, 0), min(x + 3, 39))

    ramp = Image.fromarray(np.arange(36 * 36, dtype=np.int32).reshape(36, 36))
    monkeypatch.setattr("dassl.data.transforms.operations.F.resize", lambda image, size, interpolation: image)
    random.seed(1)  # 0.134, so it is moved; then 0.847 and 0.764 of 4 pixels
    corner = np.asarray(Random2DTranslation(32, 32)(ramp))[0, 0]
    assert divmod(int(corner), 36) == (3, 3)
    random.seed(3)  # 0.238, then 0.544 and 0.370
    corner = np.asarray(Random2DTranslation(32, 32)(ramp))[0, 0]
    assert divmod(int(corner), 36) == (1, 2)


# from the public code of Dassl 0.6.3: seed, operations and strengths, the next numbers of `random` and of NumPy
DRAWN = [
    (ImageNetPolicy(), 0, "Equalize 0", 0.258917, 0.548814),
    (ImageNetPolicy(), 2, "Solarize 113.8; AutoContrast 0", 0.169084, 0.435995),
    (ImageNetPolicy(), 3, "Posterize 6; Equalize 0", 0.915945, 0.550798),
    (ImageNetPolicy(), 9, "Contrast 0.8", 0.866562, 0.010374),
    (CIFAR10Policy(), 2, "Rotate 6.667", 0.169084, 0.435995),
    (CIFAR10Policy(), 3, "Brightness 0.9", 0.62572, 0.550798),
    (CIFAR10Policy(), 7, "TranslateX 0.4028", 0.072436, 0.076308),
    (SVHNPolicy(), 0, "Equalize 0; TranslateY 0.3021", 0.965465, 0.548814),
    (SVHNPolicy(), 1, "Equalize 0; Rotate 10", 0.063107, 0.417022),
    (SVHNPolicy(), 2, "ShearY 0.2667", 0.73597, 0.435995),
    (RandAugment(2, 10), 0, "Cutout 13.33; ShearY 0.1", 0.258917, 0.602763),
    (RandAugment(2, 10), 1, "Invert 0.3333; Cutout 13.33", 0.763775, 0.000114),
    (RandAugment(2, 10), 2, "TranslateYPixels 33.33; TranslateYPixels 33.33", 0.835499, 0.435995),
    (RandAugment(2, 10), 3, "Rotate 10; Contrast 0.7", 0.60392, 0.550798),
    (RandAugment2(2), 0, "Solarize 66.28; ShearY -0.05704", 0.303313, 0.548814),
    (RandAugment2(2), 2, "TranslateY -0.2491", 0.66973, 0.435995),
    (RandAugment2(2), 3, "Contrast 1.187", 0.065529, 0.550798),
    (RandAugmentFixMatch(2), 0, "Solarize 107.7; ShearY -0.1446", 0.404934, 0.548814),
    (RandAugmentFixMatch(2), 1, "Brightness 0.7374; Solarize 65.3", 0.495435, 0.417022),
    (RandAugmentFixMatch(2), 3, "Contrast 0.383; Rotate 6.235", 0.065529, 0.550798),
]


@pytest.mark.parametrize(("transform", "seed", "operations", "python", "numpy"), DRAWN)
def test_policies_draw_as_the_original(transform, seed, operations, python, numpy, monkeypatch):
    drawn = []

    def watched(name, operation):
        return lambda image, strength: (drawn.append(f"{name} {strength:.4g}"), operation(image, strength))[1]

    learned = {name: (watched(name, operation), *ends) for name, (operation, *ends) in autoaugment.OPERATIONS.items()}
    monkeypatch.setattr(autoaugment, "OPERATIONS", learned)
    plain = {name: watched(name, operation) for name, operation in randaugment.OPERATIONS.items()}
    monkeypatch.setattr(randaugment, "OPERATIONS", plain)
    random.seed(seed)
    np.random.seed(seed)
    transform(picture())
    drawn = [entry.replace("Posterize 5.778", "Posterize 6") for entry in drawn]  # rounded within the operation
    assert "; ".join(drawn) == operations
    assert (round(random.random(), 6), round(float(np.random.rand()), 6)) == (python, numpy)


def test_operations_move_pixels_as_the_original(monkeypatch):
    image = picture()
    pixels = np.asarray(image).astype(int)
    learned, plain = autoaugment.OPERATIONS, randaugment.OPERATIONS

    def done(operation, strength):
        return np.asarray(operation(image, strength)).astype(int)

    monkeypatch.setattr(random, "choice", lambda signs: signs[1])  # plus
    monkeypatch.setattr(random, "random", lambda: 0.6)  # turned round
    moved = done(learned["TranslateX"][0], 0.2)  # by a fifth of 50 pixels; what is uncovered is grey
    assert np.array_equal(moved[:, :40], pixels[:, 10:]) and (moved[:, 40:] == 128).all()
    moved = done(learned["TranslateY"][0], 0.2)
    assert np.array_equal(moved[:32], pixels[8:]) and (moved[32:] == 128).all()
    moved = done(plain["TranslateX"], 0.2)
    assert np.array_equal(moved[:, 10:], pixels[:, :40]) and not moved[:, :10].any()
    assert np.array_equal(done(plain["TranslateYPixels"], 8)[8:], pixels[:32])
    sheared = done(plain["ShearX"], 0.25)  # row y goes right by y / 4, as pixels are looked up further left
    assert all(np.array_equal(sheared[y, y // 4 :], pixels[y, : 50 - y // 4]) for y in (9, 21, 33))
    square = image.crop((0, 0, 40, 40))
    for rotate, turns in ((learned["Rotate"][0], 1), (plain["Rotate"], -1)):
        assert np.array_equal(np.asarray(rotate(square, 90)), np.rot90(np.asarray(square), turns))
    assert (np.asarray(learned["Rotate"][0](image, 30))[0, 0] == 128).all()
    assert not np.asarray(plain["Rotate"](image, 30))[0, 0].any()
    brighter = np.minimum(pixels + 40, 255)
    assert np.array_equal(done(plain["SolarizeAdd"], 40.0), np.where(brighter < 128, brighter, 255 - brighter))
    assert np.array_equal(done(learned["Posterize"][0], 4.89), pixels & 0b11111000)
    assert np.array_equal(done(plain["Posterize"], 4.89), pixels & 0b11110000)
    brightness = done(learned["Brightness"][0], 0.5)
    assert np.abs(brightness - np.minimum(1.5 * pixels, 255)).max() <= 1
    monkeypatch.setattr(np.random, "uniform", lambda low: 20)
    hole = (done(plain["Cutout"], 10) != pixels).any(axis=2).nonzero()
    assert [(axis.min(), axis.max()) for axis in hole] == [(15, 25), (15, 25)]
