"""Look at the demo world, or write its few-shot task to disk."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from random import Random

from PIL import Image

from .canvas import SIZE
from .captions import caption
from .scenes import chalk_scene, photo_of, photo_scene
from .task import CLASSES, write_task

COLUMNS = 5  # samples of each domain per class


def contact_sheet() -> Image.Image:
    """One row per class in label order: COLUMNS photos, a gap, COLUMNS chalk drawings."""
    gap = SIZE // 8
    sheet = Image.new("RGB", (2 * COLUMNS * SIZE + gap, len(CLASSES) * SIZE), "white")
    for row, name in enumerate(CLASSES):
        for column in range(COLUMNS):
            sheet.paste(photo_of(name, f"sheet/{name}/{column}").image, (column * SIZE, row * SIZE))
            chalk = chalk_scene(name, f"sheet/{name}/{column}").image
            sheet.paste(chalk, ((COLUMNS + column) * SIZE + gap, row * SIZE))
    return sheet


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m demo",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="examples:\n"
        "  python -m demo --sheet sheet.png   # every class in both domains, for the eye\n"
        "  python -m demo --root data         # write data/demo, as the data set Demo does\n"
        "  python -m demo --captions 10       # sample captions of training scenes",
    )
    parser.add_argument("--sheet", metavar="PNG", type=Path, help="write a contact sheet of all classes")
    parser.add_argument("--root", metavar="DIR", type=Path, help="write the few-shot task below DIR/demo")
    parser.add_argument("--captions", metavar="N", type=int, help="print N captions of the photo world")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = build_parser()
    options = parser.parse_args(argv)
    if options.sheet is None and options.root is None and options.captions is None:
        parser.error("nothing to do; give --sheet, --root or --captions")
    if options.sheet is not None:
        options.sheet.parent.mkdir(parents=True, exist_ok=True)
        contact_sheet().save(options.sheet)
        print(f"Wrote {options.sheet}: photos left, chalk right, rows: {', '.join(CLASSES)}")
    if options.root is not None:
        drawn = write_task(options.root / "demo")
        print(f"{options.root / 'demo'} is complete ({drawn} images drawn)")
    for number in range(options.captions or 0):
        print(caption(photo_scene(f"captions/{number}"), Random(number)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
