"""The vocabulary words nearest to what a run has learned, vector by vector: CoOp's interpret_prompt.

A context vector stands where a word's embedding would, so one may ask which word lies nearest.  Whether that means
anything is another question, so what it takes to judge is shown beside it: how far words lie from one another, how long
vectors and words are, and how varied the nearest words.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from runs.files import ResultsError
from runs.restore.source import RunFolder
from runs.restore.testset import labels_of

from ..tables.layout import csv_text
from .rebuilt import RunAtRest

if TYPE_CHECKING:
    from torch import Tensor

FORMATS = ("text", "json", "csv")
CSV_COLUMNS = "class prompt token rank word token_id distance".split()
AT_ONCE = 256  # vectors whose distances to the whole vocabulary are in memory together
SAMPLE = 1024  # words whose nearest other word is looked for
SPARE = 8  # more candidates than asked for, since fast distances are rounded


# --- the vocabulary --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Vocabulary:
    """The words with an embedding of their own.

    Words that share an embedding with others were touched by no training, and are left out.
    """

    ids: list[int]  # W token ids
    vectors: Tensor  # (W, E) float32
    size: int  # words that there are
    spacing: float  # median distance of a word to its nearest other one, over SAMPLE words
    length: float  # median


def vocabulary(embedding: Tensor) -> Vocabulary:
    """Build the vocabulary of a token embedding (V, E).

    Rows that are equal to the bit were never trained (they kept the value that all untrained ones have), so a context
    vector near them says nothing.  Raises ResultsError where no two rows differ.
    """
    import torch

    embedding = embedding.detach().float().cpu()
    rows = [row.tobytes() for row in embedding.numpy()]
    times = Counter(rows)
    ids = [index for index, row in enumerate(rows) if times[row] == 1]
    if len(ids) < 2:
        raise ResultsError("the backbone's words have no embeddings of their own: there is nothing to compare with")
    vectors = embedding[ids]
    picked = torch.linspace(0, len(ids) - 1, min(SAMPLE, len(ids))).round().long()
    _, distances = nearest(vectors[picked], vectors, 2)  # a word itself is its nearest, at 0
    length = vectors.norm(dim=1).median().item()
    return Vocabulary(ids, vectors, len(embedding), distances[:, 1].median().item(), length)


def nearest(vectors: Tensor, words: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """Find the `top` nearest of words (W, E) for each of vectors (Q, E), by Euclidean distance.

    Candidates come from inner products, |v - w|^2 = |v|^2 + |w|^2 - 2 v.w, which is fast and cancels digits; their
    distances are then taken exactly, so that a word is at 0 from itself.

    Returns
    -------
    indices, distances
        Both (Q, top), the nearest first.
    """
    import torch
    from tqdm import tqdm

    top = min(top, len(words))
    squares = words.square().sum(dim=1)
    indices, distances = [], []
    for part in tqdm(vectors.split(AT_ONCE), "words", disable=None, leave=False, delay=1):
        rough = squares - 2 * part @ words.t()  # (q, W) squared distance, but for the vector's own square
        candidates = rough.topk(min(top + SPARE, len(words)), largest=False).indices
        exact = torch.stack([(words[near] - vector).norm(dim=1) for vector, near in zip(part, candidates, strict=True)])
        order = exact.sort(dim=1, stable=True)
        indices.append(candidates.gather(1, order.indices)[:, :top])
        distances.append(order.values[:, :top])
    return torch.cat(indices), torch.cat(distances)


# --- a run -----------------------------------------------------------------------------------------------


class Vector(NamedTuple):
    """One learned context vector and its nearest words, the nearest first."""

    of_class: str | None  # None where all classes share it
    prompt: int  # from 1
    token: int  # from 1
    words: list[str]
    token_ids: list[int]
    distances: list[float]


class Words(NamedTuple):
    """All vectors of a run, and what is needed to judge their nearness."""

    trainer: str
    backbone: str
    shifted: bool  # by every image
    prompts: int
    context: int  # vectors a prompt
    length: float  # of a vector, median
    vocabulary: Vocabulary
    vectors: list[Vector]


def find_words(run: RunAtRest, top: int, classes: Sequence[str] = ()) -> Words:
    """Find the nearest words of each context vector.

    Reads no data set, unless the record lacks the class names.

    Parameters
    ----------
    run
        Of a method whose contexts lie among the embeddings of words.
    top
        How many words a vector.
    classes
        Of class-specific contexts those of these classes; none: all.

    Raises
    ------
    ResultsError
        For a run that learns no context, or class names that choose nothing.
    """
    if top < 1:
        raise ResultsError(f"--top must be at least 1, got {top}")
    method = RunFolder.open(run.folder).require("learned context", "has_words").method

    import torch

    from runs.record import read_classnames
    from trainers.parts.backbone import load_backbone
    from trainers.parts.prompts import ContextLearner

    trainer = run.rebuild(read_classnames(run.folder))
    learner = getattr(getattr(trainer, "model", None), "prompt_learner", None)
    if not isinstance(learner, ContextLearner):
        raise ResultsError(f"{run.folder} is a run of {type(trainer).__name__}, which learns no context")
    with run.quiet():
        model = load_backbone(trainer.cfg, trainer.precision, trainer.device)
    with torch.no_grad():
        contexts = learner.contexts().detach().float().cpu()  # (N, 1 or C, n, E)
    names = pick(trainer.dm.dataset.classnames, getattr(learner, "class_specific", False), classes)
    known = vocabulary(model.token_embedding.weight)
    chosen = contexts[:, [index for index, _ in names]].transpose(0, 1)  # (classes, N, n, E)
    _, prompts, context, width = chosen.shape
    flat = chosen.reshape(-1, width)
    indices, distances = nearest(flat, known.vectors, top)
    places = [(name, n, j) for _, name in names for n in range(1, prompts + 1) for j in range(1, context + 1)]
    vectors = []
    for place, row, at in zip(places, indices.tolist(), distances.tolist(), strict=True):
        ids = [known.ids[index] for index in row]
        vectors.append(Vector(*place, [model.tokens.spell(token) for token in ids], ids, at))
    names_of_run = (trainer.cfg.TRAINER.NAME, trainer.cfg.MODEL.BACKBONE.NAME)
    shifted = not method.can_be_mapped
    return Words(*names_of_run, shifted, prompts, context, flat.norm(dim=1).median().item(), known, vectors)


def pick(names: Sequence[str], specific: bool, wanted: Sequence[str]) -> list[tuple[int, str | None]]:
    """Choose (index, name) of the contexts to be shown; of one that all classes share it is (0, None).

    Parameters
    ----------
    names
        Of all classes.
    specific
        Whether every class has a context of its own.
    wanted
        Names as typed; none, or "all", for every class.
    """
    if not specific:
        if wanted:
            raise ResultsError("--class: the classes of this run share their context (it has no CSC)")
        return [(0, None)]
    if not wanted or list(wanted) == ["all"]:
        return list(enumerate(names))
    return [(label, names[label]) for label in labels_of(wanted, names)]


# --- text ------------------------------------------------------------------------------------------------


def format_words(words: Words, style: str, run: RunAtRest) -> str:
    """Show them in one of FORMATS; ends with a newline."""
    if style == "json":
        return json.dumps(_plain(words, run), ensure_ascii=False, indent=1) + "\n"
    if style == "csv":
        return csv_text(CSV_COLUMNS, _lines(words))
    return "\n".join(_text(words)) + "\n"


def _text(words: Words) -> Iterator[str]:
    """Yield the summary, then for every prompt a heading and a line a vector, as CoOp's tool prints it."""
    yield summary(words)
    group = None
    for vector in words.vectors:
        if group != (group := (vector.of_class, vector.prompt)):
            yield "\n" + (f"class {vector.of_class}, " if vector.of_class is not None else "") + f"prompt {group[1]}"
        yield f"{vector.token}: {vector.words} {[f'{distance:.4f}' for distance in vector.distances]}"


