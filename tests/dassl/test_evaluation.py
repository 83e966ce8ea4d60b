from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dassl.config import get_cfg_default
from dassl.evaluation import EVALUATOR_REGISTRY, Classification, EvaluatorBase, build_evaluator
from dassl.evaluation.evaluator import confusion_matrix, macro_f1
from dassl.metrics import compute_accuracy, compute_distance_matrix
from tests.support.closeness import assert_close
from tests.support.golden_data import GOLDEN


def evaluator(tmp_path=".", **test):
    cfg = get_cfg_default()
    cfg.OUTPUT_DIR = str(tmp_path)
    cfg.TEST.update(test)
    return Classification(cfg, lab2cname={0: "abyssinian", 1: "bengal", 2: "birman"})


def feed(judge, true, pred, classes=3, batch=4):
    """Logits whose highest entry is the prediction, batch by batch."""
    true, pred = torch.tensor(true), torch.tensor(pred)
    for rows in range(0, len(true), batch):
        logits = torch.nn.functional.one_hot(pred[rows : rows + batch], classes).float()
        judge.process(logits, true[rows : rows + batch])


def test_the_result_block(capsys):
    judge = evaluator()
    feed(judge, [0] * 1200 + [1] * 3, [0] * 1103 + [1] * 97 + [1, 1, 0], batch=500)
    results = judge.evaluate()
    f1 = (2 * 1103 / (1200 + 1104) + 2 * 2 / (3 + 99)) / 2
    assert list(results) == ["accuracy", "error_rate", "macro_f1"]
    assert results["accuracy"] == 100 * 1105 / 1203 and results["error_rate"] == 100 - results["accuracy"]
    assert results["macro_f1"] == pytest.approx(100 * f1)
    assert capsys.readouterr().out == (
        "=> result\n* total: 1,203\n* correct: 1,105\n* accuracy: 91.85%\n* error: 8.15%\n"
        f"* macro_f1: {100 * f1:.2f}%\n"
    )


def test_per_class_block(capsys):
    judge = evaluator(PER_CLASS_RESULT=True)
    feed(judge, [2, 2, 2, 0, 0, 0, 0], [2, 2, 0, 0, 0, 0, 2])
    results = judge.evaluate()
    assert list(results)[-1] == "perclass_accuracy"
    assert results["perclass_accuracy"] == pytest.approx((75 + 200 / 3) / 2)
    assert capsys.readouterr().out.split("%\n=> per-class result\n")[1] == (
        "* class: 0 (abyssinian)\ttotal: 4\tcorrect: 3\tacc: 75.00%\n"
        "* class: 2 (birman)\ttotal: 3\tcorrect: 2\tacc: 66.67%\n"
        "* average: 70.83%\n"
    )
    assert judge.per_class()[1] == {
        "label": 2, "name": "birman", "total": 3, "correct": 2, "accuracy": 100 * 2 / 3
    }  # fmt: skip


def test_the_block_has_the_originals_form_but_for_the_decimals(capsys):
    log = (GOLDEN / "e2e/logs/plot_bestval.log.txt").read_text()
    recorded = log[log.rindex("=> result") : log.rindex("Confusion matrix")]
    counts = re.findall(r"\* class: (\d+) \((.*)\)\ttotal: (\d+)\tcorrect: (\d+)", recorded)
    names = {int(label): name for label, name, _, _ in counts}
    judge = Classification(get_cfg_default(), lab2cname=names)
    judge.cfg.TEST.PER_CLASS_RESULT = True
    for label, _, total, correct in counts:
        label, total, correct = int(label), int(total), int(correct)
        feed(judge, [label] * total, [label] * correct + [(label + 1) % len(counts)] * (total - correct), len(counts))
    judge.evaluate()
    printed = capsys.readouterr().out
    rounded = re.sub(r"(\d+\.\d\d)%", lambda found: f"{float(found[1]):.1f}%", printed)
    without_f1 = re.compile(r"\* macro_f1: .*\n")  # depends on which wrong class was predicted
    assert without_f1.sub("", rounded) == without_f1.sub("", recorded)


