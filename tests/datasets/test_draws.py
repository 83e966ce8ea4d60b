"""DATASET.DRAW proportional: scikit-learn's picks, what holds of any of them, and what a data set makes of it."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from dassl.data import DataManager
from datasets.__main__ import main
from datasets.draws import draw_proportionally
from datasets.loaders.caltech101 import Caltech101
from datasets.loaders.folder import Folder
from datasets.splits import new_datum
from tests.support.data import make_cfg, relative, write_class_folders
from tests.support.dataset_trees import SPLITS, write_images

SIZES = {"large": 40, "medium": 12, "small": 8, "tiny": 2}  # training images
PROPORTIONAL = {"DATASET__DRAW": "proportional"}


def items_of(labels: list[int]) -> list:
    return [new_datum(f"{position}.jpg", label, f"class {label}") for position, label in enumerate(labels)]


def positions(items: list) -> list[int]:
    return [int(Path(item.impath).stem) for item in items]


def published_labels(name: str) -> list[int]:
    return [label for _, label, _ in json.loads((SPLITS / f"split_zhou_{name}.json").read_text())["train"]]


# --- the picks -------------------------------------------------------------------------------------------

RECORDED = {  # (shots, seed): fewest and most images of a class, SHA-256 of the positions as int64; scikit-learn 1.3.0
    "DescribableTextures": {(1, 1): (1, 1, "6f510761430ab8cf"), (16, 1): (16, 16, "a40cf7d06e570b6e")},
    "EuroSAT": {(1, 1): (1, 1, "02721c072edd8bc1"), (2, 2): (2, 2, "2b2e72cf34a806b7"),
                (16, 1): (12, 18, "e43c54ddf5603d0c"), (16, 2): (12, 18, "7a52d65c7d7c22c6")},
    "OxfordPets": {(1, 2): (1, 1, "3cf66c304164514a"), (16, 1): (15, 17, "8620b587e1eeea31")},
}  # fmt: skip


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_picks_of_published_splits(name):
    labels = published_labels(name)
    for (shots, seed), (least, most, digest) in RECORDED[name].items():
        drawn = draw_proportionally(items_of(labels), shots, seed)
        counts = Counter(item.label for item in drawn)
        assert (min(counts.values()), max(counts.values()), len(counts)) == (least, most, len(set(labels)))
        assert hashlib.sha256(np.array(positions(drawn), "int64").tobytes()).hexdigest()[:16] == digest


pools = st.lists(st.integers(2, 25), min_size=2, max_size=8).flatmap(
    lambda sizes: st.permutations([label for label, size in enumerate(sizes) for _ in range(size)])
)


@given(labels=pools, shots=st.integers(1, 12), seed=st.integers(0, 2**32 - 1))
def test_a_proportional_draw(labels, shots, seed):
    classes, pool = len(set(labels)), items_of(labels)
    if len(labels) - classes < shots * classes < len(labels):
        with pytest.raises(ValueError, match="must leave as many training images undrawn as there are classes"):
            draw_proportionally(pool, shots, seed)
        return
    drawn = draw_proportionally(pool, shots, seed)
    assert len(drawn) == min(shots * classes, len(labels)) == len(set(positions(drawn)))
    counts = Counter(item.label for item in drawn)
    for label, size in Counter(labels).items():  # the share, up to rounding
        assert abs(counts[label] - size * len(drawn) / len(labels)) < 1
    assert positions(draw_proportionally(pool, shots, seed)) == positions(drawn)
    if len(drawn) < len(labels):
        first_seen = list(dict.fromkeys(labels))
        numbered = [first_seen.index(label) for label in labels]  # as GalLoP numbers its classes
        theirs, _ = train_test_split(
            range(len(labels)), train_size=shots * classes, stratify=numbered, random_state=seed
        )
        assert positions(drawn) == list(theirs)


@given(labels=pools, seed=st.integers(0, 99), renamed=st.permutations(range(8)))
def test_the_labels_of_the_split_file_do_not_matter(labels, seed, renamed):
    if len(labels) >= 2 * len(set(labels)):
        drawn, others = (draw_proportionally(items_of(own), 1, seed) for own in (labels, [renamed[i] for i in labels]))
        assert positions(drawn) == positions(others)


def test_a_class_of_one_image_is_named():
    with pytest.raises(ValueError, match=r"needs two training images .* there is one of 'class 1'; .*DRAW per_class"):
        draw_proportionally(items_of([0] * 9 + [1]), 1, 1)


def test_too_many_shots_say_how_many_can_be():
    with pytest.raises(ValueError, match=r"classes, 2, but 8 of 9 are wanted; use DATASET.NUM_SHOTS of 3 or less, or"):
        draw_proportionally(items_of([0] * 5 + [1] * 4), 4, 1)
    assert len(draw_proportionally(items_of([0] * 5 + [1] * 4), 3, 1)) == 6
    assert positions(draw_proportionally(items_of([0] * 5 + [1] * 4), 5, 1)) == [*range(9)]


# --- a data set ------------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path) -> Path:
    """Four classes in Caltech101's layout."""
    split: dict[str, list] = {"train": [], "val": [], "test": []}
    for label, (name, size) in enumerate(SIZES.items()):
        for part, count in (("train", size), ("val", 3), ("test", 2)):
            split[part] += [[f"{name}/{part}_{number}.jpg", label, name] for number in range(count)]
    base = tmp_path / "caltech-101"
    write_images(base / "101_ObjectCategories" / path for items in split.values() for path, *_ in items)
    (base / "split_zhou_Caltech101.json").write_text(json.dumps(split))
    return tmp_path


