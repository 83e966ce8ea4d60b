"""Trained runs on images: the run's accuracy again, files and PIL images, as a stream, and without the run."""
from __future__ import annotations

import json
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

import train
from clip.features import ImageFeatures
from dassl.data import DatasetWrapper
from dassl.data.datasets import Datum
from dassl.data.transforms import build_transform
from dassl.engine import TRAINER_REGISTRY
from demo.scenes import chalk_scene
from demo.task import CLASSES
from predict import PredictError, load
from results.__main__ import main as results
from runs.record import read_result
from runs.restore.exported import MARK, ExportedFile, sealed
from runs.restore.rebuilding import load_trainer
from tests.dassl.test_inference import TRAINERS
from tests.support.closeness import assert_close, relative_difference
from tests.support.programs import arguments, make_world, own_options


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def trained(world):
    """(trainer, options) -> folder of a run of it, made once."""

    def trained(trainer: str, *options: str) -> Path:
        folder = world / "runs" / "-".join([trainer, *options])
        if not folder.exists():
            train.run(arguments(world, folder, "OPTIM.MAX_EPOCH", "1", *options, trainer=trainer))
        return folder

    return trained


@pytest.fixture(scope="module")
def exported(trained):
    """The same of a file that is exported from it."""

    def exported(trainer: str, *options: str) -> Path:
        run = trained(trainer, *options)
        assert results(["export", str(run)]) == 0
        return run / "classifier.safetensors"

    return exported


@pytest.fixture(scope="module")
def test_items(trained):
    return load_trainer(trained("ZeroshotCLIP")).dm.dataset.test


def rewritten(path: Path, target: Path, change=lambda about: None, tensors=None) -> Path:
    """An exported file with other metadata or other tensors."""
    with safe_open(path, framework="np") as file:
        about = json.loads(file.metadata()[MARK])
    change(about)
    target.write_bytes(sealed(load_file(path) | (tensors or {}), about))
    return target


# --- all trainers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("trainer", TRAINERS)
def test_accuracy_is_the_runs(trained, test_items, trainer):
    run = trained(trainer)
    classifier = load(run, device="cpu")
    predictions = classifier([item.impath for item in test_items])
    assert [prediction.path for prediction in predictions] == [Path(item.impath) for item in test_items]
    right = [prediction.best == item.classname for prediction, item in zip(predictions, test_items, strict=True)]
    record = read_result(run)
    assert (sum(right), len(right)) == (record["correct"], record["total"])
    for prediction in predictions:
        assert np.isfinite(prediction.logits).all() and list(prediction.classes) == record["data"]["classnames"]
        assert prediction.probabilities.sum() == pytest.approx(1, rel=1e-12)
        (first, best), *_ = prediction.top(len(prediction.classes) + 5)
        assert (first, best) == (prediction.best, prediction.probabilities.max())


@pytest.mark.parametrize("trainer", TRAINERS)
def test_exported_file_predicts_bit_for_bit_what_the_run_does(trained, exported, test_items, trainer, world, tmp_path):
    run, file = trained(trainer), tmp_path / "alone.safetensors"
    assert results(["export", str(run), "--out", str(file)]) == 0
    images = [item.impath for item in test_items[:6]]
    expected, found = (load(source, device="cpu")(images) for source in (run, file))
    assert np.array_equal([p.logits for p in found], [p.logits for p in expected])
    assert found[0].classes == expected[0].classes
    with safe_open(file, framework="np") as tensors:
        text = tensors.metadata()[MARK]
        names = set(tensors.keys())
    about = json.loads(text)
    places = [key for key, value in about["config"].items() if str(world) in str(value)]
    assert places == ["MODEL.BACKBONE.NAME"]
    facts = {"dataset": "Caltech101", "split": "test", "shots": 2, "seed": 1, "total": len(test_items)}
    record = read_result(run)
    assert about["result"].items() >= (facts | {key: record[key] for key in ("accuracy", "finished")}).items()
    learned = {name for name in names if not name.startswith("frozen.")}
    assert names - learned == {"frozen.start_of_text", "frozen.logit_scale"}
    assert not any("token_" in name for name in learned)  # the frozen words of the run's checkpoint
    if trainer in LEARNED:
        assert learned == {f"prompt_learner.{name}" for name in LEARNED[trainer]}


