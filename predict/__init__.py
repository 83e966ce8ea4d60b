"""Use a trained run on images of your own.

On the command line that is `python -m predict RUN photos`, in Python

    from predict import load
    classifier = load("RUN or FILE")
    for prediction in classifier(["a.jpg", "b.png"]):
        print(prediction.path, prediction.top(3))

No data set is needed or read.  `classifier` predicts, `read_ahead` reads the images while it does, `formats` writes the
predictions as text, `sorting` copies images into a folder for each class, and `__main__` is the command line;
`runs.restore.source` says what RUN may be.
"""
import dassl  # noqa: F401  (before torch: how its threads wait)
from runs.restore.source import PredictError

from .classifier import NONE, Classifier, Prediction, load

__all__ = ["NONE", "Classifier", "Prediction", "PredictError", "load"]
