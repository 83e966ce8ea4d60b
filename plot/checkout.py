"""The checkout that this package belongs to, as the place of the modules that do the work."""

from __future__ import annotations

import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
OWN = ("clip", "datasets", "demo", "predict", "results", "runs", "trainers")


def find_modules() -> None:
    """Let `import trainers` and the like find the checkout's.

    Raises
    ------
    ImportError
        Where a module of such a name is loaded already (`datasets` is also a package of Hugging Face), or where there
        is no checkout around this package.
    """
    if not (CHECKOUT / "trainers").is_dir():
        raise ImportError(f"{CHECKOUT} is no checkout of PLOT; install it from one, with `pip install -e .`")
    for name in OWN:
        file = getattr(sys.modules.get(name), "__file__", None)
        if file and not Path(file).resolve().is_relative_to(CHECKOUT):
            raise ImportError(
                f"another module called {name} is loaded already ({file}), and PLOT has one of that name; use them in "
                "different processes"
            )
    if str(CHECKOUT) not in sys.path:
        sys.path.insert(0, str(CHECKOUT))  # in front: the names must not lead elsewhere
