"""How far probabilities can be believed: measures against known answers and another library, and what runs record."""

import copy
import itertools
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import train
from dassl.data.datasets import DatasetBase, Datum
from dassl.engine import build_trainer
from dassl.engine.heldout import heldout_images, heldout_logits
from dassl.plain.calibration import (
    Scores,
    bin_images,
    equal_mass_edges,
    fit_temperature,
    measure,
    risk_coverage_area,
    width_edges,
)
from runs.command_line import build_parser
from runs.config import setup_cfg
from runs.predictions import read_predictions
from runs.record import read_record
from runs.writing import calibration_of
from tests.runs.test_predictions import kept_of
from tests.runs.test_predictions import made as made_predictions
from tests.support.closeness import assert_close
from tests.support.programs import arguments, make_world

pytestmark = pytest.mark.usefixtures("one_thread")


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def scores_of(probability: np.ndarray, labels: np.ndarray) -> Scores:
    """By definition, from all probabilities (n, C)."""
    right = probability[np.arange(len(labels)), labels]
    return Scores(
        probability.max(axis=1), probability.argmax(axis=1) == labels, np.log(right), (probability**2).sum(axis=1)
    )


def generated(images: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (n, C), and labels that follow a flatter version of them."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (images, classes))
    flat = softmax(logits / 2).cumsum(axis=1)
    return softmax(logits), (rng.random((images, 1)) > flat[:, :-1]).sum(axis=1)


# --- the measures ----------------------------------------------------------------------------------------


def test_every_measure_by_hand():
    probability = np.array([[0.95, 0.05], [0.95, 0.05], [0.45, 0.55], [0.45, 0.55]])
    measures = measure(scores_of(probability, np.array([0, 1, 1, 1])))
    # by width: two bins of two images, |1 - 1.9| and |2 - 1.1| of 4 images
    assert_close(measures["ece"], 45.0)
    assert_close(measures["ece_equal_mass"], 45.0)  # ties stay together: the same two bins
    assert_close(measures["nll"], -(np.log(0.95) + np.log(0.05) + 2 * np.log(0.55)) / 4)
    assert_close(measures["brier"], 2 * (0.05**2 + 0.95**2 + 2 * 0.45**2) / 4)
    # the first two errors are tied, one of them right: 1/2, 1/2 on average, then 1/3, 1/4
    assert_close(measures["aurc"], 100 * (1 / 2 + 1 / 2 + 1 / 3 + 1 / 4) / 4)


def test_perfect_and_single_class_probabilities():
    sure = measure(scores_of(np.eye(3), np.arange(3)))
    assert sure == dict.fromkeys(sure, 0.0)
    assert measure(scores_of(np.ones((5, 1)), np.zeros(5, int))) == sure
    with np.errstate(divide="ignore"):
        wrong = measure(scores_of(np.eye(2), np.array([1, 0])))
    assert wrong == {"ece": 100.0, "ece_equal_mass": 100.0, "nll": np.inf, "brier": 2.0, "aurc": 100.0}


@settings(deadline=None, max_examples=10)
@given(st.integers(1, 200), st.integers(2, 12), st.integers(0, 10**6))
def test_measures_agree_with_other_libraries(images, classes, seed):
    from sklearn.calibration import calibration_curve
    from sklearn.metrics import brier_score_loss, log_loss

    probability, labels = generated(images, classes, seed)
    scores = scores_of(probability, labels)
    measures = measure(scores)
    assert_close(measures["nll"], log_loss(labels, probability, labels=range(classes)))
    brier = [brier_score_loss(labels == label, probability[:, label], pos_label=True) for label in range(classes)]
    assert_close(measures["brier"], sum(brier))
    for strategy, edges, name in (
        ("uniform", width_edges(), "ece"),
        ("quantile", equal_mass_edges(scores.confidence), "ece_equal_mass"),
    ):
        bins = bin_images(scores.confidence, scores.correct, edges)
        holds = bins.counts > 0
        accuracy, confidence = calibration_curve(scores.correct, scores.confidence, n_bins=15, strategy=strategy)
        assert_close(bins.hits[holds] / bins.counts[holds], accuracy)
        assert_close(bins.confidence[holds] / bins.counts[holds], confidence)
        assert bins.counts.sum() == images and len(bins.counts) == 15
        assert_close(measures[name], 100 * np.average(abs(accuracy - confidence), weights=bins.counts[holds]), floor=1)


def test_bins_of_equal_mass_hold_equally_many_images():
    confidence = np.random.default_rng(0).random(150) ** 0.1  # nearly all above 0.6
    counts = bin_images(confidence, confidence > 0, equal_mass_edges(confidence)).counts
    assert counts.tolist() == [10] * 15
    assert bin_images(confidence, confidence > 0, width_edges()).counts.max() > 40


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(1, 3), st.booleans()), min_size=1, max_size=6))
def test_risk_coverage_is_the_mean_over_all_orders_of_ties(images):
    confidence, correct = (np.array(values) for values in zip(*images, strict=True))
    areas = []
    for order in map(list, itertools.permutations(range(len(images)))):
        if (np.diff(confidence[order]) <= 0).all():
            risks = np.cumsum(~correct[order]) / np.arange(1, len(images) + 1)
            areas.append(risks.mean())
    assert_close(risk_coverage_area(confidence / 3, correct), np.mean(areas))


