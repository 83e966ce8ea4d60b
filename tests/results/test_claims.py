"""Which images a prompt claims: the formula, the ranking and the command against plain loops."""

from __future__ import annotations

import json
import weakref
import xml.etree.ElementTree
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from results.__main__ import main
from results.figures.claims import draw_claims
from results.inspection.claims import Ranking, Seen, claims, rank, see_test
from runs.restore.rebuilding import load_trainer
from tests.support.closeness import assert_close
from tests.support.plot_runs import copy_run


def claims_by_loops(plan: np.ndarray, similarity: np.ndarray) -> list[float]:
    features, prompts = plan.shape
    received = [
        prompts * sum(float(plan[m, n]) * float(similarity[m, n]) for m in range(features)) for n in range(prompts)
    ]
    return [value - sum(received) / prompts for value in received]


@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 999))
def test_claims_are_what_the_formula_says(features, prompts, seed):
    plan, similarity = np.random.default_rng(seed).random((2, 3, features, prompts))
    found = claims(plan, similarity)
    for one, t, s in zip(found, plan, similarity, strict=True):
        assert_close(one, claims_by_loops(t, s), 1e-12, floor=1)
    assert_close(found.sum(axis=-1), 0, 1e-12, floor=1)


def test_the_prompt_that_fits_what_it_receives_claims_the_image():
    """Two places, two prompts: each receives its own place, where prompt 1 fits perfectly and prompt 2 does not."""
    np.testing.assert_allclose(claims(np.diag([0.5, 0.5]), np.array([[1.0, 0.0], [0.0, 0.4]])), [0.3, -0.3])


def stream(values: np.ndarray):
    """values (images, N)"""
    for index, row in enumerate(values):
        yield Seen(index, 0, row, np.full((3, values.shape[1]), float(index)))


@settings(deadline=None)
@given(st.integers(1, 30), st.integers(1, 4), st.integers(1, 6), st.integers(0, 99))
def test_ranking_is_that_of_sorting_everything(images, prompts, count, seed):
    values = np.random.default_rng(seed).integers(-3, 4, (images, prompts)) / 4  # with ties
    ranking = rank(stream(values), count)
    for prompt, best in enumerate(ranking.best()):
        order = sorted(range(images), key=lambda index: (-values[index, prompt], index))[:count]
        assert [one.index for one in best] == order
        assert [one.value for one in best] == [values[index, prompt] for index in order]
        assert all((one.mass == one.index).all() and one.mass.shape == (3,) for one in best)
    np.testing.assert_allclose(ranking.sums, values.sum(axis=0))
    np.testing.assert_array_equal(ranking.foremost, np.bincount(values.argmax(axis=1), minlength=prompts))


def test_only_the_best_are_held():
    """Of 3000 images, at any time no more plans and maps live than are ranked."""
    rng, ranking, count, prompts = np.random.default_rng(0), Ranking(4), 4, 3
    batches: list[weakref.ref] = []
    for index in range(3000):
        mass = np.empty((9, prompts))
        batches.append(weakref.ref(mass))
        ranking.add(Seen(index, 0, rng.normal(size=prompts), mass))
        del mass
        held = [one for best in ranking.best() for one in best] if index % 500 == 0 else []
        assert len(held) <= count * prompts and all(one.mass.base is None for one in held)
        assert batches[-1]() is None
    assert sum(one() is not None for one in batches) == 0


# --- the command -----------------------------------------------------------------------------------------


def brute_force(run: Path, of: str) -> list[tuple[str, list[float], np.ndarray]]:
    """(path, claims, plan) of every test image and the class that is asked, in the batches of the test, by loops."""
    trainer = load_trainer(run)
    trainer.set_model_mode("eval")
    rows = []
    with torch.no_grad():
        for batch in trainer.test_loader:
            found = trainer.explain(batch["img"])
            for row, path in enumerate(batch["impath"]):
                asked = int(batch["label"][row] if of == "true" else found.logits[row].argmax())
                plan, similarity = found.plan[row, asked].numpy(), found.similarity[row, asked].numpy()
                rows.append((path, claims_by_loops(plan, similarity), plan))
    return rows


@pytest.mark.parametrize("of", ["true", "predicted"])
def test_maps_are_those_of_the_test(plot_runs, of):
    trainer = load_trainer(plot_runs["vit"])
    seen = list(see_test(trainer, of))
    for one, (path, values, plan) in zip(seen, brute_force(plot_runs["vit"], of), strict=True):
        assert trainer.dm.dataset.test[one.index].impath == path
        assert_close(one.claims, values, 1e-5)
        np.testing.assert_allclose(one.mass, plan * 16 * 2, rtol=1e-5)


