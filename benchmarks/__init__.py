"""Old against new, side by side in one run: `python -m benchmarks --help`."""
