"""The card of runs: what is on it, that it names no path of its maker, and that its commands make these runs."""

from __future__ import annotations

import re
import shlex

import numpy as np
import pytest
from scipy.stats import binomtest, ttest_1samp

from results.__main__ import main as results
from results.numbers.cells import interval
from results.sharing.repeat import Paths, sweeps
from runs.predictions import Predictions, write_predictions
from runs.record import find_runs, read_run
from runs.sweeps.sweep import main as sweep
from runs.sweeps.sweep import parse_args, plan_jobs
from tests.support.closeness import assert_close
from tests.support.records import make_record, write_run, write_sweep

MAKER = "/home/somebody/secret"
MEASURES = {"ece": 12.5, "ece_equal_mass": 12.0, "nll": 0.7, "brier": 0.4, "aurc": 9.0}


def planned(output, *words, root=f"{MAKER}/pictures"):
    """Records of the runs that a sweep would make, as if it had made them in the maker's home."""
    args = parse_args(["--root", root, "--output", f"{MAKER}/out", *words])
    jobs = plan_jobs(args)
    for job in jobs:
        trainer, shots, seed = job.cfg.TRAINER.NAME, job.cfg.DATASET.NUM_SHOTS, job.cfg.SEED
        record = make_record(trainer, shots, seed, argv=job.argv, dataset=job.cfg.DATASET.NAME)
        record["config"] |= {"OUTPUT_DIR": job.cfg.OUTPUT_DIR, "DATASET": {"ROOT": root, "NUM_SHOTS": shots}}
        write_run(output / job.folder.relative_to(f"{MAKER}/out"), record)
    return jobs


def what_it_makes(jobs):
    """The runs of a plan, without where they go."""
    kept = []
    for job in jobs:
        words = list(job.argv)
        for flag in ("--root", "--output-dir"):
            at = words.index(flag)
            del words[at : at + 2]
        kept.append(tuple(words))
    return sorted(kept)


GRID = ("--dataset", "dtd", "caltech101", "--config", "rn50", "--trainers", "ZeroshotCLIP", "CoOp", "PLOT")


@pytest.mark.parametrize("more", [(), ("--trainers", "CoOp", "--shots", "16", "--seeds", "9")])
def test_the_commands_make_these_runs_and_no_others(tmp_path, more):
    jobs = planned(tmp_path, *GRID, "--shots", "1-2", "--seeds", "1-3", "5", "OPTIM.LR", "0.01")
    if more:
        jobs += planned(tmp_path, "--dataset", "dtd", "--config", "rn50", *more, "OPTIM.LR", "0.01")
    runs = find_runs(tmp_path)
    commands, rest = sweeps(runs, Paths(runs, tmp_path))
    assert not rest and len(commands) == (2 if more else 1) and MAKER not in "".join(commands)
    again = []
    for command in commands:
        words = shlex.split(command.replace("\\\n", ""))
        assert words[:2] == ["python", "scripts/sweep.py"]
        assert ("--seeds 1-3 5" in command) == ("--seeds 9" not in command)
        again += plan_jobs(parse_args(words[2:]))
    assert what_it_makes(again) == what_it_makes(jobs)


def test_what_no_sweep_makes_is_repeated_run_by_run(tmp_path, capsys):
    planned(tmp_path, "--dataset", "dtd", "--config", "rn50", "--trainers", "CoOp", "--shots", "1", "--seeds", "1-3")
    common = ["--root", f"{MAKER}/pictures", "--trainer", "CoOp", "--output-dir", f"{MAKER}/out/x"]
    files = ["--config-file", "configs/trainers/CoOp/rn50.yaml", "--dataset-config-file", "configs/datasets/dtd.yaml"]
    for number, argv in enumerate([
        [*common, *files, "--seed", "1"],  # all images
        [*common, *files, "DATASET.NUM_SHOTS", "1"],  # no seed
        [*common, *files, "--seed", "1", "--head", "mlp", "DATASET.NUM_SHOTS", "1"],
        [*common, *files[2:], "--config-file", f"{MAKER}/mine.yaml", "--seed", "1", "DATASET.NUM_SHOTS", "1"],
        ["--no-such-flag"],
        [],
    ]):  # fmt: skip
        write_run(tmp_path / f"other/{number}", make_record("CoOp", 1, number + 4, argv=argv))
    runs = find_runs(tmp_path)
    commands, rest = sweeps(runs, Paths(runs, tmp_path))
    assert len(commands) == 1 and [run.folder.name for run in rest] == list("012345")
    assert results(["card", str(tmp_path)]) == 1  # the two data sets lack each other's seeds
    assert results(["card", str(tmp_path), "--allow-missing", "--out", str(tmp_path / "card.md")]) == 0
    card, told = capsys.readouterr()
    assert "no-such-flag" not in told and MAKER not in card
    assert "<summary>5 runs, one by one</summary>" in card and "--config-file PATH/mine.yaml" in card
    assert "The command of 1 run is unknown" in card


