"""Global and local prompts: GalLoP and SOT-GLP, as settings of one model.

A class has two sets of prompts.  The global ones are compared with the image as a whole, like CoOp's; the local ones
are matched with the few places of the image that fit the class best.  Both branches are trained side by side, and
predict together.  From the smallest part to the whole:

    prompts     global and local contexts, and the map of the places
    dropout     which global prompts an image sees in training
    model       images -> logits; the two losses
    options     the settings, config keys TRAINER.GALLOP.* and TRAINER.SOTGLP.*
    recipe      the published schedules, from published.yaml
    trainer     both methods as trainers of the engine

Selection and matching of the places are PLOT's (trainers/plot), and so is the evidence for them.
"""
from .options import GalLoPOptions, SotGlpOptions
from .trainer import SOTGLP, GalLoP

__all__ = ["SOTGLP", "GalLoP", "GalLoPOptions", "SotGlpOptions"]
