"""Take from our engine everything that upstream Dassl 0.6.3 does not offer, then train and test our trainers on it.

Run as a program by tests/dassl/test_drop_in.py, from the repository's root:
PROGRAM ROOT WEIGHTS WEIGHTS_OF_A_VIT OUTPUT.
"""
import sys

from yacs.config import CfgNode as CN

import dassl.config
import dassl.data
import dassl.data.datasets
import dassl.data.transforms
import dassl.engine
import dassl.evaluation
import dassl.metrics
import dassl.optim
import dassl.utils

OFFERED = {
    "dassl.engine": "TRAINER_REGISTRY TrainerX TrainerXU TrainerBase SimpleTrainer SimpleNet build_trainer",
    "dassl.metrics": "compute_accuracy compute_distance_matrix cosine_distance euclidean_squared_distance",
    "dassl.optim": "build_optimizer build_lr_scheduler",
    "dassl.utils": "load_pretrained_weights load_checkpoint setup_logger set_random_seed collect_env_info "
    "mkdir_if_missing listdir_nohidden read_json write_json check_isfile MetricMeter AverageMeter Registry "
    "check_availability tolist_if_not count_num_param save_checkpoint resume_from_checkpoint read_image download_url "
    "open_all_layers open_specified_layers init_network_weights get_most_similar_str_to_a_from_b Logger",
    "dassl.config": "get_cfg_default clean_cfg",
    "dassl.data": "DataManager DatasetWrapper",
    "dassl.data.datasets": "DATASET_REGISTRY Datum DatasetBase build_dataset",
    "dassl.data.transforms": "build_transform INTERPOLATION_MODES",
    "dassl.evaluation": "build_evaluator EVALUATOR_REGISTRY EvaluatorBase Classification",
}
OURS_ALONE = ["dassl.config.merge", "dassl.data.integrity", "dassl.utils.rng",
              "dassl.utils.safe_load", "dassl.utils.pickle_machine", "dassl.utils.unpacking"]


def prune() -> None:
    modules = set(sys.modules)
    for name, offered in OFFERED.items():
        module = sys.modules[name]
        for attribute in module.__all__:
            getattr(module, attribute)  # what is imported when it is used is imported now
        vars(module).pop("__getattr__", None)  # and nothing comes back
        for attribute in [a for a in vars(module) if not a.startswith("_") and f"{name}.{a}" not in modules]:
            if attribute not in offered.split():
                delattr(module, attribute)
    for name in OURS_ALONE:
        sys.modules[name] = None  # an import of it fails from here on
    del dassl.engine.TrainerBase.diagnostics


def config(root: str, weights: str, size: str, output: str, trainer: str) -> CN:
    """As the public train.py of CoOp and PLOT builds it: their keys, and no other."""
    cfg = dassl.config.get_cfg_default()
    keys = {"N_CTX": 4, "CSC": False, "CTX_INIT": "", "PREC": "fp32", "CLASS_TOKEN_POSITION": "end"}
    cfg.TRAINER.COOP = CN(dict(keys))
    cfg.TRAINER.PLOT = CN(keys | {"N": 2})
    cfg.TRAINER.PLOTPP = CN({**keys, "CTX_INIT": True, "N_CTX_V": 2, "N": 2, "M": 3, "TRADE_OFF": True})
    cfg.TRAINER.PLOTPP.update({"MODEL_UPD": "joint", "PRETRAIN_DIR": ""})
    cfg.TRAINER.PLOTADAPTER = CN(keys | {"N": 2})  # and for what is not there, the defaults
    cfg.TRAINER.COCOOP = CN({"N_CTX": 4, "CTX_INIT": "", "PREC": "fp32"})
    cfg.DATASET.SUBSAMPLE_CLASSES = "all"
    cfg.merge_from_file("configs/trainers/CoOp/rn50.yaml")
    cfg.merge_from_list([
        "DATASET.NAME", "Caltech101", "DATASET.ROOT", root, "DATASET.NUM_SHOTS", "1", "SEED", "1",
        "TRAINER.NAME", trainer, "OUTPUT_DIR", f"{output}/{trainer}", "USE_CUDA", "False",
        "MODEL.BACKBONE.NAME", weights, "INPUT.SIZE", size,
        "OPTIM.MAX_EPOCH", "2", "DATALOADER.NUM_WORKERS", "0", "DATALOADER.TRAIN_X.BATCH_SIZE", "4",
    ])  # fmt: skip
    cfg.freeze()
    return cfg


def main(root: str, weights: str, vit: str, output: str) -> None:
    prune()
    import datasets  # noqa: F401
    import trainers  # noqa: F401

    prompts = ("PLOT", "PLOTPP", "CoOp", "KgCoOp", "CoCoOp", "ZeroshotCLIP2")
    for name in (*prompts, "TipAdapter", "TipAdapterF", "PLOTAdapter"):
        files = (vit, "(64, 64)") if name == "PLOTPP" else (weights, "(96, 96)")
        cfg = config(root, *files, output, name)
        trainer = dassl.engine.build_trainer(cfg)
        trainer.train()
        again = dassl.engine.build_trainer(cfg)
        if name != "ZeroshotCLIP2":
            again.load_model(cfg.OUTPUT_DIR, epoch=0 if name == "TipAdapter" else 2)
        print("ACCURACY", name, again.test())


if __name__ == "__main__":
    main(*sys.argv[1:])
