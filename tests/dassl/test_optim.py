from __future__ import annotations

import json
import math
import re
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from yacs.config import CfgNode as CN

from dassl.config import get_cfg_default
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.optim.radam import RAdam
from tests.support.golden_data import GOLDEN

RECORDED = json.loads((GOLDEN / "training/lr_schedules.json").read_text())


def optim_cfg(**changes):
    cfg = get_cfg_default().OPTIM
    cfg.update({"NAME": "sgd", "LR": 0.002} | changes)
    return cfg


def new_schedule(cfg):
    param = nn.Parameter(torch.zeros(2))
    param.grad = torch.zeros(2)
    optimizer = build_optimizer([param], cfg)
    return optimizer, build_lr_scheduler(optimizer, cfg)


def rates(cfg, epochs):
    """The learning rate during each epoch."""
    optimizer, schedule = new_schedule(cfg)
    seen = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(epochs):
            seen.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
    return seen


# --- schedules -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", RECORDED, ids=lambda case: str(case["changes_to_rn50_yaml"]))
def test_recorded_learning_rates(case):
    settings = {key: tuple(value) if isinstance(value, list) else value for key, value in case["optim"].items()}
    expected = case["lr_during_epoch"] + [case["lr_after_last_epoch"]]
    assert rates(optim_cfg(**settings), len(expected)) == pytest.approx(expected, rel=1e-12, abs=1e-15 * settings["LR"])


def test_rates_of_the_documentation():
    common = {"LR_SCHEDULER": "cosine", "MAX_EPOCH": 6, "WARMUP_CONS_LR": 1e-5, "WARMUP_MIN_LR": 1e-5}
    constant = optim_cfg(WARMUP_EPOCH=1, WARMUP_TYPE="constant", **common)
    assert rates(constant, 6) == pytest.approx([1e-5, 2e-3, 1.86603e-3, 1.5e-3, 1e-3, 5e-4], rel=1e-5)
    linear = optim_cfg(WARMUP_EPOCH=3, WARMUP_TYPE="linear", **common)
    assert rates(linear, 6) == pytest.approx([1e-5, 6.66667e-4, 1.33333e-3, 2e-3, 1.86603e-3, 1.5e-3], rel=1e-5)
    long = optim_cfg(**(common | {"MAX_EPOCH": 200, "WARMUP_EPOCH": 1, "WARMUP_TYPE": "constant"}))
    assert rates(long, 200)[-1] == pytest.approx(4.934e-07, rel=1e-3)


def closed_form(kind, cfg, k):
    """The schedule without warm-up, k epochs after its start."""
    if kind == "cosine":
        return 0.5 * cfg.LR * (1 + math.cos(math.pi * k / cfg.MAX_EPOCH))
    if kind == "multi_step":
        return cfg.LR * cfg.GAMMA ** sum(k >= step for step in cfg.STEPSIZE)
    return cfg.LR * cfg.GAMMA ** (k // cfg.STEPSIZE[-1])


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["cosine", "multi_step", "single_step"]),
    warmup_type=st.sampled_from(["linear", "constant"]),
    warmup=st.integers(-1, 5),
    recount=st.booleans(),
    epochs=st.integers(6, 15),
)
def test_schedules_follow_their_formulas(kind, warmup_type, warmup, recount, epochs):
    cfg = optim_cfg(
        LR_SCHEDULER=kind, MAX_EPOCH=epochs, STEPSIZE=(3, 7), GAMMA=0.5,
        WARMUP_EPOCH=warmup, WARMUP_TYPE=warmup_type, WARMUP_RECOUNT=recount, WARMUP_MIN_LR=3e-5,
    )  # fmt: skip
    start = max(warmup, 0)
    for epoch, lr in enumerate(rates(cfg, epochs)):
        if epoch < start:
            ramp = 3e-5 if epoch == 0 else cfg.LR * epoch / warmup
            expected = 1e-5 if warmup_type == "constant" else ramp
        elif recount or not start:
            expected = closed_form(kind, cfg, epoch - start)
        else:  # starts at LR in any case, then changes by the factors of the formula
            expected = cfg.LR * closed_form(kind, cfg, epoch) / closed_form(kind, cfg, start)
        assert lr == pytest.approx(expected, rel=1e-9, abs=1e-12 * cfg.LR)


