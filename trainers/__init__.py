"""Everything that learns. Importing this package registers its trainers with the engine."""
from .cocoop import CoCoOp, CoCoOpOptions
from .coop import CoOp, CoOpOptions
from .options import Options
from .plot import PLOT, PlotOptions, recipe
from .zsclip import ZeroshotCLIP, ZeroshotCLIP2

ALL_OPTIONS: tuple[type[Options], ...] = (CoOpOptions, CoCoOpOptions, PlotOptions)
RECIPES = {"PLOT": recipe}  # trainer -> (data set, shots) -> defaults of its published schedule

__all__ = ["ALL_OPTIONS", "RECIPES", "CoCoOp", "CoOp", "PLOT", "ZeroshotCLIP", "ZeroshotCLIP2"]
