"""Command line of the benchmarks."""
from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from tabulate import tabulate
from tqdm import tqdm

from dassl.plain.console import positive
from dassl.utils.tools import atomic_write

from . import floor, machine, neighbour, programs, subjects
from .measure import NEW, Process, Row, Step, in_turns, measure

EXAMPLES = """examples:
  python -m benchmarks                                    # parts and the whole of a training step, and the floor
  python -m benchmarks --subjects text step --classes 10 47 100 397 --repeats 5 --json bench.json
  python -m benchmarks --subjects evaluation sweep        # whole programs: a test of 400 images, 30 runs
  python -m benchmarks --subjects views                   # a training step where features of the images are kept
  python -m benchmarks --subjects plotpp-vision plotpp-joint     # a step of PLOT++ in both stages, on ViT-B/16
  python -m benchmarks --subjects neighbour               # spinning against sleeping threads, on shared cores
  python -m benchmarks --subjects growth                  # how cost grows with classes, prompts, context and batch

Old is the original algorithm, written plainly (benchmarks/original.py); old and new run in turns, each in a process of
its own.  "no page faults": the old one with freed memory kept by the process, which new always does on a CPU.
All of the default takes half an hour on two cores.  Old at 100 classes takes 16 GB of memory; beyond that, the subject
"text" lets it encode pieces of 100 classes.
exit status: 0 done, 1 a subject failed or old and new differ by more than 1e-4, 2 bad command line.
"""
TOLERANCE = 1e-4  # relative, of results and gradients


class Subject(NamedTuple):
    title: str
    make: Callable[..., Step]
    classes: tuple[int, ...]
    settings: Mapping[str, Any] = {}  # where they are not DEFAULTS


DEFAULTS = {"backbone": "RN50", "prompts": 4, "context": 16, "batch": 32}
SUBJECTS = {
    "text": Subject("text tower, forward + backward", subjects.text, (10, 47, 100, 397)),
    "transport": Subject("features to scores, forward + backward", subjects.transport, (100, 1000)),
    "matching": Subject("  of that, similarities to scores", subjects.matching, (100, 1000)),
    "step": Subject("training step, images to gradient", subjects.training_step, (47, 100)),
    "views": Subject("training step, new on kept views", partial(subjects.training_step, kept_views=True), (10, 47)),
    "plotpp-vision": Subject("PLOT++, step of the first stage", partial(subjects.prompted_step, update="vision"), (47,),
                             subjects.PLOTPP),
    "plotpp-joint": Subject("PLOT++, step of the second stage", partial(subjects.prompted_step, update="joint"), (47,),
                            subjects.PLOTPP),
}
OTHERS = ("evaluation", "sweep", "neighbour", "floor", "growth")
EVALUATION_CLASSES, SWEEP_CLASSES = (47,), (10,)
GROWTH = {"classes": (25, 50, 100, 200), "prompts": (1, 2, 4, 8), "context": (4, 8, 16, 32), "batch": (8, 16, 32, 64)}


def run(args: argparse.Namespace) -> Iterator[Row]:
    plan = [
        (SUBJECTS[name], classes)
        for name in args.subjects if name in SUBJECTS
        for classes in args.classes or SUBJECTS[name].classes
    ]
    for subject, classes in tqdm(plan, "subjects", disable=None):
        settings = _settings(args, subject.settings) | {"classes": classes}
        title = ", ".join([subject.title, f"C = {classes}", *(f"{key} {settings[key]}" for key in subject.settings)])
        yield measure(title, subject.make, settings, args.repeats, kept=not args.quick)


