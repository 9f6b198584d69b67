"""The playground answers what `interv ask` answers, through the page's own door, for kept steerers and fitted ones."""

import base64
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from interv import VLM
from methods import L2S, NoSteering, PAILogits, capture_contrasts
from studies.own import Steered
from studies.run.checkpoint import Checkpoint
from studies.tasks import TASKS

pytest.importorskip("gradio", reason="gradio is not installed: pip install 'interv[playground]'")

from gradio_client import Client, handle_file

from interv_cli.playground.looking import growing, inside
from interv_cli.playground.offered import AT_ONCE, Offered, offered
from interv_cli.playground.page import launched, page


@pytest.fixture(scope="module", params=["tiny-llava", "tiny-qwen2vl"])
def at_once(request: pytest.FixtureRequest) -> Offered:
    return offered((), Checkpoint(model=request.param))


@pytest.fixture(scope="module")
def client(at_once: Offered) -> Iterator[Client]:
    shown = page(at_once)
    _, address, _ = launched(shown, prevent_thread_lock=True, quiet=True)
    try:
        yield Client(address, verbose=False)
    finally:
        shown.close()


@pytest.fixture
def picture(at_once: Offered, tmp_path: Path) -> Path:
    at_once.questions[0].images()[0].save(tmp_path / "0.png")
    return tmp_path / "0.png"


def test_the_page_streams_both_replies_and_ends_with_what_steered_says(
    at_once: Offered, client: Client, picture: Path
) -> None:
    question = at_once.questions[0].question
    for name, reads, writes, strength in (("L2S", *at_once.start, 1.5), ("MeanSteeringBA", 3, 5, 1.0)):
        job = client.submit(handle_file(str(picture)), question, name, reads, writes, strength, False, api_name="/ask")
        before, after, seen = job.result(timeout=120)
        prompt = replace(at_once.questions[0], image=picture)
        assert (before, after) == at_once.steered(name, reads, writes, strength).replies([prompt])[0]
        lengths = [len(out[0]) for out in job.outputs() if isinstance(out[0], str)]
        assert lengths == sorted(lengths)
        assert len({*lengths}) > 2, "the reply came at once"
        assert seen.count("<img") == 2


def test_strength_zero_is_unsteered(client: Client, at_once: Offered, picture: Path) -> None:
    before, after, _ = client.predict(
        handle_file(str(picture)), at_once.questions[0].question, "L2S", *at_once.start, 0.0, False, api_name="/ask"
    )
    assert before == after == at_once.vlm.generate([at_once.questions[0]], max_new_tokens=12)[0]


def test_what_cannot_be_asked_is_said(client: Client, at_once: Offered, picture: Path) -> None:
    for question, name, block, reason in (("  ", "L2S", 2, "Type a question"), ("is it so ?", "L2S", 99, "99")):
        with pytest.raises(Exception, match=reason):
            client.predict(handle_file(str(picture)), question, name, block, block, 1.0, False, api_name="/ask")


def test_every_method_of_the_list_answers_and_is_seen_inside(at_once: Offered) -> None:
    (prompt, *_) = at_once.questions
    for name in AT_ONCE:
        steered = at_once.steered(name, *at_once.start, 1.0)
        assert [*growing(steered, prompt)][-1] == steered.replies([prompt])[0]
        shown = inside(steered, prompt, dark=True)
        assert shown.count("<img") == 2
        for code in re.findall(r"base64,([^\"]+)", shown):
            assert base64.b64decode(code).startswith(b"\x89PNG")


def test_questions_to_begin_with_are_answered_wrongly_first(at_once: Offered) -> None:
    task = TASKS["shapes_pope"]()
    of = {
        example.prompt.question + str(example.prompt.images()[0].tobytes()): example for example in task.prompts("val")
    }
    first = at_once.questions[0]
    example = of[first.question + str(first.images()[0].tobytes())]
    assert task.parse(at_once.vlm.generate([first], max_new_tokens=12)[0]) != example.target


def test_a_method_that_changes_nothing_inside_says_so(at_once: Offered) -> None:
    rows = capture_contrasts(at_once.vlm, TASKS["shapes_pope"]().pairs("train")[:8], progress=False).at(3, 3)
    steered = Steered(at_once.vlm, PAILogits.fit(rows), 1.0, 4, {"method": "PAILogits"})
    assert "changes nothing inside the model" in inside(steered, at_once.questions[0])


def test_an_error_on_the_way_reaches_who_asked(at_once: Offered, tmp_path: Path) -> None:
    (tmp_path / "no.png").write_text("no picture")
    steered = at_once.steered("L2S", *at_once.start, 1.0)
    with pytest.raises(ValueError, match="cannot be read"):
        [*growing(steered, replace(at_once.questions[0], image=tmp_path / "no.png"))]


def test_kept_steerers_are_offered_with_their_own_blocks_and_strengths(tmp_path: Path) -> None:
    tiny = VLM.load("tiny-llava")
    about: dict[str, Any] = {"model": {"name": "tiny-llava"}, "strength": 6.0, "max_new_tokens": 9}
    NoSteering(2, 2, tiny.fingerprint).save(tmp_path / "none", about=about)
    bank = capture_contrasts(tiny, TASKS["shapes_pope"]().pairs("train")[:20], progress=False)
    L2S.fit(bank.at(3, 4), epochs=2).save(tmp_path / "l2s", about=about)
    found = offered([str(tmp_path / "l2s"), str(tmp_path / "none")], Checkpoint(model=""))
    assert [*found.choices] == [f"L2S ({tmp_path}/l2s)", f"NoSteering ({tmp_path}/none)"]
    choice = found.choices[f"L2S ({tmp_path}/l2s)"]
    assert (choice.reads, choice.writes, choice.strength, found.max_new_tokens) == ((3,), (4,), 6.0, 9)
    ((_, after),) = found.steered(f"L2S ({tmp_path}/l2s)", 3, 4, 6.0).replies(found.questions[:1])
    ((_, expected),) = Steered.load(tmp_path / "l2s").replies(found.questions[:1])
    assert after == expected
    about["model"] = {"name": "tiny-qwen2vl"}
    NoSteering(2, 2, VLM.load("tiny-qwen2vl").fingerprint).save(tmp_path / "other", about=about)
    with pytest.raises(ValueError, match="a playground has one model"):
        offered([str(tmp_path / "l2s"), str(tmp_path / "other")], Checkpoint(model=""))


def test_other_models_need_what_was_fitted_for_them() -> None:
    with pytest.raises(ValueError, match="give the folders"):
        offered((), Checkpoint(model="someone/else"))
    with pytest.raises(ValueError, match="none of the embedded world's"):
        offered((), Checkpoint(model="tiny-llava"), task="pope")
