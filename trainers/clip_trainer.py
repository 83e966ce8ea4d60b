"""What our trainers do alike: build around a frozen CLIP, take a step, test, load a checkpoint.

The levels are those of the engine (TrainerBase: the order of a run; SimpleTrainer: data, tests, checkpoints; TrainerX:
labelled batches), then `ClipTrainer` here, then the method.  Everything else is a part that a trainer has: a model,
options, a cache of image features, evidence of what the model did (trainers/parts).

Only names that upstream Dassl has too are imported, so that these trainers also run on the original engine.
"""
from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clip import ranks
from clip.clip import check_model_name
from clip.feature_store import FeatureStore
from clip.features import ImageFeatures, at_least_float32
from clip.model import CLIP
from dassl.engine import TrainerX
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import load_checkpoint, load_pretrained_weights

from .features.cache import MAX_GB, FeatureCache
from .features.views import ViewLoader, Views, wanted_views
from .parts.backbone import effective_precision, load_backbone
from .parts.checkpoints import checkpoint_path, find_learned, state_of
from .parts.class_sample import ClassSample, draw_classes
from .parts.class_words import check_names
from .parts.options import Options


class ClipTrainer(TrainerX):
    """Trains a small part of `self.model`, around a frozen CLIP; by default its `prompt_learner`.

    A method names its `options_type` and defines `assemble`.  The class attributes say what it is, and are read by
    every tool that has to know (tables, sweeps, pictures, exports); a trainer of another origin may lack any of them,
    and then has the default.

    Attributes
    ----------
    options_type
        Dataclass of the keys TRAINER.<node>.*; None for a method without keys.
    recipe
        (data set's name, shots) -> {config key: value}, the published schedule; defaults below what a user sets.
    learned_tensors
        Entries of the registered model's state that are learned.  What else is there is made anew from the class names.
    splits_work
        Whether the processes of one run (torchrun) share the work of its steps; else each does all of it.
    zero_shot
        Whether no training image is seen, so that one run stands for every number of shots and every seed.
    transports
        Whether `explain` and `model.explain` give a plan between image features and prompts.
    has_places
        Whether the rows of that plan are places of the image, so that a heat map can be drawn.
    can_be_mapped
        Whether its prompts and images can be drawn in one plane.
    has_words
        Whether its learned context lies in the space of token embeddings, so that it has nearest words.
    class_specific
        Whether what is learned belongs to the classes of the run, so that it serves no other names.
    starts_from
        Registered name of the trainer that made the run which this one starts from; "" for none.
    config_family
        Name of the trainer whose presets it uses, where it has none of its own.
    """

    options_type: type[Options] | None = None
    learned_tensors: tuple[str, ...] = ()
    splits_work: bool = True
    zero_shot: bool = False
    transports: bool = False
    has_places: bool = False
    can_be_mapped: bool = False
    has_words: bool = False
    class_specific: bool = False
    starts_from: str = ""
    config_family: str = ""

    options: Any  # an `options_type`
    model: Any  # e.g. parts.model.PromptModel
    clip_model: CLIP
    precision: str  # of the arithmetic
    train_loader_x: Any
    templates: tuple[str, ...] = ()  # sentences, with {} for the class name, that people wrote and the method uses
    scaler: Any = None  # of gradients, where PREC is amp
    evidence: Any = None  # e.g. plot.evidence.TransportEvidence; None for a model that has nothing to show
    loaded_checkpoint: str | None = None  # the file that the learned part was last taken from

    @staticmethod
    def recipe(dataset_name: str, num_shots: int) -> dict[str, Any]:
        """Leave the schedule to the configuration files."""
        return {}

    @classmethod
    def check_cfg(cls, cfg: Any) -> None:
        """Raise ValueError for settings that cannot be, before anything is loaded."""
        try:
            check_model_name(cfg.MODEL.BACKBONE.NAME)
        except ValueError as error:
            raise ValueError(f"MODEL.BACKBONE.NAME: {error}") from None
        if cls.options_type is not None:
            cls.options_type.from_cfg(cfg)
            wanted_views(cfg)

    # --- building ----------------------------------------------------------------------------------------

    @property
    def names_decide(self) -> bool:
        """Whether nothing but their names tells classes apart; contexts of single classes do, too."""
        return not getattr(self.options, "class_specific", False) if self.options_type else True

    def load_clip(self, precision: str) -> CLIP:
        """Load the frozen CLIP, still on the CPU where this run is the first one; sets what is computed with.

        Also sets `clip_model`, `precision` and `feature_cache`.  Warns of class names that this CLIP cannot tell apart.

        Parameters
        ----------
        precision
            Value of the key PREC; "fp16" and "amp" become "fp32" on a CPU.

        Raises
        ------
        ValueError
            Where the class names leave nothing to learn or test, or INPUT.SIZE is not what this CLIP reads.
        """
        self.precision = effective_precision(precision, self.device)
        self.clip_model = load_backbone(self.cfg, self.precision, self.device)
        if ranks.size() > len(self.dm.dataset.classnames):
            raise ValueError(
                f"{ranks.size()} processes share the prompts of {len(self.dm.dataset.classnames)} classes; start at "
                "most one a class"
            )
        check_names(self.clip_model, self.dm.dataset.classnames, self.cfg.MODEL.BACKBONE.NAME, self.names_decide)
        settings = dict(self.cfg.get("FEATURE_CACHE", {}))
        store = FeatureStore(settings.get("DIR"), settings.get("MAX_GB", MAX_GB) * 1e9)
        self.feature_cache = FeatureCache(
            store, lambda images: self.encode(images), self.device, self.precision, settings.get("USE", True),
            code=[type(self).encode],
        )  # fmt: skip
        return self.clip_model

    def assemble(self, clip_model: CLIP) -> nn.Module:
        """Build the model: images (B, 3, H, W) -> logits (B, C), with a child `prompt_learner`.

        Parameters
        ----------
        clip_model
            Frozen, and shared with other runs of this process: it must not be changed.
        """
        raise NotImplementedError

    def learns(self, name: str) -> bool:
        """Whether the model's parameter of this name is trained."""
        return "prompt_learner" in name

    def build_model(self) -> None:
        """Build the model, and register its prompt learner as what is trained, saved and switched between modes.

        Raises
        ------
        ValueError
            For options that their rules do not allow, or a MODEL.INIT_WEIGHTS that holds nothing of what is learned.
        """
        cfg = self.cfg
        assert self.options_type is not None
        self.options = self.options_type.from_cfg(cfg)
        clip_model = self.load_clip(self.options.precision)

        print("Building custom CLIP")
        self.model = self.assemble(clip_model)
        self.model.text_encoder.chunk = self.options.text_chunk
        if sample := getattr(self.options, "class_sample", 0):
            print(self.about_sample(sample, len(self.dm.dataset.classnames)))
        print("Turning off gradients in both the image and the text encoder")
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(self.learns(name))
        learner = self.model.prompt_learner
        if cfg.MODEL.INIT_WEIGHTS:
            before = [parameter.detach().clone() for parameter in learner.parameters()]
            load_pretrained_weights(learner, cfg.MODEL.INIT_WEIGHTS)
            if all(map(torch.equal, before, learner.parameters())):
                raise ValueError(
                    f"MODEL.INIT_WEIGHTS {cfg.MODEL.INIT_WEIGHTS} holds nothing that {cfg.TRAINER.NAME} learns in the "
                    f"shapes of this run ({', '.join(dict(learner.named_parameters()))}); give a checkpoint of prompts "
                    f"with the same {learner.shaped_by} and backbone, or leave the key empty"
                )

        self.model.to(self.device)
        self.model.eval()
        self.optim = build_optimizer(learner, cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, cfg.OPTIM)
        self.register_model("prompt_learner", learner, self.optim, self.sched)
        self.scaler = torch.amp.GradScaler(self.device.type) if self.precision == "amp" else None

    def about_sample(self, size: int, classes: int) -> str:
        """Say in the log what CLASS_SAMPLE does; ValueError where there are fewer classes a step than processes."""
        key = self.options.key("class_sample")
        if ranks.size() > size:
            raise ValueError(f"{key} is {size}, but {ranks.size()} processes share the classes of a step; raise it")
        if size > classes:
            return f"{key} is {size}, and there are {classes} classes: every step sees all of them"
        return f"{key}: a training step sees the classes of its batch and {size - 1} others of {classes}; tests see all"

    # --- one step ----------------------------------------------------------------------------------------

    def before_train(self) -> None:
        """As the engine; where training is to see the same views again and again, encode them now.

        Raises
        ------
        ValueError
            Where views are asked for, but the image side learns.
        """
        super().before_train()
        count = wanted_views(self.cfg)
        if count and self.start_epoch < self.max_epoch:
            print(f"Training on {count} views of each image, encoded before the first epoch")
            if self.frozen_tower() is None:
                raise ValueError(
                    f"DATALOADER.TRAIN_X.VIEWS is {count}, but the image side of {self.cfg.TRAINER.NAME} learns, and "
                    "its features change with every step; leave the key at 0"
                )
            views = Views(self.train_loader_x.dataset, count, max(self.cfg.SEED, 0))
            loader = views.loader(self.train_loader_x.batch_size, self.cfg.DATALOADER.NUM_WORKERS)
            about = f"{self.cfg.DATASET.NAME} train, {count} views"
            features = self.feature_cache.features(loader, self.frozen_tower(), about)
            self.train_loader_x = ViewLoader(self.train_loader_x, features)

    def parse_batch_train(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Move (images or their features, labels) of a batch to the device."""
        ahead = self.device.type == "cuda"  # does not wait for what the GPU is doing meanwhile
        return batch["img"].to(self.device, non_blocking=ahead), batch["label"].to(self.device, non_blocking=ahead)

    def autocast(self) -> Any:
        """Enter the arithmetic of PREC amp, or none."""
        return torch.autocast(self.device.type, torch.float16) if self.precision == "amp" else nullcontext()

    def training_loss(self, images: Tensor | ImageFeatures, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Compute what a step descends on: here the cross-entropy.

        Parameters
        ----------
        images, labels
            Of a batch: (B, 3, H, W) or their features, and (B,).  With CLASS_SAMPLE, labels count among the classes of
            the step.

        Returns
        -------
        tuple of Tensor
            The loss, a scalar, and logits (B, C), whose accuracy is reported: with CLASS_SAMPLE that among the classes
            of the step.
        """
        logits = self.model(images)
        return self.model.cross_entropy(at_least_float32(logits), labels), logits

    def forward_backward(self, batch: dict[str, Any]) -> dict[str, float]:
        """Take one step on the loss of a batch; the learning rate moves with the last batch of an epoch.

        Parameters
        ----------
        batch
            As the loader gives it: "img" (B, 3, H, W) or ImageFeatures, "label" (B,).

        Returns
        -------
        dict
            Meters: the loss, and the accuracy of this batch in %.

        Raises
        ------
        FloatingPointError
            Where the loss is not finite.
        """
        images, labels = self.parse_batch_train(batch)
        sample = self.sample_classes(batch["label"])
        if sample:
            labels = sample.labels.to(labels.device, non_blocking=True)
        scoring = self.model.scoring(sample.classes, sample.correction) if sample else nullcontext()
        with self.autocast(), ranks.sharing(), scoring:
            loss, logits = self.training_loss(images, labels)
        if sample or ranks.size() > 1:
            self.check_logits(logits, len(sample.classes) if sample else self.num_classes)
        meters = self.read_meters(loss, logits, labels)
        self.model_zero_grad()
        if self.scaler is None:
            loss.backward()
            self.average_gradients()
            self.model_update()
        else:
            self.scaler.scale(loss).backward()
            self.average_gradients()
            self.scaler.step(self.optim)
            self.scaler.update()
        if (self.batch_idx + 1) == self.num_batches:
            self.update_lr()
        return meters

    def check_logits(self, logits: Tensor, classes: int) -> None:
        """Refuse logits of other classes than the step's: of some, labels are looked up at the wrong places."""
        if logits.shape[1] != classes:
            raise ValueError(
                f"{type(self).__name__}.training_loss gives logits of {logits.shape[1]} classes in a step on {classes}:"
                " a model scores model.own_classes(), and what it computes of them goes through model.of_all_classes "
                "(see PromptModel.forward)"
            )

    def sample_classes(self, labels: Tensor) -> ClassSample | None:
        """Draw the classes of a step with labels (B,) on the CPU; None for all."""
        size = getattr(self.options, "class_sample", 0)
        step = self.epoch * self.num_batches + self.batch_idx
        return draw_classes(labels, len(self.dm.dataset.classnames), size, self.cfg.SEED, step) if size else None

    def average_gradients(self) -> None:
        """Give every process the gradient of the whole step, where several take it together (clip/ranks.py)."""
        ranks.average_gradients(self.model.parameters())

    def read_meters(self, loss: Tensor, logits: Tensor, labels: Tensor) -> dict[str, float]:
        """Read what a step reports, before its backward pass begins.

        Whoever reads a number of a GPU waits until everything that was asked for is computed.  So both numbers, and
        whether the loss is finite, are read at once, and the backward pass is asked for without further reading.

        Parameters
        ----------
        loss, logits, labels
            Of a batch: a scalar, (B, C) and (B,).

        Returns
        -------
        dict
            The loss, and the accuracy of this batch in %.

        Raises
        ------
        FloatingPointError
            Where the loss is not finite.
        """
        accuracy = compute_accuracy(logits, labels)[0]  # (1,)
        numbers = torch.cat([loss.detach().reshape(1), accuracy.to(loss)]).tolist()
        self.detect_anomaly(torch.tensor(numbers[0]))
        return dict(zip(("loss", "acc"), numbers, strict=True))

    def epoch_facts(self) -> dict[str, Any]:
        """Ask the evidence what it has seen after the last step of an epoch; goes into the history."""
        return self.evidence.epoch_facts() if self.evidence else {}

    # --- a test ------------------------------------------------------------------------------------------

    def test(self, split: str | None = None) -> float:
        """As the engine; prompts are encoded once, and images once and for all where their features are kept."""
        if self.evidence:
            self.evidence.begin_test()
        with self.model.fixed_prompts():
            if ranks.size() > 1:
                self.model.encode_text_together()
            result = super().test(split)
        if self.evidence:
            self.evidence.end_test()
        return result

    def frozen_tower(self) -> tuple[nn.Module, str] | None:
        """Name what image features depend on.

        Returns
        -------
        tuple or None
            (image tower, what is needed of it: see `encode_images`); None where the image side learns.
        """
        return None if self.model.image_side_learns else (self.model.image_encoder, self.model.kind)

    def evaluation_batches(self, split: str, loader: Any) -> Iterable[dict[str, Any]]:
        """Give the batches of a test; "img" holds features where they can be kept, and else images.

        Where several processes make the test, each gets its own batches.
        """
        return self.feature_cache.batches(loader, self.frozen_tower(), f"{self.cfg.DATASET.NAME} {split}")

    def encode(self, images: Tensor) -> ImageFeatures:
        """Encode images (B, 3, H, W) that are on the device."""
        with self.autocast():
            return self.model.encode(images)

    def model_inference(self, images: Tensor | ImageFeatures) -> Tensor:
        """Compute logits (B, C) of images (B, 3, H, W), or of their features."""
        with self.autocast():
            return self.evidence.score(images) if self.evidence else self.model(images)

    def diagnostics(self) -> dict[str, Any] | None:
        """Ask the evidence about the last test, for the run's record."""
        return self.evidence.diagnostics() if self.evidence else None

    def explain(self, images: Tensor) -> Any:
        """Show what the model did with images (B, 3, H, W), transformed as for the test.

        Returns
        -------
        plot.evidence.Explanation
            For methods with `transports`; others raise NotImplementedError.
        """
        if self.evidence is None:
            raise NotImplementedError(f"{type(self).__name__} has nothing to show for its scores")
        self.set_model_mode("eval")
        return self.evidence.explain(images.to(self.device))

    # --- checkpoints -------------------------------------------------------------------------------------

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Load what was learned from `directory`/<registered name>.

        The token buffers of the file are ignored, since they belong to its class list; everything that was learned must
        be there and fit.

        Parameters
        ----------
        directory
            A run's folder, or a file NAME.ckpt; empty for none, which is said in the log.
        epoch
            Its number; None for model-best.pth.tar, or the last epoch's where there is no best.

        Raises
        ------
        FileNotFoundError
            Where there is no such checkpoint.
        ValueError
            Where it is of another method, backbone or class list; see `find_learned`.
        """
        if not directory:
            print("No model directory given: the prompts stay as they were initialised")
            return
        if Path(directory).suffix == ".ckpt":  # a single file, as GalLoP's authors write
            self.load_learned(Path(directory))
            return
        for name in self.get_model_names():
            self.load_learned(checkpoint_path(Path(directory) / name, epoch))

    def load_learned(self, path: Path) -> dict[str, Any]:
        """Take what was learned from one checkpoint file, which is returned; refuses as `find_learned`."""
        checkpoint = load_checkpoint(str(path))
        learned = find_learned(state_of(checkpoint), self.model, path)
        print(f'Loading weights to prompt_learner from "{path}" (epoch = {checkpoint.get("epoch")})')
        self.model.prompt_learner.load_state_dict(learned)
        self.loaded_checkpoint = str(path)
        return checkpoint
