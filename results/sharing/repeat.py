"""How to make runs again: command lines for somebody else's machine.

Records keep the command line of every run.  Paths in it are of its maker's machine and become names: DATA for the
folder of the data sets, OUTPUT for that of the runs.  The runs of a grid are written as the sweeps that make them,
exactly these and no others.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import shlex
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from dassl.plain.console import ranges_text
from runs.command_line import build_parser
from runs.plugins import CHECKOUT
from runs.record import Run, relative_to

ABSOLUTE = re.compile(r"(?<![\w.:/~])[/~][^\s'\"(),;]*/[^\s'\"(),;]+")  # a path in a sentence
OUTPUT, DATA, ELSEWHERE = "OUTPUT", "DATA", "PATH"
# flags of train.py that a sweep sets, or hands on
OWN = "root output_dir seed trainer config_file dataset_config_file backbone plugins opts".split()


class Paths:
    """The folders of whoever made the runs, and the names that stand for them.

    Parameters
    ----------
    runs
        Whose configs tell the folders.
    output
        The folder that they were read from, which need not be where they were made.
    """

    def __init__(self, runs: Iterable[Run], output: Path) -> None:
        names = {}
        for run in runs:
            below = relative_to(run.folder, output) if run.folder != output else ""
            made = str(run.config.get("OUTPUT_DIR") or "").rstrip("/")
            names[made.removesuffix(f"/{below}") if below else made] = OUTPUT
            names[str(run.config.get("DATASET.ROOT") or "").rstrip("/")] = DATA
        names.pop("", None)
        self._names = sorted(names.items(), key=lambda item: -len(item[0]))  # the longest first: it may lie in another

    def word(self, word: str) -> str:
        """Return a word of a command line, or a value, with a path replaced."""
        key, equals, value = word.partition("=")
        if equals:
            return f"{key}={self.word(value)}"
        for folder, name in self._names:
            if word == folder or word.startswith(f"{folder}/"):
                return name + word[len(folder) :]
        if not os.path.isabs(word) and not word.startswith("~"):
            return word
        path = PurePath(word)
        inside = path.is_relative_to(CHECKOUT)
        return str(path.relative_to(CHECKOUT)) if inside else f"{ELSEWHERE}/{path.name}"

    def text(self, text: str) -> str:
        """Return a sentence with the absolute paths in it replaced."""
        return ABSOLUTE.sub(lambda match: self.word(match[0]), text)

    def command(self, run: Run) -> str:
        """Return the command line of one run; "" where its record has none."""
        words = list(map(self.word, run.record.get("argv") or ()))
        return f"python train.py {shlex.join(words)}" if words else ""


# --- sweeps ----------------------------------------------------------------------------------------------


class Place(NamedTuple):
    """What a sweep varies; shots and seed are 0 and -1 of methods without training."""

    trainer: str
    dataset: str
    shots: int
    seed: int


def sweeps(runs: Sequence[Run], paths: Paths) -> tuple[list[str], list[Run]]:
    """Write runs as sweeps.

    Returns
    -------
    commands, rest
        The sweeps, and the runs that are none's: other flags than a sweep has, no seed, no few shots.
    """
    parser = build_parser()
    grids: dict[tuple[str, ...], list[Place]] = defaultdict(list)  # by the rest of the command line
    rest = []
    for run in runs:
        if planned := _planned(run, parser, paths):
            grids[planned[0]].append(planned[1])
        else:
            rest.append(run)
    commands = []
    for (config, *options), places in grids.items():
        for trainers, datasets, shots, seeds in _products(places):
            lines = [f"python scripts/sweep.py --root {DATA} --output {OUTPUT} --dataset {shlex.join(datasets)} "
                     f"--config {shlex.quote(config)}", f"    --trainers {shlex.join(trainers)}"]  # fmt: skip
            if shots:
                lines[1] += f" --shots {' '.join(map(str, shots))} --seeds {ranges_text(seeds)}"
            commands.append(" \\\n".join([*lines, *[f"    {shlex.join(options)}"] * bool(options)]))
    return commands, rest


def _planned(run: Run, parser: argparse.ArgumentParser, paths: Paths) -> tuple[tuple[str, ...], Place] | None:
    """Read a command line as a sweep writes it: (config and options, place); None for one that no sweep writes."""
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            args = parser.parse_args(run.record.get("argv") or [])
    except SystemExit:  # of another version, or another program
        return None
    files = [paths.word(file) for file in (args.config_file, args.dataset_config_file)]
    known = all(file.startswith("configs/") for file in files) or (all(files) and args.plugins)
    keys, values = args.opts[::2], args.opts[1::2]
    if not args.trainer or not known or len(keys) != len(values) or any("=" in key for key in keys):
        return None
    others = {name for name, value in vars(args).items() if name not in OWN and value != parser.get_default(name)}
    options = dict(zip(keys, values, strict=True))
    shots = options.pop("DATASET.NUM_SHOTS", "")
    dataset = Path(args.dataset_config_file).stem
    if run.trained and not others and shots.isdecimal() and int(shots) > 0 and args.seed >= 0:
        place = Place(args.trainer, dataset, int(shots), args.seed)
    elif not run.trained and others == {"eval_only"}:
        place = Place(args.trainer, dataset, 0, -1)
    else:
        return None
    words = [word for plugin in args.plugins for word in ("--plugin", paths.word(plugin))]
    words += [paths.word(word) for option in options.items() for word in option]
    return (args.backbone or Path(args.config_file).stem, *words), place


def _products(places: Iterable[Place]) -> list[tuple[list[str], list[str], list[int], list[int]]]:
    """Cover places by products of trainers, data sets, shots and seeds: each exactly once, and nothing else.

    What agrees in everything but one axis is joined, axis by axis; methods without training join the first product that
    has their data sets.
    """
    trained = [place for place in dict.fromkeys(places) if place.shots]
    zero_shot = [place for place in dict.fromkeys(places) if not place.shots]
    seeds = _joined((place[:3], place.seed) for place in trained)
    shots = _joined(((trainer, dataset, drawn), count) for (trainer, dataset, count), drawn in seeds.items())
    datasets = _joined(((trainer, drawn, counts), name) for (trainer, name, drawn), counts in shots.items())
    trainers = _joined(((names, counts, drawn), trainer) for (trainer, drawn, counts), names in datasets.items())
    products = {key: list(values) for key, values in trainers.items()}
    for trainer, names in _joined((place.trainer, place.dataset) for place in zero_shot).items():
        same = next((key for key in products if key[0] == names), (names, (), ()))
        products.setdefault(same, []).insert(0, trainer)
    return [(members, list(names), list(counts), list(drawn)) for (names, counts, drawn), members in products.items()]


def _joined(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, tuple[Any, ...]]:
    """Return {key: its values in ascending order}."""
    values: dict[Hashable, set[Any]] = defaultdict(set)
    for key, value in pairs:
        values[key].add(value)
    return {key: tuple(sorted(members)) for key, members in values.items()}
