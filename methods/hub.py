"""Steerers on the Hugging Face hub: a folder is put there, and the files that a steerer is made of are fetched."""

import re
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError, LocalEntryNotFoundError

from methods.kept import CARD, TENSORS

_PARTS = ("", "*/")  # a steerer that is made of others keeps these in folders of its own
FETCHED = tuple(f"{part}{name}" for part in _PARTS for name in (CARD, TENSORS))  # never a pickle, never code
SENT = (*FETCHED, "README.md")


def is_repository(name: str | Path) -> bool:
    """Whether it has the form owner/name and is no folder here."""
    return not Path(name).exists() and bool(re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", str(name)))


def fetched(
    repository: str, *, revision: str | None = None, local_files_only: bool = False, token: str | None = None
) -> Path:
    """The folder of a repository's steerer, from the hub or its cache. Raises ValueError where it cannot be had."""
    try:
        folder = snapshot_download(
            repository,
            revision=revision,
            allow_patterns=list(FETCHED),
            local_files_only=local_files_only,
            token=token,
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError, HTTPError, OSError) as error:
        raise ValueError(f"{repository} is no folder here, and the hub does not give it ({_reason(error)}).") from error
    return Path(folder)


def pushed(
    folder: Path, repository: str, *, private: bool = False, token: str | None = None, message: str | None = None
) -> str:
    """Put the folder's steerer into a repository, which is made where it is not there; gives its address.

    Only the files of a steerer and its README.md are sent, whatever else the folder holds. Raises ValueError where the
    name is none, the token may not write there, or no hub answers.
    """
    api = HfApi(token=token)
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        sent = api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            allow_patterns=list(SENT),
            commit_message=message or "Upload a steerer",
        )
    except (HfHubHTTPError, HFValidationError, HTTPError, OSError) as error:
        raise ValueError(
            f"{repository} was not pushed, the hub does not take it ({_reason(error)}). The name is owner/name; "
            "`hf auth login` or HF_TOKEN gives a token, which must be one that may write there."
        ) from error
    return str(sent.commit_url)


def _reason(error: Exception) -> str:
    """The first line of what the hub's library says; the name of the error where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