def test_stepsize():
    never = optim_cfg(LR_SCHEDULER="single_step", STEPSIZE=(-1,), MAX_EPOCH=5)
    assert rates(never, 5) == [0.002] * 5
    for kind, wrong in (("multi_step", 5), ("multi_step", (1.5,)), ("single_step", (1.5,)), ("single_step", ())):
        with pytest.raises(ValueError, match=re.escape(f"OPTIM.STEPSIZE, got {wrong!r}")):
            rates(optim_cfg(LR_SCHEDULER=kind, STEPSIZE=wrong), 1)
    with pytest.raises(ValueError, match=r"cosin\b.*cosine"):
        rates(optim_cfg(LR_SCHEDULER="cosin"), 1)
    with pytest.raises(ValueError, match="linear"):
        rates(optim_cfg(WARMUP_EPOCH=1, WARMUP_TYPE="lin"), 1)


VARIANTS = [
    optim_cfg(LR_SCHEDULER=kind, STEPSIZE=(3, 7), MAX_EPOCH=10, WARMUP_EPOCH=warmup, WARMUP_TYPE=form,
              WARMUP_RECOUNT=recount)
    for kind in ("cosine", "multi_step", "single_step")
    for warmup, form, recount in ((-1, "linear", True), (1, "constant", True), (3, "linear", True),
                                  (3, "constant", False))
]  # fmt: skip


@pytest.mark.parametrize("cfg", VARIANTS, ids=lambda c: f"{c.LR_SCHEDULER}-{c.WARMUP_EPOCH}-{c.WARMUP_RECOUNT}")
def test_saved_schedules_continue_exactly(cfg):
    expected = rates(cfg, 10)
    for stop in range(10):
        optimizer, schedule = new_schedule(cfg)
        for _ in range(stop):
            optimizer.step()
            schedule.step()
        saved = json.loads(json.dumps(schedule.state_dict())) if cfg.WARMUP_EPOCH > 0 else schedule.state_dict()

        optimizer, schedule = new_schedule(cfg)
        schedule.load_state_dict(saved)
        assert schedule.state_dict() == saved
        if cfg.WARMUP_EPOCH <= 0:  # torch's own schedules leave the optimiser to its own state
            optimizer.param_groups[0]["lr"] = schedule.get_last_lr()[0]
        resumed = []
        for _ in range(stop, 10):
            resumed.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        assert resumed == expected[stop:]  # to the last bit


@pytest.mark.parametrize("settings", [{"MAX_EPOCH": 20}, {"LR": 0.1}])
@pytest.mark.parametrize("stop", [0, 1, 4, 10])
def test_a_saved_schedule_goes_on_as_it_is_defined_now(settings, stop):
    base = {"LR_SCHEDULER": "cosine", "MAX_EPOCH": 10, "WARMUP_EPOCH": 1}
    optimizer, schedule = new_schedule(optim_cfg(**base))
    for _ in range(stop):
        optimizer.step()
        schedule.step()
    now = optim_cfg(**base | settings)
    optimizer, resumed = new_schedule(now)
    resumed.load_state_dict(schedule.state_dict())
    assert optimizer.param_groups[0]["lr"] == rates(now, stop + 1)[stop]


@pytest.mark.parametrize("cfg", [v for v in VARIANTS if v.WARMUP_EPOCH > 0], ids=lambda c: c.LR_SCHEDULER)
def test_fast_forward_counts_again(cfg):
    expected = rates(cfg, 10)
    for stop in range(10):
        optimizer, schedule = new_schedule(cfg)
        optimizer.param_groups[0]["lr"] = 123.0
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            schedule.fast_forward(stop)
        resumed = []
        for _ in range(stop, 10):
            resumed.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        assert resumed == expected[stop:]


def test_states_of_the_original_engine_are_not_taken_at_face_value():
    _, schedule = new_schedule(VARIANTS[1])
    with pytest.raises(ValueError, match="fast_forward"):
        schedule.load_state_dict({"last_epoch": 1, "successor": object()})


