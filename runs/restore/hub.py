"""Learned prompts on the Hugging Face hub: names like hf://user/repo, and the one file that is got for them.

    hf://USER/REPOSITORY[@REVISION][/FOLDER]

A repository holds an exported classifier under one name, FILE, and nothing else of it is fetched. That file is
safetensors: reading it executes nothing (`exported.py`). The hub's own client does the work, so its settings hold:
HF_ENDPOINT, HF_HUB_OFFLINE, HF_HOME, HF_TOKEN.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from clip.loading.hub import SCHEME, HubError, NotInRepository, endpoint, fetch_file

from ..files import ResultsError

FILE = "classifier.safetensors"
REPOSITORY = r"[\w.-]+/[\w.-]+"
NAME = re.compile(
    rf"hf://(?P<repository>{REPOSITORY})"
    r"(?:@(?P<revision>refs/[\w.-]+/[\w.-]+|[\w.-]+))?"  # a commit, tag or branch; or refs/pr/1
    r"(?:/(?P<folder>[^@]+?))?/?"
)


class HubPlace(NamedTuple):
    """Where a classifier lies on the hub.

    Attributes
    ----------
    repository
        As "user/name".
    revision
        Branch, tag or commit; None for the default branch.
    folder
        Within the repository; empty for its top.
    """

    repository: str
    revision: str | None
    folder: str

    @property
    def file(self) -> str:
        """Path of the exported file in the repository."""
        return f"{self.folder}/{FILE}" if self.folder else FILE


def is_on_hub(name: str) -> bool:
    """Tell a name of the hub from a path."""
    return name.startswith(SCHEME)


def place_of(name: str) -> HubPlace:
    """Read a name of the hub.

    Raises
    ------
    ResultsError
        Where it is none.
    """
    match = NAME.fullmatch(name)
    if match is None or ".." in name.split("/"):
        raise ResultsError(f"{name!r} is no place on the hub; write hf://USER/REPOSITORY[@REVISION][/FOLDER]")
    return HubPlace(match["repository"], match["revision"], match["folder"] or "")


def fetch_export(name: str) -> Path:
    """Get the exported classifier that a name stands for, from the hub's cache on this machine if it is current.

    Returns
    -------
    Path
        In that cache, below a folder that is called by the commit.

    Raises
    ------
    ResultsError
        Where it cannot be had, with the reason and what to do.
    """
    place = place_of(name)
    try:
        return fetch_file(place.repository, place.file, place.revision)
    except NotInRepository as error:
        raise ResultsError(
            f"{name} holds no {place.file}{_contents(place)}; `python -m results export RUN --push USER/REPOSITORY` "
            "puts one into a repository"
        ) from error
    except HubError as error:
        raise ResultsError(f"cannot get {name} from {endpoint()}: {error}; {_remedy(error, place)}") from error


def _contents(place: HubPlace) -> str:
    """Say what a repository holds instead, for a message; "" where the hub does not answer."""
    from huggingface_hub import HfApi

    try:
        files = HfApi().list_repo_files(place.repository, revision=place.revision)
    except Exception:  # of the client and of the library that it makes requests with
        return ""
    shown = ", ".join(files[:6]) + ", ..." * (len(files) > 6)
    return f" (it holds {shown})" if files else " (it is empty)"


def _remedy(error: HubError, place: HubPlace) -> str:
    """Say what to do about a classifier that cannot be had."""
    from huggingface_hub import constants
    from huggingface_hub.utils import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    cause = error.__cause__
    if constants.HF_HUB_OFFLINE:
        return "unset it and get the file once with a network, or give the path of a copy of the file"
    if isinstance(cause, GatedRepoError):  # which is a RepositoryNotFoundError, too
        return f"accept its conditions at {endpoint()}/{place.repository}, and set HF_TOKEN to a token of that account"
    if isinstance(cause, RepositoryNotFoundError):
        return "look for a slip in the name; for a private one set HF_TOKEN, or log in with `hf auth login`"
    if isinstance(cause, RevisionNotFoundError):
        return f"it has no revision {place.revision!r}: leave that out for the newest, or look it up on the hub"
    return "without a network, get the file elsewhere and give its path; HF_ENDPOINT names a mirror"
