"""Rebuild the trainer of a run from what it left: its folder, or the file that `results export` made of it.

There is one way to do so, `rebuild`.  It makes the trainer as the run's own test had it (for figures that look into a
run), or to predict with.  To predict, two things differ from a test:

- PLOT's published stop rule looks at a whole batch of images at once, so that the score of an image would depend on its
  neighbours (by up to 0.007 in a logit, on the demo's test sets); there every transport problem stops on its own
  (TRAINER.PLOT.STOP each), which changed no prediction on these 1,680 images.
- A test on a published data set reads its files as they are stored, as the published results do.  What is predicted are
  a person's pictures: they are read as a person sees them, upright and without what lies under transparent pixels.
  A run on own pictures has read those by keys that it has recorded, and reads others likewise.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dassl.plain.devices import AUTO, choose_device, set_device_keys
from dassl.plain.text import error_text
from dassl.utils.logger import quiet

from ..plugins import load_remembered, trainer_class
from .hub import fetch_export, is_on_hub
from .source import REMEDY, PredictError, RunFolder, Source, kept_settings
from .trust import may_run, trusting


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
        Where it is neither the folder of a finished run nor an exported file, here or on the hub (hf://USER/REPOSITORY).
    """
    from .exported import ExportedFile

    path = fetch_export(run) if isinstance(run, str) and is_on_hub(run) else Path(run)
    if path.is_dir():
        return RunFolder.open(path).require_finished()
    if path.is_file():
        return ExportedFile.read(path)
    raise PredictError(f"{path} {'is neither file nor folder' if path.exists() else 'does not exist'}; {REMEDY}")


def rebuild(
    source: Source,
    classes: Sequence[str] | None = None,
    backbone: str = "",
    device: str = AUTO,
    root: str = "",
    as_tested: bool = False,
    verbose: bool = False,
) -> Rebuilt:
    """Build the trainer of a run and restore what it learned.

    Parameters
    ----------
    source
        What `open_source` returned.
    classes
        Other class names than the run's; no data set is read then.
    backbone
        Where the weights are now, if they have moved.
    device
        As of --device (dassl/plain/devices.py), whatever the run was made on.
    root
        Where the data sets are now, if they have moved.
    as_tested
        With the whole config of the run, its seed and, unless `classes` are given, its data set.  Otherwise with what
        predictions need, and no data set.
    verbose
        Print what building prints.

    Raises
    ------
    PredictError
        For whatever is missing or does not fit.
    """
    from dassl.engine import build_trainer
    from dassl.utils import set_random_seed

    source.check_places(backbone)
    names = classes if as_tested else choose_classes(source, classes)
    load_remembered(source.config, source.path, may_run)
    try:
        choose_device(device)
    except ValueError as error:
        raise PredictError(str(error)) from None
    try:
        with quiet(not verbose):  # the answer is what belongs on the console
            cfg = _config_of(source, backbone, device, root, as_tested)
            if as_tested and cfg.SEED >= 0:
                set_random_seed(cfg.SEED)
            trainer = build_trainer(cfg, names)
            source.restore(trainer)
    except (OSError, ValueError, LookupError, RuntimeError, AssertionError) as error:
        raise PredictError(f"cannot rebuild {source.path}: {error_text(error)}") from error
    return Rebuilt(trainer, source, list(map(str, trainer.dm.dataset.classnames)))


def load_trainer(
    run: str | Path,
    backbone: str = "",
    root: str = "",
    classnames: Sequence[str] | None = None,
    trust_paths: bool = False,
    verbose: bool = True,
    device: str = AUTO,
) -> Any:
    """Return the trainer of a run as its own test had it, ready for `test` and `explain`.

    Parameters are those of `rebuild`; `trust_paths` lets it open also what the run names outside of its folder.  Its
    checkpoint is the best or the last one, or the one that it evaluated.

    Raises
    ------
    ResultsError
        Where the folder holds no run, names a file that may not be opened, or lacks something.
    """
    with trusting(trust_paths):
        return rebuild(
            RunFolder.open(Path(run)), classnames, backbone, device, root, as_tested=True, verbose=verbose
        ).trainer


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


def _config_of(source: Source, backbone: str, device: str, root: str, as_tested: bool) -> Any:
    """Return the frozen config to rebuild with; parameters as in `rebuild`."""
    from dassl.config import get_cfg_default, merge_options

    from ..config import extend_cfg, set_key

    cfg = get_cfg_default()
    extend_cfg(cfg)
    settings = source.config if as_tested else kept_settings(source.config)
    merge_options(cfg, [word for pair in settings.items() for word in pair], str(source.path))
    changes: dict[str, Any] = {"MODEL.BACKBONE.NAME": backbone, "DATASET.ROOT": root}
    set_device_keys(cfg, device)
    if as_tested:
        changes["OUTPUT_DIR"] = str(source.path)
    else:
        if not of_own_pictures(cfg.DATASET.NAME):
            changes |= {"INPUT.EXIF_ORIENTATION": True, "INPUT.ALPHA": cfg.INPUT.ALPHA or "white"}
        options = getattr(trainer_class(source.trainer), "options_type", None)
        if options is not None and cfg.TRAINER[options.node].get("STOP") == "batch":
            changes[f"TRAINER.{options.node}.STOP"] = "each"
    for key, value in changes.items():
        if value:
            set_key(cfg, key, value)
    cfg.freeze()
    return cfg


def of_own_pictures(dataset: str) -> bool:
    """Tell whether a data set (its name) is the user's own pictures; one that is not registered here is a plugin's."""
    import datasets  # noqa: F401  (registers ours)
    from dassl.data.datasets import DATASET_REGISTRY

    known = dataset in DATASET_REGISTRY.registered_names()
    return known and getattr(DATASET_REGISTRY.get(dataset), "own_pictures", False)
