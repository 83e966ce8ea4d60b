"""Trainers and data sets from outside: Python that registers them, imported by path or by name.

A plugin is a Python file, a folder, or the name of an importable module.  Loading it imports it, and what it registers
(TRAINER_REGISTRY, DATASET_REGISTRY) is then known by name.  Plugins are named with `--plugin` (repeatable) or in the
environment variable PLOT_PLUGINS (separated as in PATH).
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

__all__ = ["PluginError", "add_plugin_flag", "is_loaded", "load", "loaded", "use"]

VARIABLE = "PLOT_PLUGINS"
_loaded: dict[str, str] = {}  # real path or module name -> what it was called by


class PluginError(ValueError):
    """A plugin cannot be loaded."""


def add_plugin_flag(parser: argparse.ArgumentParser) -> None:
    """Declare --plugin."""
    parser.add_argument(
        "--plugin", action="append", default=[], dest="plugins", metavar="FOLDER|FILE|MODULE",
        help=f"also know the trainers and data sets that this registers; repeatable, or {VARIABLE} in the environment",
    )  # fmt: skip


def use(flags: Iterable[str] = ()) -> list[str]:
    """Load the plugins of a command line and of the environment.

    Parameters
    ----------
    flags
        Paths or names of modules; `~` is the home folder, also where no shell has replaced it.

    Returns
    -------
    list of str
        All of them, each once, paths made absolute: what a run's record keeps.

    Raises
    ------
    PluginError
        Where one is not there, has the name of another module, or fails while it is imported.
    """
    words = [*flags, *filter(None, os.environ.get(VARIABLE, "").split(os.pathsep))]
    paths = map(os.path.expanduser, words)
    plugins = list(dict.fromkeys(os.path.abspath(path) if os.path.exists(path) else path for path in paths))
    load(plugins)
    return plugins


def load(plugins: Iterable[str]) -> None:
    """Import the plugins that this process has not imported yet; PluginError as in `use`."""
    for plugin in plugins:
        if not is_loaded(plugin):
            _import(plugin)
            _loaded[_key(plugin)] = plugin


def is_loaded(plugin: str) -> bool:
    """Whether this process has imported a plugin, by whatever path."""
    return _key(plugin) in _loaded


def _key(plugin: str) -> str:
    return os.path.realpath(plugin) if os.path.exists(plugin) else plugin


def loaded() -> list[str]:
    """Return the plugins that this process has imported, in order."""
    return list(_loaded.values())


def _import(plugin: str) -> None:
    path = Path(plugin)
    try:
        if path.is_file():
            _import_file(path)
        elif (path / "__init__.py").is_file():
            _import_file(path / "__init__.py", path)
        elif path.is_dir():
            files = sorted(path.glob("*.py"))
            if not files:
                raise PluginError(f"the plugin {plugin} holds no Python file; give the folder or file that registers")
            if str(path.resolve()) not in sys.path:  # its files may import each other
                sys.path.append(str(path.resolve()))
            for file in files:
                _import_file(file)
        else:
            importlib.import_module(plugin)
    except PluginError:
        raise
    except ModuleNotFoundError as error:
        if error.name == plugin.partition(".")[0]:
            raise PluginError(f"there is no plugin {plugin}: neither a file, nor a folder, nor a module") from error
        raise PluginError(f"the plugin {plugin} cannot be imported: {error}") from error
    except Exception as error:
        raise PluginError(f"the plugin {plugin} cannot be imported: {type(error).__name__}: {error}") from error


def _import_file(file: Path, package: Path | None = None) -> ModuleType:
    """Import a file under its own name, or a package under its folder's, so that processes find its classes again."""
    name = (package or file.with_suffix("")).resolve().name
    there = sys.modules.get(name)
    if there is not None:
        if os.path.realpath(getattr(there, "__file__", "") or "") == os.path.realpath(file):
            return there
        raise PluginError(f"the plugin {file} has the name of a module that is loaded already, {name}; rename it")
    search = [str(package.resolve())] if package else None
    spec = importlib.util.spec_from_file_location(name, file.resolve(), submodule_search_locations=search)
    if spec is None or spec.loader is None:
        raise PluginError(f"{file} is no Python file")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
