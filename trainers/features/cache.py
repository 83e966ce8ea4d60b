"""Image features that were computed once: in a test, what a frozen tower says about an image is kept on disk.

The engine asks a trainer for the batches of a test.  `FeatureCache` gives them with ImageFeatures in the place of
images, read from a store (clip/feature_store/), or computed and kept there on the way.  Training does the same where
it is asked to see the same views of its images again and again (views.py).

Features are kept as they came out of the loader's batches, and the size of the batches is part of the key: convolutions
round differently in batches of another size (by 4e-7, RN50 on a CPU), so only then is a test with the cache, bit for
bit, the one without.  The kind of processor is part of the key, too; the number of threads made no difference, and a
GPU that picks its kernels by trying them rounds on its own anyway.
"""
from __future__ import annotations

import hashlib
import importlib.metadata
import itertools
import os
import platform
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, NamedTuple

import PIL
import PIL.features
import torch
import torchvision
from torch import Tensor, nn
from torch.utils.data import DataLoader, SequentialSampler
from torchvision.transforms import Compose
from tqdm import tqdm

from clip import ranks
from clip.feature_store import FeatureStore, StoredFeatures, key_of, tower_digest
from clip.features import ImageFeatures
from dassl.data import DatasetWrapper
from dassl.plain.text import shown_bytes

from ..parts.model import encode_images
from .code import code_digest
from .views import Views, batch_of

MAX_GB = 20  # for all kept features together; the dense ones of ImageNet's test images are 10 GB (RN50, float32)
DETERMINISTIC = ("Resize", "CenterCrop", "ToTensor", "Normalize", "InstanceNormalization")
SEEDED = ("RandomResizedCrop", "RandomHorizontalFlip", "RandomGrayscale", "ColorJitter")  # whose repr is complete
COMPUTED_BY = (PIL, torchvision, torch)  # packages whose version may change a pixel or a rounding
DECODERS = ("jpg", "libjpeg_turbo", "webp")  # libraries that Pillow was built with, and may have been with others
PLUGIN_DECODERS = ("pillow-heif",)  # packages that bring Pillow further formats, where they are installed

Tower = tuple[nn.Module, str]  # a frozen image tower, and what is needed of it: see `encode_images`


class Entry(NamedTuple):
    """A place for features in the store."""

    key: str
    facts: dict[str, Any]  # what the key was made of
    features: StoredFeatures | None  # of all images, where they are kept already


