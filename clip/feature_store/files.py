"""The files of the store: their names, and how a folder is taken away."""
from __future__ import annotations

import os
import re
import shutil
import uuid
from contextlib import suppress
from pathlib import Path

from dassl.plain.writing import abandoned, host

INFO = "entry.json"
PARTIAL = ".partial"  # suffix of an entry that is being written, or taken away
BUILD = re.compile(r"[0-9a-f]{32}\.(?P<host>\w*)-(?P<pid>\d+)-[0-9a-f]{8}\.partial")


def build_folder(folder: Path, key: str) -> Path:
    """Name a folder in which this process builds an entry."""
    return folder / f"{key}.{host()}-{os.getpid()}-{uuid.uuid4().hex[:8]}{PARTIAL}"


def clear_builds(folder: Path, key: str) -> None:
    """Remove what killed processes have left of an entry, and nothing that another process or machine still writes."""
    for path in folder.glob(f"{key}.*{PARTIAL}"):
        build = BUILD.fullmatch(path.name)
        with suppress(OSError):
            if build is None or abandoned(path, build["host"], int(build["pid"])):
                remove(path)


def remove(folder: Path) -> None:
    """Take an entry away, first out of sight: nobody shall open one that is half gone."""
    gone = folder.with_name(f"{folder.name.partition('.')[0]}.{uuid.uuid4().hex[:8]}{PARTIAL}")
    with suppress(OSError):
        os.rename(folder, gone)
    shutil.rmtree(gone, ignore_errors=True)
