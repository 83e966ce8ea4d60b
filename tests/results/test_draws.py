"""Runs of two draws of the few shots stay apart: in folders, tables, curves, averages, short names and the report."""

from __future__ import annotations

import csv
import io
import re
import statistics
from pathlib import Path

import pytest

from results.__main__ import main
from results.figures.curves import panels
from results.numbers.classes import class_gains
from results.numbers.differences import same_images
from results.numbers.protocols.grid import arrange
from results.numbers.protocols.trees import PROTOCOLS, find_results
from results.numbers.summary import Kind, Summary, averages, summarise
from results.report.overview import headline, overview
from results.report.page import build_report
from runs.files import ResultsError
from runs.keys import deciding, differences, flatten
from runs.record import find_runs, read_run
from runs.restore.names import find_run, list_runs
from tests.support.records import make_record, write_run

SEEDS = (1, 2, 3)
ACCURACY = {"per_class": 60.0, "proportional": 40.0}  # no mean of both can pass for either
DATASETS = ("DTD", "EuroSAT")
SUFFIX = {"per_class": "", "proportional": "-proportional"}


def record_of(dataset: str, draw: str, seed: int, shots: int = 4, **changes) -> dict:
    config = {"DATASET.DRAW": draw, "DATASET.NAME": dataset}
    accuracy = ACCURACY[draw] + seed
    data = {"fingerprint": f"{draw}-{seed}"}
    return make_record("CoOp", shots, seed, **{"dataset": dataset, "draw": draw, "accuracy": accuracy, "data": data,
                                               "config": config} | changes)  # fmt: skip


@pytest.fixture(scope="module")
def output(tmp_path_factory) -> Path:
    """CoOp at 4 shots of both draws, on two data sets, beside zero-shot CLIP; the per-class records are old ones."""
    root = tmp_path_factory.mktemp("draws")
    for dataset in DATASETS:
        zero_shot = make_record("ZeroshotCLIP", -1, -1, dataset=dataset, config={"DATASET.NAME": dataset})
        write_run(root / "ZeroshotCLIP/rn50" / dataset.lower(), zero_shot)
        for draw, suffix in SUFFIX.items():
            for seed in SEEDS:
                record = record_of(dataset, draw, seed)
                if draw == "per_class":  # from before there was a choice
                    del record["draw"], record["config"]["DATASET"]["DRAW"]
                write_run(root / f"{dataset.lower()}/CoOp/rn50_4shots{suffix}/seed{seed}", record)
    return root


@pytest.fixture(scope="module")
def summary(output) -> Summary:
    return summarise(find_runs(output))


def test_a_section_holds_runs_of_one_draw(summary):
    titles = ["DTD", "DTD, proportional draw", "EuroSAT", "EuroSAT, proportional draw"]
    assert [section.title for section in summary.sections] == titles
    assert summary.whole and len(summary.complete_runs) == 2 * (1 + 2 * len(SEEDS))
    for section in summary.sections:
        cell = section.cell("CoOp", 4)
        assert {run.draw for run in cell.runs} == {section.kind.draw} and (cell.expected, cell.missing) == (3, 0)
        assert cell.mean == ACCURACY[section.kind.draw] + 2
        assert len(section.cell("ZeroshotCLIP", 0).runs) == 1  # to compare with, beside either
    assert [len(runs) for runs in summary.runs_by_method().values()] == [2, 12]


def test_averages_and_curves_are_of_one_draw(summary):
    by_title = {average.title: average.cells["CoOp", 4].mean for average in averages(summary.sections)}
    assert by_title == {"2 data sets": 62.0, "2 data sets, proportional draw": 42.0}
    for title, lines in panels(summary):
        ((shots, mean, values),) = lines["CoOp"]
        assert (shots, mean) == (4, 42.0 if "proportional draw" in title else 62.0)
        assert statistics.fmean(values) == mean
    assert headline(summary, "CoOp", 4) is None  # there is no one number


