"""Single classes: what they gained over zero-shot, and which others they are taken for."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from PIL import Image

from results.__main__ import main
from results.figures.classes import MOST_CLASSES, gains_figure, shown_classes
from results.figures.curves import looks
from results.figures.style import drawing
from results.numbers.classes import Class, all_confusions, class_gains, columns, confusions
from results.numbers.summary import summarise
from results.tables.classes import GAIN_CAPTION, confusion_block, format_confusions, format_gains, gain_block
from results.tables.layout import FORMATS
from runs.record import find_runs
from tests.support.records import CLASSES, make_record, write_run, write_sweep


def summary_of(output):
    return summarise(find_runs(output))


def with_classes(trainer: str, seed: int, correct: list[int], shots: int = 4, **changes) -> dict:
    """A record with that many correct images of 20 for each class."""
    rows = [
        {"label": label, "name": f"class {label}", "total": 20, "correct": right, "accuracy": 5.0 * right}
        for label, right in enumerate(correct)
    ]
    return make_record(trainer, shots, seed, per_class=rows, total=20 * len(rows), correct=sum(correct), **changes)


def pair(true: int, predicted: int, count: int) -> dict:
    names = {"true_name": f"class {true}", "predicted_name": f"class {predicted}"}
    return {"true": true, "predicted": predicted, **names, "count": count}


# --- gains -----------------------------------------------------------------------------------------------


def three_classes(output):
    write_run(output / "zs", with_classes("ZeroshotCLIP", -1, [10, 20, 4], shots=-1))
    write_run(output / "1", with_classes("CoOp", 1, [12, 18, 14]))
    write_run(output / "2", with_classes("CoOp", 2, [14, 18, 12]))
    return output


def test_gain_is_accuracy_minus_zero_shot_sorted(tmp_path):
    ((gains,), missing) = class_gains(summary_of(three_classes(tmp_path)))
    assert missing == [] and [known.label for known in gains.classes] == [2, 0, 1]
    (gain,) = gains.gains
    assert gain.by_class[Class(2, "class 2")] == (45.0, 5.0, 2)
    assert gain.by_class[Class(1, "class 1")] == (-10.0, 0.0, 2)
    assert gain.overall == (pytest.approx(50 / 3), 0.0, 2)  # both seeds gained 10 images of 60
    block = gain_block(gains)
    assert block.rows[0] == ["class 2", "20.0", "+45.0 ± 5.0"] and block.rows[-1][-1] == "+16.7 ± 0.0"


def test_gains_at_the_most_shots_or_those_asked_for(tmp_path):
    summary = summary_of(write_sweep(tmp_path, shots=(1, 4)))
    (section,) = summary.sections
    assert [column.title for column in columns(section)] == ["ZeroshotCLIP", "CoOp, 4 shots", "PLOT N=4, 4 shots"]
    assert [column.shots for column in columns(section, shots=1)] == [0, 1, 1]
    ((gains,), _) = class_gains(summary, shots=1)
    expected = [make_record("PLOT", 1, seed)["per_class"][3]["accuracy"] for seed in (1, 2, 3)]
    base = make_record("ZeroshotCLIP", -1, -1)["per_class"][3]["accuracy"]
    mean, std, n = gains.gains[1].by_class[Class(3, CLASSES[3])]
    np.testing.assert_allclose([mean, std], [np.mean(expected) - base, np.std(expected)])
    assert n == 3


def test_each_backbone_is_compared_with_its_own_zero_shot(tmp_path, capsys):
    three_classes(tmp_path / "a")
    other = {"config": {"MODEL.BACKBONE.NAME": "RN50"}}
    write_run(tmp_path / "rn/zs", with_classes("ZeroshotCLIP", -1, [0, 0, 0], shots=-1, **other))
    write_run(tmp_path / "rn/1", with_classes("CoOp", 1, [20, 20, 20], **other))
    found, missing = class_gains(summary_of(tmp_path))
    assert {gains.title for gains in found} == {"Demo, demo-rn", "Demo, RN50"} and not missing
    assert {gains.mean(Class(0, "class 0")) for gains in found} == {15.0, 100.0}
    (tmp_path / "rn/zs/result.json").unlink()
    assert main(["gains", str(tmp_path)]) == 1
    assert "missing: Demo: no zero-shot run with backbone RN50" in capsys.readouterr().err


def test_names_may_occur_twice(tmp_path):
    for folder, trainer, right in (("zs", "ZeroshotCLIP", [2, 4]), ("1", "CoOp", [10, 4])):
        record = with_classes(trainer, 1, right)
        for row in record["per_class"]:
            row["name"] = "missile"
        write_run(tmp_path / folder, record)
    ((gains,), _) = class_gains(summary_of(tmp_path))
    assert gain_block(gains).rows[:2] == [["missile", "10.0", "+40.0"], ["missile", "20.0", "+0.0"]]


@pytest.mark.parametrize(
    ("records", "complaint"),
    [
        ([make_record("CoOp", 1, 1)], "no zero-shot run with backbone demo-rn"),
        ([make_record("CoOp", 1, 1), make_record("ZeroshotCLIP", -1, -1, per_class=[])], "in the record of the zero"),
        ([make_record("CoOp", 1, 1, per_class=[]), make_record("ZeroshotCLIP", -1, -1)], "in the records of CoOp"),
        ([make_record("ZeroshotCLIP", -1, -1)], "no trained run"),
    ],
)
def test_what_cannot_be_compared_is_said(tmp_path, capsys, records, complaint):
    for index, record in enumerate(records):
        write_run(tmp_path / str(index), record)
    assert main(["gains", str(tmp_path)]) == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize("command", ["gains", "confusions"])
def test_unknown_shots_name_the_known(tmp_path, capsys, command):
    write_sweep(tmp_path, shots=(1, 4))
    assert main([command, str(tmp_path), "--shots", "2"]) == 2
    assert "--shots 2: there are runs of 1, 4 shots" in capsys.readouterr().err


def test_gains_as_csv_keep_full_precision(tmp_path):
    found, _ = class_gains(summary_of(three_classes(tmp_path)))
    rows = list(csv.DictReader(io.StringIO(format_gains(found, "csv"))))
    assert len(rows) == 3 and rows[2]["class"] == "class 2"
    assert (rows[2]["method"], rows[2]["shots"], rows[2]["seeds"]) == ("CoOp", "4", "2")
    assert (float(rows[2]["zero_shot"]), float(rows[2]["gain"]), float(rows[2]["population_std"])) == (20.0, 45.0, 5.0)


def test_bars_hold_the_gains(tmp_path):
    summary = summary_of(three_classes(tmp_path))
    found, _ = class_gains(summary)
    with drawing():
        (axes,) = gains_figure(found, looks(summary)).axes
    assert [bar.get_width() for bar in axes.patches] == [45.0, 15.0, -10.0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["class 2 (20)", "class 0 (50)", "class 1 (100)"]


def test_figure_of_many_classes_shows_both_ends(tmp_path):
    count = MOST_CLASSES + 11
    write_run(tmp_path / "zs", with_classes("ZeroshotCLIP", -1, [0] * count, shots=-1))
    write_run(tmp_path / "1", with_classes("CoOp", 1, [label % 21 for label in range(count)]))
    summary = summary_of(tmp_path)
    ((gains,), _) = class_gains(summary)
    shown = [gains.mean(one) for one in shown_classes(gains)]
    assert len(shown) == MOST_CLASSES and shown == sorted(shown, reverse=True) and {shown[0], shown[-1]} == {100, 0}
    with drawing():
        (axes,) = gains_figure([gains], looks(summary)).axes
    assert axes.get_title(loc="left") == "Demo, without 11 classes in between"


def test_figure_goes_to_a_file_and_repeats_itself(tmp_path, capsys):
    write_sweep(tmp_path / "a", shots=(1,))
    write_sweep(tmp_path / "b", shots=(1,), dataset="Pets")
    target = tmp_path / "gains.png"
    assert main(["gains", str(tmp_path), "--figure", str(target)]) == 0
    first = target.read_bytes()
    assert Image.open(target).width > 1200  # two panels
    main(["gains", str(tmp_path), "--figure", str(target)])
    assert target.read_bytes() == first
    assert GAIN_CAPTION in capsys.readouterr().out


# --- confusions ------------------------------------------------------------------------------------------


def test_confusions_are_means_over_seeds_with_shares(tmp_path):
    for seed, rows in ((1, [pair(0, 1, 4), pair(1, 0, 2)]), (2, [pair(0, 1, 6), pair(0, 2, 1), pair(1, 2, 1)])):
        right = [20 - sum(row["count"] for row in rows if row["true"] == label) for label in range(3)]
        write_run(tmp_path / str(seed), with_classes("CoOp", seed, right, confusions=rows))
    ((section, (found,)),) = all_confusions(summary_of(tmp_path))
    assert section.title == "Demo" and found.mistakes == 7.0 and found.lacking == []
    first, second = found.pairs[:2]
    assert (first.true.name, first.predicted.name, first.images, first.share) == ("class 0", "class 1", (5, 1, 2), 25.0)
    assert (second.true.label, second.predicted.label, second.images[:2], second.share) == (1, 0, (1.0, 1.0), 5.0)
    assert not any(one.at_least for one in found.pairs)
    block = confusion_block("Demo", found, top=1)
    assert block.rows == [["class 0", "class 1", "5.0 ± 1.0", "25%"]]
    assert block.title == "Demo, CoOp, 4 shots: 7 mistakes, of which these are 71%"


def test_pair_that_a_cut_list_lacks_is_a_lower_bound(tmp_path):
    write_run(tmp_path / "1", with_classes("CoOp", 1, [15, 20], confusions=[pair(0, 1, 5)]))
    write_run(tmp_path / "2", with_classes("CoOp", 2, [12, 16], confusions=[pair(1, 0, 4)]))  # 8 others are not listed
    ((_, (found,)),) = all_confusions(summary_of(tmp_path))
    by_label = {(one.true.label, one.predicted.label): one.at_least for one in found.pairs}
    assert by_label == {(0, 1): True, (1, 0): False}
    text = format_confusions([(summary_of(tmp_path).sections[0], [found])], "text", top=5)
    assert "≥ 2.5 ± 2.5" in text and "≥: some record" in text


def test_older_records_are_named(tmp_path, capsys):
    write_sweep(tmp_path, shots=(1,), seeds=(1, 2))
    old = make_record("PLOT", 1, 1)
    del old["confusions"]
    folder = write_run(tmp_path / "OP_N4/demo/PLOT/demo_1shots/nctx16_cscFalse_ctpend/seed1", old)
    assert main(["confusions", str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert f"no confusions in the record of {folder}" in err and out.count("PLOT N=4, 1 shot:") == 1
    assert main(["confusions", str(tmp_path), "--allow-missing"]) == 0
    (section,) = summary_of(tmp_path).sections
    told = confusions(columns(section)[-1])
    assert told.known and told.pairs[0].images.n == 1  # of the other seed


def test_no_confusions_at_all_is_an_error(tmp_path, capsys):
    write_run(tmp_path, make_record("PLOT", 1, 1, confusions=None))
    assert main(["confusions", str(tmp_path)]) == 2
    assert "--eval-only" in capsys.readouterr().err


def test_perfect_run_has_no_pairs(tmp_path, capsys):
    write_run(tmp_path, with_classes("CoOp", 1, [20, 20], confusions=[]))
    assert main(["confusions", str(tmp_path)]) == 0
    assert "CoOp, 4 shots: 0 mistakes" in capsys.readouterr().out


@pytest.mark.parametrize("style", FORMATS)
@pytest.mark.parametrize("command", ["gains", "confusions"])
def test_every_format_holds_every_method(tmp_path, capsys, style, command):
    write_sweep(tmp_path, shots=(1,), dataset="A_B")
    assert main([command, str(tmp_path), "--format", style, "--out", str(tmp_path / "deep/table")]) == 0
    text = (tmp_path / "deep/table").read_text()
    assert "CoOp" in text and "PLOT N=4" in text and "class h" in text
    if style == "latex":
        assert "±" not in text and r"$\pm$" in text
        assert text.count(r"\begin{tabular}") == {"gains": 1, "confusions": 3}[command]
    if style == "csv":
        rows = list(csv.DictReader(io.StringIO(text)))
        assert len(rows) == (16 if command == "gains" else sum(len(one.pairs) for one in pairs_of(tmp_path)))


def pairs_of(output):
    ((_, found),) = all_confusions(summary_of(output))
    return found


def test_number_of_pairs_must_be_positive(tmp_path, capsys):
    write_sweep(tmp_path, shots=(1,))
    assert main(["confusions", str(tmp_path), "--top", "0"]) == 2
    assert "--top must be at least 1, got 0" in capsys.readouterr().err
