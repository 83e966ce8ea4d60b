"""OpenAI's weights from whoever still has them.

A release is its tensors. They are looked for, in this order, in

    the folder of weights        the archive, or a copy that came from the hub; or the hub's file, put there by hand
    the hub's cache              where open_clip has fetched it before
    a mirror                     CLIP_MIRROR, which serves what OpenAI's address has served
    OpenAI's address             404 since the end of 2025
    the Hugging Face hub         open_clip's copy

An archive is known by the SHA-256 of the file.  A copy has another container, so its tensors are compared with those
of the archive where their digest is known (`clip.loading.digests`).  Where it is not, what can be checked is: that the
file is the one that the hub states, that names and shapes are those of the architecture, that all numbers are finite,
and that every matrix is exact in float16, as all of OpenAI's are.  The log says which it was.

A copy is written into the folder as a plain state dict in the number formats of the archive, RN50.hub.pt, which
trainers of the CoOp family read as they read the archive.
"""
from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from dassl.plain.writing import atomic_write
from dassl.utils.tools import read_json, write_json

from .loading.digests import LOCAL, is_weight, known_digest, record_digest, tensor_digest
from .loading.download import Digest, DownloadError, Source, digest_of, download_file, locked, mirrored
from .loading.files import OPEN_CLIP
from .loading.hub import HubError, NotInRepository, cached_file, endpoint, fetch_file
from .loading.layout import SIZE_KEYS, describe, sizes_of
from .loading.open_clip_table import constructor_arguments, open_clip_configs
from .loading.releases import Release
from .loading.weights import read_weights
from .model import CLIP, check_keys, convert_weights


class Unavailable(RuntimeError):
    """One source does not have a release; the text says why."""


def weights_folder(root: str | Path | None = None) -> Path:
    """Return the folder of weights: `root`, or ~/.cache/clip."""
    return Path.home() / ".cache" / "clip" if root is None else Path(root).expanduser()


def fetch(release: Release, root: str | Path | None = None) -> Path:
    """Return a file that holds the weights of a release, from the first source that has them.

    Parameters
    ----------
    release
        Of `clip.loading.releases.RELEASES`.
    root
        The folder of weights; default ~/.cache/clip.

    Returns
    -------
    Path
        The archive, which `torch.jit.load` reads, or a plain state dict, which `torch.load` reads.

    Raises
    ------
    RuntimeError
        Where no source has them: why, source by source, and what file to put where.
    """
    folder = weights_folder(root)
    archive = folder / release.file
    if archive.exists() and not archive.is_file():
        raise RuntimeError(f"{archive} exists and is not a regular file; move it away to download {release.file}")
    if archive.is_file() and not archive_check(release).problem(archive):
        return archive
    if copy := Copy.read(release, folder):
        print(copy.about(folder))
        return copy.path(folder)
    failures = []
    for source, take in _sources(release, folder):
        try:
            path = take()
        except Unavailable as failure:
            failures.append(f"  {source}: {failure}")
            continue
        if path == archive:
            print(f"Weights of {release.name}: OpenAI's archive, from {source}")
            record_digest(release.name, tensor_digest(read_weights(path, "quick_gelu").state_dict), folder / LOCAL)
        return path
    raise RuntimeError("\n".join([
        f"the weights of {release.name} cannot be had:", *failures, "Without network, put one of these files there:",
        f"  {archive}: the archive that {release.url} served (SHA-256 {release.sha256})",
        f"  {by_hand(release, folder)}: the file {OPEN_CLIP[0]} of https://huggingface.co/{release.repository}",
        "Behind a proxy, set https_proxy. Mirrors are named by CLIP_MIRROR (of OpenAI's address) and HF_ENDPOINT (of "
        "the hub). `python -m clip weights` lists what is there.",
        "To go on without: `photos`, the small CLIP for photographs that comes along (--config photos).",
    ]))


def archive_check(release: Release) -> Digest:
    """Return how the archive is recognised."""
    return Digest("sha256", release.sha256)


def by_hand(release: Release, folder: Path) -> Path:
    """Return where the hub's file belongs that a person has brought."""
    return folder / f"{Path(release.file).stem}.safetensors"


def _sources(release: Release, folder: Path) -> Iterator[tuple[str, Callable[[], Path]]]:
    """Yield, in order, what a source is called and how to take the weights from it; it raises Unavailable."""
    yield str(folder), partial(_from_folder, release, folder)
    yield "the hub's cache", partial(_from_hub_cache, release, folder)
    mirror = mirrored(release.url)
    if mirror == release.url:
        yield "mirror", partial(_refuse, "CLIP_MIRROR names none")
    else:
        yield f"mirror {mirror}", partial(_from_address, mirror, release, folder)
    yield release.url, partial(_from_address, release.url, release, folder)
    yield f"{endpoint()}/{release.repository}", partial(_from_hub, release, folder)


# --- the sources ------------------------------------------------------------------------------------------


def _refuse(reason: str) -> Path:
    raise Unavailable(reason)


def _from_folder(release: Release, folder: Path) -> Path:
    """Take the hub's file that lies in the folder of weights."""
    file = by_hand(release, folder)
    if file.is_file():
        return _adopt(file, release, folder, str(file))
    archive = folder / release.file
    raise Unavailable(f"{archive.name} there has not the {archive_check(release)}" if archive.is_file()
                      else f"neither {archive.name} nor {file.name} is there")


def _from_hub_cache(release: Release, folder: Path) -> Path:
    """Take what the hub's client keeps, without asking the network."""
    for name in OPEN_CLIP:
        if path := cached_file(release.repository, name):
            return _adopt(path, release, folder, f"the hub's cache, {release.repository}")
    raise Unavailable(f"it has no {' or '.join(OPEN_CLIP)} of {release.repository}")


