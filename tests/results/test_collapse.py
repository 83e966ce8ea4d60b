"""Prompt collapse: how alike the prompts of a class are, along the training and at its end."""
from itertools import combinations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

import train
from runs.restore.rebuilding import load_trainer
from tests.support.closeness import assert_close
from tests.support.programs import arguments, make_world
from trainers.parts.model import PromptModel
from trainers.plot.evidence import as_pairs, as_rows, prompt_cosines


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


# --- known answers ---------------------------------------------------------------------------------------


def test_identical_prompts_have_1_and_orthogonal_ones_0():
    one = torch.randn(1, 5, 8, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([1.0, 2.0, 0.5])[:, None, None]
    assert as_pairs(prompt_cosines(one * lengths)) == [1.0, 1.0, 1.0]
    axes = torch.eye(3)[:, None].expand(3, 5, 3)
    assert as_pairs(prompt_cosines(axes)) == [0.0, 0.0, 0.0]
    assert as_rows(prompt_cosines(axes)) == torch.eye(3).tolist()
    assert as_pairs(prompt_cosines(torch.cat([one, -one]))) == [-1.0]
    assert as_pairs(prompt_cosines(one)) == []


@given(st.integers(0, 2**31), st.integers(1, 5), st.integers(1, 4))
def test_every_pair_is_the_mean_over_classes(seed, prompts, classes):
    text = torch.randn(prompts, classes, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    expected = [
        sum(float(F.cosine_similarity(text[n, c], text[m, c], dim=0)) for c in range(classes)) / classes
        for n, m in combinations(range(prompts), 2)
    ]
    cosines = prompt_cosines(text)
    assert_close(as_pairs(cosines), expected, 1e-4, floor=1)
    assert_close(cosines, cosines.t())
    assert_close(cosines.diagonal(), torch.ones(prompts, dtype=torch.float64))


# --- through the engine ----------------------------------------------------------------------------------


@pytest.mark.parametrize("trainer", ["PLOT", "PLOTPP"])
def test_every_epoch_tells_the_pairs_of_its_last_step(world, tmp_path, trainer, monkeypatch):
    seen, encode = [], PromptModel.text_features

    def watched(model):
        text = encode(model)
        if torch.is_grad_enabled():  # a training step
            seen.append(text.detach().clone())
        return text

    monkeypatch.setattr(PromptModel, "text_features", watched)
    result = train.run(arguments(world, tmp_path / "run", f"TRAINER.{trainer}.N", "3", trainer=trainer))
    assert len(result["history"]) == 3 and len(seen) == 12
    for epoch, entry in enumerate(result["history"]):
        text = F.normalize(seen[4 * epoch + 3], dim=-1)
        pairs = [(text[n] * text[m]).sum(dim=-1).mean().item() for n, m in ((0, 1), (0, 2), (1, 2))]
        assert_close(entry["prompt_cosine"], pairs, 1e-4, floor=1)
    loaded = load_trainer(tmp_path / "run")
    with torch.no_grad():
        final = F.normalize(loaded.model.encode_prompts(), dim=-1)
    matrix = torch.tensor(result["transport"]["prompt_cosine"])
    assert_close(matrix, torch.einsum("ncd,mcd->nm", final, final) / 8, 1e-4, floor=1)


def test_no_prompt_is_encoded_for_it(world, tmp_path, monkeypatch):
    calls, encode = [], PromptModel.encode_prompts
    monkeypatch.setattr(PromptModel, "encode_prompts", lambda model: calls.append(1) or encode(model))
    result = train.run(arguments(world, tmp_path / "run", "TEST.CALIBRATION", "False"))
    assert len(calls) == 3 * 4 + 1  # steps, and the test
    assert all(len(entry["prompt_cosine"]) == 6 for entry in result["history"])


def test_one_prompt_has_nothing_to_tell(world, tmp_path):
    result = train.run(arguments(world, tmp_path / "run", "TRAINER.PLOT.N", "1"))
    assert not any("prompt_cosine" in entry for entry in result["history"])
    assert "prompt_cosine" not in result["transport"]
    other = train.run(arguments(world, tmp_path / "coop", trainer="CoOp"))
    assert [set(entry) for entry in other["history"]] == [{"epoch", "loss", "acc", "lr"}] * 3


def test_the_first_stage_of_plotpp_moves_no_text_prompt(world, tmp_path):
    options = ["TRAINER.PLOTPP.MODEL_UPD", "vision"]
    result = train.run(arguments(world, tmp_path / "run", *options, trainer="PLOTPP"))
    first, *others = (entry["prompt_cosine"] for entry in result["history"])
    assert len(first) == 6 and others == [first, first]


def test_a_resumed_run_goes_on_with_the_history(world, tmp_path, capsys):
    options = ["TRAIN.CHECKPOINT_FREQ", "1", "TRAINER.PLOT.N", "2"]
    whole = train.run(arguments(world, tmp_path / "whole", *options))
    cut = tmp_path / "cut"
    train.run(arguments(world, cut, *options))
    (cut / "prompt_learner" / "model.pth.tar-3").unlink()
    (cut / "result.json").unlink()
    resumed = train.run(arguments(world, cut, *options))
    assert "after epoch 2" in capsys.readouterr().out
    assert resumed["history"] == whole["history"] and len(whole["history"]) == 3
    assert [len(entry["prompt_cosine"]) for entry in resumed["history"]] == [1, 1, 1]
    assert resumed["transport"] == whole["transport"]
