"""Everything that learns. Importing this package registers its trainers with the engine."""
import dassl  # noqa: F401  (before torch: how its threads wait)

from . import adapters, plot, plotpp
from .adapters import PLOTAdapter, PlotAdapterOptions, TipAdapter, TipAdapterF, TipAdapterFOptions, TipAdapterOptions
from .cocoop import CoCoOp, CoCoOpOptions
from .coop import CoOp, CoOpOptions
from .options import Options
from .plot import PLOT, PlotOptions
from .plotpp import PLOTPP, PlotPPOptions
from .zsclip import ZeroshotCLIP, ZeroshotCLIP2

ALL_OPTIONS: tuple[type[Options], ...] = (
    CoOpOptions,
    CoCoOpOptions,
    PlotOptions,
    PlotPPOptions,
    TipAdapterOptions,
    TipAdapterFOptions,
    PlotAdapterOptions,
)
# trainer -> (data set, shots) -> defaults of its published schedule
RECIPES = {
    "PLOT": plot.recipe,
    "PLOTPP": plotpp.recipe,
    "TipAdapter": adapters.untrained,
    "TipAdapterF": adapters.tip_recipe,
    "PLOTAdapter": adapters.plot_recipe,
}

__all__ = [
    "ALL_OPTIONS",
    "RECIPES",
    "CoCoOp",
    "CoOp",
    "PLOT",
    "PLOTAdapter",
    "PLOTPP",
    "TipAdapter",
    "TipAdapterF",
    "ZeroshotCLIP",
    "ZeroshotCLIP2",
]
