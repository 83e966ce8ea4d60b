"""Both directions: a foreign plugin on our engine, and our trainers on an engine with upstream's names only."""
import os
import re
import shutil
import sys

import torch

from tests.support import warm
from tests.support.closeness import assert_close
from tests.support.programs import REPOSITORY, make_world


def program(folder, *argv):
    return warm.run([sys.executable, *argv], cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"})


SMALL = ["INPUT.SIZE", "(8, 8)", "DATALOADER.NUM_WORKERS", "0", "DATASET.NUM_SHOTS", "4", "OPTIM.NAME", "sgd",
         "OPTIM.LR", "0.1", "DATALOADER.TRAIN_X.BATCH_SIZE", "4", "OPTIM.MAX_EPOCH", "4",
         "OPTIM.LR_SCHEDULER", "cosine", "OPTIM.WARMUP_EPOCH", "1", "OPTIM.WARMUP_TYPE", "constant",
         "INPUT.TRANSFORMS", "('normalize',)"]


def copy_of_the_plugin(folder):
    """(the repository, what every call of its train.py begins with)"""
    plugin = shutil.copytree(REPOSITORY / "tests" / "plugin_repo", folder / "plugin")
    return plugin, ["train.py", "--root", folder / "data", "--seed", "1"]


def test_a_plugin_with_a_loop_and_data_of_its_own(tmp_path):
    plugin, common = copy_of_the_plugin(tmp_path)
    common += ["--trainer", "PromptSRC", "--output-dir", tmp_path / "out"]
    ran = program(plugin, *common, *SMALL, "DEVICE", "parallel")
    assert ran.returncode == 0, ran.stderr
    log = (tmp_path / "out" / "log.txt").read_text()
    assert re.search(r"own loop \[4/4\] loss \d\.\d{4} \(\d\.\d{4}\) lr .*e-0\d eta 0:00:00", log)
    assert log.count("after epoch") == 4 and log.count("Finish training\n") == 1
    mean = float(re.findall(r"mean of 12 steps: (-?[\d.]+)", log)[0])  # swapped in before the last save and the test
    saved = torch.load(tmp_path / "out" / "prompt_learner" / "model.pth.tar-4", weights_only=True)["state_dict"]
    assert_close(saved["ctx"].sum(), mean, floor=saved["ctx"].abs().sum().item())
    assert not any(key.startswith("module.") for key in saved)  # the learner was registered, not its wrapper
    assert list((tmp_path / "out" / "tensorboard").iterdir())
    accuracy = re.findall(r"\* accuracy: (.*)%", log)[-1]
    common[-1] = tmp_path / "eval"
    tested = program(plugin, *common, "--eval-only", "--model-dir", tmp_path / "out", "--load-epoch", "4", *SMALL)
    assert tested.returncode == 0 and f"* accuracy: {accuracy}%" in tested.stdout, tested.stderr


def test_a_plugin_repository_runs_on_our_engine(tmp_path):
    plugin, common = copy_of_the_plugin(tmp_path)
    trained = program(plugin, *common, "--output-dir", tmp_path / "out", *SMALL)
    assert trained.returncode == 0, trained.stderr
    log = (tmp_path / "out" / "log.txt").read_text()
    line = r"epoch \[4/4\] batch \[3/3\] time .* loss .* acc .* plain 1\.5000 \(1\.5000\) lr .* eta 0:00:00"
    assert re.search(line, log)
    accuracy = float(re.findall(r"\* accuracy: (.*)%", log)[-1])
    assert accuracy > 60  # three colours
    saved = tmp_path / "out" / "prompt_learner"
    assert sorted(os.listdir(saved)) == ["checkpoint", "model.pth.tar-4"]

    evaluate = ["--eval-only", "--model-dir", tmp_path / "out", "--load-epoch", "4"]
    tested = program(plugin, *common, "--output-dir", tmp_path / "eval", *evaluate, *SMALL)
    assert tested.returncode == 0, tested.stderr
    assert "plugin loads epoch 4" in tested.stdout and f"* accuracy: {accuracy:.2f}%" in tested.stdout

    best = program(plugin, *common, "--output-dir", tmp_path / "best", *SMALL, "TEST.FINAL_MODEL", "best_val")
    assert best.returncode == 0 and "plugin loads epoch" in best.stdout, best.stderr
    again = program(plugin, *common, "--output-dir", tmp_path / "out", *SMALL)  # resumes by itself, and only tests
    assert again.returncode == 0 and "epoch [1/4]" not in again.stdout and f"{accuracy:.2f}%" in again.stdout


def test_our_trainers_run_on_upstreams_names(tmp_path):
    make_world(tmp_path)
    weights = (tmp_path / "tiny_rn.pt", tmp_path / "tiny_vit.pt")
    ran = program(REPOSITORY, "-m", "tests.support.upstream_engine", tmp_path / "data", *weights, tmp_path / "out")
    assert ran.returncode == 0, ran.stderr
    found = dict(re.findall(r"ACCURACY (\w+) ([\d.]+)", ran.stdout))
    prompts = {"PLOT", "PLOTPP", "CoOp", "KgCoOp", "CoCoOp", "ZeroshotCLIP2"}
    assert set(found) == prompts | {"TipAdapter", "TipAdapterF", "PLOTAdapter"}
    logged = re.findall(r"\* accuracy: ([\d.]+)%", ran.stdout)
    assert logged[::2] == logged[1::2]  # after training, and after loading what was saved
