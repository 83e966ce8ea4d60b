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
from dassl.data.integrity import bad_lines, unreadable

from .downloads import Download, downloads_of, missing_downloads
from .facts import FACTS, Facts, names_digest
from .files import list_images, move
from .layout import Layout, find_file, find_layout
from .splits import SplitDataset, split_digest


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
    def config(self) -> str:
        """What the command line calls it."""
        return FACTS[self.name].config if self.name in FACTS else self.name.lower()

    @property
    def state(self) -> str:
        return "complete" if not self.problems else "incomplete" if self.exists else "not found"


def check(name: str, root: str, images: bool = False) -> Report:
    """Check the data set registered as `name` (one of FACTS) below `root`; with `images` decode every file."""
    facts, kind = FACTS[name], DATASET_REGISTRY.get(name)
    root = osp.abspath(osp.expanduser(root))
    folder = osp.join(root, kind.dataset_dir)
    report = Report(name, folder)
    layout = find_layout(root, name, kind.dataset_dir, kind.image_folder)
    if layout is None:
        report.exists = False
        report.problems.append(f"no folder {folder}")
        report.todo.append(f"get {facts.images} -> {osp.join(folder, kind.image_folder)}")
        report.todo += to_fetch(name, root, missing_downloads(name, folder))
        return report
    report.folder = layout.folder
    report.found.append(f"folder {layout.folder}")
    _check_images_folder(report, kind, layout)
    moves = []
    if layout.folder != osp.normpath(folder):
        report.notes.insert(0, f"the folder is misnamed, which the loader accepts: {move(layout.folder, folder)}")
        moves.append(move(layout.folder, folder))
    _check_lists(report, kind, facts, layout)
    if not any(problem.startswith("no ") for problem in report.problems):
        _check_content(report, kind, facts, root, images)
    fetch = to_fetch(name, root, missing_downloads(name, layout.folder)) if report.problems else []
    report.todo = [*(moves if fetch else []), *fetch, *report.todo]  # what is fetched goes to the usual place
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


def _check_images_folder(report: Report, kind: type[SplitDataset], layout: Layout) -> None:
    if not osp.isdir(layout.images):
        report.problems.append(f"no images folder {layout.images}")
        return
    report.found.append(f"images in {layout.images}" if kind.image_folder else "images in the folder itself")
    proper = osp.normpath(osp.join(layout.folder, kind.image_folder))
    if layout.images != proper:
        report.notes.append(f"the images lie elsewhere than usual, which the loader accepts: they belong into {proper}")
        return
    missing = missing_downloads(report.name, layout.folder, ["images"])
    report.problems += [f"no {path}" for d in missing for path in d.targets(layout.folder) if not osp.exists(path)]


def _check_lists(report: Report, kind: type[SplitDataset], facts: Facts, layout: Layout) -> None:
    """The split file, or what stands for it."""
    if kind.split_file:
        path = find_file(layout, kind.split_file)
        if osp.isfile(path):
            report.found.append(f"split file {kind.split_file}")
        else:
            report.problems.append(f"no split file {path}; a run would make a split of its own")
            count = len(list_images(layout.images, nested=True))
            report.found.append(f"{count:,} image files")
    elif "classnames.txt" in facts.others and not osp.isfile(find_file(layout, "classnames.txt")):
        report.notes.append("without classnames.txt; ImageNet's is used, or CLIP's names, which are the same")


def _check_content(report: Report, kind: type[SplitDataset], facts: Facts, root: str, images: bool) -> None:
    try:
        dataset = build_quietly(kind, root)
    except (OSError, ValueError, ImportError) as error:
        report.problems.append(f"{type(error).__name__}: {error}")
        damaged = kind.split_file and kind.split_file in str(error) and not isinstance(error, FileNotFoundError)
        if damaged or not missing_downloads(report.name, report.folder):
            report.todo.append(again(report.name, root, "splits" if damaged else "images"))
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
    paths = dict.fromkeys(item.impath for items in (train, val or [], dataset.test) for item in items)
    bad = unreadable(dict.fromkeys(paths, images), f"Reading {report.name}")
    if bad:
        lines = "\n".join(bad_lines(bad, len(bad)))
        report.problems.append(f"{len(bad)} of {len(paths)} images cannot be read:\n{lines}")
        report.todo.append(again(report.name, root, "images"))
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