def caltech(root: Path, shots: int = 1, **keys) -> Caltech101:
    return Caltech101(make_cfg(root, DATASET__NUM_SHOTS=shots, SEED=1, **PROPORTIONAL | keys))


def test_a_class_without_images_keeps_its_name_and_is_reported(tree, capsys):
    with pytest.warns(UserWarning, match=r"2 of 4 classes have no training image .*proportional\): 'small', 'tiny'"):
        dataset = caltech(tree)
    assert dataset.classnames == [*SIZES] and dataset.num_classes == 4
    assert Counter(item.classname for item in dataset.train_x) == {"large": 3, "medium": 1}  # 2.6, 0.8, 0.5, 0.1
    assert not dataset.val and len(dataset.test) == 8
    assert "Few-shot images in proportion to the classes' sizes: 4 of 62, 0 to " in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:. of 4 classes")
def test_two_draws_keep_their_picks_in_files_of_their_own(tree, monkeypatch):
    per_class = caltech(tree, DATASET__DRAW="per_class")
    folder = tree / "caltech-101" / "split_fewshot"
    before = (folder / "shot_1-seed_1.json").read_bytes()
    assert "draw" not in json.loads(before)
    drawn = relative(caltech(tree).train_x, tree)
    path = folder / "shot_1-seed_1-proportional.json"
    assert sorted(folder.iterdir()) == [path, folder / "shot_1-seed_1.json"]
    assert json.loads(path.read_text())["draw"] == "proportional"
    monkeypatch.setattr("datasets.fewshot.draw_proportionally", None)  # the file is read, nothing is drawn
    assert relative(caltech(tree).train_x, tree) == drawn
    assert (folder / "shot_1-seed_1.json").read_bytes() == before
    assert relative(caltech(tree, DATASET__DRAW="per_class").train_x, tree) == relative(per_class.train_x, tree)
    path.write_bytes(before)  # under the other's name
    monkeypatch.undo()
    with pytest.warns(UserWarning, match="proportional.json is not used"):
        assert relative(caltech(tree).train_x, tree) == drawn


def test_all_images_are_the_same_by_either_draw(tree):
    draws = [caltech(tree, -1, DATASET__DRAW=draw) for draw in ("per_class", "proportional")]
    for part in ("train_x", "val", "test"):
        assert relative(getattr(draws[0], part), tree) == relative(getattr(draws[1], part), tree) != []
    assert not (tree / "caltech-101" / "split_fewshot").exists()


def test_more_shots_than_there_are_images_take_all(tree):
    whole = caltech(tree, 16)
    assert len(whole.train_x) == sum(SIZES.values()) and not whole.val


@pytest.mark.filterwarnings("ignore:. of 4 classes")
def test_base_and_new_share_the_draw_of_all_classes(tree):
    everything = relative(caltech(tree, 4).train_x, tree)
    halves = [caltech(tree, 4, DATASET__SUBSAMPLE_CLASSES=half) for half in ("base", "new")]
    assert sorted(path for half in halves for path in relative(half.train_x, tree)) == sorted(everything)
    assert [half.classnames for half in halves] == [["large", "medium"], ["small", "tiny"]]
    with pytest.raises(ValueError, match="none of the 4 few-shot images is of the new classes; use more shots, or"):
        caltech(tree, 1, DATASET__SUBSAMPLE_CLASSES="new")  # all are of large and medium


def test_loaders_and_tables_take_a_class_without_images(tree):
    cfg = make_cfg(tree, DATASET__NUM_SHOTS=1, SEED=1, DATALOADER__TRAIN_X__BATCH_SIZE=2, **PROPORTIONAL)
    with pytest.warns(UserWarning, match="'small', 'tiny'"):
        manager = DataManager(cfg)
    assert manager.num_classes == 4 and manager.val_loader is None and len(manager.train_loader_x) == 2


def test_own_pictures(tmp_path):
    write_class_folders(tmp_path, {"cat": 40, "dog": 12, "rat": 6})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = Folder(make_cfg(tmp_path, "Folder", DATASET__NUM_SHOTS=3, SEED=1, **PROPORTIONAL))
    assert Counter(item.classname for item in dataset.train_x) == {"cat": 6, "dog": 2, "rat": 1}  # of 20, 6 and 3
    assert not (tmp_path / "split_fewshot").exists()


def test_an_unknown_draw_is_refused(tree):
    with pytest.raises(ValueError, match="DATASET.DRAW is 'even'; it must be 'per_class' or 'proportional'"):
        caltech(tree, DATASET__DRAW="even")


@pytest.mark.filterwarnings("ignore:. of 4 classes")
def test_the_command_prints_the_draw(tree, capsys):
    command = ["picks", "caltech101", "--root", str(tree), "--shots", "4", "--draw", "proportional"]
    assert main(command) == 0
    head, check, *lines = capsys.readouterr().out.splitlines()
    assert head.startswith("# Caltech101, 4-shot, proportional draw, seed 1, below ")
    assert "no published value" in check and len(lines) == 16
    assert Counter(line.split("\t")[2] for line in lines)["large"] == 10
    assert main([*command, "--format", "json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["draw"] == "proportional" and len(content["train"]) == 16 and content["val"] == []
