"""train.py end to end: what a run leaves, that it can be killed, and what bad input is told."""
import io
import json
import os
import re
import signal
import sys
import time

import pytest
import torch
from tqdm import tqdm

import train
from dassl.config import get_cfg_default
from runs.command_line import build_parser
from runs.config import setup_cfg
from runs.execute import splits_read
from runs.lock import hold_folder
from tests.support import warm
from tests.support.golden_data import write_fewshot_tree
from tests.support.programs import REPOSITORY, arguments, command, make_world

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def plot_run(world):
    """A finished PLOT run."""
    output = world / "plot"
    return output, train.run(arguments(world, output))


@pytest.mark.parametrize("trainer", ["CoOp", "CoCoOp", "ZeroshotCLIP", "ZeroshotCLIP2"])
def test_every_trainer_runs_and_records(world, tmp_path, trainer):
    result = train.run(arguments(world, tmp_path / "run", trainer=trainer))
    assert result["complete"] and result["trainer"] == trainer and result["total"] == 48
    assert (tmp_path / "run" / "prompt_learner").exists() == trainer.startswith("Co")
    log = (tmp_path / "run" / "log.txt").read_text()
    assert re.search(r"^=> result\n\* total: 48\n\* correct: \d+\n\* accuracy: \d+\.\d\d%\n\* error: ", log, re.M)


def test_a_run_leaves_log_checkpoint_and_record(plot_run):
    output, result = plot_run
    assert result == json.loads((output / "result.json").read_text())
    assert (result["shots"], result["seed"], result["epochs"]) == (2, 1, 3)
    assert result["correct"] == sum(entry["correct"] for entry in result["per_class"])
    assert result["accuracy"] == pytest.approx(100 * result["correct"] / result["total"])
    transport = result["transport"]
    assert 0 <= transport["distance_from_uniform"] < 1 and transport["iterations_max"] >= 2
    assert len(result["history"]) == 3 and result["history"][0]["loss"] > 0
    log = (output / "log.txt").read_text()
    for line in (r"epoch \[3/3\] batch \[4/4\] time .* loss .* acc .* lr .* eta 0:00:00", "Finish training",
                 r"Evaluate on the \*test\* set", "Elapsed: 0:00:"):
        assert re.search(f"^{line}", log, re.M), line
    assert "Setting fixed seed" not in log  # printed before the log opens
    saved = torch.load(output / "prompt_learner" / "model.pth.tar-3", weights_only=True)
    assert list(saved["state_dict"]) == ["ctx", "token_prefix", "token_suffix"]
    assert saved["state_dict"]["token_suffix"].shape == (32, 72, 64)
    assert (output / "prompt_learner" / "checkpoint").read_text() == "model.pth.tar-3\n"


def test_what_is_warned_of_is_in_log_and_record(world, plot_run, tmp_path):
    """Of every run of a process, and also what is said before the log is opened."""
    for name in ("first", "second"):
        with pytest.warns(UserWarning, match="fewer than 99 training images"):
            result = train.run(arguments(world, tmp_path / name, "DATASET.NUM_SHOTS", "99", "OPTIM.MAX_EPOCH", "1"))
        (text,) = result["warnings"]
        assert text.startswith("fewer than 99 training images")
        assert (tmp_path / name / "log.txt").read_text().count(f"Warning: {text}\n") == 1
    options = ("RESUME", str(plot_run[0]), "OPTIM.LR", "0.5")
    with pytest.warns(UserWarning, match="resuming from .* with another configuration: OPTIM.LR was"):
        train.run(arguments(world, tmp_path / "resumed", *options))
    assert "Warning: resuming from " in (tmp_path / "resumed" / "log.txt").read_text()
    assert train.run(arguments(world, tmp_path / "quiet", "OPTIM.MAX_EPOCH", "1"))["warnings"] == []


def test_the_same_seed_gives_the_same_result_and_another_does_not(world, plot_run, tmp_path):
    _, first = plot_run
    again = train.run(arguments(world, tmp_path / "again"))
    assert again["history"] == first["history"] and again["accuracy"] == first["accuracy"]
    other = train.run(arguments(world, tmp_path / "other", seed=2))
    assert other["history"] != first["history"]
    assert other["data"]["fingerprint"] != first["data"]["fingerprint"]


