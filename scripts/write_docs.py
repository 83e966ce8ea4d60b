"""Write the two pages of the documentation that are made from the code.

    python scripts/write_docs.py          docs/settings.md and docs/commands.md
    python scripts/write_docs.py --check  write nothing; exit status 1 if a page is not current

Settings: every key of the tree that a run has; its default is the tree's, its meaning is the comment beside its
declaration or comes from the trainer's options, and what it may be is what the checks of the config use.
Commands: the parser of every program, with the examples of its help text.

What stands above the first section of a page is written by hand, in the page, and stays as it is.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import dassl  # noqa: F401  (before torch: how its threads wait)

# isort: split

from runs.sweeps.experiments import EXPERIMENTS

REPOSITORY = Path(__file__).resolve().parents[1]
DECLARATION = re.compile(r"^ *(?:_C|cfg)\.([A-Z][\w.]*) = .*?  # (.+)$", re.MULTILINE)

SECTIONS = {  # title -> what its keys begin with; "": all that begin otherwise
    "The run": "",
    "Images": "INPUT.",
    "Data": "DATASET.",
    "Loading": "DATALOADER.",
    "Model": "MODEL.",
    "Optimisation": "OPTIM.",
    "Training": "TRAIN.",
    "Test": "TEST.",
    "Kept image features": "FEATURE_CACHE.",
}
FOREIGN = """## Keys of other trainers

