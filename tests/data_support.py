"""What the data tests share: configurations and small folders of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from yacs.config import CfgNode

from dassl.config import get_cfg_default


def make_cfg(root: Path | str = "", name: str = "Caltech101", **keys: Any) -> CfgNode:
    """The default configuration without workers, the output below `root`; `keys` as A__B=value for A.B."""
    cfg = get_cfg_default()
    cfg.DATASET.ROOT = str(root)
    cfg.DATASET.NAME = name
    cfg.DATASET.SUBSAMPLE_CLASSES = "all"
    cfg.DATASET.FOLDER = CfgNode({"PATH": "", "CSV": "", "TEST_CSV": ""})
    cfg.OUTPUT_DIR = str(Path(root) / "output")
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.INPUT.SIZE = (32, 32)
    for key, value in keys.items():
        *nodes, leaf = key.split("__")
        node = cfg
        for part in nodes:
            node = node[part]
        node[leaf] = value
    return cfg


def write_picture(path: Path, seed: int = 0, size: tuple[int, int] = (40, 36), mode: str = "RGB") -> Path:
    """Random pixels as an image file; the format follows the suffix. `size` is (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = size
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    return path


def write_class_folders(root: Path, counts: dict[str, int], suffix: str = ".jpg", real: bool = False) -> None:
    """`root/<class>/<number><suffix>`; empty files unless `real`."""
    for seed, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            path = root / name / f"{number:03d}{suffix}"
            if real:
                write_picture(path, 1000 * seed + number)
            else:
                path.touch()


def relative(items: list | None, folder: Path | str) -> list[str]:
    """The paths of the items relative to `folder`."""
    return [Path(item.impath).relative_to(folder).as_posix() for item in items or []]


def triples(items: list | None, folder: Path | str) -> list[list]:
    """[path relative to `folder`, label, class name] of the items."""
    return [
        [path, item.label, item.classname]
        for path, item in zip(relative(items, folder), items or [], strict=True)
    ]
