"""The published presets under their published names: one row of expectations a file."""

from __future__ import annotations

import pytest

from dassl.config import get_cfg_default, merge_file
from dassl.engine import TRAINER_REGISTRY, build_trainer
from runs.config import extend_cfg, request_of
from tests.support.programs import REPOSITORY

BACKBONES = {"rn50": "RN50", "rn101": "RN101", "vit_b16": "ViT-B/16", "vit_b32": "ViT-B/32"}
WORDS = "a photo of a"
EPOCHS = {  # of CoOp, by file
    **dict.fromkeys(["rn50", "rn101", "vit_b16", "vit_b32", "rn50_ctxv1", "vit_b16_ctxv1"], 200),
    **dict.fromkeys(["rn50_ep100", "vit_b16_ep100", "vit_b16_ep100_ctxv1"], 100),
    **dict.fromkeys(["rn50_ep50", "rn101_ep50", "vit_b16_ep50", "vit_b32_ep50"], 50),
    **dict.fromkeys(["rn50_ep50_ctxv1", "vit_b16_ep50_ctxv1"], 50),
}
COCOOP = {"c4_ep10_batch1": (4, ""), "c8_ep10_batch1": (8, ""), "c16_ep10_batch1": (16, "")}
COCOOP["c4_ep10_batch1_ctxv1"] = (4, WORDS)


def preset(name: str):
    """The config after configs/trainers/`name`.yaml."""
    cfg = get_cfg_default()
    extend_cfg(cfg)
    merge_file(cfg, str(REPOSITORY / f"configs/trainers/{name}.yaml"))
    return cfg


def check(cfg, *, batches: tuple[int, int], epochs: int, backbone: str) -> None:
    loader, optim = cfg.DATALOADER, cfg.OPTIM
    assert (*batches, 8) == (loader.TRAIN_X.BATCH_SIZE, loader.TEST.BATCH_SIZE, loader.NUM_WORKERS)
    assert ("sgd", 0.002, epochs, "cosine") == (optim.NAME, optim.LR, optim.MAX_EPOCH, optim.LR_SCHEDULER)
    assert (optim.WARMUP_EPOCH, optim.WARMUP_TYPE, optim.WARMUP_CONS_LR) == (1, "constant", 1e-5)
    assert backbone == cfg.MODEL.BACKBONE.NAME


@pytest.mark.parametrize("name", EPOCHS)
def test_coop(name):
    cfg = preset(f"CoOp/{name}")
    backbone = next(value for key, value in BACKBONES.items() if name.startswith(key))
    check(cfg, batches=(32, 100), epochs=EPOCHS[name], backbone=backbone)
    assert (WORDS if name.endswith("ctxv1") else "") == cfg.TRAINER.COOP.CTX_INIT
    assert cfg.TRAIN.PRINT_FREQ == 5


def test_coop_without_a_schedule():
    cfg, default = preset("CoOp/rn50_val"), get_cfg_default()
    assert (cfg.DATALOADER.TRAIN_X.BATCH_SIZE, cfg.DATALOADER.TEST.BATCH_SIZE) == (200, 200)
    assert cfg.MODEL.BACKBONE.NAME == "RN50" and default.OPTIM == cfg.OPTIM


@pytest.mark.parametrize("name", COCOOP)
def test_cocoop(name):
    cfg = preset(f"CoCoOp/vit_b16_{name}")
    check(cfg, batches=(1, 100), epochs=10, backbone="ViT-B/16")
    node = cfg.TRAINER.COCOOP
    assert COCOOP[name] == (node.N_CTX, node.CTX_INIT) and node.PREC == "fp16"
    assert cfg.TRAIN.PRINT_FREQ == 20