These sections belong to trainers of upstream Dassl that are [not included](methods.md#not-included). They exist so
that its config files load:
"""

PROGRAMS = {  # how it is called -> the module that builds its parser
    "python train.py": "runs.command_line",
    "python scripts/sweep.py": "runs.sweeps.sweep",
    "python -m results": "results.__main__",
    "python -m predict": "predict.__main__",
    "python -m datasets": "datasets.__main__",
    "python -m clip weights": "clip.weights_command",
    "python -m clip cache": "clip.cache_command",
    "python -m demo": "demo.__main__",
    "python -m demo.train_resnet": "demo.train_resnet",
    "python -m demo.train_vit": "demo.train_vit",
    "python -m demo.train_photos": "demo.train_photos",
    "python -m study": "study.__main__",
    "python -m benchmarks": "benchmarks.__main__",
    "python -m benchmarks.photos": "benchmarks.photos",
}
SCRIPTS = """## bash scripts/NAME.sh

The published experiments, under the names and arguments of the original repositories;
`python scripts/experiments.py NAME` is the same. `scripts/NAME.sh --help` says where each writes and what it loads.
Flags (`--jobs N`, `--devices 0,1`, `--skip-bad`, `--verbose`, `--dry-run`, and those of `scripts/sweep.py` for
[a cluster](scale.md#many-runs-slurm)) and `KEY VALUE` pairs can follow the arguments.

| in the environment | meaning |
| --- | --- |
| `DATA` | folder that holds the data sets; default: `data` |
| `OUTPUT` | parent of all run folders; default: `output` |
| `CFG` | another method config than the published one, where it is no argument |
| `SHOTS`, `SEEDS` | where the script loops over them, only these: `SHOTS="1 16" SEEDS=1-20` |
| `STAGE1_SEED` | for PLOT++: the one seed whose first stage every second stage starts from; default: its own |
| `PYTHON` | the interpreter; default: the active environment's, or `.venv` |
"""


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table; bars within cells are escaped."""
    head = list(head)
    lines = [[" ".join(cell.split()).replace("|", "\\|") for cell in row] for row in [head, ["---"] * len(head), *rows]]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


# --- settings --------------------------------------------------------------------------------------------


def settings_page() -> str:
    """Make the sections of docs/settings.md: a table for each part of the tree, with key, default and meaning."""
    from dassl.config import get_cfg_default
    from runs import config, keys

    cfg = get_cfg_default()
    foreign = {key for key in keys.flatten(cfg) if re.match(r"TRAINER\.\w+\.", key)}
    config.extend_cfg(cfg)
    tree = {key: value for key, value in keys.flatten(cfg).items() if key not in foreign}
    tree["NO_EFFECT"] = "those marked °"
    meanings = all_meanings(config)
    idle = {*keys.NO_EFFECT, *cfg.NO_EFFECT}

    sections = SECTIONS | {f"TRAINER.{options.node}": f"TRAINER.{options.node}." for options in config.option_types()}
    rows: dict[str, list[list[str]]] = {title: [] for title in sections}
    for key, value in tree.items():
        title = next((title for title, start in sections.items() if start and key.startswith(start)), "The run")
        rows[title].append([f"`{key}`{' °' * (key in idle)}", default(value), meanings[key]])
    tables = [f"## {title}\n\n{table(('key', 'default', 'meaning'), rows[title])}" for title in sections]
    others = FOREIGN + ", ".join(f"`{node}`" for node in sorted({key.rpartition(".")[0] for key in foreign})) + "."
    return "\n\n".join([*tables, others]) + "\n"


def all_meanings(config: Any) -> dict[str, str]:
    """Find what each key means.

    Parameters
    ----------
    config : module
        `runs.config`, with whose keys of our own and trainers' options the engine's are joined.

    Returns
    -------
    dict
        Dotted key -> its meaning, and what its value may be where the meaning does not say that.
    """
    from dassl.config import defaults
    from dassl.config.values import NAMES, NUMBERS

    meanings: dict[str, str] = {}
    for source in (defaults, config.extend_cfg):
        meanings |= dict(DECLARATION.findall(inspect.getsource(source)))
    for options in config.option_types():
        meanings |= {key: meaning for key, (_, meaning) in options.meanings().items()}
    for key, names in (NAMES | config.OUR_NAMES).items():
        if not all(name in meanings[key] for name in names):
            kind = "any of" if key == "INPUT.TRANSFORMS" else "one of"
            meanings[key] += f"; {kind} {', '.join(f'`{name}`' for name in names)}"
    for key, rule in (NUMBERS | config.OUR_NUMBERS).items():
        if key in meanings:
            meanings[key] += f" ({rule.allowed})"
    return meanings


def default(value: Any) -> str:
    """Write a default as on a command line, but a description as it is."""
    return value if value == "" or " " in str(value) and isinstance(value, str) else f"`{value}`"


# --- commands --------------------------------------------------------------------------------------------


def commands_page() -> str:
    """Make the sections of docs/commands.md: one for each program and each of its subcommands, and the scripts."""
    blocks = []
    for program, module in PROGRAMS.items():
        parser = import_module(module).build_parser()
        blocks += [f"## {program}", *describe(parser)]
        for name, command in subcommands(parser).items():
            blocks += [f"### {program} {name}", *describe(command)]
    scripts = [
        [f"`{name}` {' '.join(experiment.arguments)}", experiment.about, f"`scripts/{name}.sh {experiment.example}`"]
        for name, experiment in EXPERIMENTS.items()
    ]
    blocks += [SCRIPTS.strip(), table(("NAME and arguments", "what it does", "example"), scripts)]
    return "\n\n".join(blocks) + "\n"


def subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Find the subcommands of a program, such as `python -m results table`.

    Returns
    -------
    dict
        Name -> parser, without names that only point to another program: those have no description.
    """
    actions = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    commands = {name: command for action in actions for name, command in action.choices.items()}
    return {name: command for name, command in commands.items() if command.description}


def describe(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Describe one command.

    Yields
    ------
    str
        Blocks of Markdown: its purpose, which is the first sentence of its help; a table of its arguments, if it has
        any (those that every command has are left out); its examples, if it has any.
    """
    purpose = " ".join(re.split(r"(?<=\.)\s", parser.description or "", maxsplit=1)[0].split())
    yield purpose[:1].upper() + purpose[1:].removesuffix(".") + "."
    rows = [
        [f"`{name_of(action)}`", (action.help or "") % (vars(action) | {"prog": parser.prog})]
        for action in parser._actions
        if not isinstance(action, argparse._HelpAction | argparse._SubParsersAction) and action.dest != "plugins"
    ]
    if rows:
        yield table(("argument", "meaning"), rows)
    examples = "\n".join(examples_in(f"{parser.description or ''}\n{parser.epilog or ''}"))
    if examples:
        yield f"```sh\n{examples}\n```"


def name_of(action: argparse.Action) -> str:
    """Write an argument as it is typed: `--shots K [K ...]`, `[PATH ...]`.

    A flag that takes no value (nargs 0) has only its names; a positional argument has only its value.
    """
    value = "|".join(map(str, action.choices)) if action.choices else action.dest.upper()
    value = action.metavar if isinstance(action.metavar, str) else value
    if action.nargs in ("*", argparse.REMAINDER):
        value = f"[{value} ...]"
    elif action.nargs in ("+", "?"):
        value = f"[{value}]" if action.nargs == "?" else f"{value} [{value} ...]"
    elif isinstance(action.nargs, int) and action.nargs:
        value = " ".join([value] * action.nargs)
    if not action.option_strings:
        return value
    return ", ".join(action.option_strings) + (f" {value}" if action.nargs != 0 else "")


def examples_in(text: str) -> Iterator[str]:
    """Yield the command lines of a help text, with the lines that they continue in."""
    continued = False
    for line in text.splitlines():
        if continued or re.match(r" +(\w+=\S+ )*python ", line):
            yield "    " * continued + line.strip()
            continued = line.endswith("\\")


# --- command line ----------------------------------------------------------------------------------------

PAGES = {"docs/settings.md": settings_page, "docs/commands.md": commands_page}


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 if a page is not current")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    from dassl.plain.writing import atomic_write

    check = build_parser().parse_args(argv).check
    status = 0
    for name, sections in PAGES.items():
        page = (REPOSITORY / name).read_text(encoding="utf-8")
        current = page[: page.index("\n## ") + 1] + sections()
        if page == current:
            continue
        if check:
            status = 1
        else:
            with atomic_write(REPOSITORY / name) as file:
                file.write(current)
        print(f"{name}: {'not current; run `make docs`' if check else 'written'}")
    return status


if __name__ == "__main__":
    sys.exit(main())