def run_programs(args: argparse.Namespace) -> Iterator[Row]:
    if "evaluation" in args.subjects:
        for classes in args.classes or EVALUATION_CLASSES:
            with programs.world(_settings(args)["backbone"], classes, 1, args.images) as folder:
                for warm in (False, True):
                    settings = _settings(args) | {"classes": classes, "folder": str(folder), "warm": warm}
                    title = f"test of {args.images} images, {'warm' if warm else 'cold'} cache, C = {classes}"
                    yield measure(title, programs.evaluation, settings, args.repeats, kept=not args.quick)
    if "sweep" in args.subjects:
        settings = {key: value for key, value in _settings(args).items() if key != "backbone"}
        for classes in args.classes or SWEEP_CLASSES:
            with programs.world("RN50", classes, programs.FEW_SHOT, args.images) as folder:
                yield programs.sweep(folder, classes, epochs=args.epochs, **settings)
    if "neighbour" in args.subjects:
        yield from neighbour.rows(args.repeats)


def _settings(args: argparse.Namespace, usual: Mapping[str, Any] = {}) -> dict[str, Any]:  # noqa: B006
    """What was asked for, else what is usual for the subject, else the defaults."""
    asked = {key: getattr(args, key) for key in DEFAULTS if getattr(args, key) is not None}
    return {**DEFAULTS, **usual, **asked}


# --- tables ----------------------------------------------------------------------------------------------


def table(rows: Sequence[Row]) -> str:
    headers = ["subject", "old s", "new s", "ratio", "no page faults: old s", "ratio",
               "old MB", "new MB", "ratio", "largest difference"]
    cells = [
        [
            row.subject, f"{row.old:.4f}", f"{row.new:.4f}", f"{row.ratio:.1f} x",
            "" if row.old_kept is None else f"{row.old_kept:.4f}",
            "" if row.ratio_kept is None else f"{row.ratio_kept:.1f} x",
            *(("", "", "") if math.isnan(row.peak_old) else (
                f"{row.peak_old / 1e6:,.0f}", f"{row.peak_new / 1e6:,.0f}",
                f"{row.peak_old / max(row.peak_new, 1):.1f} x")),
            f"{row.difference:.1e}",
        ]
        for row in rows
    ]
    return str(tabulate(cells, headers=headers, disable_numparse=True))


def floor_report(args: argparse.Namespace, classes: int) -> dict[str, Any]:
    """How near one training step comes to the time of its operations alone; the rates are measured in its turns."""
    settings = _settings(args) | {"classes": classes}
    counted = floor.operations(**settings)
    with Process(NEW, subjects.training_step, settings) as step, Process(NEW, floor.rates, settings) as rates:
        step.run(), rates.run()
        seconds, measured = [], []
        for _ in range(args.repeats):
            measured.append([float(rate) for rate in rates.run().arrays])
            seconds.append(step.run().seconds)
    product_rate, convolution_rate = (max(rate) for rate in zip(*measured, strict=True))
    least, achieved = floor.floor_seconds(counted, product_rate, convolution_rate), statistics.median(seconds)
    return {
        "classes": classes, "convolutions": counted.convolutions, "products": counted.products,
        "product_rate": product_rate, "convolution_rate": convolution_rate,
        "floor": least, "achieved": achieved, "ratio": achieved / least,
    }


