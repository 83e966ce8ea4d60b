"""Demo: a few-shot task that the project draws itself (demo/); nothing has to be downloaded.

DATASET.ROOT/demo is written on first use, in a few seconds: 14 classes in chalk, with 40 train, 8 val and 40
test images each. The backbones that go with it, `demo-rn` and `demo-vit`, know flat "photos" of the same things.
"""

from __future__ import annotations

import os.path as osp
from typing import Any

from dassl.data.datasets import DATASET_REGISTRY

from ..base import SplitDataset


@DATASET_REGISTRY.register()
class Demo(SplitDataset):
    """Chalk drawings of 14 things, drawn below DATASET.ROOT on first use."""

    config = "demo"
    dataset_dir = "demo"
    image_folder = "images"
    split_file = "split_zhou_Demo.json"
    prompt_starts = ("a photo of a", "a picture of a", "an image of a", "a view of a")  # the words of its captions

    def __init__(self, cfg: Any) -> None:
        from demo.task import write_task  # the tools that draw are imported where something is drawn

        folder = osp.join(osp.abspath(osp.expanduser(cfg.DATASET.ROOT)), self.dataset_dir)
        drawn = write_task(folder)
        if drawn:
            print(f"Drew {drawn} images of the demo data below {folder}")
        super().__init__(cfg)
