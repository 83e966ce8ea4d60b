"""Cases that need more than one pass: training trajectories, schedules, few-shot picks, evaluation, log parsing."""
from __future__ import annotations

import contextlib
import io
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

import clip
import datasets  # noqa: F401
import train
from dassl.config import get_cfg_default, merge_options
from dassl.data.datasets import DATASET_REGISTRY
from dassl.engine import TRAINER_REGISTRY
from dassl.optim import build_lr_scheduler, build_optimizer
from datasets.base import SplitDataset
from datasets.files import relative_posix
from runs.config import extend_cfg
from tests.support.golden_data import tiny_state_dict, write_synthetic_caltech
from trainers.plot import PLOT

from .compare import Comparison, compare, same
from .local import check_branches, local_settings, recorded_local_trainer
from .models import find

Arrays = dict[str, np.ndarray]


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
    starts = range(0, size * meta["batches_per_epoch"], size)
    batches = [{"img": images[k : k + size], "label": labels[k : k + size]} for k in starts]

    class Recorded(base):  # type: ignore[valid-type, misc]
        def build_data_loader(self) -> None:
            names = meta["classnames"]
            self.dm = SimpleNamespace(dataset=SimpleNamespace(classnames=names))
            self.train_loader_x, self.train_loader_u = batches, None
            self.val_loader, self.test_loader = None, batches
            self.num_classes, self.lab2cname = len(names), dict(enumerate(names))
            self.steps: dict[str, list[float]] = {key: [] for key in ("loss", "acc", "lr", "grad_norm_ctx")}
            self.after: dict[str, list[np.ndarray]] = {}

        def build_model(self) -> None:
            super().build_model()
            with torch.no_grad():
                for name, parameter in self.model.prompt_learner.named_parameters():
                    parameter.copy_(torch.from_numpy(arrays[f"init.{recorded_name(name)}"]))

        def forward_backward(self, batch: dict) -> dict[str, float]:
            self.steps["lr"].append(self.get_current_lr())
            summary = super().forward_backward(batch)
            context = getattr(self.model.prompt_learner, "ctx", None)
            if context is not None and context.grad is not None:  # PLOT++'s first stage trains the visual prompts alone
                self.steps["grad_norm_ctx"].append(context.grad.norm().item())
            for key in summary.keys() & {"loss", "acc"}:  # CoCoOp reports no accuracy
                self.steps[key].append(summary[key])
            return summary

        def after_epoch(self) -> None:
            super().after_epoch()
            for name, parameter in self.model.prompt_learner.named_parameters():
                self.after.setdefault(name, []).append(parameter.detach().numpy().copy())

    return Recorded


def recorded_name(parameter: str) -> str:
    """The name under which a case has a parameter."""
    return parameter.removesuffix(".linear.weight") if parameter.startswith("local_proj") else parameter


REGISTERED = {"SOT-GLP": "SOTGLP"}  # where the method's name is none of Python's
OPTIM_KEYS = {"scheduler": "LR_SCHEDULER", "dampening": "SGD_DAMPNING", "nesterov": "SGD_NESTEROV"}
PROMPT_KEYS = {  # of a case's meta
    "N": "N", "n_ctx": "N_CTX", "csc": "CSC", "ctx_init": "CTX_INIT", "class_token_position": "CLASS_TOKEN_POSITION",
    "eps": "EPS", "max_iter": "MAX_ITER", "thresh": "THRESH", "M": "M", "n_ctx_v": "N_CTX_V", "trade_off": "TRADE_OFF",
    "model_upd": "MODEL_UPD",
}  # fmt: skip


