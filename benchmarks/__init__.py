"""Old against new, side by side in one run: `python -m benchmarks --help`."""
import dassl  # noqa: F401  (before torch: how its threads wait)
