"""The adapters through train.py: what is written, what is chosen on which images, what is refused, how it is shown."""
from __future__ import annotations

import json
import math
import random
import re
import shutil
import warnings
from pathlib import Path

import pytest
import torch

import train
from dassl.engine import build_trainer
from dassl.utils import set_random_seed
from results.__main__ import main as results
from runs.config import request_of
from runs.restore.rebuilding import load_trainer
from tests.support.closeness import assert_close
from tests.support.programs import ADAPTERS, arguments, failure, make_world, plot_run

LEARN = ("TipAdapterF", "PLOTAdapter")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


def key(trainer, name):
    return f"TRAINER.{trainer.upper()}.{name}"


def run(world, output, trainer, *options, seed=1, flags=()):
    return train.run(arguments(world, output, *options, trainer=trainer, seed=seed, flags=flags))


@pytest.fixture(scope="module")
def finished(world):
    """{trainer: (folder, record)} of one run each."""
    return {name: (world / "done" / name, run(world, world / "done" / name, name)) for name in ADAPTERS}


def saved(folder: Path, name: str = "") -> dict:
    name = name or max((path.name for path in (folder / "adapter").glob("model*")), key=len)
    return torch.load(folder / "adapter" / name, weights_only=True)


def same(ours: dict, theirs: dict) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def log_of(folder: Path) -> str:
    return (folder / "log.txt").read_text()


# --- a run -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trainer", ADAPTERS)
def test_a_run_and_its_record(world, finished, trainer):
    folder, record = finished[trainer]
    epochs = 3 if trainer in LEARN else 0
    assert record["complete"] and record["total"] == 48 and record["epochs"] == len(record["history"]) == epochs
    assert record["checkpoint"] == f"adapter/model.pth.tar-{epochs}" and record["protocol"] is None
    chosen = record["selection"]
    assert (chosen["from"], chosen["on"], chosen["images"]) == ("search", "val", 16)  # min(2 shots, 4) of 8 classes
    assert 0.1 <= chosen["alpha"] <= 10 and 0.1 <= chosen["beta"] <= 12 and 0 <= chosen["accuracy"] <= 100
    log = log_of(folder)
    assert log.count("Evaluate on the *test* set") == 1 and "Evaluate on the *val* set" not in log
    assert "The cache holds 16 images of 8 classes, 2 views each" in log
    assert [path.name for path in (folder / "adapter").iterdir() if path.name != "checkpoint"] == [
        f"model.pth.tar-{epochs}"]
    state = saved(folder)["state_dict"]
    assert state["keys"].shape == (2 if trainer == "PLOTAdapter" else 1, 16, 48)
    assert saved(folder)["optimizer"] is None and sum(v.numel() for v in state.values()) < 5000
    if trainer == "PLOTAdapter":
        assert record["transport"]["epsilon"] == 0.3 and 0 <= record["transport"]["distance_from_uniform"] < 1
        assert chosen["prompts"].startswith(str(plot_run(world, 1)))
    else:
        assert record["transport"] is None


@pytest.mark.parametrize("trainer", ADAPTERS)
def test_evaluation_finds_it_again(world, finished, tmp_path, trainer):
    folder, record = finished[trainer]
    again = run(world, tmp_path / "eval", trainer, flags=("--eval-only", "--model-dir", str(folder)))
    for field in ("accuracy", "per_class", "selection", "transport"):
        assert again[field] == record[field]
    whole = load_trainer(folder)
    assert whole.test() == record["accuracy"]


@pytest.mark.parametrize("trainer", ADAPTERS)
def test_the_same_seed_gives_the_same(world, finished, tmp_path, trainer):
    folder, record = finished[trainer]
    again = run(world, tmp_path / "again", trainer)
    assert again["history"] == record["history"] and again["selection"] == record["selection"]
    assert same(saved(tmp_path / "again")["state_dict"], saved(folder)["state_dict"])
    run(world, tmp_path / "other", trainer, seed=2)
    assert not torch.equal(saved(tmp_path / "other")["state_dict"]["keys"], saved(folder)["state_dict"]["keys"])