class FeatureCache:
    """Reads and keeps the features of whatever images a loader loads.

    Parameters
    ----------
    store
        Where they are kept.
    encode
        Images (B, 3, H, W) on the device -> their features.
    device, precision
        What is computed on, and with; both are part of the key.
    use
        False: nothing is read or kept.
    code
        Functions in which it is decided what `encode` gives, besides what `describe` finds itself: a subclass of a
        trainer may have replaced them.
    """

    def __init__(
        self,
        store: FeatureStore,
        encode: Callable[[Tensor], ImageFeatures],
        device: torch.device,
        precision: str,
        use: bool = True,
        code: Iterable[Callable[..., Any]] = (),
    ) -> None:
        self.store, self.encode, self.use = store, encode, use
        self.device, self.precision, self.code = device, precision, tuple(code)
        self._last_line = ""

    def batches(self, loader: Any, tower: Tower | None, about: str) -> Iterable[dict[str, Any]]:
        """Give the loader's batches; "img" holds features where they can be kept, and else the images.

        Where several processes make a test, each gets its own batches, and all must take them in step.

        Parameters
        ----------
        loader
            Gives every image of its data set once, in order.
        tower
            What `encode` asks; None where its answer changes from step to step, and nothing can be kept.
        about
            What the images are, for people who look at the store.
        """
        entry = self._entry(loader, tower)
        if entry is None:
            return ranks.turns_of(loader)
        return self._build(entry, about, loader) if entry.features is None else self._stored(entry, loader)

    def features(self, loader: Any, tower: Tower | None, about: str) -> ImageFeatures:
        """Compute the features of all the loader's images, or read them from the store where they are kept."""
        entry = self._entry(loader, tower)
        if entry:
            kept = entry.features
            if kept is None:
                for _ in _bar(self._build(entry, about, loader), len(loader)):
                    pass
                kept = self.store.open(entry.key)
            else:
                self._say(f"hit, {self.store.folder / entry.key}")
            whole = self._whole(kept)
            if all(ranks.gather_objects(whole is not None)):
                assert whole is not None
                return whole
        rounds = self._encoded(_bar(ranks.turns_of(loader), len(loader)), len(loader))
        parts = [features for _, together in rounds for features in together]
        return ImageFeatures(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))

    def _entry(self, loader: Any, tower: Tower | None) -> Entry | None:
        """Find where features of a loader's images are kept; None, having said why, where they cannot be.

        The processes of a run agree: nodes with other processors, or one that does not see yet what another has
        written, are no reason to wait for each other for ever.
        """
        entry = self._entry_here(loader, tower)
        everywhere = ranks.gather_objects((entry and entry.key, entry is not None and entry.features is not None))
        if entry is None or any(key is None for key, _ in everywhere):
            return None
        if len({key for key, _ in everywhere}) > 1:
            self._say("off, the processes of this run compute on different kinds of processors")
            return None
        return entry if all(kept for _, kept in everywhere) else entry._replace(features=None)

    def _entry_here(self, loader: Any, tower: Tower | None) -> Entry | None:
        """Find it for this process alone."""
        try:
            if not self.use:
                raise NotCacheable("FEATURE_CACHE.USE is False")
            if tower is None or any(parameter.requires_grad for parameter in tower[0].parameters()):
                raise NotCacheable("the image side learns")
            facts = describe(*tower, loader, self.code)
            facts |= {"precision": self.precision, "processor": processor(self.device)}
            key = key_of(facts)
            return Entry(key, facts, self.store.open(key))
        except NotCacheable as reason:
            self._say(f"off, {reason}")
        except OSError as error:
            self._say(f"off, {error}")
        return None

    def _stored(self, entry: Entry, loader: DataLoader) -> Iterator[dict[str, Any]]:
        """Yield batches as the loader would give them, with features that are kept."""
        assert entry.features is not None
        self._say(f"hit, {self.store.folder / entry.key}")
        # Iterating the loader would draw a seed from the global generator: training goes on with the same numbers
        torch.empty((), dtype=torch.int64).random_(generator=loader.generator)
        items, size = loader.dataset.data_source, loader.batch_size or 1  # type: ignore[attr-defined]
        for number, first in enumerate(ranks.turns(range(0, len(items), size))):
            part = range(first, min(first + size, len(items)))
            try:
                features = entry.features.rows(part.start, part.stop)
            except OSError as error:
                self._lost(error)
                yield from self._encoded_from(number, loader)
                return
            yield batch_of(items, part, features)

    def _encoded_from(self, number: int, loader: DataLoader) -> Iterator[dict[str, Any]]:
        """Yield this process's batches from one on, with their features, and draw nothing from the generator."""
        generator = loader.generator or torch.default_generator
        state = generator.get_state()
        batches = iter(ranks.turns_of(loader))
        generator.set_state(state)
        for batch in itertools.islice(batches, number, None):
            yield batch | {"img": self.encode(batch["img"].to(self.device))}

    def _whole(self, kept: StoredFeatures | None) -> ImageFeatures | None:
        """Give all features of an entry; None without one, and where it is gone."""
        try:
            return None if kept is None else kept.all()
        except OSError as error:
            self._lost(error)
            return None

    def _lost(self, error: OSError) -> None:
        """Report that an entry went away while it was read, as it may on a network file system."""
        self._say(f"lost, {error.strerror or error}; the other images are encoded")

    def _build(self, entry: Entry, about: str, loader: DataLoader) -> Iterator[dict[str, Any]]:
        """Yield the loader's batches with their features, which are kept on the way.

        Of several processes that make a run, the first one writes what all have encoded.
        """
        store, key = self.store, entry.key
        if ranks.rank() > 0:
            for batch, _ in self._encoded(ranks.turns_of(loader), len(loader)):
                if batch is not None:
                    yield batch
            return
        # Where others of this run wait for what this process sends them, it does not wait for another run
        with store.building(key) if ranks.size() == 1 else store.building(key, longest=0):
            stored = store.open(key) if ranks.size() == 1 else None  # another process may have been faster
            if stored is None:
                with store.write(key, entry.facts, len(loader.dataset), about) as writer:  # type: ignore[arg-type]
                    for batch, together in self._encoded(ranks.turns_of(loader), len(loader)):
                        for features in together:
                            writer.add(features)
                        if batch is not None:
                            yield batch
                problem, done = writer.problem, f"built, {shown_bytes(writer.size)} in {store.folder / key}"
                self._say(f"off, {problem}" if problem else done)
                return
        yield from self._stored(entry._replace(features=stored), loader)

    def _encoded(
        self, batches: Iterable[dict[str, Any]], total: int
    ) -> Iterator[tuple[dict[str, Any] | None, list[ImageFeatures]]]:
        """Encode batches that are dealt out among the processes of a run, one for each at a time.

        Parameters
        ----------
        batches
            Of this process.
        total
            How many all have together.

        Yields
        ------
        tuple
            This process's batch, with its features in the place of images (None when it has no more), and the features
            of the batches of all processes, in the order of the loader; those of others are on the CPU.
        """
        mine = iter(batches)
        for _ in range(0, total, ranks.size()):
            batch = next(mine, None)
            if batch is not None:
                batch = batch | {"img": self.encode(batch["img"].to(self.device))}
            features = None if batch is None else batch["img"]
            sent = features if ranks.size() == 1 or features is None else features.to("cpu")
            yield batch, [part for part in ranks.gather_objects(sent) if part is not None]

    def _say(self, what: str) -> None:
        """Write a line to the log, but not the same one after every epoch."""
        line = f"Feature cache: {what}"
        if line != self._last_line:
            print(line)
        self._last_line = line


