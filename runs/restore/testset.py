"""Look through the test images of a rebuilt run, and find the classes that a user names."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from ..files import ResultsError

T = TypeVar("T")


def labels_of(names: Sequence[str], classnames: Sequence[str]) -> list[int]:
    """Return the labels of class names as a user types them, sorted.

    Case does not matter, nor does _ for a space.  Several classes may have one name; all of them are meant then.

    Raises
    ------
    ResultsError
        With the nearest names, where there is no such class.
    """
    import difflib

    known: dict[str, list[int]] = {}
    for label, name in enumerate(classnames):
        known.setdefault(_plain(name), []).append(label)
    labels: list[int] = []
    for name in names:
        if _plain(name) not in known:
            similar = difflib.get_close_matches(_plain(name), known, n=3, cutoff=0.5)
            shown = ", ".join(f'"{classnames[known[match][0]]}"' for match in similar)
            first = ", ".join(map(str, classnames[:12])) + (", ..." if len(classnames) > 12 else "")
            hint = f"did you mean {shown}? " if similar else ""
            raise ResultsError(f'the run has no class "{name}"; {hint}It has {len(classnames)}: {first}')
        labels += known[_plain(name)]
    return sorted(set(labels))


def _plain(name: str) -> str:
    return " ".join(str(name).replace("_", " ").lower().split())


def evaluated(trainer: Any, split: str) -> Any:
    """Choose the loader that the run's own test of `split` had."""
    return trainer.val_loader if split == "val" and trainer.val_loader is not None else trainer.test_loader


def test_batches(trainer: Any, split: str = "test") -> AbstractContextManager[Iterable[dict[str, Any]]]:
    """Open the batches of a test of `split` exactly as the run's own test had them; see `batches_of`."""
    return batches_of(trainer, evaluated(trainer, split), split)


@contextlib.contextmanager
def batches_of(trainer: Any, loader: Any, about: str) -> Iterator[Iterable[dict[str, Any]]]:
    """Open the batches of a loader as a test has them, under a progress bar.

    "img" holds features where they are kept (trainers/features/cache.py).  Within the context there is no
    gradient, and the prompts are encoded once.

    Parameters
    ----------
    trainer
        Of the run.
    loader
        Gives every image once, in order.
    about
        What the images are, for people.
    """
    import torch
    from tqdm import tqdm

    trainer.set_model_mode("eval")
    batches = iter(trainer.evaluation_batches(about, loader))
    with contextlib.ExitStack() as stack:
        if hasattr(batches, "close"):
            stack.callback(batches.close)
        stack.enter_context(torch.no_grad())
        stack.enter_context(trainer.model.fixed_prompts())
        yield tqdm(batches, f"{about} images", len(loader), disable=None, leave=False)


def look_through_test(trainer: Any, look: Callable[[Any], T]) -> Iterator[tuple[Sequence[int], T]]:
    """Yield, batch by batch of the test, indices into the test images and what `look` made of images or features."""
    with test_batches(trainer) as batches:
        for batch in batches:
            with trainer.autocast():
                result = look(trainer.parse_batch_test(batch)[0])
            yield batch["index"].tolist(), result
