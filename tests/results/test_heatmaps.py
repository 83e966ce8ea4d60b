"""Heat maps: the numbers behind the pictures, and pictures that are really drawn."""

from __future__ import annotations

import xml.etree.ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from results.figures import heatmaps, sheet
from results.figures.style import drawing, save_figure
from results.numbers import plans
from results.numbers.plans import Explained, Scale, ShownClass
from tests.support.closeness import assert_close

# --- numbers -----------------------------------------------------------------------------------------


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
    maps = plans.prompt_maps(one_cell_plan(grid, cells), grid)
    assert maps.shape == (len(cells), *grid)
    for own, (row, column) in zip(maps, cells, strict=True):
        assert own[row, column] == own.sum() == pytest.approx(1 / len(cells))


@given(st.integers(1, 8), st.integers(1, 8), st.integers(1, 40), st.integers(1, 40), st.integers(0, 99))
def test_upsampling_keeps_range_and_place(height, width, up, across, seed):
    values = np.random.default_rng(seed).random((height, width))
    large = plans.upsample(values, (height * up, width * across))
    assert large.shape == (height * up, width * across)
    assert values.min() - 1e-12 <= large.min() and large.max() <= values.max() + 1e-12
    if up % 2 and across % 2:  # then a pixel lies exactly at the centre of each cell
        np.testing.assert_allclose(large[up // 2 :: up, across // 2 :: across], values)


def test_upsampled_peak_lies_in_its_cell():
    values = plans.prompt_maps(one_cell_plan((7, 7), [(1, 5)]), (7, 7))[0]
    row, column = np.unravel_index(plans.upsample(values, (224, 224)).argmax(), (224, 224))
    assert (row // 32, column // 32) == (1, 5)


def test_distances_at_the_ends():
    uniform = np.full((49, 4), 1 / 196)
    assert plans.plan_distance(uniform) == pytest.approx(0)
    assert_close(plans.distances(uniform), 0, 1e-12, floor=1)
    np.testing.assert_allclose(plans.relative(uniform), 1)
    single = one_cell_plan((7, 7), [(0, 0), (1, 1), (2, 2), (3, 3)])
    assert plans.plan_distance(single) == pytest.approx(1 - 4 / 196)
    np.testing.assert_allclose(plans.distances(single), 1 - 1 / 49)


@given(st.integers(0, 999))
def test_distance_of_plan_is_mean_of_its_maps_when_every_prompt_has_its_due(seed):
    plan = np.random.default_rng(seed).random((9, 4))
    plan /= 4 * plan.sum(axis=0)
    assert plans.plan_distance(plan) == pytest.approx(plans.distances(plan).mean())


def test_scale_does_not_exaggerate_and_does_not_run_away():
    nearly = np.full((4, 2), 1 / 8) * np.array([[1.001], [0.999], [1.0], [1.0]])
    assert Scale.over(plans.relative(nearly)) == (plans.LEAST_RANGE, False)
    single = plans.relative(one_cell_plan((2, 2), [(0, 0), (1, 1)]))
    assert Scale.over(single) == (plans.MOST_RANGE, True)
    assert Scale.over(plans.relative(nearly), single) == (plans.MOST_RANGE, True)  # one scale for both


def test_scale_may_leave_out_outliers():
    ratio = np.array([4.0] + 9 * [2.0])
    assert Scale.over(ratio) == (2.0, False)
    assert Scale.over(ratio, share=0.9) == (1.0, True)
    np.testing.assert_allclose(Scale(1.0, True).place(np.array([0.0, 0.25, 1.0, 2.0, 4.0])), [-1, -1, 0, 1, 1])


def test_uniform_plan_leaves_no_colour():
    picture = np.random.default_rng(0).random((8, 8, 3))
    tinted = sheet.tint(picture, np.zeros((8, 8)), 1.0)
    assert_close(np.ptp(tinted, axis=2), 0, 1e-12, floor=1)
    more, less = sheet.tint(picture, np.ones((8, 8)), 1.0), sheet.tint(picture, -np.ones((8, 8)), 1.0)
    assert (more[..., 0] > more[..., 2]).all() and (less[..., 2] > less[..., 1]).all()  # orange, purple


def test_grid_that_does_not_fit():
    with pytest.raises(ValueError, match="7 x 6 cells does not hold 49"):
        plans.prompt_maps(np.zeros((49, 4)), (7, 6))


# --- pictures ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("grid", "prompts", "label"), [((7, 7), 4, 2), ((14, 14), 1, None), ((3, 5), 9, 0), ((1, 1), 2, 1)]
)
def test_figure_is_drawn_for_any_grid(tmp_path, grid, prompts, label):
    figure = heatmaps.draw(made_up(grid, prompts, label))
    texts = words_of(figure)
    assert ("(true class)" in texts) == (label is not None)
    assert texts.count("from uniform") == (prompts + 1) * (1 if label in (None, 0) else 2)
    assert all(f"prompt {n + 1}\n" in texts for n in range(prompts))
    assert "taken for: cat a" in texts and "costs $5" in texts
    assert ("truly: a class with quite" in texts) == (label == 2)
    assert f"1/({grid[0] * grid[1]}·{prompts})" in figure.axes[-1].get_ylabel()
    path = save_figure(figure, tmp_path / "map.png", dpi=50)
    assert Image.open(path).width > 200


def made_up(grid: tuple[int, int] | None, prompts: int, label: int | None, features: int = 4) -> Explained:
    """An image that was taken for class 0."""
    rng = np.random.default_rng(1)
    plans = rng.random((2, grid[0] * grid[1] if grid else features, prompts))
    plans /= prompts * plans.sum(axis=1, keepdims=True)
    names = ["cat_a", "costs $5", "a class with quite a long name, which does not fit", "d\x01\udcff"]
    labels = [0] if label in (None, 0) else [0, label]
    shown = tuple(ShownClass(one, plan, plan) for one, plan in zip(labels, plans, strict=False))
    return Explained(np.full((48, 48, 3), 0.5), grid, np.array([3.0, 1, 0, -1]), names, shown, label, "a\x02 & <b>.png")


def words_of(figure) -> str:
    return "".join(f"{text.get_text()}\n" for one in (figure, *figure.axes) for text in one.texts)


@pytest.mark.parametrize("prompts", [1, 16])
def test_plan_without_places_is_a_matrix(prompts):
    explained = made_up(None, prompts, 1, features=3)
    figure = heatmaps.draw(explained)
    texts = words_of(figure)
    assert "visual 3" in texts and "visual 4" not in texts and f"text {prompts}" in texts
    for one in explained.shown:
        for ratio in plans.relative(one.plan).ravel():
            assert f"{ratio:.2f}×" in texts


@pytest.mark.parametrize("grid", [(7, 7), None])
def test_svg_is_valid_whatever_the_names(tmp_path, grid):
    with drawing():
        path = save_figure(heatmaps.draw(made_up(grid, 4, 3)), tmp_path / "map.svg")
    root = xml.etree.ElementTree.parse(path).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "a? & <b>.png" in [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize(("row", "column"), [(0, 2), (1, 0), (1, 2)])
def test_mass_is_painted_where_it_is(tmp_path, row, column):
    """One prompt has its mass in one cell of 2 x 3, the other the rest: look at the pixels."""
    grid = (2, 3)
    plan = one_cell_plan(grid, [(row, column)] * 2)
    plan[:, 1] = (1 / 6 - plan[:, 0] / 3) / 2
    shown = (ShownClass(0, plan, plan),)
    explained = Explained(np.full((60, 90, 3), 0.5), grid, np.zeros(2), ["a", "b"], shown)
    with drawing():
        figure = heatmaps.draw(explained)
        path = save_figure(figure, tmp_path / "map.png", dpi=100)
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(float)
    height, width = pixels.shape[:2]
    ratio = width / height
    panels = [axes.get_position() for axes in figure.axes]
    maps = [one for one in panels if one.x0 > panels[0].x1 and abs(ratio * one.width / one.height - 1.5) < 0.01]
    assert len(maps) == 4  # two prompts, smooth and by cells
    for one in maps[:2]:  # of prompt 1
        inside = pixels[round((1 - one.y1) * height) : round((1 - one.y0) * height),
                        round(one.x0 * width) : round(one.x1 * width)]
        orange = inside[..., 0] - inside[..., 2]
        y, x = np.argwhere(orange > 0.6 * orange.max()).mean(axis=0)
        assert (int(y * 2 / len(inside)), int(x * 3 / len(inside[0]))) == (row, column)


def test_prompt_without_mass_is_called_so():
    plan = one_cell_plan((2, 2), [(0, 0), (1, 1)])
    plan[:, 0], plan[3, 1] = 0, 1
    title = heatmaps.map_title
    assert "no mass" in title(plan, 0) and "100% of mass" in title(plan, 1)


# --- what is left out ---------------------------------------------------------------------------------


def test_what_is_left_out_fades_and_has_a_map():
    """The right half of a picture is left out: it turns lighter in every map, and is hatched in one of its own."""
    plan = np.zeros((6, 2))
    plan[[0, 1, 3, 4]] = 1 / 8
    left_out = np.array([0.0, 0, 1, 0, 0, 1])  # of 2 x 3 places
    explained = Explained(
        np.full((60, 90, 3), 0.5), (2, 3), np.zeros(2), ["a", "b"], (ShownClass(0, plan, plan, left_out),)
    )
    figure = heatmaps.draw(explained)
    texts = words_of(figure)
    assert "left out: 33%" in texts and "from uniform; 33% left out" in texts
    original, first, second, own = (axes.images[0].get_array() for axes in figure.axes if axes.images)
    assert_close(original, 0.5)
    for shown in (first, second, own):
        assert shown[:, -10:].mean() > 0.9 > 0.6 > shown[:, :30].mean()
    hatched = [c for axes in figure.axes for c in axes.collections if c.get_hatch()]
    assert len(hatched) == 1 and np.ma.count(hatched[0].get_array()) == 2
    without = heatmaps.draw(explained._replace(shown=(ShownClass(0, plan, plan),)))
    assert "left out" not in words_of(without) and len(without.axes) == len(figure.axes) - 2
    heatmaps.draw(explained._replace(shown=(ShownClass(0, plan, plan, 0 * left_out),)))  # nothing to hatch


def test_a_plan_without_places_says_what_is_left_out_of_each_row():
    plan = np.full((3, 2), 1 / 6)
    shown = (ShownClass(0, plan, plan, np.array([0.25, 0.5, 1.0])),)
    texts = words_of(heatmaps.draw(made_up(None, 2, 0, features=3)._replace(shown=shown)))
    assert all(f"visual {m}\n{left} left out" in texts for m, left in ((1, "25%"), (2, "50%"), (3, "100%")))