def _bar(batches: Iterable[dict[str, Any]], total: int) -> Iterable[dict[str, Any]]:
    return tqdm(batches, "Encoding views", total, disable=None, leave=False)


# --- what features depend on -----------------------------------------------------------------------------


class NotCacheable(Exception):
    """Why features cannot be kept."""


def describe(
    tower: nn.Module, kind: str, loader: Any, code: Iterable[Callable[..., Any]] = ()
) -> dict[str, Any]:
    """Describe everything that the features of a loader's images depend on.

    Parameters
    ----------
    tower, kind
        The image tower, and what is needed of it.
    loader
        Its data set's files and transform, and the size of its batches.
    code
        What else is called on the way to the features.

    Returns
    -------
    dict
        Plain data: code, weights, transform, files and versions.

    Raises
    ------
    NotCacheable
        Where that cannot be told, or the images are not read one after another.
    """
    dataset = getattr(loader, "dataset", None)
    views = {"views": dataset.count, "seed": dataset.seed} if isinstance(dataset, Views) else {}
    images = dataset.images if isinstance(dataset, Views) else dataset
    if type(images) is not DatasetWrapper or not isinstance(loader.sampler, SequentialSampler) or loader.drop_last:
        raise NotCacheable("the images do not come one after another from files")
    steps = list(steps_of(images.transform))
    starts = {encode_images, type(dataset), type(images), *map(type, tower.modules()), *map(type, steps), *code}
    return {
        "code": code_digest(starts),
        "weights": tower_digest(tower),
        "kind": kind,
        "reading": list(getattr(images, "reading", ())),  # upstream's engine knows one way only
        "transform": describe_transform(steps, DETERMINISTIC + SEEDED if views else DETERMINISTIC),
        "batch": loader.batch_size,
        "images": len(images),
        "files": files_digest([item.impath for item in images.data_source]),
        "versions": {package.__name__: str(package.__version__) for package in COMPUTED_BY}
        | {library: str(PIL.features.version(library)) for library in DECODERS}
        | {name: _installed(name) for name in PLUGIN_DECODERS},
        **views,
    }


def _installed(package: str) -> str:
    """Return the version of an installed package, "" where it is not."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def processor(device: torch.device) -> str:
    """Name what a rounding may depend on: the GPU, or the CPU's instructions as far as they are used."""
    if device.type == "cuda":
        return f"cuda, {torch.cuda.get_device_name(device)}"
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "")
    return " ".join([device.type, platform.machine(), torch.backends.cpu.get_cpu_capability(), limit]).strip()


def steps_of(transform: Any) -> Iterator[Any]:
    """Yield the steps of a transform, one after another."""
    if type(transform) is Compose:
        for step in transform.transforms:
            yield from steps_of(step)
    else:
        yield transform


def describe_transform(steps: Iterable[Any], known: Collection[str] = DETERMINISTIC) -> str:
    """Describe a transform so that others, which do different things, are described differently.

    Parameters
    ----------
    steps
        Of the transform.
    known
        Names of the kinds that may be described: those of `dassl.data.transforms` for tests, unless others are given.

    Raises
    ------
    NotCacheable
        For any other step: it may be random.
    """
    steps_described = []
    for step in steps:
        kind = type(step)
        if not kind.__module__.startswith(("torchvision.", "dassl.")) or kind.__name__ not in known:
            raise NotCacheable(f"who knows whether the transform {kind.__name__} always does the same")
        steps_described.append(f"{kind.__name__} {repr(step) if kind.__repr__ is not object.__repr__ else vars(step)}")
    return " ".join(steps_described)


def files_digest(paths: list[str]) -> str:
    """Digest path, size and time of change of every file, in order.

    Paths count from the folder that all have in common, so that a moved data set is the same.

    Returns
    -------
    str
        SHA-256, hexadecimal.

    Raises
    ------
    OSError
        For a file that is not there.
    """
    common = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])
    digest = hashlib.sha256()
    for path in paths:
        stat = os.stat(path)
        line = f"{os.path.relpath(path, common)}\t{stat.st_size}\t{stat.st_mtime_ns}\n"
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
