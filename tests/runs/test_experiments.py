"""The shell scripts: published names and arguments, published folders, and a real pair of runs."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import replace

import pytest

from results.__main__ import main as results
from runs.sweeps.experiments import EXPERIMENTS, main
from tests.support.programs import REPOSITORY, make_world

SHOTS = ("1", "2", "4", "8", "16")
COCOOP, KGCOOP = "vit_b16_c4_ep10_batch1_ctxv1", "vit_b16_ep100_ctxv1"
# script, arguments, folders below OUTPUT ({s} is the seed, where the script loops over seeds 1 to 3)
FOLDERS = [
    ("coop/main", "dtd rn50_ep50 middle 4 2 True", "dtd/CoOp/rn50_ep50_2shots/nctx4_cscTrue_ctpmiddle/seed{s}"),
    ("coop/eval", "caltech101 rn50", "evaluation/CoOp/rn50_16shots/nctx16_cscFalse_ctpend/caltech101/seed{s}"),
    ("coop/zeroshot", "caltech101 rn50", "ZeroshotCLIP/rn50/caltech101"),
    ("cocoop/base2new_train", "caltech101 2", f"base2new/train_base/caltech101/shots_16/CoCoOp/{COCOOP}/seed2"),
    ("cocoop/base2new_test", "caltech101 2", f"base2new/test_new/caltech101/shots_16/CoCoOp/{COCOOP}/seed2"),
    ("cocoop/xd_train", "3", f"imagenet/CoCoOp/{COCOOP}_16shots/seed3"),
    ("cocoop/xd_test", "caltech101 3", f"evaluation/CoCoOp/{COCOOP}_16shots/caltech101/seed3"),
    ("plot/base2new_train", "caltech101 1", "base2new/train_base/caltech101/shots_16/PLOT/rn50/seed1"),
    ("plot/base2new_test", "caltech101 1", "base2new/test_new/caltech101/shots_16/PLOT/rn50/seed1"),
    ("plot/xd_train", "1", "imagenet/PLOT/rn50_16shots/seed1"),
    ("plot/xd_test", "caltech101 1", "evaluation/PLOT/rn50_16shots/caltech101/seed1"),
    ("kgcoop/base2new_train", "caltech101 1", f"base2new/train_base/caltech101/shots_16/KgCoOp/{KGCOOP}/seed1"),
    ("kgcoop/base2new_test", "caltech101 1", f"base2new/test_new/caltech101/shots_16/KgCoOp/{KGCOOP}/seed1"),
    ("kgcoop/xd_train", "1", f"imagenet/KgCoOp/{KGCOOP}_16shots/seed1"),
    ("kgcoop/xd_test", "caltech101 1", f"evaluation/KgCoOp/{KGCOOP}_16shots/caltech101/seed1"),
]
LOADED = {  # script -> (folder, epoch)
    "coop/eval": ("imagenet/CoOp/rn50_16shots/nctx16_cscFalse_ctpend/seed1", "50"),
    "cocoop/base2new_test": (f"base2new/train_base/caltech101/shots_16/CoCoOp/{COCOOP}/seed2", "10"),
    "cocoop/xd_test": (f"imagenet/CoCoOp/{COCOOP}_16shots/seed3", "10"),
    "plot/base2new_test": ("base2new/train_base/caltech101/shots_16/PLOT/rn50/seed1", "200"),
    "plot/xd_test": ("imagenet/PLOT/rn50_16shots/seed1", "50"),  # the schedule of ImageNet, not of the target
    "kgcoop/base2new_test": (f"base2new/train_base/caltech101/shots_16/KgCoOp/{KGCOOP}/seed1", "100"),
    "kgcoop/xd_test": (f"imagenet/KgCoOp/{KGCOOP}_16shots/seed1", "100"),
}
CALLS = {script: arguments for script, arguments, _ in FOLDERS}


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in ("DATA", "CFG", "STAGE1_SEED", "SHOTS", "SEEDS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OUTPUT", "out")
    monkeypatch.chdir(REPOSITORY)


def listed(capsys, script: str, arguments: str) -> tuple[list[str], list[list[str]]]:
    """(folders below OUTPUT, command lines) of a dry run."""
    assert main([script, *arguments.split(), "--dry-run", "--verbose"]) == 0
    lines = capsys.readouterr().out.splitlines()
    told = [re.split(r" {2,}", line) for line in lines[::2]]
    assert all(state == "to run" or (state == "waits" and "starts from" in line) for (state, *_), line in
               zip(told, lines[::2], strict=True))  # fmt: skip
    return [folder.removeprefix("out/") for _, _, folder, *_ in told], [line.split() for line in lines[1::2]]


def value(command: list[str], flag: str) -> str:
    return command[command.index(flag) + 1]


# --- against the published table -------------------------------------------------------------------------


@pytest.mark.parametrize(("script", "arguments", "pattern"), FOLDERS, ids=[row[0] for row in FOLDERS])
def test_folders(capsys, script, arguments, pattern):
    folders, commands = listed(capsys, script, arguments)
    assert folders == list(dict.fromkeys(pattern.format(s=seed) for seed in (1, 2, 3)))
    for folder, command in zip(folders, commands, strict=True):
        assert value(command, "--output-dir") == f"out/{folder}"
        if script == "coop/zeroshot":
            assert "--seed" not in command and "trainers/CoOp/rn50.yaml" in value(command, "--config-file")
        else:
            assert folder.endswith(f"seed{value(command, '--seed')}")
        assert ("--eval-only" in command) == (script in LOADED or script == "coop/zeroshot")


def test_plot_loops_over_shots_and_seeds(capsys):
    folders, commands = listed(capsys, "plot/main", "caltech101 8")
    run = "OP_N8/caltech101/PLOT/rn50_{}shots/nctx16_cscFalse_ctpend/seed{}"
    assert folders == [run.format(shots, seed) for shots in SHOTS for seed in (1, 2, 3)]
    for command, shots in zip(commands[::3], SHOTS, strict=True):
        keys = dict(zip(command[-10::2], command[-9::2], strict=True))
        assert keys == {
            "DATASET.NUM_SHOTS": shots,
            "TRAINER.PLOT.N": "8",
            "TRAINER.PLOT.N_CTX": "16",
            "TRAINER.PLOT.CSC": "False",
            "TRAINER.PLOT.CLASS_TOKEN_POSITION": "end",
        }


ADAPTERS = {  # script -> (words, folder, the keys that it sets)
    "tip_adapter/main": ("dtd", "dtd/TipAdapter/rn50_{}shots/seed{}", set()),
    "tip_adapter/main_f": ("dtd", "dtd/TipAdapterF/rn50_{}shots/seed{}", set()),
    "plot_adapter/main": (
        "dtd 8",
        "OP_N8/dtd/PLOTAdapter/rn50_{}shots/nctx16_cscFalse_ctpend/seed{}",
        {f"TRAINER.PLOTADAPTER.{key}" for key in ("N", "N_CTX", "CSC", "CLASS_TOKEN_POSITION", "PRETRAIN_DIR")},
    ),
}


@pytest.mark.parametrize("script", ADAPTERS)
def test_adapters_loop_over_shots_and_seeds(capsys, monkeypatch, script):
    monkeypatch.setenv("STAGE1_SEED", "1")  # is for PLOT++ alone
    words, folder, keys = ADAPTERS[script]
    folders, commands = listed(capsys, script, words)
    places = [(shots, seed) for shots in SHOTS for seed in (1, 2, 3)]
    assert folders == [folder.format(*place) for place in places]
    for command, place in zip(commands, places, strict=True):
        assert value(command, "DATASET.NUM_SHOTS") == place[0]
        assert {word for word in command if word.startswith("TRAINER.")} == keys
        if keys:
            start = "out/OP_N8/dtd/PLOT/rn50_{}shots/nctx16_cscFalse_ctpend/seed{}".format(*place)
            assert value(command, "TRAINER.PLOTADAPTER.PRETRAIN_DIR") == start
    if keys:  # and the prompts that they start from are of every seed
        assert len(listed(capsys, "plot/main", words)[0]) == 3 * len(SHOTS)


PLOTPP = "OP_N4_M{m}/dtd/PLOTPP/vit_{shots}shots/nctx4_cscFalse_ctpend/seed{seed}"
STAGES = {  # script -> (tree, what it sets)
    "main_visiononly": ("visiononly", {"TRAINER.PLOTPP.MODEL_UPD": "vision", "TRAINER.PLOTPP.TRADE_OFF": "True"}),
    "main_joint": ("joint", {"TRAINER.PLOTPP.MODEL_UPD": "joint", "TRAINER.PLOTPP.TRADE_OFF": "False"}),
    "evaluation": ("eval", {"TRAINER.PLOTPP.MODEL_UPD": "joint", "TRAINER.PLOTPP.TRADE_OFF": "False"}),
}


@pytest.mark.parametrize("script", STAGES)
def test_plotpp_loops_over_shots_and_seeds_in_its_tree(capsys, script):
    tree, settings = STAGES[script]
    folders, commands = listed(capsys, f"plotpp/{script}", "dtd 3")
    places = [PLOTPP.format(m=3, shots=shots, seed=seed) for shots in SHOTS for seed in (1, 2, 3)]
    assert folders == [f"out_{tree}/{place}" for place in places]
    for command, place in zip(commands, places, strict=True):
        fixed = {"TRAINER.PLOTPP.N": "4", "TRAINER.PLOTPP.M": "3", "TRAINER.PLOTPP.N_CTX_V": "2", **settings}
        assert {key: value(command, key) for key in fixed} == fixed
        assert ("--eval-only" in command) == (script == "evaluation")
        epochs = {"1": "50", "2": "100", "4": "100"}.get(value(command, "DATASET.NUM_SHOTS"), "200")
        if script == "main_joint":  # of the same shots and seed
            start = f"out_visiononly/{place}/prompt_learner/model.pth.tar-{epochs}"
            assert value(command, "TRAINER.PLOTPP.PRETRAIN_DIR") == start
        if script == "evaluation":
            assert value(command, "--model-dir") == f"out_joint/{place}"
            assert value(command, "--load-epoch") == epochs


def test_plotpp_from_the_first_stage_of_one_seed(capsys, monkeypatch):
    """The published rule, on request."""
    monkeypatch.setenv("STAGE1_SEED", "1")
    folders, _ = listed(capsys, "plotpp/main_visiononly", "dtd 4")
    assert len(folders) == len(SHOTS) and all(folder.endswith("seed1") for folder in folders)
    folders, commands = listed(capsys, "plotpp/main_joint", "dtd 4")
    assert len(folders) == 3 * len(SHOTS)
    starts = [value(command, "TRAINER.PLOTPP.PRETRAIN_DIR") for command in commands]
    assert all("/seed1/prompt_learner/" in start for start in starts) and len(set(starts)) == len(SHOTS)
    monkeypatch.setenv("STAGE1_SEED", "one")
    with pytest.raises(SystemExit):
        main(["plotpp/main_joint", "dtd", "4"])
    assert "STAGE1_SEED is 'one'" in capsys.readouterr().err


def test_loops_can_be_narrowed(capsys, monkeypatch):
    monkeypatch.setenv("SHOTS", "16 1")
    monkeypatch.setenv("SEEDS", "0 2-4")
    folders, _ = listed(capsys, "plot/main", "dtd 4")
    runs = [(shots, seed) for shots in (16, 1) for seed in (0, 2, 3, 4)]
    assert [(f"_{shots}shots/" in folder, folder.endswith(f"seed{seed}")) for folder, (shots, seed) in
            zip(folders, runs, strict=True)] == [(True, True)] * 8
    folders, _ = listed(capsys, "coop/main", "dtd rn50 end 16 8 False")  # here the shots are an argument
    assert len(folders) == 4 and all("_8shots/" in folder for folder in folders)
    for variable, word in (("SHOTS", "0"), ("SEEDS", "all"), ("SEEDS", "1-")):
        monkeypatch.setenv(variable, word)
        with pytest.raises(SystemExit):
            main(["plot/main", "dtd", "4"])
        assert f"{variable} has {word!r}: give a whole number" in capsys.readouterr().err
        monkeypatch.delenv(variable)


@pytest.mark.parametrize("script", LOADED)
def test_what_evaluations_load(capsys, script):
    _, commands = listed(capsys, script, CALLS[script])
    folder, epoch = LOADED[script]
    assert (value(commands[0], "--model-dir"), value(commands[0], "--load-epoch")) == (f"out/{folder}", epoch)


@pytest.mark.parametrize("trainer", ["cocoop", "plot"])
def test_classes_and_shots_of_base_to_new(capsys, trainer):
    for script, classes in (("train", "base"), ("test", "new")):
        _, (command,) = listed(capsys, f"{trainer}/base2new_{script}", "caltech101 1")
        assert value(command, "DATASET.SUBSAMPLE_CLASSES") == classes and value(command, "DATASET.NUM_SHOTS") == "16"
    _, (command,) = listed(capsys, f"{trainer}/xd_test", "caltech101 1")
    assert "DATASET.NUM_SHOTS" not in command


def test_folder_of_a_training_is_what_its_evaluation_loads(capsys):
    for trainer in ("cocoop", "plot"):
        for kind, train_words, test_words in (("base2new", "dtd 2", "dtd 2"), ("xd", "2", "dtd 2")):
            (folder,), _ = listed(capsys, f"{trainer}/{kind}_train", train_words)
            _, (command,) = listed(capsys, f"{trainer}/{kind}_test", test_words)
            assert value(command, "--model-dir") == f"out/{folder}"


# --- command lines ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", EXPERIMENTS)
def test_script_without_arguments_shows_its_usage(script):
    path = REPOSITORY / f"scripts/{script}.sh"
    assert len(path.read_text().splitlines()) <= 5 and os.access(path, os.X_OK)
    done = subprocess.run([path], capture_output=True, text=True, cwd="/")
    assert done.returncode == 2 and done.stdout == ""
    for needed in (f"usage: scripts/{script}.sh", "examples:", "DATA", "OUTPUT", "missing: "):
        assert needed in done.stderr


def test_every_script_is_in_the_table():
    scripts = REPOSITORY / "scripts"
    assert {f"{path.parent.name}/{path.stem}" for path in scripts.glob("*/*.sh")} == set(EXPERIMENTS)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("coop/main caltech101 rn50 end 16 1", "missing: CSC"),
        ("coop/main caltech101 rn50 end 16 1 False False", "too many arguments: False"),
        ("coop/main caltech101 rn50 last 16 1 False", "CTP is 'last'; use end or middle or front"),
        ("coop/main caltech101 rn50 end 16 1 no", "CSC is 'no'"),
        ("plot/main caltech101 four", "N is 'four'; use a whole number"),
        ("plot/main caltech101 0", "N is '0'; use a whole number, 1 or more"),
        ("coop/main caltech101 rn50 end 0 16 False", "NCTX is '0'"),
        ("coop/main caltech101 rn50 end 16 0 False", "SHOTS is '0'"),
        ("plot/main caltech101 4 OPTIM.LR", "KEY VALUE pairs expected"),
        ("plotpp/main_joint caltech101", "missing: M"),
        ("plotpp/main_joint caltech101 4 TRAINER.PLOTPP.PRETRAIN_DIR x", "use STAGE1_SEED"),
        ("plot_adapter/main caltech101 4 TRAINER.PLOTADAPTER.PRETRAIN_DIR x", "use train.py"),
        ("plot/main caltech101 4 SEED 3", "SEED is set by the script"),
        ("plot/main caltech101 4 SEED=3", "SEED is set by the script"),
        ("plot/main caltech101 4 DATASET.NAME Food101", "use the script's DATASET"),
        ("plot/main caltech101 4 TRAINER.PLOT.N 2", "TRAINER.PLOT.N is set by the script"),
    ],
)
def test_bad_command_line(capsys, words, complaint):
    with pytest.raises(SystemExit) as stop:
        main(words.split())
    assert stop.value.code == 2 and complaint in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("plot/mian caltech101 4", "known: coop/main"),
        ("plot/main caltech10 4", "known: "),
        ("plot/main caltech101 4 TRAINER.PLOT.EPSS 1", "TRAINER.PLOT.EPS"),
    ],
)
def test_unknown_names_are_found_before_anything_runs(capsys, words, complaint):
    assert main(words.split()) == 2
    assert complaint in capsys.readouterr().err


def test_extra_options_and_environment(capsys, monkeypatch):
    monkeypatch.setenv("DATA", "/pictures")
    monkeypatch.setenv("CFG", "demo")
    words = "plot/base2new_test demo 1 --dry-run --verbose OPTIM.MAX_EPOCH 3 USE_CUDA False"
    assert main(words.split()) == 0
    out = capsys.readouterr().out
    assert "shots_16/PLOT/demo/seed1" in out and "--root /pictures" in out
    assert "--load-epoch 3" in out and out.rstrip().endswith("OPTIM.MAX_EPOCH 3 USE_CUDA False")


# --- end to end ------------------------------------------------------------------------------------------


def test_base_to_new_for_real(tmp_path, capsys, monkeypatch):
    """Train through the shell, test in this process; a second call finds nothing to do."""
    make_world(tmp_path)
    extra = ["MODEL.BACKBONE.NAME", str(tmp_path / "tiny_rn.pt"), "INPUT.SIZE", "(96, 96)", "OPTIM.MAX_EPOCH", "2"]
    extra += ["DATALOADER.NUM_WORKERS", "0", "DATALOADER.TRAIN_X.BATCH_SIZE", "16", "USE_CUDA", "False"]
    extra += ["TRAINER.PLOT.N", "2", "TRAINER.PLOT.N_CTX", "4", "TRAINER.PLOT.PREC", "fp32"]
    monkeypatch.setenv("DATA", str(tmp_path / "data"))
    monkeypatch.setenv("OUTPUT", str(tmp_path / "out"))
    words = ["caltech101", "1", *extra]
    assert main(["plot/base2new_test", *words]) == 2
    assert "nothing to test" in capsys.readouterr().err and not (tmp_path / "out").exists()

    script = REPOSITORY / "scripts/plot/base2new_train.sh"
    subprocess.run([script, *words], check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert main(["plot/base2new_test", *words]) == 0
    run = "caltech101/shots_16/PLOT/rn50/seed1/result.json"
    records = {
        part: json.loads((tmp_path / "out/base2new" / part / run).read_text()) for part in ("train_base", "test_new")
    }
    assert [records[part]["subsample_classes"] for part in records] == ["base", "new"]
    assert [records[part]["mode"] for part in records] == ["train", "eval"]
    capsys.readouterr()
    assert main(["plot/base2new_train", *words]) == 0
    assert "complete, skipped" in capsys.readouterr().err
    assert results(["base2new", str(tmp_path / "out"), "--seeds", "1"]) == 0
    shown = capsys.readouterr().out
    assert all(f"{records[part]['accuracy']:.2f}" in shown for part in records)
    assert results(["base2new", str(tmp_path / "out")]) == 1  # the other seeds
    assert "(1 of 3)" in capsys.readouterr().out


def test_plot_and_then_its_adapter_for_real(tmp_path, capsys, monkeypatch):
    make_world(tmp_path)
    one = {"loops": {"SHOTS": ("1",), "SEED": ("1", "2")}}
    ours = ("plot/main", "plot_adapter/main")
    short = {name: replace(e, **one) if name in ours else e for name, e in EXPERIMENTS.items()}
    monkeypatch.setattr("runs.sweeps.experiments.EXPERIMENTS", short)
    monkeypatch.setenv("DATA", str(tmp_path / "data"))
    monkeypatch.setenv("OUTPUT", str(tmp_path / "out"))
    extra = ["MODEL.BACKBONE.NAME", str(tmp_path / "tiny_rn.pt"), "INPUT.SIZE", "(96, 96)", "OPTIM.MAX_EPOCH", "1"]
    extra += ["DATALOADER.NUM_WORKERS", "0", "USE_CUDA", "False", "TRAINER.PLOTADAPTER.SEARCH_STEP", "(3, 3)"]
    words = ["caltech101", "2", *extra]
    assert main(["plot_adapter/main", *words]) == 2
    assert "nothing to start from" in capsys.readouterr().err
    assert main(["plot/main", *words]) == main(["plot_adapter/main", *words]) == 0
    run = "rn50_1shots/nctx16_cscFalse_ctpend/seed2"
    record = json.loads((tmp_path / f"out/OP_N2/caltech101/PLOTAdapter/{run}/result.json").read_text())
    assert record["selection"]["prompts"].endswith(f"/PLOT/{run}/prompt_learner/model.pth.tar-1")
    assert results(["table", str(tmp_path / "out")]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("PLOTAdapter N=2"))
    assert "(2)" in row  # two seeds of one method, though each has another start


@pytest.mark.parametrize("flags", [["--skip-bad"], []])
def test_bad_pictures_are_left_out_where_that_is_asked_for(capsys, flags):
    assert main(["coop/zeroshot", "demo", "demo", *flags, "--dry-run", "--verbose", "USE_CUDA", "False"]) == 0
    assert ("DATASET.SKIP_BAD True USE_CUDA False" in capsys.readouterr().out) == bool(flags)


def test_a_script_takes_a_device(capsys):
    assert main(["coop/zeroshot", "demo", "demo", "--device", "cpu", "--dry-run", "--verbose"]) == 0
    assert "USE_DEVICE cpu" in capsys.readouterr().out
