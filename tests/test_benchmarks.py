"""The benchmark runs, compares what it times, and says so; no test looks at a time."""
import json

import torch

from benchmarks.__main__ import class_names, main, transport_subject
from benchmarks.original import sinkhorn as plain_sinkhorn


def test_small_run_writes_its_rows(tmp_path, capsys):
    assert main(["--classes", "2", "--prompts", "2", "--context", "2", "--batch", "2", "--repeats", "1",
                 "--json", str(tmp_path / "rows.json")]) == 0
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert len(rows) == 2 and all(row["difference"] < 1e-4 for row in rows)
    assert "ratio" in capsys.readouterr().out


def test_old_and_new_agree_on_result_and_gradient():
    old, new = transport_subject(classes=5, n_prompts=3, images=4, places=9)
    for a, b in zip(old(), new(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * a.abs().max().item())


def test_names_are_distinct_and_the_reference_counts_its_iterations():
    assert len(set(class_names(100))) == 100
    assert plain_sinkhorn(torch.zeros(2, 3, 4), 0.1)[1] == 2
