"""The design as runs: which world, which method, which seed, and the folders in which all this lies.

A `Cell` is a method on a world; its runs differ in their seeds.  They are ordinary runs of a sweep, planned by
`runs.sweeps`, so that the same command goes on where it stopped, and every `python -m results` command reads them:

    <output>/worlds/<world's own name>/...                pictures (demo/worlds.py)
    <output>/runs/<world>/<method>/<usual run folder>     runs
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from demo.worlds import World
from runs.sweeps.planning import Job, Plan, job_of

DESIGN: Mapping[str, Any] = yaml.safe_load(Path(__file__).with_name("design.yaml").read_text(encoding="utf-8"))
REFERENCE: str = DESIGN["reference"]
WORLDS = {name: World.parse(knobs) for name, knobs in DESIGN["worlds"].items()}
METHODS: Mapping[str, Mapping[str, Any]] = DESIGN["methods"]
PHOTOGRAPHS = "photographs"  # the last arm: its key in the design, and its data set as a world


@dataclass(frozen=True)
class Cell:
    """A method on a world.

    Attributes
    ----------
    world
        A key of WORLDS, or PHOTOGRAPHS.
    method
        Its name in the design.
    changes
        How it differs from PLOT as published: keys of TRAINER.PLOT, or of the `trainer` that is named.
    seeds
        How many runs it has, with the seeds 1, 2, ...
    """

    world: str
    method: str
    changes: Mapping[str, Any] = field(hash=False)
    seeds: int = field(hash=False)

    @property
    def folder(self) -> str:
        """Below the folder of all runs, with a slash."""
        return f"{self.world}/{self.method}".replace(", ", "-").replace(" ", "")

    def plan(self, seed: int, output: Path) -> Plan:
        """Say what the run of a seed is."""
        changes = dict(self.changes)
        trainer = changes.pop("trainer", "PLOT")
        drawn = self.world != PHOTOGRAPHS
        arm = DESIGN if drawn else DESIGN[PHOTOGRAPHS]
        settings = {"DATASET.NUM_SHOTS": DESIGN["shots"], "FEATURE_CACHE.DIR": output / "features", **arm["settings"]}
        settings |= {"DATASET.FOLDER.PATH": WORLDS[self.world].name} if drawn else {}
        settings |= {f"TRAINER.{trainer.upper()}.{key}": value for key, value in changes.items()}
        return Plan(
            trainer, arm["dataset"], arm["config"], str(output / ("worlds" if drawn else PHOTOGRAPHS)),
            output=output / "runs" / self.folder,
            options=[str(word) for pair in settings.items() for word in pair],
            seed=str(seed), shots=str(DESIGN["shots"]), title=f"{self.world}: {self.method},",
        )  # fmt: skip


def cells() -> list[Cell]:
    """List all cells of the design, worlds one after another, each with the methods that it is studied under."""
    listed = []
    for world in WORLDS:
        listed += _block(world, DESIGN)
        for block in (DESIGN["strengths"], DESIGN["prompts"]):
            listed += _block(world, block) if world in block["worlds"] else []
    return listed + _block(PHOTOGRAPHS, DESIGN[PHOTOGRAPHS])


def _block(world: str, block: Mapping[str, Any]) -> list[Cell]:
    return [Cell(world, method, changes, block["seeds"]) for method, changes in block["methods"].items()]


def plan_jobs(output: Path, seeds: Sequence[int] = (), options: Sequence[str] = ()) -> list[Job]:
    """Plan all runs, the first seed of all cells first, so that a study that was stopped is balanced.

    Parameters
    ----------
    output
        Folder of the whole study.
    seeds
        Only these; empty for all that a cell has.
    options
        KEY VALUE ... for every run.
    """
    return [job_of(plan) for plan in plans(output, seeds, options)]


def plans(output: Path, seeds: Sequence[int] = (), options: Sequence[str] = ()) -> Iterator[Plan]:
    """Say what the runs are, as in `plan_jobs`."""
    listed = cells()
    for seed in range(1, max(cell.seeds for cell in listed) + 1):
        for cell in listed:
            if seed <= cell.seeds and (not seeds or seed in seeds):
                plan = cell.plan(seed, output)
                yield replace(plan, options=[*plan.options, *options])
