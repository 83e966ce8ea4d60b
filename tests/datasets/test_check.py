"""python -m datasets: what is there, what is missing, and the picks of a seed."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from dassl.data.datasets import DATASET_REGISTRY, build_dataset
from datasets.__main__ import main
from datasets.catalogue import find_kind, published
from datasets.checking.check import check
from datasets.commands.check import run_command
from tests.support import dataset_trees as trees
from tests.support.data import BAD_IMAGES, make_cfg, write_bad_images, write_class_folders
from tests.support.programs import REPOSITORY

DTD = "split_zhou_DescribableTextures.json"
kind_of = DATASET_REGISTRY.get


@pytest.fixture(scope="module")
def textures():
    """A root with the whole of DTD's published split, as small pictures; made once, so leave it as it is."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # thousands of files take long on a disk
    with tempfile.TemporaryDirectory(dir=memory) as root:
        trees.write_published_split(Path(root), "dtd", "images", DTD, trees.picture_bytes((2, 2)))
        yield Path(root)


def text_of(report) -> str:
    return "\n".join(report.facts + report.problems + report.todo + report.notes)


# --- check -----------------------------------------------------------------------------------------------


def test_complete(textures, capsys):
    assert main(["check", str(textures), "dtd", "--images"]) == 0
    out = capsys.readouterr().out
    assert "[ok] DescribableTextures (dtd): complete" in out
    assert "2,820 train; 1,128 val; 1,692 test" in out and "under the published names" in out
    assert "all 5,640 images can be read (decoded)" in out
    assert f"python train.py --root {textures} --dataset-config-file configs/datasets/dtd.yaml" in out
    assert sorted(path.name for path in (textures / "dtd").iterdir()) == ["images", DTD]


