"""A trainer that leans on what plugins of this family take for granted; every assert is one such habit."""
import os.path as osp

import torch
from torch import nn
from torch.nn import functional as F

from clip import load
from dassl.engine import TRAINER_REGISTRY, TrainerX
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import load_checkpoint, load_pretrained_weights


class Learner(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.ctx = nn.Parameter(torch.zeros(classes, 32))
        self.register_buffer("token_prefix", torch.ones(classes, 1))

    def forward(self):
        return self.ctx


class Custom(nn.Module):
    def __init__(self, encoder, classes):
        super().__init__()
        self.prompt_learner = Learner(classes)
        self.image_encoder = encoder

    def forward(self, image, label=None):
        logits = 10 * self.image_encoder(image) @ self.prompt_learner().t()
        if self.prompt_learner.training:  # as CoCoOp and MaPLe do
            return F.cross_entropy(logits, label), logits
        return logits


@TRAINER_REGISTRY.register()
class PLOT(TrainerX):
    def check_cfg(self, cfg):
        assert not hasattr(self, "cfg")  # not set yet
        assert cfg.TRAINER.PLOT.PREC in ["fp16", "fp32", "amp"]

    def build_model(self):
        cfg = self.cfg
        classnames = self.dm.dataset.classnames
        assert len(classnames) == self.num_classes == len(self.lab2cname)
        assert self.train_loader_x is self.dm.train_loader_x and isinstance(self.device, torch.device)
        assert cfg["TRAINER"]["PLOT"].keys() == {"PREC", "N"} and "DEVICE" in cfg
        self.model = Custom(load(), len(classnames))
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_("prompt_learner" in name)
        if cfg.MODEL.INIT_WEIGHTS:
            load_pretrained_weights(self.model.prompt_learner, cfg.MODEL.INIT_WEIGHTS)
        self.model.to(self.device)
        self.optim = build_optimizer(self.model.prompt_learner, cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, cfg.OPTIM)
        self.register_model("prompt_learner", self.model.prompt_learner, self.optim, self.sched)
        self.encoder = self.model.image_encoder
        self.model = nn.DataParallel(self.model) if cfg.DEVICE == "parallel" else self.model  # what is registered stays

    def forward_backward(self, batch):
        image, label = self.parse_batch_train(batch)
        assert self._models["prompt_learner"].training and not self.encoder.training
        loss, logits = self.model(image, label)
        self.model_backward_and_update(loss)
        if (self.batch_idx + 1) == self.num_batches:
            self.update_lr()
        return {"loss": loss.item(), "acc": compute_accuracy(logits, label)[0].item(), "plain": 1.5}

    def parse_batch_train(self, batch):
        return batch["img"].to(self.device), batch["label"].to(self.device)

    def load_model(self, directory, epoch=None):
        if not directory:
            return
        for name in self.get_model_names():
            file = "model-best.pth.tar" if epoch is None else f"model.pth.tar-{epoch}"
            checkpoint = load_checkpoint(osp.join(directory, name, file))
            state = checkpoint["state_dict"]
            del state["token_prefix"]
            print(f"plugin loads epoch {checkpoint['epoch']}")
            self._models[name].load_state_dict(state, strict=False)
