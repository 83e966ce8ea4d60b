"""The tables of the protocols, on made trees with known answers."""

from __future__ import annotations

import csv
import io
import json
import re
import statistics
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from results.__main__ import main
from results.numbers.protocols.grid import Grid, arrange, harmonic_mean
from results.numbers.protocols.logs import LogOptions, deviation
from results.numbers.protocols.published import PUBLISHED
from results.numbers.protocols.trees import DATASETS, DOMAINS, PROTOCOLS, find_results
from results.tables.protocols import format_grid
from runs.files import ResultsError
from tests.support.closeness import assert_close
from tests.support.golden_data import GOLDEN

COCOOP = "vit_b16_c4_ep10_batch1_ctxv1"
CONTEXT = "nctx16_cscFalse_ctpend"
percent = st.floats(0, 100)


def write_log(folder: Path, accuracy: float | None, evaluation: bool = False, name: str = "log.txt") -> Path:
    """The log of a finished training or evaluation; without `accuracy` one that stops on the way."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["Loading trainer: X"] if evaluation else ["=> result", "* accuracy: 1.0%"]  # a validation before the end
    if accuracy is not None:
        lines += [] if evaluation else ["Finish training"]
        lines += ["Evaluate on the *test* set", "=> result", f"* accuracy: {accuracy}%"]
    (folder / name).write_text("\n".join(lines) + "\n")
    return folder


def write_record(folder: Path, accuracy: float, **fields) -> Path:
    """A complete result.json."""
    folder.mkdir(parents=True, exist_ok=True)
    record = {"schema": 1, "complete": True, "trainer": "CoOp", "dataset": "DTD", "shots": 16, "seed": 1}
    record |= {"split": "test", "subsample_classes": "all", "accuracy": accuracy, "config": {}} | fields
    (folder / "result.json").write_text(json.dumps(record))
    return folder


def grid_of(output: Path, name: str, **options) -> Grid:
    return arrange(find_results(output, PROTOCOLS[name]), PROTOCOLS[name], **options)


# --- few-shot --------------------------------------------------------------------------------------------

VALUES = {("caltech101", 1): (80.0, 82.0, 87.0), ("caltech101", 16): (91.81, 92.01, 92.17)}
VALUES |= {("dtd", 1): (40.0, 41.0, 45.0), ("dtd", 16): (60.0, 61.0, 65.0)}


@pytest.fixture
def few_shot(tmp_path) -> Path:
    """Two data sets, 1 and 16 shots: CoOp with the published schedule by shots, PLOT, and zero-shot on both."""
    for (dataset, shots), values in VALUES.items():
        config = {1: "rn50_ep50", 16: "rn50"}[shots]
        for seed, value in enumerate(values, start=1):
            write_log(tmp_path / f"{dataset}/CoOp/{config}_{shots}shots/{CONTEXT}/seed{seed}", value)
            write_log(tmp_path / f"OP_N4/{dataset}/PLOT/rn50_{shots}shots/{CONTEXT}/seed{seed}", value + 1)
    for dataset, value in (("caltech101", 85.0), ("dtd", 43.0)):
        write_log(tmp_path / f"ZeroshotCLIP/rn50/{dataset}", value, evaluation=True)
    return tmp_path


def test_few_shot_numbers(few_shot):
    grid = grid_of(few_shot, "fewshot")
    assert grid.methods == ["ZeroshotCLIP rn50", "CoOp rn50", "PLOT N=4 rn50"]  # the schedule is no method
    assert (grid.datasets, grid.shots, grid.seeds, grid.missing) == (["caltech101", "dtd"], [0, 1, 16], [1, 2, 3], 0)
    for (dataset, shots), values in VALUES.items():
        cell = grid.cell("CoOp rn50", dataset, "", shots)
        assert cell.mean == pytest.approx(np.mean(values))
        assert cell.accuracy.deviation == pytest.approx(np.std(values))
        ci = 1.96 * np.std(values) / np.sqrt(3)
        accuracies = list(cell.by_seed.values())
        assert deviation(accuracies, LogOptions(ci95=True)) == pytest.approx(ci)
        assert deviation(accuracies, LogOptions(sample_std=True)) == pytest.approx(np.std(values, ddof=1))
    assert grid.cell("ZeroshotCLIP rn50", "dtd", "", 0).mean == 43.0
    assert grid.cell("ZeroshotCLIP rn50", "dtd", "", 1) is None and grid.cell("CoOp rn50", "dtd", "", 0) is None
    average = grid.average("PLOT N=4 rn50", "", 1)
    assert average.mean == pytest.approx((84 + 43) / 2) and average.whole


def test_few_shot_text(few_shot, capsys):
    assert main(["fewshot", str(few_shot)]) == 0
    out, err = capsys.readouterr()
    assert err == "" and "population standard deviation over seeds 1, 2, 3" in out
    assert "92.00 ± 0.15" in out and "Average of 2 data sets (the protocol has 11)" in out
    assert main(["fewshot", str(few_shot), "--ci95"]) == 0
    assert "95% interval" in capsys.readouterr().out


def test_published_figures_stand_beside_ours(few_shot, capsys):
    assert main(["fewshot", str(few_shot), "--published"]) == 0
    out = capsys.readouterr().out
    rows = {line.split("  ")[0]: line for line in out.splitlines()[::-1] if "(published)  " in line}
    assert "94.34" in rows["PLOT++ ViT-B/16 (published)"] and "96.04" in rows["PLOT++ ViT-B/16 (published)"]
    assert rows["CoOp RN50 (published)"].endswith("92.00 ± 0.15")
    assert "README" in out and "91.81, 92.01, 92.17" in out
    assert f"{(94.34 + 54.57) / 2:.2f}"[:4] in out.rpartition("Average")[2]
    assert main(["fewshot", str(few_shot)]) == 0
    assert "published" not in capsys.readouterr().out


def figures_of(protocol: str) -> dict[str, dict]:
    """{method: its figures}"""
    return {one.name.removesuffix(" (published)"): one.accuracy for one in PUBLISHED if one.protocol == protocol}


def test_published_few_shot_tables_are_whole():
    plotpp, coop, gallop = figures_of("fewshot").values()
    assert set(plotpp) == set(DATASETS)
    assert all(list(row) == [("", shots) for shots in (1, 2, 4, 8, 16)] for row in plotpp.values())
    seeds = (91.81, 92.01, 92.17)
    assert coop["caltech101"]["", 16] == (round(np.mean(seeds), 2), round(float(np.std(seeds)), 2))
    assert set(gallop) == set(DATASETS)
    assert f"{statistics.fmean(row['', 16][0] for row in gallop.values()):.1f}" == "84.4"  # as printed
    assert "GalLoP ViT-B/16 (published, proportional draw)" in {figures.name for figures in PUBLISHED}


def mean_of(figures: dict, names, part: str = "") -> str:
    return f"{statistics.fmean(figures[name][part, 0][0] for name in names):.2f}"


PRINTED = {  # the averages (base, new, harmonic mean) and every harmonic mean, in the order of DATASETS, of the paper
    "CLIP ViT-B/16": ("69.34 74.22 71.70", "70.22 95.40 94.12 68.65 74.83 90.66 31.09 72.23 56.37 60.03 73.85"),
    "CoOp ViT-B/16": ("82.69 63.22 71.66", "71.92 93.73 94.47 68.13 74.06 85.19 28.75 72.51 54.24 68.69 67.46"),
    "CoCoOp ViT-B/16": ("80.47 71.69 75.83", "73.10 95.84 96.43 72.01 81.71 90.99 27.74 78.27 64.85 71.21 77.64"),
}


@pytest.mark.parametrize("method", PRINTED)
def test_published_base_to_new_gives_its_own_averages_and_harmonic_means(method):
    figures, (averages, harmonic) = figures_of("base2new")[method], PRINTED[method]
    assert list(figures) == list(DATASETS)
    base, new = (mean_of(figures, DATASETS, part) for part in ("base", "new"))
    assert f"{base} {new} {harmonic_mean(float(base), float(new)):.2f}" == averages
    pairs = [[figures[name][part, 0][0] for part in ("base", "new")] for name in DATASETS]
    assert " ".join(f"{harmonic_mean(*pair):.2f}" for pair in pairs) == harmonic


def test_published_transfers_give_their_own_averages():
    targets = [name for name in DATASETS if name != "imagenet"]
    found = {method: mean_of(figures, targets) for method, figures in figures_of("crossdataset").items()}
    assert found == {"CoOp ViT-B/16": "63.88", "CoCoOp ViT-B/16": "65.74"}
    found = {method: mean_of(figures, DOMAINS) for method, figures in figures_of("domain").items()}
    assert found == {"CLIP ViT-B/16": "57.18", "CoOp ViT-B/16": "59.28", "CoCoOp ViT-B/16": "59.91"}
    assert figures_of("domain")["CoOp ViT-B/16"]["imagenet"] == figures_of("crossdataset")["CoOp ViT-B/16"]["imagenet"]


def test_missing_seeds_are_counted_and_change_the_status(few_shot, capsys):
    (few_shot / f"dtd/CoOp/rn50_16shots/{CONTEXT}/seed2/log.txt").unlink()
    for path in few_shot.glob("OP_N4/dtd/PLOT/rn50_1shots/**/log.txt"):
        write_log(path.parent, None)
    assert main(["fewshot", str(few_shot)]) == 1
    out, err = capsys.readouterr()
    for text in ("62.50 ± 2.50 (2 of 3)", "– (0 of 3)", "lacks 1 run)", "(1 of 2 data sets)"):
        assert text in out
    assert "missing: 4 of 26 runs" in err and err.count("incomplete: ") == 4
    assert main(["fewshot", str(few_shot), "--allow-missing"]) == 0


def test_a_seed_that_no_one_ran_is_missing_too(few_shot, capsys):
    for path in few_shot.glob("**/seed3/log.txt"):
        path.unlink()
        path.parent.rmdir()
    assert main(["fewshot", str(few_shot)]) == 1
    assert "(2 of 3)" in capsys.readouterr().out
    assert main(["fewshot", str(few_shot), "--seeds", "1-2"]) == 0


def test_the_whole_protocol_can_be_asked_for(few_shot):
    grid = grid_of(few_shot, "fewshot", datasets=list(DATASETS), shots=[1, 2, 4, 8, 16])
    assert grid.missing == 2 * (11 * 5 * 3 - 4 * 3) + 9  # CoOp and PLOT, and zero-shot on nine data sets
    assert "Average of 11 data sets\n" in format_grid(grid)


def test_two_schedules_in_one_place_are_two_methods(few_shot):
    write_log(few_shot / f"dtd/CoOp/rn50_ep50_16shots/{CONTEXT}/seed1", 1.0)
    grid = grid_of(few_shot, "fewshot")
    assert {"CoOp rn50", "CoOp rn50_ep50"} < set(grid.methods)
    assert grid.cell("CoOp rn50", "dtd", "", 16).mean == pytest.approx(62)


def test_second_run_of_one_place_is_named_not_averaged(few_shot, capsys):
    write_log(few_shot / f"zz/dtd/CoOp/rn50_16shots/{CONTEXT}/seed1", 1.0)
    assert main(["fewshot", str(few_shot)]) == 0
    out, err = capsys.readouterr()
    assert "62.00 ± 2.16" in out and "not counted" in err and "/zz/" in err


# --- what is read ----------------------------------------------------------------------------------------


def test_record_before_log_and_newest_log_before_older(tmp_path):
    run = tmp_path / f"dtd/CoOp/rn50_16shots/{CONTEXT}"
    write_record(write_log(run / "seed1", 10.0), 70.123456)
    write_log(write_log(run / "seed2", 10.0), 71.0, name="log.txt-2030-01-02-03-04-05")
    write_log(run / "seed2", None, name="log.txt-2030-01-03-00-00-00")  # begun later, crashed
    cell = grid_of(tmp_path, "fewshot").cell("CoOp rn50", "dtd", "", 16)
    assert cell.by_seed == {1: 70.123456, 2: 71.0} and cell.missing == 1


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"complete": False}, "not complete"),
        ({"seed": 3}, "of seed 3"),
        ({"subsample_classes": "base"}, "of classes 'base'"),
        ({"split": "val"}, "of split 'val'"),
    ],
)
def test_record_that_does_not_belong_there_does_not_count(tmp_path, fields, complaint):
    write_log(write_record(tmp_path / f"dtd/CoOp/rn50_16shots/{CONTEXT}/seed1", 70.0, **fields), 70.0)
    (result,) = find_results(tmp_path, PROTOCOLS["fewshot"])
    assert result.accuracy is None and complaint in result.problem


def test_nothing_to_read(tmp_path, capsys):
    for name in PROTOCOLS:
        with pytest.raises(ResultsError, match="holds no run"):
            find_results(tmp_path, PROTOCOLS[name])
        assert main([name, str(tmp_path / "absent")]) == 2
    assert "is no folder" in capsys.readouterr().err


def test_real_logs_of_the_original(tmp_path):
    logs = GOLDEN / "e2e/logs"
    places = {"train_base": "plot_base.log.txt", "test_new": "plot_new.log.txt"}
    for part, log in places.items():
        folder = tmp_path / f"base2new/{part}/caltech101/shots_16/PLOT/rn50/seed1"
        folder.mkdir(parents=True)
        (folder / "log.txt").write_bytes((logs / log).read_bytes())
    grid = grid_of(tmp_path, "base2new", seeds=[1])
    assert grid.missing == 0
    for part, log in zip(("base", "new"), places.values(), strict=True):
        last = [line for line in (logs / log).read_text().splitlines() if line.startswith("* accuracy: ")][-1]
        assert grid.cell("PLOT rn50", "caltech101", part).mean == float(last.split()[2].rstrip("%"))


# --- base to new -----------------------------------------------------------------------------------------


def test_harmonic_mean_of_known_values():
    assert harmonic_mean(80, 60) == pytest.approx(68.5714286) and harmonic_mean(0, 0) == harmonic_mean(50, 0) == 0


@given(percent, percent)
def test_harmonic_mean_is_the_standard_librarys(base, new):
    found = harmonic_mean(base, new)
    assert_close(found, statistics.harmonic_mean([base, new]), 1e-9, floor=1)
    assert found == harmonic_mean(new, base)
    assert min(base, new) - 1e-9 <= found <= (base + new) / 2 + 1e-9


HALVES = {"dtd": ((70.0, 80.0, 90.0), (60.0, 50.0, 40.0)), "eurosat": ((90.0, 90.0, 90.0), (60.0, 60.0, 60.0))}


@pytest.fixture
def base_to_new(tmp_path) -> Path:
    for dataset, (base, new) in HALVES.items():
        run = f"{dataset}/shots_16/CoCoOp/{COCOOP}"
        for seed, values in enumerate(zip(base, new, strict=True), start=1):
            for half, value in zip(("train_base", "test_new"), values, strict=True):
                classes = half.partition("_")[2]
                folder = tmp_path / f"base2new/{half}/{run}/seed{seed}"
                write_record(folder, value, seed=seed, trainer="CoCoOp", subsample_classes=classes)
    return tmp_path


def test_base_to_new_numbers(base_to_new):
    grid = grid_of(base_to_new, "base2new")
    (method,) = grid.methods
    assert method == f"CoCoOp {COCOOP}"
    assert grid.harmonic(method, "dtd") == pytest.approx(2 * 80 * 50 / 130)
    by_seed = np.mean([2 * b * n / (b + n) for b, n in zip(*HALVES["dtd"], strict=True)])
    assert grid.harmonic_by_seed(method, "dtd") == pytest.approx(by_seed)
    average = grid.average_harmonic(method)
    assert average.mean == pytest.approx(2 * 85 * 55 / 140)  # of the averages, not the average of harmonic means
    assert grid.average(method, "base").mean == 85 and grid.average(method, "new").mean == 55


def blocks_of(text: str) -> dict[str, dict[str, str]]:
    """{title: {first cell of a row: the row}}"""
    blocks = [block.splitlines() for block in text.split("\n\n") if "\n---" in block]
    return {title: {row.split("  ")[0]: row for row in rows} for title, _, _, *rows in blocks}


def test_base_to_new_text(base_to_new, capsys):
    assert main(["base2new", str(base_to_new)]) == 0
    out = capsys.readouterr().out
    blocks = blocks_of(out)
    assert list(blocks) == ["Average of 2 data sets (the protocol has 11)", "DTD", "EuroSAT"]
    (dtd,) = blocks["DTD"].values()
    assert dtd.split("  ")[-1].strip() != "61.54" and "61.54" in dtd and "80.00 ± 8.16" in dtd
    assert "H over seeds" in out  # differs, so both are shown
    (average,) = next(iter(blocks.values())).values()
    assert average.split()[-3:] == ["85.00", "55.00", "66.79"]
    eurosat = base_to_new / "base2new"
    for half in ("train_base", "test_new"):
        for path in eurosat.glob(f"{half}/dtd/**/result.json"):
            path.unlink()
    assert main(["base2new", str(eurosat), "--datasets", "eurosat"]) == 0
    assert "H over seeds" not in capsys.readouterr().out


def test_missing_halves(base_to_new, capsys):
    for seed in (1, 2, 3):
        folder = base_to_new / f"base2new/test_new/dtd/shots_16/CoCoOp/{COCOOP}/seed{seed}"
        (folder / "result.json").unlink()
    assert main(["base2new", str(base_to_new)]) == 1
    out, err = capsys.readouterr()
    (dtd,) = blocks_of(out)["DTD"].values()
    assert dtd.count("– (0 of 3)") == 2 and "80.00 ± 8.16" in dtd
    assert "missing: 3 of 12 runs" in err
    (average,) = next(iter(blocks_of(out).values())).values()
    # base of two data sets; new, and so H, of EuroSAT alone
    assert re.split(r"\s{2,}", average)[1:] == ["85.00", "60.00 (1 of 2 data sets)", "72.00 (1 of 2 data sets)"]


def test_published_halves_stand_beside_ours(base_to_new, capsys):
    assert main(["base2new", str(base_to_new), "--published"]) == 0
    out = capsys.readouterr().out
    blocks = blocks_of(out)
    assert blocks["DTD"]["CoOp ViT-B/16 (published)"].split()[-3:] == ["79.44", "41.18", "54.24"]
    average = next(iter(blocks.values()))["CLIP ViT-B/16 (published)"]  # of the two data sets of ours
    assert average.split()[-3:-1] == [f"{(53.24 + 56.48) / 2:.2f}", f"{(59.90 + 64.05) / 2:.2f}"]
    assert "CVPR 2022, Table 2" in out


@given(st.lists(st.tuples(percent, percent), min_size=1, max_size=3))
def test_harmonic_mean_of_averages_lies_above_the_mean_over_seeds(pairs):
    """The harmonic mean is concave, so the mean of it over seeds can only be lower."""
    means = harmonic_mean(statistics.fmean(b for b, _ in pairs), statistics.fmean(n for _, n in pairs))
    assert statistics.fmean(harmonic_mean(*pair) for pair in pairs) <= means + 1e-9


# --- cross-data-set and domain shift ---------------------------------------------------------------------


@pytest.fixture
def transfer(tmp_path) -> Path:
    """CoOp, whose folders name the context, and CoCoOp, whose do not; a few-shot sweep on the source besides."""
    for seed in (1, 2, 3):
        write_log(tmp_path / f"imagenet/CoOp/rn50_ep50_16shots/{CONTEXT}/seed{seed}", 60.0 + seed)
        write_log(tmp_path / f"imagenet/CoCoOp/{COCOOP}_16shots/seed{seed}", 70.0 + seed)
        write_log(tmp_path / f"OP_N4/imagenet/PLOT/rn50_1shots/{CONTEXT}/seed{seed}", 1.0)
        for i, name in enumerate(["caltech101", "dtd", *DOMAINS]):
            coop = tmp_path / f"evaluation/CoOp/rn50_ep50_16shots/{CONTEXT}/{name}/seed{seed}"
            write_log(coop, 10.0 * i + seed, evaluation=True)
            cocoop = tmp_path / f"evaluation/CoCoOp/{COCOOP}_16shots/{name}/seed{seed}"
            write_record(cocoop, 10.0 * i + seed + 5, seed=seed, trainer="CoCoOp", shots=-1)
    return tmp_path


@pytest.mark.parametrize(
    ("protocol", "targets", "average"), [("crossdataset", ["caltech101", "dtd"], 7.0), ("domain", list(DOMAINS), 37.0)]
)
def test_transfer_numbers(transfer, protocol, targets, average):
    grid = grid_of(transfer, protocol)
    assert grid.methods == [f"CoCoOp {COCOOP}", "CoOp rn50_ep50"]
    assert grid.datasets == ["imagenet", *targets] and grid.averaged == targets and grid.missing == 0
    assert grid.cell("CoOp rn50_ep50", "imagenet").mean == 62
    assert grid.average("CoOp rn50_ep50").mean == pytest.approx(average)
    assert grid.average(f"CoCoOp {COCOOP}").mean == pytest.approx(average + 5)


def test_transfer_text(transfer, capsys):
    assert main(["domain", str(transfer)]) == 0
    out = capsys.readouterr().out
    assert "ImageNet (source)" in out and "average of 4 data sets " in out and "the protocol has" not in out
    assert main(["crossdataset", str(transfer), "--datasets", "protocol"]) == 1
    out, err = capsys.readouterr()
    assert "average of 10 data sets " in out and "missing: 48 of 66 runs" in err


def test_published_transfers_stand_beside_ours(transfer, capsys):
    assert main(["domain", str(transfer), "--published"]) == 0
    rows = {line.split("  ")[0]: line.split() for line in capsys.readouterr().out.splitlines()}
    assert rows["ImageNet-Sketch"][-3:] == ["46.15", "47.99", "48.75"]
    assert rows["average of 4 data sets"][-3:] == ["57.18", "59.28", "59.91"]


def test_training_of_a_transfer_is_no_few_shot_method(few_shot, transfer):
    grid = grid_of(few_shot, "fewshot")
    assert grid.methods == ["ZeroshotCLIP rn50", "CoOp rn50", "PLOT N=4 rn50"]
    assert grid.cell("CoOp rn50", "imagenet", "", 16).mean == 62  # CoOp's is of its sweep, too


# --- formats ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", ["markdown", "latex"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_formats(few_shot, base_to_new, transfer, capsys, protocol, style):
    assert main([protocol, str(few_shot), "--format", style, "--allow-missing"]) == 0
    out = capsys.readouterr().out
    if style == "latex":
        assert "±" not in out and "–" not in out and out.count(r"\begin{tabular}") == out.count(r"\end{tabular}") > 0
    else:
        assert "|:--" in out and "**" in out


def test_csv_holds_full_precision(few_shot, base_to_new, capsys):
    assert main(["fewshot", str(few_shot), "--format", "csv", "--published"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    (row,) = (r for r in rows if (r["dataset"], r["method"], r["shots"]) == ("caltech101", "CoOp rn50", "16"))
    assert float(row["mean"]) == statistics.fmean(VALUES["caltech101", 16]) and row["seeds"] == "3"
    assert {r["source"] for r in rows} == {"ours", *(one.source for one in PUBLISHED if one.protocol == "fewshot")}
    assert main(["base2new", str(base_to_new), "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    (row,) = (r for r in rows if (r["dataset"], r["part"]) == ("average", "H"))
    assert float(row["mean"]) == pytest.approx(2 * 85 * 55 / 140) and row["missing_runs"] == "0"


def test_table_to_a_file(few_shot, tmp_path, capsys):
    assert main(["fewshot", str(few_shot), "--out", str(tmp_path / "t.txt")]) == 0
    assert "CoOp rn50" in (tmp_path / "t.txt").read_text() and capsys.readouterr().out == ""
