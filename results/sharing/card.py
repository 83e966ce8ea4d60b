"""The card of an exported classifier: README.md for people and for the hub, made of what the run has recorded.

At its top stands a block of YAML that the hub reads (library, tags, backbone, accuracy); below it is what somebody
needs who has the file and nothing else. Nothing on it says where on its maker's machine anything lay. The licence is
left to whoever shares the file.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from clip.loading.hub import SCHEME
from clip.loading.open_clip_table import open_clip_name
from clip.loading.releases import RELEASES
from dassl.plain.text import printable
from datasets.draws import PROPORTIONAL
from runs.files import ResultsError, write_text
from runs.restore.rebuilding import of_own_pictures
from runs.restore.source import WEIGHTS

from .markdown import code, counted, departures_blocks, page, table

if TYPE_CHECKING:
    from runs.restore.source import Source

NAME = "README.md"
LIBRARY = "plot-prompt-learning"  # by which a card of ours is known again
MOST_CLASSES = 400  # that are listed; the file has all


def card_text(source: Source, classes: Sequence[str], file: str, repository: str = "") -> str:
    """Write the card of a run's exported classifier.

    Parameters
    ----------
    source
        The run.
    classes
        Class names by label.
    file
        Name of the exported file.
    repository
        Of the hub, as "user/name", if it goes there: the commands on the card then name it.

    Returns
    -------
    str
        Markdown below a block of YAML.
    """
    sections = {
        "": [table(_facts(source, classes))],
        "Use": _use(file, repository, source),
        "Classes": _classes(classes),
        "Pictures": [_pictures(source)],
        "Training": departures_blocks({"": source.config}, source.method.zero_shot),
        "Licence": [
            "Not stated. Whoever shares this file chooses one, and adds `license: ...` to the block at the top. The "
            "backbone and the training pictures have licences of their own.",
        ],
    }
    text = page(title_of(source), _summary(source, classes), sections)
    front = yaml.safe_dump(_front_matter(source), sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n\n{text}"


def write_card(file: Path, text: str, earlier: Iterable[str] = ()) -> tuple[Path, bool]:
    """Write a card beside an exported file.

    A card that somebody may have edited is left alone, and a README.md that is no card is not touched at all: the card
    is then called by the file's name.

    Parameters
    ----------
    file
        The exported file.
    text
        The card.
    earlier
        Other texts that count as not edited.

    Returns
    -------
    path, written
        Where the card is, and whether it is this text.
    """
    path = file.with_name(NAME)
    if path.exists() and not _is_card(path):
        path = file.with_suffix(".md")
    if path.exists():
        if not _is_card(path):
            raise ResultsError(f"{path} is there already and is no card of an exported file; choose another --out")
        present = path.read_text(encoding="utf-8", errors="replace")
        if present not in (text, *earlier):
            return path, False
    return write_text(path, text), True


def _is_card(path: Path) -> bool:
    """Whether a file is a card of an exported classifier, edited or not."""
    if not path.is_file():
        return False
    with open(path, encoding="utf-8", errors="replace") as file:
        start = file.read(10_000)
    return start.startswith("---\n") and f"library_name: {LIBRARY}\n" in start


# --- what a run says of itself ---------------------------------------------------------------------------


def title_of(source: Source) -> str:
    """Name a classifier: "PLOT on Caltech101, RN50, 16 shots"."""
    shots = source.result.get("shots")
    parts = [_backbone(source), counted(shots, "shot") if isinstance(shots, int) and shots > 0 else ""]
    parts += ["proportional draw"] if _is_proportional(source) else []
    return ", ".join([f"{source.trainer} on {_dataset(source)}", *filter(None, parts)])


def _is_proportional(source: Source) -> bool:
    """Whether the few shots were spread over the classes in proportion to their sizes."""
    return source.result.get("draw") == PROPORTIONAL


def _dataset(source: Source) -> str:
    name = str(source.result.get("dataset") or source.config.get("DATASET.NAME") or "unknown data")
    return "own pictures" if of_own_pictures(name) else name


def _backbone(source: Source) -> str:
    """Return the backbone's name; of a file only its own, without the folders above."""
    name = str(source.config.get("MODEL.BACKBONE.NAME", ""))
    return Path(name).name if needs_own_weights(source) else name


def needs_own_weights(source: Source) -> bool:
    """Whether the backbone is a file of the run's maker, which others have to have, too."""
    name = str(source.config.get("MODEL.BACKBONE.NAME", ""))
    return name.endswith(WEIGHTS) or Path(name).exists()


def _base_model(source: Source) -> str:
    """Return the hub's name of the backbone, "" where it is not known."""
    name = str(source.config.get("MODEL.BACKBONE.NAME", ""))
    if name in RELEASES:
        return RELEASES[name].repository
    if published := open_clip_name(name):
        import open_clip  # which takes seconds, and has been imported to load these weights

        return str((open_clip.get_pretrained_cfg(*published) or {}).get("hf_hub") or "").rstrip("/")
    return name.removeprefix(SCHEME).partition("@")[0] if name.startswith(SCHEME) else ""


