"""Look at the demo world, or write its few-shot task, or a world with knobs, to disk."""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields
from pathlib import Path
from random import Random

from PIL import Image

from .canvas import SIZE
from .captions import caption
from .scenes import chalk_scene, photo_of, photo_scene
from .task import CLASSES, write_task
from .worlds import World, world_scene, write_world

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


def world_sheet(world: World) -> Image.Image:
    """One row per class of a world in label order, with 2 COLUMNS of its pictures."""
    sheet = Image.new("RGB", (2 * COLUMNS * SIZE, len(world.classes) * SIZE))
    for label in range(len(world.classes)):
        for column in range(2 * COLUMNS):
            sheet.paste(world_scene(label, f"sheet/{column}", world).image, (column * SIZE, label * SIZE))
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
        "  python -m demo --captions 10       # sample captions of training scenes\n"
        "  python -m demo --world share=0.3,clutter=10 --root data   # write data/world-share0.3-clutter10\n"
        "  python -m demo --world parts=2,near=true,share=0.8 --sheet sheet.png",
    )
    parser.add_argument("--sheet", metavar="PNG", type=Path, help="write a contact sheet of all classes")
    parser.add_argument("--root", metavar="DIR", type=Path, help="write the few-shot task below DIR/demo")
    parser.add_argument(
        "--world",
        metavar="KNOBS",
        help="--sheet and --root are about this world, which the data set Folder reads (DATASET.FOLDER.PATH): "
        f"KNOB=VALUE with commas between; {', '.join(f'{field.name} ({field.default})' for field in fields(World))}",
    )
    parser.add_argument("--captions", metavar="N", type=int, help="print N captions of the photo world")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = build_parser()
    options = parser.parse_args(argv)
    try:
        world = None if options.world is None else World.parse(options.world)
    except ValueError as error:
        parser.error(str(error))
    if options.sheet is None and options.root is None and options.captions is None:
        parser.error("nothing to do; give --sheet, --root or --captions")
    if options.sheet is not None:
        options.sheet.parent.mkdir(parents=True, exist_ok=True)
        (contact_sheet() if world is None else world_sheet(world)).save(options.sheet)
        what = "photos left, chalk right, rows" if world is None else f"{world.name}, rows"
        print(f"Wrote {options.sheet}: {what}: {', '.join(CLASSES if world is None else world.classes)}")
    if options.root is not None and world is not None:
        drawn = write_world(options.root, world)
        print(f"{options.root / world.name} is complete ({drawn} images drawn)")
    elif options.root is not None:
        drawn = write_task(options.root / "demo")
        print(f"{options.root / 'demo'} is complete ({drawn} images drawn)")
    for number in range(options.captions or 0):
        print(caption(photo_scene(f"captions/{number}"), Random(number)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