@pytest.mark.parametrize("name", ["rn50", "vit_b16", "vit_b32"])
def test_plot_leaves_the_schedule_open(name):
    cfg, default = preset(f"PLOT/{name}"), get_cfg_default()
    assert cfg.OPTIM.MAX_EPOCH == default.OPTIM.MAX_EPOCH
    assert cfg.DATALOADER.TRAIN_X.BATCH_SIZE == default.DATALOADER.TRAIN_X.BATCH_SIZE
    assert (200, BACKBONES[name]) == (cfg.DATALOADER.TEST.BATCH_SIZE, cfg.MODEL.BACKBONE.NAME)
    assert (cfg.TRAINER.PLOT.N, cfg.TRAINER.PLOT.DENSE, cfg.TRAIN.PRINT_FREQ) == (4, "tokens", 5)


def test_plotpp_leaves_the_epochs_open():
    cfg, default = preset("PLOTPP/vit"), get_cfg_default()
    check(cfg, batches=(32, 100), epochs=default.OPTIM.MAX_EPOCH, backbone="ViT-B/16")
    node = cfg.TRAINER.PLOTPP
    assert (node.N, node.M, node.N_CTX_V, node.CTX_INIT, cfg.TRAIN.PRINT_FREQ) == (4, 4, 2, True, 20)


@pytest.mark.parametrize(("name", "test_batch"), [("TipAdapter", 100), ("TipAdapterF", 100), ("PLOTAdapter", 200)])
def test_adapters_leave_the_epochs_open(name, test_batch):
    cfg, default = preset(f"{name}/rn50"), get_cfg_default()
    loader, optim = cfg.DATALOADER, cfg.OPTIM
    assert (256, test_batch, 8) == (loader.TRAIN_X.BATCH_SIZE, loader.TEST.BATCH_SIZE, loader.NUM_WORKERS)
    assert (cfg.INPUT.RRCROP_SCALE, cfg.MODEL.BACKBONE.NAME) == ((0.5, 1.0), "RN50")
    assert default.OPTIM.MAX_EPOCH == optim.MAX_EPOCH
    if name != "TipAdapter":
        learning = (optim.NAME, optim.LR, optim.WEIGHT_DECAY, optim.LR_SCHEDULER, optim.WARMUP_EPOCH)
        assert learning == ("adamw", 0.001, 0.01, "cosine", 0)
        assert cfg.TRAINER[name.upper()].ADAM_EPS == 1e-4


@pytest.mark.parametrize(("name", "dataset", "epochs"), [
    ("TipAdapter", "EuroSAT", 0), ("TipAdapterF", "EuroSAT", 100), ("TipAdapterF", "Demo", 20),
    ("PLOTAdapter", "Food101", 5), ("PLOTAdapter", "OxfordFlowers", 80), ("PLOTAdapter", "ImageNet", 20),
])
def test_published_epochs_of_adapters(name, dataset, epochs):
    assert TRAINER_REGISTRY.get(name).recipe(dataset, 16) == {"OPTIM.MAX_EPOCH": epochs}


def test_nothing_else_is_on_the_shelf():
    names = {path.stem for path in (REPOSITORY / "configs/trainers/CoOp").glob("*.yaml")}
    assert names - {"demo", "demo_vit", "photos"} == {*EPOCHS, "rn50_val"}


def test_every_preset_opens_with_how_to_run_it():
    for path in (REPOSITORY / "configs/trainers").rglob("*.yaml"):
        lines = path.read_text().splitlines()
        notes = [line for line in lines if line.startswith("# ")]
        assert lines[0] in notes and (path.stem == "demo" or any(note.startswith("# Run: ") for note in notes))
        assert max(map(len, lines)) <= 120


@pytest.mark.parametrize("name", ["demo", "demo_vit", "photos"])
def test_presets_of_the_clips_that_come_along_build(name):
    """Each trainer that has one, so that no preset asks a tower for what it cannot give."""
    paths = sorted((REPOSITORY / "configs/trainers").glob(f"*/{name}.yaml"))
    for path in paths:
        trainer = path.parent.name
        argv = ["--trainer", trainer, "--config-file", str(path), "DATASET.NAME", "Demo", "USE_CUDA", "False"]
        assert build_trainer(request_of(argv).cfg, ["house", "train"]).model is not None
    assert {path.parent.name for path in paths} >= {"CoOp", "PLOT", "GalLoP", "SOTGLP"}
