"""From a configuration to batches: `DataManager` builds the data set, the transforms and the four loaders.

A batch is a dict:

    img       float (B, 3, H, W); a list of K of them with DATALOADER.K_TRANSFORMS K > 1
    label     int64 (B,), the class from 0
    domain    int64 (B,)
    index     int64 (B,), the position in the list of images
    impath    list of B strings, the files
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

import torch
from tabulate import tabulate
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms as T
from torchvision.transforms import InterpolationMode

from dassl.config.defaults import KEEP_MB
from dassl.config.values import check_values
from dassl.utils.images import AS_STORED, Reading

from .datasets import build_dataset
from .datasets.base_dataset import Datum
from .epochs import EpochLoader, reseed
from .image_memory import IMAGES, workers_share_memory
from .integrity import check_images, fingerprint
from .samplers import build_sampler
from .transforms import build_transform

__all__ = ["DataManager", "DatasetWrapper", "build_data_loader", "check_images", "fingerprint"]

log = logging.getLogger(__name__)


def build_data_loader(
    cfg: Any,
    sampler_type: str = "SequentialSampler",
    data_source: Sequence[Datum] | None = None,
    batch_size: int = 64,
    n_domain: int = 0,
    n_ins: int = 2,
    tfm: Any = None,
    is_train: bool = True,
    dataset_wrapper: type[Dataset] | None = None,
) -> DataLoader:
    """Build a loader over some images.

    A training loader drops a short last batch, unless it would be the only one. Its worker processes stay until the
    data set changes; in each epoch they are seeded from torch's global generator, so a restored random state repeats
    an epoch exactly (see `epochs`).

    Parameters
    ----------
    cfg : CfgNode
        The whole tree; read are DATALOADER.NUM_WORKERS, USE_CUDA, and what the data set reads.
    sampler_type : str
        Name of a sampler, see `build_sampler`, which also explains `n_domain` and `n_ins`.
    data_source : sequence of Datum
        The images.
    batch_size, n_domain, n_ins : int
        Images of a batch; domains of a batch; images per class in a batch.
    tfm : callable or sequence of callables, optional
        See `DatasetWrapper`.
    is_train : bool
        Whether the loader is for training.
    dataset_wrapper : type, optional
        Class that takes the place of `DatasetWrapper`, with its constructor's arguments.

    Raises
    ------
    AssertionError
        When there would be no batch at all.
    """
    if not data_source:
        raise AssertionError("there is no image to load; check DATASET.ROOT and the split")
    wrapper: Any = DatasetWrapper if dataset_wrapper is None else dataset_wrapper
    sampler = build_sampler(
        sampler_type, cfg=cfg, data_source=data_source, batch_size=batch_size, n_domain=n_domain, n_ins=n_ins
    )
    # other data sets do not know of the epochs of workers that stay
    keeps_workers = is_train and isinstance(wrapper, type) and issubclass(wrapper, DatasetWrapper)
    loader = (EpochLoader if keeps_workers else DataLoader)(
        wrapper(cfg, data_source, transform=tfm, is_train=is_train),
        batch_size=batch_size,
        sampler=sampler,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        drop_last=is_train and len(data_source) >= batch_size,
        pin_memory=torch.cuda.is_available() and cfg.USE_CUDA,
    )
    if len(loader) == 0:
        raise AssertionError(
            f"{sampler_type} makes no batch of {batch_size} from {len(data_source)} images; "
            "lower the batch size"
        )
    return loader


class DataManager:
    """The data set of a configuration and its loaders.

    Parameters
    ----------
    cfg : CfgNode
        The whole tree.
    custom_tfm_train, custom_tfm_test : callable, optional
        Replace the configured transforms; a list of several for training gives one image for each.
    dataset_wrapper : type, optional
        Replaces `DatasetWrapper`.

    Attributes
    ----------
    dataset : DatasetBase
        Trainers read its `classnames`.
    train_loader_x, test_loader : DataLoader
        Labelled training images, and test images.
    train_loader_u, val_loader : DataLoader or None
        Unlabelled training images and validation images, None where the data set has none.
    num_classes : int
        Number of classes C.
    num_source_domains : int
        Number of domains that DATASET.SOURCE_DOMAINS names.
    lab2cname : dict
        Label -> class name.

    Raises
    ------
    ValueError
        For a data set of a single class.
    """

    def __init__(
        self,
        cfg: Any,
        custom_tfm_train: Any = None,
        custom_tfm_test: Any = None,
        dataset_wrapper: type[Dataset] | None = None,
    ) -> None:
        check_values(cfg.DATALOADER, "DATALOADER")
        dataset = build_dataset(cfg)
        if dataset.num_classes < 2:
            raise ValueError(
                f"{cfg.DATASET.NAME} has one class only, {dataset.classnames[0]!r}: there is nothing to tell apart, "
                "and every prediction would be right; give it a second class"
            )
        seen = {item.label for item in dataset.test or ()}
        if unseen := [name for label, name in dataset.lab2cname.items() if label not in seen]:
            shown = ", ".join(map(repr, unseen[:8])) + ", ..." * (len(unseen) > 8)
            warnings.warn(
                f"{len(unseen)} of {dataset.num_classes} classes have no test image, so no accuracy speaks of them: "
                f"{shown}",
                stacklevel=2,
            )
        tfm_train = self._choose_transform(cfg, custom_tfm_train, is_train=True)
        tfm_test = self._choose_transform(cfg, custom_tfm_test, is_train=False)

        def loader(options: Any, images: Sequence[Datum], is_train: bool, **more: int) -> DataLoader:
            tfm = tfm_train if is_train else tfm_test
            return build_data_loader(
                cfg, options.SAMPLER, images, options.BATCH_SIZE, tfm=tfm, is_train=is_train,
                dataset_wrapper=dataset_wrapper, **more,
            )  # fmt: skip

        def train_loader(options: Any, images: Sequence[Datum]) -> DataLoader:
            return loader(options, images, is_train=True, n_domain=options.N_DOMAIN, n_ins=options.N_INS)

        options = cfg.DATALOADER
        options_u = options.TRAIN_X if options.TRAIN_U.SAME_AS_X else options.TRAIN_U
        self.train_loader_x = train_loader(options.TRAIN_X, dataset.train_x)
        self.train_loader_u = train_loader(options_u, dataset.train_u) if dataset.train_u else None
        self.val_loader = loader(options.TEST, dataset.val, is_train=False) if dataset.val else None
        self.test_loader = loader(options.TEST, dataset.test, is_train=False)

        self.dataset = dataset
        self._num_classes = dataset.num_classes
        self._num_source_domains = len(cfg.DATASET.SOURCE_DOMAINS)
        self._lab2cname = dataset.lab2cname
        if cfg.VERBOSE:
            self.show_dataset_summary(cfg)

    @staticmethod
    def _choose_transform(cfg: Any, custom: Any, is_train: bool) -> Any:
        if custom is None:
            return build_transform(cfg, is_train=is_train)
        log.info(f"* Using custom transform for {'training' if is_train else 'testing'}")
        return custom

    num_classes = property(attrgetter("_num_classes"), doc="Number of classes.")
    num_source_domains = property(attrgetter("_num_source_domains"), doc="Number of names in DATASET.SOURCE_DOMAINS.")
    lab2cname = property(attrgetter("_lab2cname"), doc="{label: class name}.")

    def show_dataset_summary(self, cfg: Any) -> None:
        """Print a table of the data set's name, domains and sizes."""
        dataset = self.dataset
        domains = {"Source": cfg.DATASET.SOURCE_DOMAINS, "Target": cfg.DATASET.TARGET_DOMAINS}
        rows = [["Dataset", cfg.DATASET.NAME], *([name, str(given)] for name, given in domains.items() if given)]
        rows.append(["# classes", f"{self.num_classes:,}"])
        for split in ("train_x", "train_u", "val", "test"):
            images = getattr(dataset, split)
            if images or split in ("train_x", "test"):
                rows.append([f"# {split}", f"{len(images):,}"])
        log.info(tabulate(rows))


