"""Decode a study in a serving engine: vLLM with the study's own steerers in it, in an environment of its own.

Its rows are those of the study's own process but for rounding: the engine computes attention by other kernels, over
blocks of memory, in batches of its own making. What it cannot serve (oracles, methods that act inside attention, scopes
that reach into the prompt, contexts of another prompt, sampled replies) is decoded in the study's own process.
"""

import shlex
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from interv import VLM, Prompt
from methods import L2S, MeanSteering, MeanSteeringBA, NormRnd
from methods.steerer import Fitted
from studies.fit.method_traits import adds
from studies.fit.setting import Setting
from studies.run.answer import Workers
from studies.run.checkpoint import Checkpoint
from studies.run.work import Job, Unit, replied
from studies.run.workers import working

SERVED = (L2S, MeanSteering, MeanSteeringBA, NormRnd)
SCOPES = ("response", "generated")
AT_ONCE = 64  # requests that are under way, from which the engine makes its batches


class Engine:
    """Answers units of work over HTTP. Raises ModuleNotFoundError where the serving distribution is not installed.

    Args:
        vlm: the study's own model, for what the engine cannot serve; its checkpoint is what the engine serves.
        python: of the environment that has vLLM and interv-vllm.
        options: further arguments of vLLM's server.
    """

    count = 1

    def __init__(self, vlm: VLM, model: str, python: str, options: Sequence[str] = ()) -> None:
        try:
            self._client, self._server, export = (
                import_module(f"interv_vllm.{name}") for name in ("client", "own_server", "export")
            )
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "--engine needs the serving distribution beside the toolkit: pip install --no-deps interv-vllm (in a "
                "clone, ./serving)."
            ) from error
        self._vlm, self._python = vlm, python
        self._options = ("--dtype", str(vlm.model.dtype).removeprefix("torch."), *options)
        self._folder = TemporaryDirectory(prefix="interv-")
        self._model = export.export_for_vllm(export.folder_of(model), self._path / "model", vlm.fingerprint)
        self._loaded: list[Fitted] = []
        self._running: AbstractContextManager[str] | None = None
        self._url = self._name = ""

    def answers(self, job: Job, units: Iterable[Unit]) -> Iterator[list[list[str]]]:
        self._load([setting.steerer for setting in job.settings if _steers(setting) and _can_be_served(setting, job)])
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for unit in units:
                yield self._answer(pool, job, unit)

    def close(self) -> None:
        if self._running is not None:
            self._running.__exit__(None, None, None)
        self._folder.cleanup()

    def _answer(self, pool: ThreadPoolExecutor, job: Job, unit: Unit) -> list[list[str]]:
        """Its groups here or there, in their order."""
        there = [_can_be_answered(unit, [job.settings[place] for place in group], job) for group in unit.groups]
        asked = [
            [pool.submit(self._ask, prompt, job.settings[place], job) for place in group for prompt in unit.prompts]
            for group, goes in zip(unit.groups, there, strict=True)
            if goes
        ]
        own = [group for group, goes in zip(unit.groups, there, strict=True) if not goes]
        here = replied(self._vlm, job, Unit(unit.prompts, unit.apart, own, unit.vectors)) if own else iter(())
        came = iter(asked)
        return [[one.result() for one in next(came)] if goes else next(here) for goes in there]

    def _ask(self, prompt: Prompt, setting: Setting, job: Job) -> str:
        xargs = None
        if _steers(setting):
            number = next(place for place, one in enumerate(self._loaded) if one is setting.steerer)
            xargs = {"steer": str(number), "steer_strength": setting.strength}
        request = self._client.request_of(prompt, self._name, job.max_new_tokens, xargs)
        ids = self._client.asked(self._url, request)["token_ids"]
        return self._vlm.processor.tokenizer.decode(ids, skip_special_tokens=True)

    def _load(self, steerers: Sequence[Fitted]) -> None:
        """An engine knows what it was started with, so another one is started where a steerer is new."""
        known = {id(one) for one in self._loaded}
        new = [one for number, one in {id(one): one for one in steerers}.items() if number not in known]
        if self._running is not None and not new:
            return
        if self._running is not None:
            self._running.__exit__(None, None, None)
        for one in new:
            one.save(self._path / str(len(self._loaded)))
            self._loaded.append(one)
        named = {str(number): str(self._path / str(number)) for number in range(len(self._loaded))}
        self._running = self._server.running(named, self._model, python=self._python, options=self._options)
        self._url = self._running.__enter__()
        self._name = self._client.model_of(self._url)

    @property
    def _path(self) -> Path:
        return Path(self._folder.name)


@contextmanager
def decoding(
    vlm: VLM, checkpoint: Checkpoint, workers: int | None, ray: str | None, engine: str | None, options: str
) -> Iterator[Workers | None]:
    """Where a study decodes, ended with the block; None for its own process alone.

    Raises ValueError for an engine beside workers, and as `working` and `Engine` do.
    """
    if engine is None:
        with working(checkpoint, vlm.fingerprint, workers, ray) as crew:
            yield crew
        return
    if workers or ray:
        raise ValueError("--engine makes its own batches on all that vLLM has; leave --workers and --ray out.")
    own = Engine(vlm, checkpoint.model, engine, shlex.split(options))
    try:
        yield own
    finally:
        own.close()


def _steers(setting: Setting) -> bool:
    return adds(type(setting.steerer))


def _can_be_served(setting: Setting, job: Job) -> bool:
    steerer: Any = setting.steerer
    if job.sampling.get("do_sample") or job.sampling.get("temperature"):
        return False
    served = type(steerer) in SERVED and steerer.scope in SCOPES and not getattr(steerer, "per_input", False)
    return served or not adds(type(steerer))


def _can_be_answered(unit: Unit, settings: Sequence[Setting], job: Job) -> bool:
    """Whether all of a group can be had from the engine."""
    if any(prompt.closed for prompt in unit.prompts) or list(unit.apart) != list(unit.prompts):
        return False
    return all(_can_be_served(setting, job) for setting in settings)
