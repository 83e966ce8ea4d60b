"""Tip-Adapter, Tip-Adapter-F and PLOT-Adapter: a cache of the few-shot images beside the prompts."""
from .options import PlotAdapterOptions, TipAdapterFOptions, TipAdapterOptions, plot_recipe, tip_recipe, untrained
from .plot_adapter import PLOTAdapter
from .trainer import TipAdapter, TipAdapterF

__all__ = [
    "PLOTAdapter",
    "PlotAdapterOptions",
    "TipAdapter",
    "TipAdapterF",
    "TipAdapterFOptions",
    "TipAdapterOptions",
    "plot_recipe",
    "tip_recipe",
    "untrained",
]
