"""A step that several processes share is the step of one: in float64 to rounding, for every kind of model."""
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clip import ranks
from tests.support.closeness import assert_close
from tests.support.programs import arguments, make_world
from tests.support.rank_steps import on_processes, take_steps

PROCESSES = 3  # divides neither the 8 classes nor the 4 images of a batch
CASES = {  # trainer, its options, epochs of 4 steps
    "PLOT": ("PLOT", ["FUSE_GLOBAL", "'true'", "LOCAL_PROJ", "True"], 1),
    "PLOT, contexts of the classes, in chunks": ("PLOT", ["CSC", "True", "MATCH_CHUNK", "2", "TEXT_CHUNK", "2"], 1),
    "PLOT, each problem stops alone": ("PLOT", ["STOP", "each"], 1),
    "CoOp": ("CoOp", [], 1),
    "CoCoOp": ("CoCoOp", [], 1),
    "KgCoOp": ("KgCoOp", [], 1),  # a term of the loss that every process computes in full
    "PLOT++": ("PLOTPP", [], 1),  # the image side learns
    "GalLoP": ("GalLoP", [], 1),
    "SOT-GLP": ("SOTGLP", [], 1),
    "PLOT, a sample of the classes": ("PLOT", ["CLASS_SAMPLE", "4"], 1),
    "KgCoOp, a sample of the classes": ("KgCoOp", ["CLASS_SAMPLE", "3"], 1),
    "PLOT in float32": ("PLOT", ["PREC", "fp32"], 13),
}


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    world = make_world(tmp_path_factory.mktemp("world"))
    return {
        name: (arguments(world, world / f"run{number}", "FEATURE_CACHE.USE", "False", *own(trainer, options),
                         trainer=trainer), epochs)
        for number, (name, (trainer, options, epochs)) in enumerate(CASES.items())
    }  # fmt: skip


def own(trainer, options):
    settings = {"PREC": "fp64"} | dict(zip(options[::2], options[1::2], strict=True))
    return [word for key, value in settings.items() for word in (f"TRAINER.{trainer.upper()}.{key}", value)]


@pytest.fixture(scope="module")
def together(cases, tmp_path_factory):
    return on_processes(PROCESSES, tmp_path_factory.mktemp("ranks"), cases)


def difference(a, b):
    return ((a - b).abs().max() / b.abs().max()).item()


@pytest.mark.parametrize("name", CASES)
def test_a_step_of_several_processes_is_that_of_one(cases, together, name):
    alone, tolerance = take_steps(*cases[name]), 1e-5 if "float32" in name else 1e-12
    losses = torch.tensor(alone["losses"], dtype=torch.float64)
    assert len(losses) == 4 * CASES[name][2] and losses.isfinite().all()
    for process in (answers[name] for answers in together):
        assert difference(torch.tensor(process["losses"], dtype=torch.float64), losses) < tolerance
        for key, values in alone["learned"].items():
            assert difference(process["learned"][key], values) < tolerance, key
        assert process["facts"].keys() == alone["facts"].keys()
        for key, values in alone["facts"].items():  # rounded to four digits
            assert_close(torch.tensor(process["facts"][key]), torch.tensor(values), 2e-4, floor=1)


@given(total=st.integers(0, 50), processes=st.integers(1, 9))
def test_shares_are_even_and_in_order(total, processes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranks, "size", lambda: processes)
        shares = []
        for number in range(processes):
            patch.setattr(ranks, "rank", lambda number=number: number)
            shares.append(list(range(total))[ranks.own(total)])
    assert sum(shares, []) == list(range(total))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_one_process_shares_nothing():
    with ranks.sharing():
        assert not ranks.shared() and ranks.size() == 1
        change = torch.rand(3, 4)
        assert ranks.mean(change, 12.0) is change
