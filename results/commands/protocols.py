"""The commands that read trees of the published code: the tables of the protocols, and accuracies out of logs.

The four protocols share their arguments and one function; only what they read differs, and whether shots are columns.
"""

from __future__ import annotations

import argparse

from dassl.plain.console import NumberRanges
from runs.files import to_stderr

from ..numbers.protocols.trees import PROTOCOLS
from .command import ALLOW_MISSING, SPREAD, TEXT, Command, argument, command, deliver

READS = {  # what the table of each protocol reads and shows
    "fewshot": "Reads <dataset>/<trainer>/<config>_<shots>shots/... and ZeroshotCLIP/<config>/<dataset>. "
    "A block a data set, and the average over data sets.",
    "base2new": "Reads base2new/train_base and base2new/test_new. Base, new and their harmonic mean: "
    "the average over data sets, and a block a data set.",
    "crossdataset": "Reads imagenet/<trainer>/... and evaluation/<trainer>/.... "
    "A row a data set, and the average of the targets.",
    "domain": "Reads imagenet/<trainer>/... and evaluation/<trainer>/.... "
    "A row a variant of ImageNet, and their average.",
}
HELP = """{title}: table over data sets.

{reads}

Examples
--------
python -m results {name} output
python -m results {name} output --published --format latex --out {name}.tex
python -m results {name} output --datasets protocol --ci95 --format markdown"""
ARGUMENTS = (
    argument("output", metavar="OUTPUT", help="folder with run folders under the original's names"),
    *TEXT,
    *SPREAD,
    argument("--published", action="store_true", help="also show published figures, with their source"),
    argument("--datasets", nargs="+", metavar="NAME",
             help="expect these, by folder name; `protocol`: all that belong to it; default: those that occur"),
    argument("--seeds", nargs="+", action=NumberRanges, metavar="S",
             help="expect these, as in 1 2 or 1-20; default: 1 2 3, and others"),
    ALLOW_MISSING,
)  # fmt: skip
BY_SHOTS = argument("--shots", nargs="+", action=NumberRanges, least=1, metavar="K",
                    help="expect these; default: what occurs")  # fmt: skip


def protocol_table(args: argparse.Namespace) -> int:
    """Print the table of the protocol `args.protocol`."""
    from ..numbers.protocols.grid import arrange
    from ..numbers.protocols.logs import LogOptions
    from ..numbers.protocols.trees import SOURCE, find_results
    from ..tables.protocols import format_grid

    protocol = PROTOCOLS[args.protocol]
    datasets = args.datasets
    if datasets == ["protocol"]:
        datasets = [*([SOURCE] if protocol.transfers else []), *protocol.datasets]
    results = find_results(args.output, protocol)
    grid = arrange(results, protocol, datasets, getattr(args, "shots", None), args.seeds)
    for result in grid.problems:
        to_stderr(f"incomplete: {result.folder}: {result.problem}")
    for result in grid.repeated:
        to_stderr(f"not counted: {result.folder}: another run has its place")
    if grid.missing:
        to_stderr(f"missing: {grid.missing} of {sum(cell.expected for cell in grid.cells.values())} runs")
    options = LogOptions(ci95=args.ci95, sample_std=args.sample_std)
    deliver(format_grid(grid, args.format, options, args.published), args.out)
    return int(bool(grid.missing) and not args.allow_missing)


def _protocol_command(name: str) -> Command:
    protocol = PROTOCOLS[name]
    which = lambda parser: parser.set_defaults(protocol=name)  # noqa: E731
    text = HELP.format(name=name, title=protocol.title, reads=READS[name])
    return command(name, which, *ARGUMENTS, *[BY_SHOTS] * protocol.by_shots, help=text)(protocol_table)


@command(
    "parse",
    argument("folder", metavar="DIR", help="parent of the seed folders"),
    *SPREAD,
    argument("--test-log", action="store_true", help="logs of evaluations, which hold no training"),
    argument("--multi-exp", action="store_true", help="DIR holds experiments, and they the seed folders"),
    argument("--keyword", default="accuracy", metavar="NAME", help="metric; default: accuracy"),
    ALLOW_MISSING,
)
def parse(args: argparse.Namespace) -> int:
    """Mean and spread from log.txt files.

    Reads the logs of any program of this family, in the format of its parse_test_res.py.

    Examples
    --------
    python -m results parse output/caltech101/CoOp/rn50_16shots/nctx16_cscFalse_ctpend
    python -m results parse output/evaluation/CoOp/rn50_16shots/caltech101 --test-log --ci95
    """
    from ..numbers.protocols.logs import LogOptions, parse_directory, parse_experiments

    options = LogOptions(args.keyword, args.test_log, args.ci95, args.sample_std)
    if args.multi_exp:
        missing = any(parsed.missing for parsed in parse_experiments(args.folder, options))
    else:
        missing = bool(parse_directory(args.folder, options).missing)
    return int(missing and not args.allow_missing)


COMMANDS = (*map(_protocol_command, PROTOCOLS), parse)
