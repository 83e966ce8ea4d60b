"""Tensors of a file, whatever they are wrapped in. No file's code is run.

Read: TorchScript archives (OpenAI's releases), torch.save'd dicts, also wrapped as {"state_dict": ...} or
{"model": ...} and with "module." before the names, safetensors, and the index of a model that is cut into several.
"""
from __future__ import annotations

import json
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

WRAPPERS = ("state_dict", "model", "model_state_dict")
PREFIXES = ("module.", "_orig_mod.")
INDEX = ".index.json"  # end of the name of a file that says which file holds which tensor
OPEN_CLIP = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")  # names in open_clip's repositories
TRANSFORMERS = ("model.safetensors", f"model.safetensors{INDEX}", "pytorch_model.bin", f"pytorch_model.bin{INDEX}")


def weights_file(path: Path) -> Path:
    """Return the file to read: `path` itself, or the weights in a folder that is laid out as a repository of the hub.

    Raises
    ------
    FileNotFoundError
        Where there is none.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise FileNotFoundError(f"no weights file at {path}")
    for name in (*OPEN_CLIP, *TRANSFORMERS):
        if (path / name).is_file():
            return path / name
    raise FileNotFoundError(f"no weights file at {path}: it is a folder without any of "
                            f"{', '.join((*OPEN_CLIP, *TRANSFORMERS))}; give the path of a file")


def read_file(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors of a file, without wrapper and shared prefix.

    Returns
    -------
    tuple
        (tensors by name, what the file states beside them: metadata, an epoch, ...).

    Raises
    ------
    RuntimeError
        Naming the file, where it cannot be read or holds no tensors.
    """
    if path.name.endswith(INDEX):
        return _read_parts(path)
    entries, facts = _read(path)
    return _unwrapped(entries, facts, path), facts


def _read_parts(index: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read all files that an index names; each must be beside it and hold what the index says."""
    try:
        file_of = dict(json.loads(index.read_text(encoding="utf-8"))["weight_map"])
        names = sorted(set(file_of.values()))
        if any(Path(name).name != name for name in names):
            raise ValueError("it names files in other folders")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RuntimeError(f"{index} is no index of weights ({error})") from error
    tensors: dict[str, Tensor] = {}
    for name in names:
        if not (index.parent / name).is_file():
            raise RuntimeError(f"{index} names {name}, which is not beside it")
        tensors |= read_file(index.parent / name)[0]
    if missing := file_of.keys() - tensors.keys():
        raise RuntimeError(f"{index} names {len(missing)} tensors that its files do not hold, as {min(missing)}")
    return tensors, {}


def _read(path: Path) -> tuple[Mapping[str, Any], dict[str, Any]]:
    """Content of a file and the facts that it states beside the tensors."""
    if path.suffix == ".safetensors":
        from safetensors import safe_open

        try:
            with safe_open(path, framework="pt") as file:
                names = list(file.keys())
                return {key: file.get_tensor(key) for key in names}, dict(file.metadata() or {})
        except Exception as error:  # safetensors raises many kinds for a damaged file
            raise RuntimeError(f"{path} cannot be read as weights: {error}. Is it complete?") from error
    content = _unpickled(path)
    if not isinstance(content, Mapping):
        raise RuntimeError(f"{path} holds a {type(content).__name__}, not a state dict")
    return content, {key: value for key, value in content.items() if isinstance(value, str | int | float)}


def _unpickled(path: Path) -> Any:
    """Read what torch.save wrote, or the state dict of a TorchScript archive; neither is executed."""
    try:
        from dassl.utils.safe_load import load_file

        from .torchscript import read_torchscript
    except ImportError:  # the original Dassl, on which this folder runs as well
        return _unpickled_by_torch(path)
    return read_torchscript(path) if _is_torchscript(path) else load_file(path)


def _unpickled_by_torch(path: Path) -> Any:
    """Read the same by torch's own means: of TorchScript archives, whose code it would run, only OpenAI's releases."""
    from .download import digest_of
    from .releases import RELEASES

    if _is_torchscript(path):
        if digest_of(path) not in {release.sha256 for release in RELEASES.values()}:
            raise RuntimeError(f"{path} is a TorchScript archive and none of OpenAI's releases. To read it would run "
                               "its code; where you trust it, save torch.jit.load(...).state_dict() with torch.save")
        with warnings.catch_warnings():  # of torch.jit, which is out of fashion
            warnings.simplefilter("ignore")
            return torch.jit.load(str(path), map_location="cpu").state_dict()
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise RuntimeError(f"{path} cannot be read as weights: {error}. Is it complete?") from error


def _is_torchscript(path: Path) -> bool:
    """Whether a file is a zip archive that holds a scripted module; torch.save's archives hold no constants.pkl."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except zipfile.BadZipFile:
        return False


def _unwrapped(content: Mapping[str, Any], facts: dict[str, Any], path: Path) -> dict[str, Tensor]:
    """Take the tensors out of their wrapper, and a prefix that they all share off their names."""
    for key in WRAPPERS:
        if isinstance(content.get(key), Mapping):
            facts["wrapped"] = True
            content = content[key]
    tensors = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise RuntimeError(f"{path} holds no tensors; its entries are "
                           f"{', '.join(map(str, list(content)[:5]))}")
    while prefix := next((prefix for prefix in PREFIXES if all(key.startswith(prefix) for key in tensors)), ""):
        tensors = {key[len(prefix):]: value for key, value in tensors.items()}
    return tensors
