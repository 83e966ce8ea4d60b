"""docs/adding.md, done as it says: its files in a folder elsewhere, its commands from the checkout."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from PIL import Image

from tests.support import warm
from tests.support.closeness import assert_close
from tests.support.programs import REPOSITORY

PAGE = (REPOSITORY / "docs/adding.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^`([\w/.-]+)`:\n\n```(?:python|yaml)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
COMMANDS = [line for block in re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
            for line in block.splitlines()]


class Done(NamedTuple):
    """What came of a command."""

    status: int
    out: str
    err: str


class World:
    """A home folder with the page's files and pictures, in which its commands have been run."""

    def __init__(self, home: Path) -> None:
        self.home = home
        for name, text in FILES.items():
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            (home / name).write_text(text, encoding="utf-8")
        subprocess.run([sys.executable, home / "draw_squares.py"], env={"HOME": str(home)}, check=True)
        self.done = {line: self.run(line) for line in COMMANDS}

    def run(self, line: str, **environment: str) -> Done:
        """A command line, as the user of this home would give it who stands in the checkout."""
        python, *words = shlex.split(line)
        assert python == "python"
        words = [str(self.home / word[2:]) if word.startswith("~/") else word for word in words]
        own = {"HOME": str(self.home), "PLOT_TRUSTED": "", "PLOT_PLUGINS": "", "OMP_NUM_THREADS": "1", **environment}
        done = warm.run([sys.executable, *words], cwd=REPOSITORY, env=os.environ | own)
        return Done(done.returncode, done.stdout, done.stderr)

    def result(self, *words: str):
        """What came of the one command of the page that has these words."""
        (line,) = (line for line in COMMANDS if all(word in line.split() for word in words))
        return self.done[line]

    def folder(self, trainer: str, shots: int) -> Path:
        """Of a run of the sweep."""
        (path,) = self.home.glob(f"runs/sweep/**/{trainer}/demo_{shots}shots/**/result.json")
        return path.parent


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    return World(home)


def test_every_command_of_the_page_succeeds(world):
    assert len(COMMANDS) >= 13
    assert {line: done.err for line, done in world.done.items() if done.status} == {}


def test_each_part_takes_about_forty_lines():
    assert {name: length for name, text in FILES.items() if (length := len(text.splitlines())) > 45} == {}
    assert {Path(name).parts[0] for name in FILES} == {"mine", "draw_squares.py"}


# --- runs ------------------------------------------------------------------------------------------------


def test_one_run_is_recorded_with_its_plugin(world):
    folder = world.home / "runs/one"
    record = json.loads((folder / "result.json").read_text())
    assert record["trainer"] == "LinearProbe" and record["dataset"] == "Squares"
    assert record["config"]["PLUGINS"] == [str(world.home / "mine")]
    assert yaml.safe_load((folder / "config.yaml").read_text())["PLUGINS"] == [str(world.home / "mine")]
    assert record["method"]["class_specific"] and not record["method"]["transports"]
    assert record["data"]["classnames"] == ["blue", "green", "red"] and record["data"]["train"] == 12
    losses = [epoch["loss"] for epoch in record["history"]]
    assert len(losses) == 4 and losses[-1] < losses[0]


def test_workers_made_every_run_of_the_sweep(world):
    records = {path: json.loads(path.read_text()) for path in world.home.glob("runs/sweep/**/result.json")}
    made = sorted((record["trainer"], record["shots"]) for record in records.values())
    assert made == [("LinearProbe", 2), ("LinearProbe", 4), ("SmoothPLOT", 2), ("SmoothPLOT", 4), ("ZeroshotCLIP", -1)]
    smooth = world.folder("SmoothPLOT", 4)
    assert "OP_N2" in smooth.parts and smooth.parent.name == "nctx16_cscFalse_ctpend"  # as every prompt method's
    record = json.loads((smooth / "result.json").read_text())
    assert record["config"]["TRAINER"]["SMOOTHPLOT"]["SMOOTHING"] == 0.2
    assert 0 < record["transport"]["distance_from_uniform"] < 1


