"""PLOT++: PLOT on a vision transformer, with visual prompts beside the text ones.

From the smallest part to the whole:

    prompts     what is learned: N text contexts and M visual prompts
    model       PLOT's model, where an image is what is seen under M visual prompts
    options     the settings, config keys TRAINER.PLOTPP.*
    trainer     all of it as a trainer of the engine, in one stage or two
"""
from .options import PlotPPOptions
from .trainer import PLOTPP

__all__ = ["PLOTPP", "PlotPPOptions"]
