"""What every data set of this package is: a declaration, and the order in which its lists of images are built."""

from __future__ import annotations

import os.path as osp
import shlex
import warnings
from collections.abc import Sequence
from typing import Any

from dassl.data.datasets import DatasetBase

from .fewshot import few_shot
from .files import first_few, raise_no_folder, relative_posix, require_files, require_folder, write_json_somewhere
from .layout import find_file, find_layout
from .published import Download, Published
from .splits import (
    Items,
    check_labels,
    read_and_split_data,
    read_split,
    split_as_json,
    split_digest,
    subsample_classes,
)

GENERAL_STARTS = ("a photo of a", "this is a photo", "this is picture of", "one picture of a")


class SplitDataset(DatasetBase):
    """A data set with CoOp's conventions: what it declares, and how it is built.

    Built in this order: whole split -> few-shot train and val (of all classes) -> base or new classes. Test images are
    never reduced. `DATASET.SUBSAMPLE_CLASSES` is "all", "base" or "new". `DATASET.DRAW` says how few-shot images are
    drawn (draws.py); its proportional draw, too, is made on all classes, so that base and new share its images.

    A subclass declares the attributes below, of which most may stay as they are, and overrides `make_split` (how to
    split without a split file) or `load_split` (everything). Tools and trainers read the attributes; nothing else in
    the repository lists the data sets.

    Attributes
    ----------
    config
        Name of its file in configs/datasets; also what command lines and folders of runs call it.
    table_name
        What tables call it; needed where `benchmark` is set.
    benchmark
        "fewshot" for the eleven data sets of the few-shot protocol, "domain" for the variants of ImageNet that test the
        shift of domain, "" for others.
    order
        Place in tables and lists, ascending.
    dataset_dir
        Folder below DATASET.ROOT; absolute once built.
    image_folder
        Folder of the images, below `dataset_dir`; the entries of split files are relative to it.
    split_file
        CoOp's split file in `dataset_dir`; "" for data sets that say themselves what is what.
    ignored_folders
        Folders among those of the classes that are no class, for making a split.
    class_names
        Folder of a class -> name of the class, where they differ, for making a split.
    template
        Hand-written prompt of zero-shot CLIP, with {} where the class name goes.
    prompt_starts
        The words that PLOT++'s text prompts start from, to be followed by the class name; () where there are none.
    legacy_prompt_starts
        The starts of the published code where they differ from what was meant.
    is_imagenet
        Whether the classes are ImageNet's: ImageNet itself and its variants.
    own_pictures
        Whether the images are the user's own, and may be others at the next run.
    eval_only
        Whether nothing may train on it: the training list is the test list, there to name the classes.
    keep_picks
        Whether few-shot picks are written to a file.
    published
        What is known of the published copy, to recognise one on disk; None where nothing is published.
    downloads
        The files that it is made of, apart from the split file.
    """

    config = ""
    table_name = ""
    benchmark = ""
    order = 100
    dataset_dir = ""
    image_folder = ""
    split_file = ""
    ignored_folders: tuple[str, ...] = ()
    class_names: dict[str, str] = {}
    template = "a photo of a {}."
    prompt_starts: tuple[str, ...] = ()
    legacy_prompt_starts: tuple[str, ...] = ()
    is_imagenet = False
    own_pictures = False
    eval_only = False
    keep_picks = True
    published: Published | None = None
    downloads: tuple[Download, ...] = ()

    all_images: Sequence[str] = ()  # paths of one's own pictures, also of those that this run does not use
    skipped: Sequence[str] = ()  # what was left out for DATASET.SKIP_BAD, relative to dataset_dir

    def __init__(self, cfg: Any) -> None:
        root = osp.abspath(osp.expanduser(cfg.DATASET.ROOT))
        layout = find_layout(root, self)
        if layout is None:
            holds = repr(self.dataset_dir) if self.dataset_dir else "the images"
            remedy = f"DATASET.ROOT (--root) is {cfg.DATASET.ROOT!r}; it must be the folder that holds {holds}"
            raise_no_folder(osp.normpath(osp.join(root, self.dataset_dir)), remedy)
        self.layout, proper = layout, osp.normpath(osp.join(root, self.dataset_dir, self.image_folder))
        self.dataset_dir, self.image_dir = layout
        if self.image_dir != proper and osp.isdir(self.image_dir):
            print(f"Note: {type(self).__name__} is read from {self.image_dir}; its usual place is {proper}")
        self.split_path = find_file(layout, self.split_file) if self.split_file else ""
        self.split_fewshot_dir = osp.join(self.dataset_dir, "split_fewshot")
        self.skips_bad = cfg.DATASET.get("SKIP_BAD", False)

        train, val, test = self.load_split(cfg)
        train, val, test = self.leave_out_bad(train, val, test)
        check_labels(train, val, test, type(self).__name__)
        examples = train
        if not self.eval_only:
            keep = self.keep_picks and not self.skipped  # files of picks are for the whole split
            few_train, few_val = few_shot(self, cfg, train, val, keep=keep)
            subset = cfg.DATASET.get("SUBSAMPLE_CLASSES", "all")
            examples = list({item.label: item for item in train}.values())  # one of each class
            examples, train, val, test = subsample_classes(examples, few_train, few_val, test, subsample=subset)
            if not train:
                raise ValueError(
                    f"none of the {len(few_train)} few-shot images is of the {subset} classes; use more shots, or "
                    "DATASET.DRAW per_class"
                )
        # The base class takes the classes from its training images, and few shots may leave a class without one.
        super().__init__(train_x=examples, val=val, test=test)
        self._train_x = train

    def load_split(self, cfg: Any) -> tuple[Items, Items | None, Items]:
        """Return the whole (train, val, test).

        They come from the split file, or from `make_split`, whose result is then saved as one, with a warning:
        published results use CoOp's file.

        Raises
        ------
        FileNotFoundError
            When the images' folder, or an image that the split names, is missing.
        ValueError
            When the split file is damaged.
        """
        require_folder(self.image_dir, f"unpack the images of {type(self).__name__} there")
        if self.split_file and osp.isfile(self.split_path):
            split = read_split(self.split_path, self.image_dir)
            known = self.published.split_sha256 if self.published else ""
            if known and split_digest(*split, self.image_dir) != known:
                print(f"Note: {self.split_file} is not the published split; published results used another")
            return split
        split = self.make_split()
        paths = [item.impath for items in split for item in items]
        require_files(paths, f"the lists of {type(self).__name__}", f"unpack all images below {self.image_dir}")
        if not self.split_file:
            return split
        places = [self.split_path, osp.join(cfg.OUTPUT_DIR, self.split_file)]
        saved = write_json_somewhere(split_as_json(*split, self.image_dir), places)
        warnings.warn(
            f"no {self.split_path}: made a split of our own" + (f", saved as {saved}" if saved else "") + ". "
            "Published results use CoOp's file" + (f": {self.published.split_source}" if self.published else ""),
            stacklevel=3,
        )
        return split

    def make_split(self) -> tuple[Items, Items, Items]:
        """Return (train, val, test) made from the raw data, when there is no split file.

        Unless a subclass knows better, the image folder holds a folder for every class, and of each class 50 percent
        are to train on and 20 percent to validate.
        """
        return read_and_split_data(self.image_dir, ignored=self.ignored_folders, new_cnames=self.class_names)

    def leave_out_bad(self, *lists: Items | None) -> Sequence[Any]:
        """Return the lists as they are; with DATASET.SKIP_BAD without the images that cannot be decoded.

        All are decoded, so that what is left does not depend on shots and seed. The bad ones are printed, and added to
        `skipped`.

        Raises
        ------
        ValueError
            When nothing is left of a class.
        """
        if not self.skips_bad:
            return lists
        from dassl.data.integrity import bad_images, bad_lines  # no part of upstream's engine, nor is the key

        items = [item for items in lists for item in items or []]
        bad = bad_images(dict.fromkeys((item.impath for item in items), True))
        if not bad:
            return lists
        self.skipped = [*self.skipped, *(relative_posix(path, self.dataset_dir) for path in bad)]
        print(f"Skipped, for DATASET.SKIP_BAD: {len(bad)} images that cannot be read")
        print(*bad_lines(bad, len(bad)), sep="\n")
        warnings.warn(f"skipped: {len(bad)} of {len(items)} images cannot be read; the log names them", stacklevel=3)
        left = [None if items is None else [item for item in items if item.impath not in bad] for items in lists]
        names = {item.classname for items in left for item in items or []}
        if gone := sorted({item.classname for item in items} - names):
            raise ValueError(
                f"none of the images of class {first_few(map(repr, gone))} can be read, so that skipping them leaves "
                "nothing of it; replace them, or take the class out of the data set"
            )
        return left

    @property
    def about_bad_images(self) -> str:
        """What can be done about images that cannot be read, for the end of a message of the engine."""
        command = self.check_command()
        return f"{command} finds all of them, and DATASET.SKIP_BAD True (of a sweep: --skip-bad) goes on without them"

    def check_command(self) -> str:
        """Return the command that looks at every image."""
        name = self.config or type(self).__name__
        return f"python -m datasets check {shlex.quote(osp.dirname(self.dataset_dir))} {name} --images"

    def annotation(self, *parts: str) -> str:
        """Find a file that came with the data set and holds its splits or classes.

        Parameters
        ----------
        *parts
            Its path below `dataset_dir`; it may also lie beside the images.

        Raises
        ------
        FileNotFoundError
            When it is missing; the message says where it comes from, and which split file would make it needless.
        """
        path = find_file(self.layout, *parts)
        if osp.isfile(path):
            return path
        also = f"no {path}; it is part of {self.published.images}" if self.published else f"no {path}"
        for download in self.downloads:
            if download.file == parts[-1]:
                also = f"no {path}: {download.host}"
        if self.split_file and self.published:
            also += f". With {self.split_path} ({self.published.split_source}) it is not needed"
        raise FileNotFoundError(also)
