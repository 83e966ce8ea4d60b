"""Small data sets in the layouts and annotation formats of the published ones."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

SPLITS = Path(__file__).parents[1] / "splits"
WNIDS = ["n01440764", "n01443537", "n01484850", "n01491361", "n01494475", "n01496331", "n01498041"]
WNID_NAMES = ["tench", "goldfish", "great white shark", "missile", "hammerhead shark", "electric ray", "missile"]


def picture_bytes(size: tuple[int, int] = (40, 36)) -> bytes:
    width, height = size
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


PICTURE = picture_bytes()


def write_images(paths: Iterable[Path], content: bytes = PICTURE) -> None:
    made: set[Path] = set()
    for path in paths:
        if path.parent not in made:
            path.parent.mkdir(parents=True, exist_ok=True)
            made.add(path.parent)
        if content:
            path.write_bytes(content)
        else:
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY))  # quicker, for tens of thousands


def write_lines(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def write_published_split(root: Path, folder: str, images: str, name: str, content: bytes = b"") -> dict:
    """The split file called `name` and, empty or with `content`, all images that it lists."""
    text = (SPLITS / name).read_text()
    split = json.loads(text)
    base = root / folder
    write_images((base / images / item[0] for items in split.values() for item in items), content)
    (base / name).write_text(text)
    return split


def write_class_tree(base: Path, names: Iterable[str], count: int = 10) -> None:
    write_images(base / name / f"{name}_{number}.jpg" for name in names for number in range(count))


def write_pets(root: Path) -> Path:
    base = root / "oxford_pets"
    breeds = ["Abyssinian", "american_bulldog", "Egyptian_Mau", "pug", "yorkshire_terrier"]
    for name, numbers in (("trainval", range(10)), ("test", range(10, 14))):
        rows = [(f"{breed}_{n}", label) for label, breed in enumerate(breeds, start=1) for n in numbers]
        write_images(base / "images" / f"{image}.jpg" for image, _ in rows)
        write_lines(base / "annotations" / f"{name}.txt", (f"{image} {label} 1 {label}" for image, label in rows))
    (base / "images" / "Abyssinian_100.mat").touch()  # the archive holds a few of these
    return base


def write_cars(root: Path) -> Path:
    """Images of the classes in turns, from the last to the first: labels are not in ascending order."""
    base = root / "stanford_cars"
    names = ["AM General Hummer SUV 2000", "Acura TL Sedan 2012", "FIAT 500 Abarth 2012", "Ram C/V Van 2012"]
    (base / "devkit").mkdir(parents=True)
    savemat(base / "devkit" / "cars_meta.mat", {"class_names": np.array([names], dtype=object)})
    kinds = [(name, object) for name in ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname")]
    for folder, path, count in (
        ("cars_train", base / "devkit" / "cars_train_annos.mat", 40),
        ("cars_test", base / "cars_test_annos_withlabels.mat", 16),
    ):
        rows = [(1, 2, 30, 20, len(names) - k % len(names), f"{k + 1:05d}.jpg") for k in range(count)]
        savemat(path, {"annotations": np.array(rows, dtype=kinds).reshape(1, -1)})
        write_images(base / folder / row[-1] for row in rows)
    return base


def write_flowers(root: Path) -> Path:
    base = root / "oxford_flowers"
    names = {"1": "pink primrose", "2": "hard-leaved pocket orchid", "3": "bird of paradise", "4": "colt's foot"}
    numbers = [3] * 10 + [1] * 12 + [4] * 10 + [2] * 10
    write_images(base / "jpg" / f"image_{k:05d}.jpg" for k in range(1, len(numbers) + 1))
    savemat(base / "imagelabels.mat", {"labels": np.array([numbers], dtype=np.uint8)})
    (base / "cat_to_name.json").write_text(json.dumps(names))
    return base


def write_food(root: Path) -> Path:
    write_class_tree(root / "food-101" / "images", ["waffles", "apple_pie", "sushi"])
    return root / "food-101"


def write_aircraft(root: Path) -> Path:
    base = root / "fgvc_aircraft"
    names = ["707-320", "Cessna 560", "F/A-18", "Model B200"]
    write_lines(base / "variants.txt", names)
    for part, first in (("train", 0), ("val", 40), ("test", 80)):
        rows = [(f"{first + k:07d}", names[k % 4]) for k in range(40)]
        write_lines(base / f"images_variant_{part}.txt", (f"{image} {name}" for image, name in rows))
        write_images(base / "images" / f"{image}.jpg" for image, _ in rows)
    return base


def write_sun(root: Path) -> Path:
    base = root / "sun397"
    places = ["/a/abbey", "/a/apartment_building/outdoor", "/i/ice_skating_rink/indoor"]
    write_lines(base / "ClassName.txt", places)
    for name, numbers in (("Training_01.txt", range(10)), ("Testing_01.txt", range(10, 14))):
        lines = [f"{place}/sun_{number:03d}.jpg" for place in places for number in numbers]
        write_lines(base / name, lines)
        write_images(base / "SUN397" / line[1:] for line in lines)
    return base


def write_textures(root: Path) -> Path:
    write_class_tree(root / "dtd" / "images", ["zigzagged", "banded", "dotted"])
    return root / "dtd"


def write_eurosat(root: Path) -> Path:
    write_class_tree(root / "eurosat" / "2750", ["SeaLake", "AnnualCrop", "Forest", "Highway"])
    return root / "eurosat"


def write_ucf(root: Path) -> Path:
    base = root / "ucf101"
    actions = {"ApplyEyeMakeup": "Apply_Eye_Makeup", "HandstandPushups": "Handstand_Pushups", "YoYo": "Yo_Yo"}
    lists = base / "ucfTrainTestlist"
    write_lines(lists / "classInd.txt", (f"{number} {action}" for number, action in enumerate(actions, start=1)))
    for name, groups in (("trainlist01", range(8, 18)), ("testlist01", range(1, 5))):
        lines = []
        for number, (action, folder) in enumerate(actions.items(), start=1):
            # the one action whose videos are spelled in another way than their folder
            stems = [f"v_{action.replace('stand', 'Stand')}_g{group:02d}_c01" for group in groups]
            lines += [f"{action}/{stem}.avi" + (f" {number}" if name == "trainlist01" else "") for stem in stems]
            write_images(base / "UCF-101-midframes" / folder / f"{stem}.jpg" for stem in stems)
        write_lines(lists / f"{name}.txt", lines)
    return base


def write_classnames(folder: Path) -> None:
    write_lines(folder / "classnames.txt", (" ".join(pair) for pair in zip(WNIDS, WNID_NAMES, strict=True)))


def write_imagenet(root: Path, wnids: list[str] = WNIDS[:6]) -> Path:
    base = root / "imagenet"
    for part, count in (("train", 8), ("val", 3)):
        write_images(base / "images" / part / w / f"{part}_{k}.JPEG" for w in wnids for k in range(count))
    write_classnames(base)
    return base


def write_variant(root: Path, folder: str, images: str, classes: list[str], names: bool = True) -> Path:
    base = root / folder
    write_images(base / images / name / f"{name}_{k}.jpg" for name in classes for k in range(3))
    (base / images / "README.txt").write_text("as in the archives of ImageNet-A and -R")
    if names:
        write_classnames(base)
    return base


def write_imagenet_v2(root: Path) -> Path:
    folder = "imagenetv2-matched-frequency-format-val"
    return write_variant(root, "imagenetv2", folder, [str(label) for label in range(6)])
