"""Accuracy and macro-averaged F1 of a test, and the block of lines that reports them.

Two decimals are printed, as by the versions of the original engine that the published numbers of prompt learning come
from: its last one prints one, which is too few for a mean over seeds.
"""
from __future__ import annotations

import logging
import os
from collections import OrderedDict
from operator import eq
from typing import Any

import numpy as np
import torch
from torch import Tensor
from yacs.config import CfgNode

from dassl.plain.ranks import is_first
from dassl.plain.text import printable
from dassl.utils.checkpoint import write_tensors

from .build import EVALUATOR_REGISTRY

__all__ = ["Classification", "EvaluatorBase"]

log = logging.getLogger(__name__)

MOST_CONFUSIONS = 50  # pairs of classes that a test reports
ALL_CLASSES = 128  # up to so many, the probabilities of all are kept of every image
TOP_CLASSES = 20  # of more classes, those of the most probable


class EvaluatorBase:
    """What a test does with the model's outputs: `reset`, then `process` for every batch, then `evaluate` once.

    Plugins register their own with `EVALUATOR_REGISTRY` and choose it by TEST.EVALUATOR. One that also has methods
    `per_class`, `confusions` and `predictions` has what they return in the run's record or beside it, see
    `SimpleTrainer.last_test`.
    """

    def __init__(self, cfg: CfgNode) -> None:
        self.cfg = cfg

    def reset(self) -> None:
        """Forget all batches."""
        raise NotImplementedError

    def process(self, mo: Any, gt: Any) -> None:
        """Take in the model's output and the ground truth of a batch."""
        raise NotImplementedError

    def evaluate(self) -> OrderedDict[str, float]:
        """Print and return the results; the first one is what a model is selected by."""
        raise NotImplementedError


@EVALUATOR_REGISTRY.register()
class Classification(EvaluatorBase):
    """Counts the images whose highest logit is that of their class.

    Parameters
    ----------
    cfg : CfgNode
        Read: TEST.PER_CLASS_RESULT, TEST.COMPUTE_CMAT, TEST.PREDICTIONS, OUTPUT_DIR.
    lab2cname : dict, optional
        Label -> class name, for the lines about single classes.
    **kwargs
        Ignored; other evaluators may be given more.
    """

    def __init__(self, cfg: CfgNode, lab2cname: dict[int, str] | None = None, **kwargs: Any) -> None:
        super().__init__(cfg)
        self._lab2cname = lab2cname or {}
        self.reset()

    def reset(self) -> None:
        """Forget all batches."""
        self._correct = 0
        self._total = 0
        self._y_true: list[int] = []
        self._y_pred: list[int] = []
        self._not_finite = 0
        self._num_classes = 0
        self._kept: list[Tensor] = []  # one a batch, where it was computed: see `kept_of`

    def process(self, mo: Tensor, gt: Tensor) -> None:
        """Count a batch: `mo` (B, C) logits, `gt` (B,) labels."""
        highest, pred = mo.max(1)  # (B,) each; a NaN is the highest
        # one transfer of everything: an accelerator makes us wait for each
        true, predicted, not_finite = torch.stack([gt.to(pred), pred, (~torch.isfinite(highest)).to(pred)]).tolist()
        self._not_finite += sum(not_finite)
        self._correct += sum(map(eq, true, predicted))
        self._total += len(true)
        self._y_true += true
        self._y_pred += predicted
        if self.cfg.TEST.get("PREDICTIONS", False):
            self._num_classes = mo.shape[1]
            self._kept.append(kept_of(mo, gt.to(pred)))

    def evaluate(self) -> OrderedDict[str, float]:
        """Print the result block and return the results.

        Other programs parse the block, so its lines are fixed. With TEST.COMPUTE_CMAT the confusion matrix goes to
        OUTPUT_DIR/cmat.pt.

        Returns
        -------
        OrderedDict
            accuracy, error_rate, macro_f1, and with TEST.PER_CLASS_RESULT perclass_accuracy (the mean over the classes
            that occur), in this order and in percent.

        Raises
        ------
        ValueError
            When nothing was processed.
        FloatingPointError
            Where NaN or infinite logits took the place of a prediction (-inf for classes that are out of the question
            is none).
        """
        if self._total == 0:
            raise ValueError("there is nothing to evaluate: no batch was processed")
        if self._not_finite:
            share = f"{self._not_finite} of {self._total}"
            raise FloatingPointError(
                f"{share} images have NaN or infinite logits, so there is no accuracy to tell; try fp32, and a lower "
                "OPTIM.LR if it was trained"
            )
        results: OrderedDict[str, float] = OrderedDict()
        results["accuracy"] = 100.0 * self._correct / self._total
        results["error_rate"] = 100.0 - results["accuracy"]
        results["macro_f1"] = 100.0 * macro_f1(confusion_matrix(np.array(self._y_true), np.array(self._y_pred)))
        log.info(
            "=> result\n"
            f"* total: {self._total:,}\n"
            f"* correct: {self._correct:,}\n"
            f"* accuracy: {results['accuracy']:.2f}%\n"
            f"* error: {results['error_rate']:.2f}%\n"
            f"* macro_f1: {results['macro_f1']:.2f}%"
        )
        if self.cfg.TEST.PER_CLASS_RESULT:
            rows = self.per_class()
            results["perclass_accuracy"] = float(np.mean([row["accuracy"] for row in rows]))
            log.info("=> per-class result")
            for row in rows:
                log.info(
                    f"* class: {row['label']} ({printable(row['name'])})\ttotal: {row['total']:,}\t"
                    f"correct: {row['correct']:,}\tacc: {row['accuracy']:.2f}%"
                )
            log.info(f"* average: {results['perclass_accuracy']:.2f}%")
        if self.cfg.TEST.COMPUTE_CMAT and is_first():
            self._save_confusion()
        return results

    def per_class(self) -> list[dict[str, Any]]:
        """Return label, name, total, correct, accuracy (percent) of every class that occurs, by ascending label."""
        true, pred = np.array(self._y_true), np.array(self._y_pred)
        rows = []
        for label in np.unique(true).tolist():
            mine = true == label
            total, correct = int(mine.sum()), int((pred[mine] == label).sum())
            rows.append(
                {
                    "label": label,
                    "name": str(self._lab2cname.get(label, label)),
                    "total": total,
                    "correct": correct,
                    "accuracy": 100.0 * correct / total,
                }
            )
        return rows

    def confusions(self, most: int = MOST_CONFUSIONS) -> list[dict[str, Any]]:
        """Return the up to `most` most frequent mistakes.

        Returns
        -------
        list of dict
            true, predicted (labels), true_name, predicted_name, count; ordered by count, then by labels.
        """
        true, pred = np.array(self._y_true), np.array(self._y_pred)
        wrong = true != pred
        pairs, counts = np.unique(np.stack([true[wrong], pred[wrong]], axis=1), axis=0, return_counts=True)
        order = np.argsort(-counts, kind="stable")[:most]  # unique has sorted by labels
        return [
            {
                "true": label,
                "predicted": taken_for,
                "true_name": str(self._lab2cname.get(label, label)),
                "predicted_name": str(self._lab2cname.get(taken_for, taken_for)),
                "count": count,
            }
            for (label, taken_for), count in zip(pairs[order].tolist(), counts[order].tolist(), strict=True)
        ]

    def predictions(self) -> dict[str, np.ndarray] | None:
        """Return what was kept of every image, in the order of the test; None where TEST.PREDICTIONS is off.

        Returns
        -------
        dict or None
            Of n images and C classes: `labels` and `predicted` (n,); `log_probabilities` (n, K) of all classes, K = C
            up to ALL_CLASSES, or of the classes in `top` (n, K), the TOP_CLASSES most probable, best first;
            `label_log_probability` (n,) of the true class; `squares` (n,), the sum over all classes of the squared
            probability; `num_classes`, C.
        """
        if not self._kept:
            return None
        of_label, squares, *rest = np.split(torch.cat(self._kept).cpu().numpy(), (1, 2), axis=1)  # one transfer
        values, *top = np.split(rest[0], 1 if self._num_classes <= ALL_CLASSES else 2, axis=1)
        return {
            "labels": np.array(self._y_true, dtype=np.int32),
            "predicted": np.array(self._y_pred, dtype=np.int32),
            "num_classes": np.array(self._num_classes, dtype=np.int32),
            "label_log_probability": of_label[:, 0],
            "squares": squares[:, 0],
            "log_probabilities": values,
            **({"top": top[0].astype(np.int32)} if top else {}),
        }

    def _save_confusion(self) -> None:
        """Save the confusion matrix with its rows (true classes) normalised to 1, as far as a class occurs."""
        matrix = confusion_matrix(np.array(self._y_true), np.array(self._y_pred))
        rows = matrix.sum(axis=1, keepdims=True)
        normalised = np.divide(matrix, rows, out=np.zeros(matrix.shape), where=rows > 0)
        path = os.path.join(self.cfg.OUTPUT_DIR, "cmat.pt")
        write_tensors(normalised, path)
        log.info(f"Confusion matrix is saved to {path}")