def test_evaluation_finds_the_trained_accuracy_again(world, plot_run, tmp_path):
    output, trained = plot_run
    result = train.run(arguments(world, tmp_path / "eval", flags=("--eval-only", "--model-dir", str(output))))
    assert result["accuracy"] == trained["accuracy"] and result["mode"] == "eval"


def test_prompts_move_to_other_classes(world, tmp_path):
    base = tmp_path / "base"
    train.run(arguments(world, base, "DATASET.SUBSAMPLE_CLASSES", "base"))
    new = train.run(arguments(world, tmp_path / "new", "DATASET.SUBSAMPLE_CLASSES", "new",
                              flags=("--eval-only", "--model-dir", str(base), "--load-epoch", "3")))
    assert new["data"]["classes"] == 4 and [c["name"] for c in new["per_class"]][-1] == "yin_yang"


def test_killed_at_any_moment_and_started_again_gives_the_same(world, plot_run, tmp_path):
    _, expected = plot_run
    output = tmp_path / "killed"
    argv = arguments(world, output, "TRAIN.CHECKPOINT_FREQ", "1")
    for marker in ("epoch [1/3]", "Checkpoint saved", "epoch [3/3]"):
        own = {**os.environ, "OMP_NUM_THREADS": "1"}  # as in this process: sums in another order round otherwise
        process = warm.start([sys.executable, "train.py", *argv], cwd=REPOSITORY, env=own)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            if any(marker in path.read_text() for path in output.glob("log.txt*")):
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        if (output / "result.json").exists():  # it was faster than the signal
            break
        for path in output.glob("log.txt*"):
            path.unlink()
    result = train.run(argv)
    assert result["history"] == expected["history"] and result["accuracy"] == expected["accuracy"]


def test_seed_zero_is_a_seed(world, tmp_path):
    first = train.run(arguments(world, tmp_path / "a", seed=0))
    assert first["seed"] == 0
    assert train.run(arguments(world, tmp_path / "b", seed=0))["history"] == first["history"]


def test_the_published_schedule_is_a_default(world, tmp_path):
    def config(*options, file=None):
        argv = arguments(world, tmp_path)
        cut = argv.index("DATASET.NUM_SHOTS")
        if file:
            argv[argv.index("--config-file") + 1] = str(file)
        return setup_cfg(build_parser().parse_args([*argv[:cut], *options]))

    for shots, epochs in ((1, 50), (2, 100), (4, 100), (8, 200), (16, 200), (-1, 200)):
        cfg, notes = config("DATASET.NUM_SHOTS", str(shots))
        assert epochs == cfg.OPTIM.MAX_EPOCH and cfg.DATALOADER.TRAIN_X.BATCH_SIZE == 128
        assert any(f"OPTIM.MAX_EPOCH {epochs}" in note for note in notes)
    assert config("DATASET.NAME", "ImageNet", "DATASET.NUM_SHOTS", "16")[0].OPTIM.MAX_EPOCH == 50
    assert config("DATASET.NAME", "StanfordCars")[0].DATALOADER.TRAIN_X.BATCH_SIZE == 32
    assert config("OPTIM.MAX_EPOCH", "7")[0].OPTIM.MAX_EPOCH == 7
    own = tmp_path / "own.yaml"
    own.write_text("OPTIM:\n  MAX_EPOCH: 9\n")
    cfg, notes = config(file=own)
    assert cfg.OPTIM.MAX_EPOCH == 9 and any("as configured" in note for note in notes)


# --- bad input -------------------------------------------------------------------------------------------


def failure(capsys, argv, status=None) -> str:
    found = train.main(argv)
    message = capsys.readouterr().err
    assert found == status or (status is None and found != 0)
    assert message.startswith("error: "), message
    return message