def test_risk_coverage_of_a_perfect_ranking():
    confidence, correct = np.linspace(1, 0.5, 10), np.arange(10) < 7
    assert_close(risk_coverage_area(confidence, correct), (1 / 8 + 2 / 9 + 3 / 10) / 10)
    assert risk_coverage_area(confidence[::-1], correct) > risk_coverage_area(confidence, correct)


# --- temperature -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.2, 1.0, 3.5, 15.0])
def test_a_known_temperature_is_found(temperature):
    """Three of four are right at a gap of log 3, and nine of ten at log 9: that is calibrated at T = 1."""
    gaps = np.repeat(np.log([3, 9]), [4, 10])
    logits = np.stack([gaps, np.zeros(14)], axis=1) + np.arange(14)[:, None]  # a constant of the image is nothing
    labels = np.array([0, 0, 0, 1] + [0] * 9 + [1])
    assert_close(fit_temperature(temperature * logits, labels), temperature, tolerance=1e-4)


def test_no_temperature_where_none_is_the_best():
    right, wrong = np.eye(3) * 4, np.eye(3)[[1, 2, 0]] * 4
    with pytest.raises(ValueError, match="as far as T = 0.05: no mistake among the images"):
        fit_temperature(right, np.arange(3))
    with pytest.raises(ValueError, match="as far as T = 20: too few, or misled"):
        fit_temperature(wrong, np.arange(3))
    for logits in ([0.0, -np.inf], [np.nan, 0.0], [np.inf, 0.0]):
        with pytest.raises(ValueError, match="right class is 0, or no number"):
            fit_temperature(np.array([logits]), np.array([1]))
    # a class that is out of the question is none of these
    assert_close(fit_temperature(np.array([[np.log(3), 0, -np.inf]] * 4), np.array([0, 0, 0, 1])), 1.0, tolerance=1e-4)


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 20), st.integers(1, 128), st.floats(0.1, 10), st.integers(0, 99))
def test_predictions_at_a_temperature_are_those_of_the_scaled_logits(images, classes, temperature, seed):
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(0, 2, (images, classes)).astype(np.float32), rng.integers(0, classes, images)
    predictions = made_of(logits, labels)
    for value in (1.0, temperature):
        expected = scores_of(softmax(logits.astype(float) / value), labels)
        got = predictions.at_temperature(value)
        assert got.correct.tolist() == (logits.argmax(axis=1) == labels).tolist()
        for ours, theirs in zip(got, expected, strict=True):
            assert_close(ours.astype(float), theirs.astype(float), tolerance=1e-4)


def made_of(logits: np.ndarray, labels: np.ndarray):
    predictions = made_predictions(1, 2)
    kept = kept_of(logits, labels)
    return type(predictions).of_test([f"{n}.jpg" for n in range(len(labels))], kept)


