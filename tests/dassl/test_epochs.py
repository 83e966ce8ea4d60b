"""Worker processes that stay, and training images that are decoded once: the same numbers as without."""
from __future__ import annotations

import copy
import multiprocessing
import os
import random

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from dassl.config import get_cfg_default
from dassl.data import image_memory
from dassl.data.data_manager import DatasetWrapper, build_data_loader
from dassl.data.epochs import EpochLoader
from dassl.data.image_memory import IMAGES, ImageMemory
from dassl.data.integrity import unreadable
from dassl.data.transforms import build_transform
from dassl.utils import read_image, set_random_seed
from dassl.utils.images import Reading
from dassl.utils.rng import get_rng_state, set_rng_state
from tests.support.data import write_picture


class Item:
    def __init__(self, path, label):
        self.impath, self.label, self.domain, self.classname = str(path), label, label % 2, f"class {label}"


@pytest.fixture
def items(tmp_path):
    IMAGES.clear()
    yield [Item(write_picture(tmp_path / f"{i}.jpg", i), i % 3) for i in range(14)]
    IMAGES.clear()


class Noisy(DatasetWrapper):
    """Draws from all three generators, as plugins may."""

    def __getitem__(self, idx):
        sample = super().__getitem__(idx)
        sample["noise"] = torch.tensor([random.random(), np.random.rand(), torch.rand(()).item()], dtype=torch.float64)
        sample["process"] = os.getpid()
        return sample


def config(workers, sampler="RandomSampler", **dataloader):
    cfg = get_cfg_default()
    cfg.INPUT.SIZE = (16, 16)
    cfg.INPUT.TRANSFORMS = ("random_resized_crop", "random_flip", "colorjitter", "gaussian_noise", "normalize")
    cfg.DATALOADER.NUM_WORKERS = workers
    for key, value in dataloader.items():
        cfg.DATALOADER[key] = value
    return cfg


def loader_of(cfg, items, sampler="RandomSampler"):
    return build_data_loader(cfg, sampler, items, batch_size=4, n_domain=2, tfm=build_transform(cfg),
                             dataset_wrapper=Noisy)


def plain_loader(loader):
    """The same without what this file is about: fresh workers every epoch, and files read every time."""
    return DataLoader(loader.dataset, batch_size=4, sampler=loader.sampler, num_workers=loader.num_workers,
                      drop_last=True)


def epochs(loader, count=3, seed=1):
    set_random_seed(seed)
    found = []
    for _ in range(count):
        found.append([(b["img"], b["noise"], b["index"]) for b in loader])
        found.append([(torch.rand(2), torch.tensor(random.random()))])  # training goes on with the same numbers
    return found


def same(a, b):
    a, b = ([tensor for epoch in found for batch in epoch for tensor in batch] for found in (a, b))
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("sampler", ["RandomSampler", "RandomDomainSampler"])
def test_every_number_is_that_of_fresh_workers(items, workers, sampler):
    cfg = config(workers)
    loader = loader_of(cfg, items, sampler)
    plain = epochs(plain_loader(loader))
    assert isinstance(loader, EpochLoader) and same(epochs(loader), plain)
    assert not same(plain[:2], plain[2:4])


def test_workers_stay(items):
    loader = loader_of(config(2), items)
    first, second = ({int(p) for batch in loader for p in batch["process"]} for _ in range(2))
    assert first == second and os.getpid() not in first


def test_workers_are_ended_when_asked(items):
    loader = loader_of(config(2), items)
    loader.end_workers()  # none have started
    running = iter(loader)  # still refers to them, as the traceback of a failed run does
    first = {int(p) for batch in running for p in batch["process"]}
    loader.end_workers()
    assert not first & {process.pid for process in multiprocessing.active_children()}
    plain = epochs(plain_loader(loader))
    assert same(epochs(loader), plain) and not first & {int(p) for batch in loader for p in batch["process"]}


def test_an_epoch_that_is_resumed_is_repeated_exactly(items):
    loader = loader_of(config(2), items)
    set_random_seed(3)
    list(loader)
    state = get_rng_state()
    want = [(batch["img"], batch["noise"]) for batch in loader]
    again = loader_of(config(2), items)  # another process, as it were: all its workers are fresh
    set_rng_state(state)
    assert same([want], [[(batch["img"], batch["noise"]) for batch in again]])


def test_an_epoch_that_was_broken_off_leaves_no_trace(items):
    loader = loader_of(config(2), items)
    plain = plain_loader(loader)
    found = []
    for one in (loader, plain):
        set_random_seed(5)
        for batches in (iter(one), iter(one)):
            next(batches)
        del batches
        found.append([(batch["img"], batch["noise"]) for batch in one])
    assert same([found[0]], [found[1]])


