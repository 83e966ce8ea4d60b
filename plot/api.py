"""The functions of `import plot`: thin, over the same planner, runs and readers that the commands use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .checkout import find_modules

if TYPE_CHECKING:
    from predict import Classifier, Prediction
    from runs.record import Run
    from runs.restore.names import Named
    from runs.sweeps.planning import Job

Place = str | Path


def train(
    trainer: str = "PLOT",
    dataset: str = "demo",
    config: str = "demo",
    *,
    shots: int = 16,
    seed: int = 1,
    root: Place = "data",
    output: Place = "output",
    options: Mapping[str, Any] | None = None,
    device: str = "auto",
    plugins: Sequence[str] = (),
    verbose: bool = False,
) -> Run:
    """Train one run, or find it complete, and return its record.

    Parameters
    ----------
    trainer
        Registered name, such as PLOT, CoOp or ZeroshotCLIP.
    dataset, config
        Names in configs/datasets and configs/trainers/<trainer>.
    shots
        Training images a class.
    seed
        Of the picks, the order and the start; 0 or more.
    root
        Folder that holds the data sets.
    output
        Parent of all run folders; the run's own has the usual name below it.
    options
        Config keys, {"TRAINER.PLOT.N": 2}.
    device
        cpu, cuda, cuda:1, mps or auto: the GPU where there is one.
    plugins
        Folders, files or modules that register further trainers and data sets.
    verbose
        Whether what the run prints is shown; its log.txt has it in any case.

    Raises
    ------
    ValueError, LookupError, OSError
        For bad settings, before any long work.
    RuntimeError
        Where the run fails.
    """
    return sweep(
        [trainer], [dataset], config, shots=[shots], seeds=[seed], root=root, output=output, options=options,
        device=device, plugins=plugins, verbose=verbose,
    )[0]  # fmt: skip


def sweep(
    trainers: Sequence[str] = (),
    datasets: Sequence[str] = ("demo",),
    config: str = "demo",
    *,
    shots: Sequence[int] = (),
    seeds: Sequence[int] = (),
    root: Place = "data",
    output: Place = "output",
    options: Mapping[str, Any] | None = None,
    device: str = "auto",
    plugins: Sequence[str] = (),
    jobs: int = 1,
    verbose: bool = False,
) -> list[Run]:
    """Make every run of a grid that is not complete; parameters and errors as in `train`.

    Parameters
    ----------
    trainers, shots, seeds
        What the grid is made of; left out, what `python -m results sweep` has by default (ZeroshotCLIP, CoOp and PLOT
        with 1, 4 and 16 images a class and seeds 1 to 3).
    jobs
        Runs at a time, each in a process of its own.
    """
    find_modules()
    from dassl.utils.plugins import use
    from runs.record import read_run
    from runs.sweeps.jobs import make_runs
    from runs.sweeps.planning import grid

    settings = {"USE_DEVICE": device, **(options or {})}
    words = [word for key, value in settings.items() for word in (key, str(value))]
    planned: list[Job] = grid(
        trainers, datasets, config, str(root), output, shots, seeds, words, use(plugins)
    )
    if failed := make_runs(planned, jobs, verbose):
        raise RuntimeError("; ".join(f"{job.name}: {reason}" for job, reason in failed))
    return [read_run(job.folder) for job in planned]


def runs(output: Place = "output") -> list[Named]:
    """List the complete runs below a folder, each with its short name."""
    find_modules()
    from runs.restore.names import list_runs

    return list_runs(output)


def table(output: Place = "output", format: str = "text") -> str:
    """Return the table of accuracies; format: text, markdown, latex or csv."""
    find_modules()
    from results.numbers.summary import summarise
    from results.tables.accuracies import format_table
    from runs.record import find_runs

    return format_table(summarise(find_runs(output)), format)


def report(output: Place = "output", out: Place | None = None, title: str = "Few-shot prompt learning") -> Path:
    """Write the self-contained HTML page about all runs below a folder; default: report.html in it."""
    find_modules()
    from results.numbers.summary import summarise
    from results.report.page import build_report
    from runs.files import write_text
    from runs.record import find_runs

    return write_text(out or Path(output, "report.html"), build_report(summarise(find_runs(output)), output, title))


def load(run: Place | Run, **options: Any) -> Classifier:
    """Load the classifier that a run has learned.

    Parameters
    ----------
    run
        What `train` returned, a folder, a short name ("output:PLOT@16"), an exported file, or one on the Hugging Face
        hub ("hf://me/pets-plot").
    options
        As in `predict.load`: classes, backbone, device, batch_size, trust_paths.
    """
    find_modules()
    from predict import load as load_classifier
    from runs.restore.names import find_run

    return load_classifier(getattr(run, "folder", None) or find_run(str(run)), **options)


def predict(run: Place | Run, images: Place | Iterable[Place], **options: Any) -> list[Prediction]:
    """Classify images (paths or PIL images) with a run; parameters as in `load`."""
    return load(run, **options)(images)
