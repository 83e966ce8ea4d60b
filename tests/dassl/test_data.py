"""Datum, DatasetBase, loaders, batches, checks of the images: dassl/data without any real data set."""

from __future__ import annotations

import hashlib
import pickle
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms as T

import dassl.data
from dassl.data import DataManager, DatasetWrapper, check_images, fingerprint
from dassl.data.data_manager import build_data_loader
from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum, build_dataset
from dassl.data.integrity import bad_lines, unreadable
from dassl.utils.rng import get_rng_state, set_rng_state
from tests.support.closeness import assert_close
from tests.support.data import make_cfg, write_picture


def bare(label: int, name: str | None = None, impath: str = "x.jpg", domain: int = 0) -> Datum:
    """A Datum of a file that need not exist."""
    item = Datum.__new__(Datum)
    item._impath, item._label, item._domain = impath, label, domain
    item._classname = f"class {label}" if name is None else name
    return item


@pytest.fixture
def pictures(tmp_path: Path) -> list[Datum]:
    """Ten pictures of three classes."""
    return [
        Datum(
            str(write_picture(tmp_path / f"{number}.png", number)),
            number % 3,
            classname=f"class {number % 3}",
        )
        for number in range(10)
    ]


class Pictures(DatasetBase):
    """A data set as a plugin would write it; takes its lists from `Pictures.lists`."""

    lists: dict = {}

    def __init__(self, cfg):
        super().__init__(**self.lists)


@pytest.fixture
def registered(pictures, monkeypatch) -> list[Datum]:
    if "Pictures" not in DATASET_REGISTRY.registered_names():
        DATASET_REGISTRY.register(Pictures)
    monkeypatch.setattr(Pictures, "lists", {"train_x": pictures, "val": pictures[:3], "test": pictures[:7]})
    return pictures


# --- Datum and DatasetBase -------------------------------------------------------------------------------


def test_datum_is_what_pickles_expect(tmp_path):
    path = str(write_picture(tmp_path / "a.png"))
    item = Datum(path, label=3, domain=1, classname="cat")
    assert (item.impath, item.label, item.domain, item.classname) == (path, 3, 1, "cat")
    assert vars(item) == {"_impath": path, "_label": 3, "_domain": 1, "_classname": "cat"}
    assert (Datum.__module__, Datum.__name__) == ("dassl.data.datasets.base_dataset", "Datum")
    copy = pickle.loads(pickle.dumps(item, protocol=pickle.HIGHEST_PROTOCOL))
    (tmp_path / "a.png").unlink()
    assert pickle.loads(pickle.dumps(copy)).impath == path  # no look at the file when unpickled
    with pytest.raises(AttributeError):
        item.label = 4


def test_datum_needs_an_existing_file(tmp_path):
    with pytest.warns(UserWarning), pytest.raises(AssertionError, match=r"nowhere\.png"):
        Datum(str(tmp_path / "nowhere.png"))
    with pytest.raises(AssertionError, match="str"):
        Datum(tmp_path)


def test_dataset_base_names_its_classes():
    train = [bare(2), bare(0), bare(1), bare(0)]
    dataset = DatasetBase(train_x=train, test=[bare(1)])
    assert dataset.num_classes == 3
    assert dataset.classnames == ["class 0", "class 1", "class 2"]
    assert list(dataset.lab2cname.items()) == [(0, "class 0"), (1, "class 1"), (2, "class 2")]
    assert dataset.train_x is train and dataset.train_u is None and dataset.val is None
    assert list(dataset.split_dataset_by_label(train)) == [2, 0, 1]
    assert dataset.split_dataset_by_label(train)[0] == [train[1], train[3]]
    by_domain = dataset.split_dataset_by_domain([bare(0, domain=5), bare(1, domain=2), bare(2, domain=5)])
    assert [(domain, len(items)) for domain, items in by_domain.items()] == [(5, 2), (2, 1)]


