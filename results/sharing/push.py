"""Uploading an exported classifier to the Hugging Face hub: the file and its card, and nothing else.

The hub's own client does it, with its settings: HF_ENDPOINT, HF_TOKEN or the token of `hf auth login`.
"""

from __future__ import annotations

import re
from pathlib import Path

from clip.loading.hub import SCHEME, endpoint
from runs.files import ResultsError
from runs.restore.hub import FILE, REPOSITORY

from .card import NAME as CARD

TOKEN_REMEDY = "set HF_TOKEN to a token that may write (https://huggingface.co/settings/tokens), or run `hf auth login`"


def check_push(repository: str) -> str:
    """Look at what can be wrong with an upload before anything is made.

    Parameters
    ----------
    repository
        As "user/name", with or without hf:// before it.

    Returns
    -------
    str
        Without hf://.

    Raises
    ------
    ResultsError
        For a name that can be none, while HF_HUB_OFFLINE is set, and without a token.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import LocalTokenNotFoundError, build_hf_headers

    name = repository.removeprefix(SCHEME).rstrip("/")
    if not re.fullmatch(REPOSITORY, name) or ".." in name:
        raise ResultsError(f"--push {repository}: write USER/REPOSITORY, such as me/pets-plot")
    if constants.HF_HUB_OFFLINE:
        raise ResultsError("--push needs the hub, and HF_HUB_OFFLINE is set; unset it, or leave --push out")
    try:
        build_hf_headers(token=True)
    except LocalTokenNotFoundError as error:
        raise ResultsError(f"--push needs a token of the hub, and there is none here; {TOKEN_REMEDY}") from error
    return name


def push(file: Path, card: Path, repository: str, private: bool = False, revision: str = "") -> str:
    """Upload an exported file, and its card, in one commit.

    Parameters
    ----------
    file, card
        What is uploaded; there they are called `runs.restore.hub.FILE` and README.md.
    repository
        As "user/name"; made where it is not there yet.
    private
        Whether one that is made shows itself only to its owner. One that is there stays as it is.
    revision
        Branch, made where it is not there yet; "" for the default one.

    Returns
    -------
    str
        The address of the repository.

    Raises
    ------
    ResultsError
        Where the hub refuses, or is not reached; the files on this machine are as they were.
    """
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.utils import HfHubHTTPError

    hub = HfApi()
    files = {FILE: file, CARD: card}
    try:
        hub.create_repo(repository, private=private or None, exist_ok=True)
        if revision:
            hub.create_branch(repository, branch=revision, exist_ok=True)
        hub.create_commit(
            repository,
            [CommitOperationAdd(path_in_repo=name, path_or_fileobj=str(path)) for name, path in files.items()],
            commit_message=f"Upload {FILE}",
            revision=revision or None,
        )
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        remedy = f"; is the token one of that account, and may it write? If not, {TOKEN_REMEDY}"
        raise ResultsError(
            f"{endpoint()} refused the upload to {repository}: {_one_line(error)}{remedy * (status in (401, 403))}"
        ) from error
    except Exception as error:  # of the library that makes the requests, which has changed
        raise ResultsError(
            f"cannot upload to {repository} at {endpoint()}: {_one_line(error)}; {file} is as it was: try again"
        ) from error
    return f"{endpoint()}/{repository}" + (f"/tree/{revision}" if revision else "")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