def summary(words: Words) -> str:
    """Say what the words below are, and by what to judge whether their being near means anything."""
    known, vectors = words.vocabulary, words.vectors
    firsts = [vector.distances[0] for vector in vectors]
    near = sum(distance < known.spacing for distance in firsts)
    commonest = Counter(vector.words[0] for vector in vectors).most_common()
    word, times = commonest[0]
    lines = [
        f"{words.trainer}, {words.prompts} prompt{'s' * (words.prompts > 1)} of {words.context} context vectors, "
        f"backbone {words.backbone}: the nearest words of each vector, with Euclidean distances.",
        "How much that means (medians):",
        f"  distance  {median(firsts):.3f} from a vector to its nearest word, {known.spacing:.3f} from a word to its "
        f"nearest other word; {near} of {len(vectors)} vectors are nearer to one than that",
        f"  length    {words.length:.3f} of the vectors, {known.length:.3f} of the words; short vectors are near short "
        "words, whatever these mean",
        f"  variety   different nearest words: {len(commonest)}; the commonest, {word!r}, is that of {times} of "
        f"{len(vectors)} vectors",
    ]
    left_out = known.size - len(known.ids)
    if left_out:
        lines.append(f"Left out: {left_out:,} of {known.size:,} words, which share an embedding: no training saw them.")
    if words.shifted:
        lines.append("Every image shifts these vectors; shown is where they start from.")
    return "\n".join(lines)


def _plain(words: Words, run: RunAtRest) -> dict[str, Any]:
    """Make plain data for JSON."""
    known = words.vocabulary
    return {
        "run": str(run.folder),
        "trainer": words.trainer,
        "backbone": words.backbone,
        "prompts": words.prompts,
        "context_vectors": words.context,
        "vocabulary": {
            "words": known.size,
            "with_own_embedding": len(known.ids),
            "median_distance_to_nearest": known.spacing,
            "median_length": known.length,
        },
        "median_length": words.length,
        "vectors": [dict(zip(("class", *Vector._fields[1:]), vector, strict=True)) for vector in words.vectors],
    }


def _lines(words: Words) -> Iterator[Sequence[Any]]:
    """Yield the rows of the CSV: a line a vector and word."""
    for vector in words.vectors:
        for rank, word in enumerate(zip(vector.words, vector.token_ids, vector.distances, strict=True), start=1):
            yield vector.of_class, vector.prompt, vector.token, rank, *word