# --- optimisers ------------------------------------------------------------------------------------------


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(3, 4), nn.Linear(4, 2)
        self.scale = nn.Parameter(torch.ones(()))
        self.body.requires_grad_(False)


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("adam", torch.optim.Adam, {"betas": (0.8, 0.99), "amsgrad": False}),
        ("amsgrad", torch.optim.Adam, {"betas": (0.8, 0.99), "amsgrad": True}),
        ("adamw", torch.optim.AdamW, {"betas": (0.8, 0.99)}),
        ("radam", RAdam, {"betas": (0.8, 0.99)}),
        ("sgd", torch.optim.SGD, {"momentum": 0.7, "dampening": 0, "nesterov": True}),
        ("rmsprop", torch.optim.RMSprop, {"momentum": 0.7, "alpha": 0.9}),
    ],
)
def test_optimisers_take_their_settings(name, kind, expected):
    cfg = optim_cfg(
        NAME=name, LR=0.1, WEIGHT_DECAY=0.01, ADAM_BETA1=0.8, ADAM_BETA2=0.99, MOMENTUM=0.7, SGD_NESTEROV=True,
        RMSPROP_ALPHA=0.9,
    )  # fmt: skip
    net = Net()
    optimizer = build_optimizer(net, cfg)
    (group,) = optimizer.param_groups
    if name != "sgd":
        assert group["eps"] == 1e-8 and build_optimizer(net, CN({**cfg, "EPS": 1e-3})).param_groups[0]["eps"] == 1e-3
    assert type(optimizer) is kind and len(group["params"]) == 5  # frozen ones too
    for key, value in (expected | {"lr": 0.1, "weight_decay": 0.01}).items():
        assert group[key] == value
    before = net.body.weight.clone()
    net.head(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    assert torch.equal(net.body.weight, before)  # no gradient: not even decayed


def test_unknown_optimiser():
    with pytest.raises(ValueError, match=r"adamm.*did you mean 'adam'"):
        build_optimizer(Net(), optim_cfg(NAME="adamm"))


def test_staged_learning_rates():
    cfg = optim_cfg(STAGED_LR=True, NEW_LAYERS=("head",), BASE_LR_MULT=0.1, LR=1.0)
    net = Net()
    for model in (net, nn.DataParallel(net)):
        base, new = build_optimizer(model, cfg).param_groups
        assert (base["lr"], new["lr"]) == (0.1, 1.0)
        assert new["params"] == list(net.head.parameters())
        assert set(base["params"]) == {net.scale, *net.body.parameters()}
    with pytest.raises(TypeError, match="module"):
        build_optimizer(net.parameters(), cfg)
    with pytest.raises(ValueError, match=r"haed.*did you mean 'head'"):
        build_optimizer(net, optim_cfg(STAGED_LR=True, NEW_LAYERS=("haed",)))
    with pytest.warns(UserWarning, match="NEW_LAYERS is empty"):
        build_optimizer(net, optim_cfg(STAGED_LR=True))
    with pytest.warns(UserWarning, match="ignored"):
        (group,) = build_optimizer(net, cfg, param_groups=[{"params": [net.scale], "lr": 5.0}]).param_groups
    assert group["lr"] == 5.0


def rectified_adam(start, gradients, lr, beta1, beta2, eps, decay):
    """Algorithm 2 of the paper with decoupled weight decay, in NumPy."""
    theta, m, v = start.copy(), 0.0, 0.0
    rho_inf = 2 / (1 - beta2) - 1
    for t, gradient in enumerate(gradients, 1):
        v = beta2 * v + (1 - beta2) * gradient**2
        m = beta1 * m + (1 - beta1) * gradient
        m_hat = m / (1 - beta1**t)
        rho = rho_inf - 2 * t * beta2**t / (1 - beta2**t)
        theta = theta - lr * decay * theta
        if rho > 5:
            r = math.sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))
            theta = theta - lr * r * m_hat * math.sqrt(1 - beta2**t) / (np.sqrt(v) + eps)
        else:
            theta = theta - lr * m_hat
    return theta


def test_radam_is_the_papers():
    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=4), rng.normal(size=(20, 4))
    param = nn.Parameter(torch.tensor(start))
    optimizer = RAdam([param], lr=0.05, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.1)
    for gradient in gradients:
        param.grad = torch.tensor(gradient)
        optimizer.step()
    expected = rectified_adam(start, gradients, 0.05, 0.9, 0.99, 1e-8, 0.1)
    np.testing.assert_allclose(param.detach().numpy(), expected, rtol=1e-12)
    with pytest.raises(ValueError, match="degenerated_to_sgd"):
        RAdam([param], degenerated_to_sgd=False)