def replaced(argv, flag, value):
    argv = list(argv)
    argv[argv.index(flag) + 1] = str(value)
    return argv


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["TRAINER.PLOT.N", "0"], "TRAINER.PLOT.N must be at least 1, got 0"),
        (["TRAINER.PLOT.EPS", "0.0"], "TRAINER.PLOT.EPS must be above 0, got 0.0"),
        (["TRAINER.PLOT.EPS", "-1.0"], "TRAINER.PLOT.EPS must be above 0"),
        (["TRAINER.PLOT.PREC", "fp8"], "fp16, fp32, amp, bf16"),
        (["TRAINER.PLOT.MATCHING", "best"], "ot, unbalanced, partial, uniform, max"),
        (["TRAINER.PLOT.DENSE", "patches"], "DENSE must be one of tokens, value, content, vv, vv_plain, got 'patches'"),
        (["TRAINER.PLOT.NN", "4"], "TRAINER.PLOT.N"),
        (["OPTIM.MAX_EPOCHS", "4"], "OPTIM.MAX_EPOCH"),
        (["OPTIM.LR", "-1"], "OPTIM.LR"),
        (["DATASET.SUBSAMPLE_CLASSES", "old"], "base"),
        (["DATASET.NAME", "Caltec101"], "Caltech101"),
        (["INPUT.SIZE", "(224, 224)"], "96 x 96"),
        (["OPTIM.NAME", "sdg"], "sgd"),
        (["MODEL.BACKBONE.NAME", "RN5O"], "RN50"),
    ],
)
def test_bad_settings(world, tmp_path, capsys, options, words):
    assert words in failure(capsys, arguments(world, tmp_path / "run", *options), status=2)


def test_unknown_trainer_names_the_nearest(world, tmp_path, capsys):
    message = failure(capsys, replaced(arguments(world, tmp_path / "run"), "--trainer", "PLOTT"))
    assert "PLOTT" in message and "PLOT" in message.replace("PLOTT", "")


def test_missing_places(world, tmp_path, capsys):
    argv = arguments(world, tmp_path / "run")
    assert "nowhere" in failure(capsys, replaced(argv, "--root", tmp_path / "nowhere"))
    assert "absent.yaml" in failure(capsys, replaced(argv, "--config-file", tmp_path / "absent.yaml"))
    (tmp_path / "empty" / "caltech-101").mkdir(parents=True)
    assert "101_ObjectCategories" in failure(capsys, replaced(argv, "--root", tmp_path / "empty"))


def test_unreadable_images_are_named_and_counted(tmp_path, capsys):
    broken = make_world(tmp_path / "broken")
    folder = broken / "data" / "caltech-101" / "101_ObjectCategories" / "Faces"
    for path in sorted(folder.glob("*.jpg")):
        path.write_bytes(path.read_bytes()[:40])
    message = failure(capsys, arguments(broken, tmp_path / "run"))
    assert "Faces/image_" in message and re.search(r"\b\d+ ", message)


def test_only_images_that_a_run_opens_are_looked_at():
    cfg = get_cfg_default()
    assert splits_read(cfg, train=True, test=True) == ["train_x", "train_u", "test"]
    assert splits_read(cfg, train=False, test=True) == ["test"]
    assert splits_read(cfg, train=False, test=False) == []
    assert splits_read(cfg, train=True, test=True, chooses=True) == ["train_x", "train_u", "val", "test"]
    assert splits_read(cfg, train=True, test=True, has_val=False, chooses=True) == ["train_x", "train_u", "test"]
    cfg.TEST.FINAL_MODEL = "best_val"
    assert splits_read(cfg, train=True, test=True) == ["train_x", "train_u", "val", "test"]
    cfg.TEST.SPLIT = "val"
    assert splits_read(cfg, train=False, test=True) == ["val"]
    assert splits_read(cfg, train=False, test=True, has_val=False) == ["test"]


def test_nothing_is_opened_where_nothing_runs(world, tmp_path):
    """--no-train builds the whole run, on images that are not there to be read."""
    write_fewshot_tree(tmp_path / "data")  # empty files
    argv = arguments(world, tmp_path / "out", flags=("--root", str(tmp_path / "data"), "--no-train"))
    assert train.main(argv) == 0
    argv = arguments(world, tmp_path / "out", flags=("--root", str(tmp_path / "data")))
    assert train.main(argv) == 2


