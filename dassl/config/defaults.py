"""Every key of the configuration, with its default.

A key's type is the type of its default, and a value that is merged must have that type (yacs): 5 is no tuple. What
numbers and names may be is in values.py. Plugins add their own nodes below TRAINER before merging. Keys marked "not
used here" exist because the files of other trainers set them. The names, spellings and defaults are the original
engine's, down to SGD_DAMPNING: files and command lines depend on them.
"""
from __future__ import annotations

from typing import Any

from yacs.config import CfgNode as CN

__all__ = ["clean_cfg", "get_cfg_default"]

_C = CN()
_C.VERSION = 1  # of this tree of keys
_C.OUTPUT_DIR = "./output"  # folder of the run: log, checkpoints, tensorboard, result
_C.RESUME = ""  # folder of the run to continue; empty: OUTPUT_DIR, when it holds checkpoints
_C.SEED = -1  # fixes picks, order and start; negative: not seeded
_C.USE_CUDA = True  # use the GPU, when there is one
_C.VERBOSE = True  # print what is built

# --- images ---
_C.INPUT = CN()
_C.INPUT.SIZE = (224, 224)  # height, width in pixels
_C.INPUT.INTERPOLATION = "bilinear"  # bilinear, bicubic, nearest
_C.INPUT.TRANSFORMS = ()  # names; the order of the steps is fixed whatever their order here
_C.INPUT.NO_TRANSFORM = False  # True: no transform at all
_C.INPUT.PIXEL_MEAN = [0.485, 0.456, 0.406]  # per channel, of pixels in [0, 1]
_C.INPUT.PIXEL_STD = [0.229, 0.224, 0.225]  # likewise
_C.INPUT.CROP_PADDING = 4  # pixels on every side, random_crop
_C.INPUT.RRCROP_SCALE = (0.08, 1.0)  # share of the area, random_resized_crop
_C.INPUT.CUTOUT_N = 1  # holes, cutout
_C.INPUT.CUTOUT_LEN = 16  # pixels of a hole's side, cutout
_C.INPUT.GN_MEAN = 0.0  # gaussian_noise
_C.INPUT.GN_STD = 0.15  # gaussian_noise
_C.INPUT.RANDAUGMENT_N = 2  # operations an image, randaugment
_C.INPUT.RANDAUGMENT_M = 10  # their strength
_C.INPUT.COLORJITTER_B = 0.4  # brightness, colorjitter
_C.INPUT.COLORJITTER_C = 0.4  # contrast, colorjitter
_C.INPUT.COLORJITTER_S = 0.4  # saturation, colorjitter
_C.INPUT.COLORJITTER_H = 0.1  # hue, colorjitter
_C.INPUT.RGS_P = 0.2  # probability, randomgrayscale
_C.INPUT.GB_P = 0.5  # probability, gaussian_blur
_C.INPUT.GB_K = 21  # kernel in pixels, gaussian_blur

# --- data ---
_C.DATASET = CN()
_C.DATASET.ROOT = ""  # folder that holds the data sets
_C.DATASET.NAME = ""  # registry name of the data set
_C.DATASET.SOURCE_DOMAINS = ()  # for data sets of plugins that have domains
_C.DATASET.TARGET_DOMAINS = ()  # likewise
_C.DATASET.NUM_LABELED = -1  # not used here
_C.DATASET.NUM_SHOTS = -1  # training images per class; below 1: all
_C.DATASET.VAL_PERCENT = 0.1  # not used here
_C.DATASET.STL10_FOLD = -1  # not used here
_C.DATASET.CIFAR_C_TYPE = ""  # not used here
_C.DATASET.CIFAR_C_LEVEL = 1  # not used here
_C.DATASET.ALL_AS_UNLABELED = False  # not used here

