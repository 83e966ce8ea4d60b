"""The published data sets: class names, splits and picks as published; raw data read in its own formats."""

from __future__ import annotations

import builtins
import importlib
import json
import os
import pickle
import random
import shutil
import sys
import tempfile
from collections import OrderedDict
from pathlib import Path

import pytest

from dassl.data import fingerprint
from dassl.data.datasets import DATASET_REGISTRY, build_dataset
from datasets import declared
from datasets.loaders.dtd import DescribableTextures
from datasets.loaders.imagenet import ImageNet, find_classnames
from datasets.loaders.oxford_pets import OxfordPets
from datasets.loaders.stanford_cars import year_first
from datasets.loaders.sun397 import place_name
from datasets.loaders.ucf101 import words_of
from datasets.published import names_digest, picks_digest
from datasets.splits import new_datum
from tests.support import dataset_trees as trees
from tests.support.data import make_cfg, relative, triples

pytestmark = [
    pytest.mark.filterwarnings("ignore:fewer than"),
    pytest.mark.filterwarnings("ignore:no .* made a split of our own"),
]

# --- with the published split files ----------------------------------------------------------------------

FILES = {
    "OxfordPets": "split_zhou_OxfordPets.json",
    "DescribableTextures": "split_zhou_DescribableTextures.json",
    "EuroSAT": "split_zhou_EuroSAT.json",
}


