"""From a configuration to batches: `DataManager` builds the data set, the transforms and the four loaders.

A batch is a dict: "img" float (B, 3, H, W), "label", "domain" and "index" int64 (B,), "impath" list of B
strings.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from tabulate import tabulate
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms as T
from torchvision.transforms import InterpolationMode

from dassl.config.defaults import KEEP_MB
from dassl.config.values import check_values

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
    """A loader over `data_source`.

    A training loader drops a short last batch, unless it would be the only one. Its worker processes stay
    until the data set changes; in each epoch they are seeded from torch's global generator, so a restored random
    state repeats an epoch exactly. Raises AssertionError when there would be no batch at all.
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

    dataset; train_loader_x; train_loader_u (None without unlabelled data); val_loader (None without a
    validation set); test_loader. `custom_tfm_train` (one transform, or a list: one image each) and
    `custom_tfm_test` replace the configured transforms, `dataset_wrapper` replaces `DatasetWrapper`.
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

        def train_loader(options: Any, data_source: Sequence[Datum]) -> DataLoader:
            return build_data_loader(
                cfg,
                sampler_type=options.SAMPLER,
                data_source=data_source,
                batch_size=options.BATCH_SIZE,
                n_domain=options.N_DOMAIN,
                n_ins=options.N_INS,
                tfm=tfm_train,
                is_train=True,
                dataset_wrapper=dataset_wrapper,
            )

        def test_loader(data_source: Sequence[Datum]) -> DataLoader:
            return build_data_loader(
                cfg,
                sampler_type=cfg.DATALOADER.TEST.SAMPLER,
                data_source=data_source,
                batch_size=cfg.DATALOADER.TEST.BATCH_SIZE,
                tfm=tfm_test,
                is_train=False,
                dataset_wrapper=dataset_wrapper,
            )

        options = cfg.DATALOADER
        options_u = options.TRAIN_X if options.TRAIN_U.SAME_AS_X else options.TRAIN_U
        self.train_loader_x = train_loader(options.TRAIN_X, dataset.train_x)
        self.train_loader_u = train_loader(options_u, dataset.train_u) if dataset.train_u else None
        self.val_loader = test_loader(dataset.val) if dataset.val else None
        self.test_loader = test_loader(dataset.test)

        self._num_classes = dataset.num_classes
        self._num_source_domains = len(cfg.DATASET.SOURCE_DOMAINS)
        self._lab2cname = dataset.lab2cname
        self.dataset = dataset
        if cfg.VERBOSE:
            self.show_dataset_summary(cfg)

    @staticmethod
    def _choose_transform(cfg: Any, custom: Any, is_train: bool) -> Any:
        if custom is None:
            return build_transform(cfg, is_train=is_train)
        log.info(f"* Using custom transform for {'training' if is_train else 'testing'}")
        return custom

    @property
    def num_classes(self) -> int:
        return self._num_classes

    @property
    def num_source_domains(self) -> int:
        """How many domains DATASET.SOURCE_DOMAINS names."""
        return self._num_source_domains

    @property
    def lab2cname(self) -> dict[int, str]:
        return self._lab2cname

    def show_dataset_summary(self, cfg: Any) -> None:
        """Print a table of the data set's name, domains and sizes."""
        dataset = self.dataset
        rows = [["Dataset", cfg.DATASET.NAME]]
        if cfg.DATASET.SOURCE_DOMAINS:
            rows.append(["Source", str(cfg.DATASET.SOURCE_DOMAINS)])
        if cfg.DATASET.TARGET_DOMAINS:
            rows.append(["Target", str(cfg.DATASET.TARGET_DOMAINS)])
        rows.append(["# classes", f"{self.num_classes:,}"])
        rows.append(["# train_x", f"{len(dataset.train_x):,}"])
        if dataset.train_u:
            rows.append(["# train_u", f"{len(dataset.train_u):,}"])
        if dataset.val:
            rows.append(["# val", f"{len(dataset.val):,}"])
        rows.append(["# test", f"{len(dataset.test):,}"])
        log.info(tabulate(rows))


class DatasetWrapper(Dataset):
    """The images of `data_source`, read when asked for and transformed.

    A sample is a dict with `label`, `domain`, `index` (ints), `impath` (str) and `img`: the transformed RGB
    image, the PIL image itself without a transform, or a list of K when DATALOADER.K_TRANSFORMS is K > 1
    (training only). Training images are decoded once, where all of them fit into DATALOADER.KEEP_MB.
    With a list of transforms the further results are `img2`, `img3`, ...; with
    DATALOADER.RETURN_IMG0 `img0` is the image merely resized to INPUT.SIZE. Raises OSError naming the file
    when it cannot be read as an image.
    """

    is_train = False  # these two are here for subclasses whose constructor does not call ours
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
        """Before an epoch: decode the training images, while worker processes can still inherit them."""
        if self.is_train and (num_workers == 0 or workers_share_memory()):
            megabytes = self.cfg.DATALOADER.get("KEEP_MB", KEEP_MB)
            IMAGES.fill((item.impath for item in self.data_source), megabytes * 1e6)

    def __len__(self) -> int:
        return len(self.data_source)

    def __getitems__(self, positions: Sequence[int]) -> list[dict[str, Any]]:
        """The samples of a batch."""
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
        image = IMAGES.read(item.impath)
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
