"""Inspect evaluates a model of the toolkit, steered and not: its accuracy is the toolkit's own on the same rows."""

import base64
import json
import subprocess
import sys
from contextlib import chdir
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from interv import VLM, Prompt
from methods import L2S, capture_contrasts, load_steerer, steer
from studies.tasks import TASKS
from tests.studies.world_file import write_world

pytest.importorskip("inspect_ai", reason="Inspect is not installed: pip install 'interv[inspect]'")

from inspect_ai import eval as evaluate
from inspect_ai.log import read_eval_log
from inspect_ai.model import (
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    ContentAudio,
    ContentImage,
    ContentText,
    GenerateConfig,
    get_model,
)
from inspect_ai.tool import ToolInfo

from interv_harnesses.for_inspect import check, prompt_of

ROWS = 16
TASK = """
from inspect_ai import Task, task
from inspect_ai.dataset import json_dataset
from inspect_ai.model import GenerateConfig
from inspect_ai.scorer import pattern
from inspect_ai.solver import generate, system_message

@task
def world(system: str = ""):
    first = [system_message(system)] if system else []
    data = json_dataset("rows.jsonl")
    return Task(dataset=data, solver=[*first, generate()], scorer=pattern(r"^\\s*(yes|no)"),
                config=GenerateConfig(max_tokens=12, temperature=0))
"""


@pytest.fixture(scope="module")
def tiny() -> VLM:
    return VLM.load("tiny-llava")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny: VLM) -> Path:
    """A task, its images, half of them as data URLs, and a steerer."""
    folder = tmp_path_factory.mktemp("inspect")
    write_world(folder / "world", val=ROWS)
    lines = []
    for number, row in enumerate(rows(folder)):
        file = folder / "world" / row["image"]
        url = f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}"
        image = {"type": "image", "image": url if number % 2 else f"world/{row['image']}"}
        content = [image, {"type": "text", "text": row["question"]}]
        lines.append({"id": row["id"], "input": [{"role": "user", "content": content}], "target": row["target"]})
    (folder / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "task.py").write_text(TASK)
    task = TASKS["shapes_pope"]()
    bank = capture_contrasts(tiny, task.pairs("val")[:60], batch_size=60, pool="mean", progress=False)
    L2S.fit(bank.at(reads=3, writes=4), epochs=40).save(
        folder / "steerer", about={"model": {"name": "tiny-llava"}, "strength": 1.0, "max_new_tokens": 12}
    )
    return folder


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "world" / "data.jsonl").read_text().splitlines()]


def prompts(folder: Path, system: str | None = None) -> list[Prompt]:
    return [Prompt(folder / "world" / row["image"], row["question"], system=system) for row in rows(folder)]


def answer(vlm: VLM, prompt: Prompt, steerer: Any = None) -> str:
    """The toolkit's own."""
    if steerer is None:
        return vlm.generate([prompt], max_new_tokens=12)[0]
    return steer(vlm, [prompt], steerer, max_new_tokens=12)[0]


def accuracy(folder: Path, replies: list[str]) -> float:
    task = TASKS["shapes_pope"]()
    right = [task.parse(reply) == row["target"] for reply, row in zip(replies, rows(folder), strict=True)]
    return sum(right) / len(right)


def run(folder: Path, **options: Any) -> Any:
    options = {"model": "interv/tiny-llava", "display": "none", "log_dir": "logs"} | options
    with chdir(folder):
        (log,) = evaluate("task.py", **options)
    return log


def said(log: Any) -> list[str]:
    return [sample.output.completion for sample in sorted(log.samples, key=lambda sample: sample.id)]


def in_order(folder: Path, replies: list[str]) -> list[str]:
    ids = [row["id"] for row in rows(folder)]
    return [reply for _, reply in sorted(zip(ids, replies, strict=True))]


def test_the_command_finds_the_model_and_its_number_is_the_toolkits(folder: Path, tiny: VLM) -> None:
    """As somebody types it, in a process of its own."""
    if "interv" not in {one.name for one in entry_points(group="inspect_ai")}:
        pytest.skip("the distribution is not installed here, so that Inspect cannot find it: pip install -e .")
    command = [sys.executable, "-m", "inspect_ai", "eval", "task.py", "--model", "interv/tiny-llava"]
    command += ["--display", "plain", "--log-dir", "typed"]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=900)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    (file,) = (folder / "typed").iterdir()
    log = read_eval_log(str(file))
    assert log.status == "success"
    own = [answer(tiny, prompt) for prompt in prompts(folder)]
    assert log.results.scores[0].metrics["accuracy"].value == pytest.approx(accuracy(folder, own))


