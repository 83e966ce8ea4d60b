"""Write the two pages of the documentation that are made from the code.

    python scripts/write_docs.py          docs/settings.md and docs/commands.md
    python scripts/write_docs.py --check  write nothing; exit status 1 if a page is not current

Settings: every key of the tree that a run has, its default from the tree itself, its meaning from the comment beside its
declaration (engine, runs) or from the trainer's options, and what it may be from the tables that the checks use.
Commands: the parser of every program, with the examples of its help text.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

import dassl  # noqa: F401  (before torch: how its threads wait)

# isort: split

from runs.sweeps.experiments import EXPERIMENTS

DECLARATION = re.compile(r"^ *(?:_C|cfg)\.([A-Z][\w.]*) = .*?  # (.+)$", re.MULTILINE)

SETTINGS = """# Settings

Every key of the configuration. `make docs` writes this page from the code.

Any key can follow the flags of `train.py`, `scripts/sweep.py` and the shell scripts as `KEY VALUE` or `KEY=VALUE`, or stand in a
YAML file. Later sources win: defaults, the data set's file, the method's file, flags, `KEY VALUE` pairs. A value must have the
type of its default. Keys marked ° change where, how fast or how verbosely a run is made, and not its result: runs that differ
in them are one method in every table.

`python train.py --show-keys` prints the keys of the trainers. What people change most is in [Methods](methods.md).
"""
SECTIONS = {  # title -> what its keys begin with; a key belongs to the first section that takes it
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

The following sections belong to trainers of upstream Dassl that are [not included](methods.md#not-included). They exist so
that its config files load: """

COMMANDS = """# Commands

Every command with its flags and examples. `make docs` writes this page from the parsers of the programs; `--help` of each says
more, with the meaning of its exit status (everywhere: 0 done, 2 bad command line). `RUN` is the folder of a finished run, `OUTPUT`
a folder with runs at any depth, `DATA` the folder that holds the data sets.
"""
PROGRAMS = {  # how it is called -> the module that builds its parser
    "python train.py": "runs.command_line",
    "python scripts/sweep.py": "runs.sweeps.sweep",
    "python -m results": "results.__main__",
    "python -m predict": "predict.__main__",
    "python -m datasets": "datasets.__main__",
    "python -m clip cache": "clip.__main__",
    "python -m demo": "demo.__main__",
    "python -m demo.train_resnet": "demo.train_resnet",
    "python -m demo.train_vit": "demo.train_vit",
    "python -m benchmarks": "benchmarks.__main__",
}
SCRIPTS = """## bash scripts/NAME.sh

The published experiments, under the names and arguments of the original repositories; `python scripts/experiments.py NAME` is the
same. `scripts/NAME.sh --help` says where each writes and what it loads. Behind the arguments may stand flags (`--jobs N`,
`--devices 0,1`, `--skip-bad`, `--verbose`, `--dry-run`, `--plugin`) and `KEY VALUE` pairs.

| in the environment | meaning |
|---|---|
| `DATA` | folder that holds the data sets; default: `data` |
| `OUTPUT` | parent of all run folders; default: `output` |
| `CFG` | another method config than the published one, where it is no argument |
| `SHOTS`, `SEEDS` | where the script loops over them, only these: `SHOTS="1 16"` |
| `STAGE1_SEED` | for PLOT++: the one seed whose first stage every second stage starts from; default: its own |
| `PYTHON` | the interpreter; default: the active environment's, or `.venv` |
"""


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table; bars within cells are escaped."""
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in row) + " |" for row in lines)


# --- settings --------------------------------------------------------------------------------------------


def settings_page() -> str:
    """docs/settings.md."""
    from dassl.config import get_cfg_default
    from runs import config, keys

    cfg = get_cfg_default()
    original = set(keys.flatten(cfg))
    config.extend_cfg(cfg)
    tree = keys.flatten(cfg)
    meanings = all_meanings(config)
    idle = {*keys.NO_EFFECT, *cfg.NO_EFFECT}

    shown = {"NO_EFFECT": "those marked °"}

    def rows(chosen: Iterable[str]) -> list[list[str]]:
        return [[f"`{key}`{' °' * (key in idle)}", shown.get(key, default(tree[key])), meanings[key]]
                for key in chosen]

    foreign = [key for key in original if re.match(r"TRAINER\.\w+\.", key)]
    left = [key for key in tree if key not in foreign]
    blocks = []
    for title, start in SECTIONS.items():
        chosen = [key for key in left if key.startswith(start)]
        blocks += [f"## {title}", table(("key", "default", "meaning"), rows(chosen))]
        left = [key for key in left if key not in chosen]
    for options in config.option_types():
        chosen = [key for key in left if key.startswith(f"TRAINER.{options.node}.")]
        blocks += [f"## TRAINER.{options.node}", table(("key", "default", "meaning"), rows(chosen))]
        left = [key for key in left if key not in chosen]
    general = ["## The run", table(("key", "default", "meaning"), rows(left))]
    others = sorted({key.split(".")[1] for key in foreign})
    return "\n\n".join([SETTINGS.strip(), *general, *blocks, FOREIGN + ", ".join(f"`TRAINER.{n}`" for n in others) + "."]) + "\n"


def all_meanings(config: Any) -> dict[str, str]:
    """{key: its meaning, and what it may be}."""
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
    """A default as it is written on a command line; nothing for an empty text."""
    return "" if value == "" else f"`{value}`"


# --- commands --------------------------------------------------------------------------------------------


def commands_page() -> str:
    """docs/commands.md."""
    blocks = [COMMANDS.strip()]
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
    """{name: parser} of `python -m results table` and the like; those that only point elsewhere are left out."""
    actions = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    commands = {name: command for action in actions for name, command in action.choices.items()}
    return {name: command for name, command in commands.items() if command.description}


def describe(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Purpose, arguments and examples of one command."""
    yield " ".join(re.split(r"(?<=\.)\s", parser.description or "", maxsplit=1)[0].split())
    rows = [
        [f"`{name_of(action)}`", (action.help or "") % (vars(action) | {"prog": parser.prog})]
        for action in parser._actions
        if not isinstance(action, argparse._HelpAction | argparse._SubParsersAction)
    ]
    if rows:
        yield table(("argument", "meaning"), rows)
    examples = textwrap.dedent("\n".join(examples_in(f"{parser.description or ''}\n{parser.epilog or ''}")))
    if examples:
        yield f"```sh\n{examples}\n```"