def test_the_share_that_is_spread_evenly_does_what_the_page_says(world):
    """Under SMOOTHING 1 every plan is uniform; under 0 it is PLOT's."""
    folder, far = world.folder("SmoothPLOT", 2), {}
    common = ("python train.py --plugin ~/mine --root ~/pictures --seed 1 --eval-only --config-file "
              "~/mine/configs/trainers/SmoothPLOT/demo.yaml --dataset-config-file "
              f"~/mine/configs/datasets/squares.yaml --trainer SmoothPLOT --model-dir {folder}")
    for share in ("0.0", "0.5", "1.0"):
        done = world.run(f"{common} --output-dir ~/runs/share{share} TRAINER.SMOOTHPLOT.SMOOTHING {share}")
        assert done.status == 0, done.err
        record = json.loads((world.home / f"runs/share{share}/result.json").read_text())
        far[share] = record["transport"]["distance_from_uniform"]
    assert_close(far["0.5"], 0.5 * far["0.0"], 1e-4)
    assert far["0.0"] > 0.01 and far["1.0"] < 1e-6
    refused = world.run(f"{common} --output-dir ~/runs/no TRAINER.SMOOTHPLOT.SMOOTHING 2.0")
    assert refused.status == 2 and "TRAINER.SMOOTHPLOT.SMOOTHING must be from 0 to 1, got 2.0" in refused.err


def test_its_own_trainer_is_tested_again_without_naming_an_epoch(world):
    done = world.run(
        "python train.py --plugin ~/mine --root ~/pictures --seed 1 --trainer LinearProbe --eval-only "
        "--dataset-config-file ~/mine/configs/datasets/squares.yaml --model-dir ~/runs/one --output-dir ~/runs/again "
        "--config-file ~/mine/configs/trainers/LinearProbe/demo.yaml DATASET.NUM_SHOTS 4"
    )
    assert done.status == 0, done.err
    again, first = (json.loads((world.home / f"runs/{name}/result.json").read_text()) for name in ("again", "one"))
    assert again["per_class"] == first["per_class"] and again["accuracy"] == first["accuracy"]


def test_picks_are_those_that_a_run_trains_on(world):
    lines = [line.split("\t") for line in world.result("datasets", "picks").out.splitlines() if line[0] != "#"]
    picked = sorted(Path(path).name for part, _, _, path in lines if part == "train")
    assert len(picked) == 12 and {name.split("-")[0] for name in picked} == {"red", "green", "blue"}
    kept = next((world.home / "pictures/squares/split_fewshot").glob("*4*seed_1*"))
    assert all(name.encode() in kept.read_bytes() for name in picked)


# --- what is made of runs --------------------------------------------------------------------------------


def test_the_table_names_both_methods(world):
    rows = {line.split("  ")[0]: line for line in world.result("results", "table").out.splitlines()}
    assert {"ZeroshotCLIP", "LinearProbe", "SmoothPLOT N=2"} <= set(rows)
    for trainer, name in (("LinearProbe", "LinearProbe"), ("SmoothPLOT", "SmoothPLOT N=2")):
        for shots in (2, 4):
            accuracy = json.loads((world.folder(trainer, shots) / "result.json").read_text())["accuracy"]
            assert f"{accuracy:.2f} (1)" in rows[name]


def test_curves_and_report_show_both_methods(world):
    report = (world.home / "runs/sweep/report.html").read_text(encoding="utf-8")
    assert "LinearProbe" in report and "SmoothPLOT" in report and "Squares" in report
    drawn = [path for path in world.home.glob("runs/sweep/**/*.svg") if "transport" not in str(path)]
    assert any("LinearProbe" in path.read_text() and "SmoothPLOT N=2" in path.read_text() for path in drawn)


