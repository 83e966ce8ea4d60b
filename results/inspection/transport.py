"""What each prompt of a run is matched with: heat maps of single images, as pictures and arrays.

The command explains every image alone, in a batch of one, so its maps do not depend on which others are looked at.
Where a test stops the transport of a whole batch together (TRAINER.PLOT.STOP batch, the default), its scores can
differ a little.  `predict` explains with the same functions what it has already encoded.

For an image `cat.jpg` there are `01-cat.png` and `01-cat.svg`, and `01-cat.npz` with what they show (S classes: the
one that it was taken for, and the true one where that is known and another):

    picture (H, W, 3)     in [0, 1], as the network saw it
    labels (S,)           of the shown classes
    plan (S, M, N)        how what is moved is spread over local features m and prompts n, total 1
    left_out (S, M)       share of the mass of m that is not moved; only where a matching, or TOPK, leaves some out
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
from runs.files import ResultsError, to_stderr, write_atomic, write_text
from runs.restore.images import find_images, image_reader, to_picture
from runs.restore.source import TRANSPORTS, RunFolder

from ..figures.heatmaps import draw
from ..figures.style import drawing, save_figure
from ..numbers.plans import Explained, ShownClass, distances, plan_distance, softmax
from .images import Choice, test_images, with_files
from .rebuilt import RunAtRest

if TYPE_CHECKING:
    import torch

    from clip.features import ImageFeatures

FORMATS = ("png", "svg", "npz")  # what is written of each image
FOLDER = "transport"  # below the run
INDEX = "index.json"
DPI = 110
STEM = 120  # bytes of an image's name in the names of its pictures


def explain(
    trainer: Any, paths: Iterable[tuple[Path, int | None]], unreadable: Callable[[Path, str], None] | None = None
) -> Iterator[Explained]:
    """Say what the transport did with each image, one at a time, as they are asked for.

    Parameters
    ----------
    trainer
        Of a run whose method matches.
    paths
        Image files with their true labels, or None.
    unreadable
        Is handed a file that is no image, with the reason; the file is passed over.

    Raises
    ------
    ResultsError
        For a file that is no image, unless `unreadable` takes it.
    """
    import torch

    read = image_reader(trainer.cfg)
    trainer.set_model_mode("eval")
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
                features = trainer.encode(tensor[None].to(trainer.device))
            yield explain_encoded(trainer, features, tensor, path.name, label)


def explain_encoded(
    trainer: Any, features: ImageFeatures, image: torch.Tensor, name: str = "", label: int | None = None
) -> Explained:
    """Say what the transport did with one image that is already encoded.

    Parameters
    ----------
    trainer
        In evaluation mode.
    features
        What `trainer.encode` made of the image: pooled (1, D), local (1, M, D).
    image
        The image as the network gets it, (3, H, W).
    name
        Of its file.
    label
        Its true class, if that is known: then its maps are shown, too.
    """
    import torch

    with torch.no_grad(), trainer.autocast():
        output = trainer.model.explain(features)
    match = output.match
    evidence = (output.logits, match.plan, match.similarity)  # (1, C), (1, C, M, N) twice
    logits, plan, similarity = (tensor[0].float().cpu().numpy() for tensor in evidence)
    left_out = None if match.left_out_by_place is None else match.left_out_by_place[0].float().cpu().numpy()  # (C, M)
    grid = trainer.evidence.grid(plan.shape[1], *image.shape[1:])
    predicted = int(logits.argmax())
    labels = [predicted] if label in (None, predicted) else [predicted, label]
    return Explained(
        picture=to_picture(image, trainer.cfg),
        grid=grid,
        logits=logits,
        classnames=trainer.dm.dataset.classnames,
        shown=tuple(
            ShownClass(
                shown,
                plan[shown].copy(),
                similarity[shown].copy(),
                None if left_out is None else left_out[shown].copy(),
            )
            for shown in labels
        ),
        true_label=label,
        name=name,
    )


# --- files -----------------------------------------------------------------------------------------------


def describe(explained: Explained) -> dict[str, Any]:
    """Put into plain data what is worth a line.

    That is the file, the names of the predicted and the true class, the grid, and of every shown class its score, how
    far plan and maps are from uniform (None for a prompt without mass), and the share of the image's mass that is left
    out (None where nothing can be).
    """
    names, probability = explained.classnames, softmax(explained.logits)
    return {
        "file": explained.name,
        "predicted": str(names[explained.shown[0].label]),
        "true": None if explained.true_label is None else str(names[explained.true_label]),
        "grid": explained.grid and list(explained.grid),
        "classes": [
            {
                "label": int(shown.label),
                "name": str(names[shown.label]),
                "probability": float(probability[shown.label]),
                "distance_from_uniform": plan_distance(shown.plan),
                "distance_by_prompt": [None if np.isnan(far) else float(far) for far in distances(shown.plan)],
                "left_out": shown.left_out_share,
            }
            for shown in explained.shown
        ],
    }


def save(explained: Explained, target: Path, formats: Sequence[str] = FORMATS) -> dict[str, Any]:
    """Write target.png, target.svg and target.npz, as far as `formats` asks for them.

    Returns `describe` of it, with the names of the files by format under `files`.
    """
    meta = describe(explained)
    paths = {suffix: target.with_name(f"{target.name}.{suffix}") for suffix in formats}
    if "npz" in paths:
        arrays: dict[str, Any] = {
            "picture": explained.picture,
            "labels": np.asarray([shown.label for shown in explained.shown]),
            "plan": np.stack([shown.plan for shown in explained.shown]),
            "similarity": np.stack([shown.similarity for shown in explained.shown]),
            "grid": np.asarray(explained.grid or (), dtype=np.int64),
            "logits": explained.logits,
            "classnames": np.asarray([str(name) for name in explained.classnames]),
            "meta": np.asarray(json.dumps(meta)),
        }
        left_out = [shown.left_out for shown in explained.shown if shown.left_out is not None]
        if left_out:
            arrays["left_out"] = np.stack(left_out)
        write_atomic(paths["npz"], lambda file: np.savez_compressed(file, **arrays))
    pictures = [path for suffix, path in paths.items() if suffix != "npz"]
    if pictures:
        with drawing():
            figure = draw(explained)
            for path in pictures:
                save_figure(figure, path, dpi=DPI)
    return meta | {"files": {suffix: path.name for suffix, path in paths.items()}}


def numbered(number: int, count: int, path: Path) -> str:
    """Name the pictures of an image, of `count` images: 01-cat.

    A file name has 255 bytes at most, so a longer name of the image is cut, and not within a character.
    """
    stem = os.fsencode(path.stem)[:STEM].decode("utf-8", "ignore")
    return f"{number:0{max(2, len(str(count)))}d}-{stem}"


# --- the command -----------------------------------------------------------------------------------------


def draw_transport(run: RunAtRest, choice: Choice, out: Path | None, formats: Sequence[str]) -> int:
    """Explain the images that were chosen and write their pictures.

    Parameters
    ----------
    run
        Of a method that matches.
    choice
        Which images.
    out
        Folder of the files; default RUN/transport, where the report looks.
    formats
        Of FORMATS.

    Returns
    -------
    status
        The exit status: 0, 1 if some file was no image, 2 if all were none.

    Raises
    ------
    ResultsError
        For a run that matches no places, and for images that cannot be chosen.
    """
    source = RunFolder.open(run.folder).require(*TRANSPORTS)
    if source.option("MATCHING") == "global":
        raise ResultsError(
            f"{run.folder} has TRAINER.{source.trainer}.MATCHING global, which looks at an image's one pooled feature "
            "and at no place: there is nothing to draw; give a run with another matching"
        )
    choice.check()
    if choice.images:
        rebuilt, chosen = with_files(run, find_images(choice.images))
    else:
        rebuilt = run.rebuild()
        chosen = test_images(run, rebuilt, choice)
    return write_all(run.folder, rebuilt, chosen, out or run.folder / FOLDER, formats)


def write_all(
    run: Path, trainer: Any, chosen: Sequence[tuple[Path, int | None]], folder: Path, formats: Sequence[str]
) -> int:
    """Explain them all into `folder`, one in memory at a time, and list what came of it; returns the exit status."""
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
        to_stderr(f"{len(skipped)} of {len(chosen)} files are no images that can be read")
    return (1 if pictures else 2) if skipped else 0


def _line(target: Path, formats: Sequence[str], meta: dict[str, Any]) -> str:
    """Say what is printed of an image: its files, what it was taken for, plans' distances from uniform, left out."""
    first, *others = meta["classes"]
    left_out = "" if first["left_out"] is None else f", {first['left_out']:.0%} left out"
    files = f"{target}.{formats[0]}" if len(formats) == 1 else f"{target}.{{{','.join(formats)}}}"
    truth = "" if meta["true"] is None else " (rightly)" if meta["true"] == meta["predicted"] else ""
    line = f"{files}: taken for {meta['predicted']}{truth}; plan {first['distance_from_uniform']:.3f} from uniform"
    line += left_out
    return line + "".join(f"; truly {other['name']}, {other['distance_from_uniform']:.3f}" for other in others)
