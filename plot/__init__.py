"""PLOT from Python: train, compare and predict in a few lines, from any folder.

    >>> import plot
    >>> run = plot.train("PLOT", dataset="demo", config="demo", shots=1)          # doctest: +SKIP
    >>> print(plot.table("output"))                                               # doctest: +SKIP
    >>> plot.predict(run, ["a.jpg", "b.jpg"])[0].top(3)                           # doctest: +SKIP

`pip install -e .` makes this package and the command `plot` known everywhere; the rest (trainers, datasets, clip, ...)
stays in the checkout, under names that other packages have too, and is found from there.
"""

from .api import load, predict, report, runs, sweep, table, train

__all__ = ["load", "predict", "report", "runs", "sweep", "table", "train"]
