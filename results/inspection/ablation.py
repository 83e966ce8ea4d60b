"""Does the transport matter?  One trained run, tested again under every matching: the same prompts and images.

The images pass once.  Each batch is scored under all settings, through the code of the run's own test, so that the
row of the run's own setting is its recorded result.  What a training under another matching would have learned is
another question: TRAINER.PLOT.MATCHING answers it.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dassl.utils.logger import quiet
from runs.files import ResultsError, to_stderr
from runs.record import Run
from runs.restore.source import TRANSPORTS, RunFolder
from runs.restore.testset import test_batches

from ..figures.ablation import ablation_figure
from ..numbers.ablation import NAME, SCHEMA, Ablation, Row
from ..tables.ablation import format_ablation
from .beside import complete_run, leave_beside
from .rebuilt import RunAtRest

if TYPE_CHECKING:
    from torch import Tensor

    from trainers.plot.transport import Transport

Values = Mapping[str, Sequence[float]]  # by the setting that they are values of


def check_settings(values: Values, matchings: Sequence[str]) -> None:
    """Raise ResultsError for an unknown matching, and for values that are not allowed or that none would use."""
    from trainers.plot.matchings import MATCHINGS
    from trainers.plot.transport import Transport

    unknown = [name for name in matchings if name not in MATCHINGS]
    if unknown:
        raise ResultsError(f"no matching {unknown[0]!r}; choose from {', '.join(MATCHINGS)}")
    varied = {matching.strength: name for name, matching in MATCHINGS.items() if matching.strength}
    for setting, tried in values.items():
        if setting not in varied:
            raise ResultsError(f"--try varies no setting {setting!r}; choose from {', '.join(varied)}")
        if matchings and varied[setting] not in matchings:
            raise ResultsError(
                f"{setting} is varied for the matching {varied[setting]}, which --matchings leaves out; add it there, "
                f"or drop the values of {setting}"
            )
        for value in tried:
            changed: dict[str, Any] = {setting: value}
            try:
                Transport(**changed)
            except ValueError as error:
                raise ResultsError(str(error)) from None


def choose_settings(own: Transport, values: Values, matchings: Sequence[str]) -> list[Transport]:
    """List the settings in the table's order, each once: the own one, and every matching under every strength.

    Parameters
    ----------
    own
        Of the run.
    values
        To be tried; of a setting that it lacks, those that its matching declares, and the run's own.
    matchings
        Names; none: all that go together with how the run selects places.

    Raises
    ------
    ResultsError
        For a matching that does not.
    """
    from trainers.plot.matchings import MATCHINGS

    unfit = [name for name in matchings if name not in own.possible_matchings()]
    if unfit:
        raise ResultsError(
            f"places that each prompt selects for itself are no set that {unfit[0]!r} could match; "
            f"choose from {', '.join(own.possible_matchings())}"
        )
    chosen = [own]
    for name in matchings or own.possible_matchings():
        strength, tried = MATCHINGS[name].strength, MATCHINGS[name].tried
        if strength is None:
            chosen.append(replace(own, matching=name))
            continue
        for value in values.get(strength) or (*tried, getattr(own, strength)):
            varied: dict[str, Any] = {strength: value}
            chosen.append(replace(own, matching=name, **varied))
    order = list(MATCHINGS)

    def place(setting: Transport) -> tuple[int, float]:
        return order.index(setting.matching), next(iter(setting.strengths.values()), 0.0)

    return sorted(dict.fromkeys(chosen), key=place)


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
            setting.strengths,
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


def ablate(run: Run, at_rest: RunAtRest, values: Values, matchings: Sequence[str]) -> Ablation:
    """Rebuild a finished run and test it under all settings.

    Parameters
    ----------
    run
        The record of the run.
    at_rest
        The same run, to be rebuilt.
    values, matchings
        As `choose_settings` takes them.

    Raises
    ------
    ResultsError
        For what is missing or unfit.
    """
    trainer = at_rest.rebuild()
    if not getattr(type(trainer), "transports", False):
        raise ResultsError(f"{run.folder} is a run of {run.trainer}, which matches nothing; give a run of PLOT, say")
    settings = choose_settings(trainer.model.transport, values, matchings)
    try:
        rows, total = measure(trainer, settings, run.split)
    except OSError as error:
        raise ResultsError(f"cannot test {run.folder}: {error}") from error
    if not total:
        raise ResultsError(f"{run.folder}: its {run.split} split holds no image")
    return Ablation(run.folder, run.trainer, run.dataset, run.shots, run.seed, run.split, total, rows)


def show_ablation(
    at_rest: RunAtRest, values: Values, matchings: Sequence[str], out: Path | None, style: str
) -> Ablation:
    """Print the table of an ablation, and write its record and figure.

    Parameters
    ----------
    at_rest
        The run.
    values, matchings
        As `ablate` takes them.
    out
        Folder of ablation.png and ablation.svg; default: that of the run, where ablation.json goes in any case.
    style
        Of the table, one of layout.FORMATS.
    """
    folder = at_rest.folder
    RunFolder.open(folder).require(*TRANSPORTS)
    check_settings(values, matchings)
    run = complete_run(folder)
    with quiet(instead=sys.stderr if at_rest.verbose else None):  # stdout is the table's
        ablation = ablate(run, at_rest, values, matchings)
    sys.stdout.write(format_ablation(ablation, style))
    recorded, right = run.record.get("correct"), ablation.own.correct
    if recorded is not None and recorded != right:
        to_stderr(
            f"warning: under the run's own setting {right} of {ablation.total} images are right here, but "
            f"{recorded} of {run.record.get('total')} in its result.json: data, weights or versions have changed since"
        )
    leave_beside(run, NAME, SCHEMA, ablation.as_json(), lambda: ablation_figure(ablation), out)
    return ablation
