"""Plugins as runs know them: remembered by their records, and holding configs of their own.

`dassl.utils.plugins` imports them.  A run remembers its plugins in the config key PLUGINS.  A plugin that is a folder
may also hold `configs/datasets/*.yaml`, `configs/trainers/<Trainer>/*.yaml` and `configs/backbones/*.yaml`, which
sweeps find by name.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dassl.utils.plugins import PluginError, is_loaded, load, loaded

CHECKOUT = Path(__file__).resolve().parents[1]


def load_remembered(config: Mapping[str, Any], source: Path, trusted: Callable[[str], bool]) -> None:
    """Load the plugins that the run at `source` was made with, where its trainer or data set is not known yet.

    Importing runs code, and whoever wrote the run's folder has chosen it.  So what the user has not named must be what
    `trusted` says yes to.

    Parameters
    ----------
    config
        The run's, flat: {"PLUGINS": ("/home/me/mine",), "TRAINER.NAME": "Mine", ...}.
    source
        The run's folder, or an exported file; for messages.
    trusted
        Whether a plugin (file, folder or module) may be imported because the run names it.

    Raises
    ------
    PluginError
        Naming the plugin and the flag with which the user allows it.
    """
    from dassl.data.datasets import DATASET_REGISTRY

    trainer, dataset = config.get("TRAINER.NAME"), config.get("DATASET.NAME")
    if trainer_class(str(trainer)) and (not dataset or dataset in DATASET_REGISTRY.registered_names()):
        return
    for plugin in map(str, config.get("PLUGINS") or ()):
        if is_loaded(plugin):
            continue
        if not trusted(plugin):
            raise PluginError(
                f"{source} was made with the plugin {plugin}, whose code would run here; if it is your own, say "
                f"--plugin {plugin}, or --trust-paths"
            )
        load([plugin])


def config_folders() -> list[Path]:
    """Return the folders called `configs`: the checkout's, and those of the loaded plugins that are folders."""
    own = [Path(plugin, "configs") for plugin in loaded() if os.path.isdir(plugin)]
    return [CHECKOUT / "configs", *filter(Path.is_dir, own)]


def backbone_preset(name: str) -> Path | None:
    """Find configs/backbones/<name>.yaml, what a backbone reads and where its weights are; None for any other name."""
    files = (configs / "backbones" / f"{name}.yaml" for configs in config_folders())
    return next(filter(Path.is_file, files), None)


def configured_trainers() -> list[str]:
    """Return the names of the trainers that have a folder of configs."""
    parts = [configs / "trainers" for configs in config_folders()]
    return sorted(folder.name for part in parts if part.is_dir() for folder in part.iterdir() if folder.is_dir())


def trainer_class(name: str) -> type | None:
    """Return the registered trainer; None for a name that is not known, which building the config will refuse."""
    import trainers  # noqa: F401  (registers ours)
    from dassl.engine import TRAINER_REGISTRY

    return TRAINER_REGISTRY.get(name) if name in TRAINER_REGISTRY.registered_names() else None