def training_config(base: type, arrays: Arrays, meta: dict, case: Path, folder: Path) -> Any:
    cfg = get_cfg_default()
    extend_cfg(cfg)
    for key, value in meta["optim"].items():
        cfg.OPTIM[OPTIM_KEYS.get(key, key.upper())] = tuple(value) if isinstance(value, list) else value
    node = base.options_type.node
    for key, name in PROMPT_KEYS.items():
        if meta.get(key) is not None and name in cfg.TRAINER[node]:
            cfg.TRAINER[node][name] = meta[key]
    if "topk" in meta:
        cfg.TRAINER[node].update(local_settings(meta, arrays))
    merge_options(cfg, [
        "OPTIM.MAX_EPOCH", str(meta["epochs"]), "OUTPUT_DIR", str(folder / "out"), "TEST.NO_TEST", "True",
        "MODEL.BACKBONE.NAME", str(save_tiny_clip(meta["model"], case, folder)),
        "DATASET.NAME", meta.get("dataset_name", "Caltech101"), f"TRAINER.{node}.PREC", "fp32", "USE_CUDA", "False",
        "INPUT.SIZE", str(arrays["images"].shape[2:]), "DATALOADER.NUM_WORKERS", "0",
    ])  # fmt: skip
    cfg.freeze()
    return cfg


def check_training(arrays: Arrays, meta: dict, case: Path) -> Iterator[Comparison]:
    """Every step's rate, loss, accuracy and gradient; the context after each epoch and at the end.

    Differences of single kernels grow along a trajectory: the tolerance is what a relative change of 1e-6 of the start
    does, as recorded with the case, where that is more than the usual one.
    """
    base = TRAINER_REGISTRY.get(REGISTERED.get(meta["method"], meta["method"]))
    local = "topk" in meta
    if local:
        base = recorded_local_trainer(base, meta)
    with quiet_folder() as folder:
        trainer = recorded_trainer(base, arrays, meta)(training_config(base, arrays, meta, case, folder))
        trainer.train()
    sensitivity = meta.get("sensitivity", {})
    of_loss = max(1e-4, 2 * sensitivity.get("max_rel_loss_change", 0))
    change = sensitivity.get("max_abs_final_ctx_change", 0)
    of_context = max(1e-4, 2 * change / np.abs(arrays["final.ctx"]).max() if change else 0)
    yield compare("lr", trainer.steps["lr"], arrays["lr"], 1e-12)
    yield compare("loss", trainer.steps["loss"], arrays["loss"], of_loss)
    if local:
        yield from check_branches(trainer, arrays, meta, of_loss)
    elif trainer.steps["acc"]:
        yield compare("acc", trainer.steps["acc"], arrays["acc"], 1e-6)
    if trainer.steps["grad_norm_ctx"]:
        yield compare("grad_norm_ctx", trainer.steps["grad_norm_ctx"], arrays["grad_norm_ctx"], of_loss)
    for name, values in trainer.after.items():
        recorded = arrays.get(f"{name}_after_epoch", arrays.get(f"after_epoch.{name}"))
        if recorded is not None:
            yield compare(f"{name} after epochs", np.stack(values), recorded, of_context)
    yield compare("lr_after_last_epoch", trainer.get_current_lr(), arrays["lr_after_last_epoch"], 1e-12)
    for ours, parameter in trainer.model.prompt_learner.named_parameters():
        name = recorded_name(ours)
        yield compare(f"final.{name}", parameter, arrays[f"final.{name}"], of_context)
        if parameter.requires_grad:
            momentum = trainer.optim.state[parameter]["momentum_buffer"]
            yield compare(f"final_momentum.{name}", momentum, arrays[f"final_momentum.{name}"], 10 * of_context)


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
    """Picks and base/new halves, from the split that the case itself holds, on empty files in the data set's layout."""
    items = {part: _full_list(record, part) for part in ("train", "val", "test")}
    kind = _with_split_file(DATASET_REGISTRY.get(record["dataset"]))
    with quiet_folder() as root:
        base = root / kind.dataset_dir
        for path in {entry[0] for entries in items.values() for entry in entries}:
            file = base / kind.image_folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        (base / kind.split_file).write_text(json.dumps(items))

        def build(shots: int, seed: int, subset: str = "all") -> Any:
            shutil.rmtree(base / "split_fewshot", ignore_errors=True)  # draw, do not read what was drawn before
            cfg = get_cfg_default()
            extend_cfg(cfg)
            merge_options(cfg, [
                "DATASET.NAME", record["dataset"], "DATASET.ROOT", str(root), "DATASET.NUM_SHOTS", str(shots),
                "SEED", str(seed), "DATASET.SUBSAMPLE_CLASSES", subset, "OUTPUT_DIR", str(root / "out"),
            ])
            return kind(cfg)

        found = list(_check_picks(record, build))  # before anyone prints: the output is silenced here
    yield from found