@pytest.mark.parametrize("trainer", ADAPTERS)
@pytest.mark.parametrize("killed_after", [0, 2, 3])
def test_killed_and_started_again_gives_the_same(world, finished, tmp_path, capsys, trainer, killed_after):
    folder, record = finished[trainer]
    argv = arguments(world, tmp_path / "run", "TRAIN.CHECKPOINT_FREQ", "1", trainer=trainer)
    train.run(argv)
    kept = killed_after if trainer in LEARN else 0
    for path in (tmp_path / "run" / "adapter").glob("model.pth.tar-*"):
        if int(path.name.rpartition("-")[2]) > kept:
            path.unlink()
    (tmp_path / "run" / "result.json").unlink()
    again = train.run(argv)
    assert f"Resuming from {tmp_path / 'run'} after epoch {kept}" in capsys.readouterr().out
    assert (again["history"], again["selection"]) == (record["history"], record["selection"])
    assert same(saved(tmp_path / "run")["state_dict"], saved(folder)["state_dict"])


def test_keys_learn_and_nothing_else_does(world, finished):
    start, learned = (saved(finished[name][0])["state_dict"]["keys"] for name in ("TipAdapter", "TipAdapterF"))
    assert not torch.equal(start, learned)  # the cache is filled from the same random numbers
    assert_close(start.norm(dim=-1), torch.ones(1, 16))
    for name in LEARN:
        trainer = load_trainer(finished[name][0])
        assert [n for n, p in trainer.model.named_parameters() if p.requires_grad] == ["cache.keys"]
        group = trainer.optim.param_groups[0]
        assert type(trainer.optim).__name__ == "AdamW" and (group["eps"], group["weight_decay"]) == (1e-4, 0.01)
    prompts = torch.load(plot_run(world, 1) / "prompt_learner" / "model.pth.tar-1", weights_only=True)["state_dict"]
    assert torch.equal(saved(finished["PLOTAdapter"][0])["state_dict"]["ctx"], prompts["ctx"])


def test_an_epoch_sees_every_image(world, tmp_path):
    """16 images in batches of 5: three and a short one."""
    run(world, tmp_path / "run", "TipAdapterF", "DATALOADER.TRAIN_X.BATCH_SIZE", "5", "TRAIN.PRINT_FREQ", "1")
    log = log_of(tmp_path / "run")
    assert "epoch [1/3] batch [4/4]" in log and "lr 0.0000e+00" in log.split("epoch [3/3] batch [4/4]")[1]


@pytest.mark.parametrize("trainer", ADAPTERS)
def test_without_weight_it_is_the_prompt_alone(world, finished, trainer):
    """alpha = 0 gives ZeroshotCLIP's logits, and in a test PLOT's beside them."""
    ours = load_trainer(finished[trainer][0])
    argv = arguments(world, world / "zero", trainer="ZeroshotCLIP")
    zero = build_trainer(request_of(argv).cfg)
    images = next(iter(ours.test_loader))["img"]
    ours.cache.alpha = 0.0
    with torch.no_grad():
        expected = zero.model_inference(images)
        found = ours.model.train_logits(ours.encode(images))
        if trainer != "PLOTAdapter":  # whose pooled feature comes with the local ones, and is rounded otherwise
            assert torch.equal(found, expected)
        assert_close(found, expected, 1e-5)
        if trainer == "PLOTAdapter":
            expected = expected + 0.25 * ours.model.plot.score(ours.encode(images))
        assert_close(ours.model_inference(images), expected, 1e-5)


@pytest.mark.parametrize("trainer", ADAPTERS)
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_other_formats_of_the_towers(world, tmp_path, trainer, precision):
    options = ("OPTIM.MAX_EPOCH", "1", key(trainer, "PREC"), precision)
    record = run(world, tmp_path / "run", trainer, *options)
    assert record["complete"] and saved(tmp_path / "run")["state_dict"]["keys"].dtype == torch.float32
    assert all(math.isfinite(epoch["loss"]) for epoch in record["history"])


def fewer_images(world, folder: Path, counts: dict[int, int]) -> Path:
    """A copy of the world whose classes have no more training images than `counts` says."""
    copied = Path(shutil.copytree(world, folder, ignore=shutil.ignore_patterns("done", "*of-seed*", "split_fewshot")))
    path = copied / "data" / "caltech-101" / "split_zhou_Caltech101.json"
    split = json.loads(path.read_text())
    kept: list = []
    for item in split["train"]:
        if sum(other[1] == item[1] for other in kept) < counts.get(item[1], 99):
            kept.append(item)
    path.write_text(json.dumps(split | {"train": kept}))
    return copied


