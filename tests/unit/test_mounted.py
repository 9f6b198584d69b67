"""Importing the package leaves the other libraries of the process as they were."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("first", "code"),
    [
        (
            "import interv",
            "assert not hasattr(object(), 'save'); import anyio.streams.file; from anyio.abc import SocketStream",
        ),
        ("import beartype, nnsight; import interv", "assert hasattr(object(), 'save')"),
    ],
    ids=["the package alone", "nnsight was there before"],
)
@pytest.mark.slow
def test_objects_have_what_somebody_asked_for(first: str, code: str) -> None:
    ran = subprocess.run([sys.executable, "-c", f"{first}; {code}"], capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
