"""One test over every YAML file, and the bridge between option classes and the config tree."""
from dataclasses import fields
from pathlib import Path

import pytest

import train
from clip.clip import check_model_name
from clip.loading.open_clip_table import open_clip_name
from dassl.config import get_cfg_default, merge_file, merge_options
from dassl.data.datasets import DATASET_REGISTRY
from dassl.engine import TRAINER_REGISTRY
from runs.config import extend_cfg, option_types
from runs.sweeps import planning
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
    if path.parent.name == "backbones":
        check_model_name(cfg.MODEL.BACKBONE.NAME)
        assert cfg.INPUT.SIZE[0] == cfg.INPUT.SIZE[1]
    elif path.parent.name == "datasets":
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


def test_presets_of_backbones_prepare_images_as_they_were_trained():
    import open_clip

    for path in (REPOSITORY / "configs/backbones").glob("*.yaml"):
        cfg = full_tree()
        merge_file(cfg, str(path))
        if not (parts := open_clip_name(cfg.MODEL.BACKBONE.NAME)):  # a release of OpenAI's
            continue
        published, config = open_clip.pretrained.get_pretrained_cfg(*parts), open_clip.get_model_config(parts[0])
        keys = {"PIXEL_MEAN": "mean", "PIXEL_STD": "std", "INTERPOLATION": "interpolation", "RESIZE": "resize_mode"}
        for key, theirs in keys.items():
            expected = published[theirs]
            assert cfg.INPUT[key] == (list(expected) if isinstance(expected, tuple) else expected), (path.stem, key)
        assert cfg.INPUT.SIZE[0] == config["vision_cfg"]["image_size"], path.stem


def test_the_page_lists_every_preset():
    page = (REPOSITORY / "docs" / "backbones.md").read_text()
    for path in (REPOSITORY / "configs/backbones").glob("*.yaml"):
        cfg = full_tree()
        merge_file(cfg, str(path))
        assert f"| `{path.stem}` | `{cfg.MODEL.BACKBONE.NAME}` | {cfg.INPUT.SIZE[0]}" in page, path.stem


def test_a_backbones_preset_stands_upon_a_methods_config():
    trainers = ["ZeroshotCLIP", "CoOp", "CoCoOp", "PLOT", "TipAdapterF"]
    grid = planning.grid(trainers, ["caltech101"], "siglip_b16", "data", "output", [1], [1])
    for job in grid:
        assert job.cfg.MODEL.BACKBONE.NAME == "ViT-B-16-SigLIP/webli" and job.cfg.INPUT.RESIZE == "squash"
        assert "normalize" in job.cfg.INPUT.TRANSFORMS and "siglip_b16" in str(job.folder)
    with pytest.raises(ValueError, match="no config .*trainers/PLOT/siglip.yaml; known: .*siglip2_b16.*vit_b32"):
        planning.grid(["PLOT"], ["caltech101"], "siglip", "data", "output", [1], [1])


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
