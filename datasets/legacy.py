"""Read what upstream pickled, without letting a pickle run anything.

Such a file holds {"train": [Datum, ...], "val": [Datum, ...]}: few-shot picks, or the listing of ImageNet.
Unpickling may create that one class and plain containers; a file that asks for anything else is refused before
anything of it is called.
"""

from __future__ import annotations

import pickle
import warnings
from typing import Any, BinaryIO

Picks = dict[str, list[tuple[str, int, str]]]  # split -> (path, label, class name)


class _Refused(ValueError):
    pass


class _DatumUnpickler(pickle.Unpickler):
    """Its stand-in for `Datum` takes attributes and does nothing; it is a class of its own, for the pickle to spoil."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.datum = type("Datum", (), {})

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("dassl.data.datasets.base_dataset", "Datum"):
            return self.datum
        raise _Refused(f"it asks for {module}.{name}")


def read_datum_pickle(path: str, what: str = "few-shot file") -> Picks | None:
    """Read the items in a pickle of upstream's.

    Parameters
    ----------
    path
        The pickle.
    what
        What kind of file it is, for messages.

    Returns
    -------
    dict or None
        Split -> (path, label, class name) of its items; None, with a warning, when the file is damaged.

    Raises
    ------
    ValueError
        When it holds anything else.
    """
    try:
        with open(path, "rb") as file:
            content = _DatumUnpickler(file).load()
    except _Refused as error:
        raise ValueError(
            f"refused to load {path}: {error}, but a {what} holds image paths and labels only; "
            "delete it (it is made again) unless you know where it comes from"
        ) from error
    except Exception as error:  # a damaged pickle can raise nearly anything
        warnings.warn(f"{path} is damaged and not used ({type(error).__name__}: {error})", stacklevel=2)
        return None
    try:
        return {split: [_as_entry(item) for item in items] for split, items in content.items()}
    except (AttributeError, TypeError) as error:
        raise ValueError(f"{path} is not a {what} ({error}); delete it, it is made again") from error


def _as_entry(item: Any) -> tuple[str, int, str]:
    path, label, name = item._impath, item._label, item._classname
    if not (isinstance(path, str) and isinstance(label, int) and isinstance(name, str)):
        raise TypeError(f"an entry holds {path!r}, {label!r}, {name!r}")
    return path, label, name
