"""What stands behind an accuracy: how it was chosen, how often the test images were looked at, and what it began with.

Two numbers can be compared only where these agree, so every table has a footnote that says what is the same everywhere
and names the exceptions, and the CSV has a column for each.  All of it is read off the records of the runs.  Records of
before `looks` and `templates` were written say less; what follows from their settings is derived, the rest is unknown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from dassl.plain.console import ranges_text
from runs.methods import class_sample, group, mark
from runs.record import Run

UNKNOWN = "unknown"
MOST_EXCEPTIONS = 3  # that a footnote names
COLUMNS = ("selection", "test_looks", "template")  # of the CSV, in the order of `Standing`


class Standing(NamedTuple):
    """The facts of one run in words; "" where a fact does not apply, UNKNOWN where the record does not tell.

    Attributes
    ----------
    selection
        What the tested weights and settings were chosen by: "last epoch", "best epoch on val", ...
    test_looks
        How many times the test images were evaluated in the course of the run.
    template
        Sentences for the classes that people wrote, in quotes, or how many of them there are.
    """

    selection: str
    test_looks: str
    template: str


def standing(run: Run) -> Standing:
    """Tell what stands behind the accuracy of a complete run."""
    return Standing(_selection(run), _test_looks(run), _template(run))


def _selection(run: Run) -> str:
    """Name the rule by which epoch and settings were chosen; methods that learn nothing choose nothing."""
    record = run.record
    chosen = record.get("selection") or {}  # of the adapters
    best_val = run.config.get("TEST.FINAL_MODEL") == "best_val"
    rules = []
    if by := chosen.get("epoch_by"):
        rules.append("last epoch" if by == "last" else f"best epoch on {by}")
    elif not run.trained or chosen:
        pass
    elif record.get("mode") == "eval":
        rules.append("epoch of a given checkpoint")
    elif best_val:
        rules.append(f"best epoch on {'test' if _validated_on_test(run) else 'val'}")
    elif record.get("epochs"):
        rules.append("last epoch")
    if chosen.get("from") == "search":
        rules.append(f"settings searched on {chosen.get('on', UNKNOWN)}")
    return ", ".join(rules)


def _validated_on_test(run: Run) -> bool:
    """Whether the validation images of a run were test images, as on ImageNet: the engine counts, or warned of it."""
    if looks := run.record.get("looks"):
        return "val" not in looks
    return any("best_val chooses the epoch on images" in warning for warning in run.record.get("warnings") or ())


def _test_looks(run: Run) -> str:
    """Count the evaluations of the test images.

    Older records do not count: their runs tested once, unless something was chosen on the test images, or a plugin's
    code decided.
    """
    if looks := run.record.get("looks"):
        return str(looks.get("test", 0))
    derivable = "looks" not in run.record and not run.config.get("PLUGINS") and run.split == "test"
    return "1" if derivable and "on test" not in _selection(run) else UNKNOWN


def _template(run: Run) -> str:
    """Show the hand-written sentences; methods that learn their context have none."""
    templates = run.record.get("templates")
    if templates:
        return f'"{templates[0]}"' if len(templates) == 1 else f"ensemble of {len(templates)}"
    return UNKNOWN if not run.trained and "templates" not in run.record else ""


def columns(runs: Sequence[Run]) -> tuple[str, ...]:
    """Return the values of COLUMNS for the runs of one cell; different ones are joined."""
    values = zip(*map(standing, runs), strict=True) if runs else [()] * len(COLUMNS)
    return tuple("; ".join(dict.fromkeys(filter(None, each))) for each in values)


# --- the footnote ----------------------------------------------------------------------------------------


def footnote(runs: Mapping[str, Sequence[Run]]) -> str:
    """Say in a line what stands behind a table.

    Parameters
    ----------
    runs
        {method: its runs in the table}; those without a record, of other programs, say nothing.

    Returns
    -------
    str
        "Behind the numbers: seeds 1-3; ..."; "" where no record tells anything.
    """
    read = [(method, run) for method, members in runs.items() for run in members if run.record]
    unmarked = [(method, run) for method, run in read if not mark(run)]  # of the others the mark's note says how
    said = (
        _seeds(read),
        _fact("draw", read, lambda run: run.draw.replace("_", " ")),
        _fact("classes of a training step", read, _sample) if any(class_sample(run) for _, run in read) else "",
        _fact("selection", unmarked, lambda run: standing(run).selection),
        _fact("test images looked at", unmarked, lambda run: _times(standing(run).test_looks)),
        _fact("hand-written prompt", read, lambda run: standing(run).template),
    )
    text = "; ".join(filter(None, said))
    return f"Behind the numbers: {text}." if text else ""


def _seeds(read: Sequence[tuple[str, Run]]) -> str:
    """Say "seeds 1-3"; that some runs have none is said too, of methods that draw."""
    seeds = {run.seed for _, run in read if run.trained}
    named = [f"seed{'s' * (len(seeds) > 1)} {ranges_text(sorted(seeds - {-1}))}"] if seeds - {-1} else []
    return ", ".join([*named, *["runs without a seed"] * (-1 in seeds)])


def _sample(run: Run) -> str:
    """Say which classes a training step saw."""
    size = class_sample(run)
    return "" if not run.trained else f"the batch's and {size - 1} drawn" if size else "all"


def _times(count: str) -> str:
    """Say "once", "51 times"; UNKNOWN as it is."""
    return {"1": "once", UNKNOWN: UNKNOWN}.get(count, f"{count} times")


def _fact(name: str, read: Sequence[tuple[str, Run]], value_of: Callable[[Run], str]) -> str:
    """Say a fact: "NAME: VALUE", with the value of most runs, and in brackets where it is another one."""
    valued = [(method, run, value) for method, run in read if (value := value_of(run))]
    if not valued:
        return ""
    usual = Counter(value for _, _, value in valued).most_common(1)[0][0]
    # exceptions are named as briefly as they can be: by method, or by data set, or by both
    namings: tuple[Callable[[str, Run], str], ...] = (
        lambda method, run: method,
        lambda method, run: run.dataset,
        lambda method, run: f"{method} on {run.dataset}",
    )
    for naming in namings:
        values = group(valued, lambda entry: naming(entry[0], entry[1]))  # noqa: B023
        distinct = {place: list(dict.fromkeys(value for *_, value in members)) for place, members in values.items()}
        if all(len(several) == 1 for several in distinct.values()):
            break
    others = [f"{place}: {' or '.join(several)}" for place, several in distinct.items() if several != [usual]]
    shown = others[:MOST_EXCEPTIONS] + [f"{len(others) - MOST_EXCEPTIONS} more"] * (len(others) > MOST_EXCEPTIONS)
    return f"{name}: {usual}" + (f" ({'; '.join(shown)})" if shown else "")