def test_dataset_base_refuses_contradictions():
    with pytest.raises(ValueError, match="label 0 has two class names, 'cat' and 'dog'"):
        DatasetBase(train_x=[bare(0, "cat"), bare(0, "dog")])
    with pytest.raises(ValueError, match="no training image has label 1"):
        DatasetBase(train_x=[bare(0), bare(2)])
    with pytest.raises(ValueError, match="no labelled training image"):
        DatasetBase(train_x=[])
    with pytest.raises(ValueError, match="sketch"):
        DatasetBase(train_x=[bare(0)]).check_input_domains(["sketch"], [])


VECTORS = [  # seed, [(items, shots), ...], picks: random.sample after a fresh random.seed
    (1, [(30, 1)] * 5, [[4], [18], [27], [25], [24]]),
    (1, [(30, 4)] * 3, [[4, 18, 27, 25], [24, 2, 8, 3], [15, 24, 14, 20]]),
    (2, [(20, 2), (16, 2), (400, 2)], [[1, 2], [2, 5], [86, 376]]),
    (3, [(20, 16)], [[7, 18, 17, 4, 11, 14, 9, 19, 10, 13, 1, 0, 12, 2, 16, 15]]),
]


@pytest.mark.parametrize("private", [False, True])
@pytest.mark.parametrize(("seed", "classes", "expected"), VECTORS)
def test_fewshot_draws(seed, classes, expected, private, capsys):
    shots = classes[0][1]
    items = [bare(label, impath=str(k)) for label, (count, _) in enumerate(classes) for k in range(count)]
    random.seed(seed)
    options = {"rng": random.Random(seed)} if private else {}
    picks = DatasetBase.generate_fewshot_dataset(DatasetBase(items), items, num_shots=shots, **options)
    assert [int(item.impath) for item in picks] == sum(expected, [])
    assert capsys.readouterr().out == f"Creating a {shots}-shot dataset\n"


def test_fewshot_rules(capsys):
    few, many = (
        [bare(1, impath=f"few {k}") for k in range(2)],
        [bare(0, impath=f"many {k}") for k in range(9)],
    )
    dataset = DatasetBase(few + many)
    both = (few + many, many)
    assert dataset.generate_fewshot_dataset(*both) == both  # fewer than one shot: as they are
    assert dataset.generate_fewshot_dataset(many, num_shots=0) is many
    assert capsys.readouterr().out == ""
    random.seed(5)
    first, second = dataset.generate_fewshot_dataset(*both, num_shots=4)
    assert first[:2] == few and len(first) == 6 and len(second) == 4
    random.seed(5)  # the class that is taken whole draws nothing
    assert first[2:] == random.sample(many, 4) and second == random.sample(many, 4)
    filled = dataset.generate_fewshot_dataset(few, num_shots=5, repeat=True)
    assert len(filled) == 5 and set(filled) <= set(few)


def test_registry_finds_and_suggests(registered, capsys):
    dataset = build_dataset(make_cfg(name="Pictures"))
    assert isinstance(dataset, Pictures)
    assert capsys.readouterr().out == "Loading dataset: Pictures\n"
    with pytest.raises(ValueError, match="Pictures"):
        build_dataset(make_cfg(name="Picture"))


# --- samples and batches ---------------------------------------------------------------------------------


def test_sample_keys(pictures):
    cfg = make_cfg(DATALOADER__RETURN_IMG0=True, INPUT__TRANSFORMS=("normalize",))
    sample = DatasetWrapper(cfg, pictures, transform=T.ToTensor())[4]
    assert {key: sample[key] for key in ("label", "domain", "index")} == {"label": 1, "domain": 0, "index": 4}
    assert sample["impath"] == pictures[4].impath
    pixels = T.ToTensor()(Image.open(pictures[4].impath))
    assert_close(sample["img"], pixels)
    resized = T.functional.resize(Image.open(pictures[4].impath), [32, 32])
    expected = T.functional.normalize(T.ToTensor()(resized), cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD)
    assert_close(sample["img0"], expected)
    plain = DatasetWrapper(make_cfg(), pictures)[0]
    assert isinstance(plain["img"], Image.Image) and plain["img"].mode == "RGB" and "img0" not in plain


