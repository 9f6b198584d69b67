"""The images that rows name or hold: found, opened once each, and told apart by what is in them."""

import base64
import hashlib
from pathlib import Path, PureWindowsPath
from typing import Any

from PIL import Image

from interv.prompts.pictures import Picture, opened
from studies.tasks.pictures import held, image_flaw

# Under these an image may lie in a chat message's part.
_ADDRESSES = ("http://", "https://", "s3://", "gs://", "hf://")


class Images:
    """Opens images for one file of rows, whose paths are relative to the file's folder.

    An image that several rows name is read once. Two files with the same bytes are the same image.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: dict[Path, tuple[str, str]] = {}  # a file's flaw, and what its bytes hash to

    def picture(self, value: Any) -> tuple[Picture, str]:
        """The picture as a prompt takes it, and a name for what it shows. Raises ValueError, about "its image"."""
        value = held(value)
        if isinstance(value, dict) and not value.get("bytes") and value.get("path"):
            value = value["path"]
        if isinstance(value, str) and value.startswith("data:"):
            value = {"bytes": value.partition(",")[2], "path": None}
        if isinstance(value, dict):
            return self._of_bytes(value)
        if isinstance(value, Image.Image):
            _decoded(value)
            return value, _hash(value.convert("RGB").tobytes() + str(value.size).encode())
        if not isinstance(value, str | Path):
            raise ValueError(f"its image is a {type(value).__name__}; give a path, bytes, or null for none")
        return self._of_file(str(value))

    def _of_bytes(self, value: dict[str, Any]) -> tuple[Picture, str]:
        try:
            stored = value["bytes"]
            content = base64.b64decode(stored, validate=True) if isinstance(stored, str) else bytes(stored)
        except (KeyError, ValueError, TypeError) as error:
            raise ValueError(f"its image is an object without readable bytes ({error})") from None
        picture = {"bytes": content, "path": value.get("path")}
        _decoded(picture)
        return picture, _hash(content)

    def _of_file(self, name: str) -> tuple[Picture, str]:
        if name.lower().startswith(_ADDRESSES):
            raise ValueError(f"its image {name[:80]} is an address; download it and give the file's path")
        file = self._found(name)
        if file not in self._seen:
            try:
                _decoded(file)
                self._seen[file] = "", _hash(file.read_bytes())
            except ValueError as error:
                self._seen[file] = str(error), ""
        flaw, hashed = self._seen[file]
        if flaw:
            raise ValueError(flaw)
        return file, hashed

    def _found(self, name: str) -> Path:
        places = [self._folder / name, self._folder / PureWindowsPath(name).as_posix()]
        try:
            found = next((place for place in places if place.is_file()), None)
        except (OSError, ValueError):  # a name that no file can have: too long, or with a zero byte
            found = None
        if found is None:
            raise ValueError(f"its image {name[:200]} does not exist; paths are relative to {self._folder}")
        return found.absolute()


def _decoded(picture: Picture) -> None:
    """Raises ValueError where the image cannot be asked about, its pixels too."""
    if reason := image_flaw(picture):
        name = f" {picture.name}" if isinstance(picture, Path) else ""
        raise ValueError(f"its image{name} {reason}")
    try:
        opened(picture)
    except ValueError as error:
        raise ValueError(f"its image is broken: {error}") from None


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
