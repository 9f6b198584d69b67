"""The same inside vLLM, in a process and an environment of its own that is asked line by line."""

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from interv import Prompt
from interv.prompts.rendering import render
from methods import L2S
from studies.timing.models import Contestants

SCRIPT = Path(__file__).parents[2] / "serving" / "contestant.py"


class Served:
    """An engine that has the model, one steerer and these prompts; it says nothing until it is asked."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.about: dict[str, Any] = self._line()

    def replies(self, count: int, tokens: int, *, steered: bool) -> list[list[int]]:
        """The tokens that follow the first `count` prompts, all asked at once. Raises RuntimeError where vLLM ended."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # an engine that ended is said by what it does not answer
            self._process.stdin.write(json.dumps({"count": count, "tokens": tokens, "steered": steered}) + "\n")
            self._process.stdin.flush()
        return self._line()

    def _line(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"vLLM ended with status {self._process.wait()}; what it said stands above.")
        return json.loads(line)


@contextmanager
def served(python: Path, on: Contestants, prompts: Sequence[Prompt], steerer: L2S) -> Iterator[Served]:
    """The engine, which `python` starts with torch's threads here and the model's precision; it ends with the block."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        on.plain.save_pretrained(folder / "source")
        on.vlm.processor.save_pretrained(folder / "source")
        steerer.save(folder / "l2s")
        rows = []
        for number, prompt in enumerate(prompts):
            prompt.images()[0].save(folder / f"{number}.png")
            rows.append({"prompt": render(on.vlm.processor, prompt), "image": f"{number}.png"})
        (folder / "prompts.json").write_text(json.dumps(rows))
        dtype = str(on.plain.dtype).removeprefix("torch.")
        command = list(map(str, (python, SCRIPT, folder, torch.get_num_threads(), dtype)))
        own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # this environment's packages
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=own) as process:
            try:
                yield Served(process)
            finally:
                process.terminate()
