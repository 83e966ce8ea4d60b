"""Curves: the numbers behind the pictures, and pictures that are really drawn."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from PIL import Image

from results.__main__ import main
from results.figures import fonts
from results.figures.ablation import ablation_figure
from results.figures.classes import gains_figure
from results.figures.collapse import describe_prompts, pair_history, prompts_figure
from results.figures.curves import accuracy_figure, accuracy_panels, looks, mean_history, panels, training_figure
from results.figures.style import LOOKS, PAGE_FAINT, PAGE_INK, cut, drawing, inline_svg, save_figure
from results.numbers.ablation import Ablation, Row
from results.numbers.classes import class_gains
from results.numbers.summary import summarise
from runs.record import find_runs
from tests.support.records import make_record, write_run, write_sweep

# --- curves ----------------------------------------------------------------------------------------------


def test_curve_holds_the_means(tmp_path):
    summary = summarise(find_runs(write_sweep(tmp_path, shots=(1, 4, 16))))
    ((title, lines),) = panels(summary)
    assert title == "Demo" and [shots for shots, _, _ in lines["PLOT N=4"]] == [1, 4, 16]
    with drawing():
        (axes,) = accuracy_figure(summary).axes
    drawn = {line.get_label(): line for line in axes.lines}
    means = [np.mean([make_record("PLOT", k, seed)["accuracy"] for seed in (1, 2, 3)]) for k in (1, 4, 16)]
    np.testing.assert_allclose(drawn["PLOT N=4"].get_xdata(), [0, 2, 4])  # log2 of the shots
    np.testing.assert_allclose(drawn["PLOT N=4"].get_ydata(), means)
    np.testing.assert_allclose(drawn["ZeroshotCLIP"].get_xdata(), [-1])  # before 1 shot, labelled 0
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0", "1", "4", "16"]


def test_average_comes_first_with_the_spread_of_the_seeds_averages(tmp_path):
    write_sweep(tmp_path / "a", shots=(1, 4))
    write_sweep(tmp_path / "b", shots=(1, 4), dataset="Pets", accuracy=50.0)
    (title, average), *others = panels(summarise(find_runs(tmp_path)))
    assert title == "Average of 2 data sets" and [name for name, _ in others] == ["Demo", "Pets"]
    own = [make_record("PLOT", 4, seed)["accuracy"] for seed in (1, 2, 3)]
    shots, mean, by_seed = average["PLOT N=4"][1]
    assert shots == 4 and mean == pytest.approx((np.mean(own) + 50) / 2)
    np.testing.assert_allclose(by_seed, [(value + 50) / 2 for value in own])
    (tmp_path / "b/demo/CoOp/demo_4shots/nctx16_cscFalse_ctpend/seed3/result.json").unlink()
    (_, average), *_ = panels(summarise(find_runs(tmp_path)))
    assert average["CoOp"][1][2] == []  # of other seeds than the other data set: nothing to compare


def test_long_names_stay_in_the_figure(tmp_path):
    data = "a data set whose name is longer than such names usually are"
    write_run(tmp_path / "zero", make_record("ZeroshotCLIP", -1, -1, dataset=data))
    for number, matching in enumerate(("uniform", "a matching of a very long name")):
        config = {"TRAINER.PLOT.MATCHING": matching, "TRAINER.PLOT.STOP": "each"}
        write_run(tmp_path / str(number), make_record("PLOT", 4, 1, config=config, dataset=data))
    summary = summarise(find_runs(tmp_path))
    runs = [run for run in summary.complete_runs if run.trained]
    title = f"{summary.methods[-1]}, {data}"
    ablation = Ablation(tmp_path, "PLOTPP", data, 16, 1, "test", 9, [Row("global", {}, True, 5, 0, 0, {})])
    with drawing():
        figures = [
            accuracy_figure(summary),
            *(figure for _, figure in accuracy_panels(summary)),
            training_figure(title, runs),
            prompts_figure(title, runs),
            gains_figure(class_gains(summary)[0], looks(summary)),
            ablation_figure(ablation),
        ]
        for figure in figures:
            figure.draw_without_rendering()
            words = [text for axes in figure.axes for text in (axes._left_title, axes.xaxis.label, axes.yaxis.label)]
            for one in [*words, *figure.legends]:
                box, own = figure.bbox, one.get_window_extent()
                assert box.x0 <= own.x0 and own.x1 <= box.x1 and box.y0 <= own.y0 and own.y1 <= box.y1, one


def test_names_in_any_script_are_drawn(tmp_path, capsys, monkeypatch):
    write_run(tmp_path / "a", make_record("PLOT", 4, 1) | {"trainer": "猫 and Катя", "dataset": "ἄνθρωπος \U000f1234"})
    with drawing():
        figure = accuracy_figure(summarise(find_runs(tmp_path)))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for name in ("one.png", "two.pdf"):
                save_figure(figure, tmp_path / name)
    err = capsys.readouterr().err
    assert err.count("figures: no installed font has") == 1 and "install a font" in err and "\U000f1234" in err
    chosen, lacking = fonts._families(frozenset("猫"))
    if lacking:
        pytest.skip("no Chinese font is installed here")
    (label,) = [text for text in figure.legends[0].get_texts() if "猫" in text.get_text()]
    assert chosen[0] in label.get_fontfamily() and "猫" not in err


def test_a_point_of_one_seed_has_no_band_and_is_marked(tmp_path):
    for shots, seeds in ((1, (1,)), (4, (1, 2)), (16, (1, 2))):
        for seed in seeds:
            write_run(tmp_path / f"{shots}-{seed}", make_record("PLOT", shots, seed))
    with drawing():
        (axes,) = accuracy_figure(summarise(find_runs(tmp_path))).axes
    (band,) = axes.collections
    assert {round(x, 6) for x, _ in band.get_paths()[0].vertices} == {2.0, 4.0}  # log2 of 4 and 16
    hollow = [line for line in axes.lines if line.get_markerfacecolor() == "white" and len(line.get_xdata())]
    assert [line.get_xdata()[0] for line in hollow] == [0.0]
    assert "hollow: 1 seed" in axes.get_legend_handles_labels()[1]


def test_a_dollar_sign_begins_no_formula(tmp_path):
    for number, words in enumerate((r"a $\frac$ of", "a photo of a")):
        write_run(tmp_path / str(number), make_record("PLOT", 4, 1, config={"TRAINER.PLOT.CTX_INIT": words}))
    assert main(["curve", str(tmp_path), "--out", str(tmp_path / "curve.svg")]) == 0
    assert r"CTX_INIT=a $\frac$ of" in (tmp_path / "curve.svg").read_text()
    assert cut("$5", 9) == "$5"


@pytest.mark.parametrize("count", [1, 2, 4, 11])
def test_figure_of_many_data_sets_has_one_legend_and_labels_at_its_edges(tmp_path, count):
    for index in range(count):
        write_sweep(tmp_path / str(index), shots=(1, 4), seeds=(1, 2), dataset=f"set {index}")
    with drawing():
        figure = accuracy_figure(summarise(find_runs(tmp_path)))
        save_figure(figure, tmp_path / "all.png", dpi=40)
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert len(shown) == count + (count > 1) and len(figure.legends) == 1
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["ZeroshotCLIP", "CoOp", "PLOT N=4"]
    across = min(3, len(shown))
    assert [bool(axes.get_ylabel()) for axes in shown] == [index % across == 0 for index in range(len(shown))]
    assert [bool(axes.get_xlabel()) for axes in shown] == [index + across >= len(shown) for index in range(len(shown))]


def test_looks_differ_in_more_than_colour():
    assert len(set(LOOKS)) == len(LOOKS) >= 12
    assert len({look.marker for look in LOOKS[:6]}) == 6


def test_many_methods_find_a_look(tmp_path):
    for n in range(1, 25):
        write_run(tmp_path / str(n), make_record("PLOT", 1, 1, config={"TRAINER.PLOT.N": n}))
    assert len(looks(summarise(find_runs(tmp_path)))) == 24


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_curve_command(tmp_path, suffix):
    write_sweep(tmp_path / "out", shots=(1, 2))
    target = tmp_path / f"picture.{suffix}"
    assert main(["curve", str(tmp_path / "out"), "--out", str(target)]) == 0
    head = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[suffix]
    assert target.read_bytes().startswith(head)
    first = target.read_bytes()
    main(["curve", str(tmp_path / "out"), "--out", str(target)])
    assert target.read_bytes() == first  # the same records, the same bytes


def test_curve_defaults_to_png_and_svg(tmp_path):
    write_sweep(tmp_path, shots=(1,))
    assert main(["curve", str(tmp_path)]) == 0
    assert Image.open(tmp_path / "accuracy.png").width > 600 and (tmp_path / "accuracy.svg").exists()


def test_unknown_picture_format_names_the_known(tmp_path, capsys):
    write_sweep(tmp_path, shots=(1,))
    assert main(["curve", str(tmp_path), "--out", str(tmp_path / "a.gif")]) == 2
    assert ".png, .svg, .pdf" in capsys.readouterr().err


def test_curve_of_one_run_and_of_zero_shot_alone(tmp_path):
    write_run(tmp_path / "a", make_record("ZeroshotCLIP", -1, -1))
    assert main(["curve", str(tmp_path)]) == 0
    write_run(tmp_path / "b", make_record("PLOT", 4, 1))
    assert main(["curve", str(tmp_path)]) == 0


def test_runs_on_all_images_have_no_place_on_the_axis(tmp_path, capsys):
    write_run(tmp_path, make_record("PLOT", -1, 1))
    assert main(["curve", str(tmp_path)]) == 2
    assert "nothing to draw" in capsys.readouterr().err


def test_history_is_averaged_over_the_epochs_that_all_have(tmp_path):
    long = [{"epoch": e, "loss": 1.0 / e, "acc": 50.0} for e in (1, 2, 3)]
    write_run(tmp_path / "1", make_record("CoOp", 1, 1, history=long))
    write_run(tmp_path / "2", make_record("CoOp", 1, 2, history=[{"epoch": 1, "loss": 3.0}, {"epoch": 2, "loss": 0.5}]))
    runs = find_runs(tmp_path)
    epochs, losses = mean_history(runs, "loss")
    assert epochs == [1, 2]
    np.testing.assert_allclose(losses, [2.0, 0.5])
    assert mean_history(runs, "acc") == ([], [])
    with drawing():
        assert training_figure("CoOp", runs) is not None
        assert training_figure("none", []) is None


def test_prompts_are_averaged_pair_by_pair(tmp_path):
    for seed, cosines in ((1, [[0.9, 0.5, 0.1], [0.3, 0.3, 0.3]]), (2, [[0.7, 0.3, 0.5], [0.5, 0.1, 0.3]])):
        history = [{"epoch": 1 + e, "loss": 1.0, "prompt_cosine": pairs} for e, pairs in enumerate(cosines)]
        write_run(tmp_path / str(seed), make_record("PLOT", 4, seed, history=history))
    runs = find_runs(tmp_path)
    first, last = pair_history(runs)
    assert first == (1, pytest.approx(0.5), pytest.approx(0.3), pytest.approx(0.8))
    assert last == (2, pytest.approx(0.3), pytest.approx(0.2), pytest.approx(0.4))
    assert "4 shots: 0.500 (0.300 to 0.800) → 0.300 (0.200 to 0.400)." in describe_prompts("PLOT", runs)
    with drawing():
        (axes,) = prompts_figure("PLOT", runs).axes
        assert axes.lines[0].get_ydata() == pytest.approx([0.5, 0.3]) and len(axes.collections) == 1
        write_run(tmp_path / "coop", make_record("CoOp", 4, 1))
        assert prompts_figure("CoOp", find_runs(tmp_path / "coop")) is None and prompts_figure("none", []) is None


def test_inline_svg_takes_the_pages_colours_and_keeps_ids_apart(tmp_path):
    summary = summarise(find_runs(write_sweep(tmp_path, shots=(1, 2))))
    with drawing(PAGE_INK, PAGE_FAINT):
        figure = accuracy_figure(summary)
        one, two = (inline_svg(figure, name, 'about "it"') for name in ("one", "two"))
    assert "currentColor" in one and PAGE_INK not in one and PAGE_FAINT not in one
    assert 'aria-label="about &quot;it&quot;"' in one and one.startswith("<svg")
    ids = [{part.split('"')[0] for part in svg.split('id="')[1:]} for svg in (one, two)]
    assert ids[0] and not ids[0] & ids[1]
    for svg, own in zip((one, two), ids, strict=True):
        used = {part.split(")")[0] for part in svg.split("url(#")[1:]}
        used |= {part.split('"')[0] for part in svg.split('href="#')[1:]}
        assert used <= own
