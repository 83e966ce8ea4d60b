"""Calibration of methods as tables and pictures, numbers in which every class counts alike, matrices of confusions."""

import csv
import io
import re

import numpy as np
import pytest
from matplotlib.image import AxesImage

from dassl.plain.calibration import measure
from results.__main__ import main
from results.figures.calibration import points, reliability_figure
from results.figures.classes import confusion_figure
from results.figures.curves import looks
from results.figures.style import drawing, save_figure
from results.numbers.calibration import all_calibrations, reliability
from results.numbers.cells import COLUMNS
from results.numbers.classes import Column, Matrix, columns, confusion_matrices, is_uneven, measured, worst_class
from results.numbers.summary import summarise
from runs.predictions import Predictions, write_predictions
from runs.record import RESULT_NAME, find_runs
from tests.runs.test_predictions import kept_of
from tests.support.closeness import assert_close
from tests.support.records import make_record, write_run


def summary_of(output):
    return summarise(find_runs(output))


def predictions_of(seed: int, classes: int = 4, images: int = 60, sharpness: float = 2.0) -> Predictions:
    rng = np.random.default_rng(seed)
    labels = np.arange(images) % classes
    logits = rng.normal(0, 1, (images, classes)) + 1.5 * np.eye(classes)[labels]
    kept = kept_of((sharpness * logits).astype(np.float32), labels)
    return Predictions.of_test([f"{n}.jpg" for n in range(images)], kept)


def write_calibrated(folder, seed: int, temperature: float | None, reason: str = "", recorded: bool = True, **changes):
    """A run with predictions, and, where asked for, the entry that its test would have recorded."""
    predictions = predictions_of(seed)
    entry = {
        "before": measure(predictions.at_temperature()),
        "temperature": temperature,
        "images": 16 if temperature else 0,
        "reason": reason,
        "exact": True,
        "after": measure(predictions.at_temperature(temperature)) if temperature else None,
    }
    changes = {"calibration": entry, **changes} if recorded else changes
    write_run(folder, make_record(changes.pop("trainer", "CoOp"), 4, seed, **changes))
    write_predictions(folder, RESULT_NAME, predictions)
    return predictions


@pytest.fixture
def output(tmp_path):
    """CoOp with three seeds, of which one has no temperature; PLOT with two from before calibration was recorded."""
    for seed, temperature in ((1, 2.0), (2, 2.4), (3, None)):
        write_calibrated(tmp_path / f"c{seed}", seed, temperature, reason="" if temperature else "no images")
    for seed in (1, 2):
        write_calibrated(tmp_path / f"p{seed}", seed, None, recorded=False, trainer="PLOT")
    write_run(tmp_path / "p3", make_record("PLOT", 4, 3))
    return tmp_path


# --- tables ----------------------------------------------------------------------------------------------


def test_measures_are_averaged_over_seeds(output):
    ((_, (coop, plot)),) = all_calibrations(summary_of(output))
    eces = [measure(predictions_of(seed).at_temperature())["ece"] for seed in (1, 2, 3)]
    assert_close([coop.before["ece"].mean, coop.before["ece"].std], [np.mean(eces), np.std(eces)])
    scaled = [measure(predictions_of(seed).at_temperature(t))["nll"] for seed, t in ((1, 2.0), (2, 2.4))]
    assert_close(coop.after["nll"].mean, np.mean(scaled))
    assert coop.temperature == (2.2, pytest.approx(0.2), 2) and coop.fitted == "2/3"
    assert coop.reasons == {"no images": 1} and coop.lacking == []
    # of old runs, what their predictions tell
    assert_close(plot.before["ece"].mean, np.mean(eces[:2]))
    assert (plot.temperature, plot.after, len(plot.lacking)) == (None, {}, 1)


