"""Look into a PLOT run: rebuild its trainer, let it explain images, keep pictures and arrays.

Beside each picture `NAME.png` lies `NAME.npz` with what it shows: picture (H, W, 3), plan (M, N), similarity
(M, N), grid (2,), logits (C,), and `meta`, a JSON text with file, class names, true and predicted class, and
distances.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .files import ResultsError, write_atomic
from .heatmaps import Explained, distances, draw, plan_distance
from .plotting import drawing, save_figure

if TYPE_CHECKING:
    import torch

FOLDER = "transport"  # below the run
WITHOUT_PLACES = (
    "matches its visual prompts, each of which sees the whole image, with text prompts: there are no places to draw. "
    "What its transport did is in result.json under `transport`, and in `python -m results report`"
)


def check_run(run: Path) -> dict[str, Any]:
    """Before anything heavy is imported: is this the folder of a PLOT or PLOTPP run, trained?  Returns its config."""
    import yaml

    if not run.is_dir():
        raise ResultsError(
            f"{run} {'is a file, not a folder' if run.exists() else 'does not exist'}; give the folder of a PLOT run"
        )
    try:
        config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
        trainer = config["TRAINER"]["NAME"]
    except FileNotFoundError:
        raise ResultsError(
            f"{run} holds no config.yaml, so it is no run folder; give the folder of one PLOT run, "
            "the one with config.yaml and prompt_learner/"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise ResultsError(f"{run / 'config.yaml'} cannot be read: {error}") from None
    if not str(trainer).upper().startswith("PLOT"):
        raise ResultsError(f"{run} is a run of {trainer}, which has no transport plan; give the folder of a PLOT run")
    if not any(run.glob("*/model*.pth.tar*")):
        raise ResultsError(f"{run} holds no checkpoint; let the run finish, or give another one")
    return config


def check_places(run: Path, config: dict[str, Any]) -> None:
    """Raises ResultsError where the features of an image are of no places."""
    trainers = config["TRAINER"]
    if trainers["NAME"] == "PLOTPP":
        raise ResultsError(f"{run} is a run of PLOTPP, which {WITHOUT_PLACES}")
    if trainers.get(trainers["NAME"], {}).get("MATCHING") == "global":
        raise ResultsError(
            f"{run} has TRAINER.{trainers['NAME']}.MATCHING global, which looks at an image's one pooled feature and "
            "at no place: there is nothing to draw; give a run with another matching"
        )


def load(run: Path, backbone: str = "", root: str = "", verbose: bool = False) -> Any:
    """The run's trainer with its learned prompts.  Raises ResultsError for what is missing or unfit."""
    from dassl.utils.tools import error_text
    from train import load_trainer

    quiet = contextlib.nullcontext() if verbose else contextlib.redirect_stdout(io.StringIO())
    try:
        with quiet:
            trainer = load_trainer(run, backbone=backbone, root=root)
    except (OSError, ValueError, LookupError, RuntimeError) as error:
        raise ResultsError(f"cannot rebuild {run}: {error_text(error)}") from error
    if not hasattr(trainer, "explain"):
        raise ResultsError(f"{run} is a run of {type(trainer).__name__}, which cannot explain images")
    return trainer


