"""One test over every YAML file, and the bridge between option classes and the config tree."""
from dataclasses import fields
from pathlib import Path

import pytest

import train
from dassl.config import get_cfg_default, merge_file, merge_options
from dassl.data.datasets import DATASET_REGISTRY
from dassl.engine import TRAINER_REGISTRY
from runs.config import extend_cfg, option_types
from tests.support.programs import REPOSITORY
from trainers.plot import PlotOptions

CONFIGS = sorted((REPOSITORY / "configs").rglob("*.yaml"))


def full_tree():
    cfg = get_cfg_default()
    extend_cfg(cfg)
    return cfg


@pytest.mark.parametrize("path", CONFIGS, ids=[str(p.relative_to(REPOSITORY)) for p in CONFIGS])
def test_every_file_merges_and_names_what_exists(path):
    cfg = full_tree()
    merge_file(cfg, str(path))
    if path.parent.name == "datasets":
        assert cfg.DATASET.NAME in DATASET_REGISTRY.registered_names()
        kind, reading = DATASET_REGISTRY.get(cfg.DATASET.NAME), (cfg.INPUT.EXIF_ORIENTATION, cfg.INPUT.ALPHA)
        if kind.own_pictures:
            assert reading == (True, "white")
        if kind.published:  # whose numbers are compared
            assert reading == (False, "")
    else:
        assert path.parent.name in TRAINER_REGISTRY.registered_names()
        assert cfg.MODEL.BACKBONE.NAME
        assert "normalize" in cfg.INPUT.TRANSFORMS
        for options in option_types():
            options.from_cfg(cfg)


@pytest.mark.parametrize("options", option_types(), ids=[o.node for o in option_types()])
def test_defaults_go_into_the_tree_and_come_back(options):
    cfg = full_tree()
    assert options.from_cfg(cfg) == options()
    for field in fields(options):
        assert field.metadata["meaning"]
        assert cfg.TRAINER[options.node][field.metadata["key"]] == field.default


def test_a_tree_without_our_extra_keys_gives_the_originals_constants():
    cfg = get_cfg_default()
    from yacs.config import CfgNode

    cfg.TRAINER.PLOT = CfgNode({"N_CTX": 4, "CSC": False, "CTX_INIT": "", "PREC": "fp32", "N": 2,
                                "CLASS_TOKEN_POSITION": "end"})
    options = PlotOptions.from_cfg(cfg)
    assert (options.epsilon, options.max_iterations, options.threshold, options.stop) == (0.1, 100, 0.01, "batch")
    assert (options.n_prompts, options.n_context) == (2, 4)


def test_global_logits_follow_the_rule():
    for value, expected in (("auto", [True, False, False]), ("true", [True] * 3), ("false", [False] * 3),
                            ("True", [True] * 3), ("False", [False] * 3)):
        cfg = full_tree()
        merge_options(cfg, ["TRAINER.PLOT.FUSE_GLOBAL", repr(value)])
        options = PlotOptions.from_cfg(cfg)
        assert [options.fuses_global(name) for name in ("ImageNet", "ImageNetV2", "Caltech101")] == expected


def test_keys_are_listed_with_their_meaning(capsys):
    assert train.main(["--show-keys"]) == 0
    listed = capsys.readouterr().out
    assert "TRAINER.PLOT.EPS" in listed and "TRAINER.COOP.N_CTX" in listed


def test_paths_in_the_files_are_relative():
    assert not [path for path in CONFIGS if ": /" in Path(path).read_text()]
