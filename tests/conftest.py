"""Settings of the whole suite."""
import os
import tempfile

import pytest

import dassl  # noqa: F401  (before torch: how its threads wait)

# isort: split
import torch

# the tests' models are tiny: a second thread costs more than it brings
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 1)))
if "PYTEST_XDIST_WORKER" in os.environ:  # programs that tests start share the cores with the other workers
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def _own_feature_cache():
    """No test reads or writes the user's cache; programs that tests start inherit this one."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLOT_FEATURE_CACHE", os.path.join(folder, "features"))
        yield


@pytest.fixture(scope="session")
def plot_runs(tmp_path_factory):
    """{name: folder} of short PLOT and PLOTPP runs; read only."""
    from tests.plot_runs import train_runs

    return train_runs(tmp_path_factory.mktemp("plot_runs"))
