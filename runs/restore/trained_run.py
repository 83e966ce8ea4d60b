"""A trained run, looked at again: is it one, its trainer rebuilt, and its test images passed through it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from dassl.plain.reading import TEXT, Maybe, wrong
from dassl.plain.text import error_text

from ..files import ResultsError
from ..keys import flatten
from ..plugins import load_remembered
from ..record import Declared, declared_in, load_config, read_record
from .trust import UNNEEDED, check_places, may_run, trusting

CONFIG = {"TRAINER": {"NAME": TEXT}, "DATASET": Maybe({"ROOT": Maybe(TEXT)})}  # what is read of a config.yaml here
T = TypeVar("T")


class Settings(NamedTuple):
    """What a run's folder says of its trainer."""

    trainer: str
    node: dict[str, Any]  # TRAINER.<trainer>
    method: Declared


def check_run(run: Path, what: str = "what was learned", needs: str = "") -> Settings:
    """Before anything heavy is imported: is this the folder of a run that was trained to its end?

    needs: a field of `Declared` that must be true of its method; `what` the other methods lack.  Raises ResultsError.
    """
    settings = settings_of(run)
    zero_shot = settings.method.zero_shot
    if not zero_shot:
        require_finished(run)
    if zero_shot or (needs and not getattr(settings.method, needs)):
        raise ResultsError(f"{run} is a run of {settings.trainer}, which has no {what}; give the folder of another run")
    return settings


def check_transport(run: Path) -> Settings:
    """`check_run`, for methods with a transport plan."""
    return check_run(run, "transport plan", "transports")


def settings_of(run: Path) -> Settings:
    """Raises ResultsError where `run` is no run folder."""
    config = read_config(run)
    trainer = str(config["TRAINER"]["NAME"])
    node = config["TRAINER"].get(trainer.upper())
    return Settings(trainer, node if isinstance(node, dict) else {}, declared_in(run))


def read_config(run: Path) -> dict[str, Any]:
    """The tree of the run's config.yaml, which names a trainer.  Raises ResultsError where `run` is no run folder."""
    if not run.is_dir():
        raise ResultsError(
            f"{run} {'is a file, not a folder' if run.exists() else 'does not exist'}; give the folder of one run"
        )
    try:
        config = load_config(run / "config.yaml")
    except FileNotFoundError:
        raise ResultsError(
            f"{run} holds no config.yaml, so it is no run folder; give the folder of one run, the one with "
            f"config.yaml and prompt_learner/{_runs_below(run)}"
        ) from None
    except (OSError, ValueError) as error:
        raise ResultsError(f"{run / 'config.yaml'} cannot be read: {error}") from None
    if bad := wrong(config, CONFIG):
        raise ResultsError(f"{run / 'config.yaml'} has no valid {bad}")
    return config


def _runs_below(folder: Path) -> str:
    runs = sorted(file.parent for file in folder.glob("**/result.json"))
    if not runs:
        return ""
    shown = ", ".join(str(run) for run in runs[:3])
    return f"; below it are {len(runs)}: {shown}{', ...' * (len(runs) > 3)}"


def require_finished(run: Path, trained: bool = True) -> dict[str, Any]:
    """The complete record of a run, one that kept a checkpoint where it was `trained`.  Raises ResultsError."""
    record, problem = read_record(run / "result.json")
    evaluated = record.get("checkpoint") if record.get("mode") == "eval" else None
    if trained and not (Path(evaluated).exists() if evaluated else any(run.glob("*/model*.pth.tar*"))):
        remedy = "nothing was trained there, or not to the end. Give the folder of a finished training run"
        if evaluated:
            remedy = f"it evaluated {evaluated}, which is gone"
        raise ResultsError(f"{run} holds no checkpoint: {remedy}")
    if problem or record.get("complete") is not True:
        raise ResultsError(
            f"{run} is unfinished: {problem or 'result.json is not complete'}. The command that started it finishes it"
        )
    return record


