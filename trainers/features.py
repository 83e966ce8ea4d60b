"""Trainers whose image tower is frozen: in a test, what it says about an image is computed once and for all.

The engine asks `evaluation_batches` for the batches of a test.  Here they carry ImageFeatures in the place of images,
read from a store on disk (clip/feature_store.py), or computed and kept there on the way.  Training does the same where
it is asked to see the same views of its images again and again (views.py).

Features are kept as they came out of the loader's batches, and the size of the batches is part of the key: convolutions
round differently in batches of another size (by 4e-7, RN50 on a CPU), so only then is a test with the cache, bit for
bit, the one without.  The kind of processor is part of the key, too; the number of threads made no difference, and a
GPU that picks its kernels by trying them rounds on its own anyway.
"""
from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Collection, Iterable, Iterator
from typing import Any, NamedTuple

import PIL
import PIL.features
import torch
import torchvision
from torch import Tensor, nn
from torch.utils.data import DataLoader, SequentialSampler
from torchvision.transforms import Compose
from tqdm import tqdm

from clip.clip import check_model_name
from clip.feature_store import FeatureStore, key_of, shown, tower_digest
from clip.features import ImageFeatures
from clip.model import CLIP
from dassl.data import DatasetWrapper
from dassl.engine import TrainerX

from .backbone import effective_precision, load_backbone
from .class_words import check_names
from .feature_code import code_digest
from .model import encode_images
from .views import ViewLoader, Views, batch_of, wanted_views

MAX_GB = 20  # for all kept features together; the dense ones of ImageNet's test images are 10 GB (RN50, float32)
DETERMINISTIC = ("Resize", "CenterCrop", "ToTensor", "Normalize", "InstanceNormalization")
SEEDED = ("RandomResizedCrop", "RandomHorizontalFlip", "RandomGrayscale", "ColorJitter")  # that tell all of themselves
COMPUTED_BY = (PIL, torchvision, torch)  # packages whose version may change a pixel or a rounding
DECODERS = ("jpg", "libjpeg_turbo", "webp")  # libraries that Pillow was built with, and may have been with others


class Entry(NamedTuple):
    """A place for features in the store."""

    store: FeatureStore
    key: str
    facts: dict[str, Any]  # what the key was made of
    features: ImageFeatures | None  # of all images, where they are kept already


class FeatureTrainer(TrainerX):
    """A trainer that tests on features.  A subclass says which tower is frozen and how images go through it."""

    precision: str  # of the arithmetic
    train_loader_x: Any

    @classmethod
    def check_cfg(cls, cfg: Any) -> None:
        """Raise ValueError for settings that cannot be, before anything is loaded."""
        try:
            check_model_name(cfg.MODEL.BACKBONE.NAME)
        except ValueError as error:
            raise ValueError(f"MODEL.BACKBONE.NAME: {error}") from None

    @property
    def names_decide(self) -> bool:
        """Whether nothing but their names tells classes apart."""
        return True

    def load_clip(self, precision: str) -> CLIP:
        """The frozen CLIP, still on the CPU where this run is the first one; sets what is computed with.

        Warns of class names that it cannot tell apart.  Raises ValueError where that leaves nothing to learn or test.
        """
        self.precision = effective_precision(precision, self.device)
        model = load_backbone(self.cfg, self.precision, self.device)
        check_names(model, self.dm.dataset.classnames, self.cfg.MODEL.BACKBONE.NAME, self.names_decide)
        return model

    def frozen_tower(self) -> tuple[nn.Module, str] | None:
        """(image tower, what is needed of it: see `trainers.model.encode_images`); None where the image side learns."""
        raise NotImplementedError

    def encode(self, images: Tensor) -> ImageFeatures:
        """images (B, 3, H, W) on the device"""
        raise NotImplementedError

    def evaluation_batches(self, split: str, loader: Any) -> Iterable[dict[str, Any]]:
        """The loader's batches; "img" holds features where they can be kept, and else the images."""
        entry = self._entry(loader)
        if entry is None:
            return loader
        if entry.features is None:
            return self._build(entry, f"{self.cfg.DATASET.NAME} {split}", loader)
        return self._stored(entry, entry.features, loader)

    def before_train(self) -> None:
        super().before_train()
        count = wanted_views(self.cfg)
        if count and self.start_epoch < self.max_epoch:
            print(f"Training on {count} views of each image, encoded before the first epoch")
            self.train_loader_x = ViewLoader(self.train_loader_x, self.training_views(count))

    def training_views(self, count: int) -> ImageFeatures:
        """Features of `count` views of each training image, view after view.

        Raises ValueError where the image side learns: there is nothing to keep then.
        """
        if self.frozen_tower() is None:
            raise ValueError(
                f"DATALOADER.TRAIN_X.VIEWS is {count}, but the image side of {self.cfg.TRAINER.NAME} learns, and its "
                "features change with every step; leave the key at 0"
            )
        images, size = self.train_loader_x.dataset, self.train_loader_x.batch_size
        getattr(images, "prepare", lambda _: None)(0)
        views = Views(images, count, max(self.cfg.SEED, 0))
        # a generator of its own: the global one goes on as if nothing had been encoded
        loader: Any = DataLoader(
            views, batch_size=size, num_workers=self.cfg.DATALOADER.NUM_WORKERS, generator=torch.Generator()
        )
        entry = self._entry(loader)
        if entry:
            kept = entry.features
            if kept is None:
                batches = self._build(entry, f"{self.cfg.DATASET.NAME} train, {count} views", loader)
                for _ in tqdm(batches, "Encoding views", len(loader), disable=None, leave=False):
                    pass
                kept = entry.store.open(entry.key)
            else:
                self._say(f"hit, {entry.store.folder / entry.key}")
            if kept is not None:
                return kept
        bar = tqdm(loader, "Encoding views", disable=None, leave=False)
        parts = [self.encode(batch["img"].to(self.device)).to("cpu") for batch in bar]
        return ImageFeatures(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))

    def _entry(self, loader: Any) -> Entry | None:
        """Where features of a loader's images are kept; None, having said why, where they cannot be."""
        settings = dict(self.cfg.get("FEATURE_CACHE", {}))
        store = FeatureStore(settings.get("DIR"), settings.get("MAX_GB", MAX_GB) * 1e9)
        try:
            if not settings.get("USE", True):
                raise NotCacheable("FEATURE_CACHE.USE is False")
            frozen = self.frozen_tower()
            if frozen is None or any(parameter.requires_grad for parameter in frozen[0].parameters()):
                raise NotCacheable("the image side learns")
            facts = describe(*frozen, loader) | {"precision": self.precision, "processor": processor(self.device)}
            key = key_of(facts)
            return Entry(store, key, facts, store.open(key))
        except NotCacheable as reason:
            self._say(f"off, {reason}")
        except OSError as error:
            self._say(f"off, {error}")
        return None

    def _stored(self, entry: Entry, stored: ImageFeatures, loader: DataLoader) -> Iterator[dict[str, Any]]:
        self._say(f"hit, {entry.store.folder / entry.key}")
        # Iterating the loader would draw a seed from the global generator: training goes on with the same numbers
        torch.empty((), dtype=torch.int64).random_(generator=loader.generator)
        items, size = loader.dataset.data_source, loader.batch_size or 1  # type: ignore[attr-defined]
        for first in range(0, len(items), size):
            part = range(first, min(first + size, len(items)))
            yield batch_of(items, part, ImageFeatures(*(tensor[first : part.stop].clone() for tensor in stored)))

    def _build(self, entry: Entry, about: str, loader: DataLoader) -> Iterator[dict[str, Any]]:
        store, key, facts, _ = entry
        with store.building(key):
            stored = store.open(key)  # another process may have been faster
            if stored is None:
                with store.write(key, facts, len(loader.dataset), about) as writer:  # type: ignore[arg-type]
                    for batch in loader:
                        features = self.encode(batch["img"].to(self.device))
                        writer.add(features)
                        yield batch | {"img": features}
                self._say(
                    f"off, {writer.problem}" if writer.problem
                    else f"built, {shown(writer.size)} in {store.folder / key}"
                )
                return
        yield from self._stored(entry, stored, loader)

    def _say(self, what: str) -> None:
        """A line in the log, but not the same one after every epoch."""
        line = f"Feature cache: {what}"
        if line != getattr(self, "_said", None):
            print(line)
        self._said = line