def test_card_of_a_tree(tmp_path, capsys):
    warning = f"2 images cannot be read ({MAKER}/pictures/dtd/a.jpg, ...), see https://example.org/a/b"
    changes = {
        "warnings": [warning], "device": "cpu", "looks": {"test": 1},
        "calibration": {"before": MEASURES, "temperature": 2.5, "images": 8, "reason": "", "exact": True,
                        "after": MEASURES | {"ece": 3.25}},
        "config": {"DATASET.ROOT": f"{MAKER}/pictures", "MODEL.INIT_WEIGHTS": f"{MAKER}/w.pth", "OPTIM.LR": 0.5},
    }  # fmt: skip
    write_sweep(tmp_path, shots=(1, 16), **changes)
    assert results(["card", str(tmp_path), "--out", str(tmp_path / "card.md")]) == 0
    card = (tmp_path / "card.md").read_text()
    assert MAKER not in card and str(tmp_path) not in card and "somebody" not in card
    assert card.startswith("# ZeroshotCLIP, CoOp, PLOT N=4 on Demo\n\n13 finished runs. Behind the numbers: seeds 1-3;")
    headings = re.findall(r"^## (.*)$", card, flags=re.M)
    assert headings == ["Data", "Methods", "Accuracy", "Calibration", "Cost", "Versions", "Warnings", "How to repeat"]
    assert "| `OPTIM.LR` | 0.002 | 0.5 |" in card
    assert "2 images cannot be read (DATA/dtd/a.jpg, ...), see https://example.org/a/b (13 of 13 runs)" in card
    assert "| Demo | PLOT N=4 | 16 | after temperature scaling | 2.50 | 3.25 | 0.70 | 0.40 | 9.00 |" in card
    assert "| Demo | CoOp | 1 | 18.0 s | 2.5 s | 23.0 s | 812 MB | – | cpu |" in card
    assert re.search(r"\| Demo \| CoOp \| 1 \| \d+\.\d\d ± \d\.\d\d \(3\) \| – \|", card)  # no predictions
    assert "| torch version | 2.5.0 |" in card and "2030-01-01 to 2030-01-03" in card
    assert len(re.findall("<details>", card)) == len(re.findall("</details>", card)) == 2
    capsys.readouterr()


def test_what_is_unknown_is_said(tmp_path, capsys):
    record = make_record("CoOp", 4, 1)
    for key in "data versions argv seconds peak_memory_mb config history".split():
        record[key] = [] if key in ("argv", "history") else {} if key != "peak_memory_mb" else None
    record |= {"dataset": "a|b <script>", "total": 1, "correct": 0}
    write_run(tmp_path / "run", record)
    assert results(["card", str(tmp_path / "run")]) == 0
    card = capsys.readouterr().out
    assert card.startswith("# CoOp on a\\|b &lt;script>, 4 shots\n") and "<script" not in card
    assert "Fingerprint of images and classes: `unknown`" in card and "settings are unknown" in card
    assert "The command of 1 run is unknown" in card and "not every record keeps them" in card
    assert results(["card", str(tmp_path / "nowhere")]) == 2


def kept_run(folder, correct, seed):
    """A run that got these images right, with its predictions in the record."""
    images, labels = len(correct), np.zeros(len(correct), dtype=np.int64)
    folder.mkdir()
    log_probabilities = np.log(np.where(correct[:, None], [[0.75, 0.25]], [[0.25, 0.75]])).astype(np.float32)
    kept = Predictions(
        np.array([f"{n}.jpg" for n in range(images)]), labels, log_probabilities.argmax(1), log_probabilities, 2, None,
        log_probabilities[:, 0], np.exp(2 * log_probabilities).sum(1),
    )  # fmt: skip
    entry = write_predictions(folder, "result.json", kept)
    count = int(correct.sum())
    record = make_record("CoOp", 4, seed, predictions=entry, total=images, correct=count, accuracy=100 * count / images)
    return read_run(write_run(folder, record))


def test_intervals(tmp_path):
    """Of one run the exact binomial one; of several one over images and seeds, which never leaves 0 to 100 %."""
    for correct, total in ((0, 7), (7, 7), (300, 400), (1, 2)):
        run = read_run(write_run(tmp_path / "one", make_record("CoOp", 4, 1, correct=correct, total=total)))
        exact = binomtest(correct, total).proportion_ci(method="exact")
        assert_close(np.array(interval([run])), 100 * np.array([exact.low, exact.high]))
    correct = np.random.default_rng(0).random((3, 300)) < 0.7
    alike = [kept_run(tmp_path / f"alike{seed}", correct[0], seed) for seed in range(3)]
    student = ttest_1samp(100.0 * correct[0], 0).confidence_interval()  # seeds that agree: images alone are a sample
    assert_close(np.array(interval(alike)), np.array([student.low, student.high]))
    runs = [kept_run(tmp_path / f"other{seed}", correct[seed], seed) for seed in range(3)]
    low, high = interval(runs)
    assert low < 100 * correct.mean() < high and high - low > student.high - student.low
    assert interval([*runs[:2], read_run(tmp_path / "one")]) is None  # which images it got right is not kept
    sure = [kept_run(tmp_path / f"sure{seed}", correct[0] | True, seed) for seed in range(2)]
    assert interval(sure) == (100.0, 100.0)


def test_one_run_of_a_tree(tmp_path, capsys):
    write_sweep(tmp_path / "out", shots=(1,), argv=["--root", f"{MAKER}/pictures", "--trainer", "CoOp", "SEED", "1"])
    assert results(["card", f"{tmp_path / 'out'}:CoOp@1#2"]) == 0
    card = capsys.readouterr().out
    assert card.startswith("# CoOp on Demo, 1 shot\n\n1 finished run. Behind the numbers: seed 2;")
    assert "<details>" not in card and "```sh\npython train.py --root" in card


def test_ranges_in_a_dry_run(tmp_path, capsys):
    words = ["--root", "data", "--output", str(tmp_path), *GRID[:1], "dtd", *GRID[3:5], "--trainers", "CoOp"]
    assert sweep([*words, "--shots", "1", "--seeds", "1-20", "--dry-run"]) == 0
    assert capsys.readouterr().out.count("to run") == 20
