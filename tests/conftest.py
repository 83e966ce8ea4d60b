"""Settings of the whole suite."""
import os
import shutil
import tempfile

import pytest
from filelock import FileLock

import dassl  # noqa: F401  (before torch: how its threads wait)

# isort: split
import torch

# the tests' models are tiny: a second thread costs more than it brings, in the programs that tests start as well
os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


@pytest.fixture(scope="session", autouse=True)
def _own_places(tmp_path_factory):
    """No test reads or writes the user's cache; programs that tests start inherit these."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLOT_FEATURE_CACHE", os.path.join(folder, "features"))
        patch.setenv("PLOT_TRUSTED", str(tmp_path_factory.getbasetemp()))  # the tests' runs name weights beside them
        yield


@pytest.fixture(scope="session")
def plot_runs(tmp_path_factory):
    """{name: folder} of short PLOT and PLOTPP runs; read only."""
    from tests.support.plot_runs import train_runs

    return train_runs(tmp_path_factory.mktemp("plot_runs"))


@pytest.fixture(scope="session")
def demo_data(tmp_path_factory):
    """demo_data(ROOT): put the demo's data below a folder. Drawing takes ten seconds, so all have copies of one."""
    from demo.task import write_task

    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    with FileLock(shared / "demo.lock"):
        write_task(shared / "demo", progress=False)
    return lambda root: shutil.copytree(shared / "demo", root / "demo")


@pytest.fixture(scope="session")
def _slurm(tmp_path_factory):
    from tests.support.slurm import missing, running

    if reason := missing():
        pytest.skip(reason)
    with running(tmp_path_factory.mktemp("slurm")) as slurm:
        yield slurm


@pytest.fixture(scope="module")
def slurm(_slurm):
    """A real Slurm with two nodes of one core (tests/support/slurm.py), which programs find meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(_slurm.conf))
        yield _slurm
    _slurm.clear()


@pytest.fixture(scope="module")
def one_thread():
    """For runs in several processes that are compared bit for bit: sums depend on the number of threads."""
    before = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        torch.set_num_threads(1)
        yield
    torch.set_num_threads(before)
