"""Every registered trainer of ours as on a GPU, in every arithmetic: built, one training step, one test.

The GPU is a pretended one (tests/support/pretend_gpu.py), so this runs everywhere.  It shows that no operation meets
tensors of two devices, that what serves CPUs alone is not asked of a GPU, and at how many places a step or a test waits
for the GPU.  docs/speed.md lists these places.
"""
from __future__ import annotations

from collections import Counter
from copy import deepcopy
from dataclasses import fields

import pytest
import torch
from torch._subclasses.fake_tensor import DynamicOutputShapeException

from clip.model import CLIP
from dassl.engine import build_trainer
from runs.config import request_of
from tests.support.data import write_class_folders
from tests.support.pretend_gpu import DEVICE, PretendGpu, backward, can_pretend, train_step
from tests.support.programs import own_options
from tests.trainers.test_methods import METHODS
from trainers.adapters.selection import search
from trainers.plot.sinkhorn import sinkhorn, sinkhorn_partial, sinkhorn_unbalanced
from trainers.plot.transport import Transport, transported

ONCE = {"clip/prompt_text.py _layout", "trainers/parts/fixed_tokens.py _suffixes_of"}  # for a list of classes, and kept
METERS = "trainers/clip_trainer.py read_meters"
SCALER = "trainers/clip_trainer.py forward_backward"  # torch's gradient scaler asks whether it overflowed
EVALUATOR = "dassl/evaluation/evaluator.py process"
KEPT = "dassl/evaluation/evaluator.py predictions"  # of all images at once
SOLVER = "trainers/plot/sinkhorn.py _iterate"  # once in eight iterations; for trainers there is one here
FORMATS = {"fp16": torch.float16, "bf16": torch.bfloat16, "amp": torch.float16}


def allows(method, precision):
    """Whether a method computes in this arithmetic; those without options do in half precision."""
    if method.options_type is None:
        return precision == "fp16"
    return next(f for f in fields(method.options_type) if f.name == "precision").metadata["rule"].holds(precision)


