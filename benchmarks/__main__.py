"""Old against new, in turns, in one run.

Old is the original algorithm, written plainly (benchmarks/original.py); old and new run in turns, each in a process of
its own.  "no page faults": the old one with freed memory kept by the process, which new always does on a CPU.
`neighbour` is about a CPU and measured there whatever --device says.
All of the default takes half an hour on two cores.  Old at 100 classes takes 16 GB of memory; beyond that, the subject
"text" lets it encode pieces of 100 classes.  So do "gallop" and "sotglp" beyond 400 prompts of all classes: there the
old side computes the pieces' activations again in the backward pass, as its authors' settings for ImageNet do.

for example:
  python -m benchmarks                                    # parts and the whole of a training step, and the floor
  python -m benchmarks --subjects text step --classes 10 47 100 397 --repeats 5 --json bench.json
  python -m benchmarks --subjects evaluation sweep        # whole programs: a test of 400 images, 30 runs
  python -m benchmarks --subjects views                   # a training step where features of the images are kept
  python -m benchmarks --subjects plotpp-vision plotpp-joint     # a step of PLOT++ in both stages, on ViT-B/16
  python -m benchmarks --subjects gallop sotglp           # a step with global and local prompts, on ViT-B/16
  python -m benchmarks --subjects neighbour               # spinning against sleeping threads, on shared cores
  python -m benchmarks --subjects growth                  # how cost grows with classes, prompts, context and batch
  python -m benchmarks --subjects scale                   # one and two processes; 1,000 to 21,841 classes
  python -m benchmarks --subjects paper                   # what no machine here can do, worked out

exit status: 0 done, 1 a subject failed or old and new differ by more than 1e-4, 2 bad command line.
"""
from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dassl.plain.console import positive
from dassl.plain.devices import add_device_flag, choose_device, describe_device

from .sizes import ARCHITECTURES, EVALUATION_CLASSES, SUBJECTS, SWEEP_CLASSES, Sizes

if TYPE_CHECKING:
    from .measure import Row

TOLERANCE = 1e-4  # relative, of results and gradients


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    known = [*SUBJECTS, "evaluation", "sweep", "neighbour", "floor", "growth", "scale", "paper"]
    default = ["text", "transport", "matching", "step", "floor"]
    add("--subjects", nargs="+", choices=known, default=default, metavar="NAME",
        help=f"of {', '.join(known)}; default: {' '.join(default)}")
    add("--classes", type=positive, nargs="+", metavar="C", help="instead of each subject's own")
    add("--prompts", type=positive, metavar="N", help="of gallop and sotglp the local ones; default: 4")
    add("--context", type=positive, metavar="TOKENS", help="default: 16; of steps on ViT-B/16: 4")
    add("--batch", type=positive, metavar="B", help="default: 32; of PLOT++: 4")
    add("--backbone", choices=list(ARCHITECTURES), help="default: RN50; of PLOT++, GalLoP and SOT-GLP: ViT-B/16")
    add_device_flag(parser, default="cpu")
    add("--images", type=positive, default=400, metavar="K", help="test images of evaluation and sweep; default: 400")
    add("--epochs", type=positive, default=1, metavar="E", help="of each run of the sweep; default: 1")
    add("--repeats", type=positive, default=3, metavar="K", help="turns; default: 3; the sweep is done once")
    add("--quick", action="store_true", help="leave out the old algorithm without page faults")
    add("--json", metavar="FILE", help="also write the figures to FILE")
    return parser


def sizes_of(args: argparse.Namespace, usual: Mapping[str, Any] = {}, **more: int) -> Sizes:  # noqa: B006
    """Return the sizes that were asked for, else those usual for the subject, else the defaults."""
    asked = {key: getattr(args, key) for key in ("backbone", "prompts", "context", "batch") if getattr(args, key)}
    return Sizes(**{**usual, **asked, **more}, device=args.device)


def measured(args: argparse.Namespace) -> Iterator[Row]:
    """Measure the subjects and programs of a command line; yield their rows."""
    from tqdm import tqdm

    from . import neighbour, programs
    from .measure import measure

    plan = [
        (subject, classes)
        for subject in (SUBJECTS[name] for name in args.subjects if name in SUBJECTS)
        for classes in args.classes or subject.classes
    ]
    for subject, classes in tqdm(plan, "subjects", disable=None):
        sizes = sizes_of(args, subject.usual, classes=classes)
        differing = [f"{key} {getattr(sizes, key)}" for key in subject.usual]
        title = ", ".join([subject.title, f"C = {classes}", *differing])
        yield measure(title, subject.make(sizes), args.repeats, kept=not args.quick)
    if "evaluation" in args.subjects:
        for classes in args.classes or EVALUATION_CLASSES:
            sizes = sizes_of(args, classes=classes)
            yield from programs.evaluation_rows(sizes, args.images, args.repeats, kept=not args.quick)
    if "sweep" in args.subjects:
        for classes in args.classes or SWEEP_CLASSES:
            yield programs.sweep(sizes_of(args, classes=classes), args.images, args.epochs)
    if "neighbour" in args.subjects:
        yield from neighbour.rows(args.repeats)


