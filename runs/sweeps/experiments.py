"""The published experiments as a table, and the one program behind the shell scripts in scripts/.

    python scripts/experiments.py plot/main caltech101 4 [KEY VALUE ...]

`scripts/plot/main.sh caltech101 4` is the same; folders, arguments and fixed settings are the original's.  A line of
the table says what a script takes, sets and loops over; `plan_jobs` turns it into runs, as `sweep.py` does with a grid.
What follows is printed by the --help of every script.

environment:
  DATA     folder that holds the data sets (default: data, in the checkout)
  OUTPUT   parent of all run folders (default: output, in the checkout)
  CFG      another method config than the published one, where it is no argument
  SHOTS, SEEDS  where the script loops over them, only these, e.g. SHOTS="1 16" SEEDS=1-20
  STAGE1_SEED  for PLOT++: the one seed whose first stage every second stage starts from.  Default: its own.  The
           published runs used 1: then the other seeds start from prompts that have seen seed 1's training images
  PYTHON   the interpreter (default: the active environment's, or .venv in the checkout)

flags:
  --dry-run  list the runs and their state, run nothing; with --verbose also their command lines
  --device D  compute on cpu, cuda, cuda:1 or mps; default: auto, the GPU where there is one
  --jobs N   N runs at a time; with --devices 0,1 on these GPUs in turns
  --skip-bad  go on without images that cannot be read (DATASET.SKIP_BAD True)
  --verbose  also show what the runs print
  --cluster slurm  as jobs of Slurm, with --partition, --gpus, --cpus, --mem, --time and others of scripts/sweep.py;
           --cluster local: in a process that goes on without the terminal; see docs/scale.md

A run is skipped when its result.json says that it is complete; an interrupted one goes on from its last
finished epoch.  With DATASET.DRAW proportional behind the arguments, folders have -proportional behind the shots.
exit status: 0 all runs complete, 1 some failed (they are listed), 2 bad command line, 130 interrupted,
143 stopped by SIGTERM
"""

from __future__ import annotations

import argparse
import itertools
import os
import posixpath
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from dassl.plain.console import number_ranges
from datasets.draws import PER_CLASS

from .. import layout as layouts
from ..keys import DRAW
from ..layout import CONTEXT, Layout, draw_suffix
from ..plugins import CHECKOUT
from .flags import add_sweep_flags, finish_args, split_options
from .jobs import execute
from .planning import Job, Plan, is_zero_shot, job_of
from .standing import submission_of

ARGUMENTS = {  # what each stands for, and the values it can have: names, these words, or whole numbers from this one
    "DATASET": ("name in configs/datasets, e.g. caltech101", "name"),
    "CFG": ("name in configs/trainers, e.g. rn50_ep50", "name"),
    "CTP": ("where the class name stands: end, middle or front", ("end", "middle", "front")),
    "NCTX": ("context tokens of a prompt, e.g. 16", 1),
    "SHOTS": ("training images a class, e.g. 16", 1),
    "CSC": ("a context for each class: True or False", ("True", "False")),
    "SEED": ("1, 2 or 3 in the published runs", 0),
    "N": ("prompts of a class, e.g. 4", 1),
    "M": ("visual prompts, e.g. 4", 1),
}
OWN_KEYS = {  # never among KEY VALUE
    "SEED": "the script's seeds",
    "RESUME": "the same command again",
    "OUTPUT_DIR": "the environment's OUTPUT",
    "DATASET.NAME": "the script's DATASET",
    "DATASET.ROOT": "the environment's DATA",
    "TRAINER.NAME": "another script",
}
NARROWED = {"SHOTS": "SHOTS", "SEED": "SEEDS"}  # loops, and the variables of the environment that narrow them