def choose_items(test: Sequence[Any], count: int) -> list[Any]:
    """`count` test items from as many classes as possible, evenly over the labels; always the same ones."""
    if count < 1:
        raise ResultsError(f"--count must be at least 1, got {count}")
    by_label: dict[int, list[Any]] = {}
    for item in sorted(test, key=lambda item: (item.label, str(item.impath))):
        by_label.setdefault(item.label, []).append(item)
    turns = [
        items[turn]
        for turn in range(max(map(len, by_label.values()), default=0))
        for items in by_label.values()
        if turn < len(items)
    ]
    first_turn = turns[: len(by_label)]
    if count < len(first_turn):
        return [first_turn[index * len(first_turn) // count] for index in range(count)]
    return turns[:count]


def explain(trainer: Any, paths: Sequence[tuple[Path, int | None]]) -> Iterator[tuple[Explained, np.ndarray]]:
    """(path, true label or None) -> what the transport did with each, and the similarities (M, N)."""
    import torch

    from dassl.data.transforms import build_transform
    from dassl.utils import read_image

    with contextlib.redirect_stdout(io.StringIO()):
        transform: Any = build_transform(trainer.cfg, is_train=False)
    names = trainer.dm.dataset.classnames
    for path, label in paths:
        try:
            tensor = transform(read_image(str(path)))
        except (OSError, ValueError) as error:
            raise ResultsError(f"cannot read {path} as an image: {error}") from error
        with torch.no_grad():
            found = trainer.explain(tensor[None])
        if found.grid is None:
            raise ResultsError(f"{type(trainer).__name__} {WITHOUT_PLACES}")
        predicted = int(found.logits[0].argmax())
        yield (
            Explained(
                picture=to_picture(tensor, trainer.cfg),
                plan=found.plan[0, predicted].numpy(),
                grid=tuple(found.grid),
                logits=found.logits[0].numpy(),
                classnames=names,
                true_label=label,
                name=path.name,
            ),
            found.similarity[0, predicted].numpy(),
        )


def to_picture(tensor: torch.Tensor, cfg: Any) -> np.ndarray:
    """(3, H, W) as the network gets it -> (H, W, 3) in [0, 1]: exactly the crop that the maps lie on."""
    picture = tensor.float().permute(1, 2, 0).numpy()
    if "normalize" in cfg.INPUT.TRANSFORMS:
        picture = picture * np.asarray(cfg.INPUT.PIXEL_STD) + np.asarray(cfg.INPUT.PIXEL_MEAN)
    return np.clip(picture, 0, 1).astype(np.float32)


def save(explained: Explained, similarity: np.ndarray, target: Path) -> dict[str, Any]:
    """Write target.png and target.npz; returns the meta data."""
    predicted, truth = int(explained.logits.argmax()), explained.true_label
    meta = {
        "file": explained.name,
        "predicted": str(explained.classnames[predicted]),
        "true": None if truth is None else str(explained.classnames[truth]),
        "distance_from_uniform": plan_distance(explained.plan),
        "distance_by_prompt": [None if np.isnan(value) else float(value) for value in distances(explained.plan)],
        "classnames": [str(name) for name in explained.classnames],
    }
    write_atomic(
        target.with_name(target.name + ".npz"),
        lambda file: np.savez_compressed(
            file,
            picture=explained.picture,
            plan=explained.plan,
            similarity=similarity,
            grid=np.asarray(explained.grid),
            logits=explained.logits,
            meta=np.asarray(json.dumps(meta, ensure_ascii=False)),
        ),
    )
    with drawing():
        save_figure(draw(explained), target.with_name(target.name + ".png"), dpi=130)
    return meta


def run_command(
    run: Path, images: Sequence[str], count: int, out: Path | None, backbone: str, root: str, verbose: bool
) -> list[Path]:
    """Explain `images`, or `count` test images, and write the pictures to `out` (default RUN/transport)."""
    check_places(run, check_run(run))
    absent = [image for image in images if not Path(image).is_file()]
    if absent:
        raise ResultsError(f"no such image: {', '.join(absent[:5])}" + (" ..." if len(absent) > 5 else ""))
    trainer = load(run, backbone, root, verbose)
    test = trainer.dm.dataset.test
    labels = {Path(item.impath).resolve(): item.label for item in test}
    if images:
        paths = [(Path(image), labels.get(Path(image).resolve())) for image in images]
    else:
        paths = [(Path(item.impath), item.label) for item in choose_items(test, count)]
    folder = out or run / FOLDER
    written = []
    for index, (explained, similarity) in enumerate(explain(trainer, paths), start=1):
        target = folder / f"{index:02d}-{Path(explained.name).stem}"
        meta = save(explained, similarity, target)
        truth = "" if meta["true"] is None else f" (truly {meta['true']})"
        print(
            f"{target}.png: taken for {meta['predicted']}{truth}; plan {meta['distance_from_uniform']:.3f} from uniform"
        )
        written.append(target.with_name(target.name + ".png"))
    if not written:
        print("warning: the data set has no test image", file=sys.stderr)
    return written
