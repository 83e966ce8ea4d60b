"""Does the transport matter?  One trained run, tested again under every matching: the same prompts and images.

The images pass once.  Each batch is scored under all settings, through the code of the run's own test, so that the
row of the run's own setting is its recorded result.  What a training under another matching would have learned is
another question: TRAINER.PLOT.MATCHING answers it.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dassl.utils.logger import quiet
from runs.files import ResultsError, to_stderr, write_text
from runs.record import Run, read_run
from runs.restore.source import TRANSPORTS, RunFolder
from runs.restore.testset import test_batches

from ..figures.ablation import ablation_figure
from ..figures.style import drawing, save_figure
from ..numbers.ablation import NAME, SCHEMA, Ablation, Row
from ..tables.ablation import format_ablation
from .rebuilt import RunAtRest

if TYPE_CHECKING:
    from torch import Tensor

    from trainers.plot.transport import Transport

EPSILONS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


def check_settings(epsilons: Sequence[float], matchings: Sequence[str]) -> None:
    """Raise ResultsError for a matching that there is not, and for an epsilon that no matching would use."""
    from trainers.plot.matchings import MATCHINGS

    unknown = [name for name in matchings if name not in MATCHINGS]
    if unknown:
        raise ResultsError(f"no matching {unknown[0]!r}; choose from {', '.join(MATCHINGS)}")
    if epsilons and matchings and "ot" not in matchings:
        raise ResultsError("--eps is for the matching ot, which --matchings leaves out; add it there, or drop --eps")


def choose_settings(own: Transport, epsilons: Sequence[float], matchings: Sequence[str]) -> list[Transport]:
    """List the settings in the table's order, each once: the own one, "ot" under every epsilon, the other matchings."""
    from trainers.plot.matchings import MATCHINGS

    chosen = [own]
    for name in matchings or own.possible_matchings():
        chosen += [replace(own, matching=name, epsilon=eps) for eps in (epsilons if name == "ot" else [own.epsilon])]
    order = list(MATCHINGS)
    return sorted(dict.fromkeys(chosen), key=lambda setting: (order.index(setting.matching), setting.epsilon))


def measure(trainer: Any, settings: Sequence[Transport], split: str) -> tuple[list[Row], int]:
    """Test the split under all settings at once.

    The prompts are encoded once, and every image once, or not at all where its features are kept.

    Parameters
    ----------
    trainer
        Of the run.
    settings
        One of which is the trainer's own.
    split
        "test" or "val".

    Returns
    -------
    rows, images
        In the order of `settings`; and how many images there were.
    """
    import torch

    from trainers.plot.evidence import TransportStatistics

    model = trainer.model
    own = model.transport
    tallies = [TransportStatistics() for _ in settings]
    hits: list[list[Tensor]] = [[torch.zeros(0, dtype=torch.bool)] for _ in settings]
    # images are encoded under a setting that looks at places, if there is one: pooled features come along
    serving = next((setting for setting in settings if not setting.pooled), own)
    with _matched_by(model, serving), test_batches(trainer, split) as batches:
        for batch in batches:
            images, labels = trainer.parse_batch_test(batch)
            features = trainer.encode(images)
            for setting, tally, correct in zip(settings, tallies, hits, strict=True):
                with _matched_by(model, setting), trainer.autocast():
                    output = model.explain(features, keep_plan=False)
                    tally.update(output)
                correct.append((output.logits.argmax(dim=1) == labels).cpu())
    right = [torch.cat(correct) for correct in hits]  # (images,) each
    reference = right[settings.index(own)]
    rows = [
        Row(
            setting.matching,
            setting.epsilon if setting.matching == "ot" else None,
            setting == own,
            int(this.sum()),
            int((reference & ~this).sum()),
            int((this & ~reference).sum()),
            tally.summary() or {},
        )
        for setting, tally, this in zip(settings, tallies, right, strict=True)
    ]
    return rows, len(reference)


@contextlib.contextmanager
def _matched_by(model: Any, transport: Transport) -> Iterator[None]:
    """Let the model match by another transport for a while."""
    before, model.transport = model.transport, transport
    try:
        yield
    finally:
        model.transport = before


def ablate(run: Run, at_rest: RunAtRest, epsilons: Sequence[float], matchings: Sequence[str]) -> Ablation:
    """Rebuild a finished run and test it under all settings.

    Parameters
    ----------
    run
        The record of the run.
    at_rest
        The same run, to be rebuilt.
    epsilons
        Of the transport, besides the run's own.
    matchings
        Names; none: all that there are.

    Raises
    ------
    ResultsError
        For what is missing or unfit.
    """
    trainer = at_rest.rebuild()
    if not getattr(type(trainer), "transports", False):
        raise ResultsError(f"{run.folder} is a run of {run.trainer}, which matches nothing; give a PLOT or PLOTPP run")
    settings = choose_settings(trainer.model.transport, epsilons, matchings)
    try:
        rows, total = measure(trainer, settings, run.split)
    except OSError as error:
        raise ResultsError(f"cannot test {run.folder}: {error}") from error
    if not total:
        raise ResultsError(f"{run.folder}: its {run.split} split holds no image")
    return Ablation(run.folder, run.trainer, run.dataset, run.shots, run.seed, run.split, total, rows)


def show_ablation(
    at_rest: RunAtRest, epsilons: Sequence[float], matchings: Sequence[str], out: Path | None, style: str
) -> Ablation:
    """Print the table of an ablation, and write its record and figure.

    Parameters
    ----------
    at_rest
        The run.
    epsilons, matchings
        As `ablate` takes them; by default EPSILONS, and every matching.
    out
        Folder of ablation.png and ablation.svg; default: that of the run, where ablation.json goes in any case.
    style
        Of the table, one of layout.FORMATS.
    """
    folder = at_rest.folder
    RunFolder.open(folder).require(*TRANSPORTS)
    check_settings(epsilons, matchings)
    run = read_run(folder)
    if not run.complete:
        raise ResultsError(f"{folder}: {run.problem}")
    with quiet(instead=sys.stderr if at_rest.verbose else None):  # stdout is the table's
        ablation = ablate(run, at_rest, epsilons or EPSILONS, matchings)
    sys.stdout.write(format_ablation(ablation, style))
    recorded, right = run.record.get("correct"), ablation.own.correct
    if recorded is not None and recorded != right:
        to_stderr(
            f"warning: under the run's own setting {right} of {ablation.total} images are right here, but "
            f"{recorded} of {run.record.get('total')} in its result.json: data, weights or versions have changed since"
        )
    record = {"schema": SCHEMA, "finished": run.record.get("finished"), **ablation.as_json()}
    written = [write_text(folder / NAME, json.dumps(record, indent=1) + "\n")]
    with drawing():
        figure = ablation_figure(ablation)
        written += [save_figure(figure, (out or folder) / f"ablation.{suffix}") for suffix in ("png", "svg")]
    for path in written:
        to_stderr(f"written: {path}")
    return ablation
