"""The command line: python -m datasets COMMAND ..."""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import os.path as osp
import shlex
import sys
import textwrap
from typing import Any

from dassl.data.datasets import DATASET_REGISTRY
from dassl.plain.text import error_text, printable, printable_lines
from dassl.utils.tools import atomic_write

from .checking import Report, build_quietly, check
from .downloads import PARTS
from .facts import FACTS, picks_digest
from .fetching import fetch, preview
from .files import list_folders, list_images, relative_posix
from .own_pictures import check_own
from .sources import MIRROR

OWN = "folder"  # the name of pictures of one's own
STATUS = "exit status: 0 everything is there and complete; 1 something is missing or wrong; 2 bad command line."
MARKS = {"complete": "ok", "incomplete": "!!", "not found": "--"}


def build_parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m datasets",
        formatter_class=raw,
        description="Check the data sets on your disk, fetch what is missing, and print or export few-shot picks.",
        epilog="examples:\n  python -m datasets check ~/data\n"
        "  python -m datasets fetch dtd --root ~/data\n"
        "  python -m datasets picks dtd --root ~/data --shots 4\n\n"
        f"data sets: {', '.join(facts.config for facts in FACTS.values())}\n\n{STATUS}",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    sub = commands.add_parser(
        "check",
        help="What is there, what is missing, what to fetch from where",
        formatter_class=raw,
        description="Look for the data sets below ROOT: folders (also under other names), split files, counts, class\n"
        "names, and the beginning and end of every image file. Says what to fetch from where, and what to run next.",
        epilog="examples:\n  python -m datasets check ~/data\n"
        "  python -m datasets check ~/data caltech101 dtd --images\n"
        f"  python -m datasets check ~/photos {OWN}     # your own: bad files, and files that are there twice"
        f"\n\n{STATUS}",
    )
    sub.add_argument("root", metavar="ROOT", help="the folder that holds the data sets' folders (DATASET.ROOT)")
    meaning = f"as caltech101 or Caltech101 (default: all), or {OWN} for pictures of your own in ROOT"
    sub.add_argument("names", metavar="NAME", nargs="*", help=meaning)
    sub.add_argument("--images", action="store_true", help="decode every image as well (minutes for a large data set)")
    sub.add_argument("--csv", default="", metavar="FILE", help=f"of {OWN}: the table of images, as DATASET.FOLDER.CSV")
    sub.add_argument("--test-csv", default="", metavar="FILE", help=f"of {OWN}: as DATASET.FOLDER.TEST_CSV")
    sub.set_defaults(run=run_check)

    sub = commands.add_parser(
        "fetch",
        help="Download what is missing, where it can be had, and unpack it",
        formatter_class=raw,
        description="Download the files that a data set lacks, check them, and unpack them into the layout that the\n"
        "loaders read; then check the data set. What was cut off is taken up where it ended by the same command.\n"
        "An archive that you put into the data set's folder yourself is unpacked, too. Data sets that need a login,\n"
        "or whose address is dead, say what to do instead.",
        epilog="examples:\n  python -m datasets fetch dtd eurosat --root ~/data\n"
        "  python -m datasets fetch food101 --root ~/data --dry-run\n"
        "  python -m datasets fetch sun397 --root ~/data --only splits\n\n"
        f"{STATUS}\nWith --only, 0 says that these parts are there.",
    )
    sub.add_argument("names", metavar="NAME", nargs="+", help="as caltech101 or Caltech101")
    sub.add_argument("--root", required=True, help="the folder that holds the data sets' folders; made if need be")
    sub.add_argument(
        "--only",
        nargs="+",
        choices=PARTS,
        default=[],
        metavar="PART",
        help="of images, splits (CoOp's split files) and lists (needed only without a split file); "
        "default: all that a run needs",
    )
    sub.add_argument("--dry-run", action="store_true", help="say what would be fetched from where, and stop")
    sub.add_argument(
        "--again", action="store_true", help="also what is there: files of the same name are replaced, others stay"
    )
    sub.add_argument("--keep", action="store_true", help="keep the archives after unpacking")
    sub.add_argument(
        "--mirror",
        metavar="URL",
        default=os.environ.get(MIRROR, ""),
        help=f"ask URL/HOST/PATH in place of https://HOST/PATH (default: ${MIRROR})",
    )
    sub.set_defaults(run=run_fetch)

    sub = commands.add_parser(
        "picks",
        help="The few-shot images of a seed",
        formatter_class=raw,
        description="Print the training and validation images that a run with these shots and this seed uses. As in a\n"
        "run, they are kept in the data set's folder split_fewshot.",
        epilog="examples:\n  python -m datasets picks dtd --root ~/data --shots 4 --seed 1\n"
        "  python -m datasets picks oxford_pets --root ~/data --shots 16 --format csv --out picks.csv"
        f"\n\n{STATUS}",
    )
    sub.add_argument("name", metavar="NAME", help="as caltech101 or Caltech101")
    sub.add_argument(
        "--root",
        default=os.environ.get("DATA") or "data",
        help="the folder that holds the data sets' folders; default: $DATA, as for the scripts, or data",
    )
    sub.add_argument("--shots", type=_positive, required=True, metavar="K", help="images per class")
    sub.add_argument("--seed", type=_not_negative, default=1, metavar="S", help="default: 1")
    sub.add_argument("--format", choices=("text", "json", "csv"), default="text", help="default: text")
    sub.add_argument("--out", metavar="FILE", help="write there instead of to the console")
    sub.set_defaults(run=run_picks)
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1")
    return int(text)


