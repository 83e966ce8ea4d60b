"""Merge files and command-line options into a configuration, with yacs's rules and more helpful errors.

The rules: a key must exist; a string is read as a Python literal when it is one ("(224, 224)", "1e-5",
"False"); the new value must have the old one's type, except that lists and tuples become each other. Beyond yacs, a
whole number will do for a number with a decimal point, and a command line may have KEY=VALUE. Nothing is merged when
anything is wrong.
"""
from __future__ import annotations

import difflib
import os
import re
from ast import literal_eval
from collections.abc import Iterator, Sequence
from typing import Any

import yaml
from yacs.config import CfgNode as CN

from dassl.utils.tools import StrPath, path_hint

from .values import NUMBERS, ConfigError

__all__ = ["ConfigError", "merge_file", "merge_options", "split_equals"]


def merge_options(cfg: CN, opts: Sequence[Any], source: str = "the command line") -> set[str]:
    """Merge options into a configuration, in place; later ones win.

    Parameters
    ----------
    cfg : CfgNode
        The whole tree, not frozen.
    opts : sequence
        [key, value, "key=value", key, value, ...], keys dotted.
    source : str
        What messages call the place that the options come from.

    Returns
    -------
    set of str
        The dotted keys that were set.

    Raises
    ------
    ConfigError
        For an unknown key, a value of the wrong type, or a key without a value; then nothing is merged.
    """
    opts = split_equals(opts)
    pairs = list(zip(opts[0::2], opts[1::2], strict=False))
    flag = next((str(key) for key, _ in pairs if str(key).startswith("-")), None)
    if flag is None and len(opts) % 2 and str(opts[-1]).startswith("-"):
        flag = str(opts[-1])
    if flag is not None:
        raise ConfigError(f"{flag} on {source} comes after a KEY VALUE pair; flags go before the first pair")
    if len(opts) % 2:
        raise ConfigError(f"{opts[-1]!r}, the last option on {source}, has no value; write KEY VALUE pairs")
    return _merge(cfg, ((str(key), value, f"on {source}") for key, value in pairs))


def split_equals(opts: Sequence[Any]) -> list[Any]:
    """Return [key, value, key, value, ...] of options in which "key=value" may stand for two words."""
    words: list[Any] = []
    for word in opts:
        pair = None
        if len(words) % 2 == 0 and isinstance(word, str):
            pair = re.fullmatch(r"([A-Za-z_][\w.]*)=(.*)", word, re.DOTALL)
        words += pair.groups() if pair else [word]
    return words


