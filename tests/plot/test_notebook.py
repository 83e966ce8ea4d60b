"""The notebook runs from top to bottom."""

import json
import os
import re
import sys

from tests.support import warm
from tests.support.programs import REPOSITORY


def test_every_cell_runs_in_order(tmp_path, demo_data):
    demo_data(tmp_path / "data")
    notebook = json.loads((REPOSITORY / "examples" / "plot.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] for cell in notebook["cells"] if cell["cell_type"] == "code")  # kept out of the diff
    program = tmp_path / "notebook.py"
    program.write_text("\n".join(cells), encoding="utf-8")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = warm.run([sys.executable, program], cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert re.search(r"zero-shot \d\d\.\d %, PLOT after 5 epochs \d\d\.\d %", done.stdout)
    for expected in ("PLOT@4#1 ->", "distance", "test_", "report.html"):
        assert expected in done.stdout
