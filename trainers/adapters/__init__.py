"""Tip-Adapter, Tip-Adapter-F and PLOT-Adapter: a cache of the few-shot images beside the prompts.

From the smallest part to the whole:

    cache, model    what is kept of the training images, and how it changes the scores
    selection       how alpha and beta are chosen on validation data
    leaky           the original programs' protocol, which looks at the test labels; only on request
    tuned           the original programs' settings of every data set
    options         the settings, config keys TRAINER.TIPADAPTER.*, TIPADAPTERF.* and PLOTADAPTER.*
    trainer         Tip-Adapter and Tip-Adapter-F as trainers of the engine
    plot_adapter    PLOT-Adapter as one
"""
from .options import PlotAdapterOptions, TipAdapterFOptions, TipAdapterOptions
from .plot_adapter import PLOTAdapter
from .trainer import TipAdapter, TipAdapterF

__all__ = ["PLOTAdapter", "PlotAdapterOptions", "TipAdapter", "TipAdapterF", "TipAdapterFOptions", "TipAdapterOptions"]