def test_several_transforms_and_copies(pictures):
    cfg = make_cfg(DATALOADER__K_TRANSFORMS=3)
    two = [T.ToTensor(), T.Compose([T.Grayscale(), T.ToTensor()])]
    sample = DatasetWrapper(cfg, pictures, transform=two, is_train=True)[0]
    assert [copy.shape[0] for copy in sample["img"] + sample["img2"]] == [3, 3, 3, 1, 1, 1]
    assert (
        DatasetWrapper(cfg, pictures, transform=two)[0]["img2"].shape[0] == 1
    )  # not a list: only when training
    with pytest.raises(ValueError, match="K_TRANSFORMS is 3"):
        DatasetWrapper(cfg, pictures, is_train=True)


def test_every_kind_of_picture_becomes_rgb(tmp_path):
    kinds = {"grey.png": "L", "alpha.png": "RGBA", "palette.png": "P", "bits.bmp": "1", "cmyk.jpg": "CMYK"}
    items = [bare(0, impath=str(write_picture(tmp_path / name, mode=mode))) for name, mode in kinds.items()]
    items.append(bare(0, impath=str(write_picture(tmp_path / "a.webp"))))
    wrapper = DatasetWrapper(make_cfg(), items, transform=T.ToTensor())
    assert {wrapper[position]["img"].shape for position in range(len(items))} == {(3, 36, 40)}


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of fork beside threads
def test_unreadable_image_is_named(pictures, workers):
    Path(pictures[1].impath).write_bytes(b"no picture")
    cfg = make_cfg(DATALOADER__NUM_WORKERS=workers)
    loader = build_data_loader(cfg, data_source=pictures, tfm=T.ToTensor(), is_train=False)
    with pytest.raises(OSError, match=re.escape(pictures[1].impath)):
        next(iter(loader))


@pytest.mark.parametrize(
    ("items", "size", "training", "batches"),
    [
        (10, 4, True, [4, 4]),
        (10, 4, False, [4, 4, 2]),
        (3, 4, True, [3]),
        (4, 4, True, [4]),
        (5, 4, True, [4]),
    ],
)
def test_short_last_batch(pictures, items, size, training, batches):
    loader = build_data_loader(
        make_cfg(),
        "SequentialSampler",
        pictures[:items],
        batch_size=size,
        tfm=T.ToTensor(),
        is_train=training,
    )
    batch = next(iter(loader))
    assert [len(batch["label"]) for batch in loader] == batches and len(loader) == len(batches)
    assert batch["img"].dtype == torch.float32 and batch["img"].shape[1:] == (3, 36, 40)
    assert all(batch[key].dtype == torch.int64 for key in ("label", "domain", "index"))
    assert batch["impath"] == [item.impath for item in pictures[: len(batch["label"])]]


def test_a_loader_without_batches_is_refused(pictures):
    with pytest.raises(AssertionError, match="no image"):
        build_data_loader(make_cfg(), data_source=[])
    with pytest.raises(AssertionError, match="no batch of 32"):
        build_data_loader(make_cfg(), "SeqDomainSampler", pictures, batch_size=32, tfm=T.ToTensor())


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_restored_random_state_repeats_the_epoch(registered, workers):
    """What exact resume rests on: order and crops come from the global generators at the epoch's start."""
    cfg = make_cfg(name="Pictures", DATALOADER__NUM_WORKERS=workers, DATALOADER__TRAIN_X__BATCH_SIZE=3)
    cfg.INPUT.TRANSFORMS = ("random_resized_crop", "random_flip", "random_translation", "cutout", "normalize")

    def epoch(loader):
        return [(batch["index"], batch["img"]) for batch in loader]

    loader = DataManager(cfg).train_loader_x
    torch.manual_seed(3)
    random.seed(3)
    epoch(loader)
    state = get_rng_state()
    second = epoch(loader)
    fresh = DataManager(cfg).train_loader_x
    set_rng_state(state)
    repeated = epoch(fresh)
    assert len(second) == 3
    for (index, image), (index_again, image_again) in zip(second, repeated, strict=True):
        assert torch.equal(index, index_again) and torch.equal(image, image_again)


