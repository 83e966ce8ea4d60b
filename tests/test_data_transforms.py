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
    Cutout,
    GaussianNoise,
    InstanceNormalization,
    Random2DTranslation,
    build_transform,
)
from tests.closeness import assert_close
from tests.data_support import make_cfg

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
    with pytest.raises(ValueError, match="'cubic'; known: bilinear, bicubic, nearest"):
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


def test_augmentation_follows_torch_and_python_seeds():
    transform = build_transform(make_cfg(INPUT__TRANSFORMS=tuple(AVAI_CHOICES)))

    def once():
        torch.manual_seed(1)
        random.seed(1)
        return transform(picture())

    np.random.seed(int(once().sum()) % 1000)  # NumPy's state plays no part
    assert torch.equal(once(), once())
    assert isinstance(transform, T.Compose)
