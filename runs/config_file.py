"""config.yaml of a run as everybody reads it: whole, or not at all."""
from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from dassl.plain.reading import load_yaml

__all__ = ["CONFIG_NAME", "END", "MODE", "load_config"]

CONFIG_NAME = "config.yaml"
MODE = "# mode: "  # its first line says what kind of run it is
END = "# end"  # its last line: without it, it is not whole


def load_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The tree.  Raises OSError where the file cannot be read, ValueError where it is no YAML, or the end is missing:
    what is lost would silently have its default."""
    text = Path(path).read_text(encoding="utf-8")
    if text.startswith(MODE) and not text.rstrip().endswith(END):
        raise ValueError("its end is missing")
    tree = load_yaml(path)
    if not isinstance(tree, dict):
        raise ValueError("it holds no configuration")
    return tree
