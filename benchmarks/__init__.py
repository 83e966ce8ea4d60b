"""The original algorithm against this one, side by side in one run: `python -m benchmarks --help`.

The modules, from the bottom up:

    sizes              what can be measured and at which sizes; needs no torch
    machine            the processor, and whether other programs keep it busy
    measure            processes, turns, medians: how two sides are compared
    original           the original algorithm in plain code
    original_local     GalLoP and SOT-GLP in plain code
    subjects           a training step and its parts, of either side
    original_trainers  whole programs of the original kind
    programs           a test and a sweep, of either side
    neighbour          threads that spin against threads that sleep, on shared cores
    floor              how near a step comes to the time of its operations alone
    growth             how its cost grows with the sizes

Importing this package imports dassl, and so does every process that is measured: that must happen before torch, for
it sets how torch's threads wait.
"""
import dassl  # noqa: F401
