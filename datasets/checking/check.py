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
from dassl.data.integrity import bad_lines, unreadable

from ..base import SplitDataset
from ..fetching.downloads import downloads_of, missing_downloads
from ..files import list_images, move
from ..layout import Layout, find_file, find_layout
from ..published import Download, Published, names_digest
from ..splits import split_digest


@dataclass
class Report:
    """What is known of one data set after `check`."""

    kind: type[SplitDataset]
    folder: str
    found: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    todo: list[str] = field(default_factory=list)  # what to do about them
    notes: list[str] = field(default_factory=list)  # worth knowing, nothing is wrong
    exists: bool = True

    @property
    def name(self) -> str:
        """The data set's name in the registry."""
        return self.kind.__name__

    @property
    def state(self) -> str:
        return "complete" if not self.problems else "incomplete" if self.exists else "not found"


def check(kind: type[SplitDataset], root: str, images: bool = False) -> Report:
    """Check a data set that is published below `root`; with `images` decode every file."""
    published = kind.published
    if published is None:
        raise ValueError(f"{kind.__name__} is not published: there is nothing to compare a copy with")
    root = osp.abspath(osp.expanduser(root))
    folder = osp.join(root, kind.dataset_dir)
    report = Report(kind, folder)
    layout = find_layout(root, kind)
    if layout is None:
        report.exists = False
        report.problems.append(f"no folder {folder}")
        report.todo.append(f"get {published.images} -> {osp.join(folder, kind.image_folder)}")
        report.todo += to_fetch(kind, root, missing_downloads(kind, folder))
        return report
    report.folder = layout.folder
    report.found.append(f"folder {layout.folder}")
    _check_images_folder(report, kind, layout)
    moves = []
    if layout.folder != osp.normpath(folder):
        report.notes.insert(0, f"the folder is misnamed, which the loader accepts: {move(layout.folder, folder)}")
        moves.append(move(layout.folder, folder))
    _check_lists(report, kind, layout)
    if not any(problem.startswith("no ") for problem in report.problems):
        _check_content(report, kind, published, root, images)
    fetch = to_fetch(kind, root, missing_downloads(kind, layout.folder)) if report.problems else []
    report.todo = [*(moves if fetch else []), *fetch, *report.todo]  # what is fetched goes to the usual place
    return report


def to_fetch(kind: type[SplitDataset], root: str, missing: Sequence[Download]) -> list[str]:
    """Lines that say how to get what is missing: by the command, or by hand."""
    lines = []
    if origins := "; ".join(download.origin for download in missing if download.url):
        lines.append(f"python -m datasets fetch {kind.config} --root {shlex.quote(root)}   ({origins})")
    folder = osp.join(root, kind.dataset_dir)
    by_hand = [f"{d.part}: {d.otherwise.format(folder=folder)}" for d in missing if d.otherwise]
    return lines + list(dict.fromkeys(by_hand))


def again(kind: type[SplitDataset], root: str, part: str) -> str:
    """How to get a part anew."""
    if any(download.url for download in downloads_of(kind) if download.part == part):
        return f"python -m datasets fetch {kind.config} --root {shlex.quote(root)} --only {part} --again"
    return f"unpack {kind.published.images if kind.published else kind.__name__} again"


# --- the parts -------------------------------------------------------------------------------------------


def _check_images_folder(report: Report, kind: type[SplitDataset], layout: Layout) -> None:
    if not osp.isdir(layout.images):
        report.problems.append(f"no images folder {layout.images}")
        return
    report.found.append(f"images in {layout.images}" if kind.image_folder else "images in the folder itself")
    proper = osp.normpath(osp.join(layout.folder, kind.image_folder))
    if layout.images != proper:
        report.notes.append(f"the images lie elsewhere than usual, which the loader accepts: they belong into {proper}")
        return
    missing = missing_downloads(kind, layout.folder, ["images"])
    report.problems += [f"no {path}" for d in missing for path in d.targets(layout.folder) if not osp.exists(path)]


