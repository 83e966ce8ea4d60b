"""The entry point that every repository of the family has, in short."""
import argparse

import torch
from yacs.config import CfgNode as CN

import datasets.caltech101  # noqa: F401
import trainers.averaged  # noqa: F401
import trainers.plot  # noqa: F401
from dassl.config import clean_cfg, get_cfg_default
from dassl.engine import build_trainer
from dassl.utils import collect_env_info, set_random_seed, setup_logger


def main():
    parser = argparse.ArgumentParser()
    for flag in ("--root", "--output-dir", "--model-dir"):
        parser.add_argument(flag, default="")
    parser.add_argument("--trainer", default="PLOT")
    parser.add_argument("--seed", type=int, default=-1)
    parser.add_argument("--load-epoch", type=int)
    parser.add_argument("--eval-only", action="store_true")
    parser.add_argument("opts", default=None, nargs=argparse.REMAINDER)
    args = parser.parse_args()

    cfg = get_cfg_default()
    assert {"NAME", "FIXMATCH"} <= set(cfg.TRAINER.keys()) and cfg.TRAINER.pop("DDAIG").G_ARCH == ""
    clean_cfg(cfg, "PLOT")
    assert list(cfg.TRAINER.keys()) == ["NAME"]
    cfg.TRAINER.PLOT = CN()
    cfg.TRAINER.PLOT.PREC = "fp32"
    cfg.TRAINER.PLOT.N = 4
    cfg.DATASET.SUBSAMPLE_CLASSES = "all"
    cfg.DEVICE = "cpu"
    cfg.DATASET.ROOT, cfg.OUTPUT_DIR, cfg.SEED = args.root, args.output_dir, args.seed
    cfg.DATASET.NAME, cfg.TRAINER.NAME = "Caltech101", args.trainer
    cfg.merge_from_list(args.opts)
    cfg.freeze()

    set_random_seed(cfg.SEED)
    setup_logger(cfg.OUTPUT_DIR)
    print(cfg)
    print(f"** System info **\n{collect_env_info()}\n")
    print("CUDA", torch.cuda.is_available() and cfg.USE_CUDA)
    trainer = build_trainer(cfg)
    if args.eval_only:
        trainer.load_model(args.model_dir, epoch=args.load_epoch)
        trainer.test()
    else:
        trainer.train()


if __name__ == "__main__":
    main()
