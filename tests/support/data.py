"""What the data tests share: configurations and small folders of pictures."""

from __future__ import annotations

import os
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
    cfg.DATASET.SKIP_BAD = False
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


BAD_IMAGES = ("cut.jpg", "pipe.png", "postscript.png", "random.jpg", "thin.png", "zero.jpg", "middle.png")


def write_bad_images(folder: Path) -> None:
    """Files with names of pictures that are none, or that cost too much: BAD_IMAGES."""
    whole = write_picture(folder / "cut.jpg", size=(200, 150)).read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    os.mkfifo(folder / "pipe.png")
    (folder / "postscript.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n")
    (folder / "random.jpg").write_bytes(np.random.default_rng(1).bytes(2000))
    Image.new("RGB", (1, 20_000)).save(folder / "thin.png")
    (folder / "zero.jpg").touch()
    whole = write_picture(folder / "middle.png").read_bytes()  # its beginning and end are as they should be
    (folder / "middle.png").write_bytes(whole[:200] + bytes(100) + whole[300:])


def relative(items: list | None, folder: Path | str) -> list[str]:
    """The paths of the items relative to `folder`."""
    return [Path(item.impath).relative_to(folder).as_posix() for item in items or []]


def triples(items: list | None, folder: Path | str) -> list[list]:
    """[path relative to `folder`, label, class name] of the items."""
    return [
        [path, item.label, item.classname]
        for path, item in zip(relative(items, folder), items or [], strict=True)
    ]
