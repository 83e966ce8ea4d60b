"""What differs between methods, and between runs that should agree."""

from __future__ import annotations

import pytest

from results.__main__ import main
from results.numbers.differences import between_methods, between_runs
from results.numbers.summary import summarise
from runs.record import find_runs
from tests.support.records import make_record, write_run, write_sweep


def summary_of(output, *records):
    for index, record in enumerate(records):
        write_run(output / str(index), record)
    return summarise(find_runs(output))


def found(output, *records) -> dict:
    """{(what, method): {value: number of runs}}"""
    return {
        (one.what, one.method): {value: len(runs) for value, runs in one.values.items()}
        for one in between_runs(summary_of(output, *records))
    }


def test_methods_are_compared_key_by_key(tmp_path):
    records = (
        make_record("CoOp", 4, 1, config={"OPTIM.LR": 0.01, "TRAINER.COOP.PREC": "fp16"}),
        make_record("PLOT", 4, 1, config={"TRAINER.PLOT.PREC": "fp32"}),
        make_record("PLOT", 16, 1, config={"TRAINER.PLOT.PREC": "fp32"}),
    )
    differing, partial = between_methods(summary_of(tmp_path, *records))
    assert {one.key: one.values for one in differing} == {
        "OPTIM.LR": {"CoOp": "0.01", "PLOT N=4": "0.002"},
        "OPTIM.MAX_EPOCH": {"CoOp": "100", "PLOT N=4": "100, 200"},
        "PREC": {"CoOp": "fp16", "PLOT N=4": "fp32"},
    }
    assert {one.key: one.values for one in partial} == {"N": {"PLOT N=4": "4"}, "MATCHING": {"PLOT N=4": "ot"}}


def test_variants_of_one_trainer_differ_in_what_names_them(tmp_path):
    differing, partial = between_methods(
        summary_of(
            tmp_path, make_record("PLOT", 4, 1), make_record("PLOT", 4, 1, config={"TRAINER.PLOT.MATCHING": "max"})
        )
    )
    assert [one.key for one in differing] == ["MATCHING"] and partial == []


def test_untrained_methods_differ_in_their_backbone_only(tmp_path):
    other = {"MODEL.BACKBONE.NAME": "RN50", "OPTIM.LR": 1.0}
    records = (make_record("ZeroshotCLIP", -1, -1, config=other), make_record("CoOp", 4, 1))
    differing, partial = between_methods(summary_of(tmp_path, *records))
    assert [(one.key, one.values["ZeroshotCLIP"]) for one in differing] == [("MODEL.BACKBONE.NAME", "RN50")]
    assert not partial


def test_a_sweep_has_no_unexpected_difference(tmp_path):
    assert between_runs(summarise(find_runs(write_sweep(tmp_path, shots=(1, 4, 16))))) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"versions": {"torch": "2.6.0"}}, {("torch version", "all methods"): {"2.5.0": 2, "2.6.0": 1}}),
        ({"device": "mps"}, {}),  # the others do not say
        ({"config": {"DATALOADER.NUM_WORKERS": 8}}, {}),  # likewise
        ({"config": {"DATALOADER.TRAIN_X.BATCH_SIZE": 8}}, None),  # then it is another method
        ({"total": 100}, {("test images of Demo", "all methods"): {"400": 2, "100": 1}}),
        ({"config": {"OUTPUT_DIR": "elsewhere", "SEED": 9, "DATASET.ROOT": "moved"}}, {}),
    ],
)
def test_one_run_that_is_different(tmp_path, changes, expected):
    records = [make_record("CoOp", 4, 1), make_record("CoOp", 4, 2), make_record("CoOp", 4, 3, **changes)]
    told = found(tmp_path, *records)
    if expected is None:
        assert told == {("DATALOADER.TRAIN_X.BATCH_SIZE", "CoOp"): {"32": 2, "8": 1}}
    else:
        assert told == expected


def test_settings_that_make_no_other_method_are_still_told(tmp_path):
    records = [
        make_record("CoOp", 4, seed, config={"DATALOADER.NUM_WORKERS": workers, "TRAIN.PRINT_FREQ": seed})
        for seed, workers in ((1, 0), (2, 0), (3, 8))
    ]
    assert found(tmp_path, *records) == {("DATALOADER.NUM_WORKERS", "CoOp"): {"0": 2, "8": 1}}


def test_device_and_commit(tmp_path):
    versions = {"commit": "aaaa"}
    assert found(
        tmp_path,
        make_record("CoOp", 4, 1, device="cpu", versions=versions),
        make_record("PLOT", 4, 1, device="cuda, H200", versions={"commit": "aaaa-dirty"}, processes=4),
        make_record("PLOT", 4, 2, device="cuda, H200", versions={"commit": ""}),
    ) == {
        ("device", "all methods"): {"cuda, H200": 2, "cpu": 1},
        ("processes", "all methods"): {"1": 2, "4": 1},  # records of before do not say
        ("commit", "all methods"): {"aaaa": 1, "aaaa-dirty": 1, "unknown": 1},
    }


def test_the_schedule_may_go_by_shots_but_not_by_seed(tmp_path):
    """Two schedules at the same shots with different seeds: one method, since no place holds both."""
    records = [make_record("CoOp", shots, seed) for shots in (1, 16) for seed in (1, 2)]
    records[1]["config"]["OPTIM"]["MAX_EPOCH"] = 7
    assert found(tmp_path, *records) == {("OPTIM.MAX_EPOCH", "CoOp"): {"50": 1, "7": 1}}


def test_the_report_names_the_run(tmp_path):
    for seed in (1, 2, 3):
        record = make_record("CoOp", 4, seed, versions={"torch": "2.5.0" if seed < 3 else "<2.6>"})
        write_run(tmp_path / f"seed{seed}", record)
    assert main(["report", str(tmp_path)]) == 0
    page = (tmp_path / "report.html").read_text()
    assert "<b>2.5.0</b>: 2 runs; <b>&lt;2.6&gt;</b>: 1 run (<code>seed3</code>)" in page
