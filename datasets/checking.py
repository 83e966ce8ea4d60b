"""Is a data set there, complete and the published one? What `python -m datasets check` finds out.

`check` looks, in this order, for the folder (also under the other names it is known by), the images, the split
file and the other lists; where those are there, it builds the data set as a run would and compares what it holds
with `facts`. It changes nothing in the data set's folder, except that ImageNet's listing is kept, as by a run.
"""

from __future__ import annotations

import contextlib
import io
import os.path as osp
import shlex
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY
from dassl.data.integrity import unreadable

from .downloads import Download, downloads_of, missing_downloads
from .facts import FACTS, Facts, find_alias, names_digest
from .files import list_folders, list_images
from .splits import SplitDataset, split_digest

DEPTH = 2  # folders below the data set's in which misplaced images are looked for


@dataclass
class Report:
    """What is known of one data set after `check`."""

    name: str
    folder: str
    found: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    todo: list[str] = field(default_factory=list)  # what to do about them
    notes: list[str] = field(default_factory=list)  # worth knowing, nothing is wrong
    exists: bool = True

    @property
    def state(self) -> str:
        return "complete" if not self.problems else "incomplete" if self.exists else "not found"


def check(name: str, root: str, images: bool = False) -> Report:
    """Check the data set registered as `name` (one of FACTS) below `root`; with `images` decode every file."""
    facts, kind = FACTS[name], DATASET_REGISTRY.get(name)
    root = osp.abspath(osp.expanduser(root))
    folder = osp.join(root, kind.dataset_dir)
    report = Report(name, folder)
    if not osp.isdir(folder):
        alias = find_alias(root, name)
        if alias is None:
            report.exists = False
            report.problems.append(f"no folder {folder}")
            report.todo.append(f"get {facts.images} -> {osp.join(folder, kind.image_folder)}")
            report.todo += to_fetch(name, root, missing_downloads(name, folder))
            return report
        report.problems.append(f"the folder is called {alias}, the loader looks for {kind.dataset_dir}")
        rename = [f"mv {osp.join(root, alias)} {folder}"]
        kind = type(name, (kind,), {"dataset_dir": alias, "__module__": kind.__module__})  # go on looking there
        folder = osp.join(root, alias)
    else:
        rename = []
    report.found.append(f"folder {folder}")
    moves = _check_images_folder(report, kind, facts, folder)
    _check_lists(report, kind, facts, folder)
    if not any(problem.startswith("no ") for problem in report.problems):
        _check_content(report, kind, facts, root, images)
    missing = [d for d in missing_downloads(name, folder) if not (moves and d.part == "images")]
    fetch = to_fetch(name, root, missing) if report.problems else []
    # what precedes the renaming names the folder as it is called now, what follows as it is called then
    report.todo = [*moves, *rename, *fetch, *report.todo]
    return report


def to_fetch(name: str, root: str, missing: Sequence[Download]) -> list[str]:
    """Lines that say how to get what is missing: by the command, or by hand."""
    lines = []
    if origins := "; ".join(download.origin for download in missing if download.url):
        lines.append(f"python -m datasets fetch {FACTS[name].config} --root {shlex.quote(root)}   ({origins})")
    folder = osp.join(root, DATASET_REGISTRY.get(name).dataset_dir)
    by_hand = [f"{d.part}: {d.otherwise.format(folder=folder)}" for d in missing if d.otherwise]
    return lines + list(dict.fromkeys(by_hand))


def again(name: str, root: str, part: str) -> str:
    """How to get a part anew."""
    if any(download.url for download in downloads_of(name) if download.part == part):
        return f"python -m datasets fetch {FACTS[name].config} --root {shlex.quote(root)} --only {part} --again"
    return f"unpack {FACTS[name].images} again"


# --- the parts -------------------------------------------------------------------------------------------


def _check_images_folder(report: Report, kind: type[SplitDataset], facts: Facts, folder: str) -> list[str]:
    """Returns what to move where, if the images are elsewhere."""
    images = osp.join(folder, kind.image_folder)
    if osp.isdir(images):
        report.found.append(f"images in {images}" if kind.image_folder else "images in the folder itself")
        missing = missing_downloads(report.name, folder, ["images"])
        report.problems += [f"no {path}" for d in missing for path in d.targets(folder) if not osp.exists(path)]
        return []
    report.problems.append(f"no images folder {images}")
    misplaced = search_images(kind, facts, folder)
    return [f"mv {misplaced} {images}"] if misplaced else []


def search_images(kind: type[SplitDataset], facts: Facts, folder: str) -> str | None:
    """A folder below `folder` that is called like the images', where they are not in their place."""
    if not osp.isdir(folder) or osp.isdir(osp.join(folder, kind.image_folder)):
        return None
    return _search(folder, {kind.image_folder, *facts.image_aliases})


