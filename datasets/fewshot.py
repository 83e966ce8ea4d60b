"""Few-shot selection: a given seed yields the picks of the published protocol, drawn once and kept in a file.

Train gets NUM_SHOTS images of every class, then val min(NUM_SHOTS, 4), from one random stream seeded with
SEED. The picks are kept as `split_fewshot/shot_<shots>-seed_<seed>.json` in the data set's folder (in
OUTPUT_DIR where that is read-only), with a digest of the split they were drawn from. Pickles of the same
name that upstream wrote are honoured. Runs without a seed (SEED < 0) neither read nor write such files.

With DATASET.DRAW proportional the images are drawn as draws.py says, no val among them, and the files' names end in
`-proportional`.
"""

from __future__ import annotations

import hashlib
import os.path as osp
import random
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from dassl.data.datasets import DatasetBase, Datum
from dassl.utils import read_json

from .draws import DRAWS, PER_CLASS, PROPORTIONAL, draw_proportionally
from .files import first_few, relative_posix, write_json_somewhere
from .legacy import read_datum_pickle

VERSION = 1
MOST_VAL_SHOTS = 4

Items = list[Datum]
Picks = tuple[Items, Items | None]  # train and val
Entry = tuple[str, int, str]  # path relative to the data set's folder, label, class name


def few_shot(
    dataset: DatasetBase, cfg: Any, train: Items, val: Items | None, keep: bool = True
) -> Picks:
    """Choose the few-shot images of a run, or read the choice from a file.

    Parameters
    ----------
    dataset
        The data set; its `dataset_dir` must be set already.
    cfg
        The run's config: DATASET.NUM_SHOTS images of every class (fewer than 1: all), DATASET.DRAW, SEED, and
        OUTPUT_DIR for the file where the data set's folder is read-only.
    train, val
        The whole lists. Classes smaller than the shots are taken whole, with a warning.
    keep
        Whether to look at and leave files.

    Returns
    -------
    tuple
        Few-shot train and val.

    Raises
    ------
    ValueError
        For another draw than those of draws.py, and as `draw_proportionally` does.
    """
    shots, draw = cfg.DATASET.NUM_SHOTS, cfg.DATASET.get("DRAW", PER_CLASS)
    if draw not in DRAWS:
        raise ValueError(f"DATASET.DRAW is {draw!r}; it must be {' or '.join(map(repr, DRAWS))}")
    if shots < 1:
        return train, val
    if draw == PROPORTIONAL:
        picks = _kept_or_drawn(dataset, cfg, train, None, draw, keep)
        _report_shares(train, picks[0])
        return picks
    _warn_of_small_classes(train, shots)
    return _kept_or_drawn(dataset, cfg, train, val, draw, keep)


def _kept_or_drawn(dataset: DatasetBase, cfg: Any, train: Items, val: Items | None, draw: str, keep: bool) -> Picks:
    """Read the picks from a file; where there is none draw them, and write one."""
    shots, seed = cfg.DATASET.NUM_SHOTS, cfg.SEED
    if seed < 0 or not keep:
        return _draw(dataset, train, val, shots, seed, draw)

    folder = osp.join(dataset.dataset_dir, "split_fewshot")
    name = f"shot_{shots}-seed_{seed}" + (f"-{draw}" if draw != PER_CLASS else "")
    elsewhere = osp.join(cfg.OUTPUT_DIR, "split_fewshot", type(dataset).__name__)
    places = [osp.join(place, f"{name}.json") for place in (folder, elsewhere)]
    upstream = [osp.join(folder, f"{name}.pkl")] if draw == PER_CLASS else []
    split = _Split(dataset.dataset_dir, train, val)
    settings = {"version": VERSION, "shots": shots, "seed": seed} | ({"draw": draw} if draw != PER_CLASS else {})
    for path in (*upstream, *places):
        if picks := _read_picks(path, split, settings):
            return picks

    picks = _draw(dataset, train, val, shots, seed, draw)
    content = {**settings, "split_sha256": split.digest}
    content |= {"train": split.entries(picks[0]), "val": split.entries(picks[1] or [])}
    saved = write_json_somewhere(content, places)
    if saved:
        print(f"Saving preprocessed few-shot data to {saved}")
    return picks


def _draw(dataset: DatasetBase, train: Items, val: Items | None, shots: int, seed: int, draw: str) -> Picks:
    """Draw train, then val, from the random numbers that a run with this seed starts with.

    Python's random state is put back afterwards, so that a run continues with the same random numbers whether or not
    its picks were found in a file.
    """
    if draw == PROPORTIONAL:
        return draw_proportionally(train, shots, seed), None
    state = random.getstate()
    if seed >= 0:
        random.seed(seed)
    train = dataset.generate_fewshot_dataset(train, num_shots=shots)
    if val:
        val = dataset.generate_fewshot_dataset(val, num_shots=min(shots, MOST_VAL_SHOTS))
    if seed >= 0:
        random.setstate(state)
    return train, val


