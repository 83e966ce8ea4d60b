"""PLOT: prompt learning with optimal transport (Chen et al., ICLR 2023).

From the smallest part to the whole:

    sinkhorn    the solver: costs -> transport plans
    selection   the places that take part
    transport   features -> similarities -> plan -> scores
    model       images -> logits, with the transport between them
    evidence    what the transport did, for records and pictures
    options     the settings, config keys TRAINER.PLOT.*
    recipe      the published schedule, from published.yaml
    trainer     all of it as a trainer of the engine
"""
from .options import PlotOptions
from .trainer import PLOT

__all__ = ["PLOT", "PlotOptions"]
