"""Weights and kept image features on this machine: `python -m clip weights|cache ...`; `--help` behind it says more."""
from __future__ import annotations

import sys

from . import cache_command, weights_command

COMMANDS = {"weights": weights_command, "cache": cache_command}


def main(argv: list[str] | None = None) -> int:
    """Run a command line without the program's name; exit status 2 for one that names no command."""
    words = sys.argv[1:] if argv is None else argv
    if words and words[0] in COMMANDS:
        return COMMANDS[words[0]].main(words[1:])
    asked = words[:1] in (["-h"], ["--help"])
    print("\n\n".join(command.build_parser().format_help() for command in COMMANDS.values()),
          file=sys.stdout if asked else sys.stderr)
    return 0 if asked else 2


if __name__ == "__main__":
    sys.exit(main())
