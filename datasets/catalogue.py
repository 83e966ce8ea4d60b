"""Which data sets there are: asked of the registry, so that plugins' data sets are among them. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from dassl.data.datasets import DATASET_REGISTRY

from .base import SplitDataset

OWN = "folder"  # what command lines call pictures of one's own


class UsageError(ValueError):
    """A command line that asks for what there is not."""


def declared() -> list[type[SplitDataset]]:
    """Return every registered data set that declares itself, plugins' included, in the order of tables.

    Data sets of plain `DatasetBase`, as other repositories write them, are not among them.
    """
    kinds = map(DATASET_REGISTRY.get, DATASET_REGISTRY.registered_names())
    return sorted((kind for kind in kinds if issubclass(kind, SplitDataset)), key=lambda kind: kind.order)


def published() -> list[type[SplitDataset]]:
    """Return the data sets that can be checked and fetched, in the order of tables."""
    return [kind for kind in declared() if kind.published]


def find_kind(text: str, among: Sequence[type[SplitDataset]] = ()) -> type[SplitDataset]:
    """Find a data set by any of its names, whatever the case of the letters.

    Parameters
    ----------
    text
        "caltech101" (its config), "Caltech101" (its class), or another name that its folder is known by.
    among
        The data sets to choose from; by default those that are published.

    Raises
    ------
    UsageError
        With the nearest name, where there is no such data set.
    """
    among = among or published()
    known: dict[str, type[SplitDataset]] = {}
    for kind in among:
        aliases = kind.published.aliases if kind.published else ()
        known |= {alias.lower(): kind for alias in (*aliases, kind.dataset_dir) if alias}
    known |= {name.lower(): kind for kind in among for name in (kind.config, kind.__name__)}
    if text.lower() in known:
        return known[text.lower()]
    near = get_close_matches(text.lower(), known, n=1)
    names = {kind: kind.config or kind.__name__ for kind in among}
    hint = f"did you mean {names[known[near[0]]]!r}? " if near else ""
    raise UsageError(f"no data set named {text!r}; {hint}known: {', '.join(names.values())}")
