"""A run's trainer, rebuilt from what the run left.

In reading order: `source` is what it is rebuilt from (a run's folder, or a file of `exported`), `trust` says which
files that may name, `rebuilding` is the one way to rebuild, `images` reads pictures as the run's network sees them, and
`testset` goes through its test images.
"""
