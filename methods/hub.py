"""Steerers on the Hugging Face hub: a folder is put there, and the files that a steerer is made of are fetched."""

import re
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

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
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"{repository} is no folder here, and the hub does not give it ({reason}).") from error
    return Path(folder)


def pushed(
    folder: Path, repository: str, *, private: bool = False, token: str | None = None, message: str | None = None
) -> str:
    """Put the folder's steerer into a repository, which is made where it is not there; gives its address.

    Only the files of a steerer and its README.md are sent, whatever else the folder holds.
    """
    api = HfApi(token=token)
    api.create_repo(repository, private=private, exist_ok=True)
    sent = api.upload_folder(
        repo_id=repository,
        folder_path=folder,
        allow_patterns=list(SENT),
        commit_message=message or "Upload a steerer",
    )
    return str(sent.commit_url)
