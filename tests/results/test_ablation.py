"""One run under every matching: the own setting is the recorded result, the others are runs of their own settings."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import train
from results.__main__ import main
from results.figures.ablation import ablation_figure
from results.figures.style import drawing
from results.inspection.ablation import choose_settings, measure
from results.numbers.ablation import Ablation, Row, read_ablation
from results.tables.ablation import HEADS, conclusions, format_ablation
from runs.files import ResultsError
from runs.restore.rebuilding import load_trainer
from tests.support.closeness import assert_close
from tests.support.programs import arguments, make_world
from tests.support.records import make_record, write_run
from trainers.plot.matchings import MATCHINGS
from trainers.plot.transport import Transport


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def runs(world):
    """{name: folder}: PLOT under each matching, on test batches of several sizes, and PLOT++."""
    options = ["TRAINER.PLOT.N", "3", "DATALOADER.TEST.BATCH_SIZE", "20", "OPTIM.MAX_EPOCH", "2"]
    for matching in MATCHINGS:
        train.run(arguments(world, world / matching, *options, "TRAINER.PLOT.MATCHING", matching))
    options = ["TRAINER.PLOTPP.EPS", "0.07", "OPTIM.MAX_EPOCH", "1"]
    train.run(arguments(world, world / "PLOTPP", *options, trainer="PLOTPP"))
    return {name: world / name for name in (*MATCHINGS, "PLOTPP")}


FEW = ["--try", "rho=0.1,0.3", "share=0.4"]
STRENGTHS = {"epsilon": (0.05, 0.1), "rho": (0.1,), "share": (0.4,)}


def record(folder: Path, name: str = "result.json") -> dict:
    return json.loads((folder / name).read_text())


# --- what is measured ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*MATCHINGS, "PLOTPP"])
def test_the_own_setting_is_the_recorded_result(runs, name, capsys, tmp_path):
    assert main(["ablate", str(runs[name]), "--out", str(tmp_path), "--eps", "0.03", "0.1", "2", *FEW]) == 0
    assert "warning" not in capsys.readouterr().err
    result, found = record(runs[name]), record(runs[name], "ablation.json")
    (own,) = [row for row in found["settings"] if row["own"]]
    assert own["accuracy"] == result["accuracy"] and own["correct"] == result["correct"]
    assert own["matching"] == result["transport"]["matching"] and (own["only_own"], own["only_this"]) == (0, 0)
    for key, value in own["transport"].items():
        whole = 1.0 if key.startswith("left_out") else 0.0  # a share that is left is the whole less a sum
        assert_close(value, result["transport"][key], 1e-5, floor=whole)
    assert own["strengths"] == {key: result["transport"][key] for key in MATCHINGS[own["matching"]].settings}
    tried = {"ot": (0.03, 0.1, 2.0), "unbalanced": (0.1, 0.3), "partial": (0.4,)}
    expected = {(name, value) for name in MATCHINGS for value in tried.get(name, (None,))}
    settings = [(row["matching"], next(iter(row["strengths"].values()), None)) for row in found["settings"]]
    mine = (own["matching"], next(iter(own["strengths"].values()), None))
    assert set(settings) == expected | {mine} and len(set(settings)) == len(settings)
    for row in found["settings"]:
        assert ("left_out" in row["transport"]) == MATCHINGS[row["matching"]].leaves_mass
    for row in found["settings"]:
        assert row["correct"] - own["correct"] == row["only_this"] - row["only_own"]
    assert Image.open(tmp_path / "ablation.png").width > 600 and (tmp_path / "ablation.svg").exists()
    (runs[name] / "ablation.json").unlink()


@pytest.mark.parametrize("name", ["ot", "global", "PLOTPP"])
def test_every_row_is_a_test_of_its_own(runs, name):
    """As if the run had been told another matching and tested again, one after the other."""
    trainer = load_trainer(runs[name])
    own = trainer.model.transport
    settings = choose_settings(own, STRENGTHS, ())
    seen: dict[Transport, list] = {one: [] for one in settings}
    explain = trainer.model.explain

    def watched(*args, **kwargs):
        output = explain(*args, **kwargs)
        seen[trainer.model.transport].append(output.logits)
        return output

    trainer.model.explain = watched
    rows, total = measure(trainer, settings, "test")
    assert total == 48 and trainer.model.transport == own
    together = {one: torch.cat(logits) for one, logits in seen.items()}
    for setting, row in zip(settings, rows, strict=True):
        trainer.model.transport = setting
        seen[setting].clear()
        accuracy = trainer.test()
        assert row.correct == trainer.last_test["correct"] and row.correct / total * 100 == pytest.approx(accuracy)
        alone = torch.cat(seen[setting])
        if not setting.pooled or name == "PLOTPP":  # else the tower rounds otherwise where it gives places, too
            assert torch.equal(alone, together[setting])
        assert_close(alone, together[setting], 1e-4)


def test_images_pass_once_and_prompts_once(runs):
    trainer = load_trainer(runs["ot"])
    calls, prompts = {"batches": 0, "prompts": 0}, trainer.model.encode_prompts
    tower = trainer.model.image_encoder
    dense = tower.forward_dense

    def count(what, function, *arguments):
        calls[what] += 1
        return function(*arguments)

    trainer.model.encode_prompts = lambda: count("prompts", prompts)
    settings = choose_settings(trainer.model.transport, STRENGTHS, ())
    assert len(settings) == 7
    tower.forward_dense = lambda *arguments: count("batches", dense, *arguments)
    try:
        measure(trainer, settings, "test")  # the run's own test has kept the features
        assert calls == {"batches": 0, "prompts": 1}
        trainer.frozen_tower = lambda: None  # as where features are not kept
        measure(trainer, settings, "test")
    finally:
        del tower.forward_dense
    assert calls == {"batches": 3, "prompts": 2}


def test_settings_are_each_there_once_in_order():
    own = Transport(epsilon=0.3, max_iterations=7)
    settings = choose_settings(own, {"epsilon": (0.5, 0.1, 0.3), "rho": (0.2,), "share": (0.9, 0.4)}, ())
    assert settings == [replace(own, epsilon=eps) for eps in (0.1, 0.3, 0.5)] + [
        replace(own, matching="unbalanced", rho=0.2),
        *(replace(own, matching="partial", share=share) for share in (0.4, 0.9)),
        *(replace(own, matching=name) for name in ("uniform", "max", "global")),
    ]
    assert choose_settings(own, {"epsilon": (0.5,)}, ("max",)) == [own, replace(own, matching="max")]
    nearest = replace(own, matching="max", rho=0.07)
    assert choose_settings(nearest, {"epsilon": (0.5,)}, ("ot",)) == [
        replace(nearest, matching="ot", epsilon=0.5), nearest
    ]  # fmt: skip
    rhos = {setting.rho for setting in choose_settings(nearest, {}, ("unbalanced",))}
    assert rhos == {0.07, *MATCHINGS["unbalanced"].tried}  # those that are declared, and the run's own
    gallop = Transport(matching="uniform", top_k=(2, 5), select_by="prompt")
    assert choose_settings(gallop, STRENGTHS, ()) == [gallop]
    with pytest.raises(ResultsError, match="no set that 'partial' could match; choose from uniform"):
        choose_settings(gallop, STRENGTHS, ("uniform", "partial"))


# --- what is said of it ----------------------------------------------------------------------------------


def strengths(epsilon: float | None) -> dict[str, float]:
    return {} if epsilon is None else {"epsilon": epsilon}


def ablation(*rows: tuple[str, float | None, int, int, int], total: int = 500) -> Ablation:
    """Of (matching, epsilon, correct, only own, only here); the first is the run's own."""
    facts = {"distance_from_uniform": 0.1, "distance_from_uniform_predicted": 0.2, "converged_share": 1.0}
    return Ablation(
        Path("run"), "PLOT", "Demo", 16, 1, "test", total,
        [Row(name, strengths(eps), not index, *counts, facts) for index, (name, eps, *counts) in enumerate(rows)],
    )  # fmt: skip


