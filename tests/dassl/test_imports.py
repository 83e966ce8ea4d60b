"""What the packages of the engine offer, and that looking at them does not load torch."""
import ast
import importlib
import subprocess
import sys

import pytest

from tests.support.programs import REPOSITORY

# Everything that needs no tensor: settings, registries, descriptions of data sets, files and texts.
NO_TORCH = """
import sys
from dassl.config import clean_cfg, get_cfg_default, merge_file, merge_options
from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum, build_dataset
from dassl.engine import TRAINER_REGISTRY, build_trainer
from dassl.utils import (Logger, Registry, check_availability, check_isfile, listdir_nohidden, mkdir_if_missing,
                         read_image, read_json, setup_logger, AverageMeter, MetricMeter, write_json)
import dassl.utils.registry, dassl.utils.tools

@DATASET_REGISTRY.register()
class Photos(DatasetBase):
    pass

assert DATASET_REGISTRY.get("Photos") is Photos and get_cfg_default().TRAINER.NAME == ""
assert not hasattr(dassl.utils, "nonsense")
print(*{name.split(".")[0] for name in sys.modules} & {"torch", "torchvision"})
"""


def test_registries_settings_and_files_need_no_torch():
    plain = [f"dassl.plain.{path.stem}" for path in (REPOSITORY / "dassl" / "plain").glob("[a-z]*.py")]
    program = NO_TORCH.replace("import dassl.utils", f"import {', '.join(plain)}, dassl.utils")
    ran = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True)
    assert ran.returncode == 0 and ran.stdout.strip() == "", ran.stdout + ran.stderr


@pytest.mark.parametrize("package", ["dassl.data", "dassl.engine", "dassl.utils"])
def test_a_lazy_package_offers_all_that_it_lists(package):
    module = importlib.import_module(package)
    assert set(module.__all__) <= set(dir(module))
    assert all(getattr(module, name).__name__ == name for name in module.__all__ if not name.isupper())
    with pytest.raises(AttributeError, match=f"'{package}' has no attribute 'nonsense'"):
        module.nonsense  # noqa: B018


@pytest.mark.parametrize("package", ["dassl.data", "dassl.engine", "dassl.utils"])
def test_type_checkers_are_shown_the_same_names(package):
    source = (REPOSITORY / package.replace(".", "/") / "__init__.py").read_text()
    imported = {alias.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom) and node.level
                for alias in node.names}
    assert imported == set(importlib.import_module(package).__all__)


def test_modules_of_a_lazy_package_are_found_through_it():
    program = "import dassl.data, dassl.engine, dassl.utils; dassl.engine.trainer.TrainerX, dassl.utils.checkpoint"
    ran = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