def _from_address(address: str, release: Release, folder: Path) -> Path:
    """Download the archive."""
    try:
        return download_file(Source(address), folder / release.file, archive_check(release), "CLIP_MIRROR")
    except DownloadError as error:
        raise Unavailable(error.reason) from error


def _from_hub(release: Release, folder: Path) -> Path:
    """Download open_clip's copy."""
    for name in OPEN_CLIP:
        try:
            file = fetch_file(release.repository, name)
        except NotInRepository:
            continue
        except HubError as error:
            raise Unavailable(str(error)) from error
        return _adopt(file, release, folder, f"{endpoint()}/{release.repository}")
    raise Unavailable(f"it has neither {' nor '.join(OPEN_CLIP)}")


# --- copies -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Copy:
    """A release in the folder of weights that did not come as its archive.

    Attributes
    ----------
    release
        Name of the release.
    file
        Name of the file with the state dict.
    source
        Where it came from.
    sha256
        Of the file.
    tensors
        Digest of its tensors.
    rounded
        Whether the source held in half precision what the archive holds in float32.
    """

    release: str
    file: str
    source: str
    sha256: str
    tensors: str
    rounded: bool

    @classmethod
    def read(cls, release: Release, folder: Path) -> Copy | None:
        """Return the copy of a release that is in the folder; None without one, and for one that is not as recorded."""
        path, record = copy_path(release, folder), _record_path(release, folder)
        if not path.is_file() or not record.is_file():
            return None
        try:
            copy = cls(**read_json(record))
        except (OSError, ValueError, TypeError) as error:
            warnings.warn(f"{record} cannot be read ({error}); {path.name} is not used", stacklevel=3)
            return None
        known = known_digest(release.name, folder)
        if digest_of(path) != copy.sha256:
            problem = "it has changed since it was written"
        elif known not in (None, copy.tensors):
            problem = "its tensors are not those of OpenAI's archive"
        else:
            return copy
        warnings.warn(f"{path} is not used: {problem}", stacklevel=3)
        return None

    def path(self, folder: Path) -> Path:
        """Return where the state dict is."""
        return folder / self.file

    def about(self, folder: Path) -> str:
        """Say in one line what it is and how far it was checked."""
        if known_digest(self.release, folder) == self.tensors:
            checked = "its tensors are those of OpenAI's archive"
        else:
            checked = ("not compared with OpenAI's archive, whose tensor digest is not known here; names, shapes and "
                       "number formats are right")
        rounded = "; its source was rounded to half precision" if self.rounded else ""
        return f"Weights of {self.release}: open_clip's copy, from {self.source}; {checked}{rounded}"


def copy_path(release: Release, folder: Path) -> Path:
    """Return where a copy of a release is written."""
    return folder / f"{Path(release.file).stem}.hub.pt"


def _record_path(release: Release, folder: Path) -> Path:
    return copy_path(release, folder).with_suffix(".json")


def _adopt(file: Path, release: Release, folder: Path, source: str) -> Path:
    """Check open_clip's copy of a release and write it into the folder of weights as a state dict.

    Raises
    ------
    Unavailable
        Where it is something else.
    """
    try:
        state_dict, rounded = as_archived(file, release)
        tensors = tensor_digest(state_dict)
        if known_digest(release.name, folder) not in (None, tensors):
            raise ValueError("its tensors are not those of OpenAI's archive")
    except (ValueError, RuntimeError, KeyError) as error:
        raise Unavailable(f"{file} is not used: {str(error.args[0]).removeprefix(f'{file}: ')}") from error
    target = copy_path(release, folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(target):
            if copy := Copy.read(release, folder):  # another process has written it meanwhile
                return copy.path(folder)
            with atomic_write(target, "wb") as stream:
                torch.save(state_dict, stream)
            copy = Copy(release.name, target.name, source, digest_of(target), tensors, rounded)
            write_json(asdict(copy), _record_path(release, folder))
    except OSError as error:
        raise Unavailable(f"cannot write {target}: {error}") from error
    print(copy.about(folder))
    return target


def as_archived(file: Path, release: Release) -> tuple[dict[str, Tensor], bool]:
    """Read a copy of a release into what its archive's state dict is: entries, number formats, sizes.

    Returns
    -------
    tuple
        (state dict, whether entries that the archive has in float32 were stored in half precision).

    Raises
    ------
    ValueError, RuntimeError
        Where it cannot be a copy: another architecture, numbers that are not finite, or matrices that float16 cannot
        hold.
    """
    weights = {name: tensor for name, tensor in read_weights(file, "quick_gelu").state_dict.items() if is_weight(name)}
    sizes = constructor_arguments(open_clip_configs()[release.architecture])
    if sizes_of(weights) != sizes:
        raise ValueError(f"it is another architecture ({describe(sizes_of(weights))})")
    with torch.device("meta"):
        model = CLIP(**sizes)
    convert_weights(model)
    expected = model.state_dict()
    counters = {name: torch.tensor(0) for name in expected if not is_weight(name)}
    check_keys(weights | counters, model, describe(sizes))
    result, rounded = {}, False
    for name, like in expected.items():
        tensor = counters[name] if name in counters else weights[name]
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{name} holds numbers that are not finite")
        result[name] = tensor.to(like.dtype)
        if not torch.equal(result[name].float(), tensor.float()):
            raise ValueError(f"{name} holds numbers that OpenAI's archive cannot hold, whose matrices are float16")
        rounded |= like.dtype == torch.float32 and tensor.dtype != torch.float32
    stated = (sizes["image_resolution"], sizes["context_length"], sizes["vocab_size"])
    return result | {name: torch.tensor(size) for name, size in zip(SIZE_KEYS, stated, strict=True)}, rounded
