"""A plugin of the kind that prompt-learning repositories bring: a frozen encoder, a small part that learns.

`TinyPlugin` classifies vectors by a learned softmax. It does what such trainers do and leans on: it makes its
own loaders, registers a part of its model, steps the schedule in the last batch, loads weights tolerantly.
Its training draws from Python's, NumPy's and torch's generators, so that a continuation that restores less
than all three learns something else.
"""
from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset
from yacs.config import CfgNode

from dassl.config import get_cfg_default
from dassl.engine import TrainerX
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import load_checkpoint

CLASSES = ["abyssinian", "bengal", "birman"]
WIDTH = 6


class Points(Dataset):
    """`per_class` points around each class's centre; training points are jittered at random when read."""

    def __init__(self, per_class: int, seed: int, jitter: bool) -> None:
        generator = torch.Generator().manual_seed(seed)
        centres = 3 * torch.eye(len(CLASSES), WIDTH)
        self.labels = torch.arange(len(CLASSES)).repeat(per_class)
        self.points = centres[self.labels] + torch.randn(len(self.labels), WIDTH, generator=generator)
        self.jitter = jitter

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict:
        point = self.points[index]
        if self.jitter:
            noise = random.gauss(0, 0.3) + np.random.normal(0, 0.3) + 0.3 * torch.randn(WIDTH)
            point = point + noise
        return {"img": point.float(), "label": int(self.labels[index]), "domain": 0, "index": index}


class PromptLearner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ctx = nn.Parameter(0.02 * torch.randn(WIDTH, len(CLASSES)))
        self.register_buffer("token_prefix", torch.ones(len(CLASSES), 1))

    def forward(self) -> torch.Tensor:
        return self.ctx


class CustomModel(nn.Module):
    """points (B, WIDTH) -> logits (B, C)."""

    def __init__(self) -> None:
        super().__init__()
        self.image_encoder = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Dropout(0.1))
        self.prompt_learner = PromptLearner()
        with torch.no_grad():
            self.image_encoder[0].weight.copy_(torch.eye(WIDTH))
            self.image_encoder[0].bias.zero_()

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        return self.image_encoder(points) @ self.prompt_learner()


class TinyPlugin(TrainerX):
    with_val = True

    def check_cfg(self, cfg: CfgNode) -> None:
        assert cfg.TRAINER.TINY.PREC in ("fp32", "amp")
        assert not hasattr(self, "cfg")  # not there yet, as trainers may rely on

    def build_data_loader(self) -> None:
        def loader(per_class: int, seed: int, train: bool = False) -> DataLoader:
            points = Points(per_class, seed, jitter=train)
            return DataLoader(points, batch_size=4, shuffle=train, drop_last=train)

        self.train_loader_x = loader(5, 1, train=True)  # 15 points: 3 batches of 4
        self.train_loader_u = None
        self.val_loader = loader(4, 2) if self.with_val else None
        self.test_loader = loader(10, 3)
        self.num_classes, self.num_source_domains = len(CLASSES), 0
        self.lab2cname = dict(enumerate(CLASSES))
        self.dm = SimpleNamespace(dataset=SimpleNamespace(classnames=CLASSES))

    def build_model(self) -> None:
        assert self.dm.dataset.classnames == CLASSES and self.num_classes == len(self.lab2cname)
        self.model = CustomModel().eval()
        for name, param in self.model.named_parameters():
            param.requires_grad_("prompt_learner" in name)
        self.model.to(self.device)
        self.optim = build_optimizer(self.model.prompt_learner, self.cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, self.cfg.OPTIM)
        self.register_model("prompt_learner", self.model.prompt_learner, self.optim, self.sched)
        self.scaler = torch.amp.GradScaler("cpu") if self.cfg.TRAINER.TINY.PREC == "amp" else None
        self.losses: list[float] = []

    def forward_backward(self, batch: dict) -> dict:
        assert self.num_batches == len(self.train_loader_x)
        points, label = self.parse_batch_train(batch)
        if self.scaler is not None:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                output = self.model(points)
                loss = F.cross_entropy(output, label)
            self.optim.zero_grad()
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optim)
            self.scaler.update()
        else:
            output = self.model(points)
            loss = F.cross_entropy(output, label)
            self.model_backward_and_update(loss)
        self.losses.append(loss.item())
        if (self.batch_idx + 1) == self.num_batches:
            self.update_lr()
        return {"loss": loss.item(), "acc": compute_accuracy(output, label)[0].item()}

    def parse_batch_train(self, batch: dict) -> tuple[torch.Tensor, torch.Tensor]:
        return batch["img"].to(self.device), batch["label"].to(self.device)

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        if not directory:
            return
        for name in self.get_model_names():
            file = "model-best.pth.tar" if epoch is None else f"model.pth.tar-{epoch}"
            checkpoint = load_checkpoint(str(Path(directory) / name / file))
            state_dict = checkpoint["state_dict"]
            del state_dict["token_prefix"]
            self._models[name].load_state_dict(state_dict, strict=False)


def tiny_cfg(output: Path | str, *options: object) -> CfgNode:
    """A frozen configuration for TinyPlugin: 6 epochs, cosine schedule with one warm-up epoch."""
    cfg = get_cfg_default()
    cfg.TRAINER.TINY = CfgNode({"PREC": "fp32"})
    cfg.TRAIN.STATE_MINUTES = 1.0
    cfg.OUTPUT_DIR = str(output)
    cfg.USE_CUDA = False
    cfg.VERBOSE = False
    settings = {
        "TRAINER.NAME": "TinyPlugin", "OPTIM.NAME": "sgd", "OPTIM.LR": 0.1, "OPTIM.MAX_EPOCH": 6,
        "OPTIM.LR_SCHEDULER": "cosine", "OPTIM.WARMUP_EPOCH": 1, "OPTIM.WARMUP_TYPE": "constant",
    }  # fmt: skip
    cfg.merge_from_list([entry for pair in settings.items() for entry in pair])
    cfg.merge_from_list(list(options))
    cfg.freeze()
    return cfg