def test_of_many_classes_the_rest_is_taken_as_even():
    """So it is exact where the rest is even, and a common sense bound elsewhere: nothing is lost at T = 1."""
    logits = np.zeros((3, 200), np.float32)
    logits[:, :20] = np.linspace(6, 3, 20)  # the kept ones; all others are alike
    labels = np.array([0, 5, 150])  # first, among the kept ones, and not among them
    predictions = made_of(logits, labels)
    assert predictions.top is not None
    for temperature in (1.0, 0.5, 2.5):
        expected = scores_of(softmax(logits.astype(float) / temperature), labels)
        for ours, theirs in zip(predictions.at_temperature(temperature), expected, strict=True):
            assert_close(ours.astype(float), theirs.astype(float), tolerance=1e-4)


# --- validation images -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    return [str(path) for path in (folder / f"{n}.jpg" for n in range(40)) if path.touch() is None]


def stand_in(files, val, test=range(20, 30), train_x=range(30, 40), split="test"):
    items = [[Datum(files[n], n % 2) for n in part] for part in (train_x, val, test)]
    dataset = DatasetBase(train_x=items[0], val=items[1], test=items[2])
    return SimpleNamespace(dm=SimpleNamespace(dataset=dataset), last_test={"split": split})


def test_at_most_four_images_of_a_class_in_their_order(files):
    chosen = heldout_images(stand_in(files, val=range(13)))
    assert [item.impath for item in chosen] == files[:8]


def test_images_that_a_temperature_must_not_see(files):
    with pytest.raises(ValueError, match="there are no validation images"):
        heldout_images(stand_in(files, val=[]))
    with pytest.raises(ValueError, match="no validation images"):
        heldout_images(SimpleNamespace(last_test=None))  # a plugin with data of its own
    with pytest.raises(ValueError, match="the test was on the validation images"):
        heldout_images(stand_in(files, val=range(9), split="val"))
    with pytest.raises(ValueError, match="2 of 12 validation images are test images"):
        heldout_images(stand_in(files, val=range(10, 22)))
    with pytest.raises(ValueError, match="10 of 10 validation images are training images"):
        heldout_images(stand_in(files, val=range(30, 40)))


# --- runs ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def run(world):
    """A run of PLOT, which counts what its transport did during a test."""
    return world / "run", train.run(arguments(world, world / "run"))


@pytest.fixture(scope="module")
def trainer(world, run):
    cfg, _ = setup_cfg(build_parser().parse_args(arguments(world, world / "trainer")))
    trainer = build_trainer(cfg)
    trainer.load_model(str(run[0]), epoch=3)
    trainer.test()
    return trainer


def test_a_run_records_calibration(run):
    folder, result = run
    entry = result["calibration"]
    predictions = read_predictions(folder)
    assert entry["before"] == measure(predictions.at_temperature())
    assert entry["after"] == measure(predictions.at_temperature(entry["temperature"]))
    assert entry["images"] == 16 and entry["reason"] == "" and entry["exact"]
    assert 0.05 < entry["temperature"] < 20


def test_the_temperature_has_the_least_nll_of_the_validation_images(run, trainer):
    images = trainer.dm.dataset.val
    logits = heldout_logits(trainer, images).astype(float)
    labels = np.array([item.label for item in images])

    def nll(temperature):
        return measure(scores_of(softmax(logits / temperature), labels))["nll"]

    best = run[1]["calibration"]["temperature"]
    assert nll(best) < nll(best * 1.02) and nll(best) < nll(best / 1.02)


def test_no_trace_is_left_of_it(world, run, tmp_path):
    """Log, history, transport and the rest are as without."""
    folder = tmp_path / "on"
    with_it = train.run(arguments(world, folder))  # again, since the first run of all draws the few shots
    assert with_it["calibration"] == run[1]["calibration"]
    without = train.run(arguments(world, tmp_path / "off", "TEST.CALIBRATION", "False"))
    assert without["calibration"] is None
    for key in set(with_it) - {"calibration", "config", "argv", "seconds", "finished", "peak_memory_mb"}:
        assert with_it[key] == without[key], key
    assert told(folder) == [line.replace("CALIBRATION: False", "CALIBRATION: True") for line in told(tmp_path / "off")]
    off = train.run(arguments(world, tmp_path / "neither", "TEST.PREDICTIONS", "False", "OPTIM.MAX_EPOCH", "1"))
    assert off["calibration"] is None