def test_an_epoch_within_an_epoch(items):
    loader = loader_of(config(2), items)
    pairs = [(a["index"], b["index"]) for a in loader for b in loader]
    assert len(pairs) == 9
    assert all(len(set(torch.cat([b for _, b in pairs[i:i + 3]]).tolist())) == 12 for i in (0, 3, 6))
    assert len(list(loader)) == 3


def tripled(image):
    return 3 * torch.as_tensor(np.asarray(image)[:12, :12])


CHANGES = {
    "another transform": lambda data: setattr(data, "transform", tripled),
    "a transform that cannot be pickled": lambda data: setattr(data, "transform", lambda image: tripled(image)),
    "a step of the transform": lambda data: setattr(data.transform.transforms[1], "p", 1.0),
    "other items": lambda data: setattr(data, "data_source", data.data_source[::-1]),
    "an item in place": lambda data: data.data_source.__setitem__(slice(0, 7), data.data_source[7:]),
    "a label": lambda data: [setattr(item, "label", item.label + 5) for item in data.data_source],
    "an attribute": lambda data: setattr(data, "shift", 7.0),
    "within an attribute": lambda data: data.notes["shift"].append(7.0),
}


class Shifted(Noisy):
    shift = 0.0

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings)
        self.notes = {"shift": [0.0]}

    def __getitem__(self, idx):
        sample = super().__getitem__(idx)
        sample["label"] += self.shift + self.notes["shift"][-1]
        return sample


@pytest.mark.parametrize("change", CHANGES)
def test_the_next_epoch_sees_what_has_changed(items, change):
    """And draws the numbers that fresh workers draw."""
    found = []
    for plain in (True, False):
        cfg, source = config(2), copy.deepcopy(items)
        loader = build_data_loader(cfg, "RandomSampler", source, batch_size=4, tfm=build_transform(cfg),
                                   dataset_wrapper=Shifted)
        one = plain_loader(loader) if plain else loader
        set_random_seed(1)
        rounds = []
        for number in range(4):
            if number == 2:
                CHANGES[change](one.dataset)
            rounds.append([(b["img"], b["noise"], b["label"], b["index"]) for b in one])
        found.append(rounds)
    assert same(*found)


def test_only_a_change_costs_fresh_workers(items):
    loader = loader_of(config(2), items)

    def processes():
        return {int(p) for batch in loader for p in batch["process"]}

    first = processes()
    loader.dataset.transform.transforms[1].p = 1.0
    second = processes()
    assert not first & second and processes() == second
    loader.dataset.hook = lambda: None  # cannot be compared
    third = processes()
    assert not third & second and not third & processes()


def test_what_is_appended_is_there(items):
    loader = build_data_loader(config(2), "SequentialSampler", items, batch_size=4, is_train=True,
                               tfm=build_transform(config(2)))
    seen = {int(i) for batch in loader for i in batch["index"]}
    items.extend(items[:2])  # the sampler has the list, too
    assert max(seen) < 14 and {int(i) for batch in loader for i in batch["index"]} == set(range(16))


def test_plugins_find_the_usual_attributes(items):
    loader = loader_of(config(2), items)
    assert (loader.batch_size, loader.drop_last, len(loader), len(loader.batch_sampler)) == (4, True, 3, 3)
    assert loader.sampler.data_source is items
    assert type(loader.batch_sampler) is torch.utils.data.BatchSampler and loader.batch_sampler.batch_size == 4
    assert len(iter(loader)) == 3
    loader.batch_sampler.batch_size = 2
    assert [len(batch["index"]) for batch in loader] == [2] * 7


@pytest.mark.parametrize("workers", [0, 2])
def test_copies_of_a_loader(items, workers):
    loader = loader_of(config(workers), items)
    list(loader)
    running = iter(loader)
    next(running)
    other = copy.deepcopy(loader)
    other.dataset.data_source.pop()
    assert (len(other.dataset), len(loader.dataset)) == (13, 14)
    set_random_seed(4)
    mine = [(batch["img"], batch["noise"]) for batch in other]
    set_random_seed(4)
    assert same([mine], [[(batch["img"], batch["noise"]) for batch in plain_loader(other)]])
    assert len(list(running)) == 2


def test_an_iterator_that_is_never_used_leaves_no_trace(items):
    loader = loader_of(config(2), items)
    first = {int(p) for batch in loader for p in batch["process"]}
    iter(loader)
    assert {int(p) for batch in loader for p in batch["process"]} == first


def test_data_sets_that_do_not_know_of_epochs_get_fresh_workers(items):
    class Other(torch.utils.data.Dataset):
        def __init__(self, cfg, data_source, transform=None, is_train=False):
            self.data_source = data_source

        def __len__(self):
            return len(self.data_source)

        def __getitem__(self, idx):
            return idx

    loader = build_data_loader(config(2), "RandomSampler", items, batch_size=4, dataset_wrapper=Other)
    assert type(loader) is DataLoader and not loader.persistent_workers


