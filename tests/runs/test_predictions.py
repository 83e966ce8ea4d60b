"""What a test keeps of every image: what is in it, that it survives the disk, and that no file is believed."""

import csv
import dataclasses
import io
import json
import zipfile

import numpy as np
import pyarrow.parquet
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from yacs.config import CfgNode

from dassl.evaluation.evaluator import ALL_CLASSES, TOP_CLASSES, Classification
from results.__main__ import main as results
from runs.files import ResultsError
from runs.predictions import (
    ARRAYS,
    Predictions,
    correct_images,
    images_of,
    read_predictions,
    write_predictions,
)
from runs.record import Run, read_run
from tests.support.closeness import assert_close

CFG = CfgNode({"TEST": {"PER_CLASS_RESULT": False, "COMPUTE_CMAT": False, "PREDICTIONS": True}, "OUTPUT_DIR": ""})


def kept_of(logits: np.ndarray, labels: np.ndarray, batch: int = 7, cfg: CfgNode = CFG) -> dict | None:
    """What an evaluator keeps of a test that passes in batches."""
    evaluator = Classification(cfg)
    for start in range(0, len(labels), batch):
        rows = slice(start, start + batch)
        evaluator.process(torch.tensor(logits[rows]), torch.tensor(labels[rows]))
    return evaluator.predictions()


def made(images: int, classes: int, seed: int = 0) -> Predictions:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (images, classes)).astype(np.float32)
    kept = kept_of(logits, rng.integers(0, classes, images))
    assert kept is not None
    return Predictions.of_test([f"data/images/{n}.jpg" for n in range(images)], kept)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 30), st.sampled_from([1, 2, 5, ALL_CLASSES, ALL_CLASSES + 1, 300]), st.integers(0, 99))
def test_what_is_kept_is_the_softmax_of_the_logits(images, classes, seed):
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(0, 5, (images, classes)).astype(np.float32), rng.integers(0, classes, images)
    kept = kept_of(logits, labels)
    wide = np.exp(logits.astype(float) - logits.max(axis=1, keepdims=True))
    probability = wide / wide.sum(axis=1, keepdims=True)  # (n, C)
    assert_close(np.exp(kept["label_log_probability"]), probability[np.arange(images), labels])
    assert_close(kept["squares"], (probability**2).sum(axis=1))
    assert kept["predicted"].tolist() == logits.argmax(axis=1).tolist() and kept["labels"].tolist() == labels.tolist()
    if classes <= ALL_CLASSES:
        assert "top" not in kept
        assert_close(np.exp(kept["log_probabilities"]), probability)
    else:
        order = np.argsort(-logits, axis=1, kind="stable")[:, :TOP_CLASSES]
        assert kept["top"].tolist() == order.tolist()
        assert_close(np.exp(kept["log_probabilities"]), np.take_along_axis(probability, order, axis=1))


def test_a_class_that_is_out_of_the_question_has_no_probability():
    kept = kept_of(np.array([[1.0, -np.inf, 0.0]], dtype=np.float32), np.array([1]))
    assert kept["log_probabilities"][0, 1] == kept["label_log_probability"][0] == -np.inf
    assert np.isfinite(kept["squares"]).all()


def test_nothing_is_kept_where_the_key_is_off_or_unknown():
    off = CfgNode({"TEST": {**CFG.TEST, "PREDICTIONS": False}})
    upstream = CfgNode({"TEST": {"PER_CLASS_RESULT": False, "COMPUTE_CMAT": False}})
    for cfg in (off, upstream):
        assert kept_of(np.eye(3, dtype=np.float32), np.arange(3), cfg=cfg) is None


@pytest.mark.parametrize("classes", [3, ALL_CLASSES + 1])
def test_the_file_gives_back_what_was_written(tmp_path, classes):
    predictions = made(40, classes)
    entry = write_predictions(tmp_path, "result.json", predictions)
    again = read_predictions(tmp_path)
    for field in dataclasses.fields(Predictions):
        ours, theirs = getattr(again, field.name), getattr(predictions, field.name)
        assert (ours is None) == (theirs is None) and np.array_equal(ours, theirs), field.name
    assert again.fingerprint == entry["images"] == predictions.fingerprint
    run = Run(tmp_path, record={"predictions": json.loads(json.dumps(entry))})
    assert correct_images(run).tolist() == predictions.correct.tolist()
    assert images_of(run) == predictions.fingerprint


