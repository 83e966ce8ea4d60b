"""Names to models: what `clip.load`, `clip.tokenize` and the loaders inside CoOp's family of trainers call.

A name is one of OpenAI's releases (`_MODELS`), a model packaged here ("demo-rn", "demo-vit", "photos"), open_clip's
architecture and tag ("ViT-B-32/laion2b_s34b_b79k"), a repository of the Hugging Face hub
("hf://openai/clip-vit-base-patch32"), or the path of a file or folder of weights.
"""
from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import clip

from .loading.download import download
from .loading.hub import hub_name
from .loading.open_clip_table import open_clip_name
from .loading.published import fetch_hub_model, fetch_open_clip
from .loading.releases import RELEASES
from .loading.weights import Weights, read_weights
from .model import CLIP, PIXEL_MEAN, PIXEL_STD, build_model
from .sources import fetch
from .tokens import ClipTokens

__all__ = ["available_models", "build_model", "load", "load_clip_to_cpu", "tokenize"]

_MODELS = {release.name: release.url for release in RELEASES.values()}
_PACKAGED = {name: Path(__file__).parent / "weights" / f"{name.replace('-', '_')}.safetensors"
             for name in ("demo-rn", "demo-vit", "photos")}


def _download(url: str, root: str | Path | None = None) -> str:
    """Return a file with the weights that `url` names, fetched into `root` unless it is there.

    Parameters
    ----------
    url
        A value of `_MODELS`, or any address that ends in SHA-256 and name of a file.
    root
        Folder of the weights; default ~/.cache/clip.

    Returns
    -------
    str
        Path of the archive; or, where only the hub has the weights, of a plain state dict.  Trainers of CoOp's family
        try `torch.jit.load` first and then `torch.load`, and so read either.

    Raises
    ------
    RuntimeError
        As `clip.sources.fetch`, and for other addresses `clip.loading.download.download_file`.
    """
    release = next((release for release in RELEASES.values() if url == release.url), None)
    return download(url, root) if release is None else str(fetch(release, root))


def available_models() -> list[str]:
    """List the names of OpenAI's releases, small to large within each kind."""
    return list(_MODELS)


# --- models ---------------------------------------------------------------------------------------------

class UnknownModel(RuntimeError, ValueError):
    """RuntimeError as of OpenAI's `load`; also a ValueError, since it is the name that is wrong."""


def _weights(name: str, activation: str = "auto", root: str | Path | None = None) -> Weights:
    """Weights behind a name or a path; UnknownModel for a name that is neither."""
    if name in _MODELS:
        path = _download(_MODELS[name], root)
        return read_weights(path, "quick_gelu" if activation == "auto" else activation)
    if name in _PACKAGED:
        if not _PACKAGED[name].is_file():
            raise RuntimeError(f"the weights of {name!r} are not at {_PACKAGED[name]}; they belong to the "
                               "repository: restore the file, or make it anew with "
                               "demo/train_resnet.py (demo-vit with demo/train_vit.py, photos with "
                               "demo/train_photos.py)")
        return read_weights(_PACKAGED[name], activation)
    if Path(name).exists():
        return read_weights(name, activation)
    if repository := hub_name(name):
        return read_weights(fetch_hub_model(repository), activation)
    if parts := open_clip_name(name):
        return fetch_open_clip(*parts, activation, None if root is None else str(root))
    raise _unknown(name)


def check_model_name(name: str) -> None:
    """Raise UnknownModel for a name that is neither known, nor open_clip's or the hub's, nor a path. Reads no weights.

    Raises
    ------
    ValueError
        Also for a model of open_clip that cannot be built, as far as its config on this machine tells.
    """
    try:
        known = name in _MODELS or name in _PACKAGED or hub_name(name) or open_clip_name(name)
    except ValueError as error:
        raise UnknownModel(error.args[0]) from None
    if not known and not Path(name).exists():
        raise _unknown(name)
    if name not in _MODELS and not hub_name(name):
        clip.open_clip_source(str(_PACKAGED.get(name, name)))


def _unknown(name: str) -> UnknownModel:
    known = [*_MODELS, *_PACKAGED]
    near = difflib.get_close_matches(name, known, 1)
    return UnknownModel(f"no CLIP model named {name!r} and no file there; "
                        + (f"did you mean {near[0]!r}? " if near else "")
                        + f"known: {', '.join(known)}, open_clip's names like 'ViT-B-32/laion2b_s34b_b79k', models "
                          "of the Hugging Face hub like 'hf://openai/clip-vit-base-patch32', or the path of a weights "
                          "file, or of a folder with weights and config.json or open_clip_config.json")


