"""Run records that no training made: synthetic result.json trees for the tests of results/."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

CLASSES = [f"class {letter}" for letter in "abcdefgh"]
START = {"ZeroshotCLIP": 41.0, "CoOp": 47.0, "PLOT": 50.0}  # made-up accuracies: no claim about any method
SLOPE = {"CoOp": 6.0, "PLOT": 6.5}


def make_record(trainer: str, shots: int, seed: int, **changes: Any) -> dict[str, Any]:
    """A complete record; `changes` replace entries, `config` {flat key: value} changes settings."""
    settings = changes.pop("config", {})
    trained = trainer in SLOPE
    wobble = (int(hashlib.sha256(f"{trainer} {shots} {seed}".encode()).hexdigest()[:4], 16) / 65535 - 0.5) * 2.4
    accuracy = START[trainer] + (SLOPE[trainer] * math.log2(2 * abs(shots)) + wobble if trained else 0.0)
    total, epochs = 400, {1: 50, 2: 100, 4: 100}.get(shots, 200) if trained else 0
    correct = round(accuracy * total / 100)
    accuracy = 100 * correct / total
    per_class = [
        {
            "label": label,
            "name": name,
            "total": 50,
            "accuracy": min(100.0, accuracy + 5 * (label - 3.5)),
            "correct": round(50 * min(100.0, accuracy + 5 * (label - 3.5)) / 100),
        }
        for label, name in enumerate(CLASSES)
    ]
    wrong = [row["total"] - row["correct"] for row in per_class]
    wrong[0] += total - correct - sum(wrong)  # rounding
    confusions = [
        {
            "true": label,
            "predicted": (label + 1) % len(CLASSES),
            "true_name": CLASSES[label],
            "predicted_name": CLASSES[(label + 1) % len(CLASSES)],
            "count": wrong[label],
        }
        for label in sorted(range(len(CLASSES)), key=lambda label: -wrong[label])
        if wrong[label]
    ]
    history = [
        {
            "epoch": e + 1,
            "loss": 2.1 * math.exp(-e / (12 + 3 * abs(shots))) + 0.25,
            "lr": 0.002,
            "acc": 100 - 65 * math.exp(-e / (9 + 2 * abs(shots))),
        }
        | ({"prompt_cosine": [0.9 - 0.1 * pair * e / epochs for pair in range(6)]} if trainer == "PLOT" else {})
        for e in range(epochs)
    ]
    config = {
        "OUTPUT_DIR": "out",
        "SEED": seed,
        "DATASET": {"NAME": "Demo", "NUM_SHOTS": shots, "ROOT": "data"},
        "INPUT": {"SIZE": [64, 64]},
        "MODEL": {"BACKBONE": {"NAME": "demo-rn"}},
        "OPTIM": {"LR": 0.002, "MAX_EPOCH": epochs},
        "DATALOADER": {"TRAIN_X": {"BATCH_SIZE": 32}},
        "TRAINER": {"NAME": trainer, "COOP": {"N_CTX": 16}, "PLOT": {"N": 4, "N_CTX": 16, "MATCHING": "ot"}},
    }
    for key, value in settings.items():
        node, parts = config, key.split(".")
        for part in parts[:-1]:
            node = node.setdefault(part, {})
        node[parts[-1]] = value
    transport = {
        "matching": "ot",
        "epsilon": 0.1,
        "distance_from_uniform": 0.21 + 0.01 * seed,
        "distance_from_uniform_predicted": 0.26,
        "iterations_mean": 7.3,
        "iterations_max": 12,
        "marginal_error_max": 2.5e-4,
        "converged_share": 1.0,
    }
    return {
        "schema": 1,
        "complete": True,
        "mode": "train" if trained else "eval",
        "trainer": trainer,
        "method": {"zero_shot": not trained, "transports": trainer == "PLOT", "has_places": trainer == "PLOT"},
        "dataset": "Demo",
        "backbone": "demo-rn",
        "shots": shots,
        "seed": seed,
        "subsample_classes": "all",
        "split": "test",
        "accuracy": accuracy,
        "error_rate": 100 - accuracy,
        "macro_f1": accuracy - 0.7,
        "total": total,
        "correct": correct,
        "per_class": per_class,
        "confusions": confusions,
        "epochs": epochs,
        "history": history,
        "checkpoint": f"prompt_learner/model.pth.tar-{epochs}" if trained else None,
        "transport": transport if trainer == "PLOT" else None,
        "seconds": {"total": 20.0 + 3 * shots, "train": 15.0 + 3 * shots, "test": 2.5} if trained else {"total": 4.0},
        "peak_memory_mb": 812.5,
        "data": {"fingerprint": f"{shots}-{seed}", "classes": 8, "train": 8 * shots, "val": 8, "test": total},
        "config": config,
        "config_digest": "0" * 12,
        "versions": {"python": "3.11.2", "torch": "2.5.0", "project": "0.1.0"},
        "argv": [
            "--trainer",
            trainer,
            "--config-file",
            f"configs/trainers/{trainer}/demo.yaml",
            "--seed",
            str(seed),
        ],
        "finished": f"2030-01-0{max(seed, 1)}T12:00:00+00:00",
        **changes,
    }


def write_run(folder: Path, record: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_text(json.dumps(record))
    return folder


def write_sweep(output: Path, shots=(1, 2, 4, 8, 16), seeds=(1, 2, 3), **changes: Any) -> Path:
    """Zero-shot, CoOp and PLOT in the folders of a real sweep."""
    write_run(output / "ZeroshotCLIP/demo/demo", make_record("ZeroshotCLIP", -1, -1, **changes))
    for count in shots:
        for seed in seeds:
            run = f"demo_{count}shots/nctx16_cscFalse_ctpend/seed{seed}"
            write_run(output / "demo/CoOp" / run, make_record("CoOp", count, seed, **changes))
            write_run(output / "OP_N4/demo/PLOT" / run, make_record("PLOT", count, seed, **changes))
    return output
