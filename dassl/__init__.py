"""An engine for training image classifiers, with the interface of Dassl 0.6.3.

Trainers and data sets written for that engine run on this one unchanged. Importing this package, or any part
of it, registers no prompt-learning trainer and no data set: plugin repositories bring their own.
"""
from __future__ import annotations

__version__ = "0.6.3"  # the version of the interface
