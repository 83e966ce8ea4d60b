"""Records that anybody may have written: one that is not as it should be is named, and the rest is shown."""

from __future__ import annotations

import copy
import json
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dassl.plain.reading import MOST_LEVELS, NUMBER, Each, Maybe, load_json, load_yaml, wrong
from predict.__main__ import main as predict
from results.__main__ import main
from runs.record import RESULT, is_complete, read_classnames, read_result, read_run
from tests.support.records import make_record, write_run, write_sweep

COMMANDS = ("table", "curve", "report", "gains", "confusions")  # of a whole tree
PROTOCOLS = ("fewshot", "base2new", "crossdataset", "domain")
OF_ONE_RUN = ("ablate", "transport", "claims", "words", "map", "export")
BAD = "demo/CoOp/demo_1shots/nctx16_cscFalse_ctpend/seed1"


def bomb(levels: int = 9) -> str:
    """YAML of 9 ** levels values in a few hundred bytes."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "\n".join(lines)


def record(**changes) -> str:
    return json.dumps(make_record("CoOp", 1, 1) | changes)


RECORDS = {  # what is in result.json -> what is said of it
    "deep": ("[" * 100_000, "nests more than"),
    "deep enough to be read": ("[" * 500 + "]" * 500, "nests more than"),
    "empty rows": (record(per_class=[{}]), "no valid 'per_class[0].label' (it has None)"),
    "rows of others": (record(confusions=[[1]]), "'confusions[0]'"),
    "text as a number": (record(seconds={"total": "5"}), "'seconds.total'"),
    "no finite number": (record(peak_memory_mb=float("inf")), "'peak_memory_mb'"),
    "a number beyond all": (record(total=10**4000), "'total'"),
    "more than all": (record(accuracy=100.5), "'accuracy'"),
    "truth": (record(shots=True), "'shots'"),
    "no name": (record(trainer=" "), "'trainer'"),
    "a command line of numbers": (record(argv=[1]), "'argv[0]'"),
}


def commands(capsys, output: Path, names=COMMANDS) -> list[tuple[int, str, str]]:
    """(status, stdout, stderr) of the commands of a tree."""
    done = []
    for command in names:
        status = main([command, str(output)])
        done.append((status, *capsys.readouterr()))
    return done


@pytest.mark.parametrize("name", RECORDS)
def test_a_bad_record_is_named_and_the_rest_is_shown(tmp_path, capsys, name):
    content, complaint = RECORDS[name]
    write_sweep(tmp_path, shots=(1,))
    (tmp_path / BAD / "result.json").write_text(content)
    slow = ("curve", "report") if name in ("deep", "empty rows") else ()
    for status, out, err in commands(capsys, tmp_path, ("table", "gains", "confusions", *slow)):
        assert status == 1 and f"incomplete: {tmp_path / BAD}: result.json" in err and complaint in err, err
        assert "PLOT" in out or "written" in out
    for command in PROTOCOLS[:1]:
        assert main([command, str(tmp_path)]) == 1
        out, err = capsys.readouterr()
        assert complaint in err and "CoOp" in out
    if name != "no name":  # which trainers of one's own need not have, for the engine
        assert not is_complete(tmp_path / BAD) and read_classnames(tmp_path / BAD) is None


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (bomb(), "aliases unfold"),
        ("[" * 5000, "nests more than"),
        ("a: &a [*a]", "nests more than"),
        ("!!bool x", "cannot be read"),
        ("x" * 2_000_000, "larger than"),
        ("\xff", "cannot be read"),
        ("? [1]", ""),
        ("- 1", ""),
        ("TRAINER: 5", ""),
        ("TRAINER: {NAME: {a: 1}}\nDATASET: [1]", ""),
    ],
)
def test_a_bad_config_costs_neither_time_nor_the_others(tmp_path, capsys, content, complaint):
    write_sweep(tmp_path, shots=(1,))
    (tmp_path / BAD / "result.json").unlink()
    (tmp_path / BAD / "config.yaml").write_text(content, encoding="latin1")
    start = time.monotonic()
    assert main(["table", str(tmp_path)]) == 1
    assert time.monotonic() - start < 5
    out, err = capsys.readouterr()
    assert "PLOT" in out and f"{BAD}: no result.json: not finished" in err and complaint in err
    for command in OF_ONE_RUN:
        arguments = ["--out", "x.pt"] if command == "export" else []
        assert main([command, str(tmp_path / BAD), *arguments]) == 2
        err = capsys.readouterr().err
        assert err.startswith("error: ") and err.count("\n") == 1, err


def test_a_bad_record_of_a_single_run(tmp_path, capsys):
    folder = write_run(tmp_path / "run", json.loads(record(per_class=[{}])))
    (folder / "config.yaml").write_text("TRAINER: {NAME: PLOT, PLOT: {N: 4}}\n")
    (folder / "prompt_learner").mkdir()
    (folder / "prompt_learner/model.pth.tar-1").touch()
    for command in OF_ONE_RUN[:4]:
        assert main([command, str(folder)]) == 2
        assert "no valid 'per_class[0].label'" in capsys.readouterr().err
    assert predict([str(folder), "a.png"]) == 2
    assert "no valid 'per_class[0].label'" in capsys.readouterr().err


NAME = "P\x1b[2JL\ud800OT\n$x_$ <b>=1"


def test_names_command_neither_terminal_nor_figure_nor_page(tmp_path, capsys):
    bad = make_record("PLOT", 1, 1) | {"trainer": NAME, "argv": [NAME]}
    zero = make_record("ZeroshotCLIP", -1, -1)
    for folder, one in (("x/y\x1b[1m", bad), ("zero", zero)):
        for row in one["per_class"]:
            row["name"] += NAME
        write_run(tmp_path / folder, one | {"dataset": f"a {NAME}"})
    (tmp_path / "un\x1b[2Jfinished\n").mkdir()
    (tmp_path / "un\x1b[2Jfinished\n/config.yaml").write_text("TRAINER: {NAME: CoOp}")
    for status, out, err in commands(capsys, tmp_path):
        assert status == 1 and "\x1b" not in out + err, err
        assert err.count("incomplete:") == 1 and r"un\x1b[2Jfinished\n" in err
    page = (tmp_path / "report.html").read_text()
    assert "\x1b" not in page and "<b>=1" not in page and "$x_$" in (tmp_path / "accuracy.svg").read_text()


def test_a_diverged_history_is_shown_as_far_as_it_went(tmp_path, capsys):
    one = make_record("PLOT", 1, 1)
    for entry in one["history"][10:]:
        entry |= {"loss": None, "acc": None, "prompt_cosine": [None] * 6}
    write_run(tmp_path / "run", one)
    assert main(["report", str(tmp_path)]) == 0


# --- any value, anywhere ---------------------------------------------------------------------------------

TEXTS = st.text(st.characters(), max_size=5) | st.sampled_from([NAME, "", "test", "val", "base", "leaky: x", "PLOT"])
NUMBERS = st.integers() | st.floats() | st.sampled_from([0, 1, -1, 10**400, 1e308, 2**63])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


def places(tree, path=()):
    """Paths to all values of a tree."""
    if path:
        yield path
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        if not (isinstance(tree, list) and key > 0):
            yield from places(value, (*path, key))


PLACES = list(places(make_record("PLOT", 1, 1, protocol="leaky: x", config={"NO_EFFECT": ["A"]})))


CHANGES = st.lists(st.tuples(st.sampled_from(PLACES), VALUES), min_size=1, max_size=3)
SLOW = settings(deadline=None, suppress_health_check=list(HealthCheck))


@given(changes=CHANGES)
@settings(SLOW, max_examples=100)
def test_no_value_in_no_place_ends_a_table(tmp_path_factory, capsys, changes):
    check(tmp_path_factory.mktemp("tree"), capsys, changes, ("table", "gains", "confusions"))


@given(changes=CHANGES)
@settings(SLOW, max_examples=8)
def test_no_value_in_no_place_ends_a_figure(tmp_path_factory, capsys, changes):
    check(tmp_path_factory.mktemp("tree"), capsys, changes, ("curve", "report"))


def check(output: Path, capsys, changes, names) -> None:
    write_run(output / "zero", make_record("ZeroshotCLIP", -1, -1))
    write_run(output / "good", make_record("PLOT", 1, 2))
    bad = copy.deepcopy(make_record("PLOT", 1, 1, protocol="leaky: x", config={"NO_EFFECT": ["A"]}))
    for path, value in changes:
        node = bad
        try:
            for key in path[:-1]:
                node = node[key]
            node[path[-1]] = value
        except (KeyError, TypeError, IndexError):  # what an earlier change has taken away
            continue
    write_run(output / "bad", bad)
    run = read_run(output / "bad")
    for status, out, err in commands(capsys, output, names):
        assert status in (0, 1) and "\x1b" not in out + err
        assert run.complete or f"incomplete: {output / 'bad'}: " in err
    assert main(["table", str(output), "--format", "csv"]) in (0, 1)
    capsys.readouterr()


@given(VALUES)
def test_a_shape_names_the_place_of_any_value(value):
    said = wrong({"rows": [1, value]}, {"rows": [Maybe(NUMBER)]})
    assert (said == "") == (value is None or NUMBER(value)) and (not said or said.startswith("'rows[1]' (it has "))
    assert wrong(value, Each(NUMBER)) == "" or not isinstance(value, dict) or not all(map(NUMBER, value.values()))
    assert wrong({}, RESULT) == "" and wrong(make_record("PLOT", 1, 1), RESULT) == ""


def test_a_tree_of_some_levels_is_read(tmp_path):
    deep = MOST_LEVELS - 2
    (tmp_path / "a.json").write_text("[" * deep + "]" * deep)
    (tmp_path / "a.yaml").write_text("x: &a [1, 2]\ny: [*a, *a]")
    assert load_json(tmp_path / "a.json") and load_yaml(tmp_path / "a.yaml") == {"x": [1, 2], "y": [[1, 2], [1, 2]]}
    write_run(tmp_path / "run", make_record("PLOT", 1, 1))
    assert read_result(tmp_path / "run")["trainer"] == "PLOT"
