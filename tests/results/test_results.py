"""Run records to numbers to tables: what counts, what it is called, and what is reported missing."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wcwidth import wcswidth

from dassl.plain.text import csv_line
from results.__main__ import COMMANDS, main
from results.numbers.cells import ALL_IMAGES, ZERO_SHOT, spread
from results.numbers.summary import averages, summarise
from results.tables.accuracies import format_table
from results.tables.layout import FORMATS
from runs.files import ResultsError, write_atomic, write_text
from runs.keys import flatten
from runs.methods import name_methods
from runs.record import find_runs, read_run
from tests.support.closeness import assert_close
from tests.support.records import make_record, write_run, write_sweep

REPO = Path(__file__).parents[2]


def accuracies(output: Path) -> dict:
    """{(method, shots): accuracies by seed} of the only section."""
    (section,) = summarise(find_runs(output)).sections
    return {key: [run.accuracy for run in cell.runs] for key, cell in section.cells.items()}


# --- numbers ---------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 100), min_size=1, max_size=30))
def test_spread_is_numpys_mean_and_population_std(values):
    found = spread(values)
    assert found.n == len(values)
    assert_close(found[:2], [np.mean(values), np.std(values)], 1e-9, floor=1)


def test_spread_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no values"):
        spread([])


@given(st.dictionaries(st.sampled_from("ABC"), st.one_of(st.integers(), st.lists(st.integers()))))
def test_flatten_forgets_only_the_difference_of_list_and_tuple(tree):
    as_tuples = {key: tuple(value) if isinstance(value, list) else value for key, value in tree.items()}
    assert flatten({"N": tree}) == flatten({"N": as_tuples})
    assert set(flatten({"N": tree})) == {f"N.{key}" for key in tree}


# --- a whole sweep ---------------------------------------------------------------------------------------


def test_sweep_becomes_one_section(tmp_path):
    summary = summarise(find_runs(write_sweep(tmp_path, shots=(1, 4), seeds=(1, 2, 3))))
    (section,) = summary.sections
    assert (section.title, section.methods) == ("Demo", ["ZeroshotCLIP", "CoOp", "PLOT N=4"])
    assert section.shots == [ZERO_SHOT, 1, 4]
    assert summary.whole and summary.missing == 0
    records = [make_record("PLOT", 4, seed)["accuracy"] for seed in (1, 2, 3)]
    accuracy = section.cell("PLOT N=4", 4).accuracy
    np.testing.assert_allclose(accuracy[:2], [np.mean(records), np.std(records)])
    assert section.cell("ZeroshotCLIP", ZERO_SHOT).accuracy.n == 1
    assert section.cell("ZeroshotCLIP", 4) is None  # one run is valid at every number of shots
    assert section.cell("PLOT N=4", ZERO_SHOT) is None


def test_missing_seed_is_counted_not_averaged_over(tmp_path, capsys):
    write_sweep(tmp_path, shots=(1, 4))
    (tmp_path / "demo/CoOp/demo_4shots/nctx16_cscFalse_ctpend/seed2/result.json").unlink()
    (section,) = summarise(find_runs(tmp_path)).sections
    cell = section.cell("CoOp", 4)
    assert (len(cell.runs), cell.expected, cell.missing) == (2, 3, 1)
    assert main(["table", str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert "(2/3)" in out and "missing: 1 of 13 runs" in err
    assert main(["table", str(tmp_path), "--allow-missing"]) == 0


def test_cell_without_any_run_is_shown_as_missing(tmp_path, capsys):
    write_sweep(tmp_path, shots=(1, 4))
    for path in tmp_path.glob("demo/CoOp/demo_4shots/**/result.json"):
        path.unlink()
    assert main(["table", str(tmp_path)]) == 1
    assert "– (0/3)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (json.dumps(make_record("CoOp", 1, 1))[:300], "cannot be read"),
        ("", "cannot be read"),
        ("[]", "holds no record"),
        (json.dumps(make_record("CoOp", 1, 1, complete=False)), "not complete"),
        (json.dumps(make_record("CoOp", 1, 1, accuracy=None)), "no valid 'accuracy'"),
        (json.dumps(make_record("CoOp", 1, 1, accuracy=float("nan"))), "no valid 'accuracy'"),
        (json.dumps(make_record("CoOp", 1, 1) | {"config": ["OPTIM.LR", 0.002]}), "no valid 'config'"),
        (json.dumps(make_record("CoOp", 1, 1, per_class="torn")), "no valid 'per_class'"),
        (json.dumps(make_record("CoOp", 1, 1, schema=7)), "schema 7"),
    ],
)
def test_damaged_record_is_named_and_taken_as_incomplete(tmp_path, capsys, content, complaint):
    write_sweep(tmp_path, shots=(1,))
    broken = tmp_path / "demo/CoOp/demo_1shots/nctx16_cscFalse_ctpend/seed1/result.json"
    broken.write_text(content)
    assert main(["table", str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert "(2/3)" in out
    assert str(broken.parent) in err and complaint in err


def test_unfinished_run_is_placed_by_its_config(tmp_path):
    write_sweep(tmp_path, shots=(1,), seeds=(1, 2))
    folder = tmp_path / "new"
    folder.mkdir()
    (folder / "config.yaml").write_text(json.dumps(make_record("PLOT", 1, 3)["config"]))
    run = read_run(folder)
    assert (run.trainer, run.dataset, run.shots, run.seed, run.complete) == ("PLOT", "Demo", 1, 3, False)
    (section,) = summarise(find_runs(tmp_path)).sections
    assert section.cell("PLOT N=4", 1).missing == 1  # seed 3 was begun, so it is expected of all
    assert section.cell("CoOp", 1).missing == 1


def test_log_alone_is_an_incomplete_run(tmp_path):
    (tmp_path / "crashed").mkdir()
    (tmp_path / "crashed/log.txt").write_text("Loading trainer: PLOT\n")
    (run,) = find_runs(tmp_path)
    assert run.problem == "no result.json: not finished"
    assert main(["table", str(tmp_path)]) == 2


@pytest.mark.parametrize("bad", ["absent", "file", "empty"])
def test_unusable_output_folder(tmp_path, capsys, bad):
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    assert main(["table", str(tmp_path / bad)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and str(tmp_path / bad) in error


def test_evaluation_of_the_same_run_does_not_count_twice(tmp_path):
    write_run(tmp_path / "train", make_record("PLOT", 4, 1))
    write_run(tmp_path / "eval", make_record("PLOT", 4, 1, mode="eval", accuracy=1.0, finished="2031"))
    assert accuracies(tmp_path)["PLOT N=4", 4] == [make_record("PLOT", 4, 1)["accuracy"]]
    assert [run.folder.name for run in summarise(find_runs(tmp_path)).repeated] == ["eval"]


def test_of_two_trainings_the_newer_counts(tmp_path):
    write_run(tmp_path / "a", make_record("PLOT", 4, 1, accuracy=10.0, finished="2031-02-01"))
    write_run(tmp_path / "b", make_record("PLOT", 4, 1, accuracy=20.0, finished="2031-01-01"))
    assert accuracies(tmp_path)["PLOT N=4", 4] == [10.0]


def test_unseeded_runs_are_repetitions(tmp_path):
    for name, accuracy in (("a", 10.0), ("b", 20.0)):
        write_run(tmp_path / name, make_record("PLOT", 4, -1, accuracy=accuracy))
    assert sorted(accuracies(tmp_path)["PLOT N=4", 4]) == [10.0, 20.0]
    assert summarise(find_runs(tmp_path)).whole


def test_base_and_new_classes_and_full_data_are_apart(tmp_path):
    write_run(tmp_path / "base", make_record("PLOT", 16, 1, subsample_classes="base"))
    write_run(tmp_path / "new", make_record("PLOT", 16, 1, subsample_classes="new", mode="eval"))
    write_run(tmp_path / "all", make_record("PLOT", -1, 1, accuracy=90.0))
    sections = summarise(find_runs(tmp_path)).sections
    assert [one.title for one in sections] == ["Demo", "Demo, base classes", "Demo, new classes"]
    assert sections[0].cell("PLOT N=4", ALL_IMAGES).accuracy.mean == 90.0


# --- names of methods ------------------------------------------------------------------------------------


def names(tmp_path: Path, *records: dict) -> dict[str, int]:
    for index, record in enumerate(records):
        write_run(tmp_path / str(index), record)
    return {name: len(runs) for name, runs in name_methods(find_runs(tmp_path)).items()}


def test_variants_are_named_by_what_differs(tmp_path):
    assert names(
        tmp_path,
        make_record("PLOT", 1, 1),
        make_record("PLOT", 1, 1, config={"TRAINER.PLOT.MATCHING": "uniform"}),
        make_record("PLOT", 1, 1, config={"TRAINER.PLOT.N": 16}),
        make_record("CoOp", 1, 1),
    ) == {"CoOp": 1, "PLOT N=4 MATCHING=ot": 1, "PLOT N=4 MATCHING=uniform": 1, "PLOT N=16 MATCHING=ot": 1}


def test_settings_of_other_trainers_paths_and_seeds_make_no_variant(tmp_path):
    changes = ({"TRAINER.PLOT.N": 2}, {"DATASET.ROOT": "elsewhere"}, {"OUTPUT_DIR": "x"}, {"SEED": 9})
    records = [make_record("CoOp", 1, seed, config=config) for seed, config in enumerate(changes, 1)]
    assert names(tmp_path, *records) == {"CoOp": 4}


def test_schedule_by_shots_is_one_method(tmp_path):
    assert names(tmp_path, make_record("CoOp", 1, 1), make_record("CoOp", 16, 1)) == {"CoOp": 2}


def test_own_pictures_of_two_roots_are_two_data_sets(tmp_path):
    for root, accuracy in (("a/photos", 10.0), ("b/photos/", 20.0), ("birds", 30.0)):
        settings = {"DATASET.ROOT": root, "DATASET.FOLDER.PATH": "", "DATASET.FOLDER.CSV": ""}
        write_run(tmp_path / root, make_record("PLOT", 4, 1, dataset="Folder", accuracy=accuracy, config=settings))
    summary = summarise(find_runs(tmp_path))
    assert {section.title: section.cells["PLOT N=4", 4].accuracy.mean for section in summary.sections} == {
        "Folder (a/photos)": 10,
        "Folder (b/photos)": 20,
        "Folder (birds)": 30,
    }
    assert not summary.repeated


def test_two_schedules_for_the_same_run_are_two_methods(tmp_path):
    assert names(tmp_path, make_record("CoOp", 1, 1), make_record("CoOp", 1, 1, config={"OPTIM.MAX_EPOCH": 200})) == {
        "CoOp OPTIM.MAX_EPOCH=50": 1,
        "CoOp OPTIM.MAX_EPOCH=200": 1,
    }


def test_training_settings_do_not_split_methods_without_training(tmp_path):
    assert names(
        tmp_path,
        make_record("ZeroshotCLIP", -1, -1),
        make_record("ZeroshotCLIP", -1, -1, config={"OPTIM.LR": 1.0}),
        make_record("ZeroshotCLIP", -1, -1, config={"MODEL.BACKBONE.NAME": "RN50"}),
    ) == {"ZeroshotCLIP demo-rn": 2, "ZeroshotCLIP RN50": 1}


def test_key_that_older_records_lack_makes_no_variant(tmp_path):
    new = make_record("CoOp", 1, 2, config={"TRAINER.COOP.NEW_KEY": 5})
    assert names(tmp_path, make_record("CoOp", 1, 1), new) == {"CoOp": 2}


# --- several data sets -----------------------------------------------------------------------------------


def two_data_sets(output: Path) -> Path:
    write_sweep(output / "a", shots=(1, 4))
    write_sweep(output / "b", shots=(1, 4), dataset="EuroSAT", accuracy=50.0)
    return output


def test_average_over_data_sets(tmp_path):
    summary = summarise(find_runs(two_data_sets(tmp_path)))
    cells = averages(summary.sections)[0].cells
    demo = summary.sections[0].cell("PLOT N=4", 4).accuracy.mean
    assert cells["PLOT N=4", 4].mean == pytest.approx((demo + 50) / 2)
    assert "Average over 2 data sets" in format_table(summary)


def test_average_that_lacks_runs_says_so(tmp_path):
    two_data_sets(tmp_path)
    for path in (tmp_path / "b").glob("demo/CoOp/demo_1shots/**/seed[12]/result.json"):
        path.unlink()
    table = format_table(summarise(find_runs(tmp_path)))
    assert "(lacks 2 runs)" in table.split("Average over")[1]


# --- formats ---------------------------------------------------------------------------------------------


def test_text_table(tmp_path):
    table = format_table(summarise(find_runs(write_sweep(tmp_path, shots=(1, 2)))))
    accuracy = [make_record("CoOp", 2, seed)["accuracy"] for seed in (1, 2, 3)]
    assert "population standard deviation" in table
    assert f"{np.mean(accuracy):.2f} ± {np.std(accuracy):.2f} (3)" in table
    head = next(line for line in table.splitlines() if line.startswith("method"))
    assert head.split() == ["method", "0", "shots", "1", "shot", "2", "shots"]


def test_one_run_has_no_deviation(tmp_path):
    write_run(tmp_path, make_record("CoOp", 1, 1, accuracy=50.0))
    table = format_table(summarise(find_runs(tmp_path)))
    assert "50.00 (1)" in table and "± 0.00" not in table


def test_markdown_and_latex_are_well_formed(tmp_path):
    summary = summarise(find_runs(write_sweep(tmp_path, shots=(1, 2), dataset="A_B")))
    rows = [line for line in format_table(summary, "markdown").splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {5}
    latex = format_table(summary, "latex")
    assert r"$\pm$" in latex and "±" not in latex
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 1
    assert {line.count("&") for line in latex.splitlines() if line.endswith(r"\\")} == {3}


def test_markdown_keeps_phrases_with_bars_in_their_cell(tmp_path):
    for number, phrases in enumerate(("a photo of|a drawing of", "")):
        write_run(tmp_path / str(number), make_record("PLOT", 4, 1, config={"TRAINER.PLOT.CTX_INIT": phrases}))
    table = format_table(summarise(find_runs(tmp_path)), "markdown")
    rows = [line for line in table.splitlines() if line.startswith("|")]
    assert {row.replace(r"\|", "").count("|") for row in rows} == {3}
    assert r"CTX_INIT=a photo of\|a drawing of" in table
    assert r"of\textbar{}a" in format_table(summarise(find_runs(tmp_path)), "latex")


def test_csv_keeps_full_precision(tmp_path):
    summary = summarise(find_runs(write_sweep(tmp_path, shots=(1,))))
    rows = {row["method"]: row for row in csv.DictReader(io.StringIO(format_table(summary, "csv")))}
    accuracy = [make_record("PLOT", 1, seed)["accuracy"] for seed in (1, 2, 3)]
    assert float(rows["PLOT N=4"]["mean"]) == pytest.approx(np.mean(accuracy), rel=1e-15)
    assert (rows["PLOT N=4"]["shots"], rows["PLOT N=4"]["seeds"], rows["ZeroshotCLIP"]["shots"]) == ("1", "3", "0")


def test_csv_is_nothing_that_a_spreadsheet_computes(tmp_path):
    write_run(tmp_path, make_record("PLOT", 1, 1) | {"dataset": '=HYPERLINK("http://x")', "accuracy": 3.25})
    (row,) = csv.DictReader(io.StringIO(format_table(summarise(find_runs(tmp_path)), "csv")))
    assert row["dataset"] == '\'=HYPERLINK("http://x")' and row["mean"] == "3.25"
    assert csv_line("+1", "-x", " @a", "a=b", -1.5, -2, None, "\t=1", "") == "'+1,'-x,' @a,a=b,-1.5,-2,,\\t=1,\n"


def test_wide_characters_stand_in_columns(tmp_path):
    for name in ("猫と犬", "Café"):
        write_run(tmp_path / name, make_record("PLOT", 1, 1) | {"trainer": name})
    lines = [line for line in format_table(summarise(find_runs(tmp_path))).splitlines() if "(1)" in line]
    assert len(lines) == 2 and len({wcswidth(line) for line in lines}) == 1


@pytest.mark.parametrize("style", FORMATS)
def test_every_format_goes_to_a_file(tmp_path, style):
    write_sweep(tmp_path / "out", shots=(1,))
    target = tmp_path / "deep" / "table.txt"
    assert main(["table", str(tmp_path / "out"), "--format", style, "--out", str(target)]) == 0
    assert "PLOT N=4" in target.read_text()


# --- the command and its files ---------------------------------------------------------------------------


def test_table_starts_without_torch(tmp_path):
    write_sweep(tmp_path, shots=(1,))
    code = (
        "import sys; from results.__main__ import main; "
        f"main(['table', {str(tmp_path)!r}]); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


@pytest.mark.parametrize("program", ["results", "predict"])
def test_help_starts_without_torch_and_figures(program):
    """So that it comes within a second."""
    code = f"import sys, atexit; from {program}.__main__ import main; "
    code += "atexit.register(lambda: print({'torch', 'matplotlib', 'jinja2'} & set(sys.modules))); main(['--help'])"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage") and done.stdout.splitlines()[-1] == "set()"


@pytest.mark.parametrize("command", [command.name for command in COMMANDS])
def test_help_has_examples_and_exit_status(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0 and f"python -m results {command}" in text and "exit status" in text


def test_console_without_unicode_still_gets_a_table(tmp_path):
    write_sweep(tmp_path, shots=(1,))
    done = subprocess.run(
        [sys.executable, "-m", "results", "table", str(tmp_path)],
        cwd=REPO,
        capture_output=True,
        env={"PYTHONIOENCODING": "ascii", "PATH": ""},
    )
    assert done.returncode == 0 and b"PLOT N=4" in done.stdout


def test_links_and_pipes_stay_what_they_are(tmp_path):
    (tmp_path / "link").symlink_to("table.txt")
    for text in ("old", "new"):
        write_text(tmp_path / "link", text)
        assert (tmp_path / "link").is_symlink() and (tmp_path / "table.txt").read_text() == text
    os.mkfifo(tmp_path / "pipe")
    heard = []
    reader = threading.Thread(target=lambda: heard.append((tmp_path / "pipe").read_text()), daemon=True)
    reader.start()
    write_text(tmp_path / "pipe", "text")
    reader.join(10)
    assert heard == ["text"] and (tmp_path / "pipe").is_fifo()


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = write_text(tmp_path / "table.txt", "old")

    def half(file):
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    with pytest.raises(ResultsError, match="No space left on device"):
        write_atomic(target, half)
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_no_bad_command_line(tmp_path, capsys):
    write_run(tmp_path / "run", make_record("CoOp", 1, 1))
    assert main(["table", str(tmp_path), "--out", "/dev/full"]) == 1
    assert "cannot write /dev/full: No space left on device" in capsys.readouterr().err
    assert main(["table", str(tmp_path), "--out", str(tmp_path / "run/result.json/table.md")]) == 2