def test_the_fingerprint_depends_on_images_labels_and_their_order():
    base = made(5, 3)
    others = [
        dataclasses.replace(base, images=base.images[::-1]),
        dataclasses.replace(base, labels=(base.labels + 1) % 3),
        dataclasses.replace(base, images=base.images[:4], labels=base.labels[:4]),
    ]
    assert len({base.fingerprint, *(other.fingerprint for other in others)}) == 4
    assert dataclasses.replace(base, predicted=(base.predicted + 1) % 3).fingerprint == base.fingerprint


class Loud:
    """Unpickling it would be seen."""

    def __reduce__(self):
        return exec, ("raise SystemExit('the file ran code')",)


def rewritten(tmp_path, **changes):
    arrays = {name: getattr(made(6, 3), name) for name in ARRAYS if name != "top"} | changes
    path = tmp_path / "predictions.npz"
    np.savez_compressed(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


@pytest.mark.parametrize(
    "changes",
    [
        {"images": np.array([Loud()] * 6, dtype=object)},
        {"labels": None},
        {"labels": np.zeros(5, dtype=np.int32)},
        {"labels": np.zeros((6, 1), dtype=np.int32)},
        {"predicted": np.zeros(6)},
        {"predicted": np.full(6, 3, dtype=np.int32)},
        {"labels": np.full(6, -1, dtype=np.int32)},
        {"log_probabilities": np.zeros((6, 3), dtype=complex)},
        {"top": np.zeros((6, 2), dtype=np.int32)},
        {"num_classes": np.array("many")},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_file_of_another_shape_is_refused_and_runs_nothing(tmp_path, changes):
    path = rewritten(tmp_path, **changes)
    with pytest.raises(ResultsError, match=r"predictions\.npz"):
        read_predictions(path)


def test_torn_foreign_and_huge_files_are_refused(tmp_path):
    path = rewritten(tmp_path)
    whole = path.read_bytes()
    huge = io.BytesIO()  # its header asks for 8 TB
    np.lib.format.write_array_header_1_0(huge, {"descr": "<i8", "fortran_order": False, "shape": (10**12,)})
    with zipfile.ZipFile(tmp_path / "huge.npz", "w") as archive:
        archive.writestr("labels.npy", huge.getvalue())
        archive.writestr("images.npy", huge.getvalue())
    (tmp_path / "torn.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "flipped.npz").write_bytes(whole[:200] + bytes(byte ^ 255 for byte in whole[200:230]) + whole[230:])
    (tmp_path / "text.npz").write_text("no archive")
    for name in ("huge", "torn", "flipped", "text"):
        with pytest.raises(ResultsError, match=name):
            read_predictions(tmp_path / f"{name}.npz")
    with pytest.raises(ResultsError, match="before predictions were kept"):
        read_predictions(tmp_path.parent)


@pytest.mark.parametrize("entry", [None, {}, {"correct": "%%%", "total": 3}, {"correct": "", "total": 9}])
def test_a_record_without_valid_bits_has_none(tmp_path, entry):
    run = Run(tmp_path, record={"predictions": entry})
    assert correct_images(run) is None and images_of(run) == ""


def test_a_run_leaves_them_and_the_command_shows_them(plot_runs, tmp_path, capsys):
    folder = plot_runs["rn"]
    run, predictions = read_run(folder), read_predictions(folder)
    assert len(predictions) == run.record["total"] and predictions.correct.sum() == run.record["correct"]
    assert correct_images(run).tolist() == predictions.correct.tolist()
    classes = run.record["data"]["classnames"]
    for label, row in enumerate(run.record["per_class"]):
        assert (predictions.correct & (predictions.labels == label)).sum() == row["correct"]
    assert not any(image.startswith(("/", "..")) for image in predictions.images)

    assert results(["predictions", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert results(["predictions", str(folder), "--out", str(tmp_path / "p.csv")]) == 0
    assert results(["predictions", str(folder), "--out", str(tmp_path / "p.parquet")]) == 0
    assert (tmp_path / "p.csv").read_text() == shown
    rows = list(csv.DictReader(io.StringIO(shown)))
    for table in (rows, pyarrow.parquet.read_table(tmp_path / "p.parquet").to_pylist()):
        assert [row["image"] for row in table] == predictions.images.tolist()
        assert sum(int(row["correct"]) for row in table) == run.record["correct"]
        assert [row["predicted_class"] for row in table] == [classes[label] for label in predictions.predicted]
        probabilities = [[float(value) for name, value in row.items() if name.startswith("p(")] for row in table]
        assert_close(np.array(probabilities), np.exp(predictions.log_probabilities.astype(float)))
    assert results(["predictions", str(folder), "--out", str(tmp_path / "p.xlsx")]) == 2
    assert ".csv or .parquet" in capsys.readouterr().err