def test_a_data_set_of_a_plugin_that_leaves_out_our_constructor(items):
    class Own(DatasetWrapper):
        def __init__(self, cfg, data_source, transform=None, is_train=False):
            self.data_source = data_source

        def __getitem__(self, idx):
            return idx

    loader = build_data_loader(config(2), "RandomSampler", items, batch_size=4, dataset_wrapper=Own)
    for _ in range(2):
        assert len(set(torch.cat(list(loader)).tolist())) == 12


# --- decoded once ----------------------------------------------------------------------------------------


def count_decoding(monkeypatch):
    decoded = []

    def counting(path, reading):
        decoded.append(str(path))
        return read_image(path, reading)

    monkeypatch.setattr(image_memory, "read_image", counting)
    return decoded


def test_images_are_decoded_once_for_all_epochs_and_loaders(items, monkeypatch):
    decoded = count_decoding(monkeypatch)
    epochs(loader_of(config(0), items))
    epochs(loader_of(config(0), items))
    assert sorted(decoded) == sorted(item.impath for item in items)


def test_without_room_for_all_nothing_is_kept(items, monkeypatch):
    decoded = count_decoding(monkeypatch)
    plain = epochs(loader_of(config(0, KEEP_MB=0), items))
    assert len(decoded) == 3 * 12 and IMAGES.size == 0
    assert same(plain, epochs(loader_of(config(0), items))) and IMAGES.size > 0


def test_a_changed_file_is_read_again(items):
    memory = ImageMemory()
    path = items[0].impath
    memory.fill([path], 1e9)
    assert memory.holds(path)
    Image.new("RGB", (30, 20), "red").save(path)
    assert not memory.holds(path) and memory.read(path).size == (30, 20)
    os.unlink(path)
    with pytest.raises(FileNotFoundError):
        memory.read(path)


def test_an_image_is_kept_as_it_was_read(items):
    memory, path = ImageMemory(), items[0].impath
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20), "red").save(path, exif=exif)
    memory.fill([path], 1e9)
    assert memory.read(path).size == (30, 20) and not memory.holds(path, Reading(upright=True))
    assert memory.read(path, Reading(upright=True)).size == (20, 30)
    memory.fill([path], 1e9, Reading(upright=True))
    assert memory.holds(path) and memory.holds(path, Reading(upright=True)) and memory.read(path).size == (30, 20)
    assert memory.size == 30 * 20 * image_memory.BYTES_PER_PIXEL


def test_the_least_recently_used_make_room(items):
    paths = [item.impath for item in items]
    memory = ImageMemory()
    memory.fill(paths[:1], 1e9)
    limit = 6.5 * memory.size
    memory.fill(paths[:6], limit)
    memory.fill(paths[2:4], limit)  # used again
    memory.fill(paths[6:8], limit)
    assert [memory.holds(path) for path in paths[:8]] == [False, False, True, True, True, True, True, True]
    assert memory.size <= limit


def test_what_is_handed_out_may_be_changed(items):
    memory = ImageMemory()
    memory.fill([items[0].impath], 1e9)
    before = memory.read(items[0].impath)
    memory.read(items[0].impath).paste("red", (0, 0, 9, 9))
    assert np.array_equal(np.asarray(before), np.asarray(memory.read(items[0].impath)))
    assert np.array_equal(np.asarray(before), np.asarray(read_image(items[0].impath)))


def test_a_damaged_file_is_reported_by_who_reads_it(items):
    with open(items[3].impath, "wb") as file:
        file.write(b"no image")
    loader = loader_of(config(0), items)
    with pytest.raises(OSError, match="3.jpg"):
        for _ in range(3):
            list(loader)


def test_checks_look_only_at_what_is_new(items, tmp_path, monkeypatch):
    from types import SimpleNamespace

    from dassl.data import integrity

    looked = []

    def watched(tasks, **settings):
        looked.append(dict(tasks))
        return unreadable(tasks, **settings)

    monkeypatch.setattr(integrity, "unreadable", watched)
    dataset = SimpleNamespace(train_x=items[:5], train_u=None, val=items[5:7], test=items[7:10])
    IMAGES.fill([item.impath for item in items[:2]], 1e9)
    integrity.check_images(dataset)
    integrity.check_images(dataset)
    assert [len(tasks) for tasks in looked] == [8, 0]
    dataset.val = items[5:8]  # its last one has only been opened so far
    with open(items[9].impath, "wb") as file:
        file.write(b"no image")
    with pytest.raises(ValueError, match="1 of 10 image files"):
        integrity.check_images(dataset)
    assert looked[2] == {items[7].impath: True, items[9].impath: False}
    with pytest.raises(ValueError):
        integrity.check_images(dataset)

