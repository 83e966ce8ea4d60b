"""An engine for training image classifiers, with the interface of Dassl 0.6.3.

Trainers and data sets written for that engine run on this one unchanged. Importing this package, or any part
of it, registers no prompt-learning trainer and no data set: plugin repositories bring their own.

Imported before torch, it makes torch's threads sleep soon while they wait for each other, unless the environment says
otherwise (OMP_WAIT_POLICY, GOMP_SPINCOUNT or KMP_BLOCKTIME). By default they spin for a millisecond or so, and where
another process wants the same cores, each waits for threads that cannot run: a step takes several times its share, at
times seconds. To sleep at once costs a tenth where the machine is quiet. (`python -m benchmarks --subjects neighbour`
measures both.) The setting is read when torch is loaded, so every package and program here imports dassl first.
"""
from __future__ import annotations

import os

if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & os.environ.keys():
    os.environ["GOMP_SPINCOUNT"] = "1000"  # GNU's OpenMP: microseconds
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # others

__version__ = "0.6.3"  # the version of the interface