@pytest.mark.filterwarnings("ignore:A single label:UserWarning")  # scikit-learn's
@settings(max_examples=100, deadline=None)
@given(st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_macro_f1_and_confusion_agree_with_scikit_learn(size, seed):
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    true, pred = rng.integers(0, 6, size), rng.integers(2, 9, size)
    expected = metrics.f1_score(true, pred, average="macro", labels=np.unique(true), zero_division=0)
    assert_close(macro_f1(confusion_matrix(true, pred)), expected, 1e-12, floor=1)
    labels = np.union1d(true, pred)
    assert (confusion_matrix(true, pred) == metrics.confusion_matrix(true, pred, labels=labels)).all()


def test_confusions_are_the_most_frequent_mistakes():
    judge = evaluator()
    assert judge.confusions() == []
    feed(judge, [2, 2, 2, 1, 1, 0, 0, 0, 0], [0, 0, 1, 0, 1, 2, 1, 0, 0])
    found = judge.confusions()
    assert found[0] == {"true": 2, "predicted": 0, "true_name": "birman", "predicted_name": "abyssinian", "count": 2}
    assert [(row["true"], row["predicted"], row["count"]) for row in found[1:]] == [
        (0, 1, 1), (0, 2, 1), (1, 0, 1), (2, 1, 1)
    ]  # fmt: skip
    assert judge.confusions(most=3) == found[:3]


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 80), st.integers(0, 2**32 - 1))
def test_confusions_are_the_entries_beside_the_diagonal(size, seed):
    rng = np.random.default_rng(seed)
    true, pred = rng.integers(0, 9, (2, size))
    judge = evaluator()
    feed(judge, true.tolist(), pred.tolist(), classes=9)
    matrix = np.zeros((9, 9), dtype=int)
    for row in judge.confusions(most=1000):
        matrix[row["true"], row["predicted"]] = row["count"]
    labels = np.union1d(true, pred)
    expected = confusion_matrix(true, pred)
    np.fill_diagonal(expected, 0)
    assert (matrix[np.ix_(labels, labels)] == expected).all() and matrix.sum() == (true != pred).sum()
    assert len(judge.confusions()) == min(50, (matrix > 0).sum())


def test_confusion_matrix_file(tmp_path, capsys):
    judge = evaluator(tmp_path, COMPUTE_CMAT=True)
    feed(judge, [0, 0, 1, 1], [0, 1, 2, 1])
    judge.evaluate()
    matrix = torch.load(tmp_path / "cmat.pt", weights_only=False)
    assert isinstance(matrix, np.ndarray)
    np.testing.assert_allclose(matrix, [[0.5, 0.5, 0], [0, 0.5, 0.5], [0, 0, 0]])
    assert str(tmp_path / "cmat.pt") in capsys.readouterr().out


def test_reset_empty_and_broken_logits():
    judge = evaluator()
    with pytest.raises(ValueError, match="nothing to evaluate"):
        judge.evaluate()
    feed(judge, [0], [1])
    judge.reset()
    judge.process(torch.tensor([[float("nan"), 0.0], [1.0, 0.0]], dtype=torch.float16), torch.tensor([1, 0]))
    with pytest.raises(FloatingPointError, match="1 of 2 images have NaN"):
        judge.evaluate()
    judge.reset()
    inf = float("inf")
    judge.process(torch.tensor([[inf, 0.0], [-inf, -inf], [-inf, 1.0], [0.0, 1.0]]), torch.tensor([0, 0, 1, 1]))
    with pytest.raises(FloatingPointError, match="2 of 4 images"):  # one class may be out of the question, not all
        judge.evaluate()
    assert evaluator()._lab2cname[0] == "abyssinian"
    unnamed = Classification(get_cfg_default())
    feed(unnamed, [1], [1])
    assert unnamed.per_class()[0]["name"] == "1"


def test_evaluators_of_plugins(capsys):
    cfg = get_cfg_default()
    assert isinstance(build_evaluator(cfg, lab2cname={}), Classification)
    assert capsys.readouterr().out == "Loading evaluator: Classification\n"
    cfg.VERBOSE = False
    cfg.TEST.EVALUATOR = "Clasification"
    with pytest.raises(ValueError, match=r"did you mean 'Classification'"):
        build_evaluator(cfg)
    assert capsys.readouterr().out == "" and "Classification" in EVALUATOR_REGISTRY.registered_names()
    base = EvaluatorBase(cfg)
    for call in (base.reset, lambda: base.process(0, 0), base.evaluate):
        with pytest.raises(NotImplementedError):
            call()


# --- metrics ---------------------------------------------------------------------------------------------


def test_accuracy():
    logits = torch.tensor([[3.0, 2, 1, 0], [0, 1, 2, 3], [1, 3, 2, 0]]).t().contiguous().t()  # not contiguous
    target = torch.tensor([0, 2, 3])
    top1, top2, top4 = compute_accuracy(logits, target, topk=(1, 2, 4))
    assert top1.shape == (1,) and top1.item() == pytest.approx(100 / 3)
    assert top2.item() == pytest.approx(200 / 3) and top4.item() == pytest.approx(100)
    assert compute_accuracy((logits, None), target)[0].item() == pytest.approx(100 / 3)
    assert compute_accuracy(logits.half(), target)[0].item() == pytest.approx(100 / 3)
    with pytest.raises(ValueError, match="top-5"):
        compute_accuracy(logits, target, topk=(5,))


def test_distances():
    a, b = torch.randn(4, 7, dtype=torch.float64), torch.randn(5, 7, dtype=torch.float64)
    assert_close(compute_distance_matrix(a, b), torch.cdist(a, b) ** 2)
    cosine = torch.cosine_similarity(a[:, None], b[None], dim=2)
    assert_close(compute_distance_matrix(a, b, "cosine"), 1 - cosine)
    with pytest.raises(ValueError, match="manhattan"):
        compute_distance_matrix(a, b, "manhattan")
    with pytest.raises(AssertionError, match="length"):
        compute_distance_matrix(a, b[:, :3])
    with pytest.raises(AssertionError, match="matrix"):
        compute_distance_matrix(a[0], b)