def test_the_table_names_the_draw(output, capsys):
    assert main(["table", str(output)]) == 0
    out = capsys.readouterr().out
    assert "62.00 ± 0.82 (3)" in out and "42.00 ± 0.82 (3)" in out and "52." not in out
    assert "EuroSAT, proportional draw" in out and "Average over 2 data sets, proportional draw" in out
    assert "K shots are K images a class on average" in " ".join(out.split())
    assert main(["table", str(output), "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    means = {(row["dataset"], row["draw"], row["method"]): float(row["mean"]) for row in rows}
    assert len(rows) == len(means) == 6 and means["DTD", "proportional", "CoOp"] == 42.0
    assert means["DTD", "per_class", "CoOp"] == 62.0 and ("DTD", "", "ZeroshotCLIP") in means


def test_the_report_names_the_draw(output, summary):
    page = build_report(summary, output, "Draws")
    text = re.sub(r"<[^>]+>", " ", page)
    assert "Average over 2 data sets, proportional draw" in text and "4 training images per class on average" in text
    assert "52.0" not in text
    assert "CoOp, DTD, proportional draw" in text  # cost, per method and section
    images = same_images(summary.complete_runs)
    assert images == {"compared": False, "differing": [], "more": False}  # of two draws, other images are no surprise


def test_one_draw_alone_is_named_too(output):
    runs = [run for run in find_runs(output) if run.draw != "per_class"]
    summary = summarise(runs)
    assert [section.kind for section in summary.sections] == [Kind("all", "test", "proportional")] * 2
    assert headline(summary, "CoOp", 4).mean == 42.0 and "on average" in overview(summary)["sentence"]
    usual = summarise([run for run in find_runs(output) if run.draw != "proportional"])
    assert [section.title for section in usual.sections] == list(DATASETS)
    assert "average" not in overview(usual)["sentence"]


def test_a_missing_run_is_counted_in_its_own_draw(output):
    lost = {run for run in find_runs(output) if (run.dataset, run.draw, run.seed) == ("DTD", "proportional", 2)}
    found = summarise([run for run in find_runs(output) if run.folder not in {run.folder for run in lost}])
    missing = {section.title: section.missing for section in found.sections}
    assert missing == {"DTD": 0, "DTD, proportional draw": 1, "EuroSAT": 0, "EuroSAT, proportional draw": 0}
    elsewhere = [run for run in find_runs(output) if (run.dataset, run.draw) != ("EuroSAT", "proportional")]
    titles = [section.title for section in summarise(elsewhere).sections]
    assert titles == ["DTD", "DTD, proportional draw", "EuroSAT"] and summarise(elsewhere).whole


def test_gains_are_over_the_one_zero_shot_run(summary):
    compared, missing = class_gains(summary)
    assert [gains.title for gains in compared] == [section.title for section in summary.sections] and not missing


def test_the_protocols_table_has_a_row_for_each_draw(output, tmp_path, capsys):
    grid = arrange(find_results(output, PROTOCOLS["fewshot"]), PROTOCOLS["fewshot"])
    assert grid.methods == ["ZeroshotCLIP rn50", "CoOp rn50", "CoOp rn50 proportional draw"] and not grid.missing
    assert grid.average("CoOp rn50", "", 4).mean == 62.0
    assert grid.average("CoOp rn50 proportional draw", "", 4).mean == 42.0
    write_run(tmp_path / "dtd/CoOp/rn50_4shots/seed1", record_of("DTD", "proportional", 1))
    assert main(["fewshot", str(tmp_path), "--allow-missing"]) == 0
    assert "is of draw 'proportional', but the folder's place is for 'per_class'" in capsys.readouterr().err


def test_base_to_new_and_transfer_trees_have_the_draw_too(tmp_path):
    for part, classes in (("train_base", "base"), ("test_new", "new")):
        for draw, suffix in SUFFIX.items():
            record = record_of("DTD", draw, 1, subsample_classes=classes)
            write_run(tmp_path / f"base2new/{part}/dtd/shots_4{suffix}/CoOp/rn50/seed1", record)
    grid = arrange(find_results(tmp_path, PROTOCOLS["base2new"]), PROTOCOLS["base2new"], seeds=[1])
    assert {method: grid.average(method, "base").mean for method in grid.methods} == {
        "CoOp rn50": 61.0, "CoOp rn50 proportional draw": 41.0,
    }  # fmt: skip
    for draw, suffix in SUFFIX.items():
        write_run(tmp_path / f"imagenet/CoOp/rn50_4shots{suffix}/seed1", record_of("ImageNet", draw, 1))
        tested = record_of("DTD", draw, 1) | {"shots": -1, "mode": "eval", "draw": None}  # a test draws nothing
        write_run(tmp_path / f"evaluation/CoOp/rn50_4shots{suffix}/dtd/seed1", tested)
    grid = arrange(find_results(tmp_path, PROTOCOLS["crossdataset"]), PROTOCOLS["crossdataset"], seeds=[1])
    assert {method: grid.average(method).mean for method in grid.methods} == {
        "CoOp rn50": 61.0, "CoOp rn50 proportional draw": 41.0,
    }  # fmt: skip


def test_short_names(output):
    names = [named.name.removeprefix(str(output)) for named in list_runs(output)]
    assert len(names) == len(set(names)) and ":DTD/CoOp@4-proportional#2" in names
    assert find_run(f"{output}:DTD/CoOp@4#2").parent.name == "rn50_4shots"
    assert find_run(f"{output}:DTD/CoOp@4-proportional#2").parent.name == "rn50_4shots-proportional"
    with pytest.raises(ResultsError, match="stands for several runs"):
        find_run(f"{output}:DTD/CoOp")


def test_a_run_says_its_draw(tmp_path):
    def draw_of(**changes) -> str:
        return read_run(write_run(tmp_path / "run", record_of("DTD", "proportional", 1) | changes)).draw

    assert draw_of() == "proportional" and draw_of(draw=None) == "per_class"
    assert draw_of(shots=-1, draw=None) == "" and draw_of(method={"zero_shot": True}) == ""
    assert not read_run(write_run(tmp_path / "run", record_of("DTD", "proportional", 1) | {"draw": 7})).complete


def test_a_config_without_the_key_is_of_the_default():
    old, new = ({"DATASET.NUM_SHOTS": 4, **key} for key in ({}, {"DATASET.DRAW": "proportional"}))
    assert differences(deciding(old), deciding(new)) == "DATASET.DRAW was 'per_class', is 'proportional'"
    assert differences(deciding(old), deciding({**new, "DATASET.DRAW": "per_class"})) == ""
    assert differences(deciding(old, zero_shot=True), deciding(new, zero_shot=True)) == ""
    assert flatten({"DATASET": {"DRAW": "proportional"}}) == {"DATASET.DRAW": "proportional"}
