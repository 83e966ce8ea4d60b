"""PLOT++: visual and text prompts, matched by optimal transport."""
from .options import PlotPPOptions, recipe
from .trainer import PLOTPP

__all__ = ["PLOTPP", "PlotPPOptions", "recipe"]
