"""The configuration tree: every key with its default, and merging with errors that help."""
from __future__ import annotations

from .defaults import clean_cfg, get_cfg_default
from .merge import ConfigError, merge_file, merge_options

__all__ = ["ConfigError", "clean_cfg", "get_cfg_default", "merge_file", "merge_options"]
