"""A trainer that predicts, rebuilt from what a run left: its folder, or the file that `results export` made of it.

One thing differs from a test.  PLOT's published stop rule looks at a whole batch of images at once, so that the score
of an image would depend on its neighbours (by up to 0.007 in a logit, on the demo's test sets); here every transport
problem stops on its own (TRAINER.PLOT.STOP each), which changed no prediction on these 1,680 images.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dassl.plain.text import error_text
from dassl.utils.logger import quiet

from ..plugins import load_remembered
from .source import REMEDY, PredictError, RunFolder, Source
from .trust import may_run


class Rebuilt(NamedTuple):
    """A trainer with what a run has learned, and what it was rebuilt from."""

    trainer: Any
    source: Source
    classes: list[str]  # by label


def open_source(run: str | Path) -> Source:
    """Find out what `run` is, before anything heavy is imported.

    Raises
    ------
    PredictError
        Where it is neither the folder of a finished run nor an exported file.
    """
    from .exported import ExportedFile

    path = Path(run)
    if path.is_dir():
        return RunFolder.read(path)
    if path.is_file():
        return ExportedFile.read(path)
    raise PredictError(f"{path} {'is neither file nor folder' if path.exists() else 'does not exist'}; {REMEDY}")


def rebuild(source: Source, classes: Sequence[str] | None = None, backbone: str = "", device: str = "") -> Rebuilt:
    """Build the trainer of a run without its data set, and restore what it learned.

    Parameters
    ----------
    source
        What `open_source` returned.
    classes
        Other class names than the run's.
    backbone
        Where the weights are now, if they have moved.
    device
        cpu, cuda or cuda:1; by default the GPU, where there is one.

    Raises
    ------
    PredictError
        For whatever is missing or does not fit.
    """
    from dassl.engine import build_trainer

    from ..execute import choose_device

    names = choose_classes(source, classes)
    load_remembered(source.config, source.path, may_run)
    try:
        choose_device(device)
    except ValueError as error:
        raise PredictError(str(error)) from None
    try:
        with quiet():  # the answer is what belongs on the console
            trainer = build_trainer(config_of(source, backbone, device), names)
            source.restore(trainer)
    except (OSError, ValueError, LookupError, RuntimeError) as error:
        raise PredictError(f"cannot rebuild {source.path}: {error_text(error)}") from error
    return Rebuilt(trainer, source, [str(name) for name in trainer.dm.dataset.classnames])


def choose_classes(source: Source, classes: Sequence[str] | None) -> list[str]:
    """Return `classes`, or else the run's.  Raises PredictError where the run cannot serve them."""
    own = source.classnames()
    if classes is None and own is None:
        raise PredictError(f"{source.path} does not tell its classes; give them with --classes, by label")
    names = list(own if classes is None else classes)  # type: ignore[arg-type]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated and names != list(own or ()):  # data sets may have two classes of one name: ImageNet's do
        raise PredictError(f"class {repeated[0]!r} is given more than once; CLIP cannot tell classes of one name apart")
    if source.class_specific and own is not None and names != list(own):
        raise PredictError(
            f"{source.path} learned something for each of its {len(own)} classes, which serves no others; leave out "
            "the class names, or use a run that has the same prompts for all classes (CSC False)"
        )
    return names


def config_of(source: Source, backbone: str, device: str) -> Any:
    """Make the frozen config to predict with."""
    from dassl.config import get_cfg_default, merge_options
    from dassl.engine import TRAINER_REGISTRY

    from ..config import extend_cfg, set_key

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