def test_weights_of_another_architecture(world, tmp_path, capsys):
    state = torch.load(world / "tiny_rn.pt", weights_only=True)
    del state["visual.attnpool.c_proj.weight"]
    torch.save(state, tmp_path / "odd.pt")
    message = failure(capsys, arguments(world, tmp_path / "run", flags=("--backbone", str(tmp_path / "odd.pt"))))
    assert "visual.attnpool.c_proj.weight" in message


def test_checkpoint_for_other_prompts(world, plot_run, tmp_path, capsys):
    output, _ = plot_run
    evaluate = ("--eval-only", "--model-dir", str(output))
    message = failure(capsys, arguments(world, tmp_path / "a", "TRAINER.PLOT.N", "2", flags=evaluate))
    assert "(4, 4, 64)" in message and "(2, 4, 64)" in message
    message = failure(capsys, arguments(world, tmp_path / "b", flags=(*evaluate, "--load-epoch", "50")))
    assert "model.pth.tar-50" in message and "model.pth.tar-3" in message
    specific = tmp_path / "csc"
    per_class = ["TRAINER.COOP.CSC", "True"]
    train.run(arguments(world, specific, *per_class, "DATASET.SUBSAMPLE_CLASSES", "base", trainer="CoOp"))
    capsys.readouterr()
    message = failure(capsys, arguments(world, tmp_path / "c", *per_class, trainer="CoOp",
                                        flags=("--eval-only", "--model-dir", str(specific))))
    assert "same classes" in message


@pytest.mark.parametrize("inner", ["prompt_learner", "prompt_learner/", "prompt_learner/model.pth.tar-3"])
def test_the_folder_within_a_run_is_not_the_run(world, plot_run, tmp_path, capsys, inner):
    argv = arguments(world, tmp_path / "eval", flags=("--eval-only", "--model-dir", f"{plot_run[0]}/{inner}"))
    assert f"; did you mean {plot_run[0]}?" in failure(capsys, argv)


def test_an_error_does_not_stand_in_the_line_of_a_bar(monkeypatch):
    console = io.StringIO()
    console.isatty = lambda: True

    def run(argv):
        bar = tqdm(desc="epoch 1/2", total=3, file=console, mininterval=0)
        bar.update()
        raise ValueError("the loss is NaN")

    monkeypatch.setattr(train, "run", run)
    monkeypatch.setattr(sys, "stderr", console)
    assert train.main(["--trainer", "PLOT"]) == 2
    before = console.getvalue().partition("error: the loss is NaN")[0]
    assert "epoch 1/2" in before and before[-1] in "\r\n"


def changed(plot_run, folder, change):
    """A run folder whose checkpoint is that of `plot_run`, with a change."""
    name = "prompt_learner/model.pth.tar-3"
    checkpoint = change(torch.load(plot_run[0] / name, weights_only=True))
    (folder / "prompt_learner").mkdir(parents=True)
    torch.save(checkpoint, folder / name)
    return folder


def with_state(change):
    return lambda checkpoint: checkpoint | {"state_dict": change(checkpoint["state_dict"])}


@pytest.mark.parametrize(
    "change",
    [
        lambda checkpoint: checkpoint["state_dict"],  # saved bare
        with_state(lambda state: {f"module.{key}": value for key, value in state.items()}),  # from a parallel wrapper
    ],
)
def test_other_wrappings_of_the_same_prompts(world, plot_run, tmp_path, change):
    folder = changed(plot_run, tmp_path / "trained", change)
    result = train.run(arguments(world, tmp_path / "eval", flags=("--eval-only", "--model-dir", str(folder))))
    assert result["accuracy"] == plot_run[1]["accuracy"]


def test_prompts_of_another_backbone_are_warned_of(world, plot_run, tmp_path):
    """The text towers are of one width, so the shapes agree."""
    other = ["MODEL.BACKBONE.NAME", str(world / "tiny_vit.pt"), "INPUT.SIZE", "(64, 64)"]
    with pytest.warns(UserWarning, match="another CLIP.* MODEL.BACKBONE.NAME .* mean nothing"):
        train.run(arguments(world, tmp_path / "eval", *other, flags=("--eval-only", "--model-dir", str(plot_run[0]))))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda checkpoint: {"epoch": 3}, r"holds no learned context `ctx` \(it holds epoch"),
        (with_state(lambda state: state | {"ctx": state["ctx"] * float("nan")}), "NaN or infinite numbers in `ctx`"),
        (with_state(lambda state: []), "holds no learned context"),
        (lambda checkpoint: [checkpoint], "holds no learned context"),
    ],
)
def test_checkpoints_without_usable_prompts(world, plot_run, tmp_path, change, complaint):
    folder = changed(plot_run, tmp_path / "trained", change)
    with pytest.raises(ValueError, match=complaint):
        train.run(arguments(world, tmp_path / "eval", flags=("--eval-only", "--model-dir", str(folder))))