def load_trainer(
    run: str | Path,
    backbone: str = "",
    root: str = "",
    classnames: Sequence[str] | None = None,
    trust_paths: bool = False,
) -> Any:
    """The trainer of a finished run, with its learned prompts, ready for `test` and `explain`.

    Rebuilt from the run's config.yaml and its best or last checkpoint, or the one that it evaluated; `backbone` and
    `root` replace paths that have moved since.  Given `classnames` (those of the run or others), no data set is read:
    it can predict, but not test.  Weights and checkpoint outside of the folder need `trust_paths`: see places.py.
    Raises FileNotFoundError where the folder holds no run, ResultsError where it names such a file.
    """
    from dassl.config import get_cfg_default, merge_file
    from dassl.engine import build_trainer
    from dassl.utils import set_random_seed

    from ..config import extend_cfg, set_key
    from ..record import read_result
    from ..writing import evaluated_checkpoint

    folder = Path(run)
    if not (folder / "config.yaml").exists():
        raise FileNotFoundError(f"{folder} holds no config.yaml: it is not the folder of a run")
    with trusting(trust_paths):
        load_remembered(flatten(read_config(folder)), folder, may_run)
    cfg = get_cfg_default()
    extend_cfg(cfg)
    merge_file(cfg, str(folder / "config.yaml"))
    with trusting(trust_paths):
        check_places(folder, "" if backbone else cfg.MODEL.BACKBONE.NAME, read_result(folder) or {})
    for key in flatten(cfg):
        if key.endswith(UNNEEDED):
            set_key(cfg, key, "")
    for key, value in {"OUTPUT_DIR": str(folder), "MODEL.BACKBONE.NAME": backbone, "DATASET.ROOT": root}.items():
        if value:
            set_key(cfg, key, value)
    cfg.freeze()
    if cfg.SEED >= 0:
        set_random_seed(cfg.SEED)
    trainer = build_trainer(cfg, classnames)
    directory, epoch = evaluated_checkpoint(folder)
    trainer.load_model(directory, epoch=epoch)
    return trainer


def load(
    run: Path, backbone: str = "", root: str = "", verbose: bool = False, classnames: Sequence[str] | None = None
) -> Any:
    """`load_trainer` for a command: prints nothing unless `verbose`.  Raises ResultsError for whatever is wrong."""
    try:
        with quiet(verbose):
            return load_trainer(run, backbone=backbone, root=root, classnames=classnames)
    except (OSError, ValueError, LookupError, RuntimeError, AssertionError) as error:
        raise ResultsError(f"cannot rebuild {run}: {error_text(error)}") from error


def quiet(verbose: bool = False) -> contextlib.AbstractContextManager[Any]:
    """Within it, nothing is printed to stdout unless `verbose`."""
    from dassl.utils import logger

    return logger.quiet(not verbose)


def labels_of(names: Sequence[str], classnames: Sequence[str]) -> list[int]:
    """Class names as typed -> labels; case does not matter, nor _ for a space.  One name may belong to several
    classes.  Raises ResultsError with the nearest names where there is no such class.
    """
    import difflib

    known: dict[str, list[int]] = {}
    for label, name in enumerate(classnames):
        known.setdefault(_plain(name), []).append(label)
    labels: list[int] = []
    for name in names:
        if _plain(name) not in known:
            near = difflib.get_close_matches(_plain(name), known, n=3, cutoff=0.5)
            shown = ", ".join(f'"{classnames[known[one][0]]}"' for one in near)
            first = ", ".join(map(str, classnames[:12])) + (", ..." if len(classnames) > 12 else "")
            hint = f"did you mean {shown}? " if near else ""
            raise ResultsError(f'the run has no class "{name}"; {hint}It has {len(classnames)}: {first}')
        labels += known[_plain(name)]
    return sorted(set(labels))


def _plain(name: str) -> str:
    return " ".join(str(name).replace("_", " ").lower().split())


@contextlib.contextmanager
def test_batches(trainer: Any, split: str = "test") -> Iterator[Iterable[dict[str, Any]]]:
    """The batches of a test of `split` exactly as the run's own test had them, under a progress bar; "img" holds
    features where they are kept.  Within it, there is no gradient and the prompts are encoded once.
    """
    import torch
    from tqdm import tqdm

    trainer.set_model_mode("eval")
    loader = trainer.val_loader if split == "val" and trainer.val_loader is not None else trainer.test_loader
    batches = iter(trainer.evaluation_batches(split, loader))
    with contextlib.ExitStack() as stack:
        if hasattr(batches, "close"):
            stack.callback(batches.close)
        stack.enter_context(torch.no_grad())
        stack.enter_context(trainer.model.fixed_prompts())
        yield tqdm(batches, f"{split} images", len(loader), disable=None, leave=False)


def look_through_test(trainer: Any, look: Callable[[Any], T]) -> Iterator[tuple[Sequence[int], T]]:
    """Batches of the test: (indices into the test images, what `look` made of the batch's images or features)."""
    with test_batches(trainer) as batches:
        for batch in batches:
            with trainer.autocast():
                seen = look(trainer.parse_batch_test(batch)[0])
            yield batch["index"].tolist(), seen