LEARNED: dict[str, list[str]] = {
    "ZeroshotCLIP": [],
    "ZeroshotCLIP2": [],
    "CoOp": ["ctx"],
    "PLOT": ["ctx"],
    "PLOTPP": ["ctx", "ctx_vision"],
    "CoCoOp": ["ctx", *(f"meta_net.linear{n}.{kind}" for n in (1, 2) for kind in ("weight", "bias"))],
}


@pytest.mark.parametrize("trainer", TRAINERS)
def test_scores_do_not_depend_on_neighbours_or_other_classes(trained, test_items, trainer):
    images = [item.impath for item in test_items[:5]]
    classifier = load(trained(trainer), device="cpu")
    together = classifier(images)
    alone = [classifier(image)[0] for image in images]
    assert_close([p.logits for p in alone], [p.logits for p in together], 1e-5)
    if own_options(trainer, {"CSC": ""}) and TRAINER_REGISTRY.get(trainer).options_type.defaults().CSC:
        with pytest.raises(PredictError, match="serves no others"):
            load(trained(trainer), classes=[*classifier.classes, "a new thing"], device="cpu")
        return
    more = load(trained(trainer), classes=[*classifier.classes, "a new thing"], device="cpu")(images)
    assert_close([p.logits[:-1] for p in more], [p.logits for p in together], 1e-5)
    assert more[0].classes[-1] == "a new thing"


def test_transport_problems_stop_on_their_own(exported, tmp_path):
    """Prompts that differ much, and an early stop: neighbours would matter under the published rule."""
    context = {"prompt_learner.ctx": torch.randn(4, 4, 64, generator=torch.Generator().manual_seed(0))}

    def stop_early(about):
        about["config"]["TRAINER.PLOT.THRESH"] = 10.0

    file = rewritten(exported("PLOT"), tmp_path / "early.safetensors", stop_early, context)
    classifier = load(file, device="cpu")
    images = [chalk_scene(name, name).image for name in CLASSES[:6]]

    def differences() -> float:
        together, alone = classifier(images), [classifier(image)[0] for image in images]
        return relative_difference([one.logits for one in alone], [one.logits for one in together])

    assert differences() < 1e-5
    classifier.trainer.model.transport = replace(classifier.trainer.model.transport, stop="batch")
    assert differences() > 1e-4


# --- images ----------------------------------------------------------------------------------------------


def pictures(folder: Path) -> list[Path]:
    """One image in every mode that cameras and programs write."""
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (150, 200, 3), dtype=np.uint8)
    whole = Image.fromarray(noise).resize((400, 300), Image.Resampling.BICUBIC)
    rotated = Image.Exif()
    rotated[0x0112] = 6
    saved = {
        "grey.jpg": (whole.convert("L"), {}),
        "cmyk.jpg": (whole.convert("CMYK"), {}),
        "exif.jpg": (whole, {"exif": rotated}),
        "palette.gif": (whole.convert("P"), {}),
        "palette.png": (whole.convert("P"), {"transparency": 0}),
        "rgba.png": (whole.convert("RGBA"), {}),
        "deep.png": (Image.fromarray(np.arange(60_000, dtype=np.uint16).reshape(200, 300)), {}),
        "bit.png": (whole.convert("1"), {}),
        "large.webp": (whole.resize((2500, 1500)), {"method": 0}),
        "thin.bmp": (whole.resize((3, 300)), {}),
        "dot.png": (whole.resize((1, 1)), {}),
    }
    for name, (image, options) in saved.items():
        image.save(folder / name, **options)
    return [folder / name for name in saved]


