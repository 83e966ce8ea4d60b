"""DATASET.DRAW on its way through a run: what is refused, where sweeps write, and what log and record say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import train
from dassl.data.datasets import DATASET_REGISTRY, DatasetBase
from runs.config import request_of
from runs.sweeps import experiments, sweep
from tests.support.data import write_class_folders
from tests.support.golden_data import tiny_state_dict
from tests.support.programs import REPOSITORY

PROPORTIONAL = ("DATASET.DRAW", "proportional")
CONFIG = ["--trainer", "CoOp", "--config-file", "configs/trainers/CoOp/rn50.yaml", "--dataset-config-file"]


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch):
    monkeypatch.chdir(REPOSITORY)


# --- before any work -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "complaint"), [
    (("DATASET.DRAW", "even"), "DATASET.DRAW"),
    ((*PROPORTIONAL, "TEST.FINAL_MODEL", "best_val"), "MODEL is best_val, but .* no validation .*; use last_step"),
    ((*PROPORTIONAL, "TEST.SPLIT", "val"), "TEST.SPLIT is val, but DATASET.DRAW proportional draws no validation"),
])  # fmt: skip
def test_what_cannot_be_is_refused(options, complaint):
    words = [*CONFIG, "configs/datasets/dtd.yaml", "DATASET.NUM_SHOTS", "4"]
    with pytest.raises(ValueError, match=complaint):
        request_of([*words, *options])


def test_a_choice_on_validation_images_is_fine_with_all_images():
    request_of([*CONFIG, "configs/datasets/dtd.yaml", *PROPORTIONAL, "TEST.FINAL_MODEL", "best_val"])


def test_a_data_set_that_draws_for_itself_has_no_other_draw(tmp_path):
    """One of a plugin, made for upstream's engine: it would not see the key."""
    class OfAPlugin(DatasetBase):
        pass

    DATASET_REGISTRY.register()(OfAPlugin)
    try:
        (tmp_path / "own.yaml").write_text("DATASET:\n  NAME: OfAPlugin\n")
        words = [*CONFIG, str(tmp_path / "own.yaml"), "DATASET.NUM_SHOTS", "4"]
        assert request_of(words).cfg.DATASET.DRAW == "per_class"
        with pytest.raises(ValueError, match="OfAPlugin draws its images itself: DATASET.DRAW must be per_class"):
            request_of([*words, *PROPORTIONAL])
    finally:
        DATASET_REGISTRY._obj_map.pop("OfAPlugin")


# --- folders ---------------------------------------------------------------------------------------------


def folders(jobs, output: Path) -> list[str]:
    return [job.folder.relative_to(output).as_posix() for job in jobs]


def test_a_sweep_of_both_draws_writes_into_different_folders(tmp_path):
    words = ["--root", "data", "--output", str(tmp_path), "--dataset", "dtd", "--config", "rn50", "--trainers",
             "ZeroshotCLIP", "CoOp", "--shots", "4", "--seeds", "1"]  # fmt: skip
    usual, other = (sweep.plan_jobs(sweep.parse_args([*words, *draw])) for draw in ((), PROPORTIONAL))
    assert folders(usual, tmp_path) == ["ZeroshotCLIP/rn50/dtd", "dtd/CoOp/rn50_4shots/nctx16_cscFalse_ctpend/seed1"]
    assert folders(other, tmp_path) == [
        "ZeroshotCLIP/rn50/dtd", "dtd/CoOp/rn50_4shots-proportional/nctx16_cscFalse_ctpend/seed1",
    ]  # fmt: skip


@pytest.mark.parametrize(("name", "words", "expected", "loaded"), [
    ("plot/main", ["dtd", "4"], "OP_N4/dtd/PLOT/rn50_1shots{}/nctx16_cscFalse_ctpend/seed1", ""),
    ("plot/base2new_test", ["dtd", "1"], "base2new/test_new/dtd/shots_16{}/PLOT/rn50/seed1",
     "base2new/train_base/dtd/shots_16{}/PLOT/rn50/seed1"),
    ("plot/xd_test", ["dtd", "1"], "evaluation/PLOT/rn50_16shots{}/dtd/seed1", "imagenet/PLOT/rn50_16shots{}/seed1"),
])  # fmt: skip
def test_the_scripts_too(tmp_path, monkeypatch, name, words, expected, loaded):
    monkeypatch.setenv("OUTPUT", str(tmp_path))
    for draw, suffix in ((), ""), (PROPORTIONAL, "-proportional"):
        args = experiments.parse_args(name, ["--dry-run", *words], list(draw))
        job = experiments.plan_jobs(name, args)[0]
        assert folders([job], tmp_path) == [expected.format(suffix)]
        assert not loaded or str(tmp_path / loaded.format(suffix)) in job.argv
    assert "{DRAW}" not in experiments.usage(name)


# --- a run -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """Three classes of 20, 6 and 3 training images, of which one shot is 2, 1 and 0; and tiny weights."""
    root = tmp_path_factory.mktemp("pictures")
    write_class_folders(root / "photos", {"cat": 40, "dog": 12, "rat": 6}, ".png", real=True)
    torch.save(tiny_state_dict("tiny_rn", native=True), root / "tiny_rn.pt")
    return root


@pytest.mark.parametrize("trainer", ["CoOp", "TipAdapterF"])
def test_a_run_with_a_class_without_images(pictures, trainer):
    folder = pictures / trainer
    train.run([
        "--root", str(pictures / "photos"), "--seed", "1", "--trainer", trainer, "--output-dir", str(folder),
        "--dataset-config-file", "configs/datasets/folder.yaml", "--backbone", str(pictures / "tiny_rn.pt"),
        "--config-file", f"configs/trainers/{trainer}/rn50.yaml", "DATASET.NUM_SHOTS", "1", *PROPORTIONAL,
        "OPTIM.MAX_EPOCH", "1", "DATALOADER.TRAIN_X.BATCH_SIZE", "3", "DATALOADER.NUM_WORKERS", "0",
        "INPUT.SIZE", "(96, 96)", "USE_CUDA", "False", f"TRAINER.{trainer.upper()}.PREC", "fp32",
    ])  # fmt: skip
    record = json.loads((folder / "result.json").read_text())
    assert (record["draw"], record["shots"]) == ("proportional", 1)
    assert record["data"]["classnames"] == ["cat", "dog", "rat"]
    assert [record["data"][part] for part in ("train", "val")] == [3, 0]
    assert any("1 of 3 classes have no training image" in warning for warning in record["warnings"])
    log = (folder / "log.txt").read_text()
    assert "in proportion to the classes' sizes: 3 of 29, 0 to 2 of a class" in log
    assert "no training image in this draw (DATASET.DRAW proportional): 'rat'" in log
