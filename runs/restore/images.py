"""Pictures for a run to look at: which files there are, how they are read, and what the network sees of them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dassl.plain.image_formats import image_suffixes

from ..files import ResultsError

if TYPE_CHECKING:
    import torch
    from PIL import Image


def find_images(places: Iterable[str | Path], leave_out: Path | None = None) -> list[Path]:
    """List image files, each path once.

    Parameters
    ----------
    places
        Files, which are taken as they are given, whatever their names; and folders, of which all images below are
        taken, sorted.  Hidden files and folders are not searched.
    leave_out
        A folder that is not searched: where pictures of an earlier call may lie.

    Raises
    ------
    ResultsError
        For a path that is not there and for a folder without images.
    """
    images: dict[Path, None] = {}
    for place in map(Path, places):
        if place.is_dir():
            images |= dict.fromkeys(_images_below(place, leave_out))
        elif place.exists():
            images[place] = None
        else:
            raise ResultsError(f"{place} does not exist; give image files, or folders that hold some")
    return list(images)


def _images_below(folder: Path, leave_out: Path | None) -> list[Path]:
    suffixes = image_suffixes()
    images, others = [], Counter[str]()
    for here, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if not name.startswith(".") and not _same(here, name, leave_out)]
        for name in names:
            suffix = os.path.splitext(name)[1].lower()
            if name.startswith(".") or suffix not in suffixes:
                others[suffix or "files without suffix"] += 1
            else:
                images.append(Path(here, name))
    if not images:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(4))
        raise ResultsError(f"no image in {folder} ({f'it holds {kinds}' if kinds else 'it is empty'})")
    return sorted(images)


def _refuse(error: OSError) -> None:
    raise ResultsError(f"{error.filename} cannot be searched: {error.strerror}")


def _same(here: str, name: str, folder: Path | None) -> bool:
    return folder is not None and folder.is_dir() and os.path.samefile(os.path.join(here, name), folder)


def image_reader(cfg: Any) -> Callable[[Path | Image.Image], torch.Tensor]:
    """Build a function from a file, or a PIL image, to what the network gets of it in a test, (3, H, W).

    Its pixels are taken as INPUT.EXIF_ORIENTATION and INPUT.ALPHA say.  The function raises OSError or ValueError for a
    file that is no image.
    """
    from dassl.data.transforms import build_transform
    from dassl.utils.images import Reading, read_image, to_rgb
    from dassl.utils.logger import quiet

    reading = Reading.from_cfg(cfg)
    with quiet():  # it prints its list of transforms
        transform: Any = build_transform(cfg, is_train=False)
    return lambda image: transform(read_image(image, reading) if isinstance(image, Path) else to_rgb(image, reading))


def to_picture(tensor: torch.Tensor, cfg: Any) -> np.ndarray:
    """Turn what the network gets, (3, H, W), back into a picture (H, W, 3) in [0, 1]: exactly the crop that it sees."""
    picture = tensor.float().permute(1, 2, 0).numpy()
    if "normalize" in cfg.INPUT.TRANSFORMS:
        picture = picture * np.asarray(cfg.INPUT.PIXEL_STD) + np.asarray(cfg.INPUT.PIXEL_MEAN)
    return np.clip(picture, 0, 1).astype(np.float32)
