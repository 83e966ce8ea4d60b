"""UCF101 (Soomro et al., 2012): 101 human actions, each video as its middle frame.

DATASET.ROOT/ucf101/UCF-101-midframes/<Action_Name>/v_<ActionName>_g<group>_c<clip>.jpg and
ucf101/split_zhou_UCF101.json; without the latter, ucfTrainTestlist/{classInd,trainlist01,testlist01}.txt.
"""

from __future__ import annotations

import os.path as osp
import re

from dassl.data.datasets import DATASET_REGISTRY

from ..annotations import read_fields, read_lines
from ..base import SplitDataset
from ..published import Download, Published, drive_url, google_drive
from ..splits import Items, new_datum, split_trainval

MIDDLE_FRAMES = "10Jqome3vtUA2keJkNanAiFpgbyC9Hc2O"  # on Google Drive


@DATASET_REGISTRY.register()
class UCF101(SplitDataset):
    """The middle frames of 13,320 videos of 101 human actions.

    Class names are the actions' names cut at their capitals: ApplyEyeMakeup is Apply_Eye_Makeup.

    References
    ----------
    K. Soomro, A. R. Zamir and M. Shah, "UCF101: A dataset of 101 human actions classes from videos in the wild",
    arXiv:1212.0402, 2012
    """

    config, table_name, benchmark, order = "ucf101", "UCF101", "fewshot", 11
    dataset_dir = "ucf101"
    image_folder = "UCF-101-midframes"
    split_file = "split_zhou_UCF101.json"
    template = "a photo of a person doing {}."
    prompt_starts = (
        "a photo of a person doing", "this is a photo people doing",
        "this is picture of people doing", "one picture of a person doing",
    )  # fmt: skip
    published = Published(
        counts=(7_639, 1_898, 3_783), classes=101, base_new_test=(1_934, 1_849),
        images=f"UCF-101-midframes.zip, the middle frames of the videos: {google_drive(MIDDLE_FRAMES)}",
        names_sha256="d22e81fba7ebebf0fb154d6bc7c3b2c11a31a31d102b6873aa4f37413abaefc1",
        split_drive_id="1I0S0q91hJfsV9Gf4xDIjgDq4AqBNJb1y",
        split_sha256="875b6350cc32a4912942a97b5ef3b45c2de6c52324cfc77c6f741a1edac421da",
        aliases=("UCF101", "ucf-101", "UCF-101"),
        picks={(1, 1): ("d83ff98b1ec9cb83", "f29b7aa332bfe6bc"), (16, 1): ("1ac0104e74d830bc", "c72e6bc0d79b0cd7")},
    )
    downloads = (
        Download(
            "images", drive_url(MIDDLE_FRAMES), saved_as="UCF-101-midframes.zip",
            gives={"UCF-101-midframes": "UCF-101-midframes"},
        ),
        Download(
            "lists", "https://www.crcv.ucf.edu/data/UCF101/UCF101TrainTestSplits-RecognitionTask.zip",
            gives={"ucfTrainTestlist": "ucfTrainTestlist"},
        ),
    )

    def make_split(self) -> tuple[Items, Items, Items]:
        """Return the first of the three official splits, and val as a fifth of its training set."""
        rows = read_fields(self.annotation("ucfTrainTestlist", "classInd.txt"), 2)
        labels = {action: int(number) - 1 for number, action in rows}
        train, val = split_trainval(self._read("trainlist01.txt", labels))
        return train, val, self._read("testlist01.txt", labels)

    def _read(self, name: str, labels: dict[str, int]) -> Items:
        """Read lines like ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi, in the training list followed by a number."""
        path = self.annotation("ucfTrainTestlist", name)
        items = []
        for line in read_lines(path):
            action, _, video = line.split(" ")[0].partition("/")
            if action not in labels:
                raise ValueError(f"{path}: action {action!r} is not in classInd.txt")
            folder = words_of(action)
            frame = osp.join(self.image_dir, folder, f"{osp.splitext(video)[0]}.jpg")
            items.append(new_datum(frame, labels[action], folder))
        return items


def words_of(action: str) -> str:
    """'ApplyEyeMakeup' -> 'Apply_Eye_Makeup'."""
    return "_".join(re.findall("[A-Z][^A-Z]*", action))