def merge_file(cfg: CN, path: StrPath) -> set[str]:
    """Merge a YAML file into a configuration, in place.

    Parameters
    ----------
    cfg : CfgNode
        The whole tree, not frozen.
    path : path
        The file.

    Returns
    -------
    set of str
        The dotted keys that it sets.

    Raises
    ------
    FileNotFoundError
        With a similar name, where there is one.
    ConfigError
        Naming the file and the line; then nothing is merged.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"no configuration file {path}{path_hint(path)}")
    try:
        with open(path, encoding="utf-8") as file:
            tree = yaml.compose(file, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    if tree is None:  # an empty file
        return set()
    if not isinstance(tree, yaml.MappingNode):
        found = "a list" if isinstance(tree, yaml.SequenceNode) else "a single value"
        raise ConfigError(f"{path} must hold KEY: value lines, found {found}")
    return _merge(cfg, _leaves(tree, "", path))


def _leaves(node: yaml.MappingNode, prefix: str, path: str) -> Iterator[tuple[str, Any, str]]:
    """Give (dotted key, value, place) of every leaf; a section without entries has none.

    The tree of nodes, and not the finished dict, is walked: nodes know the lines that they stand in.
    """
    yaml.SafeLoader("").flatten_mapping(node)  # resolves "<<: *anchor"
    for key_node, value_node in node.value:
        key = f"{prefix}{key_node.value}"
        place = f"in {path}, line {key_node.start_mark.line + 1}"
        if isinstance(value_node, yaml.MappingNode):
            yield from _leaves(value_node, f"{key}.", path)
        else:
            loader = yaml.SafeLoader("")
            try:
                value = loader.construct_object(value_node, deep=True)
            except yaml.YAMLError as error:
                raise ConfigError(f"{key} {place}: {error}") from error
            finally:
                loader.dispose()
            yield key, value, place


def _merge(cfg: CN, entries: Iterator[tuple[str, Any, str]]) -> set[str]:
    """Merge (key, value, place) one after the other into a copy of `cfg`, and where all fit, into `cfg` itself."""
    if cfg.is_frozen():
        raise ConfigError("the configuration is frozen; merge before freeze(), or call defrost() first")
    trial = cfg.clone()
    settings: list[Any] = []
    for key, value, place in entries:
        old = _look_up(trial, key, place)
        value = _value(value)
        if type(old) is float and type(value) is int and abs(value) < 1e300:
            value = float(value)
        if isinstance(old, CN):
            if value is None:  # "TRAIN:" with nothing below it
                continue
            raise ConfigError(f"{key} {place} is a section, not a value; its keys: {', '.join(sorted(old))}")
        if value is None and old is not None:
            raise ConfigError(f"{key} {place} has no value; it needs {_wanted(old)}, such as {old!r}")
        try:
            trial.merge_from_list([key, value if not isinstance(value, str) else repr(value)])
        except ValueError:
            raise ConfigError(
                f"{key} {place} got {value!r} ({_kind(value)}) but needs {_wanted(old)}{_remedy(key, value, old)}"
            ) from None
        settings += [key, value if not isinstance(value, str) else repr(value)]  # yacs reads strings as literals again
    cfg.merge_from_list(settings)
    return set(settings[0::2])


def _value(raw: Any) -> Any:
    """Read a string as the Python literal that it spells, if it does; return anything else as it is."""
    if not isinstance(raw, str):
        return raw
    try:
        return literal_eval(raw)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return raw


def _look_up(cfg: CN, key: str, place: str) -> Any:
    """Return what is at a dotted key; ConfigError, with the nearest key, where there is none."""
    node: Any = cfg
    for part in key.split("."):
        if not isinstance(node, CN) or part not in node:
            raise ConfigError(f"there is no key {key} ({place}){_nearest(cfg, key)}")
        node = node[part]
    return node


def _nearest(cfg: CN, key: str) -> str:
    """Return the end of a message about an unknown key: the key that was probably meant."""
    known = list(_known_keys(cfg))
    by_case = {k.lower(): k for k in known}
    near = by_case.get(key.lower())
    if near is None:  # the right last part below another section counts for more than similar letters
        same_name = [k for k in known if k.split(".")[-1] == key.split(".")[-1].upper()]
        candidates = difflib.get_close_matches(key, same_name, n=1, cutoff=0.0) if same_name else []
        candidates += difflib.get_close_matches(key.upper(), known, n=1, cutoff=0.4)
        near = max(candidates, key=lambda k: difflib.SequenceMatcher(None, key, k).ratio(), default=None)
    return f"; did you mean {near}?" if near else ""


def _known_keys(node: CN, prefix: str = "") -> Iterator[str]:
    for name, child in node.items():
        yield prefix + name
        if isinstance(child, CN):
            yield from _known_keys(child, f"{prefix}{name}.")


_KINDS = {bool: "True or False", int: "a whole number", float: "a number", str: "text",
          tuple: "a tuple", list: "a list"}


def _kind(value: Any) -> str:
    return type(value).__name__


def _wanted(old: Any) -> str:
    kind = type(old)
    return f"{_KINDS[kind]} ({kind.__name__})" if kind in _KINDS else kind.__name__


def _remedy(key: str, value: Any, old: Any) -> str:
    """Return the end of a message about a value of the wrong type: what to write instead."""
    meant = _meant(value, old)
    if meant is None:
        return f", such as {old!r}" if isinstance(old, (tuple, list)) and old else ""
    if isinstance(old, str):
        return f"; quote it twice: \"{meant!r}\""
    if key in NUMBERS and not NUMBERS[key].holds(meant):  # no advice that would be refused
        return f"; it must be {NUMBERS[key].allowed}"
    return f"; write {meant!r}"


def _meant(value: Any, old: Any) -> Any:
    """Return what of the right type was probably meant; None where that is not clear."""
    if isinstance(old, bool):
        word = str(value).lower()
        known = word in ("true", "false", "0", "1", "yes", "no", "on", "off")
        return word in ("true", "1", "yes", "on") if known else None
    if isinstance(old, int) and isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(old, (tuple, list)) and len(old) < 2 and isinstance(value, (int, float, str)):
        return type(old)([value])
    return str(value) if isinstance(old, str) else None
