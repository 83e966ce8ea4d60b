"""The joint space, and where in it every name that is taught belongs.

The space is that of CLIP's text embeddings, with what all names have in common taken away: their mean; and of the rest
the D leading directions, partly whitened.  Names come from four sources, of falling certainty:

    clip        names whose embedding by CLIP's own text tower is known
    synonym     other words for those
    imagenet    the labels of the trunk's classes: the mean of broader names, moved towards what the classifier's
                weights of the class say (a ridge regression from classifier rows to embeddings, fitted where both
                are known)
    words       frequent words that resemble names of things, placed by a kernel ridge regression from word vectors
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .pieces import Array, Pieces

WHITENING = -0.3  # power of the singular values: 0 keeps them, -1 makes all directions equal
RARE = 2000  # rank at which a word counts half in a phrase; more frequent words say less
ANY_WORDS = 40_000  # the most frequent words, of which a tenth stands for words of any kind


class Name(NamedTuple):
    """A name to be taught: what it reads, the source of its target, and the target (D,) of unit length."""

    text: str
    source: str
    target: Array


def unit(x: Array) -> Array:
    """Scale rows to unit length."""
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def joint_space(embedding: Array, width: int) -> Array:
    """Bring embeddings (K, 512) into the joint space (K, width), of unit length."""
    centred = embedding - embedding.mean(0)
    _, scale, directions = np.linalg.svd(centred, full_matrices=False)
    return unit(centred @ directions[:width].T * scale[:width] ** WHITENING)


def class_targets(pieces: Pieces, placed: Array, ridge: float = 0.3) -> Array:
    """Place ImageNet's classes (1000, D), given the places (K, D) of the names.

    A class with a name of the same meaning takes its place; else half is the mean of broader names, half the
    regression's answer.
    """
    rows = pieces.trunk["classifier.weight"].double().numpy()
    rows = unit(rows - rows.mean(0))
    known = pieces.exact >= 0
    basis = rows[known]
    solved = np.linalg.solve(basis @ basis.T + ridge * np.eye(len(basis)), placed[pieces.exact[known]])
    targets = unit(rows @ basis.T @ solved)
    for k, (exact, broader) in enumerate(zip(pieces.exact, pieces.broader, strict=True)):
        near = broader[broader >= 0]
        if exact >= 0:
            targets[k] = placed[exact]
        elif len(near):
            targets[k] = unit(unit(placed[near].mean(0)) + targets[k])
    return targets


class WordVectors:
    """Word vectors, and the regressions that start from them.

    Parameters
    ----------
    words, vectors
        As of `Pieces`.
    """

    def __init__(self, words: list[str], vectors: Array) -> None:
        self.words, self.vectors = words, vectors
        self.rank = {word: i for i, word in enumerate(words)}

    def phrase(self, text: str) -> Array | None:
        """Average the vectors of the words of a text, the rare ones counting more; None without a known word."""
        ranks = np.array([self.rank[word] for word in _words(text) if word in self.rank], np.int64)
        if not len(ranks):
            return None
        weights = ranks / (ranks + RARE) + 1e-3
        return weights @ self.vectors[ranks] / weights.sum()

    def bridge(self, names: Iterable[str], targets: Array) -> Callable[[Array], Array]:
        """Fit a kernel ridge regression from vectors (N, 100) to the joint space (N, D), on names with known places."""
        pairs = [(phrase, target) for name, target in zip(names, targets, strict=True)
                 if (phrase := self.phrase(name)) is not None]
        phrases, places = (np.stack(column) for column in zip(*pairs, strict=True))
        return _kernel_ridge(phrases, places, sharpness=3.0, ridge=0.1)

    def things(self, examples: Iterable[str], taken: Iterable[str], count: int, frequent: int, seed: int) -> list[str]:
        """Choose words that resemble the words of examples more than they resemble any words.

        Parameters
        ----------
        examples
            Names of things; every word of them is one.
        taken
            Words not to choose.
        count
            How many to choose.
        frequent
            Of how many, the most frequent of all.
        seed
            Of the words that stand for any words.
        """
        known = sorted({self.rank[word] for text in examples for word in _words(text) if word in self.rank})
        any_words = min(len(self.words), ANY_WORDS)
        others = np.random.default_rng(seed).choice(any_words, any_words // 10, replace=False)
        answers = np.r_[np.ones(len(known)), -np.ones(len(others))]
        basis = self.vectors[[*known, *others]]
        likeness = _kernel_ridge(basis, answers[:, None], sharpness=2.0, ridge=0.5, scaled=True)
        left = set(self.words[:frequent]) - set(taken)
        ranks = [self.rank[word] for word in self.words[:frequent] if word in left and re.fullmatch("[a-z]{3,}", word)]
        score = np.concatenate([likeness(self.vectors[ranks[i : i + 4000]])[:, 0] for i in range(0, len(ranks), 4000)])
        return [self.words[ranks[i]] for i in np.argsort(-score, kind="stable")[:count]]


def _kernel_ridge(
    x: Array, y: Array, sharpness: float, ridge: float, scaled: bool = False
) -> Callable[[Array], Array]:
    """Fit y = f(x) with the kernel exp(sharpness * (cosine - 1)) of centred, and perhaps scaled, vectors."""
    centre, scale = x.mean(0), x.std(0) if scaled else 1.0

    def features(z: Array) -> Array:
        return unit((z - centre) / scale)

    basis = features(x)

    def kernel(z: Array) -> Array:
        return np.exp(sharpness * (features(z) @ basis.T - 1))

    solved = np.linalg.solve(kernel(x) + ridge * np.eye(len(x)), y)
    return lambda z: kernel(z) @ solved


def _words(text: str) -> list[str]:
    return re.findall("[a-z0-9]+", text.lower())


def plain(text: str) -> str:
    """Write a name as it is taught: lower case, one space between words."""
    return " ".join(text.lower().replace("_", " ").split())


def names_to_teach(pieces: Pieces, placed: Array, classes: Array, words: int, frequent: int, seed: int) -> list[Name]:
    """List every name with its place.

    Parameters
    ----------
    pieces
        The pieces.
    placed, classes
        Places of the names with an embedding (K, D), and of ImageNet's classes (1000, D).
    words, frequent
        How many words to add, out of how many of the most frequent.
    seed
        Of the choice of words.
    """
    found: dict[str, list[tuple[str, Array]]] = {}

    def add(text: str, source: str, target: Array, unless: tuple[str, ...] = ()) -> None:
        entries = found.setdefault(plain(text), [])
        if not any(entry[0] in unless for entry in entries):
            entries.append((source, target))

    for name, target in zip(pieces.names, placed, strict=True):
        add(name, "clip", target)
    for name, synonyms, target in zip(pieces.names, pieces.synonyms, placed, strict=True):
        for synonym in (re.sub(r" \(.*\)", "", name), *synonyms):  # "bat (animal)" also teaches "bat"
            add(synonym, "synonym", target, unless=("clip",))
    for names, target in zip(pieces.labels, classes, strict=True):
        for name in names:
            add(name, "imagenet", target, unless=("clip",))
    result = [Name(text, entries[0][0], unit(np.mean([target for _, target in entries], axis=0)))
              for text, entries in found.items()]

    vectors = WordVectors(pieces.words, pieces.vectors)
    chosen = vectors.things(found, found, words, frequent, seed)
    if chosen:
        places = unit(vectors.bridge(pieces.names, placed)(vectors.vectors[[vectors.rank[word] for word in chosen]]))
        result += [Name(word, "words", target) for word, target in zip(chosen, places, strict=True)]
    return result


def held_out(names: list[Name], share: float, seed: int) -> NDArray[np.bool_]:
    """Choose names with an embedding of CLIP's, to watch what is not taught (K,)."""
    certain = np.flatnonzero([name.source == "clip" for name in names])
    chosen = np.zeros(len(names), bool)
    chosen[np.random.default_rng(seed).permutation(certain)[: round(share * len(certain))]] = True
    return chosen