@pytest.mark.parametrize(("dataset", "upright", "background"), [
    ("Caltech101", True, "white"),  # of which the run's own test read the files as they are stored
    ("Folder", False, ""),  # as the user chose
    ("Folder", True, "black"),
])
def test_images_are_read_as_a_person_sees_them(exported, tmp_path, dataset, upright, background):
    paths = pictures(tmp_path / "pictures")

    def of_own_pictures(about):
        assert about["config"]["INPUT.EXIF_ORIENTATION"] is False and about["config"]["INPUT.ALPHA"] == ""
        if dataset == "Folder":
            about["config"] |= {"INPUT.EXIF_ORIENTATION": upright, "INPUT.ALPHA": background}
        about["config"]["DATASET.NAME"] = dataset

    file = rewritten(exported("CoOp"), tmp_path / "a.safetensors", of_own_pictures)
    classifier = load(file, device="cpu", batch_size=1)
    cfg = classifier.trainer.cfg
    assert (upright, background) == (cfg.INPUT.EXIF_ORIENTATION, cfg.INPUT.ALPHA)
    data = DatasetWrapper(cfg, [Datum(str(path)) for path in paths], build_transform(cfg, is_train=False))
    for path, item in zip(paths, data, strict=True):
        with torch.no_grad():
            expected = classifier.trainer.model_inference(item["img"][None])[0].numpy()
        (from_file,) = classifier(path)
        (decoded,) = classifier(Image.open(path))
        assert np.isfinite(expected).all(), path
        assert np.array_equal(from_file.logits, expected), path
        assert np.array_equal(decoded.logits, expected) and decoded.path is None, path


def test_few_images_are_in_memory(trained):
    classifier = load(trained("ZeroshotCLIP"), device="cpu", batch_size=16)
    state = {"made": 0, "alive": 0, "most": 0}

    def images():
        for number in range(300):
            image = Image.new("RGB", (40, 30), (number % 256, 7, 9))
            weakref.finalize(image, lambda: state.update(alive=state["alive"] - 1))
            state["made"] += 1
            state["alive"] += 1
            state["most"] = max(state["most"], state["alive"])
            yield image

    bound = 2 * 16 + 8  # the batch that is computed, the one that is read ahead, and the threads' own
    for number, prediction in enumerate(classifier.stream(images())):
        assert np.isfinite(prediction.probabilities).all()
        assert state["made"] <= number + 1 + bound
    assert number == 299 and state["most"] <= bound
    del prediction
    assert state["alive"] == 0


def test_a_stream_can_be_left(trained):
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield Image.new("RGB", (8, 8))

    stream = load(trained("ZeroshotCLIP"), device="cpu", batch_size=4).stream(endless())
    next(stream)
    stream.close()
    assert len(taken) <= 20


def test_an_image_that_is_none_raises_or_is_left_out(trained, tmp_path):
    classifier = load(trained("ZeroshotCLIP"), device="cpu", batch_size=2)
    good, bad, gone = tmp_path / "good.png", tmp_path / "bad.png", tmp_path / "gone.png"
    Image.new("RGB", (30, 30)).save(good)
    bad.write_bytes(good.read_bytes()[:40])
    for path in (bad, gone):
        with pytest.raises(OSError, match=path.name):
            classifier([good, path])
    left_out = []
    found = list(classifier.stream([bad, good, gone, good, good], lambda path, error: left_out.append(path)))
    assert left_out == [bad, gone] and [prediction.path for prediction in found] == [good] * 3
    assert classifier([]) == []


def test_explanations_are_of_the_prediction(trained, test_items):
    classifier, path = load(trained("PLOT"), device="cpu"), test_items[0].impath
    (prediction,) = classifier(path)
    text = classifier.trainer.model.text_features()
    explained = classifier.explain(path)
    assert explained.shown[0].label == prediction.ranking[0] and explained.true_label is None
    assert_close(explained.logits, prediction.logits, 1e-5)
    assert explained.shown[0].plan.shape == (explained.grid[0] * explained.grid[1], 4)
    assert classifier.trainer.model.text_features() is text  # prompts are still encoded once
    for other in ("CoOp", "PLOTPP"):
        with pytest.raises(PredictError, match=f"of {other}, which does not match places"):
            load(trained(other), device="cpu").explain(path)