def _built(weights: Weights, name: str, convert: bool | None) -> CLIP:
    """Build the model of some weights.

    `convert` as in `build_model`; None keeps the precision that they are stored in.  RuntimeError, naming the model,
    where the entries do not fit.
    """
    stored = weights.state_dict.get("visual.conv1.weight")
    if convert is None:
        convert = stored is not None and stored.dtype == torch.float16
    try:
        model = build_model(weights.state_dict, activation=weights.activation, convert=convert)
    except (KeyError, ValueError, RuntimeError) as error:
        raise RuntimeError(f"{name}: {error.args[0] if error.args else error}") from error
    if weights.pixel_mean and weights.pixel_std:
        model.pixel_mean, model.pixel_std = tuple(weights.pixel_mean), tuple(weights.pixel_std)
    return model


def _model(name: str, activation: str, root: str | None, convert: bool | None) -> CLIP:
    """Build a model: by clip/model.py where it has OpenAI's architecture, by open_clip's modules where it has not.

    Parameters
    ----------
    name, activation, root
        As of `load`.
    convert
        As of `_built`; the latter are float32, or with True fp16 where they can be.
    """
    source = None if name in _MODELS else clip.open_clip_source(str(_PACKAGED.get(name, name)))
    if source is None:
        return _built(_weights(name, activation, root), name, convert)
    model = clip.open_clip_model(source, activation, root)
    if convert:
        model.lower(torch.float16)
    return model


def load_clip_to_cpu(name: str | Path, activation: str = "auto") -> CLIP:
    """Load a model to the CPU, in eval mode, in the precision that it is stored in.

    Parameters
    ----------
    name
        A known name or a path.
    activation
        "auto" finds out what the MLPs were trained with; "quick_gelu" or "gelu" say it.

    Returns
    -------
    CLIP
        OpenAI's are stored in fp16 where `clip.model.convert_weights` says; call `.float()` to compute on a CPU.  The
        attributes `pixel_mean` and `pixel_std` are those that its images must be normalised with.

    Raises
    ------
    UnknownModel
        For a name that is none and no file either.
    RuntimeError, ValueError
        As `clip.loading.weights.read_weights`.
    """
    return _model(str(name), activation, None, convert=None)


def load(name: str, device: str | torch.device | None = None, jit: bool = False,
         download_root: str | None = None, activation: str = "auto") -> tuple[CLIP, Callable[[Any], Tensor]]:
    """Load a model and the transform of its images.

    Parameters
    ----------
    name
        A known name or a path.
    device
        By default the GPU, where there is one.  On the CPU the model computes in float32, elsewhere in OpenAI's mix of
        fp16 and fp32.
    jit
        Accepted for compatibility and ignored with a warning: the ordinary model computes the same.
    download_root
        Folder for downloaded weights; default ~/.cache/clip.
    activation
        As of `load_clip_to_cpu`.

    Returns
    -------
    tuple
        (model in eval mode, function from a PIL image to a tensor (3, n_px, n_px)).
    """
    if jit:
        warnings.warn("jit=True is ignored: the model built from the weights computes the same", stacklevel=2)
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    model = _model(str(name), activation, download_root, convert=device.type != "cpu")
    transform = preprocess(model.visual.input_resolution, model.pixel_mean, model.pixel_std,
                           model.interpolation, model.resize_mode)
    return model.to(device), transform


def preprocess(n_px: int, mean: Sequence[float] = PIXEL_MEAN, std: Sequence[float] = PIXEL_STD,
               interpolation: str = "bicubic", resize_mode: str = "shortest") -> Callable[[Any], Tensor]:
    """Make the transform of a PIL image to (3, n_px, n_px).

    Shorter side to n_px (both sides, where `resize_mode` is "squash"), centre, RGB, [0, 1], normalised with `mean` and
    `std`.
    """
    from torchvision import transforms as T

    return T.Compose([
        T.Resize((n_px, n_px) if resize_mode == "squash" else n_px, interpolation=T.InterpolationMode(interpolation)),
        T.CenterCrop(n_px),
        _to_rgb,
        T.ToTensor(),
        T.Normalize(mean, std),
    ])


def _to_rgb(image: Any) -> Any:
    """Convert a PIL image to RGB; a function with a name, so that worker processes can be sent the transform."""
    return image.convert("RGB")


# --- text -----------------------------------------------------------------------------------------------

def tokenize(texts: str | Sequence[str], context_length: int = 77, truncate: bool = False) -> Tensor:
    """Turn texts into token ids.

    Parameters
    ----------
    texts
        One text or several.
    context_length
        Length of a row; 77 in all releases.
    truncate
        Cut a text that is too long, keeping the end token.

    Returns
    -------
    Tensor
        (number of texts, context_length), int64: start, text, end, then zeros.

    Raises
    ------
    RuntimeError
        For a text that does not fit, without `truncate`.

    Examples
    --------
    >>> tokenize("a photo of a dog.")[0, :8].tolist()
    [49406, 320, 1125, 539, 320, 1929, 269, 49407]
    """
    return ClipTokens(context_length)(texts, truncate)
