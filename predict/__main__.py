"""The command line: python -m predict RUN PATH ...

Arguments are checked and images found before torch is imported; then predictions are written piece by piece as they
come, so that a list of any length needs no more memory than two batches.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

from dassl.plain.console import positive, run_command
from dassl.plain.devices import add_device_flag
from dassl.plain.image_formats import image_suffixes
from dassl.plain.text import columns, plain_warnings, printable
from dassl.plain.writing import disk_failed
from dassl.utils.plugins import PluginError, add_plugin_flag, use
from runs.files import DiskError, ResultsError, is_special, to_stderr
from runs.restore.images import find_images
from runs.restore.names import add_run_argument, run_of
from runs.restore.rebuilding import open_source, rebuild
from runs.restore.source import PredictError
from runs.restore.trust import add_trust_paths, trusting

from .classifier import BATCH_SIZE, NONE, Classifier, Prediction
from .formats import FORMATS, Layout
from .sorting import Sorter, check_target

HEAT_MAPS = "heatmaps"
WIDEST_PATH = 60  # of the column of paths in a table
EXAMPLES = f"""examples:
  python -m predict RUN photos                        # RUN: the folder with config.yaml and prompt_learner/
  python -m predict RUN cat.jpg dog.jpg --top 5
  python -m predict RUN photos --out predictions.csv  # or .json; --format says it otherwise
  python -m predict RUN photos --classes cat "guinea pig"
  python -m predict RUN photos --threshold 0.6        # below that probability: none of these
  python -m predict RUN photos --sort-into sorted     # copies to sorted/cat, sorted/dog, ...; nothing is moved
  python -m predict RUN photos --explain              # heat maps of a PLOT run, in {HEAT_MAPS}/
  python -m results export RUN --out pets.safetensors && python -m predict pets.safetensors photos
  python -m predict hf://me/pets-plot photos          # from the Hugging Face hub, with @REVISION and /FOLDER if needed

Images are read as a person sees them (turned upright, transparency on white; a run on own pictures by its own keys),
and cropped as in a test of the run.  What is no image is named on stderr when its turn comes and left
out: of a long list nothing is read twice, and a bad file costs no other its answer.  json is an array with one object
a line, and exact; csv has a line an image and rank: path,rank,class,probability (both also the answer, where there is
a threshold), where a name that a spreadsheet would
compute (=1+1) comes after an apostrophe, and control characters are written out.  Of the published test one thing
differs: with PLOT the score of an image does not depend on the other images (TRAINER.PLOT.STOP each).

exit status: 0 all done; 1 done, but some images could not be read (0 with --skip-bad), or the disk is full; 2 bad
command line or input, or nothing could be predicted; 130 interrupted.
"""


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m predict",
        description="Classify images with a trained run. No data set is needed.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    text = "folder of a finished run, a file that `python -m results export` wrote, or hf://USER/REPOSITORY of one"
    add_run_argument(parser, text)
    add("paths", metavar="PATH", nargs="+", help="image, or folder that is searched for images at any depth")
    add("--format", choices=tuple(FORMATS), help="default: what --out ends in, else table")
    add("--top", type=positive, default=3, metavar="K", help="classes an image; default: 3")
    add("--out", default="", metavar="FILE", help="write there instead of to the console")
    classes = parser.add_mutually_exclusive_group()
    classes.add_argument("--classes", nargs="+", metavar="NAME", help="other class names than the run's")
    classes.add_argument("--classes-file", default="", metavar="FILE", help="the same from a file, one a line")
    text = f'where the likeliest class has a probability below P, the answer is "{NONE}"; 0 to 1'
    add("--threshold", type=probability, metavar="P", help=text)
    text = "copy each image into the folder of its class below FOLDER; nothing is moved or overwritten"
    add("--sort-into", default="", metavar="FOLDER", help=text)
    add("--skip-bad", action="store_true", help="images that cannot be read are no failure; they are listed at the end")
    add("--batch-size", type=positive, default=BATCH_SIZE, metavar="B", help=f"images at a time; default: {BATCH_SIZE}")
    add_device_flag(parser)
    add("--backbone", default="", metavar="PATH", help="where CLIP's weights are now, if they have moved")
    add_plugin_flag(parser)
    add_trust_paths(parser)
    add(
        "--explain", nargs="?", const=HEAT_MAPS, default="", metavar="DIR",
        help=f"also draw what each prompt of a PLOT run is matched with; default: {HEAT_MAPS}",
    )  # fmt: skip
    return parser


def probability(text: str) -> float:
    """Read a number from 0 to 1; a type for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r}: give a probability, from 0 to 1")
    return value


