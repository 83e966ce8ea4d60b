"""When does the transport matter? A controlled study on drawn worlds with knobs (docs/transport.md).

    design.yaml   worlds, methods and what is compared, as data     design.py    from there to runs
    analysis.py   from runs to differences, and what they say       figures.py   map and curves

It stands above everything else: `python -m study --help`.
"""