def test_wrapper_survives_a_spawned_worker(pictures):
    cfg = make_cfg(INPUT__TRANSFORMS=tuple(dassl.data.transforms.AVAI_CHOICES))
    wrapper = DatasetWrapper(
        cfg, pictures, transform=dassl.data.transforms.build_transform(cfg), is_train=True
    )
    assert pickle.loads(pickle.dumps(wrapper))[2]["img"].shape == (3, 32, 32)


# --- DataManager -----------------------------------------------------------------------------------------


def test_data_manager(registered, capsys):
    cfg = make_cfg(name="Pictures", DATALOADER__TRAIN_X__BATCH_SIZE=4, DATALOADER__TEST__BATCH_SIZE=5)
    manager = DataManager(cfg)
    assert (manager.num_classes, manager.num_source_domains, manager.train_loader_u) == (3, 0, None)
    assert manager.lab2cname == manager.dataset.lab2cname
    assert isinstance(manager.train_loader_x.sampler, torch.utils.data.RandomSampler)
    assert [len(batch["label"]) for batch in manager.test_loader] == [5, 2]
    assert [len(batch["label"]) for batch in manager.val_loader] == [3]
    assert not manager.val_loader.dataset.is_train and manager.train_loader_x.dataset.is_train
    assert capsys.readouterr().out.splitlines()[-7:] == [
        "---------  --------",
        "Dataset    Pictures",
        "# classes  3",
        "# train_x  10",
        "# val      3",
        "# test     7",
        "---------  --------",
    ]


def test_data_manager_without_validation_and_with_unlabelled(registered, capsys):
    Pictures.lists |= {"val": [], "train_u": registered * 200}
    cfg = make_cfg(name="Pictures", DATALOADER__TRAIN_X__BATCH_SIZE=2, DATALOADER__TRAIN_U__BATCH_SIZE=5)
    cfg.DATASET.SOURCE_DOMAINS = ("photo", "art")
    manager = DataManager(cfg)
    assert manager.val_loader is None and manager.num_source_domains == 2
    assert manager.train_loader_u.batch_size == 2  # same as x
    out = capsys.readouterr().out
    assert re.search(r"^Source +\('photo', 'art'\)$", out, re.M) and re.search(
        r"^# train_u +2,000$", out, re.M
    )
    assert "# val" not in out
    cfg.DATALOADER.TRAIN_U.SAME_AS_X, cfg.VERBOSE = False, False
    assert DataManager(cfg).train_loader_u.batch_size == 5
    assert "# classes" not in capsys.readouterr().out


def test_one_class_is_no_task(registered, monkeypatch):
    monkeypatch.setattr(Pictures, "lists", {"train_x": registered[:1], "test": registered[:1]})
    with pytest.raises(ValueError, match="Pictures has one class only, 'class 0'.*give it a second class"):
        DataManager(make_cfg(DATASET__NAME="Pictures"))


def test_classes_that_no_test_image_speaks_of_are_named(registered, monkeypatch):
    lists = {"train_x": registered, "test": [item for item in registered if item.label != 1]}
    monkeypatch.setattr(Pictures, "lists", lists)
    with pytest.warns(UserWarning, match="1 of 3 classes have no test image.*: 'class 1'"):
        DataManager(make_cfg(DATASET__NAME="Pictures"))


def test_data_manager_replaceable_parts(registered, capsys):
    class Upper(DatasetWrapper):
        pass

    manager = DataManager(make_cfg(name="Pictures"), [T.ToTensor(), T.ToTensor()], T.ToTensor(), Upper)
    assert isinstance(manager.test_loader.dataset, Upper)
    batch = next(iter(manager.train_loader_x))
    assert batch["img2"].shape == (10, 3, 36, 40)
    out = capsys.readouterr().out
    assert "Building" not in out and out.count("custom transform") == 2


