"""Is a data set there, complete and the published one? What `python -m datasets check` finds out.

`check` looks, in this order, for the folder (also under the other names it is known by), the images, the split
file and the other lists; where those are there, it builds the data set as a run would and compares what it holds
with what was published. It changes nothing in the data set's folder, except that ImageNet's listing is kept, as by a
run.
"""

from __future__ import annotations

import os.path as osp
import shlex
import tempfile
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from dassl.config import get_cfg_default
from dassl.data.integrity import bad_lines, unreadable
from dassl.utils.logger import quiet

from ..base import SplitDataset
from ..fetching.downloads import downloads_of, missing_downloads
from ..files import list_images, move
from ..layout import Layout, find_file, find_layout
from ..published import Download, Published, names_digest
from ..splits import split_digest


@dataclass
class Report:
    """What is known of one data set after a check.

    Parameters
    ----------
    kind
        The data set.
    folder
        Where it lies, or belongs.
    facts
        What is there.
    problems
        What is missing or wrong; without any the data set is complete.
    todo
        What to do about them: commands and instructions.
    notes
        What is worth knowing although nothing is wrong.
    exists
        Whether there is a folder that could be the data set.
    """

    kind: type[SplitDataset]
    folder: str
    facts: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    todo: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    exists: bool = True

    @property
    def name(self) -> str:
        """The data set's name in the registry."""
        return self.kind.__name__

    @property
    def state(self) -> str:
        """One of "complete", "incomplete" and "not found"."""
        return "complete" if not self.problems else "incomplete" if self.exists else "not found"


def check(kind: type[SplitDataset], root: str, images: bool = False) -> Report:
    """Check a published data set below `root`.

    Parameters
    ----------
    kind
        The data set.
    root
        The folder that holds the data sets' folders.
    images
        Whether to decode every image; otherwise the first and last bytes of each file are looked at.

    Raises
    ------
    ValueError
        Where the data set is not a published one: there is nothing to compare with.
    """
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
    report.facts.append(f"folder {layout.folder}")
    _check_images_folder(report, layout)
    moves = []
    if layout.folder != osp.normpath(folder):
        report.notes.insert(0, f"the folder is misnamed, which the loader accepts: {move(layout.folder, folder)}")
        moves.append(move(layout.folder, folder))
    _check_lists(report, layout)
    if not any(problem.startswith("no ") for problem in report.problems):
        _check_content(report, published, root, images)
    fetch = to_fetch(kind, root, missing_downloads(kind, layout.folder)) if report.problems else []
    report.todo = [*(moves if fetch else []), *fetch, *report.todo]  # what is fetched goes to the usual place
    return report


def to_fetch(kind: type[SplitDataset], root: str, missing: Sequence[Download]) -> list[str]:
    """Return lines that say how to get what is missing: by the command, or by hand."""
    lines = []
    if origins := "; ".join(download.origin for download in missing if download.url):
        lines.append(f"python -m datasets fetch {kind.config} --root {shlex.quote(root)}   ({origins})")
    folder = osp.join(root, kind.dataset_dir)
    by_hand = [f"{d.part}: {d.otherwise.format(folder=folder)}" for d in missing if d.otherwise]
    return lines + list(dict.fromkeys(by_hand))


def fetch_again(kind: type[SplitDataset], root: str, part: str) -> str:
    """Say how to get a part anew."""
    if any(download.url for download in downloads_of(kind) if download.part == part):
        return f"python -m datasets fetch {kind.config} --root {shlex.quote(root)} --only {part} --again"
    return f"unpack {kind.published.images if kind.published else kind.__name__} again"


# --- the parts -------------------------------------------------------------------------------------------


def _check_images_folder(report: Report, layout: Layout) -> None:
    """Report on the folder of the images, and on what should stand in it."""
    if not osp.isdir(layout.images):
        report.problems.append(f"no images folder {layout.images}")
        return
    inside = not report.kind.image_folder
    report.facts.append("images in the folder itself" if inside else f"images in {layout.images}")
    proper = osp.normpath(osp.join(layout.folder, report.kind.image_folder))
    if layout.images != proper:
        report.notes.append(f"the images lie elsewhere than usual, which the loader accepts: they belong into {proper}")
        return
    missing = missing_downloads(report.kind, layout.folder, ["images"])
    report.problems += [f"no {path}" for d in missing for path in d.targets(layout.folder) if not osp.exists(path)]


def _check_lists(report: Report, layout: Layout) -> None:
    """Report on the split file, or on what stands for it."""
    split_file = report.kind.split_file
    if split_file:
        path = find_file(layout, split_file)
        if osp.isfile(path):
            report.facts.append(f"split file {split_file}")
        else:
            report.problems.append(f"no split file {path}; a run would make a split of its own")
            report.facts.append(f"{len(list_images(layout.images, nested=True)):,} image files")
    elif report.kind.is_imagenet and not osp.isfile(find_file(layout, "classnames.txt")):
        report.notes.append("without classnames.txt; ImageNet's is used, or CLIP's names, which are the same")


