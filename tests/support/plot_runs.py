"""Short runs to look into, of towers that say where things are.

In the tiny models that the golden numbers are of, position drowns content.  Here the same towers have other positions:
the ViT's are faint, and the ResNet's make every place attend to itself and are not passed on.  So a local feature tells
what its cell shows.
"""
from __future__ import annotations

import contextlib
import io
import shutil
from pathlib import Path

import torch

import train
from tests.support.golden_data import tiny_state_dict
from tests.support.programs import arguments, make_world

HEAD_WIDTH = 64


def faint_positions(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    key = "visual.positional_embedding"
    return state | {key: state[key] * 0.02}


def own_place_only(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Attention pooling: in every head place p is marked by a large entry p, queries and keys read the marks alone, and
    values everything else."""
    pool = {key: state[key].clone() for key in state if key.startswith("visual.attnpool.")}

    def part(name: str) -> torch.Tensor:
        return pool[f"visual.attnpool.{name}"]

    places, width = part("positional_embedding").shape
    entry = torch.arange(width) % HEAD_WIDTH
    part("positional_embedding").copy_(100.0 * (torch.arange(places)[:, None] == entry))
    for name in ("q_proj", "k_proj"):
        part(f"{name}.weight").copy_(torch.diag(0.1 * (entry < places)))
        part(f"{name}.bias").zero_()
    part("v_proj.weight")[:, entry < places] = 0
    return state | pool


def train_runs(folder: Path) -> dict[str, Path]:
    """rn, vit: PLOT with 2 prompts on 3 x 3 and 4 x 4 places; plotpp, with 4 by 4; max: rn with MATCHING max."""
    world = make_world(folder)
    torch.save(own_place_only(tiny_state_dict("tiny_rn", native=True)), world / "tiny_rn.pt")
    torch.save(faint_positions(tiny_state_dict("tiny_vit", native=True)), world / "tiny_vit.pt")
    settings = {
        "rn": ["TRAINER.PLOT.N", "2"],
        "vit": ["TRAINER.PLOT.N", "2", "INPUT.SIZE", "(64, 64)", "MODEL.BACKBONE.NAME", str(world / "tiny_vit.pt")],
        "plotpp": [],
    }
    runs = {}
    for name, options in settings.items():
        trainer = "PLOTPP" if name == "plotpp" else "PLOT"
        runs[name] = world / "runs" / name
        with contextlib.redirect_stdout(io.StringIO()):
            train.run(arguments(world, runs[name], "OPTIM.MAX_EPOCH", "1", *options, trainer=trainer))
    runs["max"] = copy_run(runs["rn"], world / "runs" / "max", "MATCHING: ot", "MATCHING: max")
    return runs


def copy_run(run: Path, target: Path, setting: str = "", other: str = "") -> Path:
    """A copy of `run`, with another setting in its config."""
    shutil.copytree(run, target)
    config = target / "config.yaml"
    assert setting in config.read_text()
    config.write_text(config.read_text().replace(setting, other))
    return target
