"""Files of the Hugging Face hub, got by its own client, `huggingface_hub`.

So its settings hold: HF_ENDPOINT (another address, as a mirror), HF_HUB_OFFLINE (only what was fetched before), HF_HOME
and HF_HUB_CACHE (where files are kept), HF_TOKEN.

A repository is named hf://USER/REPOSITORY, or hf://USER/REPOSITORY@REVISION for a branch, a tag or a commit.
"""
from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import NamedTuple

from .download import digest_of

SCHEME = "hf://"
NAME = re.compile(r"hf://(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?/?")
SHA256 = re.compile(r"[0-9a-f]{64}")


class HubError(RuntimeError):
    """A file cannot be had from the hub; the text is the reason, in one line."""


class NotInRepository(HubError):
    """The repository is there and has no such file."""


class HubName(NamedTuple):
    """A repository of the hub.

    Attributes
    ----------
    repository
        As "user/name".
    revision
        Branch, tag or commit; None for the default branch.
    """

    repository: str
    revision: str | None


def hub_name(name: str) -> HubName | None:
    """Read hf://USER/REPOSITORY[@REVISION]; None for a name of any other kind.

    Raises
    ------
    ValueError
        For a name that begins so and goes on otherwise.
    """
    if not name.startswith(SCHEME):
        return None
    match = NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"{name!r} is not hf://USER/REPOSITORY or hf://USER/REPOSITORY@REVISION")
    return HubName(match["repository"], match["revision"])


def fetch_file(repository: str, file: str, revision: str | None = None) -> Path:
    """Get one file of a repository, from the hub's cache on this machine if it is current.

    Parameters
    ----------
    repository
        As "user/name".
    file
        Its path in the repository.
    revision
        Branch, tag or commit.

    Returns
    -------
    Path
        .../snapshots/COMMIT/FILE, so that files of one commit lie in one folder.

    Raises
    ------
    NotInRepository
        Where the hub says that there is no such file.
    HubError
        Where it cannot be had, or what came is not what the hub says that it is.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.utils import EntryNotFoundError, LocalEntryNotFoundError

    known = cached_file(repository, file, revision)
    try:
        if known is None:  # without a network this fails at once, where the download would try for half a minute
            with contextlib.suppress(EntryNotFoundError):
                get_hf_file_metadata(hf_hub_url(repository, file, revision=revision))
        path = Path(hf_hub_download(repository, file, revision=revision))
    except LocalEntryNotFoundError as error:  # first, since it is an EntryNotFoundError
        raise HubError(_reason(error)) from error
    except EntryNotFoundError as error:
        raise NotInRepository(f"{repository} has no {file}") from error
    except Exception as error:  # of the client and of the library that it makes requests with, which has changed
        raise HubError(_reason(error)) from error
    if path != known and (expected := stated_sha256(path)) and digest_of(path) != expected:
        with contextlib.suppress(OSError):
            os.unlink(path.parent / os.readlink(path))
            os.unlink(path)
        raise HubError(f"what came for {file} has not the SHA-256 {expected} that the hub states, and was thrown away")
    return path


def cached_file(repository: str, file: str, revision: str | None = None) -> Path | None:
    """Return where the hub's cache keeps a file; None where it does not. Asks no network."""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(repository, file, revision=revision)
    return Path(path) if isinstance(path, str) else None


def fetch_optional(repository: str, file: str, revision: str | None = None) -> Path | None:
    """Get a file that a repository may lack; None where it does.

    Without a network, that is what was seen when there was one; with HF_HUB_OFFLINE, what is not kept is not there.
    """
    from huggingface_hub import _CACHED_NO_EXIST, constants, try_to_load_from_cache

    try:
        return fetch_file(repository, file, revision)
    except NotInRepository:
        return None
    except HubError:
        absent = try_to_load_from_cache(repository, file, revision=revision) is _CACHED_NO_EXIST
        if absent or constants.HF_HUB_OFFLINE:
            return None
        raise


def stated_sha256(path: Path) -> str | None:
    """Return the SHA-256 that the hub states for a large file: the name under which its cache keeps the bytes."""
    if not path.is_symlink():  # a small file, or a system without links
        return None
    name = os.path.basename(os.readlink(path))
    return name if SHA256.fullmatch(name) else None


def endpoint() -> str:
    """Return the address that is asked."""
    from huggingface_hub import constants

    return constants.ENDPOINT


def _reason(error: BaseException) -> str:
    """Say in one line why the client failed."""
    from huggingface_hub import constants
    from huggingface_hub.utils import LocalEntryNotFoundError, RepositoryNotFoundError

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set, and it was not fetched before"
    if isinstance(error, LocalEntryNotFoundError):  # "... and it is not in the cache either": why it was asked there
        error = error.__cause__ or error
    if isinstance(error, RepositoryNotFoundError):
        return "there is no such repository, or it shows itself only to who has access (HF_TOKEN)"
    return " ".join(str(error).split())[:300] or type(error).__name__
