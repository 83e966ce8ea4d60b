"""`import plot` and the command `plot`, from a folder that is not the checkout."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import plot
from plot import checkout
from runs.files import ResultsError
from runs.restore.names import find_run
from tests.support import warm
from tests.support.programs import REPOSITORY

FAST = {"OPTIM.MAX_EPOCH": 1, "DATALOADER.NUM_WORKERS": 0}


def elsewhere(folder: Path, *words: str) -> subprocess.CompletedProcess:
    return warm.run([sys.executable, *words], cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"})


@pytest.fixture(scope="module")
def place(tmp_path_factory, demo_data):
    """A folder with three runs, made by one call."""
    folder = tmp_path_factory.mktemp("elsewhere")
    demo_data(folder / "data")
    script = f"import plot; runs = plot.sweep(['PLOT', 'ZeroshotCLIP'], shots=[1], seeds=[1, 2], options={FAST}); "
    script += "print([(run.trainer, run.seed, run.complete) for run in runs])"
    done = elsewhere(folder, "-c", script)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[('ZeroshotCLIP', -1, True), ('PLOT', 1, True), ('PLOT', 2, True)]"
    return folder


def test_a_complete_run_is_found_and_not_made_again(place):
    run = plot.train("PLOT", shots=1, root=place / "data", output=place / "output", options=FAST)
    assert run.complete and run.record["finished"] == json.loads((run.folder / "result.json").read_text())["finished"]
    with pytest.raises(ValueError, match="OPTIM.MAX_EPOKS"):
        plot.train("PLOT", shots=1, root=place / "data", output=place / "output", options={"OPTIM.MAX_EPOKS": 1})
    with pytest.raises(RuntimeError, match="PLOT demo 1 shot seed 1"):
        options = {**FAST, "MODEL.INIT_WEIGHTS": "", "DATASET.SUBSAMPLE_CLASSES": "base"}
        plot.train("PLOT", shots=1, root=place / "data", output=place / "output", options=options)


def test_tables_reports_and_predictions(place):
    output = place / "output"
    assert "ZeroshotCLIP" in plot.table(output) and "| PLOT" in plot.table(output, "markdown")
    assert plot.report(output).read_text().startswith("<!doctype html>".upper()[:2])
    images = sorted((place / "data").rglob("*.jpg"))[:3]
    predictions = plot.predict(f"{output}:PLOT@1#2", images)
    (run,) = [named.run for named in plot.runs(output) if named.run.seed == 2]
    assert [p.best for p in predictions] == [p.best for p in plot.load(run)(images)]
    assert [p.path for p in predictions] == images


def test_short_names(place):
    output = str(place / "output")
    runs = {named.name.removeprefix(output): named.run.folder for named in plot.runs(output)}
    assert [*runs] == [":ZeroshotCLIP", ":PLOT@1#1", ":PLOT@1#2"]
    for name, folder in runs.items():
        assert find_run(output + name) == folder
    assert find_run(f"{output}:plot") == runs[":PLOT@1#1"]  # case does not matter; of several seeds the first
    best = max(plot.runs(output), key=lambda named: named.run.accuracy)
    assert find_run(output, best=True) == best.run.folder
    assert find_run(str(runs[":PLOT@1#2"])) == runs[":PLOT@1#2"]
    with pytest.raises(ResultsError, match="stands for no complete run; there are .*:ZeroshotCLIP"):
        find_run(f"{output}:CoOp")
    with pytest.raises(ResultsError, match="stands for several runs.*--best"):
        find_run(f"{output}:")
    with pytest.raises(ResultsError, match="OUTPUT:METHOD"):
        find_run(f"{output}:PLOT@many")


def test_the_command(place):
    listed = elsewhere(place, "-m", "plot", "runs", "output")
    assert listed.returncode == 0 and "output:PLOT@1#2" in listed.stdout
    image = next((place / "data").rglob("*.jpg"))
    predicted = elsewhere(place, "-m", "plot", "predict", "output:PLOT", str(image), "--format", "json")
    assert predicted.returncode == 0 and json.loads(predicted.stdout)[0]["path"] == str(image)
    assert "plot train|sweep" in elsewhere(place, "-m", "plot", "--help").stdout
    assert elsewhere(place, "-m", "plot", "nonsense").returncode == 2


def test_a_foreign_module_of_the_same_name_is_told(tmp_path):
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "datasets.py").write_text("")
    script = "import sys; sys.path.insert(0, 'foreign'); import datasets, plot; plot.table('output')"
    done = elsewhere(tmp_path, "-c", script)
    assert done.returncode == 1 and "another module called datasets is loaded already" in done.stderr


def test_it_names_what_it_needs():
    packages = {path.parent.name for path in REPOSITORY.glob("*/__init__.py")}
    assert {*checkout.OWN} == packages - {"benchmarks", "dassl", "plot", "study", "tests"}