def _warn_of_small_classes(train: Items, shots: int) -> None:
    """Name the classes that have fewer training images than shots."""
    counts = Counter((item.label, item.classname) for item in train)
    small = [f"{name!r} ({count})" for (_, name), count in sorted(counts.items()) if count < shots]
    if small:
        warnings.warn(
            f"fewer than {shots} training images, so all of them are taken, in class {first_few(small, 10)}",
            stacklevel=3,
        )


def _report_shares(train: Items, picks: Items) -> None:
    """Print how many images the classes got in a proportional draw, and warn of those that got none."""
    counts = Counter({item.label: 0 for item in train})
    counts.update(item.label for item in picks)
    print(
        f"Few-shot images in proportion to the classes' sizes: {len(picks)} of {len(train)}, "
        f"{min(counts.values())} to {max(counts.values())} of a class"
    )
    names = {item.label: item.classname for item in train}
    if empty := [repr(names[label]) for label, count in sorted(counts.items()) if not count]:
        warnings.warn(
            f"{len(empty)} of {len(counts)} classes have no training image in this draw (DATASET.DRAW {PROPORTIONAL}): "
            f"{first_few(empty, 10)}",
            stacklevel=3,
        )


class _Split:
    """The whole training and validation lists, and how to find images in them again."""

    def __init__(self, folder: str, train: Items, val: Items | None) -> None:
        self.folder = folder
        self._lists = {"train": train, "val": val or []}
        digest = hashlib.sha256()
        for split, items in self._lists.items():
            for path, label, name in map(self._entry, items):
                digest.update(f"{split}\t{label}\t{path}\t{name}\n".encode("utf-8", "surrogateescape"))
        self.digest = digest.hexdigest()
        self.has_val = val is not None and len(val) > 0

    def _entry(self, item: Datum) -> Entry:
        return relative_posix(item.impath, self.folder), item.label, item.classname

    def items(self, part: str) -> Items:
        return self._lists[part]

    def entries(self, items: Items) -> list[Entry]:
        return [self._entry(item) for item in items]

    def find(self, split: str, entries: Iterable[tuple[Any, Any, Any]]) -> Items | None:
        """Return the items with these paths, labels and names; None if one of them is not in this split.

        Paths may be absolute ones of another machine: what lies below the data set's folder counts.
        """
        entries = list(entries)
        names = {path.replace("\\", "/").rpartition("/")[2] for path, _, _ in entries}
        # Of ImageNet's million images a few thousand come into question: keep no table of all.
        known = {self._entry(item): item for item in self._lists[split] if osp.basename(item.impath) in names}
        items = []
        for path, label, name in entries:
            item = next((known[key] for key in self._candidates(path, label, name) if key in known), None)
            if item is None:
                return None
            items.append(item)
        return items

    def _candidates(self, path: str, label: int, name: str) -> Iterator[Entry]:
        yield relative_posix(path, self.folder), label, name
        parts = path.replace("\\", "/").split("/")
        for start in range(1, len(parts)):  # whatever folder held the data set there
            yield "/".join(parts[start:]), label, name


def _refuse_impossible(path: str, split: _Split, train: Items, val: Items, every_class: bool) -> None:
    """Raise ValueError where the picks in a file hold an image twice, or none of a class: nobody drew them.

    Without `every_class` classes may be without an image.
    """
    remedy = "delete the file, and the picks are drawn again; or mend it"
    for part, picks in (("train", train), ("val", val)):
        counts = Counter(item.impath for item in picks)
        if twice := [repr(image) for image, count in counts.items() if count > 1]:
            raise ValueError(f"few-shot file {path}: {part} has more than once {first_few(twice)}; {remedy}")
        picked = {item.label for item in picks}
        missing = {item.label: repr(item.classname) for item in split.items(part) if item.label not in picked}
        if every_class and picks and missing:
            names = first_few(missing.values())
            raise ValueError(f"few-shot file {path}: {part} has no image of class {names}; {remedy}")


def _read_picks(path: str, split: _Split, settings: dict[str, Any]) -> Picks | None:
    """Read the picks of a file, ours (JSON) or upstream's (a pickle).

    Parameters
    ----------
    path
        The file, which need not be there.
    split
        What the picks must be from.
    settings
        What a file of ours must say of its draw.

    Returns
    -------
    tuple or None
        None when there is no such file, or, with a warning, when it is not of this very split.

    Raises
    ------
    ValueError
        For picks that nobody can have drawn, and for a pickle that holds anything besides picks.
    """
    if not osp.isfile(path):
        return None
    content: Any = {}
    if path.endswith(".pkl") and not (content := read_datum_pickle(path)):
        return None
    try:
        if not content:
            content = read_json(path)
            if {key: content[key] for key in settings} != settings:
                raise ValueError("it was written for other settings")
            if content["split_sha256"] != split.digest:
                raise ValueError("the data set's split has changed since")
        train, val = (split.find(part, content.get(part, [])) for part in ("train", "val"))
        if not train or val is None or (split.has_val and not val):
            raise ValueError("it names images that are not in this split")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        warnings.warn(f"few-shot file {path} is not used ({error}); drawing again", stacklevel=3)
        return None
    _refuse_impossible(path, split, train, val, every_class="draw" not in settings)
    print(f"Loading preprocessed few-shot data from {path}")
    return train, val if split.has_val else None
