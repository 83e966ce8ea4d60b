"""Tables, curves, heat maps and the report, made from run records.

    python -m results table|curve|report|transport|claims|parse ...

Reads `result.json` of finished runs (and `log.txt` of foreign ones, command `parse`); only `transport`
and `claims` load a model.
"""
import dassl  # noqa: F401  (before torch: how its threads wait)