# --- what features depend on -----------------------------------------------------------------------------


class NotCacheable(Exception):
    """Why features cannot be kept."""


def describe(tower: nn.Module, kind: str, loader: Any) -> dict[str, Any]:
    """Everything that the features of a loader's images depend on, as plain data.  Raises NotCacheable."""
    dataset = getattr(loader, "dataset", None)
    views = {"views": dataset.count, "seed": dataset.seed} if isinstance(dataset, Views) else {}
    images = dataset.images if isinstance(dataset, Views) else dataset
    if type(images) is not DatasetWrapper or not isinstance(loader.sampler, SequentialSampler) or loader.drop_last:
        raise NotCacheable("the images do not come one after another from files")
    steps = list(steps_of(images.transform))
    starts = {encode_images, type(dataset), type(images), *map(type, tower.modules()), *map(type, steps)}
    return {
        "code": code_digest(starts),
        "weights": tower_digest(tower),
        "kind": kind,
        "transform": describe_transform(steps, DETERMINISTIC + SEEDED if views else DETERMINISTIC),
        "batch": loader.batch_size,
        "images": len(images),
        "files": files_digest([item.impath for item in images.data_source]),
        "versions": {package.__name__: str(package.__version__) for package in COMPUTED_BY}
        | {library: str(PIL.features.version(library)) for library in DECODERS},
        **views,
    }


def processor(device: torch.device) -> str:
    """What a rounding may depend on: the GPU, or the CPU's instructions as far as they are used."""
    if device.type == "cuda":
        return f"cuda, {torch.cuda.get_device_name(device)}"
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "")
    return " ".join([device.type, platform.machine(), torch.backends.cpu.get_cpu_capability(), limit]).strip()


def steps_of(transform: Any) -> Iterator[Any]:
    """The steps of a transform, one after another."""
    if type(transform) is Compose:
        for step in transform.transforms:
            yield from steps_of(step)
    else:
        yield transform


def describe_transform(steps: Iterable[Any], known: Collection[str] = DETERMINISTIC) -> str:
    """A text that differs between transforms that do different things.

    Raises NotCacheable for steps other than the `known` ones, by default those of `dassl.data.transforms` for tests:
    they may be random.
    """
    told = []
    for step in steps:
        kind = type(step)
        if not kind.__module__.startswith(("torchvision.", "dassl.")) or kind.__name__ not in known:
            raise NotCacheable(f"who knows whether the transform {kind.__name__} always does the same")
        told.append(f"{kind.__name__} {repr(step) if kind.__repr__ is not object.__repr__ else vars(step)}")
    return " ".join(told)


def files_digest(paths: list[str]) -> str:
    """SHA-256 (hex) over path, size and time of change of every file, in order.

    Paths count from the folder that all have in common, so that a moved data set is the same.  Raises OSError.
    """
    common = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])
    digest = hashlib.sha256()
    for path in paths:
        stat = os.stat(path)
        line = f"{os.path.relpath(path, common)}\t{stat.st_size}\t{stat.st_mtime_ns}\n"
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