@pytest.fixture(scope="module")
def published():
    """(root, split file's content) with all listed images of the three data sets, as empty files."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # 40,000 files take long on a disk
    with tempfile.TemporaryDirectory(dir=memory) as root:
        content = {}
        for name, file in FILES.items():
            kind = DATASET_REGISTRY.get(name)
            content[name] = trees.write_published_split(Path(root), kind.dataset_dir, kind.image_folder, file)
        yield Path(root), content


@pytest.mark.parametrize("name", FILES)
class TestPublished:
    def test_whole(self, name, published, capsys):
        root, content = published
        facts = DATASET_REGISTRY.get(name).published
        dataset = build_dataset(make_cfg(root, name))
        assert "is not the published split" not in capsys.readouterr().out
        assert names_digest(dataset.classnames) == facts.names_sha256
        assert (len(dataset.train_x), len(dataset.val), len(dataset.test)) == facts.counts
        assert dataset.num_classes == facts.classes
        for part, items in (("train", dataset.train_x), ("val", dataset.val), ("test", dataset.test)):
            assert triples(items, dataset.image_dir) == content[name][part]

    @pytest.mark.parametrize("shots", [1, 16])
    def test_picks(self, name, published, shots):
        cfg = make_cfg(published[0], name, DATASET__NUM_SHOTS=shots, SEED=1)
        for _ in range(2):  # drawn, then read from the file that keeps them
            dataset = build_dataset(cfg)
            checks = tuple(
                picks_digest([(label, path) for path, label, _ in triples(items, dataset.image_dir)])
                for items in (dataset.train_x, dataset.val)
            )
            assert checks == DATASET_REGISTRY.get(name).published.picks[shots, 1]

    def test_base_and_new(self, name, published):
        sizes = []
        for half in ("base", "new"):
            cfg = make_cfg(published[0], name, DATASET__SUBSAMPLE_CLASSES=half, DATASET__NUM_SHOTS=1, SEED=1)
            sizes.append(len(build_dataset(cfg).test))
        assert tuple(sizes) == DATASET_REGISTRY.get(name).published.base_new_test


def test_first_and_last_names_and_picks(published):
    cfg = make_cfg(published[0], "OxfordPets", DATASET__NUM_SHOTS=16, SEED=1)
    pets = build_dataset(cfg)
    assert [pets.classnames[k] for k in (0, 18, -1)] == ["abyssinian", "keeshond", "yorkshire_terrier"]
    paths = relative(pets.train_x, pets.image_dir)
    assert (paths[0], paths[-1]) == ("Abyssinian_141.jpg", "yorkshire_terrier_190.jpg")
    cfg = make_cfg(published[0], "EuroSAT", DATASET__NUM_SHOTS=1, SEED=1)
    eurosat = build_dataset(cfg)
    assert [eurosat.classnames[k] for k in (0, 5, -1)] == ["Annual Crop Land", "Pasture Land", "Sea or Lake"]


def test_every_data_set_declares_itself():
    kinds = [kind for kind in declared() if kind.__module__.startswith("datasets.")]
    assert {kind.__name__ for kind in kinds if not kind.published} == {"Folder", "Demo", "Groceries"}
    configs = Path(__file__).parents[2] / "configs" / "datasets"
    assert {path.stem for path in configs.iterdir()} == {kind.config for kind in kinds}
    for kind in kinds:
        assert f'NAME: "{kind.__name__}"' in (configs / f"{kind.config}.yaml").read_text()
        module = importlib.import_module(f"datasets.{kind.config}")  # where a train.py written for CoOp looks for it
        assert module is sys.modules[kind.__module__] and getattr(module, kind.__name__) is kind
        assert kind.template.format("cat") != kind.template.format("dog")
        assert bool(kind.table_name) == bool(kind.benchmark) == bool(kind.published)
        if kind.published:
            assert kind.dataset_dir not in kind.published.aliases
            assert kind.eval_only == (kind.published.counts[0] == 0)


def test_the_usual_order():
    names = {
        benchmark: " ".join(kind.table_name for kind in declared() if kind.benchmark == benchmark)
        for benchmark in ("fewshot", "domain")
    }
    assert names == {
        "fewshot": "ImageNet Caltech101 OxfordPets StanfordCars Flowers102 Food101 FGVCAircraft SUN397 DTD EuroSAT "
        "UCF101",
        "domain": "ImageNetV2 ImageNet-Sketch ImageNet-A ImageNet-R",
    }


# --- raw data, in the order and with the names of the originals ------------------------------------------


def built(root: Path, name: str, **keys):
    return build_dataset(make_cfg(root, name, **keys))


def first_seen(items) -> list[int]:
    return list(OrderedDict.fromkeys(item.label for item in items))


def sizes(dataset) -> list[int]:
    return [len(items) for items in (dataset.train_x, dataset.val, dataset.test)]


def test_pets_annotations(tmp_path):
    base = trees.write_pets(tmp_path)
    dataset = built(tmp_path, "OxfordPets")
    assert dataset.classnames == ["abyssinian", "american_bulldog", "egyptian_mau", "pug", "yorkshire_terrier"]
    assert sizes(dataset) == [40, 10, 20]
    assert relative(dataset.test, dataset.image_dir)[:2] == ["Abyssinian_10.jpg", "Abyssinian_11.jpg"]
    kept = json.loads((base / "split_zhou_OxfordPets.json").read_text())
    assert kept["test"][-1] == ["yorkshire_terrier_13.jpg", 4, "yorkshire_terrier"]
    again = built(tmp_path, "OxfordPets")
    assert fingerprint(again) == fingerprint(dataset)


def test_pets_with_a_missing_image_or_list(tmp_path):
    base = trees.write_pets(tmp_path)
    (base / "images" / "pug_3.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of the 70 image files .*\n.*pug_3\.jpg"):
        built(tmp_path, "OxfordPets")
    (base / "annotations" / "test.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"test\.txt; it is part of images.*1501r8Ber4nNKvmlFVQZ8SeUHTcdTTEqs"):
        built(tmp_path, "OxfordPets")
    (base / "annotations" / "trainval.txt").write_text("pug_1 3\n")
    with pytest.raises(ValueError, match=r"trainval\.txt: 'pug_1 3' should have 4 fields"):
        built(tmp_path, "OxfordPets")


def test_cars_annotations(tmp_path):
    trees.write_cars(tmp_path)
    dataset = built(tmp_path, "StanfordCars")
    assert dataset.classnames == [
        "2000 AM General Hummer SUV", "2012 Acura TL Sedan", "2012 FIAT 500 Abarth", "2012 Ram C/V Van"
    ]
    assert first_seen(dataset.train_x) == first_seen(dataset.val) == [3, 2, 1, 0]
    assert sizes(dataset) == [32, 8, 16]
    assert triples(dataset.test, dataset.dataset_dir)[0] == ["cars_test/00001.jpg", 3, "2012 Ram C/V Van"]


def test_flowers_annotations(tmp_path):
    base = trees.write_flowers(tmp_path)
    dataset = built(tmp_path, "OxfordFlowers")
    assert dataset.classnames == ["pink primrose", "hard-leaved pocket orchid", "bird of paradise", "colt's foot"]
    assert first_seen(dataset.train_x) == first_seen(dataset.test) == [2, 0, 3, 1]
    assert sizes(dataset) == [5 + 6 + 5 + 5, 2 * 4, 3 + 4 + 3 + 3]
    assert {int(path[6:11]) for path in relative(dataset.train_x[:5], dataset.image_dir)} <= set(range(1, 11))
    (base / "cat_to_name.json").unlink()
    (base / "split_zhou_OxfordFlowers.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"cat_to_name\.json: Google Drive, file id 1AkcxCXeK_RCGCEC"):
        built(tmp_path, "OxfordFlowers")


def test_picks_follow_the_first_seen_order(tmp_path):
    """Sorting the labels first would draw other images with the same seed."""
    trees.write_flowers(tmp_path)
    whole = built(tmp_path, "OxfordFlowers")
    few = built(tmp_path, "OxfordFlowers", DATASET__NUM_SHOTS=2, SEED=1)
    assert first_seen(few.train_x) == [2, 0, 3, 1]
    rng = random.Random(1)
    expected = []
    for label in (2, 0, 3, 1):
        expected += rng.sample([item.impath for item in whole.train_x if item.label == label], 2)
    for label in (2, 0, 3, 1):
        expected += rng.sample([item.impath for item in whole.val if item.label == label], 2)
    assert [item.impath for item in few.train_x + few.val] == expected


def test_matlab_files_without_scipy_or_damaged(tmp_path, monkeypatch):
    base = trees.write_flowers(tmp_path)
    (base / "imagelabels.mat").write_bytes(b"not a MATLAB file")
    with pytest.raises(ValueError, match=r"imagelabels\.mat is damaged or no MATLAB file"):
        built(tmp_path, "OxfordFlowers")
    original = builtins.__import__

    def without_scipy(name, *args, **kwargs):
        if name.startswith("scipy"):
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_scipy)
    with pytest.raises(ImportError, match="needs scipy: `pip install scipy`"):
        built(tmp_path, "OxfordFlowers")


def test_aircraft_lists(tmp_path):
    base = trees.write_aircraft(tmp_path)
    dataset = built(tmp_path, "FGVCAircraft")
    assert dataset.classnames == ["707-320", "Cessna 560", "F/A-18", "Model B200"]
    assert triples(dataset.val, dataset.image_dir)[2] == ["0000042.jpg", 2, "F/A-18"]
    assert sizes(dataset) == [40, 40, 40]
    assert not list(base.glob("*.json"))  # the data set says itself what is what
    with (base / "images_variant_val.txt").open("a") as file:
        file.write("0000001 Cesna 560\n")
    with pytest.raises(ValueError, match="variant 'Cesna 560' of image 0000001 is not in variants.txt"):
        built(tmp_path, "FGVCAircraft")


def test_sun_lists(tmp_path):
    base = trees.write_sun(tmp_path)
    dataset = built(tmp_path, "SUN397")
    assert dataset.classnames == ["abbey", "outdoor apartment_building", "indoor ice_skating_rink"]
    assert sizes(dataset) == [24, 6, 12]
    path = "a/apartment_building/outdoor/sun_010.jpg"
    assert triples(dataset.test, dataset.image_dir)[4] == [path, 1, "outdoor apartment_building"]
    (base / "split_zhou_SUN397.json").unlink()
    with (base / "Testing_01.txt").open("a") as file:
        file.write("/z/zoo/sun_1.jpg\n")
    with pytest.raises(ValueError, match=r"folder of z/zoo/sun_1\.jpg is not in ClassName.txt"):
        built(tmp_path, "SUN397")


def test_ucf_lists(tmp_path):
    trees.write_ucf(tmp_path)
    dataset = built(tmp_path, "UCF101")
    assert dataset.classnames == ["Apply_Eye_Makeup", "Handstand_Pushups", "Yo_Yo"]
    assert sizes(dataset) == [24, 6, 12]
    path = "Handstand_Pushups/v_HandStandPushups_g01_c01.jpg"
    assert triples(dataset.test, dataset.image_dir)[4] == [path, 1, "Handstand_Pushups"]


def test_folder_data_sets(tmp_path):
    trees.write_food(tmp_path)
    trees.write_textures(tmp_path)
    trees.write_eurosat(tmp_path)
    assert built(tmp_path, "Food101").classnames == ["apple_pie", "sushi", "waffles"]
    assert built(tmp_path, "DescribableTextures").classnames == ["banded", "dotted", "zigzagged"]
    eurosat = built(tmp_path, "EuroSAT")
    assert eurosat.classnames == ["Annual Crop Land", "Forest", "Highway or Road", "Sea or Lake"]
    assert sizes(eurosat) == [20, 8, 12]


def test_name_rules():
    assert year_first("smart fortwo Convertible 2012") == "2012 smart fortwo Convertible"
    assert place_name("a/apartment_building/outdoor") == "outdoor apartment_building"
    assert place_name("y/youth_hostel") == "youth_hostel"
    assert [words_of(name) for name in ("YoYo", "ApplyEyeMakeup", "Billiards", "TaiChi")] == [
        "Yo_Yo", "Apply_Eye_Makeup", "Billiards", "Tai_Chi"
    ]


@pytest.mark.filterwarnings("ignore:.* names images more than once")
def test_helpers_where_other_loaders_look_for_them(tmp_path):
    items = [new_datum(str(tmp_path / f"{k}.jpg"), k // 10, f"class {k // 10}") for k in range(40)]
    for item in items:
        Path(item.impath).touch()
    train, val = OxfordPets.split_trainval(items, p_val=0.3)
    assert (len(train), len(val)) == (28, 12)
    path = str(tmp_path / "split.json")
    OxfordPets.save_split(train, val, items[:1], path, str(tmp_path))
    again = OxfordPets.read_split(path, str(tmp_path))
    assert [relative(part, tmp_path) for part in again[:2]] == [relative(train, tmp_path), relative(val, tmp_path)]
    assert OxfordPets.subsample_classes(train, val, subsample="all") == (train, val)
    base = OxfordPets.subsample_classes(train, val, subsample="base")
    assert isinstance(base, list) and {item.label for item in base[0] + base[1]} == {0, 1}
    trees.write_class_tree(tmp_path / "images", ["b", "a", "skip"])
    parts = DescribableTextures.read_and_split_data(str(tmp_path / "images"), ignored=["skip"], new_cnames={"a": "A"})
    assert [len(part) for part in parts] == [10, 4, 6] and parts[0][0].classname == "A"
    trees.write_classnames(tmp_path)
    names = ImageNet.read_classnames(str(tmp_path / "classnames.txt"))
    assert list(names.items()) == list(zip(trees.WNIDS, trees.WNID_NAMES, strict=True))


# --- ImageNet --------------------------------------------------------------------------------------------


def test_imagenet(tmp_path, capsys):
    base = trees.write_imagenet(tmp_path)
    dataset = built(tmp_path, "ImageNet")
    assert "Saved the listing" in capsys.readouterr().out
    assert dataset.classnames == [
        name for _, name in sorted(zip(trees.WNIDS[:6], trees.WNID_NAMES, strict=False))
    ]
    assert (len(dataset.train_x), len(dataset.val), len(dataset.test)) == (48, 18, 18)
    paths = relative(dataset.train_x, dataset.image_dir)
    assert paths == sorted(paths) and paths[0] == "train/n01440764/train_0.JPEG"
    again = built(tmp_path, "ImageNet")
    assert "Saved" not in capsys.readouterr().out and fingerprint(again) == fingerprint(dataset)

    few = built(tmp_path, "ImageNet", DATASET__NUM_SHOTS=2, SEED=1)
    assert len(few.train_x) == 12 and len(few.val) == 18
    new = built(tmp_path, "ImageNet", DATASET__NUM_SHOTS=2, SEED=1, DATASET__SUBSAMPLE_CLASSES="new")
    assert (new.num_classes, len(new.train_x), len(new.test), len(new.val)) == (3, 6, 9, 9)
    assert new.val is new.test

    trees.write_images([base / "images" / "train" / trees.WNIDS[2] / "another.JPEG"])
    assert len(built(tmp_path, "ImageNet").train_x) == 49
    (base / "image_index.json").write_text("{")
    with pytest.warns(UserWarning, match=r"image_index\.json is damaged"):
        assert len(built(tmp_path, "ImageNet").train_x) == 49


def test_imagenet_keeps_its_listing_elsewhere(tmp_path):
    base = trees.write_imagenet(tmp_path)
    (base / "image_index.json").mkdir()  # stands for a disk that cannot be written
    built(tmp_path, "ImageNet")
    assert (tmp_path / "output" / "image_index.json").is_file()


def test_imagenet_mistakes(tmp_path):
    base = trees.write_imagenet(tmp_path)
    (base / "images" / "val").rename(base / "images" / "sorted")
    with pytest.raises(FileNotFoundError, match=r"images/val .*it should hold the val images"):
        built(tmp_path, "ImageNet")
    trees.write_images([base / "images" / "val" / "ILSVRC2012_val_00000001.JPEG"])
    with pytest.raises(ValueError, match="val holds 1 images but no class folders; sort them into one folder a class"):
        built(tmp_path, "ImageNet")
    (base / "images" / "val").rename(base / "images" / "loose")
    (base / "images" / "sorted").rename(base / "images" / "val")
    for part in ("train", "val"):
        (base / "images" / part / "n99999999").mkdir()
    with pytest.raises(ValueError, match="no image in the class folder n99999999"):
        built(tmp_path, "ImageNet")
    trees.write_images(base / "images" / part / "n99999999" / "a.JPEG" for part in ("train", "val"))
    with pytest.raises(ValueError, match="classnames.txt has no name for 'n99999999'"):
        built(tmp_path, "ImageNet")


def test_imagenet_with_different_classes_in_train_and_val(tmp_path):
    base = trees.write_imagenet(tmp_path)
    shutil.rmtree(base / "images" / "val" / trees.WNIDS[1])
    with pytest.raises(ValueError, match=f"in only one of them: {trees.WNIDS[1]}$"):
        built(tmp_path, "ImageNet")


def test_imagenet_listing_of_upstream(tmp_path, capsys):
    """Its order of images counts, because the picks depend on it; its paths may be another machine's."""
    base = trees.write_imagenet(tmp_path)
    whole = built(tmp_path, "ImageNet")
    (base / "image_index.json").unlink()

    def moved(items):
        return [
            new_datum(item.impath.replace(str(base), "/elsewhere/imagenet"), item.label, item.classname)
            for item in reversed(items)
        ]

    path = base / "preprocessed.pkl"
    path.write_bytes(pickle.dumps({"train": moved(whole.train_x), "test": moved(whole.test)}))
    dataset = built(tmp_path, "ImageNet")
    assert relative(dataset.train_x, base) == relative(whole.train_x, base)[::-1]
    assert dataset.classnames == whole.classnames and not (base / "image_index.json").exists()
    os.unlink(whole.train_x[0].impath)
    with pytest.warns(UserWarning, match=r"preprocessed\.pkl is not used, listing the images instead: 1 of the"):
        assert len(built(tmp_path, "ImageNet").train_x) == 47
    path.write_bytes(pickle.dumps({"train": [print]}))
    with pytest.raises(ValueError, match="but a listing holds image paths and labels only"):
        built(tmp_path, "ImageNet")


