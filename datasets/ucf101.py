"""UCF101 (Soomro et al., 2012): 101 human actions, each video as its middle frame.

DATASET.ROOT/ucf101/UCF-101-midframes/<Action_Name>/v_<ActionName>_g<group>_c<clip>.jpg and
ucf101/split_zhou_UCF101.json; without the latter, ucfTrainTestlist/{classInd,trainlist01,testlist01}.txt.
"""

from __future__ import annotations

import os.path as osp
import re

from dassl.data.datasets import DATASET_REGISTRY

from .annotations import read_fields, read_lines
from .splits import Items, SplitDataset, new_datum, split_trainval


@DATASET_REGISTRY.register()
class UCF101(SplitDataset):
    dataset_dir = "ucf101"
    image_folder = "UCF-101-midframes"
    split_file = "split_zhou_UCF101.json"

    def make_split(self) -> tuple[Items, Items, Items]:
        rows = read_fields(self.annotation("ucfTrainTestlist", "classInd.txt"), 2)
        labels = {action: int(number) - 1 for number, action in rows}
        train, val = split_trainval(self._read("trainlist01.txt", labels))
        return train, val, self._read("testlist01.txt", labels)

    def _read(self, name: str, labels: dict[str, int]) -> Items:
        """Lines like ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi, in the training list followed by a number."""
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