@given(st.integers(0, 12), st.integers(0, 12))
def test_p_counts_the_ways_in_which_images_could_have_fallen(lost, won):
    differ = lost + won
    uneven = abs(won - lost)
    ways = [sum(throws) for throws in product((-1, 1), repeat=min(differ, 10))]
    p = Row("max", {}, False, 0, lost, won, {}).p
    assert p == Row("max", {}, False, 0, won, lost, {}).p and 0 < p <= 1
    if differ <= 10:
        assert p == pytest.approx(min(1.0, sum(abs(one) >= uneven for one in ways) / len(ways)))


def test_p_of_many_images_is_fast_and_finite():
    p = Row("max", {}, False, 0, 9000, 9400, {}).p
    assert p == pytest.approx(math.erfc(399 / math.sqrt(2 * 18400)), rel=0.01)
    assert Row("max", {}, False, 0, 20000, 0, {}).p == 0


def test_words_when_nothing_differs():
    said = " ".join(conclusions(ablation(("ot", 0.1, 400, 0, 0), ("uniform", None, 398, 5, 3), ("ot", 0.2, 401, 1, 2))))
    assert "80.00% of 500 test images are right, with a standard error of 1.79 points" in said
    assert "No difference from it is larger than that standard error; the largest is -0.40 points (uniform)" in said
    assert "none differs from it by more than chance" in said and "TRAINER.PLOT.MATCHING" in said


