"""The trainers through the engine: every setting trains, precisions agree, the transport can be looked at."""
import re

import pytest
import torch
import torch.nn.functional as F

import clip
import train
from dassl.engine import TRAINER_REGISTRY
from results.__main__ import main as results
from runs.restore.rebuilding import load_trainer
from tests.support.closeness import assert_close
from tests.support.programs import ADAPTERS, arguments, make_world


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def plot_run(world):
    train.run(arguments(world, world / "plot", "TRAINER.PLOT.N", "2"))
    return load_trainer(world / "plot")


def test_ours_are_registered_and_nothing_of_them_by_the_engine_alone():
    import subprocess
    import sys

    program = "import dassl.engine as e, dassl.data.datasets as d; print(e.TRAINER_REGISTRY.registered_names(), " \
              "d.DATASET_REGISTRY.registered_names())"
    alone = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    ours = {"PLOT", "PLOTPP", "CoOp", "CoCoOp", "ZeroshotCLIP", "ZeroshotCLIP2", *ADAPTERS}
    assert not any(f"'{name}'" in alone for name in ours | {"Caltech101", "Demo", "Folder"})
    assert ours <= set(TRAINER_REGISTRY.registered_names())


SETTINGS = {
    "middle": ["TRAINER.PLOT.CLASS_TOKEN_POSITION", "middle"],
    "front": ["TRAINER.PLOT.CLASS_TOKEN_POSITION", "front"],
    "class-specific": ["TRAINER.PLOT.CSC", "True"],
    "class-specific, middle": ["TRAINER.PLOT.CSC", "True", "TRAINER.PLOT.CLASS_TOKEN_POSITION", "middle"],
    "phrase": ["TRAINER.PLOT.CTX_INIT", "a photo of a"],
    "a phrase each": ["TRAINER.PLOT.CTX_INIT", "a photo of a|one picture of a|this is a photo"],
    "one prompt": ["TRAINER.PLOT.N", "1"],
    "global logits": ["TRAINER.PLOT.FUSE_GLOBAL", "'true'"],
    "each stops alone": ["TRAINER.PLOT.STOP", "each"],
    "tiny epsilon": ["TRAINER.PLOT.EPS", "0.001"],
    "uniform": ["TRAINER.PLOT.MATCHING", "uniform"],
    "nearest": ["TRAINER.PLOT.MATCHING", "max"],
    "value path": ["TRAINER.PLOT.DENSE", "value"],
    "global": ["TRAINER.PLOT.MATCHING", "global"],
    "global, with global logits": ["TRAINER.PLOT.MATCHING", "global", "TRAINER.PLOT.FUSE_GLOBAL", "'true'"],
    "bf16": ["TRAINER.PLOT.PREC", "bf16"],
    "fp16 on a CPU": ["TRAINER.PLOT.PREC", "fp16"],
    "amp on a CPU": ["TRAINER.PLOT.PREC", "amp"],
    "context like the model": ["TRAINER.PLOT.CTX_PREC", "model"],
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_setting_trains_and_learns_something(world, tmp_path, capsys, setting):
    options = ["TRAINER.PLOT.N", "3", *SETTINGS[setting], "OPTIM.MAX_EPOCH", "2"]
    result = train.run(arguments(world, tmp_path / "run", *options))
    assert all(torch.isfinite(torch.tensor(epoch["loss"])) for epoch in result["history"])
    saved = torch.load(tmp_path / "run" / "prompt_learner" / "model.pth.tar-2", weights_only=True)
    moved = saved["optimizer"]["state"][0]["momentum_buffer"].abs().amax()
    assert moved > 0
    if "CPU" in setting:
        assert "computing in fp32 on cpu" in capsys.readouterr().out


def test_amp_on_a_cpu_is_fp32(world, tmp_path):
    results = [train.run(arguments(world, tmp_path / p, "TRAINER.PLOT.PREC", p)) for p in ("fp32", "amp", "fp16")]
    assert results[0]["history"] == results[1]["history"] == results[2]["history"]


def test_bf16_stays_near_fp32(world, tmp_path):
    losses = []
    for precision in ("fp32", "bf16"):
        options = ["TRAINER.PLOT.PREC", precision, "OPTIM.MAX_EPOCH", "1"]
        losses.append(train.run(arguments(world, tmp_path / precision, *options))["history"][0]["loss"])
    assert losses[1] == pytest.approx(losses[0], rel=0.1) and losses[0] != losses[1]


def test_explanation_sums_to_its_marginals(plot_run):
    images = next(iter(plot_run.test_loader))["img"][:5]
    explained = plot_run.explain(images)
    assert explained.plan.shape == (5, 8, 9, 2) and explained.grid == (3, 3)
    assert_close(explained.plan.sum(dim=2), torch.full((5, 8, 2), 1 / 2))
    # stopped by the batch rule, the rows are near their share
    assert_close(explained.plan.sum(dim=3), torch.full((5, 8, 9), 1 / 9), 0.18)
    score = plot_run.model.logit_scale.exp() * (explained.plan * explained.similarity).sum(dim=(2, 3))
    assert_close(explained.logits, score, 1e-5)


@pytest.mark.parametrize(("model", "side", "grid"), [("tiny_rn", 96, (3, 3)), ("tiny_vit", 64, (4, 4))])
def test_the_kind_of_local_feature_goes_all_the_way(world, tmp_path, capsys, model, side, grid):
    """From the key to the places that are matched, in training, a test from the cache, and explanations afterwards."""
    tower = clip.load_clip_to_cpu(str(world / f"{model}.pt")).float()
    where = ["MODEL.BACKBONE.NAME", str(world / f"{model}.pt"), "INPUT.SIZE", f"({side}, {side})"]
    where += ["FEATURE_CACHE.DIR", str(tmp_path / "features")]
    results = {}
    for kind in ("tokens", "value"):
        run = tmp_path / kind
        results[kind] = train.run(arguments(world, run, *where, "TRAINER.PLOT.DENSE", kind))
        assert results[kind]["config"]["TRAINER"]["PLOT"]["DENSE"] == kind
        assert f"local features: {kind}" in (run / "log.txt").read_text()
        trainer = load_trainer(run)
        images = next(iter(trainer.test_loader))["img"][:3]
        explained = trainer.explain(images)
        with torch.no_grad():
            local = tower.encode_image_dense(images, kind).normalized().local
            text = F.normalize(trainer.model.encode_prompts(), dim=-1)
        expected = torch.einsum("bmd,ncd->bcmn", local, text)
        assert_close(explained.similarity, expected, 1e-5, floor=1)
        assert explained.grid == grid
        evaluated = train.run(arguments(
            world, tmp_path / f"{kind}-again", *where, "TRAINER.PLOT.DENSE", kind,
            flags=("--eval-only", "--model-dir", str(run)),
        ))
        assert all(evaluated[key] == results[kind][key] for key in ("accuracy", "transport"))
        assert "Feature cache: hit" in (tmp_path / f"{kind}-again" / "log.txt").read_text()
        assert "Warning: the prompts" not in (tmp_path / f"{kind}-again" / "log.txt").read_text()
    flags = ("--eval-only", "--model-dir", str(tmp_path / "value"))
    train.run(arguments(world, tmp_path / "mixed", *where, flags=flags))
    assert "were trained with the local features value, and are matched with tokens here; TRAINER.PLOT.DENSE value" in (
        tmp_path / "mixed" / "log.txt").read_text()
    assert results["tokens"]["history"] != results["value"]["history"]
    with pytest.raises(ValueError, match=r"TRAINER\.PLOT\.DENSE"):
        train.run(arguments(world, tmp_path / "tokens", *where, "TRAINER.PLOT.DENSE", "value"))


def test_diagnostics_are_the_means_over_the_test(plot_run):
    plot_run.test()
    found = plot_run.diagnostics()
    (batch,) = plot_run.test_loader
    plan = plot_run.explain(batch["img"]).plan
    distance = 0.5 * (plan - 1 / 18).abs().sum(dim=(2, 3))
    predicted = plot_run.explain(batch["img"]).logits.argmax(dim=1)
    assert found["distance_from_uniform"] == pytest.approx(distance.mean().item(), rel=1e-4)
    chosen = distance[torch.arange(len(distance)), predicted].mean().item()
    assert found["distance_from_uniform_predicted"] == pytest.approx(chosen, rel=1e-4)
    assert found["epsilon"] == 0.1 and found["matching"] == "ot" and 0 <= found["converged_share"] <= 1


def test_one_prompt_equals_coop_on_the_mean_local_feature(world, tmp_path):
    """With N = 1 the transport has no choice: the score is the mean similarity over places."""
    train.run(arguments(world, tmp_path / "one", "TRAINER.PLOT.N", "1"))
    trainer = load_trainer(tmp_path / "one")
    explained = trainer.explain(next(iter(trainer.test_loader))["img"][:4])
    mean = explained.similarity.mean(dim=(2, 3)) * trainer.model.logit_scale.exp()
    assert_close(explained.logits, mean, 1e-4)


def test_a_phrase_overrides_coops_class_specific_contexts(world, tmp_path, capsys):
    """As in the original, so that the same settings give the same checkpoint."""
    options = ["TRAINER.COOP.CSC", "True", "OPTIM.MAX_EPOCH", "1"]
    shapes = {}
    for phrase in ("", "a photo of a"):
        folder = tmp_path / f"run{len(shapes)}"
        train.run(arguments(world, folder, *options, "TRAINER.COOP.CTX_INIT", phrase, trainer="CoOp"))
        saved = torch.load(folder / "prompt_learner" / "model.pth.tar-1", weights_only=True)["state_dict"]
        shapes[phrase] = saved["ctx"].ndim
        assert ("CTX_INIT overrides TRAINER.COOP.CSC" in capsys.readouterr().out) == bool(phrase)
    assert shapes == {"": 3, "a photo of a": 2}


@pytest.mark.parametrize("how", ["no model", "no epoch"])
@pytest.mark.parametrize("trainer", ["PLOT", "CoOp", "CoCoOp", "PLOTPP", "TipAdapterF", "PLOTAdapter"])
def test_an_accuracy_of_what_was_not_trained_is_marked(world, tmp_path, capsys, trainer, how):
    options = ["TRAINER.PLOTPP.EVAL_UNTRAINED", "True"] if trainer == "PLOTPP" else []
    if how == "no model":
        if trainer in ADAPTERS:
            pytest.skip("an empty cache is refused")
        train.run(arguments(world, tmp_path / "runs" / "not", *options, trainer=trainer, flags=("--eval-only",)))
    else:
        with pytest.warns(UserWarning, match="OPTIM.MAX_EPOCH is 0"):
            train.run(arguments(world, tmp_path / "runs" / "not", *options, "OPTIM.MAX_EPOCH", "0", trainer=trainer))
    train.run(arguments(world, tmp_path / "runs" / "trained", *options, trainer=trainer))
    capsys.readouterr()
    assert results(["table", str(tmp_path / "runs")]) == 0
    out = capsys.readouterr().out
    assert out.count("(not trained)") == 2 and "is as it was initialised" in out  # a row, and its note


def test_prompts_from_elsewhere_are_no_untrained_ones(world, tmp_path, plot_run):
    """Loaded by a key, or all of it trained in the run that is continued."""
    source = world / "plot" / "prompt_learner" / "model.pth.tar-3"
    for number, options in enumerate((["MODEL.INIT_WEIGHTS", str(source)], ["RESUME", str(world / "plot")])):
        options = ["TRAINER.PLOT.N", "2", *options, "OPTIM.MAX_EPOCH", str(3 * number)]
        assert train.run(arguments(world, tmp_path / str(number), *options))["protocol"] is None
    folder = tmp_path / "vision"
    stage = ["TRAINER.PLOTPP.MODEL_UPD", "vision", "OPTIM.MAX_EPOCH", "1"]
    train.run(arguments(world, folder, *stage, trainer="PLOTPP"))
    given = ["TRAINER.PLOTPP.PRETRAIN_DIR", str(folder)]
    for name, flags, options in (("eval", ("--eval-only",), given), ("zero", (), [*given, "OPTIM.MAX_EPOCH", "0"])):
        result = train.run(arguments(world, tmp_path / name, *options, trainer="PLOTPP", flags=flags))
        assert result["protocol"] is None
    result = train.run(arguments(world, tmp_path / "tip", "OPTIM.MAX_EPOCH", "0", trainer="TipAdapter"))
    assert result["protocol"] is None  # nothing of it is ever trained


def test_cocoop_keeps_its_network_and_moves_to_other_classes(world, tmp_path):
    one = ["DATALOADER.TRAIN_X.BATCH_SIZE", "1", "OPTIM.MAX_EPOCH", "1", "DATASET.NUM_SHOTS", "1"]
    train.run(arguments(world, tmp_path / "base", *one, "DATASET.SUBSAMPLE_CLASSES", "base", trainer="CoCoOp"))
    saved = torch.load(tmp_path / "base" / "prompt_learner" / "model.pth.tar-1", weights_only=True)
    network = [f"meta_net.linear{i}.{kind}" for i in (1, 2) for kind in ("weight", "bias")]
    assert list(saved["state_dict"]) == ["ctx", "token_prefix", "token_suffix", *network]
    log = (tmp_path / "base" / "log.txt").read_text()
    assert " loss " in log and " acc " not in log
    evaluate = ("--eval-only", "--model-dir", str(tmp_path / "base"))
    options = [*one, "DATASET.SUBSAMPLE_CLASSES", "new"]
    assert train.run(arguments(world, tmp_path / "new", *options, trainer="CoCoOp", flags=evaluate))["total"] == 24
    with pytest.raises(ValueError, match="another method"):
        train.run(arguments(world, tmp_path / "coop", *options, trainer="CoOp", flags=evaluate))


def test_images_encoded_in_parts_give_the_same_scores(world, tmp_path, monkeypatch):
    from trainers import cocoop

    train.run(arguments(world, tmp_path / "run", "OPTIM.MAX_EPOCH", "1", trainer="CoCoOp"))
    trainer = load_trainer(tmp_path / "run")
    images = next(iter(trainer.test_loader))["img"][:5]
    with torch.no_grad():
        whole = trainer.model_inference(images)
        monkeypatch.setattr(cocoop, "TOKENS_AT_ONCE", 1)
        assert_close(trainer.model_inference(images), whole, 1e-4)


def test_initial_weights_start_another_run(world, tmp_path):
    source = world / "plot" / "prompt_learner" / "model.pth.tar-3"
    if not source.exists():
        train.run(arguments(world, world / "plot", "TRAINER.PLOT.N", "2"))
    options = ["TRAINER.PLOT.N", "2", "MODEL.INIT_WEIGHTS", str(source)]
    train.run(arguments(world, tmp_path / "run", *options, flags=("--no-train",)))
    with pytest.raises(FileNotFoundError):
        train.run(arguments(world, tmp_path / "no", "MODEL.INIT_WEIGHTS", str(tmp_path / "absent")))
    with pytest.raises(ValueError, match="INIT_WEIGHTS .* holds nothing that PLOT learns in the shapes of this run"):
        train.run(arguments(world, tmp_path / "other", "TRAINER.PLOT.N", "3", "MODEL.INIT_WEIGHTS", str(source)))


@pytest.mark.parametrize("trainer", ["PLOT", "CoOp", "CoCoOp", "PLOTPP", "TipAdapterF"])  # PLOTAdapter bears any step
def test_a_last_step_that_is_far_too_long_is_no_result(world, tmp_path, capsys, trainer):
    """The only step there is: its loss was finite."""
    steps = ["OPTIM.MAX_EPOCH", "1", "DATALOADER.TRAIN_X.BATCH_SIZE", "99"]
    rate = "1e37" if trainer in ADAPTERS else "3e38"  # Adam multiplies it
    rates = ["OPTIM.LR", rate, "OPTIM.WARMUP_EPOCH", "0"]
    assert train.main(arguments(world, tmp_path / "run", *steps, *rates, trainer=trainer)) == 1
    assert re.search("error: (Training has diverged|.* images have NaN or infinite logits)", capsys.readouterr().err)
    assert not (tmp_path / "run" / "result.json").exists()


def test_best_on_validation_is_tested_last(world, tmp_path):
    result = train.run(arguments(world, tmp_path / "run", "TEST.FINAL_MODEL", "best_val"))
    assert (tmp_path / "run" / "prompt_learner" / "model-best.pth.tar").exists()
    assert "best" in result["checkpoint"]
    assert result["looks"] == {"val": result["epochs"], "test": 1}
    assert result["templates"] is None


def test_zero_shot_ensembles_count_their_templates(world, tmp_path):
    for trainer, words in (("ZeroshotCLIP", "a photo of a yin yang."), ("ZeroshotCLIP2", "(n=8)")):
        result = train.run(arguments(world, tmp_path / trainer, trainer=trainer, flags=("--eval-only",)))
        assert result["looks"] == {"test": 1}
        assert result["templates"][-1] == "a photo of a {}." and len(result["templates"]) in (1, 8)
        assert words in (tmp_path / trainer / "log.txt").read_text()
