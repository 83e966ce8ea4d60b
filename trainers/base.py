"""What our trainers do alike: build around a frozen CLIP, take a step, load a checkpoint.

Only names that upstream Dassl has too are imported, so that these trainers also run on the original engine.
"""
from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clip.features import ImageFeatures
from clip.model import CLIP
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import load_checkpoint, load_pretrained_weights

from .checkpoints import checkpoint_path, find_learned, state_of
from .features import FeatureTrainer
from .model import PromptModel
from .options import ContextOptions, Options, PhraseOptions
from .prompts import PromptLearner
from .views import wanted_views

Learner = TypeVar("Learner", bound=PromptLearner)


class ClipTrainer(FeatureTrainer):
    """Trains a small part of `self.model`, around a frozen CLIP.  A subclass names its `options_type` and builds it."""

    options_type: type[Options]
    model: Any
    loaded_checkpoint: str | None = None  # the file that the learned part was last taken from

    @classmethod
    def check_cfg(cls, cfg: Any) -> None:
        super().check_cfg(cfg)
        cls.options_type.from_cfg(cfg)
        wanted_views(cfg)

    def autocast(self) -> Any:
        return torch.autocast(self.device.type, torch.float16) if self.precision == "amp" else nullcontext()

    def parse_batch_train(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return batch["img"].to(self.device, non_blocking=True), batch["label"].to(self.device)

    def encode(self, images: Tensor) -> ImageFeatures:
        with self.autocast():
            return self.model.encode(images)

    def model_inference(self, images: Tensor | ImageFeatures) -> Tensor:
        with self.autocast():
            return self.model(images)


class PromptTrainer(ClipTrainer):
    """Trains `self.model.prompt_learner`, the only part that is registered, saved and switched between modes.

    A subclass names its `options_type` and builds its model from a prompt learner and a CLIP model.
    """

    options_type: type[ContextOptions]
    options: ContextOptions

    def build_learner(self, clip_model: CLIP, kind: type[Learner], **layout: Any) -> Learner:
        """A prompt learner of some kind, with what the options say and `layout` adds."""
        options = self.options
        assert isinstance(options, PhraseOptions)
        settings = {"n_context": options.n_context, "init": options.init, **self.context_settings(clip_model), **layout}
        learner = kind(self.dm.dataset.classnames, clip_model, **settings)
        start = "class-specific contexts" if learner.class_specific else "a generic context"
        print(f"Initializing {start}" + (" from given words" if options.init else ""))
        print(f'Initial context: "{learner.initial_words}"')
        print(f"Number of context words (tokens): {learner.n_context}")
        return learner

    def context_settings(self, clip_model: CLIP) -> dict[str, Any]:
        """Number format and random state that contexts start with."""
        return {
            "dtype": clip_model.dtype if self.options.context_precision == "model" else torch.float32,
            "generator": torch.Generator().manual_seed(self.cfg.SEED) if self.cfg.SEED >= 0 else None,
        }

    @property
    def names_decide(self) -> bool:
        """Contexts of single classes can tell classes apart that are called alike."""
        return not getattr(self.options, "class_specific", False)

    def learns(self, name: str) -> bool:
        """Whether the model's parameter of this name is trained."""
        return "prompt_learner" in name

    def assemble(self, clip_model: CLIP) -> nn.Module:
        """The model: images (B, 3, H, W) -> logits (B, C), with a child `prompt_learner`."""
        raise NotImplementedError

    def build_model(self) -> None:
        cfg = self.cfg
        self.options = self.options_type.from_cfg(cfg)
        clip_model = self.load_clip(self.options.precision)

        print("Building custom CLIP")
        self.model = self.assemble(clip_model)
        self.model.text_encoder.chunk = self.options.text_chunk
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

    # --- one step ----------------------------------------------------------------------------------------

    def forward_backward(self, batch: dict[str, Any]) -> dict[str, float]:
        images, labels = self.parse_batch_train(batch)
        with self.autocast():
            logits = self.model(images)
            loss = F.cross_entropy(logits.float(), labels)
        if self.scaler is None:
            self.model_backward_and_update(loss)
        else:
            self.detect_anomaly(loss)
            self.optim.zero_grad()
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optim)
            self.scaler.update()
        if (self.batch_idx + 1) == self.num_batches:
            self.update_lr()
        return {"loss": loss.item(), "acc": compute_accuracy(logits, labels)[0].item()}

    # --- a test ------------------------------------------------------------------------------------------

    def test(self, split: str | None = None) -> float:
        with self.model.fixed_prompts():
            return super().test(split)

    def frozen_tower(self) -> tuple[nn.Module, str] | None:
        frozen = type(self.model).encode is PromptModel.encode  # then features depend on the tower and nothing else
        return (self.model.image_encoder, self.model.kind) if frozen else None

    # --- checkpoints -------------------------------------------------------------------------------------

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Load the learned context of `directory`/prompt_learner.

        Without `epoch`: model-best.pth.tar, or the last epoch's where there is no best.  The token buffers of the file
        are ignored, since they belong to its class list; everything that was learned must be there and fit.
        """
        if not directory:
            print("No model directory given: the prompts stay as they were initialised")
            return
        for name in self.get_model_names():
            self.load_learned(checkpoint_path(Path(directory) / name, epoch))

    def load_learned(self, path: Path) -> dict[str, Any]:
        """Take what was learned from one checkpoint file, which is returned; see `find_learned` for what is refused."""
        checkpoint = load_checkpoint(str(path))
        learned = find_learned(state_of(checkpoint), self.model, path)
        print(f'Loading weights to prompt_learner from "{path}" (epoch = {checkpoint.get("epoch")})')
        self.model.prompt_learner.load_state_dict(learned)
        self.loaded_checkpoint = str(path)
        return checkpoint