# --- the table -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Experiment:
    """One published script.

    Braces in texts are filled with the values of `arguments`, `fixed` and `loops`, with CFG, and in `folder` with DRAW:
    "-proportional" for that draw of the few shots, else "".
    """

    about: str
    arguments: tuple[str, ...]
    example: str
    trainer: str
    folder: str  # below OUTPUT
    tree: str = ""  # what is added to OUTPUT's own name, as in the original's output_joint
    config: str = ""  # CFG, where it is no argument
    fixed: Mapping[str, str] = field(default_factory=dict)
    loops: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)  # config keys that the script sets
    loads: str = ""  # the experiment whose checkpoint is tested; only that, no training
    source: Mapping[str, str] = field(default_factory=dict)  # values in which the loaded run differs from this one
    epoch: str = ""  # to load; default: the last one of the loaded run's schedule
    starts: str = ""  # the experiment that this one starts from: of the same trainer, its last checkpoint; else its run

    @property
    def start_key(self) -> str:
        """The config key of what its trainer starts from."""
        return f"TRAINER.{self.trainer.upper()}.PRETRAIN_DIR"

    @property
    def second_stage(self) -> bool:
        """Whether it goes on with a training of the same trainer."""
        return bool(self.starts) and EXPERIMENTS[self.starts].trainer == self.trainer

    @property
    def evaluates(self) -> bool:
        """Whether it only tests."""
        return bool(self.loads) or is_zero_shot(self.trainer)


def read_experiments() -> dict[str, Experiment]:
    """Read the table in experiments.yaml: {"plot/main": Experiment, ...}.

    Raises
    ------
    TypeError
        Naming a field that an experiment does not have, or lacks.
    """
    table = yaml.safe_load(Path(__file__).with_name("experiments.yaml").read_text(encoding="utf-8"))
    return {name: _experiment(**entry) for name, entry in table.items()}


def _experiment(
    trainer: str, arguments: str, about: str, folder: Any = (), loops: Any = (), options: Any = (), **fields: Any
) -> Experiment:
    """Make an experiment of its entry in the table, where values may be numbers and names may be short.

    An option that begins with a dot is the trainer's own: .N of PLOT is TRAINER.PLOT.N.
    """
    own = f"TRAINER.{trainer.upper()}."
    as_text: dict[str, Any] = {
        name: {key: str(entry) for key, entry in value.items()} if isinstance(value, dict) else str(value)
        for name, value in fields.items()
    }
    return Experiment(
        trainer=trainer,
        arguments=tuple(arguments.split()),
        about=about.replace("{TRAINER}", trainer),
        folder=_folder(trainer, **dict(folder)),
        loops={name: tuple(map(str, values)) for name, values in dict(loops).items()},
        options={re.sub(r"^\.", own, key): str(value) for key, value in dict(options).items()},
        **as_text,
    )


def _folder(trainer: str, layout: str = "FEW_SHOT", below: str = "", context: str = "", **values: object) -> str:
    """Describe the folder of runs in one of the layouts, with what is not known before a run in braces."""
    described: Layout = getattr(layouts, layout)
    tokens = dict(zip(("tokens", "class_specific", "position"), context.split(), strict=False))
    values = {"shots": "{SHOTS}", "draw": "{DRAW}", "context": CONTEXT.folder(**tokens) if tokens else "", **values}
    return posixpath.join(
        below, described.folder(trainer=trainer, dataset="{DATASET}", config="{CFG}", seed="{SEED}", **values)
    )


EXPERIMENTS = read_experiments()


# --- from a line of the table to runs --------------------------------------------------------------------


def plan_jobs(name: str, args: argparse.Namespace) -> list[Job]:
    """Plan every run of an experiment: the loops of its script, or the parts of them that the environment leaves.

    All configs are built, so that a misspelt name or key is found before the first run starts.

    Parameters
    ----------
    name
        Of the experiment, like "plot/main".
    args
        What `parse_args` returned.

    Raises
    ------
    ValueError, KeyError, OSError
        Whatever building a config finds wrong; ValueError also where nothing is there to start from, or to test.
    """
    experiment = EXPERIMENTS[name]
    values = {"CFG": experiment.config, **experiment.fixed, **args.values}
    loops = {name: args.only.get(name) or values for name, values in experiment.loops.items()}
    if args.stage1_seed and name in {other.starts for other in EXPERIMENTS.values() if other.second_stage}:
        loops["SEED"] = (args.stage1_seed,)
    grid = itertools.product(*loops.values())
    jobs = [_job(name, values | dict(zip(loops, point, strict=True)), args) for point in grid]
    start = (experiment.starts, experiment.start_key, "start from")
    for earlier, key, verb in ((experiment.loads, "--model-dir", "test"), start):
        if earlier and not args.dry_run:
            needed = [Path(job.argv[job.argv.index(key) + 1]) for job in jobs]
            if not any(path.exists() or submission_of(path) for path in needed):
                raise ValueError(f"nothing to {verb}: there is no {needed[0]}; scripts/{earlier}.sh makes it")
    return jobs