def test_words_when_something_differs():
    found = ablation(("ot", 0.1, 400, 0, 0), ("max", None, 380, 30, 10), ("uniform", None, 400, 2, 2))
    said = " ".join(conclusions(found))
    assert "The largest difference from it is -4.00 points (max)" in said
    assert "max (30 images lost, 10 won, p = 0.0022) differs" in said
    assert "each of 2 by itself); the others do not." in said
    assert "uniform" not in said and "No difference" not in said
    same = " ".join(conclusions(ablation(("ot", 0.1, 400, 0, 0), ("max", None, 400, 3, 3))))
    assert "Every other setting has the same accuracy" in same
    assert "Every" not in " ".join(conclusions(ablation(("ot", 0.1, 400, 0, 0))))


def test_tables_of_every_format(capsys):
    found = ablation(("ot", 0.1, 400, 0, 0), ("ot", 0.5, 395, 10, 5), ("uniform", None, 398, 5, 3))
    text = format_ablation(found, "text")
    assert "ot *" in text and "79.60" in text and "matching" in text
    assert all(head in format_ablation(found, "markdown") for head in HEADS)
    latex = format_ablation(found, "latex")
    assert latex.count("\\\\") == 4 and all(line.startswith(("%", "\\", " ")) for line in latex.splitlines() if line)
    rows = [line.split(",") for line in format_ablation(found, "csv").splitlines()]
    assert {len(row) for row in rows} == {len(rows[0])} and len(rows) == 4
    assert rows[1][:8] == ["ot", "0.1", "epsilon", "0.1", "1", "80.0", "400", "500"]
    assert rows[3][:4] == ["uniform", "", "", ""]


def test_the_figure_holds_the_numbers():
    found = ablation(("ot", 0.1, 400, 0, 0), ("ot", 0.5, 395, 10, 5), ("uniform", None, 398, 5, 3))
    with drawing():
        top, bottom = ablation_figure(found).axes
    lines = {line.get_label(): line for line in top.lines}
    assert lines["ot"].get_xdata().tolist() == [0.1, 0.5] and lines["ot"].get_ydata().tolist() == [80.0, 79.0]
    assert set(lines["uniform"].get_ydata()) == {79.6} and top.get_xscale() == "log"
    assert bottom.lines[0].get_ydata().tolist() == [0.1, 0.1] and [t.get_text() for t in bottom.get_xticklabels()] == [
        "0.1", "0.5"
    ]  # fmt: skip
    with drawing():
        ablation_figure(ablation(("max", None, 400, 0, 0), ("uniform", None, 400, 0, 0)))  # no epsilon at all


# --- the command and the report --------------------------------------------------------------------------


