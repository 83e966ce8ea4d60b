"""From what a sweep asks for to jobs: every config is built and checked, once, before the first run starts.

`sweep.py` (a grid) and `experiments.py` (the published scripts) are two front ends of this planner: both say, for each
run, a `Plan`, and get a `Job`.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from ..layout import CONTEXT, FEW_SHOT, ZERO_SHOT, draw_suffix
from ..plugins import CHECKOUT, backbone_preset, config_folders, configured_trainers, trainer_class

if TYPE_CHECKING:
    from yacs.config import CfgNode

    from ..config import Request

BASES = ("vit_b16", "vit_b16_c4_ep10_batch1_ctxv1", "rn50")  # a backbone's preset is put upon the first that there is

with open(Path(__file__).with_name("grid.yaml"), encoding="utf-8") as _file:
    DEFAULT_GRID: Mapping[str, list[Any]] = yaml.safe_load(_file)  # {"trainers": ..., "shots": ..., "seeds": ...}


class Job(NamedTuple):
    """One run of a sweep, ready to be made."""

    name: str  # "PLOT demo 4 shots seed 1"
    request: Request
    stage: int = 0  # what has a higher one begins when all of the lower ones are over

    @property
    def cfg(self) -> CfgNode:
        """Its config, frozen."""
        return self.request.cfg

    @property
    def argv(self) -> list[str]:
        """The words of train.py's command line."""
        return self.request.argv

    @property
    def folder(self) -> Path:
        """Where its log, checkpoints and record go."""
        return Path(self.cfg.OUTPUT_DIR)


@dataclass(frozen=True)
class Plan:
    """What a front end knows of one run.

    Attributes
    ----------
    dataset, config
        Names in configs/datasets and configs/trainers/<trainer>, or of a backbone in configs/backbones.
    output, folder
        The run's folder is `output`/`folder`; without `folder`, the usual name below `output` (`run_folder`).
    options
        KEY VALUE KEY VALUE ...
    shots
        For the job's name only: the number itself is among the options.
    stage
        See `Job`.
    title
        What the job is called; by default like the trainer.
    """

    trainer: str
    dataset: str
    config: str
    root: str
    output: str | Path
    folder: str = ""
    options: Sequence[str] = ()
    seed: str = ""
    shots: str = ""
    evaluates: bool = False
    model_dir: str = ""
    load_epoch: str = ""
    stage: int = 0
    title: str = ""
    plugins: Sequence[str] = ()


def job_of(plan: Plan) -> Job:
    """Build and check the config of a plan.

    Raises
    ------
    ValueError, KeyError, OSError
        For a misspelt name or key, and whatever else building the config finds wrong.
    """
    from ..config import request_of

    argv = [word for plugin in plan.plugins for word in ("--plugin", plugin)]
    argv += ["--root", plan.root, "--trainer", plan.trainer]
    argv += ["--seed", plan.seed] if plan.seed else []
    argv += ["--dataset-config-file", str(config_file(f"datasets/{plan.dataset}"))]
    argv += method_flags(plan.trainer, plan.config)
    argv += ["--model-dir", plan.model_dir, "--load-epoch", plan.load_epoch] if plan.model_dir else []
    argv += ["--eval-only"] if plan.evaluates else []

    def folder(cfg: CfgNode) -> Path:
        return Path(plan.output) / (plan.folder or run_folder(cfg, plan.dataset, plan.config))

    name = [plan.title or plan.trainer, plan.dataset]
    name += [f"{plan.shots} shot{'s' * (plan.shots != '1')}"] if plan.shots else []
    name += [f"seed {plan.seed}"] if plan.seed else []
    return Job(" ".join(name), request_of([*argv, *plan.options], folder), plan.stage)


def grid(
    trainers: Sequence[str], datasets: Sequence[str], config: str, root: str, output: str | Path, shots: Sequence[int],
    seeds: Sequence[int], options: Sequence[str] = (), plugins: Sequence[str] = (),
) -> list[Job]:  # fmt: skip
    """Plan every run of a grid: zero-shot first, and last what starts from other runs.

    Parameters and errors as in `Plan` and `job_of`; trainers, shots and seeds that are empty are those of grid.yaml.
    Values that are given twice count once; a zero-shot trainer has one run for all shots and seeds.
    """
    names, counts, draws = (
        list(dict.fromkeys(map(str, axis or DEFAULT_GRID[name])))
        for name, axis in (("trainers", trainers), ("shots", shots), ("seeds", seeds))
    )
    plans = []
    for dataset, trainer in itertools.product(dict.fromkeys(datasets), names):
        stage = stage_of(trainer, names)
        plan = Plan(trainer, dataset, config, root, output, options=options, plugins=plugins, stage=stage)
        if is_zero_shot(trainer):
            plans.append(replace(plan, evaluates=True))
        else:
            for count, seed in itertools.product(counts, draws):
                with_shots = ["DATASET.NUM_SHOTS", count, *options]
                plans.append(replace(plan, options=with_shots, shots=count, seed=seed))
    plans.sort(key=lambda plan: (plan.stage, not is_zero_shot(plan.trainer)))
    return list(map(job_of, plans))