def _job(name: str, values: Mapping[str, str], args: argparse.Namespace) -> Job:
    """Build one run of an experiment from the values of its arguments and loops.

    The runs that it tests or starts from are built likewise: only their configs tell their folders and last epochs.
    """
    experiment = EXPERIMENTS[name]
    values = {**values, "DRAW": draw_suffix(_draw(experiment, args.opts))}
    model_dir = load_epoch = ""
    if experiment.loads:
        loaded = _job(experiment.loads, {**values, **EXPERIMENTS[experiment.loads].fixed, **experiment.source}, args)
        schedule = "" if "OPTIM.MAX_EPOCH" in args.opts[::2] else experiment.epoch
        model_dir, load_epoch = str(loaded.folder), schedule or str(loaded.cfg.OPTIM.MAX_EPOCH)
    options = [word for key, value in experiment.options.items() for word in (key, value.format(**values))]
    if experiment.second_stage:
        first = _job(experiment.starts, {**values, "SEED": args.stage1_seed or values["SEED"]}, args)
        last = first.folder / "prompt_learner" / f"model.pth.tar-{first.cfg.OPTIM.MAX_EPOCH}"
        options += [experiment.start_key, str(last)]
    elif experiment.starts:
        options += [experiment.start_key, str(_job(experiment.starts, values, args).folder)]
    return job_of(Plan(
        experiment.trainer, values["DATASET"], values["CFG"], args.root,
        output=args.output.rstrip("/") + experiment.tree, folder=experiment.folder.format(**values),
        options=[*options, *args.opts],
        seed=values.get("SEED", ""), shots=values.get("SHOTS", ""), title=name,
        evaluates=experiment.evaluates, model_dir=model_dir, load_epoch=load_epoch, plugins=args.plugins,
    ))  # fmt: skip


def _draw(experiment: Experiment, options: Sequence[str]) -> str:
    """Return DATASET.DRAW of an experiment's few shots, or of those of the experiment that it tests."""
    loaded = EXPERIMENTS[experiment.loads].options if experiment.loads else {}
    given = dict(zip(options[::2], options[1::2], strict=True))
    return {**loaded, **experiment.options, **given}.get(DRAW, PER_CLASS)


# --- command line ----------------------------------------------------------------------------------------


def usage(name: str) -> str:
    """Return the --help of the script of one experiment."""
    experiment = EXPERIMENTS[name]
    script = f"scripts/{name}.sh"
    lines = [f"usage: {script} {' '.join(experiment.arguments)} [KEY VALUE ...]", f"{experiment.about}.", ""]
    lines += [f"  {argument:8} {ARGUMENTS[argument][0]}" for argument in experiment.arguments]
    lines += ["", "examples:", f"  DATA=/data/images {script} {experiment.example}"]
    lines += [f"  {script} {experiment.example} USE_CUDA False", f"  {script} --dry-run {experiment.example}", ""]
    lines += [f"writes: OUTPUT{experiment.tree}/{experiment.folder}"]
    if experiment.config:
        lines += [f"CFG:    {experiment.config}"]
    if experiment.loads:
        loaded = {"SEED": "{SEED}", "CFG": "{CFG}", "DRAW": "", "DATASET": "{DATASET}", **experiment.fixed}
        source = EXPERIMENTS[experiment.loads]
        loaded |= {argument: f"{{{argument}}}" for argument in (*experiment.arguments, *experiment.loops)}
        loaded |= {**source.fixed, **experiment.source}
        lines += [f"loads:  OUTPUT{source.tree}/{source.folder.format(**loaded)}"]
    if experiment.starts:
        lines += [f"from:   OUTPUT{EXPERIMENTS[experiment.starts].tree}/{EXPERIMENTS[experiment.starts].folder}"]
    environment = "".join((__doc__ or "").partition("environment:")[1:])
    return "\n".join([*lines, "", environment.rstrip()]).replace("{DRAW}", "")


def overview() -> str:
    """Return the list of all scripts, with their arguments and what they do."""
    scripts = [f"scripts/{name}.sh {' '.join(e.arguments)}\n    {e.about}" for name, e in EXPERIMENTS.items()]
    head = ["usage: python scripts/experiments.py NAME ARGUMENTS [KEY VALUE ...]",
            "The same as scripts/NAME.sh ARGUMENTS [KEY VALUE ...]; NAME --help says more.", ""]
    return "\n".join([*head, *scripts])