def test_the_table_is_all_of_stdout(runs, capsys):
    assert main(["ablate", str(runs["ot"]), "--matchings", "uniform", "--format", "csv"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("matching,epsilon,setting,value,own") and len(out.splitlines()) == 3
    assert err.count("written: ") == 3 and (runs["ot"] / "ablation.svg").exists()
    found, finished = read_ablation(runs["ot"] / "ablation.json")
    assert [row.title for row in found.rows] == ["ot, eps 0.1", "uniform"]
    assert finished == record(runs["ot"])["finished"] and found.total == 48


def test_the_report_shows_what_was_ablated(runs, tmp_path, capsys):
    run = runs["uniform"]
    assert main(["ablate", str(run), *FEW]) == 0
    assert main(["report", str(run), "--out", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text()
    assert "Does the transport matter?" in page and "uniform *" in page and "standard error" in page
    assert "earlier result" not in page
    kept = (run / "ablation.json").read_text()
    for text, words in ((kept.replace('"finished": "', '"finished": "0'), "earlier result"), ("{", "cannot be read"),
                        ("[]", "cannot be read"), (kept.replace('"own": true', '"own": false'), "cannot be read")):
        (run / "ablation.json").write_text(text)
        assert main(["report", str(run), "--out", str(tmp_path / "page.html")]) == 0
        assert words in (tmp_path / "page.html").read_text()
    (run / "ablation.json").unlink()
    assert main(["report", str(run), "--out", str(tmp_path / "page.html")]) == 0
    assert "Does the transport matter?" not in (tmp_path / "page.html").read_text()


def test_other_data_than_recorded_are_a_warning(runs, capsys):
    result = record(runs["max"])
    (runs["max"] / "result.json").write_text(json.dumps(result | {"correct": result["correct"] + 1}))
    assert main(["ablate", str(runs["max"]), "--matchings", "max"]) == 0
    (runs["max"] / "result.json").write_text(json.dumps(result))
    assert "warning: under the run's own setting" in capsys.readouterr().err


def refused(capsys, *words: str) -> str:
    assert main(["ablate", *words]) == 2
    return capsys.readouterr().err


def test_bad_input_is_named(runs, world, tmp_path, capsys):
    assert "does not exist" in refused(capsys, str(tmp_path / "no"))
    assert "no matching 'best'; choose from ot, unbalanced, partial, uniform, max, global" in refused(
        capsys, str(runs["ot"]), "--matchings", "best")
    only_max = refused(capsys, str(runs["ot"]), "--eps", "0.1", "--matchings", "max")
    assert "epsilon is varied for the matching ot, which --matchings leaves out" in only_max
    for words, said in (
        ("share=1.5", "share must be above 0 and at most 1, got 1.5"), ("rho=0.1,0", "rho must be above 0"),
        ("rho=x", "--try rho=x: write a setting and its numbers"), ("rho", "--try rho: write a setting"),
        ("size=1", "--try varies no setting 'size'; choose from epsilon, rho, share"),
    ):  # fmt: skip
        assert said in refused(capsys, str(runs["ot"]), "--try", words)
    for value in ("0", "-1", "nan", "inf", "x"):
        with pytest.raises(SystemExit) as stopped:
            main(["ablate", str(runs["ot"]), "--eps", value])
        assert stopped.value.code == 2 and "no positive number" in capsys.readouterr().err
    train.run(arguments(world, tmp_path / "coop", "OPTIM.MAX_EPOCH", "1", trainer="CoOp"))
    assert "is a run of CoOp, which has no transport plan" in refused(capsys, str(tmp_path / "coop"))
    result = (runs["ot"] / "result.json").read_text()
    (runs["ot"] / "result.json").unlink()
    assert "is unfinished" in refused(capsys, str(runs["ot"]))
    (runs["ot"] / "result.json").write_text(result)
    assert "cannot rebuild" in refused(capsys, str(runs["ot"]), "--root", str(tmp_path / "nowhere"))


def test_every_ablation_has_its_own_ids(tmp_path):
    """Several on one page, and more than are shown."""
    found = ablation(("ot", 0.1, 400, 0, 0), ("uniform", None, 398, 5, 3))
    for seed in range(1, 9):
        run = write_run(tmp_path / f"seed{seed}", make_record("PLOT", 16, seed))
        text = json.dumps({"schema": 2, "finished": record(run)["finished"], **found.as_json()})
        (run / "ablation.json").write_text(text)
    assert main(["report", str(tmp_path)]) == 0
    page = (tmp_path / "report.html").read_text()
    assert page.count("The same prompts under other matchings") == 6 and "2 more lie beside their runs" in page
    ids = [part.split('"')[0] for part in page.split(' id="')[1:]]
    assert len(ids) == len(set(ids))