def _search(folder: str, names: set[str], depth: int = DEPTH) -> str | None:
    """The first folder with one of these names, at most `depth` levels down."""
    for name in list_folders(folder):
        path = osp.join(folder, name)
        if name in names:
            return path
        if depth > 1 and (found := _search(path, names, depth - 1)):
            return found
    return None


def _check_lists(report: Report, kind: type[SplitDataset], facts: Facts, folder: str) -> None:
    """The split file, or what stands for it."""
    if kind.split_file:
        path = osp.join(folder, kind.split_file)
        if osp.isfile(path):
            report.found.append(f"split file {kind.split_file}")
        else:
            report.problems.append(f"no split file {path}; a run would make a split of its own")
            count = len(list_images(osp.join(folder, kind.image_folder), nested=True))
            report.found.append(f"{count:,} image files")
    elif "classnames.txt" in facts.others and not osp.isfile(osp.join(folder, "classnames.txt")):
        report.notes.append("without classnames.txt; ImageNet's is used, or CLIP's names, which are the same")


def _check_content(report: Report, kind: type[SplitDataset], facts: Facts, root: str, images: bool) -> None:
    try:
        dataset = build_quietly(kind, root)
    except (OSError, ValueError, ImportError) as error:
        report.problems.append(f"{type(error).__name__}: {error}")
        report.todo += [] if missing_downloads(report.name, report.folder) else [again(report.name, root, "images")]
        return
    train = [] if kind.eval_only else dataset.train_x
    val = dataset.val if dataset.val is not dataset.test else None
    counts = (len(train), len(val or []), len(dataset.test))
    report.found.append("images: " + "; ".join(_count_words(counts)))
    if counts != facts.counts:
        report.problems.append(
            f"{', '.join(_count_words(counts))}, but the published split has {', '.join(_count_words(facts.counts))}"
        )
    if dataset.num_classes != facts.classes:
        report.problems.append(f"{dataset.num_classes} classes, but the published data set has {facts.classes}")
    digest = names_digest(dataset.classnames)
    if not facts.names_sha256:
        report.found.append(f"{dataset.num_classes} classes, names sha256 {digest[:16]}")
    elif digest == facts.names_sha256:
        report.found.append(f"{dataset.num_classes} classes, under the published names (sha256 {digest[:16]})")
    else:
        report.problems.append(f"class names differ from the published ones (sha256 {digest[:16]})")
    if facts.split_sha256 and split_digest(train, val or [], dataset.test, dataset.image_dir) != facts.split_sha256:
        report.problems.append(f"{kind.split_file} is not the published split: few-shot picks will differ")
        report.todo.append(again(report.name, root, "splits"))
    elif kind.split_file and not facts.split_sha256 and _is_our_own(dataset):
        report.problems.append(f"{kind.split_file} was made by an earlier run: few-shot picks are not the published")
        report.todo.append(again(report.name, root, "splits"))
    elif report.problems:
        report.todo.append(f"compare with {facts.images}" + (f"; {facts.split_source}" if facts.split_source else ""))
    if images:
        paths = dict.fromkeys(item.impath for items in (train, val or [], dataset.test) for item in items)
        bad = unreadable([(path, True) for path in paths], f"Reading {report.name}")
        if bad:
            report.problems.append(f"{len(bad)} of {len(paths)} images cannot be read:\n" + "\n".join(bad))
            report.todo.append(again(report.name, root, "images"))
        else:
            report.found.append(f"all {len(paths):,} images can be read")


def _is_our_own(dataset: Any) -> bool:
    """Whether the split file is what a run without one would make, where the published one's digest is unknown."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            train, val, test = dataset.make_split()
    except (OSError, ValueError):
        return False
    made = split_digest(train, val, test, dataset.image_dir)
    return made == split_digest(dataset.train_x, dataset.val, dataset.test, dataset.image_dir)


def _count_words(counts: tuple[int, int, int]) -> list[str]:
    return [f"{count:,} {part}" for part, count in zip(("train", "val", "test"), counts, strict=True) if count]


# --- building -------------------------------------------------------------------------------


def build_quietly(kind: type[SplitDataset], root: str, shots: int = -1, seed: int = 1, warn: bool = False) -> Any:
    """The data set as a run would build it, without what it prints and, unless `warn`, what it warns of."""
    with tempfile.TemporaryDirectory() as output, contextlib.redirect_stdout(io.StringIO()):
        cfg = get_cfg_default()
        cfg.DATASET.ROOT, cfg.DATASET.NAME = root, kind.__name__
        cfg.DATASET.NUM_SHOTS, cfg.SEED, cfg.OUTPUT_DIR = shots, seed, output
        with warnings.catch_warnings():
            if not warn:
                warnings.simplefilter("ignore")
            return kind(cfg)
