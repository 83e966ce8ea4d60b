"""The sweep: folders under the original's names, only what is not complete, and a real one from end to end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from results.__main__ import main as results
from runs.folder import open_run
from runs.lock import hold_folder
from runs.plugins import CHECKOUT as ROOT
from runs.sweeps.jobs import run_jobs
from runs.sweeps.planning import Job
from runs.sweeps.progress import progress, work_of
from runs.sweeps.sweep import main, parse_args, plan_jobs
from runs.sweeps.workers import Workers
from tests.support import warm
from tests.support.closeness import assert_close
from tests.support.data import BAD_IMAGES, write_bad_images
from tests.support.programs import make_world
from tests.support.records import make_record, write_run

pytestmark = pytest.mark.usefixtures("one_thread")

BASE = ["--root", "data", "--output", "out", "--dataset", "caltech101", "--config", "rn50"]


def jobs(*extra: str) -> list[Job]:
    return plan_jobs(parse_args([*BASE, *extra]))


# --- what is run -----------------------------------------------------------------------------------------


def test_folders_are_the_originals():
    folders = [job.folder.as_posix() for job in jobs("--shots", "4", "--seeds", "2")]
    assert folders == [
        "out/ZeroshotCLIP/rn50/caltech101",
        "out/caltech101/CoOp/rn50_4shots/nctx16_cscFalse_ctpend/seed2",
        "out/OP_N4/caltech101/PLOT/rn50_4shots/nctx16_cscFalse_ctpend/seed2",
    ]


def test_folders_tell_the_values_that_are_used():
    options = ["TRAINER.PLOT.N", "2", "TRAINER.COOP.N_CTX", "4", "TRAINER.COOP.CSC", "True"]
    folders = [job.folder.as_posix() for job in jobs("--trainers", "CoOp", "PLOT", "--shots", "1", *options)]
    assert folders[0] == "out/caltech101/CoOp/rn50_1shots/nctx4_cscTrue_ctpend/seed1"
    assert folders[3] == "out/OP_N2/caltech101/PLOT/rn50_1shots/nctx16_cscFalse_ctpend/seed1"


def test_grid_is_complete_zero_shot_first_and_without_repetitions():
    found = jobs("--trainers", "PLOT", "ZeroshotCLIP", "--shots", "1", "1", "2", "--seeds", "1", "2", "1")
    assert [job.name for job in found] == [
        "ZeroshotCLIP caltech101",
        "PLOT caltech101 1 shot seed 1",
        "PLOT caltech101 1 shot seed 2",
        "PLOT caltech101 2 shots seed 1",
        "PLOT caltech101 2 shots seed 2",
    ]
    assert len({job.folder for job in found}) == len(found)


def test_what_starts_from_other_runs_comes_last():
    found = jobs("--trainers", "PLOTAdapter", "TipAdapter", "PLOT", "--shots", "1", "--seeds", "1")
    assert [(job.name.split()[0], job.stage) for job in found] == [("TipAdapter", 0), ("PLOT", 0), ("PLOTAdapter", 1)]
    run = "caltech101/{}/rn50_1shots/nctx16_cscFalse_ctpend/seed1"
    assert [job.folder.as_posix() for job in found] == [
        "out/caltech101/TipAdapter/rn50_1shots/seed1",
        *(f"out/OP_N4/{run.format(trainer)}" for trainer in ("PLOT", "PLOTAdapter")),
    ]


def test_command_lines():
    zero, trained = jobs("--trainers", "ZeroshotCLIP", "PLOT", "--shots", "2", "--seeds", "3")
    assert "--eval-only" in zero.argv and "--seed" not in zero.argv
    assert any(part.endswith("configs/trainers/CoOp/rn50.yaml") for part in zero.argv)
    assert (3, 2, str(trained.folder)) == (trained.cfg.SEED, trained.cfg.DATASET.NUM_SHOTS, trained.cfg.OUTPUT_DIR)
    assert trained.cfg.OPTIM.MAX_EPOCH == 100  # the published schedule at 2 shots
    assert zero.cfg.DATASET.NUM_SHOTS == -1


def test_options_follow_lists_of_numbers():
    args = parse_args([*BASE, "--shots", "1", "2", "--seeds", "1", "OPTIM.LR", "0.1", "USE_CUDA", "False"])
    assert (args.shots, args.seeds, args.opts) == ([1, 2], [1], ["OPTIM.LR", "0.1", "USE_CUDA", "False"])


def test_ranges_of_seeds():
    args = parse_args([*BASE, "--shots", "1-2", "16", "--seeds", "1", "2", "5-8", "7", "OPTIM.LR", "0.1"])
    assert (args.shots, args.seeds, args.opts) == ([1, 2, 16], [1, 2, 5, 6, 7, 8], ["OPTIM.LR", "0.1"])
    assert [job.cfg.SEED for job in jobs("--trainers", "CoOp", "--shots", "4", "--seeds", "1-20")] == list(range(1, 21))


def test_options_with_an_equals_sign():
    args = parse_args([*BASE, "--seeds", "1", "2", "OPTIM.LR=0.1", "USE_CUDA", "False", "TRAINER.PLOT.N=2"])
    assert (args.seeds, args.opts) == ([1, 2], ["OPTIM.LR", "0.1", "USE_CUDA", "False", "TRAINER.PLOT.N", "2"])
    (job,) = jobs("--trainers", "PLOT", "--shots", "1", "--seeds", "1", "OPTIM.MAX_EPOCH=7", "OPTIM.LR=1")
    assert (job.cfg.OPTIM.MAX_EPOCH, job.cfg.OPTIM.LR) == (7, 1.0)


@pytest.mark.parametrize("option", ["OPTIM.LR=-1", "OPTIM.NAME=sdg", "MODEL.BACKBONE.NAME=RN5O", "TRAINER.PLOT.N=0"])
def test_values_that_cannot_be_are_told_before_the_first_run(option):
    with pytest.raises(ValueError, match=option.split("=")[0]):
        jobs("--trainers", "PLOT", "--shots", "1", "--seeds", "1", option)


@pytest.mark.parametrize(
    ("extra", "complaint"),
    [
        (["--shots", "0"], "give a whole number"),
        (["OPTIM.LR"], "KEY VALUE pairs expected"),
        (["SEED", "1"], "use --seeds"),
        (["SEED=1"], "use --seeds"),
        (["DATASET.NUM_SHOTS", "1"], "use --shots"),
        (["DATASET.NAME", "Food101"], "use --dataset"),
        (["--seeds", "-1"], "give a whole number, 0 or more"),
        (["--seeds", "1", "0-"], "'0-': give a whole number, 0 or more, or a range such as 1-20"),
        (["--seeds", "5-3"], "write 3-5"),
        (["--seeds", "1-100000000"], "at most 10,000 numbers"),
        (["--shots", "0-4"], "'0-4': give a whole number, 1 or more"),
    ],
)
def test_bad_command_line(extra, complaint, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*BASE, *extra])
    assert stop.value.code == 2 and complaint in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flag", "value", "complaint"),
    [
        ("--dataset", "caltech10", "known: caltech101"),
        ("--config", "rn5", "known: "),
        ("--trainers", "plot", "no trainer 'plot' in configs/trainers; did you mean 'PLOT'?"),
    ],
)
def test_unknown_names_are_found_before_anything_runs(flag, value, complaint, capsys):
    assert main([*BASE, flag, value]) == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize(("gpus", "devices"), [(0, "0"), (0, "cpu"), (2, "1,2")])
def test_a_gpu_that_there_is_not_is_found_before_anything_runs(gpus, devices, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("runs.sweeps.jobs.workers", lambda *args: pytest.fail("nothing to run"))
    assert main([*BASE, "--devices", devices]) == 2
    assert f"there is no GPU '{devices[-1] if gpus else devices}'" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--device", "cuda:9"], ["USE_DEVICE", "cuda:9"]])
def test_a_device_that_there_is_not_is_found_before_anything_runs(words, capsys, monkeypatch):
    monkeypatch.setattr("runs.sweeps.jobs.make_runs", lambda *args: pytest.fail("nothing to run"))
    assert main([*BASE, *words]) == 2
    assert "cuda:9 was asked for, but this machine has" in capsys.readouterr().err


def test_the_device_of_a_sweep_is_that_of_its_runs(capsys):
    jobs = plan_jobs(parse_args([*BASE, "--device", "cpu", "OPTIM.LR", "0.1"]))
    assert {(job.cfg.USE_DEVICE, job.cfg.USE_CUDA) for job in jobs} == {("cpu", False)}
    with pytest.raises(SystemExit):
        parse_args([*BASE, "--device", "cpu", "--devices", "0,1"])
    assert "--device or --devices" in capsys.readouterr().err


def test_misspelt_key_is_found_before_anything_runs(capsys):
    assert main([*BASE, "TRAINER.PLOT.NN", "4"]) == 2
    assert "TRAINER.PLOT.N" in capsys.readouterr().err


def test_help_as_a_script():
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/sweep.py", "--help"], capture_output=True, text=True, check=True
    )
    assert "examples:" in done.stdout and "exit status" in done.stdout and "[KEY VALUE ...]" in done.stdout


# --- order, skipping, failures ---------------------------------------------------------------------------


@pytest.fixture
def planned(tmp_path) -> list[Job]:
    args = parse_args(
        [*BASE, "--output", str(tmp_path), "--trainers", "CoOp", "--shots", "1", "--seeds", "1", "2", "3"]
    )
    return plan_jobs(args)


def test_complete_runs_are_skipped_and_begun_ones_are_not(planned):
    first, second, third = planned
    write_run(first.folder, make_record("CoOp", 1, 1, config={}))
    write_run(second.folder, make_record("CoOp", 1, 2, complete=False))
    third.folder.mkdir(parents=True)
    (third.folder / "result.json").write_text('{"complete": tr')
    record = json.loads((first.folder / "result.json").read_text()) | {"config": {}}
    (first.folder / "result.json").write_text(json.dumps(record))
    ran, said = [], []
    failed = run_jobs(
        planned,
        lambda request: ran.append(request.argv) or {"accuracy": 50.0},
        lambda text, done=False: said.append(text),
    )
    assert failed == []
    assert ran == [second.argv, third.argv]
    assert "complete, skipped" in said[0] and "50.00%" in said[1] and said[2].startswith("[3/3] CoOp caltech101")


def test_failed_run_does_not_stop_the_run_jobs(planned):
    def run(request):
        if request.cfg.SEED == 2:
            raise KeyError("no such thing")
        return {"accuracy": 1.0}

    said = []
    ((job, reason),) = run_jobs(planned, run, lambda text, done=False: said.append(text))
    assert job == planned[1] and reason == "KeyError: no such thing"
    assert len(said) == 3 and "failed" in said[1]


def test_complete_run_of_other_settings_is_no_skip(planned):
    for job, rate in zip(planned, (0.5, None, None), strict=True):
        config = json.loads(json.dumps(job.cfg))
        config["OPTIM"]["LR"] = rate or config["OPTIM"]["LR"]
        config["TRAINER"]["PLOT"]["N"] = 99  # nothing to CoOp
        config["DATALOADER"]["NUM_WORKERS"] = 99  # nothing to the result
        write_run(job.folder, {"complete": True, "config": config})
    ((job, reason),) = run_jobs(planned, lambda argv: pytest.fail("nothing to run"), lambda text, done=False: None)
    assert job == planned[0] and "OPTIM.LR was 0.5, is 0.002" in reason and "another output folder" in reason


def states(capsys, *extra: str) -> tuple[int, list[str]]:
    """What a dry run says of every run."""
    at = next((index for index, word in enumerate(extra) if "." in word and word.isupper()), len(extra))
    status = main([*extra[:at], "--dry-run", *extra[at:]])
    return status, capsys.readouterr().out.splitlines()


def test_a_dry_run_says_what_will_become_of_each(planned, tmp_path, capsys):
    words = [*BASE, "--output", str(tmp_path), "--trainers", "CoOp", "--shots", "1", "--seeds", "1", "2", "3"]
    assert states(capsys, *words)[0] == 0
    first, second, third = planned
    for job in (first, second):
        write_run(job.folder, {"complete": True, "config": json.loads(json.dumps(job.cfg))})
    for job in (second, third):
        open_run(job.cfg, "train")
        (job.folder / "prompt_learner").mkdir()
        (job.folder / "prompt_learner/model.pth.tar-7").touch()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    status, lines = states(capsys, *words)
    assert status == 0 and [line.split("  ")[0] for line in lines] == ["complete", "complete", "goes on after epoch 7"]
    status, lines = states(capsys, *words, "OPTIM.LR", "0.5")
    assert status == 1 and all(line.startswith("fails") and "is 0.5" in line for line in lines), lines
    status, lines = states(capsys, *words, "OPTIM.LR", "0.002", "DATALOADER.NUM_WORKERS", "1", "TRAINER.PLOT.N", "9")
    assert status == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_dry_run_misses_what_a_run_starts_from(tmp_path, capsys):
    words = [*BASE, "--output", str(tmp_path), "--shots", "1", "--seeds", "1"]
    status, lines = states(capsys, *words, "--trainers", "PLOTAdapter")
    assert status == 0 and lines[0].startswith("waits") and f"it starts from {tmp_path}/OP_N4/" in lines[0]
    status, lines = states(capsys, *words, "--trainers", "PLOTAdapter", "PLOT")
    assert status == 0 and [line.split()[0] for line in lines] == ["to", "to"]
    assert main([*words, "--trainers", "CoOp", "--dry-run", "MODEL.BACKBONE.NAME", "gone.pt"]) == 2  # no run could be
    assert "MODEL.BACKBONE.NAME: no CLIP model named 'gone.pt' and no file there" in capsys.readouterr().err


def test_a_dry_run_looks_for_the_gpus(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert main([*BASE, "--devices", "0", "--dry-run"]) == 2 and "there is no GPU '0'" in capsys.readouterr().err


def test_several_at_once_all_come_back(planned):
    barrier = threading.Barrier(3, timeout=30)  # passed only if all three are under way together

    def run(request):
        barrier.wait()
        if request.cfg.SEED == 2:
            raise ValueError("no")
        return {"accuracy": 1.0}

    said = []
    ((job, reason),) = run_jobs(planned, run, lambda text, done=False: said.append(text), at_once=3)
    assert job == planned[1] and reason == "ValueError: no"
    assert [text[:5] for text in said] == ["[1/3]", "[2/3]", "[3/3]"]


def test_stages_do_not_overlap(planned):
    """The runs of a later stage begin when all of the earlier one are over, however many go at a time."""
    first, second, third = planned
    ended: list[int] = []

    def run(request):
        seed = request.cfg.SEED
        assert seed != 1 or sorted(ended) == [2, 3]
        time.sleep(0.05)
        ended.append(seed)
        return {"accuracy": 1.0}

    staged = [first._replace(stage=1), second, third]
    assert run_jobs(staged, run, lambda text, done=False: None, at_once=3) == [] and ended[-1] == 1


def test_interrupt_ends_the_sweep_at_once(planned):
    def run(argv):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_jobs(planned, run, lambda text, done=False: None)


def test_runs_are_quiet_but_their_warnings_are_heard(capsys):
    with progress(1, verbose=False) as (tell, quiet):
        with quiet():
            print("epoch [1/1]")
            print("careful", file=sys.stderr)
            print("careful", file=sys.stderr)  # as the next run will say, too
            assert not sys.stderr.isatty()
        tell("[1/1] done", done=True)
    out, err = capsys.readouterr()
    assert out == "" and err.splitlines() == ["careful", "[1/1] done"]
    with progress(1, verbose=True) as (_, quiet), quiet():
        print("epoch [1/1]")
    assert capsys.readouterr().out == "epoch [1/1]\n"


@pytest.mark.parametrize("command", [
    ["scripts/sweep.py", *BASE, "--dry-run"],
    ["scripts/experiments.py", "plot/main", "dtd", "4", "--dry-run"],
    ["scripts/experiments.py", "--help"],
    ["-m", "datasets", "check", "."],
], ids=str)  # fmt: skip
def test_a_reader_that_has_read_enough_is_no_error(command, tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as gone, open(tmp_path / "err.txt", "wb") as err:
        status = warm.start([sys.executable, *command], cwd=ROOT, stdout=gone, stderr=err).wait(60)
    assert (status, (tmp_path / "err.txt").read_text()) == (1, "")


# --- end to end ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def swept(tmp_path_factory) -> tuple[Path, list[str]]:
    """A tiny real sweep: (output folder, its command line)."""
    base = tmp_path_factory.mktemp("sweep")
    make_world(base)
    argv = ["--root", str(base / "data"), "--output", str(base / "out"), "--dataset", "caltech101", "--config", "rn50"]
    argv += ["--trainers", "ZeroshotCLIP", "PLOT", "--shots", "1", "--seeds", "1"]
    argv += ["MODEL.BACKBONE.NAME", str(base / "tiny_rn.pt"), "INPUT.SIZE", "(96, 96)", "OPTIM.MAX_EPOCH", "2"]
    argv += ["DATALOADER.NUM_WORKERS", "0", "DATALOADER.TRAIN_X.BATCH_SIZE", "4", "TRAINER.PLOT.N", "2"]
    assert main(argv) == 0
    return base / "out", argv


def run_of(output: Path) -> Path:
    return output / "OP_N2/caltech101/PLOT/rn50_1shots/nctx16_cscFalse_ctpend/seed1"


def test_sweep_leaves_complete_runs_that_make_a_table(swept, capsys):
    output, _ = swept
    assert results(["table", str(output)]) == 0
    out = capsys.readouterr().out
    assert "ZeroshotCLIP" in out and "PLOT N=2" in out and "Caltech101" in out
    assert "Finish training" in (run_of(output) / "log.txt").read_text()


def test_second_sweep_trains_nothing(swept, capsys):
    output, argv = swept
    before = os.stat(run_of(output) / "result.json").st_mtime_ns
    assert main(argv) == 0
    assert capsys.readouterr().err.count("complete, skipped") == 2
    assert os.stat(run_of(output) / "result.json").st_mtime_ns == before
    assert main(["--dry-run", *argv]) == 0
    assert capsys.readouterr().out.count("complete ") == 2


def elsewhere(argv: list[str], output: Path, *flags: str) -> list[str]:
    """The same sweep with another output folder, and more flags."""
    argv = [*argv[: argv.index("--output") + 1], str(output), *argv[argv.index("--output") + 2 :]]
    cut = argv.index("MODEL.BACKBONE.NAME")
    return [*argv[:cut], *flags, *argv[cut:]]


def assert_same_runs(output: Path, other: Path) -> None:
    """Both folders hold the same files, and the runs in them the same results and weights, bit for bit."""
    files = [sorted(p.relative_to(base).as_posix() for p in base.rglob("*") if p.is_file()) for base in (output, other)]
    assert [name for name in files[0] if "transport/" not in name and "events.out" not in name and "html" not in name] \
        == [name for name in files[1] if "events.out" not in name]
    for relative in (run_of(Path()), Path("ZeroshotCLIP/rn50/caltech101")):
        ours, theirs = (json.loads((base / relative / "result.json").read_text()) for base in (output, other))
        for key in ("complete", "correct", "accuracy", "per_class", "history", "config_digest", "checkpoint", "data"):
            assert ours[key] == theirs[key], key
    for path in output.rglob("model.pth.tar-*"):
        ours, theirs = (torch.load(p, weights_only=True) for p in (path, other / path.relative_to(output)))
        assert all(torch.equal(ours["state_dict"][key], theirs["state_dict"][key]) for key in ours["state_dict"])
        assert torch.equal(ours["engine"]["rng"]["torch"], theirs["engine"]["rng"]["torch"])


def test_a_run_on_other_pictures_is_neither_taken_for_this_one_nor_continued(swept, tmp_path, capsys):
    _, argv = swept
    for name, colour in (("cat", "red"), ("dog", "blue")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index in range(6):
            Image.new("RGB", (40, 40), colour).save(tmp_path / "photos" / name / f"{index}.png")
    own = ["--root", str(tmp_path / "photos"), "--output", str(tmp_path / "out"), "--dataset", "folder"]
    own += ["--config", "rn50", "--trainers", "ZeroshotCLIP", *argv[argv.index("MODEL.BACKBONE.NAME") :]]
    assert main(own) == main(own) == 0
    assert capsys.readouterr().err.count("complete, skipped") == 1
    (tmp_path / "photos/cat/0.png").rename(tmp_path / "photos/dog/new.png")
    assert main(own) == 1
    assert "holds a complete run on other pictures than" in capsys.readouterr().err

    own[own.index("ZeroshotCLIP") : own.index("ZeroshotCLIP") + 1] = ["CoOp", "--shots", "1", "--seeds", "1"]
    assert main(own) == 0
    (result,) = (tmp_path / "out").glob("folder/CoOp/**/result.json")
    result.unlink()
    (tmp_path / "photos/cat/1.png").rename(tmp_path / "photos/dog/also.png")
    assert main(own) == 1
    assert "are of a run on other images" in capsys.readouterr().err and not result.exists()
    (tmp_path / "photos/dog/also.png").rename(tmp_path / "photos/cat/1.png")
    assert main(own) == 0 and result.exists()


def test_a_sweep_goes_on_without_bad_pictures_and_its_records_name_them(swept, tmp_path, capsys):
    _, argv = swept
    for name, colour in (("cat", "red"), ("dog", "blue")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index in range(6):
            Image.new("RGB", (40, 40), colour).save(tmp_path / "photos" / name / f"{index}.png")
    write_bad_images(tmp_path / "photos" / "cat")
    own = ["--root", str(tmp_path / "photos"), "--output", str(tmp_path / "out"), "--dataset", "folder"]
    own += ["--config", "rn50", "--trainers", "ZeroshotCLIP", "CoOp", "--shots", "1", "--seeds", "1"]
    backbone = argv[argv.index("MODEL.BACKBONE.NAME") :]
    assert main([*own, *backbone]) == 1
    said = capsys.readouterr().err
    assert "of a sweep: --skip-bad" in said
    lines = said.splitlines()
    on_the_way = [line for line in lines if line.startswith("[")]
    assert len(on_the_way) == 2
    assert all("7 of 19 image files cannot be read: ..." in line and ".png" not in line for line in on_the_way)
    assert lines.count(f"    {tmp_path}/photos/cat/zero.jpg: it is empty") == 2  # in the list of what failed
    assert not list((tmp_path / "out").glob("**/result.json"))  # not even the first run began
    assert main([*own, "--skip-bad", *backbone]) == 0
    results = [json.loads(path.read_text()) for path in (tmp_path / "out").glob("**/result.json")]
    for data in (result["data"] for result in results):
        assert data["skipped"]["count"] == 7
        assert sorted(data["skipped"]["images"]) == sorted(f"cat/{name}" for name in BAD_IMAGES)
    assert len(results) == 2
    logs = "".join(path.read_text() for path in (tmp_path / "out").glob("folder/CoOp/**/log.txt*"))
    assert "7 images that cannot be read" in logs
    assert all(f"photos/cat/{name}: " in logs for name in BAD_IMAGES)
    capsys.readouterr()
    assert main([*own, "--skip-bad", *backbone]) == 0
    said = capsys.readouterr().err
    assert said.count("complete, skipped") == 2 and "cannot be read" not in said


def test_runs_in_processes_of_their_own_give_the_same(swept, tmp_path):
    output, argv = swept
    assert main(elsewhere(argv, tmp_path, "--jobs", "2")) == 0
    assert_same_runs(output, tmp_path)


def test_single_runs_give_the_same(swept, tmp_path):
    """Each run as a process that shares nothing with another: no features, no model, no images."""
    output, argv = swept
    for job in plan_jobs(parse_args(elsewhere(argv, tmp_path / "alone"))):
        alone = [sys.executable, "train.py", *job.argv, "FEATURE_CACHE.USE", "False", "DATALOADER.KEEP_MB", "0"]
        done = warm.run(alone, cwd=ROOT)
        assert done.returncode == 0, done.stderr
    assert_same_runs(output, tmp_path / "alone")


def test_a_killed_sweep_goes_on(swept, tmp_path):
    output, argv = swept
    command = [sys.executable, "-m", "results", "sweep", *elsewhere(argv, tmp_path), "TRAIN.CHECKPOINT_FREQ", "1"]
    sweep = warm.start(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"})
    first = run_of(tmp_path) / "prompt_learner" / "model.pth.tar-1"
    while not first.exists() and sweep.poll() is None:
        time.sleep(0.01)
    sweep.kill()
    sweep.wait()
    assert first.exists() and not (run_of(tmp_path) / "result.json").exists()
    assert results(["sweep", *elsewhere(argv, tmp_path)]) == 0
    assert "Resuming from" in (run_of(tmp_path) / "log.txt").read_text()
    ours, theirs = (torch.load(run_of(base) / "prompt_learner/model.pth.tar-2", weights_only=True)["state_dict"]["ctx"]
                    for base in (output, tmp_path))
    assert torch.equal(ours, theirs)


def start(command):
    """A sweep in a process of its own, and its stderr to be read."""
    reading, writing = os.pipe()
    with open(writing, "wb") as err:
        return warm.start(command, cwd=ROOT, stderr=err), open(reading, encoding="utf-8")


@pytest.mark.skipif(os.name != "posix", reason="needs the signals of Unix")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_to_a_sweep_alone_stops_its_workers_and_they_keep_their_states(swept, tmp_path, number):
    _, argv = swept
    flags = ["--trainers", "CoOp", "--seeds", "1", "2", "3", "--jobs", "2"]
    longer = ["OPTIM.MAX_EPOCH", "60", "TRAIN.STATE_MINUTES", "10.0"]
    command = [sys.executable, "scripts/sweep.py", *elsewhere(argv, tmp_path, *flags), *longer]
    sweep, err = start(command)
    while sum("epoch [4/60]" in log.read_text() for log in tmp_path.rglob("log.txt")) < 2:
        assert sweep.poll() is None
        time.sleep(0.02)
    sweep.send_signal(number)
    said = err.read()  # their stderr is the sweep's, so it is closed when the last of them has ended
    states = list(tmp_path.rglob("training-state.pth.tar"))
    assert len(states) == 2 and not list(tmp_path.rglob("result.json"))
    for state in states:
        last = state.with_name("log.txt").read_text().splitlines()[-1]
        assert re.fullmatch(r"interrupted in epoch \d+ of 60; the same command goes on after epoch \d+ .*", last), last
    if number != signal.SIGKILL:
        assert sweep.wait() == 128 + number and "the same command goes on where this one stopped" in said


@pytest.mark.skipif(os.name != "posix", reason="needs the signals of Unix")
def test_sigusr1_to_a_sweep_makes_its_workers_keep_their_states_and_go_on(swept, tmp_path):
    _, argv = swept
    flags = ["--trainers", "CoOp", "--seeds", "1", "2", "--jobs", "2"]
    longer = ["OPTIM.MAX_EPOCH", "60", "TRAIN.STATE_MINUTES", "10.0"]
    command = [sys.executable, "scripts/sweep.py", *elsewhere(argv, tmp_path, *flags), *longer]
    sweep, err = start(command)
    kept: set[Path] = set()
    while sweep.poll() is None:  # from its start on, where nothing may end for it
        if list(tmp_path.rglob("log.txt")) and len(kept) < 2:
            sweep.send_signal(signal.SIGUSR1)
        kept |= set(tmp_path.rglob("training-state.pth.tar"))
        time.sleep(0.02)
    said = err.read()
    assert sweep.returncode == 0 and "failed" not in said, said
    assert len(kept) == 2 and len(list(tmp_path.rglob("result.json"))) == 2


def test_a_run_that_somebody_else_is_making_is_told(swept, tmp_path, capsys):
    _, argv = swept
    argv = elsewhere(argv, tmp_path, "--trainers", "ZeroshotCLIP")
    with hold_folder(plan_jobs(parse_args(argv))[0].folder):
        assert main(argv) == 1
    assert f"(process {os.getpid()} on " in capsys.readouterr().err
    assert main(argv) == 0


def test_workers_take_the_devices_in_turns(tmp_path):
    with closing(Workers(3, ["7", "cuda:5"])) as workers, ThreadPoolExecutor(3) as threads:
        seen = list(threads.map(lambda _: workers.call(where_am_i, tmp_path, 3), range(3)))
        assert sorted(map(str, seen)) == ["5", "7", "7"]
    with closing(Workers(1)) as workers:
        assert workers.call(where_am_i, tmp_path, 1) == os.environ.get("CUDA_VISIBLE_DEVICES")


def test_a_worker_that_dies_costs_its_own_run_only(tmp_path):
    with closing(Workers(2)) as workers, ThreadPoolExecutor(1) as threads:
        other = threads.submit(workers.call, wait_for, tmp_path / "end")
        with pytest.raises(RuntimeError, match="did memory run out"):
            workers.call(die)
        assert not other.done()
        (tmp_path / "end").touch()
        survivor = other.result()
        assert survivor in (workers.call(os.getpid), workers.call(os.getpid))


def test_workers_end_with_a_sweep_that_is_killed(tmp_path):
    """They have its stdout, which ends when the last of them does."""
    script = tmp_path / "sweep.py"
    script.write_text(
        f"from pathlib import Path\nfrom runs.sweeps.workers import Workers\n"
        "from tests.runs.test_sweep import wait_for\n"
        f"if __name__ == '__main__':\n    Workers(1).call(wait_for, Path({str(tmp_path / 'end')!r}))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    sweep = subprocess.Popen([sys.executable, str(script)], cwd=ROOT, env=environment, stdout=subprocess.PIPE)
    try:
        while not (tmp_path / "end.begun").exists():
            assert sweep.poll() is None
            time.sleep(0.01)
        sweep.kill()
        sweep.communicate(timeout=20)
    finally:
        (tmp_path / "end").touch()


def wait_for(path: Path) -> int:
    path.with_name(f"{path.name}.begun").touch()
    while not path.exists():
        time.sleep(0.01)
    return os.getpid()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def where_am_i(meeting: Path, others: int) -> str | None:
    """The device of this process, once so many have come to the meeting."""
    (meeting / str(os.getpid())).touch()
    while len(list(meeting.iterdir())) < others:
        time.sleep(0.01)
    return os.environ.get("CUDA_VISIBLE_DEVICES")


def test_time_left_counts_images_and_epochs():
    few, many = jobs("--trainers", "CoOp", "--shots", "1", "16", "--seeds", "1")
    assert work_of(many) > 10 * work_of(few)
    said: list[str] = []
    run_jobs([few, many], lambda argv: {"accuracy": 1.0}, lambda text, done=False: said.append(text))
    assert "left" in said[0] and "left" not in said[1]


def test_real_heat_maps(swept, capsys):
    output, _ = swept
    assert results(["transport", str(run_of(output)), "--count", "2"]) == 0
    assert "from uniform" in capsys.readouterr().out
    pictures = sorted((run_of(output) / "transport").glob("*.png"))
    assert len(pictures) == 2 and all(Image.open(path).width > 500 for path in pictures)
    with np.load(pictures[0].with_suffix(".npz"), allow_pickle=False) as file:
        plans, grid, meta = file["plan"], file["grid"], json.loads(str(file["meta"]))
        assert plans.shape == (len(meta["classes"]), grid[0] * grid[1], 2) == file["similarity"].shape
        assert file["picture"].shape == (96, 96, 3) and len(file["logits"]) == 8
    for plan in plans:
        assert_close(plan.sum(axis=0), 0.5, 2e-3)
        assert_close(plan.sum(axis=1), 1 / len(plan), 1e-2)
    assert meta["true"] == "face" and meta["predicted"] == meta["classes"][0]["name"]
    assert results(["report", str(output)]) == 0
    assert (output / "report.html").read_text().count('src="data:image/png') == 2


def test_heat_maps_of_given_images(swept, tmp_path, capsys):
    output, argv = swept
    own = tmp_path / "my picture.jpg"
    Image.new("RGB", (50, 80), "red").save(own)
    known = Path(argv[1]) / "caltech-101/101_ObjectCategories/Faces/image_0008.jpg"
    arguments = ["transport", str(run_of(output)), "--images", str(own), str(known), "--out", str(tmp_path / "maps")]
    assert results(arguments) == 0
    assert sorted(path.name for path in (tmp_path / "maps").glob("*.png")) == ["01-my picture.png", "02-image_0008.png"]
    own.write_text("no image")
    assert results(arguments) == 1  # the other one is drawn
    assert "cannot read" in capsys.readouterr().err


def test_moved_weights_are_asked_for(swept, tmp_path, capsys):
    output, argv = swept
    weights = Path(argv[argv.index("MODEL.BACKBONE.NAME") + 1])
    moved = weights.rename(weights.with_name("moved.pt"))
    try:
        assert results(["transport", str(run_of(output)), "--count", "1", "--out", str(tmp_path)]) == 2
        assert f"weights are not at {weights}; if it has moved, say --backbone PATH" in capsys.readouterr().err
        arguments = ["transport", str(run_of(output)), "--count", "1", "--backbone", str(moved), "--out", str(tmp_path)]
        assert results(arguments) == 0
    finally:
        moved.rename(weights)