def run(args: argparse.Namespace) -> int:
    """Predict what the arguments ask for; returns the exit status.

    Everything that can be wrong on the command line is looked at before torch is imported.
    """
    use(args.plugins)
    source = open_source(run_of(args))
    source.check_places(args.backbone)
    if args.explain:
        source.check_explains()
    classes = read_classes(args.classes_file) if args.classes_file else args.classes
    if args.threshold is not None and NONE in (classes or source.classnames() or ()):
        raise PredictError(f'--threshold: there is a class "{NONE}", so that the answer would not be clear; rename it')
    if args.sort_into:
        check_target(Path(args.sort_into), args.paths)
    paths = find_images(args.paths, leave_out=Path(args.explain) if args.explain else None)
    if args.out and Path(args.out).is_dir():
        raise PredictError(f"--out {args.out} is a folder; name a file")
    if Path(args.out).suffix.lower() in image_suffixes():  # a file name forgotten before photos/*.jpg
        raise PredictError(f"--out {args.out} would overwrite an image with text; name another file")
    style = args.format or (Path(args.out).suffix[1:] if Path(args.out).suffix[1:] in FORMATS else "table")

    classifier = Classifier(rebuild(source, classes, args.backbone, args.device), args.batch_size)
    if classifier.trainer.device.type == "cpu":
        from dassl.utils.memory import keep_freed_memory

        keep_freed_memory()
    sorter = Sorter(Path(args.sort_into), classifier.classes, args.threshold) if args.sort_into else None
    unreadable: list[str] = []
    with output(args.out) as file:
        predictions = stream(classifier, paths, unreadable, not args.skip_bad, bool(args.explain))
        if args.explain:
            predictions = drawn(predictions, Path(args.explain), len(paths))
        if sorter:
            predictions = sorter.sort(predictions)
        width = min(WIDEST_PATH, max(map(columns, paths)))
        for text in FORMATS[style](predictions, Layout(args.top, width, args.threshold)):
            write(file, text)
        if len(unreadable) == len(paths):
            raise PredictError("no image could be read: nothing is predicted")
    if unreadable:
        to_stderr(f"{len(unreadable)} of {len(paths)} images could not be read")
        for reason in unreadable if args.skip_bad else ():
            to_stderr(f"  {reason}")
    if args.out:
        to_stderr(f"written: {args.out}")
    if sorter:
        to_stderr(sorter.summary())
    if args.explain:
        count = len(paths) - len(unreadable)
        to_stderr(f"written: {count} heat map{'s' * (count != 1)} in {args.explain}")
    return int(bool(unreadable) and not args.skip_bad)


def read_classes(path: str) -> list[str]:
    """Read class names from a text file, one a line.  Raises PredictError where there is none."""
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise PredictError(f"--classes-file {path} cannot be read: {error}") from error
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise PredictError(f"--classes-file {path} names no class; write one a line")
    return names


def stream(
    classifier: Classifier, paths: Sequence[Path], unreadable: list[str], each: bool = True, explain: bool = False
) -> Iterator[Prediction]:
    """Yield predictions as they come, with a bar on stderr where that is a terminal.

    Parameters
    ----------
    classifier
        Of the run.
    paths
        Image files.
    unreadable
        Takes the reason for every file that cannot be read.
    each
        Say that reason at once, too.
    explain
        Also explain every image.
    """
    from tqdm import tqdm

    with tqdm(total=len(paths), unit="image", disable=None) as bar:

        def leave_out(path: Path | None, error: Exception) -> None:
            named = isinstance(error, OSError)  # as those of reading are
            reason = printable(error if named else f"cannot read the image {path}: {error!r}")
            unreadable.append(reason)
            if each:
                tqdm.write(f"left out: {reason}", file=sys.stderr)
            bar.update()

        for prediction in classifier.stream(paths, leave_out, explain):
            yield prediction
            bar.update()


def drawn(predictions: Iterable[Prediction], folder: Path, count: int) -> Iterator[Prediction]:
    """Pass predictions on, and draw the heat maps of each image into a folder on the way.

    Parameters
    ----------
    predictions
        With explanations, which are dropped once they are drawn: no more than one is in memory.
    folder
        Of the pictures, which are numbered and called by their image's name.
    count
        How many images there are, for the width of the numbers.
    """
    from results.inspection.transport import numbered, save

    for number, prediction in enumerate(predictions, start=1):
        assert prediction.path is not None and prediction.explained is not None
        save(prediction.explained, folder / numbered(number, count, prediction.path), ("png",))
        yield prediction._replace(explained=None)


@contextlib.contextmanager
def output(path: str) -> Iterator[IO[str]]:
    """Open the console, or a file that appears when all is written; a pipe or device is written to as it is."""
    if not path:
        yield sys.stdout
        return
    from dassl.utils import atomic_write

    with open(path, "w", encoding="utf-8") if is_special(Path(path)) else atomic_write(os.path.realpath(path)) as file:
        yield file


def write(file: IO[str], text: str) -> None:
    """Write above the bar, where there is one, and at once, so that whoever reads the output need not wait."""
    from tqdm import tqdm

    with tqdm.external_write_mode(file=file):
        file.write(text)
        file.flush()


def main(argv: list[str] | None = None) -> int:
    """Run a command line, by default that of this process; returns the exit status as in the help text."""

    def work() -> int:
        args = build_parser().parse_args(argv)
        with trusting(args.trust_paths), plain_warnings():
            return run(args)

    return run_command(
        work,
        expected=(ResultsError, PluginError, OSError, RuntimeError),
        failed=lambda error: isinstance(error, DiskError) or disk_failed(error),
    )


if __name__ == "__main__":
    sys.exit(main())