def kept_of(logits: Tensor, labels: Tensor) -> Tensor:
    """Reduce logits (B, C) to what is kept of their probabilities, as columns of one tensor.

    Returns
    -------
    Tensor
        (B, 2 + K) or (B, 2 + 2 K), float32: log-probability of the true class, sum of squared probabilities,
        log-probabilities, and of more than ALL_CLASSES the labels that these are of, exact below 2^24.
    """
    logp = logits.detach().float().log_softmax(dim=1)  # (B, C)
    columns = [logp.gather(1, labels[:, None]), logp.exp().square().sum(dim=1, keepdim=True)]
    if logp.shape[1] <= ALL_CLASSES:
        return torch.cat([*columns, logp], dim=1)
    values, top = logp.topk(TOP_CLASSES, dim=1)
    return torch.cat([*columns, values, top.float()], dim=1)


def confusion_matrix(true: np.ndarray, pred: np.ndarray) -> np.ndarray:
    """Count how often each label was predicted for each.

    Parameters
    ----------
    true, pred : ndarray
        Labels (n,).

    Returns
    -------
    ndarray
        Counts (K, K) over the K labels that occur in either, ascending; rows: true labels, columns: predicted ones.
    """
    labels, codes = np.unique(np.concatenate([true, pred]), return_inverse=True)
    size, rows, columns = len(labels), codes[: len(true)], codes[len(true) :]
    return np.bincount(rows * size + columns, minlength=size * size).reshape(size, size)


def macro_f1(matrix: np.ndarray) -> float:
    """Return the mean of F1 over the labels that occur in the ground truth, from 0 to 1.

    For one label F1 = 2 hits / (true count + predicted count), the harmonic mean of precision and recall. Labels that
    were only predicted do not count, as for scikit-learn's `f1_score(average="macro", labels=np.unique(true))`.

    Parameters
    ----------
    matrix : ndarray
        Counts (K, K), see `confusion_matrix`.
    """
    hits, true, predicted = matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)  # (K,) each
    occurs = true > 0
    return float(np.mean(2 * hits[occurs] / (true + predicted)[occurs]))