@pytest.mark.parametrize("trainer", ADAPTERS)
def test_classes_may_have_fewer_images(world, tmp_path, trainer):
    copied = fewer_images(world, tmp_path / "uneven", {0: 1, 3: 2})
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        start = tmp_path / "plot"
        train.run(arguments(copied, start, "OPTIM.MAX_EPOCH", "1", "DATASET.NUM_SHOTS", "4"))
        own = (key(trainer, "PRETRAIN_DIR"), str(start)) if trainer == "PLOTAdapter" else ()
        options = ("DATASET.NUM_SHOTS", "4", "OPTIM.MAX_EPOCH", "1", *own)
        record = run(copied, tmp_path / "run", trainer, *options)
    assert any("fewer than 4 training images" in str(one.message) for one in told)
    labels = saved(tmp_path / "run")["state_dict"]["labels"]
    assert labels.bincount().tolist() == [1, 4, 4, 2, 4, 4, 4, 4] and record["complete"]


# --- what is chosen on which images ----------------------------------------------------------------------


def other_truth(world, folder: Path) -> Path:
    """A copy of the world in which the test images have each other's classes."""
    copied = Path(shutil.copytree(world, folder, ignore=shutil.ignore_patterns("done")))
    path = copied / "data" / "caltech-101" / "split_zhou_Caltech101.json"
    split = json.loads(path.read_text())
    names = [item[1:] for item in split["test"]]
    random.Random(7).shuffle(names)
    test = [[item[0], *name] for item, name in zip(split["test"], names, strict=True)]
    path.write_text(json.dumps(split | {"test": test}))
    return copied


@pytest.fixture(scope="module")
def other(world, tmp_path_factory):
    plot_run(world, 1)
    return other_truth(world, tmp_path_factory.mktemp("other") / "world")


