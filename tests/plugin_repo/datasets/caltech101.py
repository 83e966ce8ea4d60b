"""Registers a name that our own data sets use too: plugins bring theirs."""
import os

from PIL import Image

from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum
from dassl.utils import listdir_nohidden, mkdir_if_missing


@DATASET_REGISTRY.register()
class Caltech101(DatasetBase):
    dataset_dir = "stripes"

    def __init__(self, cfg):
        root = os.path.abspath(os.path.expanduser(cfg.DATASET.ROOT))
        self.dataset_dir = os.path.join(root, self.dataset_dir)
        if not os.path.exists(self.dataset_dir):
            self.write_pictures()
        items = []
        for label, name in enumerate(sorted(listdir_nohidden(self.dataset_dir))):
            folder = os.path.join(self.dataset_dir, name)
            items += [Datum(impath=os.path.join(folder, file), label=label, classname=name)
                      for file in listdir_nohidden(folder, sort=True)]
        train = self.generate_fewshot_dataset(items, num_shots=cfg.DATASET.NUM_SHOTS)
        super().__init__(train_x=train, val=items[::3], test=items)

    def write_pictures(self):
        for label, name in enumerate(("blue_thing", "green_thing", "red_thing")):
            folder = os.path.join(self.dataset_dir, name)
            mkdir_if_missing(folder)
            for index in range(6):
                colour = [20 * index, 20 * index, 20 * index]
                colour[2 - label] = 200
                Image.new("RGB", (10, 9), tuple(colour)).save(os.path.join(folder, f"{index}.png"))
