"""The log parser: the original's output where logs are whole, a word where they are not."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dassl.utils.logger import GOES_ON
from results.__main__ import main
from results.numbers.protocols.logs import LogOptions, deviation
from tests.support.closeness import assert_close
from tests.support.golden_data import GOLDEN

E2E = GOLDEN / "e2e"
INPUT = E2E / "parse" / "input"
GOLDEN_CASES = {
    "parse_train": ["train"],
    "parse_train_ci95": ["train", "--ci95"],
    "parse_train_f1": ["train", "--keyword", "macro_f1"],
    "parse_eval_testlog": ["eval", "--test-log"],
    "parse_multi": ["multi", "--multi-exp"],
}


def write_log(folder: Path, accuracy: float | None, marker: str = "Finish training", name: str = "log.txt") -> Path:
    """A short log; without `accuracy` one that stops in the middle of the training."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["epoch [1/1] batch [1/1] loss 1.0", "=> result", "* accuracy: 1.0%"]  # a validation before the end
    if accuracy is not None:
        lines += [marker, "Evaluate on the *test* set", "=> result", f"* accuracy: {accuracy}%"]
    (folder / name).write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize(("later", "expected"), [(None, "81.00"), (92.0, "92.00")])
def test_in_a_log_that_goes_on_the_end_has_to_come_again(tmp_path, capsys, later, expected):
    """A run is repeated with validation after every epoch, and killed in its middle: what counts came before."""
    log = write_log(tmp_path / "all/seed1", 81.0) / "log.txt"
    again = write_log(tmp_path / "other", later) / "log.txt"
    log.write_text(f"{log.read_text()}\n{GOES_ON}2026-01-02 03:04:05\n{again.read_text()}")
    assert main(["parse", str(tmp_path / "all")]) == 0
    assert f"log.txt. accuracy: {expected}%." in capsys.readouterr().out


@pytest.mark.parametrize("case", GOLDEN_CASES)
def test_output_is_the_originals(case, capsys):
    directory, *flags = GOLDEN_CASES[case]
    assert main(["parse", f"{INPUT}/{directory}", *flags]) == 0
    expected = (E2E / "parse" / f"{case}.expected.txt").read_text().replace("<INPUT>", str(INPUT))
    out, err = capsys.readouterr()
    assert out.splitlines() == expected.splitlines()
    assert err == ""


def test_evaluation_logs_need_their_flag(capsys):
    assert main(["parse", f"{INPUT}/eval"]) == 2
    expected = (E2E / "parse" / "parse_eval_without_testlog.expected.txt").read_text().replace("<INPUT>", str(INPUT))
    out, err = capsys.readouterr()
    assert out.splitlines() == [line for line in expected.splitlines() if "AssertionError" not in line]
    assert "nothing found" in err and "--test-log" in err


@pytest.mark.parametrize(
    ("log", "flags", "accuracy"),
    [
        ("plot_train_seed1", [], "43.80"),
        ("plot_bestval", [], "8.30"),  # validation blocks before the end marker do not count
        ("plot_base", [], None),
        ("plot_eval_seed2", ["--test-log"], "52.10"),
        ("zs_rn", ["--test-log"], None),
        ("coop_train", [], None),
    ],
)
def test_real_logs(tmp_path, capsys, log, flags, accuracy):
    (tmp_path / "seed1").mkdir()
    source = E2E / "logs" / f"{log}.log.txt"
    shutil.copy(source, tmp_path / "seed1" / "log.txt")
    last = [line for line in source.read_text().splitlines() if line.startswith("* accuracy:")][-1]
    accuracy = accuracy or f"{float(last.split()[2].rstrip('%')):.2f}"
    assert main(["parse", str(tmp_path), *flags]) == 0
    assert f"log.txt. accuracy: {accuracy}%. " in capsys.readouterr().out


def test_both_end_markers_count(tmp_path, capsys):
    write_log(tmp_path / "seed1", 40.0, "Finish training")
    write_log(tmp_path / "seed2", 60.0, "Finished training")
    assert main(["parse", str(tmp_path)]) == 0
    assert "* accuracy: 50.00% +- 10.00%" in capsys.readouterr().out