def _check_picks(record: dict, build: Callable[..., Any]) -> Iterator[Comparison]:
    for shots, seeds in record["shots"].items():
        for seed, picks in seeds.items():
            dataset = build(int(shots), int(seed))
            for part, ours in (("train", dataset.train_x), ("val", dataset.val)):
                yield same(f"{part} {shots} shots seed {seed}", [e[0] for e in _entries(dataset, ours)], picks[part])
    for name, expected in record.get("subsample", {}).items():
        subset, shots, seed = name.replace("shots", "").replace("seed", "").split("_")
        dataset = build(int(shots), int(seed), subset)
        yield same(f"classnames {name}", dataset.classnames, expected["classnames"])
        yield same(f"lab2cname {name}", {str(k): v for k, v in dataset.lab2cname.items()}, expected["lab2cname"])
        for part, ours in (("train", dataset.train_x), ("val", dataset.val), ("test", dataset.test)):
            yield same(f"size of {part} {name}", len(ours), expected["n"][part])
            if expected.get(part) is not None:
                yield same(f"{part} {name}", _entries(dataset, ours), [list(entry) for entry in expected[part]])


def _full_list(record: dict, part: str) -> list:
    """A part's list over all classes and images: few-shot picking never touches test, and -1 shots nothing.

    A test list that the case does not hold is made up from its counts: only its size is compared then.
    """
    whole = {name: case for name, case in record["subsample"].items() if name.startswith("all_")}
    lists = [case[part] for name, case in whole.items() if case.get(part) and (part == "test" or "shots-1" in name)]
    if lists:
        return max(lists, key=len)
    if part == "test" and whole and "test" in record.get("counts", {}):
        names = next(iter(whole.values()))["lab2cname"]
        counts = record["counts"]["test"].items()
        return [[f"test_{label}_{k}.jpg", int(label), names[label]] for label, count in counts for k in range(count)]
    raise ValueError(f"the case does not hold its full {part} list (an entry all_shots-1_... of `subsample`)")


def _with_split_file(kind: type) -> Any:
    """The data set as it is; one that comes with lists of its own instead reads a split file here."""
    if kind.split_file:
        return kind
    layout = {"dataset_dir": kind.dataset_dir, "image_folder": kind.image_folder, "split_file": "split.json"}
    return type(kind.__name__, (SplitDataset,), layout)


def _entries(dataset: Any, items: list) -> list[list]:
    return [[relative_posix(item.impath, dataset.image_dir), item.label, item.classname] for item in items]


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
        if not (folder / f"{name}.expected.txt").exists():
            continue
        expected = (folder / f"{name}.expected.txt").read_text().replace("<INPUT>", str(folder / "input"))
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            main(["parse", str(folder / "input" / sub), *options])
        yield same(name, printed.getvalue(), expected)


# --- a whole evaluation ----------------------------------------------------------------------------------


def check_evaluation(arrays: Arrays, meta: dict, case: Path) -> Iterator[Comparison]:
    """An original checkpoint through `train.py --eval-only`, on the data set that it was trained on."""
    runs = [path.parents[1] for path in find("checkpoints", case).rglob("prompt_learner/checkpoint")]
    seed = case.stem.rpartition("_")[2]  # plot_eval_seed1
    model_dir = min(runs, key=lambda run: (not run.name.endswith(seed), run))
    seen: dict[str, torch.Tensor] = {}
    with quiet_folder() as folder:
        write_synthetic_caltech(folder / "data")
        argv = [
            "--root", str(folder / "data"), "--seed", "1", "--trainer", "PLOT", "--eval-only",
            "--dataset-config-file", "configs/datasets/caltech101.yaml",
            "--config-file", "configs/trainers/PLOT/rn50.yaml",
            "--backbone", str(save_tiny_clip(meta["model"], case, folder)), "--model-dir", str(model_dir),
            "--output-dir", str(folder / "out"), *meta["opts"], "USE_CUDA", "False", "FEATURE_CACHE.USE", "False",
            "TEST.CALIBRATION", "False",
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
