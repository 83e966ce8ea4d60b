"""Curves and heat maps: the numbers behind the pictures, and pictures that are really drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from results import heatmaps
from results.__main__ import main
from results.collapse import describe_prompts, pair_history, prompts_figure
from results.curves import accuracy_figure, looks, mean_history, panels, training_figure
from results.files import ResultsError
from results.heatmaps import Explained
from results.plotting import LOOKS, PAGE_FAINT, PAGE_INK, drawing, inline_svg, save_figure
from results.records import find_runs
from results.summary import summarise
from results.transport import choose_items
from tests.records_support import make_record, write_run, write_sweep

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


# --- numbers of a heat map -------------------------------------------------------------------------------


def one_cell_plan(grid: tuple[int, int], cells: list[tuple[int, int]]) -> np.ndarray:
    """Prompt n holds all its mass 1/N in cells[n]."""
    plan = np.zeros((grid[0] * grid[1], len(cells)))
    for prompt, (row, column) in enumerate(cells):
        plan[row * grid[1] + column, prompt] = 1 / len(cells)
    return plan


@given(st.data())
def test_mass_stands_in_its_cell(data):
    grid = data.draw(st.tuples(st.integers(1, 15), st.integers(1, 15)))
    cells = data.draw(
        st.lists(st.tuples(st.integers(0, grid[0] - 1), st.integers(0, grid[1] - 1)), min_size=1, max_size=4)
    )
    maps = heatmaps.prompt_maps(one_cell_plan(grid, cells), grid)
    assert maps.shape == (len(cells), *grid)
    for own, (row, column) in zip(maps, cells, strict=True):
        assert own[row, column] == own.sum() == pytest.approx(1 / len(cells))


@given(st.integers(1, 8), st.integers(1, 8), st.integers(1, 40), st.integers(1, 40), st.integers(0, 99))
def test_upsampling_keeps_range_and_place(height, width, up, across, seed):
    values = np.random.default_rng(seed).random((height, width))
    large = heatmaps.upsample(values, (height * up, width * across))
    assert large.shape == (height * up, width * across)
    assert values.min() - 1e-12 <= large.min() and large.max() <= values.max() + 1e-12
    if up % 2 and across % 2:  # then a pixel lies exactly at the centre of each cell
        np.testing.assert_allclose(large[up // 2 :: up, across // 2 :: across], values)


def test_upsampled_peak_lies_in_its_cell():
    values = heatmaps.prompt_maps(one_cell_plan((7, 7), [(1, 5)]), (7, 7))[0]
    row, column = np.unravel_index(heatmaps.upsample(values, (224, 224)).argmax(), (224, 224))
    assert (row // 32, column // 32) == (1, 5)


def test_distances_at_the_ends():
    uniform = np.full((49, 4), 1 / 196)
    assert heatmaps.plan_distance(uniform) == pytest.approx(0)
    np.testing.assert_allclose(heatmaps.distances(uniform), 0, atol=1e-12)
    np.testing.assert_allclose(heatmaps.relative(uniform), 1)
    single = one_cell_plan((7, 7), [(0, 0), (1, 1), (2, 2), (3, 3)])
    assert heatmaps.plan_distance(single) == pytest.approx(1 - 4 / 196)
    np.testing.assert_allclose(heatmaps.distances(single), 1 - 1 / 49)


@given(st.integers(0, 999))
def test_distance_of_plan_is_mean_of_its_maps_when_every_prompt_has_its_due(seed):
    plan = np.random.default_rng(seed).random((9, 4))
    plan /= 4 * plan.sum(axis=0)
    assert heatmaps.plan_distance(plan) == pytest.approx(heatmaps.distances(plan).mean())


def test_scale_does_not_exaggerate_and_does_not_run_away():
    nearly = np.full((4, 2), 1 / 8) * np.array([[1.001], [0.999], [1.0], [1.0]])
    assert heatmaps.color_range(nearly) == (heatmaps.LEAST_RANGE, False)
    assert heatmaps.color_range(one_cell_plan((2, 2), [(0, 0), (1, 1)])) == (heatmaps.MOST_RANGE, True)


def test_uniform_plan_leaves_no_colour():
    picture = np.random.default_rng(0).random((8, 8, 3))
    tinted = heatmaps.tint(picture, np.zeros((8, 8)), 1.0)
    assert np.ptp(tinted, axis=2).max() < 1e-12
    more, less = heatmaps.tint(picture, np.ones((8, 8)), 1.0), heatmaps.tint(picture, -np.ones((8, 8)), 1.0)
    assert (more[..., 0] > more[..., 2]).all() and (less[..., 2] > less[..., 1]).all()  # orange, purple


def test_grid_that_does_not_fit():
    with pytest.raises(ValueError, match="7 x 6 cells does not hold 49"):
        heatmaps.prompt_maps(np.zeros((49, 4)), (7, 6))


# --- pictures of a heat map ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("grid", "prompts", "label"), [((7, 7), 4, 2), ((14, 14), 1, None), ((3, 5), 9, 0), ((1, 1), 2, 1)]
)
def test_figure_is_drawn_for_any_grid(tmp_path, grid, prompts, label):
    plan = np.random.default_rng(1).random((grid[0] * grid[1], prompts))
    plan /= plan.sum()
    names = ["cat_a", "costs $5", "a class with quite a long name, which does not fit", "d"]
    explained = Explained(np.full((48, 48, 3), 0.5), plan, grid, np.array([3.0, 1, 0, -1]), names, label, "a.png")
    with drawing():
        figure = heatmaps.draw(explained)
        path = save_figure(figure, tmp_path / "map.png", dpi=50)
    texts = " ".join(text.get_text() for axes in figure.axes for text in axes.texts + [axes.title])
    assert ("(true class)" in texts) == (label is not None)
    assert all(f"prompt {n + 1}" in texts for n in range(prompts))
    assert "taken for: cat a" in " ".join(axes.get_title(loc="left") for axes in figure.axes)
    assert f"1/({grid[0] * grid[1]}·{prompts})" in figure.axes[-1].get_ylabel()
    assert Image.open(path).width > 200


def test_prompt_without_mass_is_called_so():
    plan = one_cell_plan((2, 2), [(0, 0), (1, 1)])
    plan[:, 0], plan[3, 1] = 0, 1
    assert "no mass" in heatmaps.map_title(plan, 0) and "100% of mass" in heatmaps.map_title(plan, 1)


# --- the command, as far as it goes without a model ------------------------------------------------------


class Item:
    def __init__(self, label: int, impath: str) -> None:
        self.label, self.impath = label, impath


def test_images_are_chosen_evenly_over_the_classes():
    test = [Item(label, f"{label}_{index}.jpg") for index in range(3) for label in reversed(range(8))]
    assert [item.label for item in choose_items(test, 4)] == [0, 2, 4, 6]
    assert [item.label for item in choose_items(test, 10)] == [*range(8), 0, 1]
    assert len(choose_items(test, 99)) == 24 and choose_items([], 3) == []
    with pytest.raises(ResultsError, match="at least 1"):
        choose_items(test, 0)


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        (None, "holds no config.yaml"),
        ("TRAINER: {NAME: CoOp}", "is a run of CoOp, which has no transport plan"),
        ("TRAINER: {NAME: PLOT}", "holds no checkpoint"),
        ("TRAINER: [", "cannot be read"),
    ],
)
def test_unfit_run_is_refused_at_once(tmp_path, capsys, config, complaint):
    if config:
        (tmp_path / "config.yaml").write_text(config)
    assert main(["transport", str(tmp_path)]) == 2
    assert complaint in capsys.readouterr().err


def test_absent_run_and_absent_image(tmp_path, capsys):
    assert main(["transport", str(tmp_path / "no")]) == 2
    assert "does not exist" in capsys.readouterr().err
    (tmp_path / "config.yaml").write_text("TRAINER: {NAME: PLOT}")
    (tmp_path / "prompt_learner").mkdir()
    Path(tmp_path, "prompt_learner/model.pth.tar-1").touch()
    assert main(["transport", str(tmp_path), "--images", "nothere.jpg"]) == 2
    assert "no such image: nothere.jpg" in capsys.readouterr().err