def _check_content(report: Report, published: Published, root: str, images: bool) -> None:
    """Build the data set as a run would; report on counts, class names, the split, and every image."""
    kind = report.kind
    try:
        dataset = build_quietly(kind, root)
    except (OSError, ValueError, ImportError) as error:
        report.problems.append(f"{type(error).__name__}: {error}")
        damaged = kind.split_file and kind.split_file in str(error) and not isinstance(error, FileNotFoundError)
        if damaged or not missing_downloads(kind, report.folder):
            report.todo.append(fetch_again(kind, root, "splits" if damaged else "images"))
        return
    train = [] if kind.eval_only else dataset.train_x
    val = (dataset.val or []) if dataset.val is not dataset.test else []
    lists = (train, val, dataset.test)
    counts = tuple(map(len, lists))
    report.facts.append("images: " + "; ".join(_count_words(counts)))
    if counts != published.counts:
        actual, expected = (", ".join(_count_words(numbers)) for numbers in (counts, published.counts))
        report.problems.append(f"{actual}, but the published split has {expected}")
    if dataset.num_classes != published.classes:
        report.problems.append(f"{dataset.num_classes} classes, but the published data set has {published.classes}")
    names = names_digest(dataset.classnames)
    if published.names_sha256 not in ("", names):
        report.problems.append(f"class names differ from the published ones (sha256 {names[:16]})")
    elif published.names_sha256:
        report.facts.append(f"{dataset.num_classes} classes, under the published names (sha256 {names[:16]})")
    else:
        report.facts.append(f"{dataset.num_classes} classes, names sha256 {names[:16]}")
    if published.split_sha256 and split_digest(*lists, dataset.image_dir) != published.split_sha256:
        report.problems.append(f"{kind.split_file} is not the published split: few-shot picks will differ")
        report.todo.append(fetch_again(kind, root, "splits"))
    elif kind.split_file and not published.split_sha256 and _is_our_own(dataset):
        report.problems.append(f"{kind.split_file} was made by an earlier run: few-shot picks are not the published")
        report.todo.append(fetch_again(kind, root, "splits"))
    elif report.problems:
        source = f"; {published.split_source}" if published.split_source else ""
        report.todo.append(f"compare with {published.images}{source}")
    paths = dict.fromkeys(item.impath for items in lists for item in items)
    report_unreadable(report, paths, images, fetch_again(kind, root, "images"))


def report_unreadable(report: Report, paths: Collection[str], decode: bool, remedy: str) -> Collection[str]:
    """Read all images and enter into the report how that went.

    Parameters
    ----------
    report
        Gets a fact where all can be read, else a problem that names the bad ones, and `remedy` as what to do.
    paths
        The image files.
    decode
        Whether they are decoded; otherwise their first and last bytes are looked at.
    remedy
        What to do about bad ones.

    Returns
    -------
    Collection
        The paths of the bad ones.
    """
    bad = unreadable(dict.fromkeys(paths, decode), f"Reading {report.name}")
    if bad:
        lines = "\n".join(bad_lines(bad, len(bad)))
        report.problems.append(f"{len(bad)} of {len(paths)} images cannot be read:\n{lines}")
        report.todo.append(remedy)
    else:
        ways = "decoded" if decode else "looked at, first and last bytes"
        report.facts.append(f"all {len(paths):,} images can be read ({ways})")
    return bad


def _is_our_own(dataset: Any) -> bool:
    """Whether the split file is what a run without one would make, where the published one's digest is unknown."""
    try:
        with quiet():
            train, val, test = dataset.make_split()
    except (OSError, ValueError):
        return False
    saved = split_digest(dataset.train_x, dataset.val, dataset.test, dataset.image_dir)
    return split_digest(train, val, test, dataset.image_dir) == saved


def _count_words(counts: Sequence[int]) -> list[str]:
    """Put the counts of train, val and test into words, without those that are 0."""
    return [f"{count:,} {part}" for part, count in zip(("train", "val", "test"), counts, strict=True) if count]


# --- building --------------------------------------------------------------------------------------------


def build_quietly(
    kind: type[SplitDataset], root: str, shots: int = -1, seed: int = 1, warn: bool = False, **options: Any
) -> Any:
    """Build a data set as a run would, without what it prints.

    Parameters
    ----------
    kind
        The data set.
    root
        DATASET.ROOT.
    shots
        DATASET.NUM_SHOTS; -1 for the whole split.
    seed
        SEED of the run.
    warn
        Whether its warnings are let through.
    **options
        Further keys of DATASET.
    """
    with tempfile.TemporaryDirectory() as output, quiet():
        cfg = get_cfg_default()
        cfg.DATASET.ROOT, cfg.DATASET.NAME = root, kind.__name__
        cfg.DATASET.NUM_SHOTS, cfg.SEED, cfg.OUTPUT_DIR = shots, seed, output
        cfg.DATASET.update(options)
        with warnings.catch_warnings():
            if not warn:
                warnings.simplefilter("ignore")
            return kind(cfg)