def test_newest_complete_log_counts(tmp_path, capsys):
    run = write_log(tmp_path / "seed1", 40.0)
    write_log(run, 55.0, name="log.txt-2030-01-02-03-04-05")
    write_log(run, None, name="log.txt-2030-01-03-00-00-00")  # begun later, crashed
    assert main(["parse", str(tmp_path)]) == 0
    assert "log.txt-2030-01-02-03-04-05. accuracy: 55.00%" in capsys.readouterr().out


@pytest.mark.parametrize("backup", ["log.txt~", "log.txt.bak", "log.txt-old", "log.txt.swp"])
def test_backups_of_logs_are_no_logs(tmp_path, capsys, backup):
    write_log(write_log(tmp_path / "seed1", 70.0), 1.0, name=backup)
    assert main(["parse", str(tmp_path)]) == 0
    assert f"file: {tmp_path}/seed1/log.txt. accuracy: 70.00%. \n" in capsys.readouterr().out


def test_paths_are_printed_as_they_were_given(tmp_path, capsys, monkeypatch):
    write_log(tmp_path / "exp" / "seed1", 70.0)
    monkeypatch.chdir(tmp_path)
    for written, shown in (("./exp", "./exp/seed1/log.txt"), ("exp/", "exp/seed1/log.txt")):
        assert main(["parse", written]) == 0
        out = capsys.readouterr().out
        assert out.startswith(f"Parsing files in {written}\nfile: {shown}. accuracy")
        assert f"Summary of directory: {written}\n" in out
    assert main(["parse", ".", "--multi-exp"]) == 0
    assert "Parsing files in ./exp\n" in capsys.readouterr().out


def test_missing_seeds_are_told_and_change_the_exit_status(tmp_path, capsys):
    write_log(tmp_path / "seed1", 40.0)
    write_log(tmp_path / "seed2", None)
    (tmp_path / "seed3").mkdir()
    assert main(["parse", str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert "1 of 3 runs; no result: seed2, seed3" in out
    assert "seed2: no complete log" in err and "seed3 holds no log.txt" in err
    assert main(["parse", str(tmp_path), "--allow-missing"]) == 0


def test_stray_entries_are_skipped_with_a_warning(tmp_path, capsys):
    write_log(tmp_path / "seed1", 40.0)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / ".hidden").mkdir()
    assert main(["parse", str(tmp_path)]) == 0
    assert "notes.txt is no run folder; skipped" in capsys.readouterr().err


@pytest.mark.parametrize("number", ["2,465", "nan", "-", "1e5e5"])
def test_what_is_no_number_is_no_result(tmp_path, number):
    write_log(tmp_path / "seed1", None)
    with (tmp_path / "seed1/log.txt").open("a") as file:
        file.write(f"Finish training\n* accuracy: {number}%\n")
    assert main(["parse", str(tmp_path)]) == 2


def test_log_with_stray_bytes_is_read(tmp_path, capsys):
    write_log(tmp_path / "seed1", 40.0)
    path = tmp_path / "seed1/log.txt"
    path.write_bytes(b"\xff\xfe\n" + path.read_bytes())
    assert main(["parse", str(tmp_path)]) == 0


def test_no_folder(tmp_path, capsys):
    assert main(["parse", str(tmp_path / "absent")]) == 2
    assert "is no folder" in capsys.readouterr().err


@given(st.lists(st.floats(0, 100), min_size=2, max_size=10))
def test_deviations_against_numpy(values):
    population, sample = np.std(values), np.std(values, ddof=1)
    assert_close(deviation(values, LogOptions()), population, 1e-11, floor=100)
    assert_close(deviation(values, LogOptions(sample_std=True)), sample, 1e-11, floor=100)
    ci = 1.96 * population / np.sqrt(len(values))
    assert_close(deviation(values, LogOptions(ci95=True)), ci, 1e-11, floor=100)