def test_contexts_of_single_classes_serve_no_others(world, tmp_path):
    """The halves have four classes each, so the shapes agree."""
    csc = ("TRAINER.COOP.CSC", "True", "DATASET.SUBSAMPLE_CLASSES")
    train.run(arguments(world, tmp_path / "base", *csc, "base", trainer="CoOp"))
    load = ("--eval-only", "--model-dir", str(tmp_path / "base"))
    train.run(arguments(world, tmp_path / "again", *csc, "base", trainer="CoOp", flags=load))
    with pytest.raises(ValueError, match="not of this run's classes"):
        train.run(arguments(world, tmp_path / "new", *csc, "new", trainer="CoOp", flags=load))


def test_output_folder_of_another_config(world, plot_run, capsys):
    output, _ = plot_run
    before = (output / "log.txt").read_text(), sorted(output.iterdir())
    message = failure(capsys, arguments(world, output, "TRAINER.PLOT.N", "2"))
    assert "TRAINER.PLOT.N" in message and "another output folder" in message
    assert before == ((output / "log.txt").read_text(), sorted(output.iterdir()))


def test_a_file_where_the_output_folder_should_be(world, tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    assert "file" in failure(capsys, arguments(world, tmp_path / "file"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs limits of a Unix process")
@pytest.mark.parametrize(("limit", "file"), [(60_000, "prompt_learner/model.pth.tar-3"), (500, "config.yaml")])
def test_full_disk_is_no_bad_command_line(world, tmp_path, limit, file):
    """A limit on the size of files stands in for a full disk: writing fails half-way, of the log too."""
    output = tmp_path / "run"
    program = (
        "import resource, signal, sys; sys.dont_write_bytecode = True; import train;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); sys.exit(train.main(sys.argv[1:]))"
    )
    done = warm.run([sys.executable, "-c", program, *arguments(world, output)], cwd=REPOSITORY)
    assert done.returncode == 1, done.stderr
    room = rf"[\d.]+ MB free in {(output / file).parent}" if limit > 500 else ""
    said = rf"^error: .*(while writing|OUTPUT_DIR) {output}.*{room}.*choose another"
    assert re.search(said, done.stderr, re.M), done.stderr
    assert not list(output.rglob("*.tmp")) and not (output / ".lock").exists()
    assert not (output / "result.json").exists() and not list((output / "prompt_learner").glob("model*"))


def test_two_commands_in_one_folder(world, tmp_path, capsys):
    output = tmp_path / "run"
    with hold_folder(output):
        message = failure(capsys, arguments(world, output), status=2)
        assert f"another run is at work in {output} (process {os.getpid()} on " in message
        assert set(os.listdir(output)) == {".lock", ".holder"}
    train.run(arguments(world, output))
    assert not (output / ".lock").exists()


def test_help_shows_examples_and_the_command_line_reports_failure():
    shown = command("--help")
    assert shown.returncode == 0 and "examples:" in shown.stdout and "--trainer PLOT" in shown.stdout
    failed = command("--trainer", "PLOT", "OPTIM.LR")
    assert failed.returncode == 2 and "error:" in failed.stderr


def test_nothing_trains_on_a_data_set_for_evaluation(world, tmp_path, capsys, monkeypatch):
    from datasets.loaders.caltech101 import Caltech101

    monkeypatch.setattr(Caltech101, "eval_only", True)
    assert "--eval-only" in failure(capsys, arguments(world, tmp_path / "run"))
    assert train.main(arguments(world, tmp_path / "zero", trainer="ZeroshotCLIP")) == 0  # learns nothing