def test_an_explained_image_is_decoded_and_encoded_once(trained, test_items, monkeypatch):
    classifier = load(trained("PLOT"), device="cpu", batch_size=4)
    read, encoded = [], []
    tensor_of, encode = classifier._tensor_of, classifier.trainer.model.encode

    def reading(image):
        read.append(image)
        return tensor_of(image)

    def encoding(images):
        encoded.extend([] if isinstance(images, ImageFeatures) else images)
        return encode(images)

    monkeypatch.setattr(classifier, "_tensor_of", reading)
    monkeypatch.setattr(classifier.trainer.model, "encode", encoding)
    paths = [Path(item.impath) for item in test_items[:6]]
    plain = classifier(paths)
    assert (len(read), len(encoded)) == (6, 6)
    explained = list(classifier.stream(paths, explain=True))
    assert (len(read), len(encoded)) == (12, 12)
    for expected, prediction, path in zip(plain, explained, paths, strict=True):
        assert np.array_equal(prediction.logits, expected.logits) and expected.explained is None
        assert prediction.explained.name == path.name
        assert_close(prediction.explained.logits, prediction.logits, 1e-5)
        alone = classifier.explain(path)
        assert_close(prediction.explained.shown[0].plan, alone.shown[0].plan, 1e-4)


# --- classes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["run", "file"])
def test_contexts_of_single_classes_serve_no_others(trained, exported, test_items, kind):
    options = ("TRAINER.COOP.CSC", "True")
    source = (trained if kind == "run" else exported)("CoOp", *options)
    with pytest.raises(PredictError, match=r"something for each of its \d classes, .* leave out the class names"):
        load(source, classes=["one", "two"], device="cpu")
    own = load(source, device="cpu")
    again = load(source, classes=own.classes, device="cpu")
    image = test_items[0].impath
    assert np.array_equal(own(image)[0].logits, again(image)[0].logits)


def test_classes_must_be_told_apart(trained, exported, tmp_path):
    with pytest.raises(PredictError, match="'cat' is given more than once"):
        load(trained("CoOp"), classes=["cat", "dog", "cat"])
    names = load(trained("CoOp"), device="cpu").classes
    repeat = lambda about: about["classnames"].append(names[0])  # noqa: E731
    twice = rewritten(exported("CoOp"), tmp_path / "twice.safetensors", repeat)
    assert load(twice, device="cpu").classes == [*names, names[0]]  # as the run's data set had it
    with pytest.raises(PredictError, match="too long"):
        load(trained("CoOp"), classes=["cat " * 80, "dog"], device="cpu")
    for few in ([], ["cat"]):
        with pytest.raises(PredictError, match="at least two classes"):
            load(trained("CoOp"), classes=few, device="cpu")


# --- exported files --------------------------------------------------------------------------------------


def test_another_backbone_is_noticed(world, exported, test_items, tmp_path):
    file = exported("CoOp")
    weights = torch.load(world / "tiny_rn.pt")
    torch.save(weights | {"token_embedding.weight": weights["token_embedding.weight"] + 0.1}, tmp_path / "other.pt")
    with pytest.warns(UserWarning, match=r"another CLIP than the weights of .*other\.pt; .*--backbone"):
        load(file, backbone=str(tmp_path / "other.pt"), device="cpu")
    wide = rewritten(file, tmp_path / "wide.safetensors", tensors={"frozen.start_of_text": torch.zeros(7)})
    with pytest.raises(PredictError, match="was learned with another CLIP"):
        load(wide, device="cpu")


def test_moved_weights_are_asked_for(exported, world, tmp_path, test_items):
    def move(about):
        about["config"]["MODEL.BACKBONE.NAME"] = "elsewhere/tiny.pt"

    file = rewritten(exported("CoOp"), tmp_path / "moved.safetensors", move)
    with pytest.raises(PredictError, match="not at elsewhere/tiny.pt; if it has moved, say --backbone PATH"):
        load(file)
    found = load(file, backbone=str(world / "tiny_rn.pt"), device="cpu")(test_items[0].impath)
    assert np.array_equal(found[0].logits, load(exported("CoOp"), device="cpu")(test_items[0].impath)[0].logits)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda about: about.update(version=2), "has version 2 of the layout, and this program reads 1"),
        (lambda about: about.pop("classnames"), "damaged metadata"),
        (lambda about: about.update(config=[]), "damaged metadata"),
        (lambda about: about["config"].update({"TRAINER.COOP.NEW": 1}), r"no key TRAINER\.COOP\.NEW \(on .*damaged"),
        (lambda about: about["config"].update({"TRAINER.NAME": "CoOpp"}), "no trainer .* 'CoOpp'; did you mean 'CoOp'"),
        (lambda about: about["config"].update({"INPUT.SIZE": "wide"}), "INPUT.SIZE"),
    ],
)
def test_damaged_metadata(exported, tmp_path, change, complaint):
    with pytest.raises(PredictError, match=complaint):
        load(rewritten(exported("CoOp"), tmp_path / "damaged.safetensors", change), device="cpu")


