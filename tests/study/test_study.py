"""The study of the transport: a design whose runs can all be made, and an analysis that finds what is there."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest

from demo import worlds
from results.numbers.paired import Difference
from runs.files import ResultsError
from runs.predictions import write_predictions
from runs.sweeps.planning import job_of
from study import figures
from study.__main__ import main
from study.analysis import HELPS, HURTS, SAME, UNSEEN, Answer, Question, answers, questions, read_runs
from study.design import DESIGN, METHODS, PHOTOGRAPHS, WORLDS, cells, plans
from tests.support.predictions import predictions_of
from tests.support.records import make_record, write_run

IMAGES, SEEDS = 1200, 10


# ---- the design
@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    """The first run of a cell of every method, and of every world: other cells put these together."""
    output = tmp_path_factory.mktemp("study")
    listed = reversed(cells())  # so that the first cell of each stays
    chosen = {key: cell for cell in listed for key in (cell.world, (cell.world == PHOTOGRAPHS, cell.method))}
    assert set(WORLDS) | {PHOTOGRAPHS} < set(chosen)
    return {cell: job_of(cell.plan(1, output)) for cell in chosen.values()}


def test_every_cell_of_the_design_can_be_run(jobs):
    for cell, job in jobs.items():
        cfg = job.cfg
        if cell.world == PHOTOGRAPHS:
            assert cfg.DATASET.NAME == "Groceries" and cfg.MODEL.BACKBONE.NAME == "photos"
            continue
        options = cfg.TRAINER.PLOT
        assert cfg.DATASET.NAME == "Folder" and WORLDS[cell.world].name == cfg.DATASET.FOLDER.PATH
        assert (cfg.DATASET.NUM_SHOTS, cfg.OPTIM.MAX_EPOCH, cfg.MODEL.BACKBONE.NAME) == (16, 20, "demo-rn")
        assert all(str(getattr(options, key)) == str(value) for key, value in cell.changes.items())


def test_cells_of_a_world_differ_in_what_the_design_says_and_share_no_folder(jobs):
    folders = [job.folder for job in jobs.values()]
    assert len(set(folders)) == len(folders)
    things = [job.cfg.clone() for cell, job in jobs.items() if cell.world == "things"]
    for cfg in things:
        cfg.defrost()
        cfg.OUTPUT_DIR = ""
        for key in ("MATCHING", "TOPK", "EPS", "N"):
            cfg.TRAINER.PLOT[key] = None
    assert len({cfg.dump() for cfg in things}) == 1


def test_the_number_of_runs_is_the_one_that_was_announced():
    listed = list(plans(Path("out")))
    assert len(listed) == sum(cell.seeds for cell in cells()) == 1089
    assert [plan.seed for plan in listed] == sorted((plan.seed for plan in listed), key=int)  # stopped, it is balanced
    assert len(list(plans(Path("out"), seeds=[2]))) == len(cells())


def test_questions_are_about_cells_that_there_are():
    known = {(cell.world, cell.method) for cell in cells()}
    asked = list(questions())
    assert len(set(asked)) == len(asked)
    for question in asked:
        for world in filter(None, (question.world, question.less)):
            assert {(world, question.first), (world, question.second)} <= known, question
    families = [question.family for question in asked]
    assert [families.count(family) for family in dict.fromkeys(families)] == [12, 6, 84, 12, 6]


# ---- the analysis
@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """Runs with known effects: in `clear`, `max` is 4 points above `uniform` and `ot` 3 below; elsewhere, no effect.

    How hard an image is is shared by all methods; seeds and single answers vary by chance.
    """
    output = tmp_path_factory.mktemp("study")
    effects = {("clear", "max"): 4.0, ("clear", "ot"): -3.0}
    for cell in cells():
        if cell.world not in ("things", "clear"):
            continue
        chance = np.random.default_rng([ord(letter) for letter in cell.folder])
        hard = np.random.default_rng(len(cell.world)).random(IMAGES)
        for seed in range(1, SEEDS + 1):
            level = 0.7 + effects.get((cell.world, cell.method), 0.0) / 100 + chance.normal(0, 0.003)
            correct = hard < level
            correct[chance.choice(IMAGES, 24, replace=False)] ^= True
            write(output / "runs" / cell.folder / f"seed{seed}", seed, correct)
    return output


@pytest.fixture(scope="module")
def runs(tree):
    return read_runs(tree)


def write(folder: Path, seed: int, correct: np.ndarray) -> None:
    """Write a run whose test was right as `correct` says."""
    record = make_record("PLOT", 16, seed)
    folder.mkdir(parents=True)
    record["predictions"] = write_predictions(folder, "result.json", predictions_of(correct))
    record["accuracy"] = 100 * float(correct.mean())
    write_run(folder, record)


def test_a_known_effect_is_found_and_none_where_there_is_none(runs):
    replies = {(a.question.name, a.question.first, a.question.second): a for a in answers(runs)}
    helps, hurts = replies["clear", "max", "uniform"], replies["clear", "ot", "uniform"]
    assert (helps.verdict, hurts.verdict) == (HELPS, HURTS)
    assert helps.difference.low < 4 < helps.difference.high and hurts.difference.low < -3 < hurts.difference.high
    assert helps.seeds == SEEDS
    others = [reply for key, reply in replies.items() if reply not in (helps, hurts)]
    assert len(others) > 10 and {reply.verdict for reply in others} <= {SAME, UNSEEN}
    assert all(reply.p_holm >= reply.difference.p for reply in replies.values())


def test_a_contrast_is_the_difference_of_two_gains(runs, monkeypatch):
    monkeypatch.setitem(DESIGN, "contrasts", [["things", "clear"]])
    (contrast,) = (reply for reply in answers(runs) if reply.question.less)
    assert contrast.question.name == "things - clear" and contrast.verdict == HELPS
    assert contrast.difference.low < 3 < contrast.difference.high


@pytest.mark.parametrize(
    ("difference", "error", "p", "verdict"),
    [
        (2, 0.3, 0.01, HELPS),
        (-2, 0.3, 0.01, HURTS),
        (0.3, 0.2, 0.5, SAME),
        (0.3, 0.6, 0.9, UNSEEN),
        (2, 0.9, 0.3, UNSEEN),
    ],
)
def test_verdicts(difference, error, p, verdict):
    answer = Answer(Question("1", "things", "ot", "uniform"), Difference(difference, error, 30.0), 10, p)
    assert answer.verdict == verdict


def test_the_command_writes_tables_and_figures_of_what_is_there(tree, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(figures, "PICTURES", 1)
    assert main(["analyse", "--output", str(tree), "--pages", str(tmp_path / "docs")]) == 0
    shown = capsys.readouterr().out
    assert "160 of 1089 runs are complete" in shown
    assert re.search(r"1 transport +0 +1 +1 +0\n", shown)  # helps, hurts, same, cannot be seen: `clear` hurts
    rows = list(csv.DictReader((tree / "answers.csv").open()))
    assert {(row["world"], row["first"]): row["verdict"] for row in rows}["clear", "max"] == HELPS
    assert "| clear" in (tmp_path / "docs/transport-tables.md").read_text()
    assert sorted(path.name for path in (tmp_path / "docs").iterdir()) == [
        "transport-curves.png", "transport-map.png", "transport-tables.md", "transport-worlds.jpg",
    ]  # fmt: skip


def test_runs_on_different_images_are_not_compared(tmp_path):
    for method in ("ot", "uniform"):
        for seed in (1, 2):
            write(tmp_path / "runs" / "things" / method / f"seed{seed}", seed, np.arange(8 + seed) < 5)
    with pytest.raises(ResultsError, match="'things' were not all tested on the same images"):
        answers(read_runs(tmp_path))


def test_the_commands_say_what_is_missing(tmp_path, capsys):
    assert main(["analyse", "--output", str(tmp_path)]) == 2
    assert "`python -m study run` makes them" in capsys.readouterr().err


def test_dry_run_lists_and_draws_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("study.design.cells", lambda: cells()[: len(METHODS)])
    monkeypatch.setattr(worlds, "write_pictures", None)
    assert main(["run", "--dry-run", "--seeds", "1", "--output", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("to run") == len(METHODS)
    assert not list(tmp_path.iterdir())
