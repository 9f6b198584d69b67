"""A vLLM server for as long as a block lasts: on a free port of this machine, ended with all its processes."""

import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from interv_vllm.server import command_of, names_of

LONGEST = 1800.0  # seconds until it answers; graphs of a large model take their time
SAID = 2000  # characters of what it said last, in the error


@contextmanager
def running(
    steerers: Mapping[str, Any], model: str | Path, *, python: str | Path, options: Sequence[str] = ()
) -> Iterator[str]:
    """The server's address, once it answers.

    Args:
        steerers: as `serve` takes them.
        model: a folder or hub id as vLLM takes it.
        python: of the environment that has vLLM and interv-vllm.
        options: further arguments of vLLM's server.

    Raises RuntimeError with its last words where it ends before it answers, TimeoutError where it never does.
    """
    port = free_port()
    command = command_of(names_of(steerers), model, host="127.0.0.1", port=port, python=python, options=options)
    with TemporaryFile("w+") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, env=_environment())
        try:
            url = f"http://127.0.0.1:{port}"
            wait(server, url, log)
            yield url
        finally:
            end(server)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _environment() -> dict[str, str]:
    """Ours, but for where modules lie: these are of another environment."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def wait(server: "subprocess.Popen[bytes]", url: str, log: Any) -> None:
    """Until it answers. Raises as `running`."""
    latest = time.monotonic() + LONGEST
    while time.monotonic() < latest:
        if server.poll() is not None:
            log.seek(0)
            raise RuntimeError(f"vLLM's server ended before it answered:\n{log.read()[-SAID:]}")
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return
        except OSError:
            time.sleep(1)
    raise TimeoutError(f"vLLM's server did not answer within {LONGEST:g} s.")


def end(server: "subprocess.Popen[bytes]", sign: int = signal.SIGTERM) -> None:
    """With its engine's processes, which are of its group."""
    if server.poll() is not None:
        return
    os.killpg(server.pid, sign)
    try:
        server.wait(60)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