def test_names_that_come_with_clip(tmp_path, capsys):
    names = find_classnames(str(tmp_path))
    assert names_digest(list(names.values())) == DATASET_REGISTRY.get("ImageNet").published.names_sha256
    assert list(names) == sorted(names) and names["n01440764"] == "tench"
    assert "no classnames.txt" in capsys.readouterr().out
    base = trees.write_imagenet(tmp_path, ["n01440764", "n01443537"])
    (base / "classnames.txt").unlink()
    assert built(tmp_path, "ImageNet").classnames == ["tench", "goldfish"]


# --- its variants ----------------------------------------------------------------------------------------


def test_variant_labels(tmp_path, capsys):
    labels = [str(label) for label in (*range(3), *range(3, 12))]
    base = trees.write_imagenet(tmp_path)
    (base / "classnames.txt").unlink()
    trees.write_variant(tmp_path, "imagenetv2", "imagenetv2-matched-frequency-format-val", labels, names=False)
    v2 = built(tmp_path, "ImageNetV2")
    assert relative(v2.test, v2.image_dir)[3 * 10] == "10/10_0.jpg" and v2.test[30].label == 10
    assert v2.classnames == list(find_classnames("").values())[:12]

    local = trees.write_variant(tmp_path, "imagenet-adversarial", "imagenet-a", trees.WNIDS[3:6])
    a = built(tmp_path, "ImageNetA")
    assert a.classnames == ["missile", "hammerhead shark", "electric ray"] and a.num_classes == 3
    assert {item.label for item in a.test} == {0, 1, 2} and len(a.test) == 9 and a.val is None
    assert not (local / "split_fewshot").exists()
    capsys.readouterr()
    assert built(tmp_path, "ImageNetA", DATASET__SUBSAMPLE_CLASSES="base", DATASET__NUM_SHOTS=1).num_classes == 3
    assert "SUBSAMPLE_CLASSES is ignored" in capsys.readouterr().out

    (local / "classnames.txt").unlink()
    shutil.copy(local.parent / "imagenet-adversarial" / "imagenet-a" / "README.txt", tmp_path)
    trees.write_classnames(base)  # ImageNet's serves its variants
    assert built(tmp_path, "ImageNetA").classnames == a.classnames


def test_variant_with_wrong_folders(tmp_path):
    trees.write_variant(tmp_path, "imagenetv2", "imagenetv2-matched-frequency-format-val", ["0", "1", "n01440764"])
    with pytest.raises(ValueError, match="n01440764: class folders here are named 0 to 6"):
        built(tmp_path, "ImageNetV2")
    trees.write_variant(tmp_path, "imagenet-sketch", "images", ["tench"])
    with pytest.raises(ValueError, match="no name for 'tench'; folders here are named by WordNet id"):
        built(tmp_path, "ImageNetSketch")