def _front_matter(source: Source) -> dict[str, Any]:
    """Return the block that the hub reads."""
    result, base = source.result, _base_model(source)
    front: dict[str, Any] = {
        "library_name": LIBRARY,
        "pipeline_tag": "image-classification",
        "tags": ["clip", "few-shot-learning", "prompt-learning", printable(source.trainer).lower()],
        "metrics": ["accuracy"],
    }
    if base:
        front["base_model"] = base
    if isinstance(result.get("accuracy"), int | float):
        dataset = printable(_dataset(source))
        split = result.get("split") or "test"
        measured = {
            "task": {"type": "image-classification"},
            "dataset": {"type": dataset.lower().replace(" ", "-"), "name": dataset, "split": split},
            "metrics": [{"type": "accuracy", "name": "accuracy (%)", "value": round(result["accuracy"], 2)}],
        }
        front["model-index"] = [{"name": printable(title_of(source)), "results": [measured]}]
    return front


# --- sections --------------------------------------------------------------------------------------------


def _summary(source: Source, classes: Sequence[str]) -> str:
    what = "nothing that was learned: zero-shot prompts" if source.method.zero_shot else "what was learned"
    return (
        f"An image classifier of {len(classes)} classes: {what} for a frozen CLIP. The file holds neither that CLIP, "
        "which is loaded by its name, nor any picture."
    )


def _facts(source: Source, classes: Sequence[str]) -> list[tuple[str, str]]:
    result = source.result
    shots, seed = result.get("shots"), result.get("seed")
    training = "all images of the training split"
    if isinstance(shots, int) and shots > 0:
        training = f"{counted(shots, 'image')} a class"
        if _is_proportional(source):
            training += " on average, in proportion to the classes' sizes (DATASET.DRAW proportional)"
    facts = {
        "method": source.trainer,
        "backbone": _backbone(source) + " (a file of weights)" * needs_own_weights(source),
        "data set": _dataset(source),
        "trained on": "nothing" if source.method.zero_shot else training,
        "seed": str(seed) if isinstance(seed, int) and seed >= 0 else "none",
        "classes": str(len(classes)),
        "accuracy": _accuracy(source),
        "finished": str(result.get("finished") or ""),
    }
    return [(name, value) for name, value in facts.items() if value]


def _accuracy(source: Source) -> str:
    result = source.result
    if not isinstance(result.get("accuracy"), int | float):
        return "not tested"
    total = result.get("total")
    images = f"{total:,} images of the {result.get('split') or 'test'} split" if isinstance(total, int) else "the test"
    note = f" ({result['protocol']})" if result.get("protocol") else ""
    return f"{result['accuracy']:.2f} % on {images}{note}"


def _use(file: str, repository: str, source: Source) -> list[str]:
    place = f"{SCHEME}{repository}" if repository else shlex.quote(file)
    backbone = " --backbone WEIGHTS" if needs_own_weights(source) else ""
    option = ', backbone="WEIGHTS"' if backbone else ""
    return [
        "In a checkout of PLOT (prompt learning with optimal transport), with `photos` a folder of pictures:",
        code("sh", f"python -m predict {place} photos{backbone}\n"
                     f"python -m predict {place} photos{backbone} --threshold 0.5 --sort-into sorted"),
        "From Python:",
        code("python", f"import plot\n\nclassifier = plot.load({json.dumps(place if repository else file)}{option})\n"
                         'print(classifier("photo.jpg")[0].top(3))'),
    ]  # fmt: skip


def _classes(classes: Sequence[str]) -> list[str]:
    shown = ", ".join(printable(name).replace("`", "'") for name in classes[:MOST_CLASSES])
    more = [f"And {len(classes) - MOST_CLASSES} more, which the file names."] if len(classes) > MOST_CLASSES else []
    return [code("text", shown), *more]


def _pictures(source: Source) -> str:
    """Say how pictures were read in training."""
    config = source.config
    height, width = config.get("INPUT.SIZE", (224, 224))
    squashed = config.get("INPUT.RESIZE") == "squash"
    sides = "both sides resized" if squashed else "the shorter side resized, then the centre cut out"
    upright = "turned upright by their EXIF tag" if config.get("INPUT.EXIF_ORIENTATION") else "not turned"
    alpha = f"laid on {config['INPUT.ALPHA']}" if config.get("INPUT.ALPHA") else "dropped"
    return (
        f"{height} x {width} pixels, {config.get('INPUT.INTERPOLATION', 'bicubic')}: {sides}. In training they were "
        f"{upright}, and transparency was {alpha} (`INPUT.EXIF_ORIENTATION`, `INPUT.ALPHA`)."
    )