_C.DATALOADER = CN()
_C.DATALOADER.NUM_WORKERS = 4  # processes that decode images
_C.DATALOADER.K_TRANSFORMS = 1  # random views per training image
_C.DATALOADER.RETURN_IMG0 = False  # also return the image without random transforms
_C.DATALOADER.TRAIN_X = CN()  # labelled training data
_C.DATALOADER.TRAIN_X.SAMPLER = "RandomSampler"  # the order of the images
_C.DATALOADER.TRAIN_X.BATCH_SIZE = 32  # images a step
_C.DATALOADER.TRAIN_X.N_DOMAIN = 0  # domains per batch; 0: all
_C.DATALOADER.TRAIN_X.N_INS = 16  # images per class in a batch, RandomClassSampler
_C.DATALOADER.TRAIN_U = CN()  # unlabelled training data
_C.DATALOADER.TRAIN_U.SAME_AS_X = True  # unlabelled images are loaded with TRAIN_X's settings
_C.DATALOADER.TRAIN_U.SAMPLER = "RandomSampler"  # as TRAIN_X's
_C.DATALOADER.TRAIN_U.BATCH_SIZE = 32  # images a step
_C.DATALOADER.TRAIN_U.N_DOMAIN = 0  # as TRAIN_X's
_C.DATALOADER.TRAIN_U.N_INS = 16  # as TRAIN_X's
_C.DATALOADER.TEST = CN()  # validation and test data
_C.DATALOADER.TEST.SAMPLER = "SequentialSampler"  # the order of test and validation images
_C.DATALOADER.TEST.BATCH_SIZE = 32  # images; part of the result where PLOT's transport stops by batches

# --- model ---
_C.MODEL = CN()
_C.MODEL.INIT_WEIGHTS = ""  # checkpoint file whose learned part is the start
_C.MODEL.BACKBONE = CN()
_C.MODEL.BACKBONE.NAME = ""  # e.g. RN50 or ViT-B/16, a name of open_clip, hf://USER/REPOSITORY, or a path
_C.MODEL.BACKBONE.PRETRAINED = True  # for plugins; a CLIP always is
_C.MODEL.HEAD = CN()
_C.MODEL.HEAD.NAME = ""  # not used here
_C.MODEL.HEAD.HIDDEN_LAYERS = ()  # not used here
_C.MODEL.HEAD.ACTIVATION = "relu"  # not used here
_C.MODEL.HEAD.BN = True  # not used here
_C.MODEL.HEAD.DROPOUT = 0.0  # not used here

# --- optimisation ---
_C.OPTIM = CN()
_C.OPTIM.NAME = "adam"  # adam, amsgrad, sgd, rmsprop, radam, adamw
_C.OPTIM.LR = 0.0003  # learning rate
_C.OPTIM.WEIGHT_DECAY = 5e-4  # all optimisers
_C.OPTIM.MOMENTUM = 0.9  # sgd, rmsprop
_C.OPTIM.SGD_DAMPNING = 0  # damping of the momentum, sgd
_C.OPTIM.SGD_NESTEROV = False  # Nesterov's momentum, sgd
_C.OPTIM.RMSPROP_ALPHA = 0.99  # smoothing, rmsprop
_C.OPTIM.ADAM_BETA1 = 0.9  # decay of the first moment; adam and its relatives
_C.OPTIM.ADAM_BETA2 = 0.999  # decay of the second moment
_C.OPTIM.EPS = 1e-8  # added to the root of the second moment; adam, amsgrad, adamw, radam, rmsprop
_C.OPTIM.STAGED_LR = False  # NEW_LAYERS at LR, all other layers at LR * BASE_LR_MULT
_C.OPTIM.NEW_LAYERS = ()  # names of layers, for STAGED_LR
_C.OPTIM.BASE_LR_MULT = 0.1  # factor for all other layers, for STAGED_LR
_C.OPTIM.LR_SCHEDULER = "single_step"  # single_step, multi_step, cosine
_C.OPTIM.STEPSIZE = (-1,)  # epochs; -1: never
_C.OPTIM.GAMMA = 0.1  # factor at each step
_C.OPTIM.MAX_EPOCH = 10  # epochs; the published schedules of PLOT and the adapters set it where you do not
_C.OPTIM.WARMUP_EPOCH = -1  # epochs; above 0 switches the warm-up on
_C.OPTIM.WARMUP_TYPE = "linear"  # linear, constant
_C.OPTIM.WARMUP_CONS_LR = 1e-5  # constant: the rate
_C.OPTIM.WARMUP_MIN_LR = 1e-5  # linear: the rate in the first epoch
_C.OPTIM.WARMUP_RECOUNT = True  # the schedule starts counting after the warm-up