def growth_report(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Exponents b of cost ~ size^b, each size varied alone: of the text tower, and for the batch of the whole step."""
    base = _settings(args) | {"classes": 50}
    found = []
    for axis, sizes in GROWTH.items():
        make = subjects.training_step if axis == "batch" else subjects.text
        seconds = []
        for size in tqdm(sizes, axis, disable=None):
            with Process(NEW, make, base | {axis: size}) as process:
                process.run()
                seconds.append(statistics.median(in_turns([process], args.repeats)[0]))
        exponent = float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])
        found.append({"axis": axis, "sizes": sizes, "seconds": seconds, "exponent": exponent})
    return found


def build_parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Old against new, in turns, in one run.",
                                     epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    known = [*SUBJECTS, *OTHERS]
    default = ["text", "transport", "matching", "step", "floor"]
    add("--subjects", nargs="+", choices=known, default=default, metavar="NAME",
        help=f"of {', '.join(known)}; default: {' '.join(default)}")
    add("--classes", type=positive, nargs="+", metavar="C", help="instead of each subject's own")
    add("--prompts", type=positive, metavar="N", help="default: 4")
    add("--context", type=positive, metavar="TOKENS", help="default: 16; of PLOT++: 4")
    add("--batch", type=positive, metavar="B", help="default: 32; of PLOT++: 4")
    add("--backbone", choices=list(subjects.ARCHITECTURES), help="default: RN50; of PLOT++: ViT-B/16")
    add("--images", type=positive, default=400, metavar="K", help="test images of evaluation and sweep; default: 400")
    add("--epochs", type=positive, default=1, metavar="E", help="of each run of the sweep; default: 1")
    add("--repeats", type=positive, default=3, metavar="K", help="turns; default: 3; the sweep is done once")
    add("--quick", action="store_true", help="leave out the old algorithm without page faults")
    add("--json", metavar="FILE", help="also write the figures to FILE")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Command line; exit status as in the help text."""
    parser = build_parser()
    args = parser.parse_args(argv)
    prompted = [name for name in args.subjects if name.startswith("plotpp")]
    if prompted and args.backbone and not args.backbone.startswith("ViT"):
        parser.error(f"{prompted[0]} shows its visual prompts to a ViT; give another --backbone than {args.backbone}")

    base = _settings(args)
    threads = torch.get_num_threads()
    busy = machine.busy_cores()
    print(f"{machine.processor()}, torch {torch.__version__}, {threads} threads, float32, random weights; "
          f"{base['backbone']}, N = {base['prompts']}, {base['context']} context tokens, batch {base['batch']}, or as "
          f"the subject says; medians of {args.repeats} turns, one where the old step takes a minute")
    if machine.noise(busy):
        print(f"warning: {machine.noise(busy)}", file=sys.stderr)
    rows = []
    for row in itertools.chain(run(args), run_programs(args)):
        rows.append(row)
        tqdm.write(f"{row.subject}: {row.ratio:.1f} x", file=sys.stderr)
    figures = [row._asdict() | {"ratio": row.ratio, "ratio_kept": row.ratio_kept} for row in rows]
    report: dict[str, Any] = {"processor": machine.processor(), "busy_cores": [busy], "rows": figures}
    if rows:
        print(table(rows))
    if "floor" in args.subjects:
        report["floor"] = [floor_report(args, classes) for classes in args.classes or SUBJECTS["step"].classes]
        for entry in report["floor"]:
            of = [f"{entry[kind + 's'] / 1e9:.0f} G of {kind}s at {entry[kind + '_rate'] / 1e9:.0f} G/s"
                  for kind in ("convolution", "product")]
            print(f"floor of a training step, C = {entry['classes']}: operations, {', '.join(of)}: "
                  f"{entry['floor']:.3f} s; achieved {entry['achieved']:.3f} s, {entry['ratio']:.2f} times that")
    if "growth" in args.subjects:
        report["growth"] = growth_report(args)
        for entry in report["growth"]:
            what = "training step" if entry["axis"] == "batch" else "text tower"
            shown = ", ".join(f"{n}: {s:.3f} s" for n, s in zip(entry["sizes"], entry["seconds"], strict=True))
            print(f"{what} ~ {entry['axis']} ^ {entry['exponent']:.2f}   ({shown})")
    report["busy_cores"].append(machine.busy_cores())
    if machine.noise(max(report["busy_cores"])):
        print(f"warning: {machine.noise(max(report['busy_cores']))}", file=sys.stderr)
    if args.json:
        with atomic_write(args.json) as file:
            file.write(json.dumps(report, indent=1) + "\n")
    worst = max((row.difference for row in rows if not row.subject.startswith("sweep")), default=0.0)
    if worst > TOLERANCE:
        print(f"error: old and new differ by {worst:.1e}, more than {TOLERANCE:.0e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