def test_the_command_shows_a_row_a_method(output, capsys):
    assert main(["calibration", str(output)]) == 1
    text, err = capsys.readouterr()
    assert "no predictions in" in err and "p3" in err
    assert re.search(r"^CoOp, 4 shots +2\.20 ± 0\.20 \(2/3\) +\d+\.\d\d ± \d", text, re.M)
    assert re.search(r"^PLOT N=4, 4 shots +– +\d+\.\d\d ± \S+ +– ", text, re.M)
    assert "No temperature in 1 run: no images." in text and "1 run from before predictions were kept" in text
    assert main(["calibration", str(output), "--allow-missing", "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    kinds = {(row["method"], row["measure"], row["scaled"]): row for row in rows}
    assert len(rows) == 5 + 6 + 5 and float(kinds["CoOp", "temperature", "1"]["mean"]) == 2.2
    assert kinds["PLOT N=4", "ece", "0"]["seeds"] == "2"


def test_what_is_approximate_or_infinite_is_said(tmp_path, capsys):
    write_calibrated(tmp_path / "1", 1, 2.0)
    run = find_runs(tmp_path)[0].record
    changed = {**run["calibration"], "exact": False, "before": {**run["calibration"]["before"], "nll": None}}
    write_run(tmp_path / "1", {**run, "calibration": changed})
    assert main(["calibration", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "evenly spread over the other classes" in text and "evenly" not in str(run)
    cells = re.search(r"^CoOp.*$", text, re.M).group().split()
    assert cells[cells.index("–") + 1] != "–"  # the NLL before has no mean, the one after has


def test_nothing_to_show_is_an_error(tmp_path, capsys):
    write_run(tmp_path / "1", make_record("CoOp", 4, 1))
    assert main(["calibration", str(tmp_path)]) == 2
    assert "has predictions; test the runs again" in capsys.readouterr().err
    assert main(["calibration", str(tmp_path), "--shots", "7"]) == 2
    assert "--shots 7: there are runs of 4 shots" in capsys.readouterr().err


# --- reliability -----------------------------------------------------------------------------------------


def test_reliability_pools_the_seeds(output):
    coop, plot = (reliability(column) for column in columns(*summary_of(output).sections))
    assert plot is None  # a run without predictions
    all_scores = [predictions_of(seed).at_temperature() for seed in (1, 2, 3)]
    confidence = np.concatenate([scores.confidence for scores in all_scores])
    correct = np.concatenate([scores.correct for scores in all_scores])
    assert coop.before.counts.sum() == 180 and coop.after is None  # a run without temperature
    expected, _ = np.histogram(confidence, np.linspace(0, 1, 16))
    assert coop.before.counts.tolist() == expected.tolist()
    x, y, _ = points(coop.before)
    top = confidence > 14 / 15
    assert_close([x[-1], y[-1]], [100 * confidence[top].mean(), 100 * correct[top].mean()])


def test_reliability_is_drawn_with_a_panel_a_method(output, capsys):
    assert main(["calibration", str(output), "--allow-missing", "--figure", str(output / "r.svg")]) == 0
    drawn = (output / "r.svg").read_text()
    assert "CoOp, 4 shots" in drawn and "PLOT" not in drawn and "after scaling" not in drawn
    write_calibrated(output / "c3", 3, 1.7)
    with drawing():
        shown = reliability(columns(*summary_of(output).sections)[0])
        figure = reliability_figure([("Demo", [shown])], looks(summary_of(output)))
    (axes,) = figure.axes
    assert {text for text in axes.get_legend_handles_labels()[1]} == {
        "share of images", "before scaling", "after scaling"
    }  # fmt: skip


# --- every class alike -----------------------------------------------------------------------------------


def with_classes(seed, correct, totals, macro_f1=50.0):
    rows = [
        {"label": n, "name": f"class {n}", "total": total, "correct": right, "accuracy": 100 * right / total}
        for n, (right, total) in enumerate(zip(correct, totals, strict=True))
    ]
    accuracy = 100 * sum(correct) / sum(totals)
    return make_record("CoOp", 4, seed, per_class=rows, accuracy=accuracy, macro_f1=macro_f1)


@pytest.fixture
def uneven(tmp_path):
    write_run(tmp_path / "1", with_classes(1, [90, 5, 2], [100, 10, 10], macro_f1=60.0))
    write_run(tmp_path / "2", with_classes(2, [80, 1, 4], [100, 10, 10], macro_f1=50.0))
    return tmp_path


def test_numbers_in_which_every_class_counts_alike(uneven):
    (section,) = summary_of(uneven).sections
    cell = section.cell("CoOp", 4)
    values = {column: measured(cell, column).accuracy for column in COLUMNS}
    assert_close(values["accuracy"].mean, 100 * (97 + 85) / 240)
    assert_close([values["balanced"].mean, values["balanced"].std], [(160 + 130) / 6, 5.0])
    assert values["macro_f1"] == (55.0, 5.0, 2)
    # class 1 has 50 and 10, class 2 has 20 and 40: both 30 on average, the first one counts; each seed's own is 15
    assert worst_class(cell).label == 1 and values["worst"] == (30.0, 20.0, 2)


def test_columns_on_request(uneven, capsys):
    assert main(["table", str(uneven), "--columns", "balanced", "worst"]) == 0
    text = capsys.readouterr().out
    assert "4 shots balanced" in text and "4 shots worst class" in text and text.startswith("Balanced: mean of")
    assert "48.33 ± 5.00 (2)" in text and "30.00 ± 20.00 (2) class 1" in text and "75.83" not in text
    assert main(["table", str(uneven), "--columns", *COLUMNS, "--format", "csv"]) == 0
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert_close(float(row["mean"]), 100 * 182 / 240)
    assert (row["worst_mean"], row["worst_class"], row["macro_f1_std"]) == ("30.0", "class 1", "5.0")


def test_the_table_says_where_accuracy_favours_large_classes(uneven, capsys):
    assert main(["table", str(uneven)]) == 0
    assert "In Demo the largest class has more than 2 times the test images of the smallest" in capsys.readouterr().out
    for seed in (1, 2):
        write_run(uneven / str(seed), with_classes(seed, [5, 5], [20, 10]))
    assert not is_uneven(summary_of(uneven).sections[0])
    assert main(["table", str(uneven)]) == 0
    assert "--columns" not in capsys.readouterr().out


def test_averages_over_data_sets_have_the_columns_too(uneven, capsys):
    for seed in (1, 2):
        write_run(uneven / f"other{seed}", with_classes(seed, [4, 2], [10, 10]) | {"dataset": "Other"})
    assert main(["table", str(uneven), "--columns", "accuracy", "balanced"]) == 0
    average = capsys.readouterr().out.split("Average over 2 data sets")[1]
    assert re.search(r"^CoOp +52\.92 +39\.17$", average, re.M)


def test_records_without_classes_count_as_missing(tmp_path, capsys):
    write_run(tmp_path / "1", with_classes(1, [5, 4], [10, 10]))
    write_run(tmp_path / "2", make_record("CoOp", 4, 2, per_class=None))
    assert main(["table", str(tmp_path), "--columns", "balanced", "--allow-missing"]) == 0
    assert "45.00 (1/2)" in capsys.readouterr().out


# --- matrices of confusions ------------------------------------------------------------------------------


def test_a_matrix_is_normalised_by_row_and_averaged(tmp_path):
    expected = []
    for seed in (1, 2):
        predictions = write_calibrated(tmp_path / str(seed), seed, 2.0)
        counts = np.zeros((4, 4))
        np.add.at(counts, (predictions.labels, predictions.predicted), 1)
        expected.append(counts / counts.sum(axis=1, keepdims=True))
    (matrix,) = confusion_matrices(*summary_of(tmp_path).sections)
    assert_close(matrix.shares, np.mean(expected, axis=0))
    assert_close(matrix.shares.sum(axis=1), np.ones(4))
    assert matrix.classes == ["class a", "class b", "class c", "class d"]


@pytest.mark.parametrize(("size", "named", "numbers"), [(5, True, True), (30, True, False), (200, False, False)])
def test_a_matrix_is_drawn_at_any_size(tmp_path, size, named, numbers):
    shares = 0.9 * np.eye(size) + 0.1 / size
    matrix = Matrix(Column("CoOp", 4, []), [f"class number {n}" for n in range(size)], shares)
    with drawing():
        figure = confusion_figure([("Demo", [matrix, matrix])])
        if size == 200:
            assert save_figure(figure, tmp_path / "m.png", dpi=40).stat().st_size > 1000
    panels = [axes for axes in figure.axes if any(type(artist) is AxesImage for artist in axes.get_children())]
    assert len(panels) == 2
    labels = [label.get_text() for label in panels[0].get_yticklabels()]
    assert ("class number 0" in labels) == named and (len(labels) == size or not named)
    assert bool(panels[0].texts) == numbers
    width, height = figure.get_size_inches()
    assert max(width, height) < 25


def test_the_picture_needs_predictions(tmp_path, capsys):
    write_calibrated(tmp_path / "1", 1, 2.0)
    assert main(["confusions", str(tmp_path), "--figure", str(tmp_path / "m.png")]) == 0
    assert (tmp_path / "m.png").stat().st_size > 1000
    (tmp_path / "1/predictions.npz").unlink()
    assert main(["confusions", str(tmp_path), "--figure", str(tmp_path / "m.png")]) == 2
    assert "no predictions.npz in" in capsys.readouterr().err


# --- the report ------------------------------------------------------------------------------------------


def test_the_report_has_it_all(output, capsys):
    (output / "p3/result.json").unlink()
    assert main(["report", str(output), "--allow-missing"]) == 0
    page = (output / "report.html").read_text()
    section = page[page.index('id="calibration"') : page.index('id="confusions"')]
    assert "<td>2.20<small>" in section and "<summary>Reliability" in section
    assert re.search(r"CoOp, 4 shots \d\d% sure on average and right in \d\d%", section)
    assert "All pairs as a picture" in page
