"""Command line of the conformance check."""
from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from dassl.plain.console import piped

from .cases import Unsupported, check, is_case
from .compare import Comparison

EXAMPLES = """examples:
  python -m tests.conformance tests/golden
  python -m tests.conformance tests/golden/plot/end_N4_ctx16.npz tests/golden/sinkhorn

Every case prints, for each recorded array, the largest absolute and relative difference (relative to the array's
largest magnitude) and the tolerance.
exit status: 0 all within tolerance, 1 something differs or broke, 2 no case found.
"""


def find_cases(paths: Iterable[str]) -> Iterator[Path]:
    for name in paths:
        path = Path(name)
        if not path.exists():
            raise FileNotFoundError(f"no file or folder {path}")
        yield from [path] if path.is_file() or is_case(path) else sorted(p for p in path.rglob("*") if is_case(p))


def report(case: Path, comparisons: Iterable[Comparison]) -> bool:
    passed, count = True, 0
    for c in comparisons:
        count += 1
        passed &= c.passed
        verdict = "ok  " if c.passed else "FAIL"
        limit = "exact" if c.tolerance == 0 else f"<= {c.tolerance:.0e}"
        print(f"  {verdict} {c.array:34} abs {c.absolute:.2e}  rel {c.relative:.2e}  {limit}  {c.note}")
    return passed and count > 0


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.conformance", description="Compare the project with recorded runs of the originals.",
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="case file, or folder of cases")
    args = parser.parse_args(argv)
    results = {"passed": 0, "failed": 0, "skipped": 0}
    try:
        cases = list(find_cases(args.paths))
    except FileNotFoundError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for case in cases:
        print(case)
        try:
            outcome = "passed" if report(case, check(case)) else "failed"
        except Unsupported as reason:
            outcome = "skipped"
            print(f"  skipped: {reason}")
        except Exception as error:  # a case that breaks is a failed case, and the others still run
            outcome = "failed"
            print(f"  FAIL {type(error).__name__}: {error}")
        results[outcome] += 1
    print(f"{results['passed']} passed, {results['failed']} failed, {results['skipped']} skipped")
    if results["failed"]:
        return 1
    return 0 if results["passed"] else 2


if __name__ == "__main__":
    sys.exit(piped(main))