def table(rows: Sequence[Row]) -> str:
    """Return the table of some rows; a cell is empty where nothing was measured."""
    from tabulate import tabulate

    def cell(value: float | None, form: str) -> str:
        return "" if value is None or math.isnan(value) else form.format(value)

    headers = ["subject", "old s", "new s", "ratio", "no page faults: old s", "ratio",
               "old MB", "new MB", "ratio", "largest difference"]
    forms = ["{:.4f}", "{:.4f}", "{:.1f} x", "{:.4f}", "{:.1f} x", "{:,.0f}", "{:,.0f}", "{:.1f} x", "{:.1e}"]
    cells = []
    for row in rows:
        values = [row.old, row.new, row.ratio, row.old_kept, row.ratio_kept, row.peak_old / 1e6, row.peak_new / 1e6,
                  row.peak_old / max(row.peak_new, 1), row.difference]
        cells.append([row.subject, *map(cell, values, forms)])
    return str(tabulate(cells, headers=headers, disable_numparse=True))


def report_on(args: argparse.Namespace) -> dict[str, Any]:
    """Measure what a command line asks for, print it, and return the figures."""
    from tqdm import tqdm

    from . import floor, growth, machine
    from .scale import paper, processes

    rows = []
    for row in measured(args):
        rows.append(row)
        tqdm.write(f"{row.subject}: {row.ratio:.1f} x", file=sys.stderr)
    if rows:
        print(table(rows))
    figures = [row._asdict() | {"ratio": row.ratio, "ratio_kept": row.ratio_kept} for row in rows]
    report: dict[str, Any] = {"processor": machine.processor(), "device": args.device, "rows": figures}
    if "floor" in args.subjects:
        report["floor"] = []
        for classes in args.classes or SUBJECTS["step"].classes:
            report["floor"].append(floor.floor_report(sizes_of(args, classes=classes), args.repeats))
            print(floor.floor_sentence(report["floor"][-1]))
    if "growth" in args.subjects:
        report["growth"] = list(growth.growth_report(sizes_of(args), args.repeats))
        print(*map(growth.growth_sentence, report["growth"]), sep="\n")
    if "paper" in args.subjects:
        print(paper.table(), paper.contexts_table(), sep="\n\n")
    if "scale" in args.subjects:
        sizes = sizes_of(args, processes.SCALED)
        report["scale"] = processes.report(sizes, args.classes or processes.MANY, args.repeats)
    return report


def main(argv: list[str] | None = None) -> int:
    """Run the command line; the exit status is as in the help text."""
    parser = build_parser()
    args = parser.parse_args(argv)
    of_vits = [name for name in args.subjects if name in SUBJECTS and "backbone" in SUBJECTS[name].usual]
    if of_vits and args.backbone and not args.backbone.startswith("ViT"):
        parser.error(f"{of_vits[0]} is measured on a ViT; give another --backbone than {args.backbone}")

    import torch

    from dassl.plain.writing import atomic_write

    from . import machine

    try:
        device = choose_device(args.device)
    except ValueError as error:
        parser.error(str(error))
    args.device = str(device)

    def busy_cores() -> float:
        busy = machine.busy_cores()
        if noise := machine.noise(busy):
            print(f"warning: {noise}", file=sys.stderr)
        return busy

    sizes = sizes_of(args)
    print(f"{machine.processor()}, torch {torch.__version__}, {torch.get_num_threads()} threads, on "
          f"{describe_device(device)}, float32, random weights; {sizes.backbone}, N = {sizes.prompts}, "
          f"{sizes.context} context tokens, batch {sizes.batch}, or as the subject says; medians of {args.repeats} "
          "turns, one where the old step takes a minute")
    before = busy_cores()
    report = report_on(args)
    report["busy_cores"] = [before, busy_cores()]
    if args.json:
        with atomic_write(args.json) as file:
            file.write(json.dumps(report, indent=1) + "\n")
    differences = [row["difference"] for row in report["rows"] if not row["subject"].startswith("sweep")]
    differences += [row["difference"] or 0.0 for row in report.get("scale", ())]
    if (worst := max(differences, default=0.0)) > TOLERANCE:
        print(f"error: old and new differ by {worst:.1e}, more than {TOLERANCE:.0e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
