"""`python -m interv_vllm export | serve | verify | small`, for environments without the toolkit's own command."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from interv_vllm.export import export_for_vllm, folder_of, source_of
from interv_vllm.own_server import running
from interv_vllm.server import how_to_ask, names_of, serve
from interv_vllm.verify import table, verify


def main(arguments: Sequence[str] | None = None) -> None:
    """Ends with status 1 and a sentence where something cannot be had."""
    given = _parser().parse_args(arguments)
    try:
        status = {"export": _export, "serve": _serve, "verify": _verify, "small": _small}[given.command](given)
    except (ValueError, RuntimeError, ModuleNotFoundError, OSError) as error:
        sys.exit(str(error))
    if status:
        sys.exit(status)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("interv_vllm", description="Steered replies from vLLM.")
    commands = parser.add_subparsers(dest="command", required=True)
    export = commands.add_parser("export", help="write a checkpoint as vLLM wants it")
    export.add_argument("model", help="a folder, an embedded model's name, or a hub id")
    export.add_argument("folder", type=Path)
    start = commands.add_parser("serve", help="start an OpenAI-compatible server; what it does not know is vLLM's")
    small = commands.add_parser("small", help="a small server around the toolkit, without vLLM")
    for own in (start, small):
        own.add_argument("steerers", nargs="+", help="folders, .gguf or .safetensors files, hub ids; or name=path")
        own.add_argument("--model", required=True)
        own.add_argument("--host", default="127.0.0.1")
        own.add_argument("--port", type=int, default=8000)
    start.add_argument("--python", help="of the environment that has vLLM")
    start.add_argument("--options", nargs=argparse.REMAINDER, default=[], help="all behind it goes to vLLM's server")
    check = commands.add_parser("verify", help="compare an engine with the toolkit")
    check.add_argument("steerer", help="the folder that steerer.save wrote")
    check.add_argument("--model", required=True)
    check.add_argument(
        "--engine",
        default="http://127.0.0.1:8000",
        help="a server's address; or a python that has vLLM: engines are started by it, with graphs and without",
    )
    check.add_argument("--file", type=Path, required=True, help='lines of {"image": path, "question": ...}')
    check.add_argument("--name", help="the steerer's name there; its folder's by default")
    check.add_argument("--strength", type=float, default=1.0)
    check.add_argument("--dtype", default="auto", help="the precision in which both compute")
    check.add_argument("--options", nargs=argparse.REMAINDER, default=[], help="of the engines that are started")
    return parser


def _export(given: argparse.Namespace) -> int:
    folder, fingerprint = source_of(given.model)
    print(f"Wrote {export_for_vllm(folder, given.folder, fingerprint)}.")
    return 0


def _steerers(given: argparse.Namespace) -> Any:
    named = all("=" in one for one in given.steerers)
    return dict(one.split("=", 1) for one in given.steerers) if named else given.steerers


def _small(given: argparse.Namespace) -> int:
    import uvicorn

    from interv import VLM
    from interv_vllm.small import application
    from methods import load_steerer

    steerers = {name: load_steerer(path) for name, path in names_of(_steerers(given)).items()}
    app = application(VLM.load(given.model), steerers, given.model)
    print(how_to_ask(steerers, given.model, given.host, given.port), flush=True)
    uvicorn.run(app, host=given.host, port=given.port, log_level="warning")
    return 0


def _serve(given: argparse.Namespace) -> int:
    return serve(
        _steerers(given), given.model, host=given.host, port=given.port, python=given.python, options=given.options
    )


def _verify(given: argparse.Namespace) -> int:
    """Steered, and unsteered beside it: a difference of both is not the steering's."""
    from interv import VLM, Prompt
    from methods import NoSteering, load_steerer

    vlm, steerer = VLM.load(given.model, dtype=given.dtype), load_steerer(given.steerer)
    rows = [json.loads(line) for line in given.file.read_text().splitlines() if line.strip()]
    prompts = [Prompt(row.get("image"), row["question"]) for row in rows]
    name = given.name or Path(given.steerer).resolve().name
    alike = True
    for kind, address in _engines(given, vlm, name):
        with address as url:
            steered = verify(vlm, prompts, steerer, url, name=name, strength=given.strength)
            plain = verify(vlm, prompts, NoSteering(0, 0, ""), url, name=None)
        alike = alike and all(one.equal for one in steered + plain)
        print(table(f"{kind}unsteered", plain), table(f"{kind}{name} at {given.strength:g}", steered), sep="\n")
    return 0 if alike else 1


def _engines(given: argparse.Namespace, vlm: Any, name: str) -> Iterator[tuple[str, AbstractContextManager[str]]]:
    """What each is called in the table, and its address for as long as it is asked."""
    if "://" in given.engine:
        yield "", nullcontext(given.engine)
        return
    eager = "--enforce-eager"
    with TemporaryDirectory() as folder:
        model = export_for_vllm(folder_of(given.model), folder, vlm.fingerprint)
        own = ["--dtype", str(vlm.model.dtype).removeprefix("torch."), *given.options]
        ways = {"eager, ": own} if eager in own else {"graphs, ": own, "eager, ": [*own, eager]}
        for kind, options in ways.items():
            yield kind, running({name: given.steerer}, model, python=given.engine, options=options)


if __name__ == "__main__":
    main()
