"""`interv <command>`: finds the command, runs it, and turns what it gives or raises into output and an exit code.

0: done. 1: it could not be done, and one line says why; `check` also says so where a row cannot be used. 2: the command
line itself is wrong. 130: interrupted.
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from interv_cli.commands import BY_NAME, COMMANDS, Command

JSON = "--json"
FAILED, WRONG, INTERRUPTED = 1, 2, 130


@dataclass(frozen=True)
class Answer:
    """What a command gives: the value that --json prints, and another exit code than 0 where it has one."""

    value: Any
    code: int = 0


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what was typed, and exit."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """The exit code of a command line."""
    rest = [word for word in arguments if word != JSON]
    if not rest or rest[0] in ("-h", "--help", "help"):
        print(overview())
        return 0 if rest else WRONG
    if rest[0] == "--version":
        print(f"interv {installed_version()}")
        return 0
    name, *words = rest
    if name not in BY_NAME:
        near = get_close_matches(name, BY_NAME, n=1)
        meant = f" Did you mean {near[0]}?" if near else f" There are {', '.join(BY_NAME)}."
        print(f"interv: {name!r} is no command.{meant}", file=sys.stderr)
        return WRONG
    return run_command(BY_NAME[name], words, as_json=JSON in arguments)


def run_command(command: Command, words: Sequence[str], *, as_json: bool) -> int:
    """The exit code of a command; with `as_json` its value alone goes to the standard output."""
    import tyro

    try:
        # What is said on the way goes to the other stream then.
        with redirect_stdout(sys.stderr) if as_json else nullcontext():
            if command.elsewhere:
                found = passed_on(command, words)
            else:
                found = tyro.cli(
                    function_of(command),
                    args=list(words),
                    prog=f"interv {command.name}",
                    description=description_of(command),
                    config=(tyro.conf.OmitArgPrefixes,),
                )
        answer = found if isinstance(found, Answer) else Answer(found)
        if as_json:
            print(json.dumps(answer.value, ensure_ascii=False, default=str))
        return answer.code
    except SystemExit as error:  # help, arguments that do not fit, or another program's reason
        if isinstance(error.code, str):
            print(f"interv {command.name}: {error.code}", file=sys.stderr)
            return FAILED
        return int(error.code or 0)
    except KeyboardInterrupt:
        print(f"interv {command.name}: interrupted; the same command goes on where it stopped.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, RuntimeError, OSError, ModuleNotFoundError) as error:
        if as_json:
            print(json.dumps({"error": str(error)}, ensure_ascii=False))
        print(f"interv {command.name}: {error}", file=sys.stderr)
        return FAILED


def passed_on(command: Command, words: Sequence[str]) -> Any:
    """What another program makes of the words; its own help where it is there, ours where it is not."""
    try:
        return function_of(command)(words)
    except ModuleNotFoundError as error:
        if not {"-h", "--help"} & {*words}:
            raise
        print(f"{description_of(command)}\n\n{error}")
        return None


def description_of(command: Command) -> str:
    return (
        f"{command.does.capitalize()}.\n\n    interv {command.name} {command.example}\n\n"
        "With --json the result comes as JSON, and all else on the error stream."
    )


def function_of(command: Command) -> Callable[..., Any]:
    module, _, name = command.target.partition(":")
    return getattr(import_module(f"interv_cli.{module}"), name)


def overview() -> str:
    """All commands, a line each."""
    width = max(len(command.name) for command in COMMANDS)
    lines = [f"  {command.name:<{width}}  {command.does}" for command in COMMANDS]
    return "\n".join(
        (
            "interv <command> ...: steer vision-language models.",
            "",
            *lines,
            "",
            "interv <command> --help says what a command takes, with an example; with --json it prints its result as",
            "JSON. It exits with 0 where it is done, 1 where it cannot be done, 2 where it was asked wrongly.",
        )
    )


def installed_version() -> str:
    try:
        return version("interv")
    except PackageNotFoundError:
        return "from a checkout"
