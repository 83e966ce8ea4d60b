"""The figures of the study: what the worlds look like, a map of where which matching helps, and curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw

from dassl.plain.writing import atomic_write
from demo.canvas import SIZE
from demo.worlds import world_scene
from results.figures.style import LOOKS, Look, drawing, new_figure, save_figure

from .analysis import HELPS, HURTS, SAME, SELECTED, UNSEEN, Answer
from .design import DESIGN, METHODS, REFERENCE, WORLDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

COLOURS = {HELPS: "#7fb8e0", HURTS: "#eda26b", SAME: "#e3e6ea", UNSEEN: "#ffffff"}
COLUMNS = [(method, REFERENCE) for method in METHODS if method != REFERENCE] + [SELECTED]  # of the map
PICTURES = 5  # of every world


def draw_all(replies: Sequence[Answer], folder: Path) -> list[Path]:
    """Draw every figure for which there are answers; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "transport-worlds.jpg"
    with atomic_write(path, "wb") as file:
        world_sheet().save(file, "JPEG", quality=88)
    with drawing():
        return [
            path,
            save_figure(map_figure(replies), folder / "transport-map.png", dpi=110),
            save_figure(curves_figure(replies), folder / "transport-curves.png", dpi=110),
        ]


def world_sheet() -> Image.Image:
    """Show the same PICTURES pictures of every world at half their size: a world a row, in two columns of rows."""
    side, rows = SIZE // 2, (len(WORLDS) + 1) // 2
    width = (PICTURES + 1) * side  # the first place has the name
    sheet = Image.new("RGB", (2 * width, rows * side), "white")
    draw = ImageDraw.Draw(sheet)
    for index, (name, world) in enumerate(WORLDS.items()):
        left, top = index // rows * width, index % rows * side
        draw.text((left + 4, top + side // 2 - 6), name, fill="black")
        for number in range(PICTURES):
            picture = world_scene(2 * number, f"sheet/{number}", world).image
            sheet.paste(picture.resize((side, side), Image.Resampling.BOX), (left + (number + 1) * side, top))
    return sheet


def map_figure(replies: Sequence[Answer]) -> Figure:
    """Draw worlds by matchings: the colour is the verdict; below the difference, the smallest visible one."""
    from matplotlib.patches import Patch

    by_place = {
        (reply.question.world, reply.question.first, reply.question.second): reply
        for reply in replies if not reply.question.less
    }  # fmt: skip
    figure = new_figure(9.6, 0.46 * len(WORLDS) + 1.5)
    axes = figure.subplots()
    for y, world in enumerate(WORLDS):
        for x, (first, second) in enumerate(COLUMNS):
            if reply := by_place.get((world, first, second)):
                axes.add_patch(_square(x, y, COLOURS[reply.verdict]))
                gap = reply.difference
                matters = abs(gap.difference) >= DESIGN["matters"] and reply.verdict in (HELPS, HURTS)
                axes.text(x, y - 0.16, f"{gap.difference:+.1f}", ha="center", va="center",
                    weight="bold" if matters else "normal")  # fmt: skip
                axes.text(x, y + 0.24, f"{gap.visible:.1f}", ha="center", va="center", size=7, alpha=0.7)
    names = [f"{first}\n- {second}" if second == REFERENCE else "best 4:\not - uniform" for first, second in COLUMNS]
    axes.set_xticks(range(len(COLUMNS)), [name.replace(", ", ",\n") for name in names])
    axes.set_yticks(range(len(WORLDS)), list(WORLDS))
    axes.set_xlim(-0.5, len(COLUMNS) - 0.5)
    axes.set_ylim(len(WORLDS) - 0.5, -0.5)
    axes.xaxis.tick_top()
    axes.grid(False)
    axes.tick_params(length=0)
    patches = [Patch(facecolor=colour, edgecolor="#c9d1d9", label=verdict) for verdict, colour in COLOURS.items()]
    figure.legend(handles=patches, loc="outside lower center", ncols=len(patches))
    return figure


def _square(x: int, y: int, colour: str) -> Rectangle:
    from matplotlib.patches import Rectangle

    return Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=colour, edgecolor="#c9d1d9")


def curves_figure(replies: Sequence[Answer]) -> Figure:
    """Draw what `ot` gains on `uniform`, in points with 95 % intervals: over epsilon, and over N."""
    figure = new_figure(9.0, 3.6)
    epsilon, prompts = figure.subplots(1, 2, sharey=True)
    for look, world in zip(LOOKS, DESIGN["strengths"]["worlds"], strict=False):
        here = (reply for reply in replies if reply.question.world == world and not reply.question.less)
        own = {reply.question.first: reply for reply in here}
        by_epsilon = {0.1: own.get("ot")} | {
            float(changes["EPS"]): own.get(name) for name, changes in DESIGN["strengths"]["methods"].items()
        }
        by_number = {4: own.get("ot")} | {
            changes["N"]: own[name] for name, changes in DESIGN["prompts"]["methods"].items() if name in own
        }
        for axes, points in ((epsilon, by_epsilon), (prompts, by_number)):
            _line(axes, {x: reply for x, reply in sorted(points.items()) if reply is not None}, world, look)
    epsilon.set_xlabel("epsilon, 4 prompts")
    prompts.set_xlabel("number of prompts, epsilon 0.1")
    epsilon.set_xscale("log")
    prompts.set_xscale("log", base=2)
    for axes, name in ((epsilon, "strengths"), (prompts, "prompts")):
        axes.axhline(0, color="#808890", linewidth=1)
        ticks = [0.01, 0.03, 0.1, 0.3, 1] if name == "strengths" else [2, 4, 8]
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
    epsilon.set_ylabel("ot - uniform (points)")
    prompts.legend()
    return figure


def _line(axes: Axes, points: Mapping[float, Answer], label: str, look: Look) -> None:
    gaps = [reply.difference for reply in points.values()]
    shift = 1 + 0.03 * LOOKS.index(look)  # intervals of two lines beside each other
    axes.errorbar([x * shift for x in points], [gap.difference for gap in gaps], yerr=[gap.margin for gap in gaps],
        color=look.color, marker=look.marker, linestyle=look.line, capsize=3, label=label)  # fmt: skip