def test_steered_it_says_what_steer_says(folder: Path, tiny: VLM) -> None:
    steerer = load_steerer(folder / "steerer", vlm=tiny)
    log = run(folder, model_args={"steerer": str(folder / "steerer")})
    own = [answer(tiny, prompt, steerer) for prompt in prompts(folder)]
    assert said(log) == in_order(folder, own)
    assert log.results.scores[0].metrics["accuracy"].value == pytest.approx(accuracy(folder, own))
    plain = [answer(tiny, prompt) for prompt in prompts(folder)]
    assert own != plain
    assert said(run(folder, model_args={"steerer": str(folder / "steerer"), "strength": 0.0})) == in_order(
        folder, plain
    )


def test_system_turns_and_lengths_are_honoured(folder: Path, tiny: VLM) -> None:
    log = run(folder, task_args={"system": "look with care ."}, max_tokens=3)
    own = tiny.generate(prompts(folder, "look with care ."), max_new_tokens=3)
    assert said(log) == in_order(folder, list(own))
    assert {sample.output.stop_reason for sample in log.samples} == {"max_tokens"}
    assert all(sample.output.usage.output_tokens == 3 for sample in log.samples)


@pytest.mark.parametrize(
    ("setting", "value"), [("temperature", 0.7), ("top_p", 0.5), ("num_choices", 2), ("logprobs", True)]
)
def test_a_setting_that_replies_would_not_follow_is_refused(setting: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{setting}=.* is not possible here: replies are greedy"):
        check([], GenerateConfig(**{setting: value}))
    check([], GenerateConfig(temperature=0, num_choices=1, max_tokens=3, seed=1, stop_seqs=["."]))
    with pytest.raises(ValueError, match="look_up is a tool"):
        check([ToolInfo(name="look_up", description="")], GenerateConfig())


def test_a_refused_setting_ends_the_evaluation_with_its_sentence(folder: Path) -> None:
    log = run(folder, temperature=0.7, limit=1)
    assert log.status == "error"
    assert "replies are greedy" in log.error.message


def test_messages_become_the_prompt_that_the_toolkit_has(folder: Path) -> None:
    file = str(folder / "world" / rows(folder)[0]["image"])
    found = prompt_of(
        [
            ChatMessageSystem(content="be brief ."),
            ChatMessageUser(content=[ContentText(text="is this it ?"), ContentImage(image=file)]),
            ChatMessageAssistant(content="yes"),
            ChatMessageUser(content="and now ?"),
        ]
    )
    image = {"type": "image", "image": Path(file)}
    history = [("user", ["is this it ?", image]), ("assistant", "yes")]
    assert found == Prompt(None, "and now ?", system="be brief .", history=history)


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        (
            [ChatMessageUser(content="what ?"), ChatMessageAssistant(content="so")],
            "the last one is the user's question",
        ),
        ([ChatMessageUser(content=[ContentAudio(audio="a.wav", format="wav")])], "a part of type 'audio'"),
        ([ChatMessageUser(content=[ContentImage(image="https://x.y/a.png"), ContentText(text="?")])], "is an address"),
        ([ChatMessageUser(content=[ContentImage(image="nowhere.png"), ContentText(text="?")])], "does not exist"),
        ([ChatMessageUser(content=[ContentImage(image="data:image/png;base64,AA"), ContentText(text="?")])], "image"),
    ],
)
def test_what_cannot_be_asked_says_why(messages: list[Any], reason: str) -> None:
    with pytest.raises(ValueError, match=f"A sample cannot be asked: .*{reason}"):
        prompt_of(messages)


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ({"steerr": "x"}, "'steerr' is no argument here; there are steerer"),
        ({"strength": 2.0}, "strength without a steerer steers nothing"),
        ({"steerer": "nowhere"}, "nowhere holds no steerer.json"),
    ],
)
def test_arguments_that_steer_nothing_are_refused(told: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        get_model("interv/tiny-llava", memoize=False, **told)


def test_another_model_than_the_steerers_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="was fitted on model"):
        get_model("interv/tiny-qwen2vl", memoize=False, steerer=str(folder / "steerer"))