def _check_lists(report: Report, kind: type[SplitDataset], layout: Layout) -> None:
    """The split file, or what stands for it."""
    if kind.split_file:
        path = find_file(layout, kind.split_file)
        if osp.isfile(path):
            report.found.append(f"split file {kind.split_file}")
        else:
            report.problems.append(f"no split file {path}; a run would make a split of its own")
            count = len(list_images(layout.images, nested=True))
            report.found.append(f"{count:,} image files")
    elif kind.is_imagenet and not osp.isfile(find_file(layout, "classnames.txt")):
        report.notes.append("without classnames.txt; ImageNet's is used, or CLIP's names, which are the same")


def _check_content(report: Report, kind: type[SplitDataset], published: Published, root: str, images: bool) -> None:
    try:
        dataset = build_quietly(kind, root)
    except (OSError, ValueError, ImportError) as error:
        report.problems.append(f"{type(error).__name__}: {error}")
        damaged = kind.split_file and kind.split_file in str(error) and not isinstance(error, FileNotFoundError)
        if damaged or not missing_downloads(kind, report.folder):
            report.todo.append(again(kind, root, "splits" if damaged else "images"))
        return
    train = [] if kind.eval_only else dataset.train_x
    val = dataset.val if dataset.val is not dataset.test else None
    counts = (len(train), len(val or []), len(dataset.test))
    report.found.append("images: " + "; ".join(_count_words(counts)))
    if counts != published.counts:
        is_, should_be = (", ".join(_count_words(numbers)) for numbers in (counts, published.counts))
        report.problems.append(f"{is_}, but the published split has {should_be}")
    if dataset.num_classes != published.classes:
        report.problems.append(f"{dataset.num_classes} classes, but the published data set has {published.classes}")
    digest = names_digest(dataset.classnames)
    if not published.names_sha256:
        report.found.append(f"{dataset.num_classes} classes, names sha256 {digest[:16]}")
    elif digest == published.names_sha256:
        report.found.append(f"{dataset.num_classes} classes, under the published names (sha256 {digest[:16]})")
    else:
        report.problems.append(f"class names differ from the published ones (sha256 {digest[:16]})")
    digest = split_digest(train, val or [], dataset.test, dataset.image_dir)
    if published.split_sha256 and digest != published.split_sha256:
        report.problems.append(f"{kind.split_file} is not the published split: few-shot picks will differ")
        report.todo.append(again(kind, root, "splits"))
    elif kind.split_file and not published.split_sha256 and _is_our_own(dataset):
        report.problems.append(f"{kind.split_file} was made by an earlier run: few-shot picks are not the published")
        report.todo.append(again(kind, root, "splits"))
    elif report.problems:
        source = f"; {published.split_source}" if published.split_source else ""
        report.todo.append(f"compare with {published.images}{source}")
    paths = dict.fromkeys(item.impath for items in (train, val or [], dataset.test) for item in items)
    bad = unreadable(dict.fromkeys(paths, images), f"Reading {report.name}")
    if bad:
        lines = "\n".join(bad_lines(bad, len(bad)))
        report.problems.append(f"{len(bad)} of {len(paths)} images cannot be read:\n{lines}")
        report.todo.append(again(kind, root, "images"))
    else:
        ways = "decoded" if images else "looked at, first and last bytes"
        report.found.append(f"all {len(paths):,} images can be read ({ways})")


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


def build_quietly(
    kind: type[SplitDataset], root: str, shots: int = -1, seed: int = 1, warn: bool = False, **options: Any
) -> Any:
    """The data set as a run would build it, without what it prints and, unless `warn`, what it warns of.

    `options` are further keys of DATASET.
    """
    with tempfile.TemporaryDirectory() as output, contextlib.redirect_stdout(io.StringIO()):
        cfg = get_cfg_default()
        cfg.DATASET.ROOT, cfg.DATASET.NAME = root, kind.__name__
        cfg.DATASET.NUM_SHOTS, cfg.SEED, cfg.OUTPUT_DIR = shots, seed, output
        cfg.DATASET.update(options)
        with warnings.catch_warnings():
            if not warn:
                warnings.simplefilter("ignore")
            return kind(cfg)
