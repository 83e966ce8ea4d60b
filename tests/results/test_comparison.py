"""Methods of a tree compared: what is paired, refused and corrected, what is best, and the command."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from results.__main__ import main
from results.figures.curves import looks
from results.numbers.best import best
from results.numbers.comparison import Place, Total, compare, compare_cells, holm
from results.numbers.paired import average_differences, paired
from results.numbers.summary import Kind, Summary, averages, summarise
from results.report.accuracy import accuracy
from results.report.page import environment
from results.tables.accuracies import format_table
from results.tables.comparison import CSV_COLUMNS, format_comparison
from runs.predictions import write_predictions
from runs.record import find_runs
from tests.support.closeness import assert_close
from tests.support.predictions import predictions_of
from tests.support.records import make_record, write_run

N = 200  # images
EASY = np.arange(N)  # the image k is right where a level is above k: methods of one level answer alike


def write(
    output: Path,
    trainer: str,
    shots: int,
    seed: int,
    correct: np.ndarray | None,
    images: Sequence[str] | None = None,
    **changes,
) -> None:
    """Write a run whose test was right as `correct` says; without predictions for None."""
    folder = (
        output / f"{changes.get('dataset', 'Demo')}-{changes.get('subsample_classes', '')}-{trainer}-{shots}-{seed}"
    )
    record = make_record(trainer, shots, seed, **changes)
    if correct is not None:
        folder.mkdir(parents=True)
        record["predictions"] = write_predictions(folder, "result.json", predictions_of(correct, images or ()))
        record["accuracy"] = 100 * float(correct.mean())
    write_run(folder, record)


def answers(level: int, seed: int = 0, flips: int = 10) -> np.ndarray:
    """`level` of N right, but for `flips` images that change sides by chance."""
    correct = level > EASY
    chance = np.random.default_rng([level, seed])
    correct[chance.choice(N, flips, replace=False)] ^= True
    return correct


def tree(output: Path, levels: dict[str, int], seeds=(1, 2, 3), shots=(4,), **changes) -> Path:
    """A run a seed of each method, at its level; one of ZeroshotCLIP."""
    for trainer, level in levels.items():
        if trainer == "ZeroshotCLIP":
            write(output, trainer, -1, -1, answers(level), **changes)
        else:
            for count in shots:
                for seed in seeds:
                    write(output, trainer, count, seed, answers(level, seed), **changes)
    return output


def summary_of(output: Path) -> Summary:
    return summarise(find_runs(output))


LEVELS = {"ZeroshotCLIP": 100, "CoOp": 150, "PLOT": 152}


# --- pairs -----------------------------------------------------------------------------------------------


def test_pairs_are_those_of_the_seeds_and_zero_shot_stands_for_each(tmp_path):
    comparison = compare(summary_of(tree(tmp_path, LEVELS)))
    assert not comparison.refused and not comparison.totals
    first = {trainer: np.stack([answers(level, seed) for seed in (1, 2, 3)]) for trainer, level in LEVELS.items()}
    first["ZeroshotCLIP"] = answers(100)[None]
    found = {(pair.place.first.split()[0], pair.place.second): pair for pair in comparison.pairs}
    assert list(found) == [("PLOT", "CoOp"), ("PLOT", "ZeroshotCLIP"), ("CoOp", "ZeroshotCLIP")]
    for (a, b), pair in found.items():
        assert pair.difference == paired(first[a], first[b])
        assert pair.seeds == (1, 2, 3) and pair.place.shots == 4 and pair.place.dataset == "Demo"
    values = [pair.difference.p for pair in comparison.pairs]
    assert [pair.p_holm for pair in comparison.pairs] == holm(values)
    second_seed = holm([pair.difference.mcnemar[1] for pair in comparison.pairs])
    assert [pair.mcnemar_holm[1] for pair in comparison.pairs] == second_seed


def test_holms_correction():
    assert_close(holm([0.01, 0.04, 0.03]), [0.03, 0.06, 0.06])  # 3 x 0.01, 2 x 0.03, and no less than that
    assert holm([]) == [] and holm([0.7, 0.6]) == [1.0, 1.0]
    values = np.random.default_rng(0).random(30) ** 3
    assert_close(holm(values), multipletests(values, method="holm")[1])


def test_methods_without_training_meet_each_other_once(tmp_path):
    for width, level in ((224, 100), (336, 110)):
        write(tmp_path / str(width), "ZeroshotCLIP", -1, -1, answers(level), config={"MODEL.BACKBONE.NAME": str(width)})
    for draw in ("per_class", "proportional"):
        write(tmp_path / draw, "CoOp", 8, 1, answers(150), draw=draw)
    places = [pair.place for pair in compare(summary_of(tmp_path)).pairs]
    assert sum(place.shots == 0 for place in places) == 1
    assert {place.kind.draw for place in places if place.shots == 8} == {"per_class", "proportional"}


def test_kinds_are_never_mixed(tmp_path):
    tree(tmp_path, {"CoOp": 120, "PLOT": 150}, subsample_classes="base")
    tree(tmp_path, {"CoOp": 150, "PLOT": 120}, subsample_classes="new")
    pairs = compare(summary_of(tmp_path)).pairs
    assert {(pair.place.kind.classes, pair.difference.winner) for pair in pairs} == {("base", 1), ("new", -1)}
    assert not compare(summary_of(tmp_path)).totals


# --- refusals --------------------------------------------------------------------------------------------


def refusal(output: Path) -> str:
    comparison = compare(summary_of(output))
    assert not comparison.pairs
    ((_, reason),) = comparison.refused
    return reason


def test_other_images_are_counted(tmp_path):
    names = [f"{number}.jpg" for number in range(N)]
    write(tmp_path, "CoOp", 4, 1, answers(150), names)
    write(tmp_path, "PLOT", 4, 1, answers(150)[:-10], ["new.jpg", "new2.jpg", *names[2:-10]])
    assert re.match(r"other images: 2 of 190 and 12 of 200 are not in the other test", refusal(tmp_path))


def test_another_order_of_images_is_refused(tmp_path):
    names = [f"{number}.jpg" for number in range(N)]
    write(tmp_path, "CoOp", 4, 1, answers(150), names)
    write(tmp_path, "PLOT", 4, 1, answers(150), names[::-1])
    assert refusal(tmp_path).startswith("other images: the same ones in another order")


def test_other_images_whose_file_is_lost_are_refused_too(tmp_path):
    write(tmp_path, "CoOp", 4, 1, answers(150))
    write(tmp_path, "PLOT", 4, 1, answers(150)[1:])
    for path in tmp_path.glob("*/predictions.npz"):
        path.unlink()
    assert "how many cannot be said" in refusal(tmp_path)
    assert "No best is marked where methods cannot be compared: other images in 1 column" in format_table(
        summary_of(tmp_path)
    )


def test_a_single_image_and_a_record_that_lost_some_are_refused(tmp_path):
    for trainer in ("CoOp", "PLOT"):
        write(tmp_path / "single", trainer, 4, 1, answers(150)[:1])
        write(tmp_path / "lost", trainer, 4, 1, answers(150))
    assert "have [1] of them" in refusal(tmp_path / "single") and format_table(summary_of(tmp_path / "single"))
    path = next((tmp_path / "lost").glob("*PLOT*/result.json"))
    record = json.loads(path.read_text())
    record["predictions"]["total"] = 150
    path.write_text(json.dumps(record))
    assert "have [150, 200] of them" in refusal(tmp_path / "lost") and format_table(summary_of(tmp_path / "lost"))


def test_runs_of_before_and_runs_without_a_common_seed_are_refused(tmp_path):
    write(tmp_path / "a", "CoOp", 4, 1, answers(150))
    write(tmp_path / "a", "PLOT", 4, 1, None)
    assert re.match(r"no predictions kept: .*PLOT-4-1; test the run again", refusal(tmp_path / "a"))
    write(tmp_path / "b", "CoOp", 4, 1, answers(150))
    write(tmp_path / "b", "PLOT", 4, 2, answers(150))
    assert refusal(tmp_path / "b") == "no common seed: seed 2 and seed 1"
    write(tmp_path / "c", "CoOp", 4, -1, answers(150))
    write(tmp_path / "c", "PLOT", 4, 2, answers(150))
    assert refusal(tmp_path / "c") == "no common seed: seed 2 and runs without a seed"


def test_seeds_that_only_one_has_are_left_out_and_named(tmp_path):
    tree(tmp_path, {"CoOp": 150, "PLOT": 160}, seeds=(1, 2))
    write(tmp_path, "CoOp", 4, 3, answers(150))
    write(tmp_path, "CoOp", 4, 4, answers(150))
    write(tmp_path, "PLOT", 4, 4, None)
    (pair,) = compare(summary_of(tmp_path)).pairs
    assert pair.seeds == (1, 2) and pair.difference.seeds == 2
    assert pair.note == "only seeds 1, 2; of seeds 3, 4 not both have predictions"
    assert "In 1 column that was found on fewer seeds" in format_table(summary_of(tmp_path))


# --- over data sets --------------------------------------------------------------------------------------


def total_of(*levels: int) -> Total:
    """PLOT at each level on a data set, against CoOp at 100."""
    pairs = tuple(paired(answers(level), answers(100, flips=0)) for level in levels)
    return Total(Place("", Kind("all", "test", ""), 4, "PLOT", "CoOp"), average_differences(pairs), pairs)


def test_wins_ties_losses_and_wilcoxon():
    six = total_of(130, 141, 152, 163, 174, 185)
    assert six.record == (6, 0, 0) and six.wilcoxon == six.wilcoxon_least == 2 / 64
    mixed = total_of(150, 101, 50)
    assert mixed.record == (1, 1, 1)
    assert mixed.wilcoxon_least == 0.25  # three data sets cannot tell
    still = Total(mixed.place, mixed.difference, (paired(answers(9), answers(9)),) * 2)
    assert still.wilcoxon == 1 and still.record == (0, 2, 0)


def test_pairs_are_summed_up_over_data_sets(tmp_path):
    for dataset, level in (("A", 160), ("B", 150), ("C", 110)):
        tree(tmp_path, {"CoOp": 130, "PLOT": level}, dataset=dataset)
    summary = summary_of(tmp_path)
    comparison = compare(summary)
    (total,) = comparison.totals
    assert total.record == (2, 0, 1)
    assert_close(total.difference.difference, np.mean([pair.difference.difference for pair in comparison.pairs]))
    table = format_comparison(comparison, summary.runs_by_method())
    assert "Over 3 data sets" in table and "2/0/1" in table and "(at least 0.250)" in table


# --- the best of a column --------------------------------------------------------------------------------


def test_the_best_is_better_beyond_the_interval_and_ties_share(tmp_path):
    (section,) = summary_of(tree(tmp_path / "tie", LEVELS)).sections
    assert best([section]).places == {("CoOp", 4), ("PLOT N=4", 4)}
    (section,) = summary_of(tree(tmp_path / "clear", LEVELS | {"PLOT": 180})).sections
    assert best([section]).places == {("PLOT N=4", 4)}


def test_where_predictions_were_not_kept_none_is_best(tmp_path):
    tree(tmp_path, LEVELS | {"PLOT": 180}, shots=(1, 4))
    for seed in (1, 2, 3):
        write(tmp_path, "CoOp", 8, seed, None)
        write(tmp_path, "PLOT", 8, seed, None)
    summary = summary_of(tmp_path)
    found = best(summary.sections)
    assert found.places == {("PLOT N=4", 1), ("PLOT N=4", 4)} and found.reasons == {"no predictions kept": 1}
    assert "where methods cannot be compared: no predictions kept in 1 column." in format_table(summary)


def test_a_method_alone_is_not_the_best(tmp_path):
    summary = summary_of(tree(tmp_path, {"ZeroshotCLIP": 100, "CoOp": 150}))
    assert not best(summary.sections).places
    assert "*" not in format_table(summary) and "Bold" not in format_table(summary, "markdown")


def test_averages_are_compared_by_the_mean_of_differences(tmp_path):
    """A tie on each of four data sets can be a difference over all."""
    rng = np.random.default_rng(0)
    for dataset in "ABCD":
        for seed in (1, 2, 3):
            plain = rng.random(N) < 0.5
            better = plain | (rng.random(N) < 0.03)
            better[rng.choice(N, 6, replace=False)] ^= True
            write(tmp_path, "CoOp", 4, seed, plain, dataset=dataset)
            write(tmp_path, "PLOT", 4, seed, better, dataset=dataset)
    summary = summary_of(tmp_path)
    (average,) = averages(summary.sections)
    (total,) = compare(summary).totals
    single = [best([section]).places for section in summary.sections]
    assert any(len(places) == 2 for places in single)
    assert total.difference.winner == 1 and best(average.sections).places == {("PLOT N=4", 4)}


def test_bold_in_every_format_and_in_the_report(tmp_path, capsys):
    tree(tmp_path, LEVELS | {"PLOT": 180})
    summary = summary_of(tmp_path)
    mean = f"{summary.sections[0].cells['PLOT N=4', 4].mean:.2f}"
    for style, shown in (("text", f"*{mean} ±"), ("markdown", f"**{mean}** ±"), ("latex", rf"\textbf{{{mean}}} $\pm$")):
        table = format_table(summary, style)
        marks = re.findall(r"\*[\d.]+|\\textbf", table)
        assert shown in table and len(marks) == 1
        assert "beyond the 95 % interval of the paired difference" in table
    data = accuracy(summary, looks(summary))
    page = environment().get_template("accuracy.html.jinja").render(data=data)
    assert re.findall(r'<td class="best">([\d.]+)', page) == [mean]
    assert "beyond the 95 % interval of the paired difference" in page


def test_a_table_needs_no_slow_import(tmp_path):
    tree(tmp_path, LEVELS)
    code = (
        "import sys; from results.__main__ import main; main(['table', sys.argv[1]]);"
        "print(sorted({'statsmodels', 'pandas', 'torch', 'scipy.stats'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


# --- the command -----------------------------------------------------------------------------------------


def rows_of(capsys) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(capsys.readouterr().out)))


def test_the_command_end_to_end(tmp_path, capsys):
    tree(tmp_path, LEVELS | {"PLOT": 180}, shots=(4, 16))
    assert main(["compare", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert not printed.err and "p corrected for all 6 comparisons" in printed.out
    row = next(line for line in printed.out.splitlines() if re.match(r"PLOT N=4 +CoOp +16 ", line))
    (pair,) = (p for p in compare(summary_of(tmp_path)).pairs if (p.place.second, p.place.shots) == ("CoOp", 16))
    assert f"*{pair.difference.difference:+.2f}" in row and f"{pair.difference.low:+.2f} to" in row

    assert main(["compare", str(tmp_path), "--format", "csv"]) == 0
    rows = rows_of(capsys)
    assert list(rows[0]) == CSV_COLUMNS and len(rows) == 6
    (row,) = (row for row in rows if (row["second"], row["shots"]) == ("CoOp", "16"))
    assert float(row["difference"]) == pair.difference.difference and row["seeds"] == "1 2 3"
    assert float(row["p_holm"]) == pair.p_holm and row["draw"] == "per_class"

    assert main(["compare", str(tmp_path), "--bootstrap", "1000", "--format", "csv"]) == 0
    drawn = rows_of(capsys)
    assert [row["difference"] for row in drawn] == [row["difference"] for row in rows]
    assert [row["standard_error"] for row in drawn] != [row["standard_error"] for row in rows]


def test_choosing_pairs(tmp_path, capsys):
    tree(tmp_path, LEVELS, shots=(4, 16))
    assert main(["compare", str(tmp_path), "--format", "csv", "--against", "ZeroshotCLIP", "--shots", "16"]) == 0
    assert [(row["first"], row["second"], row["shots"]) for row in rows_of(capsys)] == [
        ("PLOT N=4", "ZeroshotCLIP", "16"),
        ("CoOp", "ZeroshotCLIP", "16"),
    ]
    out = tmp_path / "x.md"
    asked = ["compare", str(tmp_path), "--methods", "CoOp", "PLOT N=4", "--format", "markdown", "--out", str(out)]
    assert main(asked) == 0 and "| CoOp " in out.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--methods", "CoOp", "PLOT"], '--methods PLOT: there is only ZeroshotCLIP, CoOp, "PLOT N=4"'),
        (["--against", "Coop"], "--against Coop: there is only"),
        (["--shots", "2"], "--shots 2: there is only 0, 4"),
        (["--methods", "CoOp"], "two methods are needed"),
        (["--bootstrap", "1"], "--bootstrap must be"),
    ],
)
def test_what_there_is_not_is_an_error_that_says_what_there_is(tmp_path, capsys, arguments, words):
    tree(tmp_path, LEVELS)
    assert main(["compare", str(tmp_path), *arguments]) == 2
    assert words in capsys.readouterr().err


def test_refusals_are_named_and_make_the_result_incomplete(tmp_path, capsys):
    tree(tmp_path, {"ZeroshotCLIP": 100, "CoOp": 150})
    for seed in (1, 2, 3):
        write(tmp_path, "PLOT", 4, seed, None)
    assert main(["compare", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.count("not compared: PLOT N=4 and") == 2 and "on Demo, shots 4: no predictions kept" in error
    assert main(["compare", str(tmp_path), "--allow-missing"]) == 0
    assert main(["compare", str(tmp_path), "--methods", "CoOp", "PLOT N=4"]) == 2
    assert "no two methods that can be compared" in capsys.readouterr().err


def test_what_is_compared_in_part_is_named(tmp_path, capsys):
    tree(tmp_path, {"CoOp": 150, "PLOT": 160})
    write(tmp_path, "PLOT", 4, 4, answers(160))
    write(tmp_path, "CoOp", 4, 4, None)
    assert main(["compare", str(tmp_path)]) == 1
    printed = capsys.readouterr()
    assert "compared in part: PLOT N=4 and CoOp on Demo, shots 4: only seeds 1, 2, 3; of seed 4" in printed.err
    assert "* PLOT N=4 and CoOp, Demo at 4 shots: only seeds 1, 2, 3" in printed.out and "  3* " in printed.out


def test_a_method_does_not_differ_from_itself(tmp_path):
    (section,) = summary_of(tree(tmp_path, {"CoOp": 150, "PLOT": 160})).sections
    cell = section.cells["CoOp", 4]
    assert compare_cells(cell, cell).difference.p == 1
