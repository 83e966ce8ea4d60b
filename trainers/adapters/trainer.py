"""The trainers TipAdapter and TipAdapterF, and what PLOTAdapter does like them.

R. Zhang et al., Tip-Adapter: Training-free Adaption of CLIP for Few-shot Classification, ECCV 2022.
"""
from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from clip import ranks
from clip.model import CLIP
from dassl.data import DatasetWrapper
from dassl.engine import TRAINER_REGISTRY
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import load_checkpoint, save_checkpoint

from ..clip_trainer import ClipTrainer
from ..parts.checkpoints import checkpoint_path, state_of
from ..parts.dataset_facts import dataset_facts, template_of
from ..parts.hand_written import ENSEMBLE, class_features
from . import leaky
from .cache import Cache, check_cache, encode_keys
from .model import TipModel
from .options import AdapterOptions, LearningOptions, TipAdapterFOptions, TipAdapterOptions
from .selection import search, validation_images
from .tuned import epochs_for

TUNED = "upstream-tuned: alpha, beta and the ranges of their search"
NAME = "adapter"  # of the folder that checkpoints go to


class AdapterTrainer(ClipTrainer):
    """A frozen CLIP, a hand-written prompt, and a cache of the few-shot images, `self.model.cache`.

    A run fills the cache, trains its keys or not, chooses alpha and beta on validation data, and is tested once.  The
    cache is what is registered with the engine, under the name "adapter".

    Attributes
    ----------
    n_keys
        N, keys of an image.
    values
        Where alpha and beta start, and where they are looked for; set by `train`.
    val_loader, chosen_on
        The images that they are chosen on, and what those are ("val", "full_val", "train" or "test").
    """

    options_type: type[AdapterOptions]
    options: AdapterOptions
    model: Any  # a TipModel
    learned_tensors: tuple[str, ...] = ("keys", "labels", "_extra_state")  # alpha, beta and class names are in the last
    n_keys = 1  # of an image

    @property
    def cache(self) -> Cache:
        """The part of the model that is saved, and learns where anything does."""
        return self.model.cache

    @property
    def names_decide(self) -> bool:
        """The cached images tell classes apart, too."""
        return False

    # --- building ----------------------------------------------------------------------------------------

    @classmethod
    def recipe(cls, dataset_name: str, num_shots: int) -> dict[str, Any]:
        """Return upstream's epochs, as a default; where nothing learns there are none, whatever a preset says."""
        learns = issubclass(cls.options_type, LearningOptions)
        return {"OPTIM.MAX_EPOCH": epochs_for(cls.options_type.table, dataset_name) if learns else 0}

    @classmethod
    def check_cfg(cls, cfg: Any) -> None:
        """As every trainer; upstream's leaky protocol needs the tests that it looks at."""
        super().check_cfg(cfg)
        options: Any = cls.options_type.from_cfg(cfg)
        if options.leaky and (cfg.TEST.NO_TEST or cfg.TEST.FINAL_MODEL != "last_step"):
            raise ValueError(
                "SELECT_ON_TEST_LEAKY chooses the epoch by test accuracy: leave TEST.NO_TEST at False, and "
                "TEST.FINAL_MODEL at last_step"
            )

    def build_data_loader(self) -> None:
        """As the engine, but an epoch sees every image: a short last batch counts, as in the original."""
        super().build_data_loader()
        loader: Any = self.train_loader_x
        kept = {name: getattr(loader, name) for name in ("batch_size", "sampler", "num_workers", "pin_memory")}
        self.train_loader_x = type(loader)(loader.dataset, **kept)

    def build_model(self) -> None:
        """Build the model and register its cache; only a trainer whose keys learn has an optimiser.

        As in the original AdamW has an epsilon of its own (ADAM_EPS), and the schedule is stepped after every batch.
        """
        self.options = self.options_type.from_cfg(self.cfg)
        clip_model = self.load_clip(self.options.precision).to(self.device)
        self.model = self.assemble(clip_model).to(self.device).requires_grad_(False).eval()
        optim = sched = None
        if isinstance(self.options, LearningOptions):
            self.cache.keys.requires_grad_(True)
            optim = self.optim = build_optimizer([self.cache.keys], self.cfg.OPTIM)
            for group in optim.param_groups:
                if "eps" in group:
                    group["eps"] = self.options.adam_eps
            sched = self.sched = build_lr_scheduler(optim, by_batch(self.cfg.OPTIM, len(self.train_loader_x or [0])))
        else:
            self.max_epoch = 0  # whatever OPTIM says
        self.register_model(NAME, self.cache, optim, sched)

    def assemble(self, clip_model: CLIP) -> TipModel:
        """Build a TipModel with an empty cache."""
        return TipModel(clip_model, *self.prompt_and_cache(clip_model))

    def prompt_and_cache(self, clip_model: CLIP, ctx: nn.Parameter | None = None) -> tuple[Tensor, Cache]:
        """Encode the data set's hand-written prompts, and make an empty cache beside them.

        Parameters
        ----------
        clip_model
            On the device.
        ctx
            Contexts that belong into the cache (PLOT-Adapter).

        Returns
        -------
        tuple
            Text features (C, D) and the cache.  ImageNet's classes are described by the ensemble, as in the original.
        """
        name, classnames = self.cfg.DATASET.NAME, self.dm.dataset.classnames
        self.templates = ENSEMBLE if dataset_facts(name).is_imagenet else (template_of(name),)
        print(f"Hand-written prompts: {', '.join(self.templates)}")
        text = class_features(clip_model, self.templates, classnames)
        return text, Cache(classnames, self.n_keys, text.shape[1], ctx)

    # --- a run -------------------------------------------------------------------------------------------

    @property
    def best_val(self) -> bool:
        """Whether the epoch is chosen on validation data."""
        return self.cfg.TEST.FINAL_MODEL == "best_val" and not self.cfg.TEST.NO_TEST and self.max_epoch > 0

    def train(self) -> None:  # type: ignore[override]
        """Find the images that alpha and beta are chosen on, and train.

        Raises
        ------
        ValueError
            Where there are no such images, or upstream's values are asked for and it had none for this data set.
        """
        self.values = self.options.values(self.cfg.DATASET.NAME)
        if self.options.search != "none" or self.best_val:
            where = self.options.search if self.options.search != "none" else "val"
            images, self.chosen_on = validation_images(self.cfg, self.dm.dataset, where, self.options.leaky)
            self.val_loader = self.loader_for(images)
        super().train()

    def loader_for(self, images: list[Any]) -> Any:
        """Make a loader of images as for a test."""
        if images is self.dm.dataset.val:
            return self.dm.val_loader
        settings = self.cfg.DATALOADER
        as_in_tests = self.dm.test_loader.dataset.transform  # type: ignore[attr-defined]
        wrapped = DatasetWrapper(self.cfg, images, transform=as_in_tests, is_train=False)
        return DataLoader(wrapped, batch_size=settings.TEST.BATCH_SIZE, num_workers=settings.NUM_WORKERS)

    def before_train(self) -> None:
        """As every trainer; a new run then takes its start and fills the cache, a resumed one has both."""
        super().before_train()
        if len(self.cache):  # of the run that goes on here
            return
        started = self.take_start()
        protocol = leaky.PROTOCOL if self.options.leaky else TUNED if self.options.tuned else None
        initial = {"alpha": self.values.alpha, "beta": self.values.beta}
        self.cache.notes = {"protocol": protocol, "selection": {"initial": initial, **started}}
        self.cache.alpha, self.cache.beta = self.values.alpha, self.values.beta
        self.fill_cache()
        if self.max_epoch == 0 or self.cfg.TRAIN.CHECKPOINT_FREQ > 0:
            self.save_model(-1, self.output_dir)

    def take_start(self) -> dict[str, Any]:
        """Get what a run starts from; return what its record shall say of it."""
        return {}

    def fill_cache(self) -> None:
        """Encode every training image AUGMENT_EPOCH times, and keep the means as keys."""
        images: Any = self.train_loader_x.dataset
        keys = encode_keys(
            images,
            self.options.passes,
            self.train_loader_x.batch_size or 1,
            self.cfg.DATALOADER.NUM_WORKERS,
            lambda batch: self.model.view(self.encode_together(batch.to(self.device))),
            self.model.keys_of,
        )
        self.cache.fill(keys, torch.tensor([item.label for item in images.data_source]))
        print(f"The cache holds {len(images)} images of {self.cache.n_known} classes, {self.options.passes} views each")

    def encode_together(self, images: Any) -> Any:
        """Encode images of a batch that every process has, each a part of them."""
        with ranks.sharing():
            return ranks.encode(self.encode, images)

    def forward_backward(self, batch: dict[str, Any]) -> dict[str, float]:
        """Take one step on the cross-entropy of a batch, and one of the schedule."""
        images, labels = self.parse_batch_train(batch)
        logits = self.model.train_logits(self.encode_together(images))
        loss = F.cross_entropy(logits, labels)
        meters = self.read_meters(loss, logits, labels)
        self.model_zero_grad()
        loss.backward()
        self.average_gradients()
        self.model_update()
        self.update_lr()  # after every batch, see `by_batch`
        return meters

    def after_epoch(self) -> None:
        """As the engine; under the leaky protocol the test comes first."""
        if self.options.leaky:
            leaky.after_epoch(self)
        super().after_epoch()

    def after_train(self) -> None:
        """Choose alpha and beta for the epoch that counts, write what will be tested, and test."""
        if self.options.leaky:
            leaky.after_train(self)
            return
        if self.best_val:
            path = checkpoint_path(self.folder, None)
            self.load_learned(path)
        else:
            path = self.folder / f"model.pth.tar-{self.max_epoch}"
            if not path.exists():  # all of it was done elsewhere, in RESUME
                self.save_model(self.max_epoch - 1, self.output_dir)
        self.choose()
        self.keep(path, epoch_by=self.chosen_on if self.best_val else "last")
        super().after_train()

    @property
    def chooses_on_val(self) -> bool:
        """Whether validation images are read, apart from a choice of the epoch."""
        return self.options.search == "val"

    @property
    def folder(self) -> Path:
        """Where this run's checkpoints are."""
        return Path(self.output_dir, NAME)

    # --- alpha and beta ----------------------------------------------------------------------------------

    def choose(self) -> None:
        """Set alpha and beta, unless they are to stay; the cache's notes say to what, and where from."""
        if self.options.search == "none":
            self.set_values(self.values.alpha, self.values.beta, "upstream" if self.options.tuned else "given")
            return
        loader: Any = self.val_loader
        batches = self.evaluation_batches("val", loader)
        with self.model.fixed_prompts():
            pairs = ((self.encode_batch(batch), batch["label"].to(self.device)) for batch in batches)
            best = search(self.model, pairs, self.values.alphas, self.values.betas, total=len(loader))
        facts = {"on": self.chosen_on, "images": len(loader.dataset), "accuracy": best.accuracy}
        self.set_values(best.alpha, best.beta, "search", **facts)

    def encode_batch(self, batch: dict[str, Any]) -> Any:
        """Compute the features of a batch of `evaluation_batches`, whatever it carries."""
        return self.model.encode(self.parse_batch_test(batch)[0])

    def set_values(self, alpha: float, beta: float, source: str, **facts: Any) -> None:
        """Set alpha and beta, note it in the cache and say so in the log.

        Parameters
        ----------
        alpha, beta
            The values.
        source
            Where they are from, e.g. "search".
        facts
            What else the notes shall say, as plain data.
        """
        self.cache.alpha, self.cache.beta = alpha, beta
        self.cache.notes["selection"] |= {"alpha": alpha, "beta": beta, "from": source, **facts}
        details = ", ".join(f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
                         for key, value in facts.items())
        print(f"alpha {alpha:.4g}, beta {beta:.4g} ({source}{': ' * bool(details)}{details})")

    def keep(self, path: Path, epoch_by: str) -> None:
        """Write what will be tested into a checkpoint that is there, without its optimiser: nothing is left to train.

        Parameters
        ----------
        path
            The checkpoint.
        epoch_by
            What its epoch was chosen by, for the notes.
        """
        checkpoint = load_checkpoint(str(path))
        if self.max_epoch:
            self.cache.notes["selection"] |= {"epoch": checkpoint["epoch"], "epoch_by": epoch_by}
        checkpoint |= {"state_dict": self.cache.state_dict(), "optimizer": None}
        save_checkpoint(checkpoint, str(path.parent), model_name=path.name)

    @property
    def protocol(self) -> str | None:
        """How this result was obtained, where it is no fair reference; for the run's record."""
        return self.cache.notes.get("protocol")

    @property
    def selection(self) -> dict[str, Any] | None:
        """Values of alpha and beta, and where they are from; for the run's record."""
        return self.cache.notes.get("selection")

    # --- a test, checkpoints -----------------------------------------------------------------------------

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Load the cache of `directory`/adapter: of an epoch, or the best one's, or the last one's.

        Raises
        ------
        ValueError
            Without a directory: there is nothing to test then.
        """
        if not directory:
            raise ValueError("the cache is empty: give the run to evaluate with --model-dir")
        self.load_learned(checkpoint_path(Path(directory, NAME), epoch))

    def load_learned(self, path: Path) -> dict[str, Any]:
        """Take the cache from one checkpoint file, which is returned.

        Raises
        ------
        ValueError
            For a file that holds no such cache, see `check_cache`.
        """
        checkpoint = load_checkpoint(str(path))
        check_cache(state_of(checkpoint), self.cache, path)
        self.cache.load_state_dict(state_of(checkpoint))
        print(f'Loading weights to {NAME} from "{path}" (epoch = {checkpoint.get("epoch")})')
        if self.cache.known != self.cache.classnames:
            print(f"The cache knows {self.cache.n_known} of {self.num_classes} classes; prompts alone tell the rest")
        if self.protocol:
            print(f"Protocol of that run: {self.protocol}")
        self.loaded_checkpoint = str(path)
        return checkpoint


@TRAINER_REGISTRY.register()
class TipAdapter(AdapterTrainer):
    """Tip-Adapter: the keys are the features of the few-shot images; nothing is trained."""

    options_type = TipAdapterOptions


@TRAINER_REGISTRY.register()
class TipAdapterF(AdapterTrainer):
    """Tip-Adapter-F: the keys are where training starts."""

    options_type = TipAdapterFOptions


def by_batch(optim_cfg: Any, batches: int) -> Any:
    """Stretch a schedule that counts epochs, for an optimiser that is stepped after every batch.

    Parameters
    ----------
    optim_cfg
        The OPTIM node; it is not changed.
    batches
        Of an epoch.
    """
    scaled = optim_cfg.clone()
    scaled.defrost()
    scaled.MAX_EPOCH = max(1, scaled.MAX_EPOCH * batches)
    scaled.WARMUP_EPOCH *= batches
    steps = scaled.STEPSIZE
    scaled.STEPSIZE = steps * batches if isinstance(steps, int) else type(steps)(step * batches for step in steps)
    return scaled
