"""One promise of every program here: torch's threads sleep soon while they wait, unless the user says otherwise."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.programs import REPOSITORY

SCRIPTS = ["train.py", *(str(path.relative_to(REPOSITORY)) for path in sorted((REPOSITORY / "scripts").glob("*.py"))
                         if "__main__" in path.read_text())]
PACKAGES = sorted(path.parent.name for path in REPOSITORY.glob("*/__main__.py"))
NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
# prints what torch would read when it is loaded, and goes no further, the first time that somebody looks for it
PROGRAM = """
import os, runpy, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print("torch:", *("%s=%s" % (key, os.environ[key]) for key in {names} if key in os.environ), flush=True)
            os._exit(0)
sys.meta_path.insert(0, Watch())
sys.argv = [{name!r}, "--help"]
sys.path[0] = {folder!r}
try:
    {call}
except SystemExit as stop:
    assert not stop.code, stop.code
import torch
"""


def when_torch_is_loaded(name: str, **environment: str) -> str:
    script = name.endswith(".py")
    call = f"runpy.{'run_path' if script else 'run_module'}({name!r}, run_name='__main__')"
    folder = REPOSITORY / Path(name).parent if script else REPOSITORY
    program = PROGRAM.format(names=NAMES, name=name, folder=str(folder), call=call)
    clean = {key: value for key, value in os.environ.items() if key not in NAMES}
    ran = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, env=clean | environment, text=True,
                         capture_output=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    (line,) = [line for line in ran.stdout.splitlines() if line.startswith("torch: ")]
    return line.removeprefix("torch: ")


@pytest.mark.parametrize("name", [*SCRIPTS, *PACKAGES])
def test_threads_sleep_while_they_wait(name):
    assert when_torch_is_loaded(name) == "OMP_WAIT_POLICY=PASSIVE GOMP_SPINCOUNT=1000"


@pytest.mark.parametrize("chosen", [{"OMP_WAIT_POLICY": "ACTIVE"}, {"GOMP_SPINCOUNT": "1000"}])
def test_what_the_user_has_set_stays(chosen):
    ((key, value),) = chosen.items()
    assert when_torch_is_loaded("train.py", **chosen) == f"{key}={value}"
