"""Tables, curves, heat maps and the report, made from finished runs.

    python -m results table|curve|report|transport|claims|parse ...

Most commands read only the records that runs leave (`result.json`, through `runs.record`) or, for `parse` and the
protocol tables, the logs of other programs of this family.  They need no torch and start at once.  A few rebuild one
run to look inside it; those import torch, and load the run's backbone, when they are called.

The sub-packages are layers.  Each imports only from those above it in this list, and from `runs`:

    numbers      what was measured: cells and averages, protocols, single classes, plans, ablations, feature maps,
                 scores of foreign images
    tables       numbers as text, Markdown, LaTeX or CSV
    figures      numbers as pictures
    inspection   one run is rebuilt and asked: what is matched, which words are near, does the transport matter, does it
                 notice foreign images
    report       everything about a folder of runs on one HTML page
    commands     the command line
"""
import dassl  # noqa: F401  (before torch: how its threads wait)
