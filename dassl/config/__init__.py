"""The configuration tree: every key with its default, and merging and checks with errors that help.

The tree is a yacs `CfgNode`, which plugins extend with nodes of their own. It is made in one order, later wins:
`get_cfg_default`, what a program declares, files (`merge_file`), flags, options (`merge_options`), and then frozen.
"""
from __future__ import annotations

from .defaults import clean_cfg, get_cfg_default
from .merge import merge_file, merge_options, split_equals
from .values import ConfigError, check_names, check_values

__all__ = [
    "ConfigError", "check_names", "check_values", "clean_cfg", "get_cfg_default", "merge_file", "merge_options",
    "split_equals",
]  # fmt: skip