def check_arguments(name: str, words: Sequence[str]) -> dict[str, str]:
    """Match words to the arguments of a script.

    Returns
    -------
    dict
        {argument: value}.

    Raises
    ------
    ValueError
        Saying which one is missing, or wrong and what it can be.
    """
    arguments = EXPERIMENTS[name].arguments
    if len(words) < len(arguments):
        raise ValueError(f"missing: {' '.join(arguments[len(words) :])}")
    if len(words) > len(arguments):
        raise ValueError(f"too many arguments: {' '.join(words[len(arguments) :])} (KEY VALUE pairs have a dot in KEY)")
    values = dict(zip(arguments, words, strict=True))
    for argument, word in values.items():
        kind = ARGUMENTS[argument][1]
        if isinstance(kind, tuple) and word not in kind:
            raise ValueError(f"{argument} is {word!r}; use {' or '.join(kind)}")
        if isinstance(kind, int) and not (word.isdecimal() and str(int(word)) == word and int(word) >= kind):
            raise ValueError(f"{argument} is {word!r}; use a whole number, {kind} or more")
    return values


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line, by default that of the program; returns the exit status as in the help text."""
    words, options = split_options(sys.argv[1:] if argv is None else argv)
    name = next(iter(words), "")
    if name in ("", "-h", "--help"):
        print(overview(), file=sys.stdout if name else sys.stderr)
        return 0 if name else 2
    if name not in EXPERIMENTS:
        print(f"error: no experiment {name!r}; known: {', '.join(EXPERIMENTS)}", file=sys.stderr)
        return 2
    if {"-h", "--help"} & set(words):
        print(usage(name))
        return 0

    args = parse_args(name, words[1:], options)
    return execute(lambda args: plan_jobs(name, args), args, args.output.rstrip("/") + EXPERIMENTS[name].tree)


def parse_args(name: str, words: Sequence[str], options: Sequence[str]) -> argparse.Namespace:
    """Read the words of one script and of the environment.

    Parameters
    ----------
    name
        Of the experiment, like "plot/main".
    words
        Its arguments and flags.
    options
        The KEY VALUE pairs behind them.

    Returns
    -------
    Namespace
        The flags, `values` (of the arguments, and CFG where the environment has it), `opts`, `root`, `output`, `only`
        (the loops that the environment narrows) and `stage1_seed`.  What cannot be ends the program with status 2, as
        argparse does.
    """
    parser = argparse.ArgumentParser(
        f"scripts/{name}.sh", usage=usage(name).removeprefix("usage: "), add_help=False, allow_abbrev=False
    )
    parser.add_argument("words", nargs="*")
    add_sweep_flags(parser)
    args = parser.parse_intermixed_args(words)
    args.root, args.output = _place("DATA", "data"), _place("OUTPUT", "output")
    experiment = EXPERIMENTS[name]
    try:
        args.values = check_arguments(name, args.words)
        set_here = {key: f"an argument, or train.py (this is {value})" for key, value in experiment.options.items()}
        if experiment.starts:
            set_here[experiment.start_key] = "STAGE1_SEED, or train.py" if experiment.second_stage else "train.py"
        args.only = {loop: _numbers(NARROWED[loop], ARGUMENTS[loop][1]) for loop in experiment.loops}
        args.stage1_seed = os.environ.get("STAGE1_SEED", "")
        if args.stage1_seed and not args.stage1_seed.isdecimal():
            raise ValueError(f"STAGE1_SEED is {args.stage1_seed!r}; use a seed, such as 1, or leave it unset")
    except ValueError as error:
        parser.error(str(error))
    finish_args(parser, args, options, OWN_KEYS | set_here, "script")
    if experiment.config and os.environ.get("CFG"):
        args.values["CFG"] = os.environ["CFG"]
    return args


def _numbers(variable: str, least: Any) -> tuple[str, ...]:
    """Read numbers and ranges in a variable of the environment; () where it is not set, ValueError below `least`."""
    try:
        return tuple(map(str, number_ranges(os.environ.get(variable, "").split(), least)))
    except argparse.ArgumentTypeError as error:
        raise ValueError(f"{variable} has {error}") from None


def _place(variable: str, default: str) -> str:
    """Read a folder from the environment; the default is in the checkout, wherever the script is called from."""
    return os.environ.get(variable) or (default if Path.cwd() == CHECKOUT else str(CHECKOUT / default))

