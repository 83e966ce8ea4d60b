"""Few-shot tasks that the project brings itself; nothing has to be downloaded.

Demo: DATASET.ROOT/demo is drawn on first use (demo/), in a few seconds: 14 classes in chalk, with 40 train, 8 val and
40 test images each. The backbones that go with it, `demo-rn` and `demo-vit`, know flat "photos" of the same things.

Groceries: DATASET.ROOT/groceries is unpacked on first use from datasets/groceries/groceries.zip: photographs of 30
kinds of food in shops, with 16 train, 2 val and 8 test images each, 136 x 136 pixels. The backbone `photos` goes with
it.
"""

from __future__ import annotations

import os.path as osp
import zipfile
from pathlib import Path
from typing import Any

from dassl.data.datasets import DATASET_REGISTRY
from dassl.plain.writing import atomic_write

from ..base import SplitDataset

ARCHIVE = Path(__file__).parents[1] / "groceries" / "groceries.zip"


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


@DATASET_REGISTRY.register()
class Groceries(SplitDataset):
    """Photographs of 30 kinds of fruit, vegetables and packages in shops, unpacked below DATASET.ROOT on first use.

    References
    ----------
    M. Klasson, C. Zhang and H. Kjellström, "A Hierarchical Grocery Store Image Dataset with Visual and Semantic
    Labels", WACV 2019
    """

    config = "groceries"
    dataset_dir = "groceries"
    image_folder = "images"
    split_file = "split_zhou_Groceries.json"
    template = "a photo of a {}."
    prompt_starts = ("a photo of a", "a picture of a", "an image of a", "a view of a")

    def __init__(self, cfg: Any) -> None:
        folder = osp.join(osp.abspath(osp.expanduser(cfg.DATASET.ROOT)), self.dataset_dir)
        if written := unpack(Path(folder)):
            print(f"Unpacked {written} files of the groceries below {folder}")
        super().__init__(cfg)


def unpack(folder: Path) -> int:
    """Write what is missing or incomplete of the data set; return how many files that were.

    Raises
    ------
    OSError
        Where the folder cannot be written to; the message has the remedy.
    """
    written = 0
    try:
        with zipfile.ZipFile(ARCHIVE) as archive:
            for entry in archive.infolist():
                path = folder / entry.filename
                if path.is_file() and path.stat().st_size == entry.file_size:
                    continue
                with atomic_write(path, "wb") as file:
                    file.write(archive.read(entry))
                written += 1
    except OSError as error:
        raise OSError(
            error.errno,
            f"cannot write the groceries below {folder} ({error.strerror}); they need 4 MB in a folder that may be "
            "written to: make room, or choose another DATASET.ROOT (--root)",
        ) from error
    return written