@pytest.mark.parametrize(("name", "of"), [("rn", "true"), ("vit", "predicted"), ("plotpp", "true"), ("max", "true")])
def test_list_is_that_of_brute_force(plot_runs, tmp_path, name, of):
    run = plot_runs[name]
    assert main(["claims", str(run), "--of", of, "--count", "3", "--formats", "json", "--out", str(tmp_path)]) == 0
    record = json.loads((tmp_path / "claims.json").read_text())
    rows = brute_force(run, of)
    assert record["images"] == len(rows) and record["of"] == of and record["files"] == {"json": "claims.json"}
    for n, prompt in enumerate(record["prompts"]):
        values = np.array([claimed[n] for _, claimed, _ in rows])
        assert prompt["prompt"] == n + 1
        assert_close(prompt["mean"], values.mean(), 1e-5, floor=abs(values).max())
        assert_close([one["value"] for one in prompt["claimed"]], sorted(values)[: -4 : -1])
        by_path = {path: value for (path, *_), value in zip(rows, values, strict=True)}
        for one in prompt["claimed"]:
            assert_close(one["value"], by_path[one["path"]], floor=abs(values).max())
            assert Path(one["path"]).parent.name.lower().startswith(one["true"][:4])
    assert sum(prompt["foremost"] for prompt in record["prompts"]) == len(rows)


def test_within_a_class(plot_runs, tmp_path, capsys):
    call = ["claims", str(plot_runs["rn"]), "--formats", "json", "--out", str(tmp_path)]
    assert main([*call, "--class", "yin yang"]) == 0
    record = json.loads((tmp_path / "claims-yin_yang.json").read_text())
    rows = [row for row in brute_force(plot_runs["rn"], "true") if Path(row[0]).parent.name == "yin_yang"]
    assert record["classes"] == ["yin_yang"] and record["images"] == len(rows)
    best = max(rows, key=lambda row: row[1][0])
    assert record["prompts"][0]["claimed"][0]["path"] == best[0]
    capsys.readouterr()
    assert main([*call, "--class", "yinyang"]) == 2
    assert 'did you mean "yin_yang"' in capsys.readouterr().err


@pytest.mark.parametrize("name", ["rn", "plotpp"])
def test_contact_sheet(plot_runs, tmp_path, name):
    assert main(["claims", str(plot_runs[name]), "--count", "2", "--out", str(tmp_path)]) == 0
    record = json.loads((tmp_path / "claims.json").read_text())
    root = xml.etree.ElementTree.parse(tmp_path / "claims.svg").getroot()
    words = " ".join(text.text for text in root.iter("{http://www.w3.org/2000/svg}text"))
    for prompt in record["prompts"]:
        assert f"prompt {prompt['prompt']}" in words
        assert all(f"{one['value']:+.3f}" in words for one in prompt["claimed"])
    assert "minus the mean of that over the prompts" in words.replace("\n", " ")
    assert Image.open(tmp_path / "claims.png").width > 400


@pytest.mark.parametrize(("prompts", "count"), [(2, 1), (16, 12)])
def test_sheet_of_any_size(prompts, count):
    one = {"path": "a", "true": "a rather long name of a class", "predicted": "b", "value": 0.1}
    record = {
        "definition": "The claim", "of": "predicted", "classes": ["x" * 80], "images": 1,
        "prompts": [{"prompt": n + 1, "foremost": 0, "claimed": [one] * count} for n in range(prompts)],
    }  # fmt: skip
    masses = [[np.ones(6)] * count] * prompts
    figure = draw_claims(record, masses, (2, 3), [[np.zeros((8, 12, 3))] * count] * prompts)
    assert len(figure.axes) == prompts * count + 1 and max(figure.get_size_inches()) < 40


def test_bad_input(plot_runs, tmp_path, capsys):
    single = copy_run(plot_runs["rn"], tmp_path / "run", "N: 2\n", "N: 1\n")
    assert main(["claims", str(single)]) == 2
    assert "has one prompt a class" in capsys.readouterr().err
    assert main(["claims", str(plot_runs["rn"]), "--count", "0"]) == 2
    assert "at least 1, got 0" in capsys.readouterr().err
    assert main(["claims", str(plot_runs["rn"]), "--root", str(tmp_path)]) == 2
    assert "cannot rebuild" in capsys.readouterr().err
