"""A trained run at work: images in, classes with probabilities out.

`load` rebuilds the run (`runs.restore`) and returns a `Classifier`.  It reads images ahead in threads, encodes them
in batches, and hands predictions out as they come.  Where explanations are asked for, they are made from the features
that the prediction was made from: every image is decoded and encoded once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dassl.plain.devices import AUTO
from runs.restore.images import image_reader
from runs.restore.rebuilding import Rebuilt, open_source, rebuild
from runs.restore.source import PredictError
from runs.restore.trust import trusting

from .read_ahead import WORKERS, read_ahead

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from clip.features import ImageFeatures
    from results.numbers.plans import Explained

    Picture = str | Path | Image.Image
    Unreadable = Callable[[Path | None, Exception], None]

BATCH_SIZE = 64
NONE = "none of these"  # the answer for an image whose likeliest class is not likely enough


class Prediction(NamedTuple):
    """What a classifier says about one image; arrays are in the order of `classes`."""

    path: Path | None  # None for an image that was handed in decoded
    classes: Sequence[str]
    probabilities: np.ndarray  # (C,) float64, softmax of the logits; they sum to 1
    logits: np.ndarray  # (C,) float32
    explained: Explained | None = None  # where that was asked for

    def top(self, count: int = 3) -> list[tuple[str, float]]:
        """List the `count` likeliest classes with their probabilities, the likeliest first."""
        return [(self.classes[label], float(self.probabilities[label])) for label in self.ranking[:count]]

    @property
    def ranking(self) -> np.ndarray:
        """Positions of all classes, the likeliest first; of equal ones the first first."""
        return np.argsort(-self.logits, kind="stable")

    @property
    def best(self) -> str:
        """The likeliest class."""
        return self.classes[self.ranking[0]]

    def answer(self, threshold: float | None = None) -> str:
        """Return the likeliest class, or NONE where its probability is below `threshold` (None: never)."""
        return NONE if threshold is not None and self.probabilities.max() < threshold else self.best


class Classifier:
    """What `load` returns.  Its prompts are encoded once, at the first image.

    Parameters
    ----------
    rebuilt
        The trainer of a run, its source and its class names.
    batch_size
        How many images are encoded together.
    """

    def __init__(self, rebuilt: Rebuilt, batch_size: int = BATCH_SIZE) -> None:
        self.trainer, self.source, self.classes = rebuilt
        self.batch_size = batch_size
        self.trainer.set_model_mode("eval")
        self._tensor_of = image_reader(self.trainer.cfg)
        self._open = contextlib.ExitStack()  # as long as this object lives
        if hasattr(getattr(self.trainer, "model", None), "fixed_prompts"):  # a plugin's need not have prompts
            self._open.enter_context(self.trainer.model.fixed_prompts())

    def __call__(self, images: Picture | Iterable[Picture]) -> list[Prediction]:
        """Predict for images, or for one: paths, or PIL images.

        Raises
        ------
        OSError
            For a file that is no image.
        """
        alone = isinstance(images, str | Path) or hasattr(images, "convert")
        return list(self.stream([images] if alone else images))  # type: ignore[list-item, arg-type]

    def stream(
        self, images: Iterable[Picture], unreadable: Unreadable | None = None, explain: bool = False
    ) -> Iterator[Prediction]:
        """Yield predictions in the order of the images, as they come.

        Parameters
        ----------
        images
            May be endless: no more than two batches of them are read ahead, by threads, as training reads them.
        unreadable
            Is handed a file that is no image, with the reason; without it such a file raises OSError.
        explain
            Also say what each prompt was matched with (`Prediction.explained`).

        Raises
        ------
        PredictError
            With `explain`, for a trainer whose features are no places of the image.
        """
        if explain:
            self.source.check_explains()
        readable = self._readable(images, unreadable)
        while batch := list(islice(readable, self.batch_size)):
            yield from self._predict(batch, explain)

    def explain(self, path: str | Path) -> Explained:
        """Say what the transport of a PLOT run did with an image; `results.inspection.transport.save` draws it.

        Raises
        ------
        PredictError
            For a trainer whose features are no places of the image.
        """
        (prediction,) = self.stream([path], explain=True)
        assert prediction.explained is not None
        return prediction.explained

    def _readable(
        self, images: Iterable[Picture], unreadable: Unreadable | None
    ) -> Iterator[tuple[Path | None, torch.Tensor]]:
        """Yield (path, tensor) of the images that can be read."""
        for path, read in read_ahead(images, self._read, self.batch_size + WORKERS):
            if not isinstance(read, Exception):
                yield path, read
            elif unreadable is None:
                raise read
            else:
                unreadable(path, read)

    def _read(self, image: Picture) -> tuple[Path | None, torch.Tensor | Exception]:
        path = Path(image) if isinstance(image, str | Path) else None
        try:
            return path, self._tensor_of(path or image)  # type: ignore[arg-type]
        except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
            return path, error

    def _predict(self, batch: list[tuple[Path | None, torch.Tensor]], explain: bool) -> Iterator[Prediction]:
        """Encode a batch of (path, image (3, H, W)) and yield its predictions."""
        import torch

        images = torch.stack([image for _, image in batch]).to(self.trainer.device)
        with torch.no_grad():
            features: Any = self.trainer.encode(images) if explain else None
            logits = self.trainer.model_inference(features if explain else images).float().cpu()  # (B, C)
        if not logits.isfinite().all():
            raise PredictError(f"{self.source.path} gives NaN or infinite scores; was it trained in another precision?")
        probabilities = logits.double().softmax(dim=1).numpy()
        for row, (path, image) in enumerate(batch):
            explained = self._explain(features, row, image, path) if explain else None
            yield Prediction(path, self.classes, probabilities[row], logits[row].numpy(), explained)

    def _explain(self, features: ImageFeatures, row: int, image: torch.Tensor, path: Path | None) -> Explained:
        """Explain one image of an encoded batch."""
        from results.inspection.transport import explain_encoded

        alone = type(features)(*(kind[row : row + 1] for kind in features))
        return explain_encoded(self.trainer, alone, image, path.name if path else "")


def load(
    run: str | Path,
    classes: Sequence[str] | None = None,
    backbone: str = "",
    device: str = AUTO,
    batch_size: int = BATCH_SIZE,
    trust_paths: bool = False,
) -> Classifier:
    """Load the classifier that a run has learned.

    Parameters
    ----------
    run
        Its folder, a file that `python -m results export` wrote, or hf://USER/REPOSITORY[@REVISION][/FOLDER] that holds
        one.
    classes
        Other class names than the run's.
    backbone
        Where the weights are now, if they have moved.
    device
        cpu, cuda, cuda:1, mps or auto: the GPU where there is one.
    batch_size
        How many images are encoded together.
    trust_paths
        Open also what the run names outside of its folder; see `runs.restore.trust`.

    Raises
    ------
    PredictError
        Before anything is loaded, where that is possible.
    """
    with trusting(trust_paths):
        return Classifier(rebuild(open_source(run), classes, backbone, device), batch_size)