def test_nothing_there(tmp_path, capsys):
    assert main(["check", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "15 not found" in out
    for kind in published():
        assert f"[--] {kind.__name__} ({kind.config}): not found" in out
        assert kind.published.split_drive_id in out and kind.published.images in out
    assert out.endswith(f"then: python -m datasets check {tmp_path}\n")
    assert list(tmp_path.iterdir()) == []


def test_under_another_name_and_with_images_elsewhere(textures, tmp_path):
    (tmp_path / "DTD").mkdir()
    (tmp_path / "DTD" / "unpacked").mkdir()
    (tmp_path / "DTD" / DTD).symlink_to(textures / "dtd" / DTD)
    (tmp_path / "DTD" / "unpacked" / "images").symlink_to(textures / "dtd" / "images")
    report = check(kind_of("DescribableTextures"), str(tmp_path))
    assert report.state == "complete" and not report.todo
    assert report.notes == [
        f"the folder is misnamed, which the loader accepts: mv {tmp_path}/DTD {tmp_path}/dtd",
        f"the images lie elsewhere than usual, which the loader accepts: they belong into {tmp_path}/DTD/images",
    ]
    os.rename(tmp_path / "DTD", tmp_path / "dtd")
    os.rename(tmp_path / "dtd" / "unpacked" / "images", tmp_path / "dtd" / "images")
    report = check(kind_of("DescribableTextures"), str(tmp_path))
    assert report.state == "complete" and not report.notes


def test_commands_can_be_pasted_whatever_the_folders_are_called(textures, tmp_path, capsys):
    root = tmp_path / "my data"
    root.mkdir()
    (root / "DTD").symlink_to(textures / "dtd")
    assert main(["check", str(root), "dtd", "ucf101"]) == 1
    assert main(["fetch", "dtd", "--root", str(root), "--again", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert out.count(str(root)) > 3
    for start in ("mv", "python -m datasets check", "python -m datasets fetch", "python train.py"):
        command = next(start + line.partition(start)[2] for line in out.splitlines() if start in line)
        assert {str(root), str(root / "DTD")} & set(shlex.split(command)), command
    assert out.count(f"mv '{root}/DTD' '{root}/dtd'") == 2


def test_what_is_accepted_is_what_a_run_reads(textures, tmp_path, capsys):
    (tmp_path / "textures").symlink_to(textures / "dtd")
    report = check(kind_of("DescribableTextures"), str(tmp_path))
    assert report.state == "complete" and "2,820 train; 1,128 val; 1,692 test" in text_of(report)
    cfg = make_cfg(tmp_path, "DescribableTextures")
    dataset = build_dataset(cfg)
    note = f"is read from {tmp_path}/textures/images; its usual place is {tmp_path}/dtd/images"
    assert note in capsys.readouterr().out
    assert dataset.train_x[0].impath.startswith(f"{tmp_path}/textures/images/")


ALIAS_LAYOUTS = [  # (writer of the usual layout, registry name, {usual place: another})
    (trees.write_food, "Food101", {"food-101": "Food 101"}),
    (trees.write_food, "Food101", {"food-101/images": "food-101/food-101/images"}),
    (trees.write_pets, "OxfordPets", {"oxford_pets": "oxford-iiit-pet"}),
    (trees.write_pets, "OxfordPets", {"oxford_pets": "pets/oxford-iiit-pet"}),
    (trees.write_aircraft, "FGVCAircraft", {"fgvc_aircraft": "fgvc-aircraft-2013b/data"}),
    (trees.write_flowers, "OxfordFlowers", {"oxford_flowers": "flowers-102"}),
    (trees.write_cars, "StanfordCars", {"stanford_cars": "cars/stanford_cars"}),
    (trees.write_sun, "SUN397", {"sun397/SUN397": "SUN397", "sun397": "SUN397"}),
    (trees.write_ucf, "UCF101", {"ucf101": "UCF-101"}),
    (trees.write_eurosat, "EuroSAT", {"eurosat/2750": "EuroSAT"}),
    (trees.write_eurosat, "EuroSAT", {"eurosat/2750": "EuroSAT_RGB/EuroSAT_RGB"}),
    (trees.write_imagenet, "ImageNet", {f"imagenet/images/{part}": f"imagenet/{part}" for part in ("train", "val")}),
    (trees.write_imagenet, "ImageNet", {"imagenet/images": "ILSVRC/Data/CLS-LOC", "imagenet": "ILSVRC"}),
]


@pytest.mark.filterwarnings("ignore:no .* made a split of our own")
@pytest.mark.parametrize(("write", "name", "moves"), ALIAS_LAYOUTS, ids=[str(row[2]) for row in ALIAS_LAYOUTS])
def test_alias_layouts_are_read_like_the_usual_one(write, name, moves, tmp_path):
    def contents(root: Path):
        dataset = build_dataset(make_cfg(root, name, OUTPUT_DIR=str(root / "out"), DATASET__NUM_SHOTS=1, SEED=1))
        lists = (dataset.train_x, dataset.val, dataset.test)
        return [[(Path(d.impath).name, d.label, d.classname) for d in items] for items in lists]

    write(tmp_path / "usual")
    write(tmp_path / "moved")
    for usual, other in moves.items():
        source, target = tmp_path / "moved" / usual, tmp_path / "moved" / other
        if target.exists():  # the rest of a folder whose images went ahead
            for child in source.iterdir():
                child.rename(target / child.name)
            source.rmdir()
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            source.rename(target)
    for folder in ("imagenet/images", "eurosat", "imagenet"):
        with contextlib.suppress(OSError):
            (tmp_path / "moved" / folder).rmdir()
    assert contents(tmp_path / "moved") == contents(tmp_path / "usual")


def test_annotations_of_imagenet_are_not_taken_for_its_images(tmp_path):
    """The whole archive has three folders CLS-LOC, two of which hold train and val."""
    base = trees.write_imagenet(tmp_path)
    archive = base / "ILSVRC"
    (archive / "Data").mkdir(parents=True)
    os.rename(base / "images", archive / "Data" / "CLS-LOC")
    trees.write_lines(archive / "Annotations/CLS-LOC/train" / trees.WNIDS[0] / "1.xml", ["<annotation/>"])
    trees.write_lines(archive / "ImageSets/CLS-LOC/train_cls.txt", ["1"])
    dataset = build_dataset(make_cfg(tmp_path, "ImageNet"))
    assert dataset.image_dir == str(archive / "Data" / "CLS-LOC") and len(dataset.train_x) == 48


def test_missing_split_file_is_not_made(tmp_path):
    base = trees.write_food(tmp_path)
    report = check(kind_of("Food101"), str(tmp_path))
    assert "no split file" in report.problems[0] and "30 image files" in report.facts
    assert kind_of("Food101").published.split_drive_id in report.todo[0]
    assert [path.name for path in base.iterdir()] == ["images"]


@pytest.mark.filterwarnings("ignore:no .* made a split of our own")
def test_a_split_that_a_run_made_is_not_taken_for_the_published_one(tmp_path, capsys):
    trees.write_food(tmp_path)
    trees.write_eurosat(tmp_path)
    assert main(["picks", "food101", "--root", str(tmp_path), "--shots", "1"]) == 0
    assert main(["picks", "eurosat", "--root", str(tmp_path), "--shots", "1"]) == 0
    for name, problem in (("Food101", "was made by an earlier run"), ("EuroSAT", "is not the published split")):
        text = text_of(check(kind_of(name), str(tmp_path)))
        assert problem in text
        assert f"python -m datasets fetch {kind_of(name).config} --root {tmp_path} --only splits --again" in text


def test_missing_and_unreadable_images(textures, tmp_path):
    images = tmp_path / "dtd" / "images"
    images.mkdir(parents=True)
    for folder in (textures / "dtd" / "images").iterdir():
        (images / folder.name).symlink_to(folder)
    (tmp_path / "dtd" / DTD).symlink_to(textures / "dtd" / DTD)
    (images / "banded").unlink()
    trees.write_images(images / "banded" / path.name for path in (textures / "dtd/images/banded").iterdir())
    bad = sorted((images / "banded").iterdir())
    assert "all 5,640 images can be read (looked at" in text_of(check(kind_of("DescribableTextures"), str(tmp_path)))
    bad[0].write_bytes(trees.PICTURE[:400])
    bad[1].write_bytes(b"")
    bad[2].write_text("<html>not found</html>")
    report = check(kind_of("DescribableTextures"), str(tmp_path))
    assert report.problems[0].startswith("3 of 5640 images cannot be read")
    assert all(str(path) in report.problems[0] for path in bad[:3])
    assert report.todo == [f"python -m datasets fetch dtd --root {tmp_path} --only images --again"]
    middle = trees.PICTURE.index(b"\xff\xda") + 100  # the ends are there, what is between is not
    bad[3].write_bytes(trees.PICTURE[:80] + trees.PICTURE[middle:])
    report = check(kind_of("DescribableTextures"), str(tmp_path), images=True)
    assert report.problems[0].startswith("4 of 5640 images cannot be read") and str(bad[3]) in report.problems[0]
    bad[0].unlink()
    report = check(kind_of("DescribableTextures"), str(tmp_path))
    assert "1 of the 5640 image files named by split_zhou_DescribableTextures.json do not exist" in report.problems[0]
    assert report.state == "incomplete"


def test_a_damaged_split_file_is_what_is_fetched_again(tmp_path):
    base = trees.write_food(tmp_path)
    (base / "split_zhou_Food101.json").write_text('{"train": [')
    report = check(kind_of("Food101"), str(tmp_path))
    assert "split_zhou_Food101.json is damaged" in text_of(report)
    assert report.todo == [f"python -m datasets fetch food101 --root {tmp_path} --only splits --again"]


def test_a_misnamed_folder_without_images_lacks_them_all_the_same(tmp_path):
    (tmp_path / "DTD").mkdir()
    rename, fetch = check(kind_of("DescribableTextures"), str(tmp_path)).todo
    assert rename == f"mv {tmp_path}/DTD {tmp_path}/dtd"
    assert "dtd-r1.0.1.tar.gz" in fetch and kind_of("DescribableTextures").published.split_drive_id in fetch


def test_counts_and_names_are_compared(tmp_path):
    trees.write_aircraft(tmp_path)
    report = check(kind_of("FGVCAircraft"), str(tmp_path))
    assert report.state == "incomplete"
    assert "40 train, 40 val, 40 test, but the published split has 3,334 train" in text_of(report)
    assert "4 classes, but the published data set has 100" in text_of(report)
    assert "class names differ" in text_of(report)


def test_imagenet_and_a_variant(tmp_path):
    trees.write_imagenet(tmp_path)
    report = check(kind_of("ImageNet"), str(tmp_path))
    assert "48 train, 18 test, but the published split has 1,281,167 train, 50,000 test" in text_of(report)
    trees.write_variant(tmp_path, "imagenet-sketch", "sketch", trees.WNIDS[:3], names=False)
    report = check(kind_of("ImageNetSketch"), str(tmp_path))
    assert f"they belong into {tmp_path}/imagenet-sketch/images" in text_of(report)
    assert "without classnames.txt" in text_of(report)
    assert "--eval-only --model-dir output/imagenet" in run_command(kind_of("ImageNetSketch"), "data")


def test_pictures_of_ones_own(tmp_path, capsys):
    write_class_folders(tmp_path, {"cat": 10, "dog": 10}, suffix=".png", real=True)
    assert main(["check", str(tmp_path), "folder"]) == 0
    said = capsys.readouterr().out
    assert "10 train, 4 val, 6 test images of 2 classes" in said and "all 20 images can be read (decoded)" in said
    write_bad_images(tmp_path / "cat")
    shutil.copy(tmp_path / "cat" / "001.png", tmp_path / "dog" / "copy\x1b[2J.png")
    assert main(["check", str(tmp_path), "folder"]) == 1
    said = capsys.readouterr().out
    assert "7 of 28 images cannot be read" in said and all(f"cat/{name}: " in said for name in BAD_IMAGES)
    assert r"cat/001.png = dog/copy\x1b[2J.png (of 2 classes)" in said and "\x1b" not in said
    table = tmp_path / "t.csv"
    table.write_text("path,label\n" + "".join(f"{c}/{n:03}.png,{c}\n" for c in ("cat", "dog") for n in range(10)))
    assert main(["check", str(tmp_path), "folder", "--csv", "t.csv"]) == 0
    assert "all 20 images can be read" in capsys.readouterr().out
    assert main(["check", str(tmp_path)]) == 1  # none of the published data sets is there
    assert capsys.readouterr().out.endswith(f"pictures of your own? then: python -m datasets check {tmp_path} folder\n")
    (tmp_path / "yak").mkdir()
    assert main(["check", str(tmp_path), "folder"]) == 1
    said = capsys.readouterr().out
    assert "class folders without an image (1): 'yak'" in said and "7 of 28 images cannot be read" in said


# --- picks -----------------------------------------------------------------------------------------------


def test_picks_in_three_formats(textures, tmp_path, capsys):
    for file in ("images", DTD):
        (tmp_path / "dtd").mkdir(exist_ok=True)
        (tmp_path / "dtd" / file).symlink_to(textures / "dtd" / file)
    command = ["picks", "dtd", "--root", str(tmp_path), "--shots", "16"]
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "16-shot, seed 1" in lines[0] and "train 44cd1df01ad03868, val 08557d1519cdb71a (as published)" in lines[1]
    assert lines[2] == "train\t0\tbanded\tbanded/banded_0117.jpg" and len(lines) == 2 + 752 + 188

    assert main([*command, "--format", "json", "--out", str(tmp_path / "new" / "picks.json")]) == 0
    assert "752 train and 188 val images" in capsys.readouterr().out
    content = json.loads((tmp_path / "new" / "picks.json").read_text())
    assert (content["shots"], content["seed"], content["published"]) == (16, 1, True)
    assert content["train"][-1] == {"path": "zigzagged/zigzagged_0068.jpg", "label": 46, "classname": "zigzagged"}
    assert os.listdir(tmp_path / "new") == ["picks.json"]

    assert main([*command, "--format", "csv", "--seed", "2"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert len(rows) == 940 and rows[0]["classname"] == "banded" and rows[0]["split"] == "train"


def test_picks_of_imagenet_hold_no_test_image(tmp_path, capsys):
    trees.write_imagenet(tmp_path)
    assert main(["picks", "ImageNet", "--root", str(tmp_path), "--shots", "2", "--format", "json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert len(content["train"]) == 12 and content["val"] == [] and content["published"] is None


def test_picks_find_the_data_where_the_scripts_do(textures, capsys, monkeypatch):
    monkeypatch.setenv("DATA", str(textures))
    assert main(["picks", "dtd", "--shots", "1", "--seed", "1"]) == 0
    assert "train 3d58099f6a885783, val 337a5a18036e1d81 (as published)" in capsys.readouterr().out
    (textures / "dtd" / "split_fewshot" / "shot_1-seed_1.json").unlink()
    (textures / "dtd" / "split_fewshot").rmdir()


def test_picks_of_a_data_set_that_is_not_published(tmp_path, capsys, demo_data):
    demo_data(tmp_path)
    assert main(["picks", "demo", "--root", str(tmp_path), "--shots", "2", "--format", "json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert len(content["train"]) == 28 and content["published"] is None
    assert main(["check", str(tmp_path), "demo"]) == 2  # there is nothing to compare it with


def test_picks_without_data(tmp_path, capsys):
    assert main(["picks", "dtd", "--root", str(tmp_path), "--shots", "1"]) == 1
    assert "must be the folder that holds 'dtd'" in capsys.readouterr().err


# --- the command line ------------------------------------------------------------------------------------


def test_names():
    for kind in published():
        assert find_kind(kind.__name__) is find_kind(kind.config) is kind
        assert {find_kind(alias) for alias in kind.published.aliases} == {kind}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["check", ".", "caltech102"], "no data set named 'caltech102'; did you mean 'caltech101'?"),
        (["check", "nowhere-at-all"], "no folder"),
        (["picks", "imagenet_a", "--root", ".", "--shots", "1"], "for evaluation only"),
    ],
)
def test_usage(argv, message, capsys):
    assert main(argv) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("argv", [[], ["check"], ["picks", "dtd", "--root", "x", "--shots", "0"], ["fetch"]])
def test_bad_command_line(argv, capsys):
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2


def test_as_a_program(tmp_path):
    command = [sys.executable, "-m", "datasets", "check", str(tmp_path), "eurosat"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 1 and "1 not found: eurosat" in done.stdout and not done.stderr


@pytest.mark.parametrize("argv", [["datasets"], ["datasets", "check"], ["datasets", "fetch"], ["datasets", "picks"],
                                  ["demo"], ["demo.train_resnet"], ["demo.train_vit"]], ids=" ".join)
def test_help_needs_no_torch(argv):
    program = (
        "import runpy, sys\n"
        f"sys.argv[1:] = {[*argv[1:], '--help']!r}\n"
        f"try: runpy.run_module({argv[0]!r}, run_name='__main__')\n"
        "finally: print('loaded:', *{'torch', 'torchvision', 'scipy', 'open_clip'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 0 and done.stdout.startswith("usage: ") and done.stdout.endswith("loaded:\n"), done.stderr