# --- trainers --------------------------------------------------------------------------------------------


def is_zero_shot(trainer: str) -> bool:
    """Tell whether a trainer sees no training image, so that one run stands for all shots and seeds."""
    return getattr(trainer_class(trainer), "zero_shot", False)


def config_family(trainer: str) -> str:
    """Return the folder in configs/trainers with the configs of a trainer: its own, or the one that it declares."""
    return getattr(trainer_class(trainer), "config_family", "") or trainer


def stage_of(trainer: str, others: Sequence[str]) -> int:
    """Return how many trainings of `others` must be over before this trainer can start from them.

    A trainer that starts from no other has 0, PLOTAdapter beside PLOT has 1.
    """
    first = getattr(trainer_class(trainer), "starts_from", "")
    return 1 + stage_of(first, others) if first in others and first != trainer else 0


def own_options(cfg: Any) -> Mapping[str, Any]:
    """Return the trainer's own node of a config, such as TRAINER.PLOT; {} where it has none."""
    return cfg.TRAINER.get(cfg.TRAINER.NAME) or cfg.TRAINER.get(cfg.TRAINER.NAME.upper()) or {}


# --- files and folders -----------------------------------------------------------------------------------


def run_folder(cfg: CfgNode, dataset: str, config: str) -> Path:
    """Return the folder of a few-shot or zero-shot run, from the values that its config really holds.

    Parameters
    ----------
    cfg
        Built and checked: the options of the command line, and the published schedule, are in it.
    dataset, config
        Names in configs/datasets and configs/trainers/<trainer>: the folder's name has these, not the data set's class.
    """
    trainer = cfg.TRAINER.NAME
    if is_zero_shot(trainer):
        return Path(ZERO_SHOT.folder(trainer=trainer, config=config, dataset=dataset))
    options = own_options(cfg)
    context = prompts = ""
    if "N_CTX" in options:
        position, specific = options.get("CLASS_TOKEN_POSITION", "end"), options.get("CSC", False)
        context = CONTEXT.folder(tokens=options["N_CTX"], class_specific=specific, position=position)
    if "N" in options:
        prompts = str(options["N"]) + (f"_M{options['M']}" if "M" in options else "")
    return Path(FEW_SHOT.folder(
        dataset=dataset, trainer=trainer, config=config, shots=cfg.DATASET.NUM_SHOTS,
        draw=draw_suffix(cfg.DATASET.DRAW), prompts=prompts, context=context, seed=cfg.SEED,
    ))  # fmt: skip


def method_flags(trainer: str, config: str) -> list[str]:
    """Return the flags of a method's config: a file of its own, or a backbone's preset upon one that it has.

    Parameters
    ----------
    trainer
        Registered name.
    config
        Name in configs/trainers/<trainer>, or in configs/backbones.

    Raises
    ------
    ValueError
        For a name in neither.
    """
    folder = f"trainers/{config_family(trainer)}"

    def exists(name: str) -> bool:
        return any((configs / folder / f"{name}.yaml").is_file() for configs in config_folders())

    if exists(config) or not backbone_preset(config):
        return ["--config-file", str(config_file(f"{folder}/{config}"))]
    base = next(filter(exists, BASES), config)
    return ["--config-file", str(config_file(f"{folder}/{base}")), "--backbone", config]


def config_file(name: str) -> Path:
    """Find configs/<name>.yaml, of the checkout or of a plugin.

    Returns
    -------
    Path
        Relative to the working folder where that is the checkout, so that command lines stay short.

    Raises
    ------
    ValueError
        With the names that there are, where there is none.
    """
    from dassl.utils.tools import did_you_mean

    known: set[str] = set()
    for configs in config_folders():
        path = configs / f"{name}.yaml"
        if path.is_file():
            return Path(os.path.relpath(path)) if Path.cwd() == CHECKOUT and configs.parent == CHECKOUT else path
        known |= {file.stem for file in path.parent.glob("*.yaml")}
    kind, _, rest = name.partition("/")
    remedy = "; --plugin FOLDER adds those of a plugin"
    if not known and kind == "trainers":
        trainer = rest.partition("/")[0]
        near = did_you_mean(trainer, configured_trainers())
        raise ValueError(f"no trainer {trainer!r} in configs/trainers{near}{remedy}")
    if kind == "trainers":
        known |= {file.stem for configs in config_folders() for file in configs.glob("backbones/*.yaml")}
    shown = ", ".join(sorted(known)) or "none"
    raise ValueError(f"no config {CHECKOUT / 'configs' / name}.yaml; known: {shown}{remedy}")