def test_heat_maps_are_drawn_of_the_variant_and_refused_for_the_probe(world):
    folder = world.folder("SmoothPLOT", 4) / "transport"
    index = json.loads((folder / "index.json").read_text())
    assert len(index["pictures"]) == 2 and all(picture["grid"] == [4, 4] for picture in index["pictures"])
    for picture in index["pictures"]:
        assert Image.open(folder / picture["files"]["png"]).size[0] > 200
    for command in ("transport", "ablate", "claims"):
        done = world.run(f"python -m results {command} ~/runs/sweep:LinearProbe@4 --plugin ~/mine")
        assert done.status == 2 and "is a run of LinearProbe, which has no transport plan" in done.err
    explain = "python -m predict ~/runs/sweep:LinearProbe@4 ~/pictures/squares/images --plugin ~/mine --explain ~/no"
    done = world.run(explain)
    assert done.status == 2 and "is of LinearProbe" in done.err and "no heat maps" in done.err


def test_the_matchings_are_compared_and_claims_listed(world):
    folder = world.folder("SmoothPLOT", 4)
    record = json.loads((folder / "result.json").read_text())
    settings = json.loads((folder / "ablation.json").read_text())["settings"]
    (own,) = (setting for setting in settings if setting["own"])
    assert record["correct"] == own["correct"] and {"uniform", "max", "global"} < {row["matching"] for row in settings}
    assert_close(record["transport"]["distance_from_uniform"], own["transport"]["distance_from_uniform"], 1e-3)
    assert "TRAINER.SMOOTHPLOT.MATCHING" in world.result("results", "ablate").out
    claims = json.loads((folder / "transport/claims.json").read_text())
    assert claims["images"] == record["total"] == 18 and len(claims["prompts"]) == 2


def test_a_run_and_its_export_predict_the_same(world):
    tables = [
        list(csv.DictReader((world.home / name).read_text().splitlines())) for name in ("from-run.csv", "from-file.csv")
    ]
    assert len(tables[0]) == 60 * 3
    assert tables[0] == tables[1]
    best = {Path(row["path"]).name: row["class"] for row in tables[0] if row["rank"] == "1"}
    right = sum(name.startswith(colour) for name, colour in best.items())
    assert right >= 50, "the probe that got these squares right in its test does so here"
    assert len(list(world.home.glob("heatmaps/*.png"))) == 1


def test_a_run_that_serves_its_own_classes_only_says_so(world):
    line = "python -m predict ~/runs/sweep:{}@4 ~/pictures/squares/images/red-00.png --plugin ~/mine --classes a b c"
    done = world.run(line.format("LinearProbe"))
    assert done.status == 2 and "something for each of its 3 classes, which serves no others" in done.err
    assert world.run(line.format("SmoothPLOT")).status == 0


# --- which plugins, and whose word ------------------------------------------------------------------------


def test_the_environment_may_name_the_plugin(world):
    line = "python -m predict ~/runs/sweep:LinearProbe@4 ~/pictures/squares/images --format csv"
    for places in (str(world.home / "mine"), os.pathsep.join(["", "~/mine"])):
        done = world.run(line, PLOT_PLUGINS=places)
        assert done.status == 0 and done.out == (world.home / "from-run.csv").read_text()


LOOKING = (
    "python -m predict ~/runs/sweep:SmoothPLOT@4 ~/pictures/squares/images",
    "python -m results transport ~/runs/sweep:SmoothPLOT@4",
    "python -m results export ~/runs/sweep:SmoothPLOT@4 --out ~/never.safetensors",
    "python -m predict ~/probe.safetensors ~/pictures/squares/images",
)


@pytest.mark.parametrize("line", LOOKING)
def test_without_the_plugin_the_error_names_it_and_the_remedy(world, line):
    done = world.run(line)
    assert done.status == 2
    assert f"was made with the plugin {world.home / 'mine'}" in done.err
    assert f"say --plugin {world.home / 'mine'}, or --trust-paths" in done.err


def test_reading_records_needs_no_plugin(world):
    assert world.run("python -m results table ~/runs/sweep").out == world.result("results", "table").out


