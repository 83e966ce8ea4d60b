"""A trained run at work: images in, classes with probabilities out.

One thing differs from a test.  PLOT's published stop rule looks at a whole batch of images at once, so that the score
of an image would depend on its neighbours (by up to 0.007 in a logit, on the demo's test sets); here every transport
problem stops on its own (TRAINER.PLOT.STOP each), which changed no prediction on these 1,680 images.
"""
from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dassl.plain.text import error_text
from runs.source import REMEDY, PredictError, RunFolder, Source
from runs.trust import trusting

from .read_ahead import WORKERS, read_ahead

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from results.looking.heatmaps import Explained

    Picture = str | Path | Image.Image
    Unreadable = Callable[[Path | None, Exception], None]

BATCH_SIZE = 64


class Prediction(NamedTuple):
    """What a classifier says about one image; arrays are in the order of `classes`."""

    path: Path | None  # None for an image that was handed in decoded
    classes: Sequence[str]
    probabilities: np.ndarray  # (C,) float64, softmax of the logits; they sum to 1
    logits: np.ndarray  # (C,) float32

    def top(self, count: int = 3) -> list[tuple[str, float]]:
        """The `count` likeliest classes with their probabilities, the likeliest first."""
        return [(self.classes[label], float(self.probabilities[label])) for label in self.ranking[:count]]

    @property
    def ranking(self) -> np.ndarray:
        """Positions of all classes, the likeliest first; of equal ones the first first."""
        return np.argsort(-self.logits, kind="stable")

    @property
    def best(self) -> str:
        """The likeliest class."""
        return self.classes[self.ranking[0]]


class Classifier:
    """What `load` returns.  Its prompts are encoded once, at the first image."""

    def __init__(self, trainer: Any, source: Source, batch_size: int = BATCH_SIZE) -> None:
        from results.looking.transport import image_reader

        self.trainer = trainer
        self.source = source
        self.batch_size = batch_size
        self.classes: list[str] = list(trainer.dm.dataset.classnames)
        trainer.set_model_mode("eval")
        self._tensor_of = image_reader(trainer.cfg)
        self._held = contextlib.ExitStack()  # open as long as this object lives
        if hasattr(trainer, "model"):
            self._held.enter_context(trainer.model.fixed_prompts())

    def __call__(self, images: Picture | Iterable[Picture]) -> list[Prediction]:
        """Predictions for images, or for one: paths, or PIL images.  Raises OSError for a file that is no image."""
        alone = isinstance(images, str | Path) or hasattr(images, "convert")
        return list(self.stream([images] if alone else images))  # type: ignore[list-item, arg-type]

    def stream(self, images: Iterable[Picture], unreadable: Unreadable | None = None) -> Iterator[Prediction]:
        """Predictions in the order of the images, as they come.

        `images` may be endless: no more than two batches of them are read ahead, by threads, as training reads them.
        A file that is no image goes to `unreadable`, with the reason, or raises OSError.
        """
        readable = self._readable(images, unreadable)
        while batch := list(islice(readable, self.batch_size)):
            logits = self._logits([tensor for _, tensor in batch])
            probabilities = logits.double().softmax(dim=1)
            arrays = zip(probabilities.numpy(), logits.numpy(), strict=True)
            for (path, _), (of_classes, own) in zip(batch, arrays, strict=True):
                yield Prediction(path, self.classes, of_classes, own)

    def explain(self, path: str | Path) -> Explained:
        """What the transport of a PLOT run did with an image, to be drawn by `results.transport.save`.

        Raises PredictError for a trainer whose features are no places of the image.
        """
        from results.looking.transport import explain

        self.source.check_explains()
        (explained,) = explain(self.trainer, [(Path(path), None)])
        return explained

    def _readable(
        self, images: Iterable[Picture], unreadable: Unreadable | None
    ) -> Iterator[tuple[Path | None, torch.Tensor]]:
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

    def _logits(self, tensors: list[torch.Tensor]) -> torch.Tensor:
        import torch

        with torch.no_grad():
            logits = self.trainer.model_inference(torch.stack(tensors).to(self.trainer.device)).float().cpu()
        if not logits.isfinite().all():
            raise PredictError(f"{self.source.path} gives NaN or infinite scores; was it trained in another precision?")
        return logits


