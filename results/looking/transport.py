"""Look into a PLOT run: let it explain images, and keep pictures and arrays.

An image is explained alone, in a batch of one, so its maps do not depend on which others are looked at.  Where a test
stops the transport of a whole batch together (TRAINER.PLOT.STOP batch, the default), its scores can differ a little.

For an image `cat.jpg` there are `01-cat.png` and `01-cat.svg`, and `01-cat.npz` with what they show (S classes: the
one that it was taken for, and the true one where that is known and another):

    picture (H, W, 3)     in [0, 1], as the network saw it
    labels (S,)           of the shown classes
    plan (S, M, N)        mass moved from local feature m to prompt n, total 1
    similarity (S, M, N)  their cosine
    grid (2,)             (h, w): feature m lies at row m // w, column m % w; empty where features are no places
    logits (C,)           of all classes
    classnames (C,)
    meta                  JSON text: `describe`

and `index.json` in their folder lists all that the last call made: {"run", "pictures": [meta with "path" of the image
and "files" by format], "skipped": [{"path", "reason"}]}.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dassl.plain.text import error_text
from runs.files import ResultsError, tell, write_atomic, write_text
from runs.trained_run import check_transport, load, quiet

from ..figures.heatmap_figure import draw
from ..figures.plotting import drawing, save_figure
from .choosing import FORMATS, Choice, test_images, with_files
from .heatmaps import Explained, ShownClass, distances, plan_distance, softmax
from .images import find_images

if TYPE_CHECKING:
    import torch
    from PIL import Image

FOLDER = "transport"  # below the run
INDEX = "index.json"
DPI = 110
STEM = 120  # bytes of an image's name in the names of its pictures


def explain(
    trainer: Any, paths: Iterable[tuple[Path, int | None]], unreadable: Callable[[Path, str], None] | None = None
) -> Iterator[Explained]:
    """(path, true label or None) -> what the transport did with each image; one at a time, as they are asked for.

    Without `unreadable` a file that is no image raises ResultsError; with it, such a file is told to it with the
    reason, and passed over.
    """
    import torch


    read, names = image_reader(trainer.cfg), trainer.dm.dataset.classnames
    with trainer.model.fixed_prompts():
        for path, label in paths:
            try:
                tensor = read(path)
            except (OSError, ValueError) as error:
                if unreadable is None:
                    raise ResultsError(f"cannot read {path} as an image: {error_text(error)}") from error
                unreadable(path, error_text(error))
                continue
            with torch.no_grad():
                found = trainer.explain(tensor[None])
            predicted = int(found.logits[0].argmax())
            labels = [predicted] if label in (None, predicted) else [predicted, label]
            yield Explained(
                picture=to_picture(tensor, trainer.cfg),
                grid=None if found.grid is None else tuple(found.grid),
                logits=found.logits[0].numpy(),
                classnames=names,
                shown=tuple(
                    ShownClass(one, found.plan[0, one].numpy().copy(), found.similarity[0, one].numpy().copy())
                    for one in labels
                ),
                true_label=label,
                name=path.name,
            )


def image_reader(cfg: Any) -> Callable[[Path | Image.Image], torch.Tensor]:
    """From a file, or a PIL image, to what the network gets in a test, (3, H, W).

    What it returns raises OSError or ValueError for a file that is no image.
    """
    from dassl.data.transforms import build_transform
    from dassl.utils.images import read_image, to_rgb

    with quiet():
        transform: Any = build_transform(cfg, is_train=False)
    return lambda image: transform(read_image(str(image)) if isinstance(image, Path) else to_rgb(image))


def to_picture(tensor: torch.Tensor, cfg: Any) -> np.ndarray:
    """(3, H, W) as the network gets it -> (H, W, 3) in [0, 1]: exactly the crop that the maps lie on."""
    picture = tensor.float().permute(1, 2, 0).numpy()
    if "normalize" in cfg.INPUT.TRANSFORMS:
        picture = picture * np.asarray(cfg.INPUT.PIXEL_STD) + np.asarray(cfg.INPUT.PIXEL_MEAN)
    return np.clip(picture, 0, 1).astype(np.float32)


# --- files -----------------------------------------------------------------------------------------------


def describe(explained: Explained) -> dict[str, Any]:
    """What is worth a line: file, names of the predicted and the true class, grid, and of every shown class its score
    and how far plan and maps are from uniform (None for a prompt without mass).
    """
    names, probability = explained.classnames, softmax(explained.logits)
    return {
        "file": explained.name,
        "predicted": str(names[explained.shown[0].label]),
        "true": None if explained.true_label is None else str(names[explained.true_label]),
        "grid": explained.grid and list(explained.grid),
        "classes": [
            {
                "label": int(one.label),
                "name": str(names[one.label]),
                "probability": float(probability[one.label]),
                "distance_from_uniform": plan_distance(one.plan),
                "distance_by_prompt": [None if np.isnan(far) else float(far) for far in distances(one.plan)],
            }
            for one in explained.shown
        ],
    }


def save(explained: Explained, target: Path, formats: Sequence[str] = FORMATS) -> dict[str, Any]:
    """Write target.png, target.svg and target.npz, as far as asked for; returns `describe` of it, with the names of
    the files by format under `files`.
    """
    meta = describe(explained)
    paths = {suffix: target.with_name(f"{target.name}.{suffix}") for suffix in formats}
    if "npz" in paths:
        arrays: dict[str, Any] = {
            "picture": explained.picture,
            "labels": np.asarray([one.label for one in explained.shown]),
            "plan": np.stack([one.plan for one in explained.shown]),
            "similarity": np.stack([one.similarity for one in explained.shown]),
            "grid": np.asarray(explained.grid or (), dtype=np.int64),
            "logits": explained.logits,
            "classnames": np.asarray([str(name) for name in explained.classnames]),
            "meta": np.asarray(json.dumps(meta)),
        }
        write_atomic(paths["npz"], lambda file: np.savez_compressed(file, **arrays))
    pictures = [path for suffix, path in paths.items() if suffix != "npz"]
    if pictures:
        with drawing():
            figure = draw(explained)
            for path in pictures:
                save_figure(figure, path, dpi=DPI)
    return meta | {"files": {suffix: path.name for suffix, path in paths.items()}}


# --- the command -----------------------------------------------------------------------------------------


def run_command(
    run: Path,
    choice: Choice,
    out: Path | None = None,
    formats: Sequence[str] = FORMATS,
    backbone: str = "",
    root: str = "",
    verbose: bool = False,
) -> int:
    """Explain the images that were chosen and write the pictures to `out` (default RUN/transport); the exit status."""
    trainer, node, _ = check_transport(run)
    if node.get("MATCHING") == "global":
        raise ResultsError(
            f"{run} has TRAINER.{trainer}.MATCHING global, which looks at an image's one pooled feature and at no "
            "place: there is nothing to draw; give a run with another matching"
        )
    choice.check()
    if choice.images:
        rebuilt, chosen = with_files(run, find_images(choice.images), backbone, root, verbose)
    else:
        rebuilt = load(run, backbone, root, verbose)
        chosen = test_images(rebuilt, choice, verbose)
    return write_all(run, rebuilt, chosen, out or run / FOLDER, formats)


def write_all(
    run: Path, trainer: Any, chosen: Sequence[tuple[Path, int | None]], folder: Path, formats: Sequence[str]
) -> int:
    """Explain them all into `folder`, one in memory at a time, and list what came of it; the exit status."""
    from tqdm import tqdm

    pictures: list[dict[str, Any]] = []
    skipped: list[dict[str, str]] = []

    def skip(path: Path, reason: str) -> None:
        skipped.append({"path": str(path), "reason": reason})
        tqdm.write(f"skipped: {reason}", file=sys.stderr)

    bar = tqdm(chosen, "Images", unit="image", disable=None, leave=False)
    try:
        for explained in explain(trainer, bar, unreadable=skip):
            path = chosen[len(pictures) + len(skipped)][0]
            target = folder / numbered(len(pictures) + 1, len(chosen), path)
            pictures.append(save(explained, target, formats) | {"path": str(path)})
            tqdm.write(_line(target, formats, pictures[-1]), file=sys.stdout)
    finally:  # also what was made before an interruption is listed
        listed = {"run": str(run), "pictures": pictures, "skipped": skipped}
        write_text(folder / INDEX, json.dumps(listed, indent=1) + "\n")
    if skipped:
        tell(f"{len(skipped)} of {len(chosen)} files are no images that can be read")
    return (1 if pictures else 2) if skipped else 0


def numbered(number: int, count: int, path: Path) -> str:
    """01-cat: what the pictures of an image are called, of `count` images; a file name has 255 bytes at most."""
    stem = os.fsencode(path.stem)[:STEM].decode("utf-8", "ignore")
    return f"{number:0{max(2, len(str(count)))}d}-{stem}"


def _line(target: Path, formats: Sequence[str], meta: dict[str, Any]) -> str:
    first, *others = meta["classes"]
    files = f"{target}.{formats[0]}" if len(formats) == 1 else f"{target}.{{{','.join(formats)}}}"
    truth = "" if meta["true"] is None else " (rightly)" if meta["true"] == meta["predicted"] else ""
    line = f"{files}: taken for {meta['predicted']}{truth}; plan {first['distance_from_uniform']:.3f} from uniform"
    for other in others:
        line += f"; truly {other['name']}, {other['distance_from_uniform']:.3f}"
    return line