def name_of(action: argparse.Action) -> str:
    """An argument as it is typed: `--shots K [K ...]`, `[PATH ...]`."""
    value = action.metavar or ("|".join(map(str, action.choices)) if action.choices else action.dest.upper())
    value = {"+": f"{value} [{value} ...]", "*": f"[{value} ...]", "?": f"[{value}]", argparse.REMAINDER: f"[{value} ...]"}.get(
        action.nargs, value  # type: ignore[arg-type]
    )
    if isinstance(action.nargs, int) and action.nargs:
        value = " ".join([value] * action.nargs)
    if not action.option_strings:
        return value
    return ", ".join(action.option_strings) + (f" {value}" if action.nargs != 0 else "")


def examples_in(text: str) -> Iterator[str]:
    """The command lines of a help text, with the lines that they go on in."""
    continued = False
    for line in text.splitlines():
        if continued or re.match(r" +(\w+=\S+ )*python ", line):
            yield line if not continued else "  " + line.strip()
            continued = line.endswith("\\")


# --- command line ----------------------------------------------------------------------------------------

PAGES = {"docs/settings.md": settings_page, "docs/commands.md": commands_page}


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 if a page is not current")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Command line; exit status as above."""
    from dassl.plain.writing import atomic_write

    check = build_parser().parse_args(argv).check
    stale = [name for name, page in PAGES.items() if page() != _read(REPOSITORY / name)]
    for name in stale:
        if not check:
            with atomic_write(REPOSITORY / name) as file:
                file.write(PAGES[name]())
        print(f"{name}: {'not current; run `make docs`' if check else 'written'}")
    return int(check and bool(stale))


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


if __name__ == "__main__":
    sys.exit(main())
