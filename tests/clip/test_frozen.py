"""The image tower in its frozen form gives the features of the plain one."""
import copy

import pytest
import torch

from clip.frozen import freeze_image_tower
from clip.model import build_model
from tests.support.closeness import assert_close
from tests.support.golden_data import GOLDEN, read_npz, tiny_state_dict


def features(visual, images):
    with torch.no_grad():
        return [*visual.forward_dense(images), *visual.forward_dense(images, "value"), visual(images)]


@pytest.mark.parametrize("name", ["tiny_rn", "tiny_vit"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_same_features(name, dtype):
    visual = build_model(tiny_state_dict(name)).to(dtype).visual
    frozen = copy.deepcopy(visual)
    freeze_image_tower(frozen)
    images = torch.from_numpy(read_npz(GOLDEN / "inputs" / f"images_{name}_b4.npz")[0]["images"]).to(dtype)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    for ours, plain in zip(features(frozen, images), features(visual, images), strict=True):
        assert_close(ours, plain, tolerance)


def test_no_normalisation_is_left_in_a_resnet():
    visual = build_model(tiny_state_dict("tiny_rn")).float().visual
    freeze_image_tower(visual)
    assert not [m for m in visual.modules() if isinstance(m, torch.nn.BatchNorm2d)]