def test_a_foreign_record_runs_no_code(world):
    """The user's word is asked for: --plugin, --trust-paths or PLOT_TRUSTED."""
    precious, run = world.home / "precious.txt", world.home / "foreign/run"
    plugin = world.home / "foreign/evil.py"
    shutil.copytree(world.folder("LinearProbe", 4), run)
    plugin.write_text(f"open({str(precious)!r}, 'w').write('gone')\n" + FILES["mine/linear_probe.py"])
    config = run / "config.yaml"
    config.write_text(config.read_text().replace(str(world.home / "mine"), str(plugin)))
    for line in ("python -m predict ~/foreign/run ~/pictures/squares/images/red-00.png",
                 "python -m results export ~/foreign/run --out ~/foreign.safetensors",
                 "python -m results table ~/foreign"):
        done = world.run(line)
        assert not precious.exists(), line
        assert done.status == (0 if "table" in line else 2), done.err
        assert "table" in line or f"--plugin {plugin}, or --trust-paths" in done.err
    line = "python -m predict ~/foreign/run ~/pictures/squares/images/red-00.png"
    for flags, trusted in ((" --trust-paths", ""), (f" --plugin {plugin}", ""), ("", str(plugin.parent))):
        done = world.run(line + flags, PLOT_TRUSTED=trusted)
        assert done.status == 0 and precious.exists(), done.err
        precious.unlink()


def test_code_below_the_checkout_or_of_a_module_is_not_trusted_either(world, monkeypatch):
    from runs.restore.trust import CHECKOUT, may_run, trusting

    monkeypatch.setenv("PLOT_TRUSTED", str(world.home))
    monkeypatch.chdir(CHECKOUT)
    assert may_run(str(world.home / "mine"))
    assert not any(map(may_run, (str(CHECKOUT / "tests"), "tests", "antigravity")))
    with trusting():
        assert may_run("antigravity")


def test_an_unknown_trainer_or_data_set_is_named(world):
    line = "python scripts/sweep.py --root ~/pictures --output ~/none --dataset {} --config demo --trainers {}"
    done = world.run(line.format("demo", "SmoothPLOT"))
    assert done.status == 2 and "no trainer 'SmoothPLOT'" in done.err and "--plugin FOLDER" in done.err
    done = world.run(line.format("squares", "CoOp"))
    assert done.status == 2 and "squares.yaml" in done.err and "--plugin FOLDER" in done.err


BROKEN = {
    "typo.py": ("import torhc\n", "cannot be imported: No module named 'torhc'"),
    "fails.py": ("1 / 0\n", "cannot be imported: ZeroDivisionError: division by zero"),
    "taken.py": (
        "from dassl.engine import TRAINER_REGISTRY\n\n@TRAINER_REGISTRY.register()\nclass PLOT: ...\n",
        'An object named "PLOT" was already registered',
    ),
    "clip.py": ("", "has the name of a module that is loaded already, clip; rename it"),
    "shared.py": (
        "from dassl.engine import TRAINER_REGISTRY\nfrom trainers.plot.trainer import PLOT\n\n"
        "@TRAINER_REGISTRY.register()\nclass Lazy(PLOT): ...\n",
        "a subclass of PlotOptions with node = 'LAZY'",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_plugin_that_cannot_serve_says_why(world, name):
    text, message = BROKEN[name]
    path = world.home / "broken" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    done = world.run(f"python train.py --plugin {path} --root ~/pictures --trainer Lazy --output-dir ~/never "
                     "--dataset-config-file configs/datasets/demo.yaml --config-file configs/trainers/PLOT/demo.yaml")
    assert done.status == 2 and message in done.err
    assert name == "shared.py" or str(path) in done.err


def test_a_plugin_that_is_not_there_is_named(world):
    for command in ("results table ~/runs/sweep", "predict ~/runs/one ~/pictures", "datasets check ~/pictures"):
        done = world.run(f"python -m {command} --plugin ~/nowhere")
        assert done.status == 2 and f"there is no plugin {world.home}/nowhere" in done.err, command
