"""The command line: python -m datasets COMMAND ...

Only the arguments are read here. What a command needs, torch included, is imported when it runs.
"""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module

from dassl.plain.console import not_negative, positive, run_command
from dassl.utils.plugins import PluginError, add_plugin_flag, use

from .catalogue import OWN, UsageError, published
from .draws import DRAWS, PER_CLASS
from .fetching import MIRROR
from .published import PARTS

STATUS = "exit status: 0 everything is there and complete; 1 something is missing or wrong; 2 bad command line."
ROOT_HELP = "the folder that holds the data sets' folders"
NAME_HELP = "as caltech101 or Caltech101"


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; `options.module` is the module whose `run(options)` does the work."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m datasets",
        formatter_class=raw,
        description="Check the data sets on your disk, fetch what is missing, and print or export few-shot picks.",
        epilog="examples:\n  python -m datasets check ~/data\n"
        "  python -m datasets fetch dtd --root ~/data\n"
        "  python -m datasets picks dtd --root ~/data --shots 4\n\n"
        f"data sets: {', '.join(kind.config for kind in published())}\n\n{STATUS}",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, module: str, summary: str, description: str, examples: str) -> argparse.ArgumentParser:
        text = f"examples:\n{examples}\n\n{STATUS}"
        sub = commands.add_parser(name, help=summary, formatter_class=raw, description=description, epilog=text)
        sub.set_defaults(module=module)
        add_plugin_flag(sub)
        return sub

    sub = command(
        "check", "commands.check", "What is there, what is missing, what to fetch from where",
        "Look for the data sets below ROOT: folders (also under other names), split files, counts, class\n"
        "names, and the beginning and end of every image file. Says what to fetch from where, and what to run next.",
        "  python -m datasets check ~/data\n"
        "  python -m datasets check ~/data caltech101 dtd --images\n"
        f"  python -m datasets check ~/photos {OWN}     # your own: bad files, and files that are there twice",
    )  # fmt: skip
    sub.add_argument("root", metavar="ROOT", help=f"{ROOT_HELP} (DATASET.ROOT)")
    meaning = f"{NAME_HELP} (default: all), or {OWN} for pictures of your own in ROOT"
    sub.add_argument("names", metavar="NAME", nargs="*", help=meaning)
    sub.add_argument("--images", action="store_true", help="decode every image as well (minutes for a large data set)")
    sub.add_argument("--csv", default="", metavar="FILE", help=f"of {OWN}: the table of images, as DATASET.FOLDER.CSV")
    sub.add_argument("--test-csv", default="", metavar="FILE", help=f"of {OWN}: as DATASET.FOLDER.TEST_CSV")

    sub = command(
        "fetch", "commands.fetch", "Download what is missing, where it can be had, and unpack it",
        "Download the files that a data set lacks, check them, and unpack them into the layout that the\n"
        "loaders read; then check the data set. What was cut off is taken up where it ended by the same command.\n"
        "An archive that you put into the data set's folder yourself is unpacked, too. Data sets that need a login,\n"
        "or whose address is dead, say what to do instead. With --only, status 0 says that these parts are there.",
        "  python -m datasets fetch dtd eurosat --root ~/data\n"
        "  python -m datasets fetch food101 --root ~/data --dry-run\n"
        "  python -m datasets fetch sun397 --root ~/data --only splits",
    )  # fmt: skip
    sub.add_argument("names", metavar="NAME", nargs="+", help=NAME_HELP)
    sub.add_argument("--root", required=True, help=f"{ROOT_HELP}; made if need be")
    meaning = "of images, splits (CoOp's split files) and lists (needed only without a split file); "
    meaning += "default: all that a run needs"
    sub.add_argument("--only", nargs="+", choices=PARTS, default=[], metavar="PART", help=meaning)
    sub.add_argument("--dry-run", action="store_true", help="say what would be fetched from where, and stop")
    meaning = "also what is there: files of the same name are replaced, others stay"
    sub.add_argument("--again", action="store_true", help=meaning)
    sub.add_argument("--keep", action="store_true", help="keep the archives after unpacking")
    meaning = f"ask URL/HOST/PATH in place of https://HOST/PATH (default: ${MIRROR})"
    sub.add_argument("--mirror", metavar="URL", default=os.environ.get(MIRROR, ""), help=meaning)

    sub = command(
        "picks", "commands.picks", "The few-shot images of a seed",
        "Print the training and validation images that a run with these shots and this seed uses. As in a\n"
        "run, they are kept in the data set's folder split_fewshot.",
        "  python -m datasets picks dtd --root ~/data --shots 4 --seed 1\n"
        "  python -m datasets picks oxford_pets --root ~/data --shots 16 --format csv --out picks.csv\n"
        "  python -m datasets picks eurosat --root ~/data --shots 16 --draw proportional",
    )  # fmt: skip
    sub.add_argument("name", metavar="NAME", help=NAME_HELP)
    meaning = f"{ROOT_HELP}; default: $DATA, as for the scripts, or data"
    sub.add_argument("--root", default=os.environ.get("DATA") or "data", help=meaning)
    sub.add_argument("--shots", type=positive, required=True, metavar="K", help="images per class")
    meaning = "how they are drawn: per_class (default), as CoOp does, or proportional, K per class on average, as for "
    meaning += "GalLoP's and SOT-GLP's tables (DATASET.DRAW)"
    sub.add_argument("--draw", choices=DRAWS, default=PER_CLASS, help=meaning)
    sub.add_argument("--seed", type=not_negative, default=1, metavar="S", help="default: 1")
    sub.add_argument("--format", choices=("text", "json", "csv"), default="text", help="default: text")
    sub.add_argument("--out", metavar="FILE", help="write there instead of to the console")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    return run_command(
        lambda: run(argv),
        expected=(OSError, ValueError, ImportError),
        failed=lambda error: not isinstance(error, UsageError | PluginError),
        interrupted="interrupted; a fetch goes on from here when it is started again",
        closed=1,
    )


def run(argv: list[str] | None) -> int:
    """Read a command line, and let the module of its command do the work."""
    options = build_parser().parse_args(argv)
    use(options.plugins)
    return import_module(f".{options.module}", __package__).run(options)


if __name__ == "__main__":
    sys.exit(main())