# --- from a source to a classifier -----------------------------------------------------------------------


def load(
    run: str | Path,
    classes: Sequence[str] | None = None,
    backbone: str = "",
    device: str = "",
    batch_size: int = BATCH_SIZE,
    trust_paths: bool = False,
) -> Classifier:
    """The classifier that a run has learned: `run` is its folder, or a file that `export` wrote.

    classes: other class names than the run's.  backbone: where the weights are now, if they have moved.
    device: cpu, cuda or cuda:1; by default the GPU, where there is one.  trust_paths: open also what the run names
    outside of its folder; see results.places.
    Raises PredictError, before anything is loaded where that is possible.
    """
    with trusting(trust_paths):
        source = open_source(run)
        source.check_places(backbone)
        return build(source, classes, backbone, device, batch_size)


def open_source(run: str | Path) -> Source:
    """Raises PredictError where `run` is neither."""
    from runs.exported import ExportedFile

    path = Path(run)
    if path.is_dir():
        return RunFolder.read(path)
    if path.is_file():
        return ExportedFile.read(path)
    raise PredictError(f"{path} {'is neither file nor folder' if path.exists() else 'does not exist'}; {REMEDY}")


def build(
    source: Source, classes: Sequence[str] | None, backbone: str = "", device: str = "", batch_size: int = BATCH_SIZE
) -> Classifier:
    """The classifier at `source`; arguments as in `load`."""
    from dassl.engine import build_trainer
    from runs.execute import choose_device

    names = choose_classes(source, classes)
    try:
        choose_device(device)
    except ValueError as error:
        raise PredictError(str(error)) from None
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # the answer is what belongs on the console
            trainer = build_trainer(config_of(source, backbone, device), names)
            source.restore(trainer)
    except (OSError, ValueError, LookupError, RuntimeError) as error:
        raise PredictError(f"cannot rebuild {source.path}: {error_text(error)}") from error
    return Classifier(trainer, source, batch_size)


def choose_classes(source: Source, classes: Sequence[str] | None) -> list[str]:
    """`classes`, or else the run's.  Raises PredictError where they do not do."""
    own = source.classnames()
    if classes is None and own is None:
        raise PredictError(f"{source.path} does not tell its classes; give them with --classes, by label")
    names = list(own if classes is None else classes)  # type: ignore[arg-type]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated and names != list(own or ()):  # data sets may have two classes of one name: ImageNet's do
        raise PredictError(f"class {repeated[0]!r} is given more than once; CLIP cannot tell classes of one name apart")
    if source.class_specific and own is not None and names != list(own):
        raise PredictError(
            f"{source.path} learned a context for each of its {len(own)} classes (CSC True), which serves no others; "
            "leave out the class names, or use a run with CSC False"
        )
    return names


def config_of(source: Source, backbone: str, device: str) -> Any:
    """The frozen config to predict with."""
    from dassl.config import get_cfg_default, merge_options
    from dassl.engine import TRAINER_REGISTRY
    from runs.config import extend_cfg, set_key

    cfg = get_cfg_default()
    extend_cfg(cfg)
    merge_options(cfg, [word for pair in source.config.items() for word in pair], str(source.path))
    set_key(cfg, "USE_CUDA", device != "cpu")
    if backbone:
        set_key(cfg, "MODEL.BACKBONE.NAME", backbone)
    if source.trainer in TRAINER_REGISTRY.registered_names():
        options = getattr(TRAINER_REGISTRY.get(source.trainer), "options_type", None)
        if options is not None and cfg.TRAINER[options.node].get("STOP") == "batch":
            set_key(cfg, f"TRAINER.{options.node}.STOP", "each")
    cfg.freeze()
    return cfg