class DatasetWrapper(Dataset):
    """The images of `data_source`, read when they are asked for, and transformed.

    A sample is a dict with `label`, `domain`, `index` (ints), `impath` (str) and `img`: the transformed RGB image, or
    the PIL image itself without a transform. With a list of transforms the further results are `img2`, `img3`, ...;
    with DATALOADER.RETURN_IMG0 `img0` is the image merely resized to INPUT.SIZE.

    Parameters
    ----------
    cfg : CfgNode
        The whole tree; read are INPUT (also how stored pixels become a picture, see `Reading`) and DATALOADER.
    data_source : sequence of Datum
        The images.
    transform : callable or sequence of callables, optional
        From a PIL image to what a sample holds.
    is_train : bool
        For training each image is transformed DATALOADER.K_TRANSFORMS times (above 1: `img` is a list), and images
        are decoded once, where all of them fit into DATALOADER.KEEP_MB.

    Raises
    ------
    ValueError
        For several transformed copies without a transform.
    OSError
        When a sample is taken whose file cannot be read as an image; it names the file.
    """

    is_train = False  # these three are here for subclasses whose constructor does not call ours
    reading: Reading = AS_STORED
    _seed: int | None = None

    def __init__(
        self,
        cfg: Any,
        data_source: Sequence[Datum],
        transform: Callable[[Any], Any] | Sequence[Callable[[Any], Any]] | None = None,
        is_train: bool = False,
    ) -> None:
        self.cfg = cfg
        self.data_source = data_source
        self.transform = transform
        self.is_train = is_train
        self.reading = Reading.from_cfg(cfg)
        self.k_tfm = cfg.DATALOADER.K_TRANSFORMS if is_train else 1
        self.return_img0 = cfg.DATALOADER.RETURN_IMG0
        if self.k_tfm > 1 and transform is None:
            raise ValueError(f"DATALOADER.K_TRANSFORMS is {self.k_tfm}, but there is no transform to apply")
        steps: list[Any] = [
            T.Resize(tuple(cfg.INPUT.SIZE), InterpolationMode(cfg.INPUT.INTERPOLATION)),
            T.ToTensor(),
        ]
        if "normalize" in cfg.INPUT.TRANSFORMS:
            steps.append(T.Normalize(mean=list(cfg.INPUT.PIXEL_MEAN), std=list(cfg.INPUT.PIXEL_STD)))
        self.to_tensor = T.Compose(steps)

    def prepare(self, num_workers: int) -> None:
        """Decode the training images before an epoch, while worker processes can still inherit them."""
        if self.is_train and (num_workers == 0 or workers_share_memory()):
            megabytes = self.cfg.DATALOADER.get("KEEP_MB", KEEP_MB)
            IMAGES.fill((item.impath for item in self.data_source), megabytes * 1e6, self.reading)

    def __len__(self) -> int:
        return len(self.data_source)

    def __getitems__(self, positions: Sequence[int]) -> list[dict[str, Any]]:
        """Return the samples of a batch; torch's loaders call this where it exists."""
        self._seed = reseed(positions, self._seed)
        return [self[position] for position in positions]

    def __getitem__(self, idx: int) -> dict[str, Any]:
        item = self.data_source[idx]
        output: dict[str, Any] = {
            "label": item.label,
            "domain": item.domain,
            "impath": item.impath,
            "index": idx,
        }
        image = IMAGES.read(item.impath, self.reading)
        if self.transform is None:
            output["img"] = image
        elif isinstance(self.transform, (list, tuple)):
            for number, transform in enumerate(self.transform, start=1):
                output["img" if number == 1 else f"img{number}"] = self._transform_image(transform, image)
        else:
            output["img"] = self._transform_image(self.transform, image)
        if self.return_img0:
            output["img0"] = self.to_tensor(image)
        return output

    def _transform_image(self, transform: Any, image: Any) -> Any:
        copies = [transform(image) for _ in range(self.k_tfm)]
        return copies[0] if self.k_tfm == 1 else copies
