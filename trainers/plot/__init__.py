"""PLOT: prompt learning with optimal transport."""
from .options import PlotOptions, recipe
from .trainer import PLOT

__all__ = ["PLOT", "PlotOptions", "recipe"]