# --- training and test ---
_C.TRAIN = CN()
_C.TRAIN.CHECKPOINT_FREQ = 0  # epochs between checkpoints; 0 or less: the last epoch only
_C.TRAIN.PRINT_FREQ = 10  # batches between lines of the log
_C.TRAIN.COUNT_ITER = "train_x"  # batches an epoch: train_x, train_u, smaller_one (TrainerXU)

_C.TEST = CN()
_C.TEST.EVALUATOR = "Classification"  # registry name of the evaluator
_C.TEST.PER_CLASS_RESULT = False  # print every class's accuracy
_C.TEST.COMPUTE_CMAT = False  # save the confusion matrix
_C.TEST.NO_TEST = False  # skip the test after training
_C.TEST.SPLIT = "test"  # split of the final test: test, val
_C.TEST.FINAL_MODEL = "last_step"  # what is tested: last_step, or best_val, which needs validation data

# --- trainers ---
# All but NAME belong to trainers that are not part of this package (domain adaptation and generalisation,
# semi-supervised learning): files of plugins set these keys, so they must exist, under the original's defaults.
_C.TRAINER = CN()
_C.TRAINER.NAME = ""  # registry name of the trainer
_OTHERS: dict[str, dict[str, Any]] = {
    "MCD": {"N_STEP_F": 4},
    "MME": {"LMDA": 0.1},
    "CDAC": {"CLASS_LR_MULTI": 10, "RAMPUP_COEF": 30, "RAMPUP_ITRS": 1000, "TOPK_MATCH": 5, "P_THRESH": 0.95,
             "STRONG_TRANSFORMS": ()},
    "SE": {"EMA_ALPHA": 0.999, "CONF_THRE": 0.95, "RAMPUP": 300},
    "M3SDA": {"LMDA": 0.5, "N_STEP_F": 4},
    "DAEL": {"WEIGHT_U": 0.5, "CONF_THRE": 0.95, "STRONG_TRANSFORMS": ()},
    "CROSSGRAD": {"EPS_F": 1.0, "EPS_D": 1.0, "ALPHA_F": 0.5, "ALPHA_D": 0.5},
    "DDAIG": {"G_ARCH": "", "LMDA": 0.3, "CLAMP": False, "CLAMP_MIN": -1.0, "CLAMP_MAX": 1.0, "WARMUP": 0,
              "ALPHA": 0.5},
    "DAELDG": {"WEIGHT_U": 0.5, "CONF_THRE": 0.95, "STRONG_TRANSFORMS": ()},
    "DOMAINMIX": {"TYPE": "crossdomain", "ALPHA": 1.0, "BETA": 1.0},
    "ENTMIN": {"LMDA": 1e-3},
    "MEANTEACHER": {"WEIGHT_U": 1.0, "EMA_ALPHA": 0.999, "RAMPUP": 5},
    "MIXMATCH": {"WEIGHT_U": 100.0, "TEMP": 2.0, "MIXUP_BETA": 0.75, "RAMPUP": 20000},
    "FIXMATCH": {"WEIGHT_U": 1.0, "CONF_THRE": 0.95, "STRONG_TRANSFORMS": ()},
}  # fmt: skip
for _name, _keys in _OTHERS.items():
    _C.TRAINER[_name] = CN(_keys)

# --- not in the tree ---
# Keys that the engine obeys where a program declares them (the original's tree has none of the kind), and what holds
# where it does not.
STATE_MINUTES = 1.0  # TRAIN.STATE_MINUTES, between two writes of a run's state; 0: none is kept, also when stopped
RANK_MINUTES = 30.0  # TRAIN.RANK_MINUTES, that a process of a run waits for another one
KEEP_MB = 2048  # DATALOADER.KEEP_MB, for decoded training images in memory


def get_cfg_default() -> CN:
    """Return a fresh copy of the default tree, not frozen."""
    return _C.clone()


def clean_cfg(cfg: CN, trainer: str) -> None:
    """Drop the sections of all other trainers from `cfg.TRAINER`, in place.

    Parameters
    ----------
    cfg : CfgNode
        The whole tree, not frozen.
    trainer : str
        Registry name of the trainer whose section, `trainer.upper()`, stays beside NAME.
    """
    for name in list(cfg.TRAINER.keys()):
        if name not in ("NAME", trainer.upper()):
            cfg.TRAINER.pop(name)
