"""How far the probabilities of a classifier can be believed: ECE, NLL, Brier score, AURC, and temperature scaling.

Accuracy asks whether the most probable class is the right one; what is here asks whether the probability that comes
with it is right as well.  NumPy alone, on what is known of n images after a test: nothing here knows of models or runs.

Notes
-----
At a temperature T the probabilities are softmax(z / T) of the logits z, which is softmax(log p / T) of the
probabilities p at T = 1, since z and log p differ by a constant of the image.  T > 1 makes a classifier less confident
and T < 1 more; no T changes which class is the most probable one, so accuracy stays.
"""
from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

__all__ = ["BINS", "Bins", "Scores", "bin_images", "equal_mass_edges", "fit_temperature", "measure", "width_edges"]

BINS = 15  # of ECE and reliability diagrams, as in Guo et al. (2017)
TEMPERATURES = (0.05, 20.0)  # between which one is looked for


class Scores(NamedTuple):
    """What the measures need to know of n images.

    Attributes
    ----------
    confidence : ndarray
        (n,) probability of the most probable class.
    correct : ndarray
        (n,) whether that class is the right one.
    label_log_probability : ndarray
        (n,) of the right class.
    squares : ndarray
        (n,) sum over all classes of the squared probability.
    """

    confidence: np.ndarray
    correct: np.ndarray
    label_log_probability: np.ndarray
    squares: np.ndarray


def measure(scores: Scores) -> dict[str, float]:
    """Compute every measure.

    Parameters
    ----------
    scores : Scores
        Of at least one image.

    Returns
    -------
    dict
        `ece`, `ece_equal_mass` and `aurc` in %, `nll` in nats, `brier` from 0 to 2; lower is better for all.  `nll` is
        infinite where a right class has the probability 0.

    Notes
    -----
    NLL is the mean of -log p(label).  The Brier score is the mean of sum_c (p_c - y_c)^2, with y one-hot, over all
    classes (Brier 1950); the sum is sum_c p_c^2 - 2 p(label) + 1.
    """
    confidence, correct, log_probability, squares = scores
    return {
        "ece": 100 * bin_images(confidence, correct, width_edges()).calibration_error,
        "ece_equal_mass": 100 * bin_images(confidence, correct, equal_mass_edges(confidence)).calibration_error,
        "nll": -float(np.mean(log_probability)),
        "brier": float(np.mean(squares - 2 * np.exp(log_probability) + 1)),
        "aurc": 100 * risk_coverage_area(confidence, correct),
    }


# --- in bins of confidence -------------------------------------------------------------------------------


class Bins(NamedTuple):
    """Images in M bins by their confidence.

    Those of several tests are pooled by adding `counts`, `confidence` and `hits`.

    Attributes
    ----------
    counts : ndarray
        (M,) images of a bin.
    confidence : ndarray
        (M,) sum of their confidences.
    hits : ndarray
        (M,) how many of them are right.
    """

    counts: np.ndarray
    confidence: np.ndarray
    hits: np.ndarray

    @property
    def calibration_error(self) -> float:
        """ECE from 0 to 1 (Guo et al. 2017, section 2).

        It is sum_m n_m / n |acc_m - conf_m|, with accuracy and mean confidence of the n_m images of a bin: n_m cancels,
        and an empty bin adds nothing.
        """
        return float(np.abs(self.hits - self.confidence).sum() / self.counts.sum())


def width_edges() -> np.ndarray:
    """Return the (M - 1,) edges between bins of equal width over [0, 1]."""
    return np.linspace(0, 1, BINS + 1)[1:-1]


def equal_mass_edges(confidence: np.ndarray) -> np.ndarray:
    """Return the (M - 1,) edges between bins that hold equally many images, as far as ties allow.

    Bins of equal width leave nearly all images of a confident classifier in the last one, and hide what differs within
    it; these adapt (Nixon et al. 2019).  They lie at quantiles, as those of scikit-learn's `calibration_curve` do, so
    images of one confidence stay together, and the result does not depend on the order of the images.
    """
    return np.percentile(confidence, 100 * np.linspace(0, 1, BINS + 1))[1:-1]


def bin_images(confidence: np.ndarray, correct: np.ndarray, edges: np.ndarray) -> Bins:
    """Sort images into bins; an image on an edge belongs below it: bin m is (edge m - 1, edge m]."""
    index = np.searchsorted(edges, confidence, side="left")  # (n,)

    def total(weights: np.ndarray) -> np.ndarray:
        return np.bincount(index, weights, minlength=len(edges) + 1)

    return Bins(total(np.ones(len(index))), total(confidence), total(correct))


# --- by confidence alone ---------------------------------------------------------------------------------


def risk_coverage_area(confidence: np.ndarray, correct: np.ndarray) -> float:
    """Return the area under the risk-coverage curve, from 0 to 1.

    A classifier that answers only where it is most confident, for k of n images, errs on a share of these: its risk at
    coverage k / n (Geifman and El-Yaniv 2017).  The area is the mean risk over k = 1 ... n (Geifman, Uziel and
    El-Yaniv 2019).  It is small where accuracy is high and mistakes come with low confidence.

    Among images of one confidence no order is the right one; the mean over all orders is what counts, in which each of
    them has the error rate of these images together.
    """
    _, group, sizes = np.unique(-confidence, return_inverse=True, return_counts=True)  # most confident first
    errors = np.repeat(np.bincount(group, weights=~correct) / sizes, sizes)  # (n,) by falling confidence
    return float(np.mean(np.cumsum(errors) / np.arange(1, len(errors) + 1)))


# --- temperature -----------------------------------------------------------------------------------------


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Find the T at which softmax(logits / T) has the least NLL (temperature scaling, Guo et al. 2017, section 4.2).

    Parameters
    ----------
    logits : ndarray
        (n, C) of held-out images, or their log-probabilities, which are as good.
    labels : ndarray
        (n,) right classes.

    Returns
    -------
    float
        Between the two TEMPERATURES.

    Raises
    ------
    ValueError
        Where no T is the best: logits that are not finite, or an NLL that falls up to a bound.  That happens where all
        images are right, so that more confidence is always better, or where they are no better than guessed.

    Notes
    -----
    The NLL is convex in 1 / T, so in log T it has one valley, and a bounded search cannot end in a wrong one.
    """
    from scipy.optimize import minimize_scalar

    logits = logits.astype(float)
    with np.errstate(invalid="ignore"):
        gaps = logits - logits[np.arange(len(labels)), labels][:, None]  # (n, C), 0 at the right class
    if not (gaps < np.inf).all():  # nor NaN
        raise ValueError("the probability of a right class is 0, or no number")

    def nll(log_temperature: float) -> float:
        return float(np.logaddexp.reduce(gaps / np.exp(log_temperature), axis=1).mean())

    low, high = map(math.log, TEMPERATURES)
    best = float(minimize_scalar(nll, bounds=(low, high), method="bounded", options={"xatol": 1e-6}).x)
    if min(best - low, high - best) < 1e-3:
        falls = f"the NLL falls as far as T = {TEMPERATURES[0] if best < 0 else TEMPERATURES[1]:g}"
        why = "no mistake among the images to learn from" if (gaps.max(axis=1) <= 0).all() else "too few, or misled"
        raise ValueError(f"{falls}: {why}")
    return float(np.exp(best))
