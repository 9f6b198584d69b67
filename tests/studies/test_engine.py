"""A study that decodes in a serving engine: what goes there, what stays here, and that both come in their order."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from interv import VLM, Prompt
from methods import L2S, P2S, MeanSteering, NoSteering, PromptSteering
from methods.steerer import Fitted
from studies.fit.setting import Setting
from studies.run.checkpoint import Checkpoint
from studies.run.engine import Engine, decoding
from studies.run.work import Job, Unit, replied

PROMPTS = [Prompt(None, "is there a bus ?"), Prompt(None, "is there a cat ?")]


@pytest.fixture(scope="module")
def llava() -> VLM:
    return VLM.load("tiny-llava")


@pytest.fixture
def served(llava: VLM, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The serving distribution, with the study's own model as its engine; what it was started with and asked."""
    seen: list[Any] = []

    @contextmanager
    def running(steerers: dict[str, str], model: Path, **options: Any) -> Iterator[str]:
        seen.append(sorted(steerers))
        yield "http://engine"
        seen.append("ended")

    def asked(url: str, request: Any) -> dict[str, Any]:
        prompt, tokens, xargs = request
        seen.append(xargs)
        return {"token_ids": llava.generate([prompt], max_new_tokens=tokens).token_ids[0]}

    client = {
        "asked": asked,
        "model_of": str,
        "request_of": lambda prompt, name, tokens, xargs: (prompt, tokens, xargs),
    }
    export = {"export_for_vllm": lambda *about: about[1], "folder_of": Path}
    for name, content in {"client": client, "own_server": {"running": running}, "export": export}.items():
        monkeypatch.setitem(sys.modules, f"interv_vllm.{name}", SimpleNamespace(**content))
    monkeypatch.setitem(sys.modules, "interv_vllm", ModuleType("interv_vllm"))
    return seen


def fitted(llava: VLM) -> dict[str, Fitted]:
    width, own = llava.d_model, (3, 3, llava.fingerprint)
    l2s = L2S(*own, torch.ones(4, width), torch.zeros(4), torch.ones(width, 4))
    mean = MeanSteering(*own, torch.ones(width))
    return {
        "l2s": l2s,
        "mean": mean,
        "everywhere": replace(mean, scope="all"),
        "oracle": P2S(*own),
        "none": NoSteering(*own),
    }


def test_what_can_be_served_goes_there_and_the_rest_stays(llava: VLM, served: list[Any]) -> None:
    settings = [Setting(one, 2.0) for one in fitted(llava).values()]
    job = Job(settings, 4, {})
    vectors = {3: torch.zeros(len(PROMPTS), llava.d_model)}
    unit = Unit(PROMPTS, PROMPTS, [[0], [2, 3], [4], [1]], vectors)
    engine = Engine(llava, "tiny-llava", "python")
    (parts,) = engine.answers(job, [unit])
    engine.close()
    plain = list(llava.generate(PROMPTS, max_new_tokens=4))
    (here,) = replied(llava, job, Unit(PROMPTS, PROMPTS, [[2, 3]], vectors))
    assert parts == [plain, here, plain, plain]
    assert served[0] == ["0", "1"]
    assert served[-1] == "ended"
    asked = [one for one in served[1:-1] if one is not None]
    assert sorted(one["steer"] for one in asked) == ["0", "0", "1", "1"]
    assert {one["steer_strength"] for one in asked} == {2.0}
    assert served.count(None) == len(PROMPTS)  # NoSteering is asked without a name


@pytest.mark.parametrize("change", ["sampled", "another context", "closed"])
def test_replies_that_an_engine_would_not_give_stay_here(change: str, llava: VLM, served: list[Any]) -> None:
    sampling = {"do_sample": True, "seed": 0} if change == "sampled" else {}
    closed = [replace(prompt, closed=True) for prompt in PROMPTS]
    asked, apart = (closed if change == "closed" else PROMPTS), (PROMPTS if change == "sampled" else closed)
    job = Job([Setting(fitted(llava)["mean"], 1.0)], 2, sampling)
    engine = Engine(llava, "tiny-llava", "python")
    (parts,) = engine.answers(job, [Unit(asked, apart, [[0]], {})])
    engine.close()
    assert len(parts[0]) == len(PROMPTS)
    assert not [one for one in served if isinstance(one, dict)]


def test_an_engine_is_started_again_for_new_steerers_alone(llava: VLM, served: list[Any]) -> None:
    own, engine = fitted(llava), Engine(llava, "tiny-llava", "python")
    for names in (["mean"], ["mean", "none"], ["mean", "l2s"]):
        job = Job([Setting(own[name], 1.0) for name in names], 1, {})
        list(engine.answers(job, [Unit(PROMPTS[:1], PROMPTS[:1], [[*range(len(names))]], {})]))
    engine.close()
    assert [one for one in served if isinstance(one, list | str)] == [["0"], "ended", ["0", "1"], "ended"]


def test_prompts_of_words_are_served_as_they_were_rewritten(llava: VLM, served: list[Any]) -> None:
    job = Job([Setting(PromptSteering(0, 0, llava.fingerprint), 0.0)], 1, {})
    list(Engine(llava, "tiny-llava", "python").answers(job, [Unit(PROMPTS, PROMPTS, [[0]], {})]))
    assert served.count(None) == len(PROMPTS)


def test_it_says_what_it_needs(llava: VLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "interv_vllm", None)
    with pytest.raises(ModuleNotFoundError, match="pip install --no-deps interv-vllm"):
        Engine(llava, "tiny-llava", "python")
    for own in ((2, None), (None, "local")):
        with (
            pytest.raises(ValueError, match="leave --workers and --ray out"),
            decoding(llava, Checkpoint(), *own, "python", ""),
        ):
            pass
