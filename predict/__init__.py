"""Use a trained run on images of your own: `python -m predict RUN photos`, or

    from predict import load
    classifier = load("RUN or FILE")
    for prediction in classifier(["a.jpg", "b.png"]):
        print(prediction.path, prediction.top(3))

No data set is needed or read.  source.py says what RUN may be, classifier.py what is done with it; the rest is files.
"""
import dassl  # noqa: F401  (before torch: how its threads wait)
from runs.source import PredictError

from .classifier import Classifier, Prediction, load

__all__ = ["Classifier", "Prediction", "PredictError", "load"]
