"""Which config keys change a result: one list, and everybody who compares runs goes by it."""

from __future__ import annotations

import json
import types
from pathlib import Path

import pytest

import train
from dassl.config import get_cfg_default
from results.__main__ import main as results
from results.numbers.differences import between_methods, between_runs
from results.numbers.summary import summarise
from runs import writing
from runs.config import extend_cfg, set_key
from runs.folder import _differences
from runs.keys import CHANCE, NO_EFFECT, PLACE, SCHEDULE, START, effective, flatten
from runs.methods import data_path, name_methods
from runs.record import find_runs
from runs.restore.source import kept_settings
from runs.sweeps.states import check_same_run
from tests.support.programs import REPOSITORY, arguments, make_world
from tests.support.records import make_record, write_run

OWN = "TRAINER.PLOTPP."


def tree(trainer: str = "PLOTPP"):
    cfg = get_cfg_default()
    extend_cfg(cfg)
    cfg.TRAINER.NAME, cfg.DATASET.NAME, cfg.SEED, cfg.DATASET.NUM_SHOTS = trainer, "Demo", 1, 4
    return cfg


def other(value):
    """Of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return value + "x"
    return type(value)([*value, 7]) if isinstance(value, list | tuple) else value + 1


KEYS = flatten(tree())
NOTHING = KEYS.keys() - effective(KEYS).keys()
OTHERS = {key for key in KEYS if key.startswith("TRAINER.") and key.count(".") > 1 and not key.startswith(OWN)}

# --- every key has its place -----------------------------------------------------------------------------

COUNT = """
SEED INPUT. MODEL. OPTIM. TRAINER.
DATASET.ALL_AS_UNLABELED DATASET.CIFAR_C_LEVEL DATASET.CIFAR_C_TYPE DATASET.DRAW DATASET.FOLDER. DATASET.NAME
DATASET.NUM_LABELED DATASET.NUM_SHOTS DATASET.SKIP_BAD DATASET.SOURCE_DOMAINS DATASET.STL10_FOLD
DATASET.SUBSAMPLE_CLASSES DATASET.TARGET_DOMAINS DATASET.VAL_PERCENT
DATALOADER.K_TRANSFORMS DATALOADER.RETURN_IMG0 DATALOADER.TRAIN_X. DATALOADER.TRAIN_U. DATALOADER.TEST.
TRAIN.COUNT_ITER
TEST.EVALUATOR TEST.FINAL_MODEL TEST.NO_TEST TEST.SPLIT
""".split()
DO_NOTHING = """
USE_DEVICE PLUGINS FEATURE_CACHE.USE FEATURE_CACHE.DIR FEATURE_CACHE.MAX_GB
CSC CLASS_TOKEN_POSITION MATCH_CHUNK TEXT_CHUNK
""".split()


def test_every_key_is_told_to_count_or_to_do_nothing():
    """A new key fails here: add it to COUNT, or to NO_EFFECT beside its declaration."""
    own = {key.removeprefix(OWN) for key in NOTHING - OTHERS} - {*NO_EFFECT}
    assert own == {*DO_NOTHING}
    assert not [key for key in NO_EFFECT if key not in KEYS and key != "NO_EFFECT"], "names of keys that are not there"
    known = [key for key in KEYS for one in COUNT if key == one or (one.endswith(".") and key.startswith(one))]
    unknown = effective(KEYS).keys() - {*known}
    assert not unknown, "does it change a result?"
    declared = set(KEYS["NO_EFFECT"])
    assert declared <= KEYS.keys()


@pytest.mark.parametrize("trainer", ["PLOT", "CoOp", "TipAdapterF"])
def test_a_trainer_reads_its_own_node_only(trainer):
    kept = {key for key in effective(flatten(tree(trainer))) if key.startswith("TRAINER.")} - {"TRAINER.NAME"}
    assert kept and all(key.startswith(f"TRAINER.{trainer.upper()}.") for key in kept)


def test_a_trainer_without_a_node_may_read_any():
    config = flatten(tree("Foreign"))
    assert "TRAINER.COOP.CSC" in effective(config)


def test_a_plugin_declares_its_own():
    cfg = tree()
    cfg.NO_EFFECT += ("TRAINER.PLOTPP.EPS",)
    assert "TRAINER.PLOTPP.EPS" not in effective(flatten(cfg)) and "TRAINER.PLOTPP.N" in effective(flatten(cfg))


# --- everybody agrees ------------------------------------------------------------------------------------


def seen_by(key: str, folder: Path) -> set[str]:
    """Who notices that `key` is another one in the second of two runs."""
    first, second = tree(), tree()
    set_key(second, key, other(KEYS[key]))
    noticed = set()
    if writing._digest(first) != writing._digest(second):
        noticed.add("digest")
    if _differences(json.loads(json.dumps(first)), second):
        noticed.add("resume")
    for number, cfg in enumerate((first, second)):
        one = make_record("PLOT", 4, 1 + number) | {"trainer": "PLOTPP", "config": json.loads(json.dumps(cfg))}
        write_run(folder / str(number), one)
    try:
        job = types.SimpleNamespace(cfg=second, folder=folder / "0")
        check_same_run(job, {"config": json.loads(json.dumps(first))})
    except ValueError:
        noticed.add("sweep")
    summary = summarise(find_runs(folder))
    if len(summary.methods) > 1:
        noticed.add("label")
    told = {one.what for one in between_runs(summary)} | {one.key for part in between_methods(summary) for one in part}
    if {key, key.removeprefix(OWN)} & told:
        noticed.add("differences")
    return noticed


ALL = {"digest", "resume", "sweep", "label", "differences"}
EXCEPT = {  # who looks away, or looks though it changes no result
    **dict.fromkeys(PLACE - {"TRAINER.NAME"}, ALL - {"label", "differences"}),  # what a sweep varies
    **{key: ALL - {"label", "differences"} for key in KEYS if key.endswith(START)},  # another file for each seed
    **dict.fromkeys(SCHEDULE, ALL - {"label"}),  # goes by shots: tells methods apart in one place only
    **dict.fromkeys(CHANCE, {"differences"}),  # other random crops
}


def test_all_who_compare_runs_agree_about_every_key(tmp_path):
    wrong = {}
    for key in sorted(KEYS.keys() - {"TRAINER.NAME"}):
        due = EXCEPT.get(key, set() if key in NOTHING else ALL)
        if key in OTHERS:
            due = set()
        if (seen := seen_by(key, tmp_path)) != due:
            wrong[key] = seen ^ due
    assert not wrong


def test_an_export_keeps_what_decides_and_no_place():
    kept = kept_settings(KEYS).keys()
    needless = ("DATALOADER.", "TRAIN.", "TEST.", "MODEL.HEAD.", "MODEL.INIT_WEIGHTS", "DATASET.FOLDER.")
    assert {key for key in effective(KEYS) if not key.startswith(needless) and not key.endswith(START)} <= kept
    own = {OWN + key for key in DO_NOTHING if "." not in key and key not in ("PLUGINS", "USE_DEVICE")}
    assert kept - effective(KEYS).keys() == own


# --- as a user meets it ----------------------------------------------------------------------------------


def test_two_seeds_of_one_method_are_one_row_however_they_were_run(tmp_path, capsys, monkeypatch):
    world = make_world(tmp_path)
    train.run(arguments(world, tmp_path / "out/1", seed=1))
    monkeypatch.chdir(world)  # the same weights, by another path
    where = ["DATALOADER.KEEP_MB", "0", "FEATURE_CACHE.USE", "False", "TRAINER.PLOT.TEXT_CHUNK", "2",
             "TRAINER.COOP.N_CTX", "2", "MODEL.BACKBONE.NAME", "tiny_rn.pt"]  # fmt: skip
    argv = arguments(world, tmp_path / "out/2", *where, seed=2)
    train.run([str(REPOSITORY / word) if (REPOSITORY / word).is_file() else word for word in argv])
    capsys.readouterr()
    assert results(["table", str(tmp_path / "out")]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("PLOT")]
    assert len(rows) == 1 and rows[0].endswith("(2)") and "±" in rows[0]


def test_one_folder_of_pictures_by_two_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for seed, root in enumerate(("photos", str(tmp_path / "photos"), "gone", "gone/"), start=1):
        one = make_record("CoOp", 4, seed, dataset="Folder", config={"DATASET.ROOT": root})
        write_run(tmp_path / f"out/{seed}", one)
    runs = find_runs(tmp_path / "out")
    assert len(name_methods(runs)) == 1 and len({data_path(run) for run in runs}) == 2
