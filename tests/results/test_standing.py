"""What stands behind the numbers: derived from records of any age, in footnotes and in columns of the CSV."""

from __future__ import annotations

import csv
import io

import pytest

from results.__main__ import main as results
from results.tables.standing import UNKNOWN, Standing, footnote, standing
from runs.methods import name_methods
from runs.record import find_runs, read_run
from tests.support.records import make_record, write_run, write_sweep

LEAKY = {"protocol": "leaky: selected on test"}
ON_TEST = ["TEST.FINAL_MODEL best_val chooses the epoch on images that are also in the test set, so ..."]
BEST_VAL = {"config": {"TEST.FINAL_MODEL": "best_val"}}
SEARCH = {"alpha": 1.0, "beta": 2.0, "from": "search", "on": "val", "images": 8, "accuracy": 50.0}


@pytest.mark.parametrize(
    ("trainer", "changes", "expected"),
    [
        ("CoOp", {"looks": {"test": 1}, "templates": None}, Standing("last epoch", "1", "")),
        ("CoOp", {}, Standing("last epoch", "1", "")),  # of before either was kept
        ("CoOp", BEST_VAL | {"looks": {"val": 50, "test": 1}}, Standing("best epoch on val", "1", "")),
        ("CoOp", BEST_VAL | {"looks": {"test": 51}}, Standing("best epoch on test", "51", "")),
        ("CoOp", BEST_VAL, Standing("best epoch on val", "1", "")),
        ("CoOp", BEST_VAL | {"warnings": ON_TEST}, Standing("best epoch on test", UNKNOWN, "")),
        ("CoOp", {"looks": None}, Standing("last epoch", UNKNOWN, "")),  # of a plugin's own test
        ("CoOp", {"config": {"PLUGINS": ["mine.py"]}}, Standing("last epoch", UNKNOWN, "")),
        ("CoOp", {"mode": "eval"}, Standing("epoch of a given checkpoint", "1", "")),
        ("CoOp", {"selection": SEARCH, "epochs": None}, Standing("settings searched on val", "1", "")),
        ("CoOp", {"selection": SEARCH | {"epoch": 7, "epoch_by": "val"}},
         Standing("best epoch on val, settings searched on val", "1", "")),
        ("CoOp", LEAKY | {"selection": {"from": "given", "epoch_by": "test"}, "looks": {"test": 53}},
         Standing("best epoch on test", "53", "")),
        ("CoOp", {"templates": ["a photo of a {}."]}, Standing("last epoch", "1", '"a photo of a {}."')),
        ("ZeroshotCLIP", {}, Standing("", "1", UNKNOWN)),
        ("ZeroshotCLIP", {"templates": ["a {}", "the {}"]}, Standing("", "1", "ensemble of 2")),
    ],
)  # fmt: skip
def test_facts_of_a_run(tmp_path, trainer, changes, expected):
    run = read_run(write_run(tmp_path / "run", make_record(trainer, 4, 1, **changes)))
    assert run.complete, run.problem
    assert standing(run) == expected


def test_what_is_the_same_is_said_once_and_exceptions_are_named(tmp_path):
    write_sweep(tmp_path, shots=(1, 4), looks={"test": 1}, templates=["a photo of a {}."])
    text = footnote(name_methods(find_runs(tmp_path)))
    assert text == (
        "Behind the numbers: seeds 1-3; draw: per class; selection: last epoch; test images looked at: once; "
        'hand-written prompt: "a photo of a {}.".'
    )
    for seed in (1, 2, 3):  # another trainer chooses otherwise, and another data set is described otherwise
        record = make_record("CoOp", 4, seed, looks={"test": 51}, **BEST_VAL)
        record["trainer"] = record["config"]["TRAINER"]["NAME"] = "KgCoOp"
        write_run(tmp_path / f"b/{seed}", record)
    write_run(tmp_path / "c", make_record("ZeroshotCLIP", -1, -1, dataset="DTD", templates=["{} texture."]))
    text = footnote(name_methods(find_runs(tmp_path)))
    assert "selection: last epoch (KgCoOp: best epoch on test);" in text
    assert "looked at: once (KgCoOp: 51 times);" in text
    assert '"a photo of a {}." (DTD: "{} texture.").' in text


def test_where_a_method_is_not_of_one_kind_the_data_set_is_named_too(tmp_path):
    for number, (trainer, dataset) in enumerate([("CoOp", "A"), ("PLOT", "A"), ("PLOT", "B"), ("CoOp", "B")]):
        changes = BEST_VAL if number == 3 else {}
        write_run(tmp_path / str(number), make_record(trainer, 4, 1, dataset=dataset, **changes))
    runs = {"CoOp": find_runs(tmp_path / "0") + find_runs(tmp_path / "3"),
            "PLOT": find_runs(tmp_path / "1") + find_runs(tmp_path / "2")}  # fmt: skip
    assert "selection: last epoch (CoOp on B: best epoch on val);" in footnote(runs)


def test_many_exceptions_are_counted_and_marked_methods_left_to_their_mark(tmp_path):
    for number in range(6):
        changes = {"templates": [f"{{}} {number}."]}
        write_run(tmp_path / f"{number}", make_record("ZeroshotCLIP", -1, -1, dataset=f"D{number}", **changes))
    leaky = make_record("CoOp", 4, -1, looks={"test": 99}, **LEAKY)
    write_run(tmp_path / "leaky", leaky)
    text = footnote(name_methods(find_runs(tmp_path)))
    assert text.endswith('"{} 0." (D1: "{} 1."; D2: "{} 2."; D3: "{} 3."; 2 more).')
    assert "99" not in text and "runs without a seed;" in text
    assert footnote({}) == "" and footnote({"of a log": [read_run(tmp_path)]}) == ""


def test_every_table_of_accuracies_has_the_footnote_and_the_csv_columns(tmp_path, capsys):
    output = write_sweep(tmp_path / "out", shots=(1, 4), looks={"test": 1}, templates=["a photo of a {}."])
    for command in ("table", "fewshot"):
        for style in ("text", "markdown", "latex"):
            assert results([command, str(output), "--format", style]) == 0
            shown = [line for line in capsys.readouterr().out.splitlines() if "Behind the numbers: seeds 1-3;" in line]
            assert len(shown) == 1 and shown[0].startswith("%" if style == "latex" else "Behind")
    assert results(["table", str(output), "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert {(row["selection"], row["test_looks"], row["template"]) for row in rows if row["shots"] != "0"} == {
        ("last epoch", "1", '"a photo of a {}."')
    }