def told(folder):
    """The lines of a log without folders, times and memory, and without what the config line of the option says."""
    text = (folder / "log.txt").read_text()
    text = re.sub(r"time \S+ \(\S+\) data \S+ \(\S+\)|eta \S+|Elapsed: \S+", "", text.replace(str(folder), "RUN"))
    text = re.sub(r"^.*(Feature cache|'TEST.CALIBRATION').*\n|^opts:.*\n", "", text, flags=re.M)
    return text.splitlines()


def test_the_trainer_is_as_it_was(trainer, capsys):
    kept = trainer.last_test, trainer.evaluator, trainer.val_loader
    counted, state = copy.deepcopy(vars(trainer.evaluator)), torch.get_rng_state()
    capsys.readouterr()
    images = heldout_images(trainer)
    again = [heldout_logits(trainer, images) for _ in range(2)]
    assert again[0].shape == (16, 8) and (again[0] == again[1]).all()
    assert (trainer.last_test, trainer.evaluator, trainer.val_loader) == kept
    assert vars(trainer.evaluator)["_y_pred"] == counted["_y_pred"] and (torch.get_rng_state() == state).all()
    assert capsys.readouterr().out == ""
    # a part of the images has the logits that it has among all
    assert_close(heldout_logits(trainer, images[3:8]), again[0][3:8], tolerance=1e-4)


def test_an_odd_trainer_has_no_temperature_and_loses_nothing(trainer, monkeypatch, run):
    predictions = read_predictions(run[0])

    def test_with(action):
        monkeypatch.setattr(trainer, "test", action)
        entry = calibration_of(trainer, predictions)
        assert entry["before"] == run[1]["calibration"]["before"]
        assert (entry["temperature"], entry["images"], entry["after"]) == (None, 0, None)
        return entry["reason"]

    def fails(split=None):
        raise RuntimeError("out of\n memory")

    assert test_with(fails) == "RuntimeError: out of memory"
    assert "PLOT does not score the validation images one by one" in test_with(lambda split=None: 0.0)
    assert test_with(lambda: 0.0).startswith("TypeError: ")

    def stops(split=None):
        raise KeyboardInterrupt

    monkeypatch.setattr(trainer, "test", stops)
    with pytest.raises(KeyboardInterrupt):
        calibration_of(trainer, predictions)
    assert type(trainer.evaluator).__name__ == "Classification"


def test_an_evaluation_finds_the_same(world, run, tmp_path):
    result = train.run(arguments(world, tmp_path / "eval", flags=("--eval-only", "--model-dir", str(run[0]))))
    assert_close(result["calibration"]["temperature"], run[1]["calibration"]["temperature"], tolerance=1e-4)
    on_val = train.run(
        arguments(world, tmp_path / "val", "TEST.SPLIT", "val", flags=("--eval-only", "--model-dir", str(run[0])))
    )
    assert on_val["calibration"]["temperature"] is None
    assert on_val["calibration"]["reason"] == "the test was on the validation images"


def test_a_record_of_another_shape_is_refused(run, tmp_path):
    for change, bad in (
        ({"before": {"ece": 101.0}}, "calibration.before.ece"),
        ({"temperature": "1.5"}, "calibration.temperature"),
        ({"reason": None}, "calibration.reason"),
    ):
        record = copy.deepcopy(run[1])
        record["calibration"] |= change
        (tmp_path / "result.json").write_text(json.dumps(record))
        assert f"no valid '{bad}'" in read_record(tmp_path / "result.json")[1]
    record["calibration"] = None
    (tmp_path / "result.json").write_text(json.dumps(record))
    assert read_record(tmp_path / "result.json")[1] == ""