def _not_negative(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0: only a run with a seed can be repeated")
    return int(text)


class UsageError(ValueError):
    pass


def registry_name(text: str) -> str:
    """'caltech101', 'Caltech101' or another name that the folder is known by -> 'Caltech101'."""
    known: dict[str, str] = {}
    for name, facts in FACTS.items():
        folder = DATASET_REGISTRY.get(name).dataset_dir
        known |= {alias.lower(): name for alias in (*facts.aliases, folder)}
    known |= {facts.config.lower(): name for name, facts in FACTS.items()}
    known |= {name.lower(): name for name in FACTS}
    if text.lower() in known:
        return known[text.lower()]
    from difflib import get_close_matches

    near = get_close_matches(text.lower(), known, n=1)
    hint = f"did you mean {FACTS[known[near[0]]].config!r}? " if near else ""
    raise UsageError(
        f"no data set named {text!r}; {hint}known: {', '.join(facts.config for facts in FACTS.values())}"
    )


# --- check -----------------------------------------------------------------------------------------------


def run_check(options: argparse.Namespace) -> int:
    root = osp.abspath(osp.expanduser(options.root))
    own = [name.lower() for name in options.names] == [OWN]
    if not osp.isdir(root):
        raise UsageError(f"no folder {root}; ROOT is the folder that holds the data sets' folders")
    if not own and (options.csv or options.test_csv):
        raise UsageError(f"--csv and --test-csv are for pictures of your own: name the data set {OWN}")
    if own:
        report = check_own(root, options.csv, options.test_csv)
        print(describe(report))
        return 0 if report.state == "complete" else 1
    names = list(dict.fromkeys(map(registry_name, options.names))) or list(FACTS)
    reports = []
    for name in names:
        report = check(name, root, options.images)
        print(describe(report), flush=True)
        reports.append(report)
    if any(report.todo for report in reports):
        print("Addresses are those that were published; a fetch tells whether they still answer.\n")
    print(summary(reports, root, options))
    if not any(report.exists for report in reports) and any(list_images(osp.join(root, f)) for f in list_folders(root)):
        print(f"are these pictures of your own? then: python -m datasets check {shlex.quote(root)} {OWN}")
    return 0 if all(report.state == "complete" for report in reports) else 1


def describe(report: Report) -> str:
    lines = [f"[{MARKS[report.state]}] {report.name} ({report.config}): {report.state}"]
    for mark, entries in (("", report.found), ("note: ", report.notes), ("problem: ", report.problems)):
        lines += [textwrap.indent(f"{mark}{entry}", "     ") for entry in entries]
    lines += [f"     to do: {entry}" for entry in dict.fromkeys(report.todo)]
    return printable_lines("\n".join(lines)) + "\n"


def summary(reports: list[Report], root: str, options: argparse.Namespace) -> str:
    states = {state: [r for r in reports if r.state == state] for state in MARKS}
    lines = []
    for state, those in states.items():
        if those:
            lines.append(f"{len(those)} {state}: {', '.join(FACTS[report.name].config for report in those)}")
    lines.append("next:")
    trainable = [r for r in states["complete"] if not DATASET_REGISTRY.get(r.name).eval_only]
    for report in (trainable or states["complete"])[:1]:
        lines.append("  " + run_command(report.name, root))
    unfinished = [FACTS[report.name].config for report in states["incomplete"] + states["not found"]]
    if unfinished:
        again = " ".join(unfinished) if options.names or len(unfinished) < len(FACTS) else ""
        lines.append(f"  do what is listed above, then: python -m datasets check {shlex.quote(root)} {again}".rstrip())
    return "\n".join(lines)


def run_command(name: str, root: str) -> str:
    config = FACTS[name].config
    command = f"python train.py --root {shlex.quote(root)} --dataset-config-file configs/datasets/{config}.yaml "
    command += "--config-file configs/trainers/PLOT/rn50.yaml --trainer PLOT "
    if DATASET_REGISTRY.get(name).eval_only:
        return command + f"--output-dir output/{config} --eval-only --model-dir output/imagenet/seed1"
    return command + f"--output-dir output/{config}/seed1 --seed 1 DATASET.NUM_SHOTS 16"


# --- fetch -----------------------------------------------------------------------------------------------


def run_fetch(options: argparse.Namespace) -> int:
    names = list(dict.fromkeys(map(registry_name, options.names)))
    root = osp.abspath(osp.expanduser(options.root))
    if options.dry_run:
        for name in names:
            print(preview(name, root, options.only, options.again) + "\n")
        print("Sizes are rounded; the addresses are those that were published, and were not tried.")
        return 0
    failed, reports = False, []
    for name in names:
        problems = fetch(name, root, options.only, options.again, options.keep, options.mirror)
        for problem in problems:
            print(f"error: {printable_lines(problem)}", file=sys.stderr)
        report = check(name, root)
        print(describe(report), flush=True)
        reports.append(report)
        failed |= bool(problems) or (not options.only and report.state != "complete")
    print(summary(reports, root, options))
    return int(failed)


# --- picks -----------------------------------------------------------------------------------------------


def run_picks(options: argparse.Namespace) -> int:
    name = registry_name(options.name)
    kind = DATASET_REGISTRY.get(name)
    if kind.eval_only:
        raise UsageError(f"{name} is for evaluation only: no run trains on it, so nothing is picked")
    dataset = build_quietly(kind, options.root, options.shots, options.seed, warn=True)
    content = picks_of(dataset, name, options.shots, options.seed)
    text = {"text": as_text, "json": as_json, "csv": as_csv}[options.format](content)
    if options.out:
        write_text(options.out, text)
        print(f"{len(content['train'])} train and {len(content['val'])} val images -> {options.out}")
    else:
        sys.stdout.write(text)
    return 0


def picks_of(dataset: Any, name: str, shots: int, seed: int) -> dict[str, Any]:
    """What `picks` exports; paths are relative to the data set's image folder."""
    own_val = dataset.val if dataset.val is not dataset.test else []
    content: dict[str, Any] = {"dataset": name, "shots": shots, "seed": seed, "image_folder": dataset.image_dir}
    checks = []
    for part, items in (("train", dataset.train_x), ("val", own_val)):
        rows = [(relative_posix(item.impath, dataset.image_dir), item.label, item.classname) for item in items]
        checks.append(picks_digest([(label, path) for path, label, _ in rows]))
        content[part] = [{"path": path, "label": label, "classname": cname} for path, label, cname in rows]
    published = FACTS[name].picks.get((shots, seed))
    content["check"] = {"train": checks[0], "val": checks[1]}
    content["published"] = None if published is None else published == tuple(checks)
    return content


def as_text(content: dict[str, Any]) -> str:
    known = {None: "no published value to compare with", True: "as published", False: "not as published"}
    lines = [
        f"# {content['dataset']}, {content['shots']}-shot, seed {content['seed']}, below {content['image_folder']}",
        f"# check values: train {content['check']['train']}, val {content['check']['val']} "
        f"({known[content['published']]})",
    ]
    lines += ["\t".join(map(printable, row)) for row in _rows(content)]
    return "\n".join(lines) + "\n"


def as_json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2) + "\n"


def as_csv(content: dict[str, Any]) -> str:
    """A table with the columns that the data set Folder reads; paths are relative to the image folder."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("split", "label", "classname", "path"))
    writer.writerows(_rows(content))
    return file.getvalue()


def _rows(content: dict[str, Any]) -> list[tuple[str, int, str, str]]:
    return [
        (part, item["label"], item["classname"], item["path"]) for part in ("train", "val") for item in content[part]
    ]


def write_text(path: str, text: str) -> None:
    """Under its name only when it is complete."""
    with atomic_write(osp.expanduser(path)) as file:
        file.write(text)


def main(argv: list[str] | None = None) -> int:
    options = build_parser().parse_args(argv)
    try:
        status = options.run(options)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # the reader of our output has gone, e.g. `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except UsageError as error:
        print(f"error: {error_text(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; a fetch goes on from here when it is started again", file=sys.stderr)
        return 130
    except (OSError, ValueError, ImportError) as error:
        print(f"error: {error_text(error)}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
