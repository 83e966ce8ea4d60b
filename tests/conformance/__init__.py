"""Runs the project on recorded cases of the original programs and compares: `python -m tests.conformance PATH ...`."""