# --- fingerprint and check -------------------------------------------------------------------------------


def test_fingerprint(tmp_path):
    dataset = DatasetBase(
        [bare(0, "cat", str(tmp_path / "a/1.jpg"))], test=[bare(0, "cat", "/elsewhere/2.jpg")]
    )
    dataset.dataset_dir = str(tmp_path)
    lines = "train\t0\ta/1.jpg\tcat\ntest\t0\t/elsewhere/2.jpg\tcat\n"
    assert fingerprint(dataset) == hashlib.sha256(lines.encode()).hexdigest()
    moved = DatasetBase([bare(0, "cat", "/other/a/1.jpg")], test=dataset.test)
    moved.dataset_dir = "/other"
    assert fingerprint(moved) == fingerprint(dataset)
    renamed = DatasetBase([bare(0, "dog", "/other/a/1.jpg")], test=[])
    renamed.dataset_dir = "/other"
    assert fingerprint(renamed) != fingerprint(dataset)


def test_check_images_names_the_bad_ones(pictures, capfd):
    dataset = DatasetBase(pictures[:8], val=pictures[:8], test=pictures[8:])
    check_images(dataset)
    for number, size in ((0, 60), (1, 0), (9, -200)):  # damaged head, empty, and a cut end of a test image
        path = Path(pictures[number].impath)
        path.write_bytes(path.read_bytes()[:size] if size else b"")
    Path(pictures[2].impath).unlink()
    with pytest.raises(ValueError) as caught:
        check_images(dataset, progress=False)
    message = str(caught.value)
    assert message.startswith("4 of 10 image files")
    assert all(pictures[number].impath in message for number in (0, 1, 2, 9))
    assert capfd.readouterr().err == ""  # no bar where there is no terminal
    for item in pictures[:8]:
        Path(item.impath).write_bytes(b"?")
    with pytest.raises(ValueError, match=r"^9 of 10 image files") as caught:
        check_images(dataset)
    assert str(caught.value).count(str(Path(pictures[0].impath).parent)) == 9  # all at once


def test_of_many_bad_files_a_dozen_is_named():
    bad = {f"{number}\x1b[2J.jpg": "why" for number in range(14)}
    assert bad_lines(bad) == [rf"{number}\x1b[2J.jpg: why" for number in range(12)] + ["... and 2 more"]
    assert len(bad_lines(bad, len(bad))) == 14


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp"])
def test_a_cut_file_is_found_without_decoding_the_whole_ones(tmp_path, suffix, monkeypatch):
    whole, cut, longer = (write_picture(tmp_path / f"{name}{suffix}") for name in ("whole", "cut", "longer"))
    cut.write_bytes(cut.read_bytes()[:-30])
    longer.write_bytes(longer.read_bytes() + bytes(1000))  # some cameras do that
    assert list(unreadable({str(path): False for path in (whole, cut, longer)})) == [str(cut)]
    assert list(unreadable({str(path): True for path in (whole, cut, longer)})) == [str(cut)]
    if suffix in (".jpg", ".png"):
        monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: 1 / 0)
        assert unreadable({str(whole): False}) == {}
        assert list(unreadable({str(whole): True})) == [str(whole)]


def test_damaged_files_of_every_kind_are_found(tmp_path):
    """Damaged files raise many sorts of errors inside Pillow; all must arrive as one that names the file."""
    rng = np.random.default_rng(0)
    for suffix in (".jpg", ".png", ".webp", ".bmp"):
        content = write_picture(tmp_path / f"good{suffix}").read_bytes()
        for number in range(40):
            damaged = bytearray(content[: rng.integers(0, len(content))])
            for position in rng.integers(0, 60, 3):
                if position < len(damaged):
                    damaged[position] = rng.integers(0, 256)
            path = tmp_path / f"{number}{suffix}"
            path.write_bytes(damaged)
            try:
                DatasetWrapper(make_cfg(), [bare(0, impath=str(path))], T.ToTensor())[0]
            except OSError as error:
                assert str(path) in str(error)