def outcome(world, output, trainer, *options):
    """What a run decided: all but what it measured on the test images."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        record = run(world, output, trainer, *options)
    logits = load_trainer(output)
    with torch.no_grad():
        predicted = logits.model_inference(next(iter(logits.test_loader))["img"])
    selection = {name: value for name, value in record["selection"].items() if "test" not in name and name != "prompts"}
    return record["accuracy"], (record["history"], selection, predicted.tolist())


@pytest.mark.parametrize("final", ["last_step", "best_val"])
@pytest.mark.parametrize("trainer", ADAPTERS)
def test_test_labels_change_the_accuracy_and_nothing_else(world, other, tmp_path, trainer, final):
    options = ("TEST.FINAL_MODEL", final)
    accuracy, ours = outcome(world, tmp_path / "ours", trainer, *options)
    another, theirs = outcome(other, tmp_path / "theirs", trainer, *options)
    assert ours == theirs and accuracy != another


@pytest.mark.parametrize("trainer", ADAPTERS)
def test_under_the_leaky_protocol_they_do(world, other, tmp_path, trainer):
    options = (key(trainer, "SELECT_ON_TEST_LEAKY"), "True", "OPTIM.MAX_EPOCH", "6")
    found = [outcome(place, tmp_path / str(i), trainer, *options)[1] for i, place in enumerate((world, other))]
    chosen = [{k: one[1].get(k) for k in ("epoch", "alpha", "beta")} for one in found]
    assert chosen[0] != chosen[1]


def test_the_best_epoch_is_that_on_validation_data(world, tmp_path):
    options = ("TEST.FINAL_MODEL", "best_val", "OPTIM.MAX_EPOCH", "4")
    record = run(world, tmp_path / "run", "TipAdapterF", *options)
    assert record["checkpoint"] == "adapter/model-best.pth.tar" and record["selection"]["epoch_by"] == "val"
    best = saved(tmp_path / "run", "model-best.pth.tar")
    assert best["epoch"] == record["selection"]["epoch"] and best["val_result"] is not None
    log = log_of(tmp_path / "run")
    assert log.count("*val*") == 4 and log.count("*test*") == 1
    flags = ("--eval-only", "--model-dir", str(tmp_path / "run"))
    evaluated = run(world, tmp_path / "eval", "TipAdapterF", flags=flags)
    assert evaluated["accuracy"] == record["accuracy"]


@pytest.mark.parametrize(("search", "expected"), [
    ("full_val", ("full_val", 32)), ("train", ("train", 16)), ("val", ("val", 16)), ("none", (None, None)),
])
def test_images_to_choose_on(world, tmp_path, search, expected):
    values = (key("TipAdapter", "ALPHA"), "0.75", key("TipAdapter", "BETA"), "3.5")
    record = run(world, tmp_path / "run", "TipAdapter", key("TipAdapter", "SEARCH"), search, *values)
    chosen = record["selection"]
    assert (chosen.get("on"), chosen.get("images")) == expected
    assert chosen["initial"] == {"alpha": 0.75, "beta": 3.5}
    if search == "none":
        assert (chosen["alpha"], chosen["beta"], chosen["from"]) == (0.75, 3.5, "given")


def test_values_of_upstream_are_marked(world, tmp_path):
    options = (key("TipAdapter", "UPSTREAM_TUNED"), "True", key("TipAdapter", "SEARCH"), "none")
    record = run(world, tmp_path / "run", "TipAdapter", *options)
    chosen = record["selection"]
    assert (chosen["alpha"], chosen["beta"], chosen["from"]) == (3, 1, "upstream")
    assert record["protocol"].startswith("upstream-tuned")
    pictures = world / "data" / "caltech-101" / "101_ObjectCategories"
    for name in ("accordion", "Leopards"):
        shutil.copytree(pictures / name, tmp_path / "photos" / name)
    unknown = ("DATASET.NAME", "Folder", "DATASET.FOLDER.PATH", str(tmp_path / "photos"))
    with pytest.raises(ValueError, match="upstream has no values for Folder"):
        run(world, tmp_path / "other", "TipAdapter", *options, *unknown)


# --- upstream's protocol is marked -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def leaky(world):
    """A folder with an honest and a leaky run of each trainer, and an evaluation of the leaky ones."""
    output = world / "done" / "leaky"
    for trainer in ADAPTERS:
        for seed in (1, 2):
            place = f"caltech101/{trainer}/rn50_2shots/seed{seed}"
            run(world, output / "honest" / place, trainer, "OPTIM.MAX_EPOCH", "1", seed=seed)
            options = (key(trainer, "SELECT_ON_TEST_LEAKY"), "True", "OPTIM.MAX_EPOCH", "1")
            run(world, output / "leaky" / place, trainer, *options, seed=seed)
    return output


PLACE = "caltech101/{}/rn50_2shots/seed1"


@pytest.mark.parametrize("trainer", ADAPTERS)
def test_a_leaky_run_says_so(leaky, trainer):
    folder = leaky / "leaky" / PLACE.format(trainer)
    record = json.loads((folder / "result.json").read_text())
    chosen = record["selection"]
    assert record["protocol"] == "leaky: selected on test"
    assert record["accuracy"] == max(chosen["test_accuracies"]) and len(chosen["test_accuracies"]) == 2
    assert "Warning: leaky: selected on test. The accuracy of this run is no fair reference" in log_of(folder)
    epochs = trainer in LEARN
    assert chosen.get("epoch_by") == ("test" if epochs else None)
    assert record["checkpoint"] == ("adapter/model-best.pth.tar" if epochs else "adapter/model.pth.tar-0")
    initial, first = chosen["initial"], chosen["test_accuracies"][0] >= chosen["test_accuracies"][1]
    assert ((chosen["alpha"], chosen["beta"]) == (initial["alpha"], initial["beta"])) == first


@pytest.mark.parametrize("trainer", ADAPTERS)
def test_an_evaluation_does_not_wash_it_off(world, leaky, tmp_path, trainer, capsys):
    folder = leaky / "leaky" / PLACE.format(trainer)
    record = run(world, tmp_path / "eval", trainer, flags=("--eval-only", "--model-dir", str(folder)))
    assert record["protocol"] == "leaky: selected on test"
    assert "Protocol of that run: leaky" in log_of(tmp_path / "eval")
    assert results(["table", str(tmp_path)]) == 0
    assert "(selected on test)" in capsys.readouterr().out


@pytest.mark.parametrize("command", [["table"], ["table", "--format", "csv"], ["fewshot", "--seeds", "1", "2", "--"]])
def test_every_table_marks_it(leaky, capsys, command):
    assert results([*command, str(leaky)]) == 0
    shown = capsys.readouterr().out
    for trainer in ADAPTERS:
        rows = [line for line in shown.splitlines() if trainer + " " in line + " " or trainer + "," in line]
        marked = [line for line in rows if "(selected on test)" in line]
        assert marked and len(marked) < len(rows), shown
    if "csv" not in command:
        assert "chosen by test accuracy" in shown
        assert re.search(r"Behind the numbers: .*settings searched on val.*; test images looked at: once", shown), shown
    elif "table" in command:
        leaky_row = next(line for line in shown.splitlines() if "TipAdapterF (selected" in line)
        assert re.search("best epoch on test.*,[0-9]+,", leaky_row)


def test_report_and_curve_mark_it(leaky, tmp_path):
    assert results(["report", str(leaky), "--out", str(tmp_path / "report.html")]) == 0
    page = (tmp_path / "report.html").read_text()
    assert page.count("TipAdapterF (selected on test)") > 2 and "no fair reference" in page
    assert results(["curve", str(leaky), "--out", str(tmp_path / "curve.svg")]) == 0
    assert "TipAdapterF (selected on test)" in (tmp_path / "curve.svg").read_text()


def test_parsed_logs_are_warned_of(leaky, capsys):
    assert results(["parse", str((leaky / "leaky" / PLACE.format("TipAdapterF")).parent)]) == 0
    assert capsys.readouterr().err.count("the result is marked (selected on test)") == 2
    assert results(["parse", str((leaky / "honest" / PLACE.format("TipAdapterF")).parent)]) == 0
    assert "marked" not in capsys.readouterr().err


def test_an_unfinished_leaky_run_belongs_to_the_marked_ones(leaky, tmp_path, capsys):
    copied = Path(shutil.copytree(leaky, tmp_path / "leaky"))
    (copied / "leaky" / PLACE.format("TipAdapterF") / "result.json").unlink()
    assert results(["table", str(copied)]) == 1
    lines = capsys.readouterr().out.splitlines()
    row = next(line for line in lines if line.startswith("TipAdapterF (selected on test)"))
    assert "(1/2)" in row


@pytest.mark.parametrize("trainer", ["TipAdapter", "TipAdapterF"])
def test_a_leaky_run_that_was_killed_at_its_end_chooses_again(world, tmp_path, trainer):
    options = (key(trainer, "SELECT_ON_TEST_LEAKY"), "True", "OPTIM.MAX_EPOCH", "2")
    record = run(world, tmp_path / "run", trainer, *options)
    (tmp_path / "run" / "result.json").unlink()
    again = run(world, tmp_path / "run", trainer, *options)
    assert again["selection"] == record["selection"] and again["accuracy"] == record["accuracy"]


@pytest.mark.parametrize("trainer", ["TipAdapter", "TipAdapterF"])
def test_a_run_may_go_on_in_another_folder(world, finished, tmp_path, trainer):
    folder, record = finished[trainer]
    again = run(world, tmp_path / "run", trainer, flags=("--resume", str(folder)))
    assert again["accuracy"] == record["accuracy"] and again["selection"] == record["selection"]
    assert (tmp_path / "run" / again["checkpoint"]).exists()


@pytest.mark.parametrize(("option", "value"), [("TEST.NO_TEST", "True"), ("TEST.FINAL_MODEL", "best_val")])
def test_the_leaky_protocol_chooses_by_itself(world, tmp_path, capsys, option, value):
    argv = arguments(world, tmp_path / "run", key("TipAdapterF", "SELECT_ON_TEST_LEAKY"), "True", option, value,
                     trainer="TipAdapterF")
    assert option in failure(capsys, argv)


# --- what is refused, and other classes ------------------------------------------------------------------


@pytest.mark.parametrize("trainer", ADAPTERS)
def test_an_empty_cache_is_no_result(world, tmp_path, capsys, trainer):
    argv = arguments(world, tmp_path / "run", trainer=trainer, flags=("--eval-only",))
    assert "the cache is empty: give the run to evaluate with --model-dir" in failure(capsys, argv)


def test_other_methods_checkpoints_are_refused(world, finished, tmp_path, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(plot_run(world, 1) / "prompt_learner", folder / "adapter")
    argv = arguments(world, tmp_path / "a", trainer="TipAdapter", flags=("--eval-only", "--model-dir", str(folder)))
    assert "the file is of another method" in failure(capsys, argv)
    flags = ("--eval-only", "--model-dir", str(finished["PLOTAdapter"][0]))
    assert "another method" in failure(capsys, arguments(world, tmp_path / "b", trainer="TipAdapterF", flags=flags))
    (tmp_path / "empty").mkdir()
    empty = ("--eval-only", "--model-dir", str(tmp_path / "empty"))
    assert "no checkpoint" in failure(capsys, arguments(world, tmp_path / "c", trainer="TipAdapterF", flags=empty))


@pytest.mark.parametrize("trainer", ["TipAdapter", "TipAdapterF"])
def test_classes_without_images_are_told_by_the_prompt(world, tmp_path, trainer):
    run(world, tmp_path / "base", trainer, "OPTIM.MAX_EPOCH", "1", "DATASET.SUBSAMPLE_CLASSES", "base")
    flags = ("--eval-only", "--model-dir", str(tmp_path / "base"))
    new = run(world, tmp_path / "new", trainer, "DATASET.SUBSAMPLE_CLASSES", "new", flags=flags)
    zero = run(world, tmp_path / "zero", "ZeroshotCLIP", "DATASET.SUBSAMPLE_CLASSES", "new", flags=["--eval-only"])
    assert new["per_class"] == zero["per_class"]
    assert "The cache knows 0 of 4 classes" in log_of(tmp_path / "new")


PLOT_ADAPTER = {
    "nowhere": (["PRETRAIN_DIR", "nowhere"], "TRAINER.PLOTADAPTER.PRETRAIN_DIR: no nowhere"),
    "not told": (["PRETRAIN_DIR", ""], "which prompts? set TRAINER.PLOTADAPTER.PRETRAIN_DIR"),
    "other number": (["N", "3"], "set the same N, N_CTX, CSC"),
    "other classes": (["DATASET.SUBSAMPLE_CLASSES", "base"], "other classes than the 4 of this run"),
}


@pytest.mark.parametrize("fault", PLOT_ADAPTER)
def test_prompts_must_be_of_the_same_kind(world, tmp_path, capsys, fault):
    options, complaint = PLOT_ADAPTER[fault]
    options = [key("PLOTAdapter", word) if word.isupper() and "." not in word else word for word in options]
    argv = arguments(world, tmp_path / "run", *options, trainer="PLOTAdapter")
    assert complaint in failure(capsys, argv)


def test_prompts_of_an_unfinished_run_are_refused(world, tmp_path, capsys):
    copied = Path(shutil.copytree(plot_run(world, 1), tmp_path / "plot"))
    (copied / "result.json").unlink()
    argv = arguments(world, tmp_path / "run", key("PLOTAdapter", "PRETRAIN_DIR"), str(copied), trainer="PLOTAdapter")
    assert "is not finished" in failure(capsys, argv)
    file = copied / "prompt_learner" / "model.pth.tar-1"
    options = (key("PLOTAdapter", "PRETRAIN_DIR"), str(file), "OPTIM.MAX_EPOCH", "1")
    assert run(world, tmp_path / "run", "PLOTAdapter", *options)["complete"]


def test_prompts_are_looked_for_beside_the_run(world, tmp_path):
    shutil.copytree(plot_run(world, 1), tmp_path / "OP_N4" / "PLOT" / "seed1")
    options = (key("PLOTAdapter", "PRETRAIN_DIR"), "", "OPTIM.MAX_EPOCH", "1")
    record = run(world, tmp_path / "OP_N4" / "PLOTAdapter" / "seed1", "PLOTAdapter", *options)
    assert record["selection"]["prompts"].startswith(str(tmp_path / "OP_N4" / "PLOT" / "seed1"))


def test_prompts_of_another_seed_are_told_of(world, tmp_path):
    options = (key("PLOTAdapter", "PRETRAIN_DIR"), str(plot_run(world, 1)), "OPTIM.MAX_EPOCH", "1")
    run(world, tmp_path / "run", "PLOTAdapter", *options, seed=2)
    assert "leak between runs: the start was trained with seed 1, this run has seed 2" in log_of(tmp_path / "run")


def test_the_transport_of_plot_adapter_can_be_looked_at(finished, capsys):
    folder, _ = finished["PLOTAdapter"]
    trainer = load_trainer(folder)
    explained = trainer.explain(next(iter(trainer.test_loader))["img"][:3])
    assert explained.plan.shape == (3, 8, 9, 2) and explained.grid == (3, 3)
    set_random_seed(1)
    assert results(["transport", str(folder), "--count", "1"]) == 0
    assert len(list((folder / "transport").glob("*.png"))) == 1