@pytest.mark.parametrize(
    ("tensors", "complaint"),
    [
        ({"prompt_learner.ctx": torch.zeros(3, 64)}, "is of another model"),
        ({"prompt_learner.ctx": torch.full((4, 64), torch.nan)}, "NaN or infinite numbers in 'prompt_learner.ctx'"),
        ({"adapter.weight": torch.zeros(3)}, "holds 'adapter.weight', which CoOp does not learn"),
    ],
)
def test_damaged_tensors(exported, tmp_path, tensors, complaint):
    with pytest.raises(PredictError, match=complaint):
        load(rewritten(exported("CoOp"), tmp_path / "damaged.safetensors", tensors=tensors), device="cpu")


@given(st.lists(st.integers(min_value=0), min_size=1, max_size=3))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_bit_turned_anywhere_in_a_file_is_found_or_changes_nothing(tmp_path, bits):
    tensors = {"prompt_learner.ctx": torch.arange(64.0).reshape(4, 16)}
    about = {"version": 1, "classnames": ["a", "b"], "config": {"TRAINER.NAME": "CoOp"}, "result": {"accuracy": 5.0}}
    path, damaged = tmp_path / "a.safetensors", bytearray(sealed(tensors, about))
    path.write_bytes(damaged)
    before = ExportedFile.read(path)
    for bit in bits:
        damaged[bit // 8 % len(damaged)] ^= 1 << bit % 8
    path.write_bytes(damaged)
    try:
        after = ExportedFile.read(path)
    except PredictError as error:
        assert str(path) in str(error)
        return
    assert after == before and torch.equal(load_file(path)["prompt_learner.ctx"], tensors["prompt_learner.ctx"])


def test_deeply_nested_metadata_is_damage(tmp_path, monkeypatch):
    dumps = json.dumps
    with monkeypatch.context() as patch:
        patch.setattr("json.dumps", lambda value, **how: value if isinstance(value, str) else dumps(value, **how))
        (tmp_path / "a.safetensors").write_bytes(sealed({"a": torch.zeros(1)}, "[" * 100_000))
    with pytest.raises(PredictError, match="a.safetensors has damaged metadata"):
        load(tmp_path / "a.safetensors", device="cpu")


def test_a_turned_bit_among_the_numbers_of_a_file_is_named(exported, tmp_path):
    content = bytearray(exported("CoOp").read_bytes())
    content[-100] ^= 0x40
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(PredictError, match="a.safetensors is damaged: its SHA-256 is not"):
        load(tmp_path / "a.safetensors", device="cpu")


def test_config_of_a_file_cannot_name_other_files(exported, tmp_path):
    def add(about):
        about["config"] |= {"MODEL.INIT_WEIGHTS": "/etc/passwd", "OUTPUT_DIR": "/", "FEATURE_CACHE.DIR": "/"}

    classifier = load(rewritten(exported("CoOp"), tmp_path / "more.safetensors", add), device="cpu")
    cfg = classifier.trainer.cfg
    assert not cfg.MODEL.INIT_WEIGHTS and cfg.OUTPUT_DIR != "/" and not cfg.FEATURE_CACHE.DIR


def test_export_command(trained, tmp_path, capsys):
    assert results(["export", str(tmp_path)]) == 2
    assert "no config.yaml" in capsys.readouterr().err
    assert results(["export", str(tmp_path / "none")]) == 2
    assert results(["export", str(trained("CoOp")), "--out", str(tmp_path)]) == 2  # a folder
    assert "cannot write" in capsys.readouterr().err
    assert results(["export", str(trained("CoOp")), "--out", str(tmp_path / "new" / "a.safetensors")]) == 0
    assert capsys.readouterr().out.startswith(f"written: {tmp_path / 'new' / 'a.safetensors'} (")