CASES = [(method, precision) for method in METHODS for precision in FORMATS if allows(method, precision)]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Four images of each of three classes."""
    folder = tmp_path_factory.mktemp("gpu")
    write_class_folders(folder, {"cat": 4, "dog": 4, "owl": 4}, real=True)
    return folder


@pytest.fixture(scope="module")
def towers():
    """CLIPs of a few layers, with a ResNet and with a ViT."""
    with torch.random.fork_rng():
        return {
            "RN50": CLIP(32, 64, (1, 1, 1, 1), 8, None, 77, 49408, 64, 1, 1).eval(),
            "ViT-B/16": CLIP(32, 64, 2, 64, 16, 77, 49408, 64, 1, 1).eval(),
        }


@pytest.fixture(autouse=True)
def _small(towers, monkeypatch):
    """Every backbone is a small one."""
    monkeypatch.setattr("clip.load_clip_to_cpu", lambda name, *settings: deepcopy(towers[name]))


def config(pictures, name, precision):
    small = {"PREC": precision, "N_CTX": "2", "N": "2", "MAX_ITER": "1", "TOPK": "(2,)", "AUGMENT_EPOCH": "1"}
    own = own_options(name, small)
    return request_of([
        "--root", str(pictures), "--trainer", name, "--seed", "1", "--output-dir", str(pictures / "out"),
        "--dataset-config-file", "configs/datasets/folder.yaml",
        "--backbone", "RN50" if name == "PLOT" else "ViT-B/16", "INPUT.SIZE", "(64, 64)",
        "DATASET.NUM_SHOTS", "2", "DATALOADER.TRAIN_X.BATCH_SIZE", "3", "DATALOADER.NUM_WORKERS", "0",
        "OPTIM.MAX_EPOCH", "1", "FEATURE_CACHE.USE", "False",
        *(word for key, value in own.items() for word in (f"TRAINER.{name.upper()}.{key}", value)),
    ]).cfg  # fmt: skip


@pytest.mark.parametrize(("method", "precision"), CASES, ids=[f"{m.__name__}-{p}" for m, p in CASES])
def test_a_step_and_a_test_on_a_gpu(method, precision, pictures):
    with PretendGpu() as gpu:
        trainer = build_trainer(config(pictures, method.__name__, precision))
        if hasattr(trainer, "fill_cache"):
            trainer.cache.alpha = trainer.cache.beta = 1.0
            trainer.fill_cache()
        gpu.arithmetic.clear()
        learns = any(optim is not None for optim in trainer._optims.values())
        with gpu.counting() as in_step:
            if learns:
                train_step(trainer)
        with gpu.counting() as in_test:
            trainer.test()
        trainer.epoch_facts(), trainer.diagnostics()
        batches = len(trainer.test_loader)
        parameters = {key: p.device for key, p in trainer.model.named_parameters()}
        learned = [p for p in trainer.model.parameters() if p.requires_grad]

    assert set(parameters.values()) == {DEVICE}
    assert bool(learned) == learns and all(p.grad is not None and p.grad.device == DEVICE for p in learned)
    assert FORMATS[precision] in gpu.arithmetic
    assert not [operation for operation in gpu.operations if operation.startswith(("mkldnn", "quantized"))]
    expected = {METERS: 1, SCALER: trainer.scaler is not None} if learns else {}
    assert Counter({place: count for place, count in in_step.items() if place not in ONCE}) == +Counter(expected)
    assert {place: count for place, count in in_test.items() if place not in ONCE} == {EVALUATOR: batches, KEPT: 1}


@pytest.mark.parametrize(("iterations", "waits"), [(7, 0), (8, 1), (20, 2)])
@pytest.mark.parametrize(
    ("solve", "settings"),
    [(sinkhorn, ()), (sinkhorn_unbalanced, (0.3,)), (sinkhorn_partial, (0.5, False)), (sinkhorn_partial, (0.5, True))],
)
def test_the_solvers_wait_once_in_eight_iterations(solve, settings, iterations, waits):
    with PretendGpu() as gpu:
        plan = solve(torch.rand(2, 3, 4, 9, device=DEVICE), 0.1, *settings, max_iterations=iterations)
        left_out = plan.left_out
    assert plan.plan.device == left_out.device == DEVICE and gpu.waits == +Counter({SOLVER: waits})


def test_classes_in_chunks_wait_until_all_of_them_stop():
    """Their change is looked at after 8, 16, ... iterations, without a look at each."""
    with PretendGpu() as gpu:
        local, text = torch.rand(2, 9, 16, device=DEVICE), torch.rand(2, 6, 16, device=DEVICE)
        assert Transport(max_iterations=16, chunk=3).score(local, text).shape == (2, 6)
    assert gpu.waits == {"trainers/plot/transport.py _for_parts": 2}


def test_choosing_alpha_and_beta_waits_at_its_ends(pictures):
    with PretendGpu() as gpu:
        trainer = build_trainer(config(pictures, "TipAdapter", "fp16"))
        trainer.fill_cache()
        pairs = [(trainer.encode(torch.rand(3, 3, 64, 64, device=DEVICE)), torch.zeros(3, device=DEVICE).long())] * 2
        with gpu.counting() as waits:
            search(trainer.model, pairs, [1.0, 2.0], [1.0, 3.0, 5.0])
    assert waits == {"trainers/adapters/selection.py search": 2}  # to bring the alphas, and to fetch the counts


# --- the pretended GPU -----------------------------------------------------------------------------------


def test_tensors_of_two_devices_do_not_meet():
    with PretendGpu() as gpu:
        here, there = torch.ones(2), torch.ones(2, device=DEVICE)
        with pytest.raises(RuntimeError, match="device"):
            here + there
        with pytest.raises(RuntimeError, match="device"):
            torch.nn.Linear(2, 2)(there)
        with pytest.raises(DynamicOutputShapeException):
            there[there > 0]
        assert not gpu.waits
        assert here.to(DEVICE).sum().item() == 0 and sum(gpu.waits.values()) == 2  # to copy, and to read
        assert here.to(DEVICE, non_blocking=True).tolist() == [0, 0] and sum(gpu.waits.values()) == 3
        assert here.sum().item() == 2


@pytest.mark.skipif(not can_pretend(), reason="torch 2.4 does not tell what a function of the graph was given")
def test_the_backward_pass_is_torchs():
    """Through what is expanded, used twice, converted, split, and a function of ours."""
    gradients = []
    for go_back in (torch.Tensor.backward, backward):
        torch.manual_seed(0)
        layer, scale = torch.nn.Linear(4, 6), torch.nn.Parameter(torch.tensor(2.0))
        first, second = layer(torch.randn(5, 4)).to(torch.bfloat16).split(3, dim=1)
        score = transported((first * scale).float()[None, :, None], torch.rand(1, 5, 1, 3))
        go_back((score.sum() + second.float().exp().mean() * scale) * scale)
        gradients.append([layer.weight.grad, layer.bias.grad, scale.grad])
    for torchs, ours in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, torchs)
