"""The rest of the habits: a loop, a test and a data manager of its own, and weights swapped in at the very end.

As PromptSRC does: what is saved and tested is the mean of the context over all steps.
"""
from dassl.data import DataManager, DatasetWrapper
from dassl.engine import TRAINER_REGISTRY
from dassl.engine.trainer import AverageMeter, MetricMeter, datetime, time, torch, tqdm

from .plot import PLOT


class Twice(DatasetWrapper):
    """Samples with a second picture, as methods with two views have them."""

    def __getitem__(self, index):
        sample = super().__getitem__(index)
        return sample | {"img2": sample["img"].flip(-1)}


class Manager(DataManager):
    def __init__(self, cfg):
        super().__init__(cfg, dataset_wrapper=Twice)


@TRAINER_REGISTRY.register()
class PromptSRC(PLOT):
    def build_data_loader(self):
        dm = Manager(self.cfg)
        self.train_loader_x, self.train_loader_u = dm.train_loader_x, dm.train_loader_u
        self.val_loader, self.test_loader = dm.val_loader, dm.test_loader
        self.num_classes, self.num_source_domains, self.lab2cname = dm.num_classes, dm.num_source_domains, dm.lab2cname
        self.dm = dm

    def build_model(self):
        super().build_model()
        self.device = torch.device("cpu")  # where batches go from here on
        self.model.to(self.device)
        self.total, self.steps = None, 0

    def forward_backward(self, batch):
        assert batch["img2"].shape == batch["img"].shape
        summary = super().forward_backward(batch)
        learner = self._models["prompt_learner"]
        state = {key: value.clone() for key, value in learner.state_dict().items()}
        self.total = state if self.total is None else {key: self.total[key] + value for key, value in state.items()}
        self.steps += 1
        if self.epoch + 1 == self.max_epoch and self.batch_idx + 1 == self.num_batches:
            learner.load_state_dict({key: value / self.steps for key, value in self.total.items()})
            print(f"mean of {self.steps} steps: {learner.ctx.sum().item():.6f}")
        return {"loss": summary["loss"]}

    def run_epoch(self):
        self.set_model_mode("train")
        losses, batch_time = MetricMeter(), AverageMeter()
        self.num_batches = len(self.train_loader_x)
        end = time.time()
        for index, batch in enumerate(self.train_loader_x):
            self.batch_idx = index
            losses.update(self.forward_backward(batch))
            batch_time.update(time.time() - end)
            end = time.time()
            n_iter = self.epoch * self.num_batches + self.batch_idx
            for name, meter in losses.meters.items():
                self.write_scalar("train/" + name, meter.avg, n_iter)
            self.write_scalar("train/lr", self.get_current_lr(), n_iter)
        left = datetime.timedelta(seconds=int(batch_time.avg * self.num_batches * (self.max_epoch - self.epoch - 1)))
        print(f"own loop [{self.epoch + 1}/{self.max_epoch}] {losses} lr {self.get_current_lr():.4e} eta {left}")

    def after_epoch(self):
        super().after_epoch()
        print(f"after epoch {self.epoch}: {self.get_model_names()}")

    def after_train(self):
        print("Finish training")
        self.test()
        print(f"Elapsed: {datetime.timedelta(seconds=round(time.time() - self.time_start))}")
        self.close_writer()

    @torch.no_grad()
    def test(self, split=None):
        self.set_model_mode("eval")
        self.evaluator.reset()
        split = self.cfg.TEST.SPLIT if split is None else split
        loader = self.val_loader if split == "val" and self.val_loader is not None else self.test_loader
        print(f"Evaluate on the *{split}* set")
        for batch in tqdm(loader):
            image, label = self.parse_batch_test(batch)
            self.evaluator.process(self.model_inference(image), label)
        results = self.evaluator.evaluate()
        for key, value in results.items():
            self.write_scalar(f"{split}/{key}", value, self.epoch)
        return next(iter(results.values()))
