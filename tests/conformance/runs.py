"""Cases that need more than one pass: training trajectories, schedules, few-shot picks, evaluation, log parsing."""
from __future__ import annotations

import contextlib
import io
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

import clip
import datasets  # noqa: F401
import train
from dassl.config import get_cfg_default, merge_options
from dassl.data.datasets import build_dataset
from dassl.optim import build_lr_scheduler, build_optimizer
from tests.golden_data import tiny_state_dict, write_synthetic_caltech
from trainers import PLOT, CoOp

from .compare import Comparison, compare, same
from .models import find

Arrays = dict[str, np.ndarray]
SMALL = ["INPUT.SIZE", "(96, 96)", "DATALOADER.NUM_WORKERS", "0"]


def save_tiny_clip(name: str, case: Path, folder: Path) -> Path:
    """The tiny model as a file in OpenAI's layout, for trainers that load their backbone by path."""
    path = folder / f"{name}.pt"
    torch.save(tiny_state_dict(name, find(f"models/{name}.npz", case).parent, native=True), path)
    return path


@contextlib.contextmanager
def quiet_folder() -> Iterator[Path]:
    """A temporary folder, with standard output silenced while it is in use."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        yield Path(folder)


# --- training trajectories -------------------------------------------------------------------------------


def recorded_trainer(base: type, arrays: Arrays, meta: dict) -> type:
    """`base` fed with the recorded batches, starting from the recorded context, and keeping what each step gave."""
    size = meta["batch_size"]
    images, labels = torch.from_numpy(arrays["images"]).float(), torch.from_numpy(arrays["labels"]).long()
    batches = [{"img": images[k : k + size], "label": labels[k : k + size]} for k in range(0, len(labels), size)]

    class Recorded(base):  # type: ignore[valid-type, misc]
        def build_data_loader(self) -> None:
            names = meta["classnames"]
            self.dm = SimpleNamespace(dataset=SimpleNamespace(classnames=names))
            self.train_loader_x, self.train_loader_u = batches, None
            self.val_loader, self.test_loader = None, batches
            self.num_classes, self.lab2cname = len(names), dict(enumerate(names))
            self.steps: dict[str, list[float]] = {key: [] for key in ("loss", "acc", "lr", "grad_norm_ctx")}
            self.after: list[np.ndarray] = []

        def build_model(self) -> None:
            super().build_model()
            with torch.no_grad():
                self.model.prompt_learner.ctx.copy_(torch.from_numpy(arrays["init.ctx"]))

        def forward_backward(self, batch: dict) -> dict[str, float]:
            self.steps["lr"].append(self.get_current_lr())
            summary = super().forward_backward(batch)
            self.steps["grad_norm_ctx"].append(self.model.prompt_learner.ctx.grad.norm().item())
            for key in ("loss", "acc"):
                self.steps[key].append(summary[key])
            return summary

        def after_epoch(self) -> None:
            super().after_epoch()
            self.after.append(self.model.prompt_learner.ctx.detach().numpy().copy())

    return Recorded


OPTIM_KEYS = {
    "name": "NAME", "lr": "LR", "momentum": "MOMENTUM", "weight_decay": "WEIGHT_DECAY", "dampening": "SGD_DAMPNING",
    "nesterov": "SGD_NESTEROV", "scheduler": "LR_SCHEDULER", "warmup_epoch": "WARMUP_EPOCH",
    "warmup_type": "WARMUP_TYPE", "warmup_cons_lr": "WARMUP_CONS_LR", "warmup_recount": "WARMUP_RECOUNT",
}


def check_training(arrays: Arrays, meta: dict, case: Path) -> Iterator[Comparison]:
    """Every step's rate, loss, accuracy and gradient; the context after each epoch and at the end.

    Differences of single kernels grow along a trajectory: the tolerance is what a relative change of 1e-6 of the start
    does, as recorded with the case, where that is more than the usual one.
    """
    base = {"PLOT": PLOT, "CoOp": CoOp}[meta["method"]]
    node = base.options_type.node
    with quiet_folder() as folder:
        cfg = get_cfg_default()
        train.extend_cfg(cfg)
        optim = [(f"OPTIM.{OPTIM_KEYS[key]}", str(value)) for key, value in meta["optim"].items()]
        prompts = [(f"TRAINER.{node}.N", str(meta["N"]))] if meta.get("N") else []
        merge_options(cfg, [part for pair in optim + prompts for part in pair] + SMALL + [
            "OPTIM.MAX_EPOCH", str(meta["epochs"]), "OUTPUT_DIR", str(folder / "out"), "TEST.NO_TEST", "True",
            "MODEL.BACKBONE.NAME", str(save_tiny_clip(meta["model"], case, folder)), "DATASET.NAME", "Caltech101",
            f"TRAINER.{node}.PREC", "fp32", f"TRAINER.{node}.N_CTX", str(meta["n_ctx"]), "USE_CUDA", "False",
        ])
        cfg.freeze()
        trainer = recorded_trainer(base, arrays, meta)(cfg)
        trainer.train()
    sensitivity = meta.get("sensitivity", {})
    of_loss = max(1e-4, 2 * sensitivity.get("max_rel_loss_change", 0))
    scale = np.abs(arrays["final.ctx"]).max()
    of_context = max(1e-4, 2 * sensitivity.get("max_abs_final_ctx_change", 0) / scale)
    yield compare("lr", trainer.steps["lr"], arrays["lr"], 1e-12)
    yield compare("loss", trainer.steps["loss"], arrays["loss"], of_loss)
    yield compare("acc", trainer.steps["acc"], arrays["acc"], 1e-6)
    yield compare("grad_norm_ctx", trainer.steps["grad_norm_ctx"], arrays["grad_norm_ctx"], of_loss)
    yield compare("ctx_after_epoch", np.stack(trainer.after), arrays["ctx_after_epoch"], of_context)
    yield compare("lr_after_last_epoch", trainer.get_current_lr(), arrays["lr_after_last_epoch"], 1e-12)
    yield compare("final.ctx", trainer.model.prompt_learner.ctx, arrays["final.ctx"], of_context)
    momentum = trainer.optim.state[trainer.model.prompt_learner.ctx]["momentum_buffer"]
    yield compare("final_momentum.ctx", momentum, arrays["final_momentum.ctx"], 10 * of_context)


def check_schedules(records: list[dict]) -> Iterator[Comparison]:
    for record in records:
        cfg = get_cfg_default()
        for key, value in record["optim"].items():
            cfg.OPTIM[key] = tuple(value) if isinstance(value, list) else value
        optimizer = build_optimizer(torch.nn.Linear(1, 1), cfg.OPTIM)
        scheduler = build_lr_scheduler(optimizer, cfg.OPTIM)
        rates = []
        for _ in range(cfg.OPTIM.MAX_EPOCH):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        changes = ", ".join(f"{key} {value}" for key, value in record["changes_to_rn50_yaml"].items())
        yield compare("lr_during_epoch", rates, record["lr_during_epoch"], 1e-9, changes)
        rate = optimizer.param_groups[0]["lr"]
        scale = max(rates)  # relative to the schedule, not to a last value near zero
        yield compare("lr_after_last_epoch", rate / scale, record["lr_after_last_epoch"] / scale, 1e-9, changes)


# --- tokens, picks, logs ---------------------------------------------------------------------------------


def check_tokens(record: dict) -> Iterator[Comparison]:
    for text, ids in record["ids"].items():
        # a text that spells the end token ends its own row early, so the tokenizer is asked directly
        yield same(repr(text), clip.simple_tokenizer.SimpleTokenizer().encode(text), ids)


def check_fewshot(record: dict) -> Iterator[Comparison]:
    """Picks and base/new halves, from the split that the case itself holds, on empty files."""
    items = {part: _full_list(record, part) for part in ("train", "val", "test")}
    if any(entries is None for entries in items.values()):
        raise ValueError("the case does not hold its full train, val and test lists")
    for shots, seeds in record["shots"].items():
        for seed, picks in seeds.items():
            dataset = _dataset(record, items, int(shots), int(seed))
            for part, ours in (("train", dataset.train_x), ("val", dataset.val)):
                yield same(f"{part} {shots} shots seed {seed}", [_relative(d.impath) for d in ours], picks[part])
    for name, expected in record["subsample"].items():
        subset, shots, seed = name.replace("shots", "").replace("seed", "").split("_")
        dataset = _dataset(record, items, int(shots), int(seed), subset)
        yield same(f"classnames {name}", dataset.classnames, expected["classnames"])
        yield same(f"lab2cname {name}", {str(k): v for k, v in dataset.lab2cname.items()}, expected["lab2cname"])
        for part, ours in (("train", dataset.train_x), ("val", dataset.val), ("test", dataset.test)):
            yield same(f"size of {part} {name}", len(ours), expected["n"][part])
            if expected.get(part) is not None:
                triples = [[_relative(d.impath), d.label, d.classname] for d in ours]
                yield same(f"{part} {name}", triples, expected[part])


def _full_list(record: dict, part: str) -> list | None:
    """The longest recorded list over all classes: few-shot picking never touches test, and -1 shots nothing."""
    lists = [v[part] for k, v in record["subsample"].items() if k.startswith("all_") and v.get(part) is not None
             and (part == "test" or "shots-1" in k)]
    return max(lists, key=len, default=None)


def _dataset(record: dict, items: dict, shots: int, seed: int, subset: str = "all"):
    with quiet_folder() as root:
        base = root / "caltech-101"
        for path in {entry[0] for entries in items.values() for entry in entries}:
            file = base / "101_ObjectCategories" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        (base / "split_zhou_Caltech101.json").write_text(json.dumps(items))
        cfg = get_cfg_default()
        train.extend_cfg(cfg)
        merge_options(cfg, [
            "DATASET.NAME", record["dataset"], "DATASET.ROOT", str(root), "DATASET.NUM_SHOTS", str(shots),
            "SEED", str(seed), "DATASET.SUBSAMPLE_CLASSES", subset, "OUTPUT_DIR", str(root / "out"),
        ])
        return build_dataset(cfg)


def _relative(path: str) -> str:
    return "/".join(Path(path).parts[-2:])


PARSE_ARGUMENTS = {  # expected file -> folder and options of the command
    "parse_train": ["train"],
    "parse_train_ci95": ["train", "--ci95"],
    "parse_train_f1": ["train", "--keyword", "macro_f1"],
    "parse_multi": ["multi", "--multi-exp"],
    "parse_eval_testlog": ["eval", "--test-log"],
}


def check_parsing(folder: Path) -> Iterator[Comparison]:
    from results.__main__ import main

    for name, (sub, *options) in PARSE_ARGUMENTS.items():
        expected = (folder / f"{name}.expected.txt").read_text().replace("<INPUT>", str(folder / "input"))
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            main(["parse", str(folder / "input" / sub), *options])
        yield same(name, printed.getvalue(), expected)


# --- a whole evaluation ----------------------------------------------------------------------------------


def check_evaluation(arrays: Arrays, meta: dict, case: Path) -> Iterator[Comparison]:
    """An original checkpoint through `train.py --eval-only`, on the data set that it was trained on."""
    runs = find("checkpoints", case)
    model_dir = next(path.parent.parent for path in runs.rglob("prompt_learner/checkpoint"))
    seen: dict[str, torch.Tensor] = {}
    with quiet_folder() as folder:
        write_synthetic_caltech(folder / "data")
        argv = [
            "--root", str(folder / "data"), "--seed", "1", "--trainer", "PLOT", "--eval-only",
            "--dataset-config-file", "configs/datasets/caltech101.yaml",
            "--config-file", "configs/trainers/PLOT/rn50.yaml",
            "--backbone", str(save_tiny_clip(meta["model"], case, folder)), "--model-dir", str(model_dir),
            "--output-dir", str(folder / "out"), *meta["opts"], "USE_CUDA", "False", "FEATURE_CACHE.USE", "False",
        ]
        with _watch(PLOT, seen):
            result = train.run(argv)
    yield compare("ctx", seen["ctx"], arrays["ctx"], 1e-6)
    # decoders of JPEG differ by a grey level here and there, which the models then carry on
    yield compare("first_images", seen["images"][: len(arrays["first_images"])], arrays["first_images"], 2e-2)
    yield compare("logits", seen["logits"], arrays["logits"], 5e-3)
    yield compare("labels", seen["labels"], arrays["labels"], 0.0)
    yield compare("accuracy", result["accuracy"], meta["accuracy"], 0.05)


@contextlib.contextmanager
def _watch(trainer_type: type, seen: dict[str, torch.Tensor]) -> Iterator[None]:
    """Keep what a test puts in and gets out."""
    inference, parse = trainer_type.model_inference, trainer_type.parse_batch_test

    def model_inference(self, images):
        seen["images"], seen["ctx"] = images, self.model.prompt_learner.ctx.detach()
        seen["logits"] = inference(self, images)
        return seen["logits"]

    def parse_batch_test(self, batch):
        images, seen["labels"] = parse(self, batch)
        return images, seen["labels"]

    trainer_type.model_inference, trainer_type.parse_batch_test = model_inference, parse_batch_test
    try:
        yield
    finally:
        trainer_type.model_inference, trainer_type.parse_batch_test = inference, parse
