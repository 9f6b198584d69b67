"""Fine-tuning for a while: it learns what it is shown, trains what it says, and leaves the model as it was."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from interv import VLM, Add, Prompt, Site
from studies.finetuning import Arguments, finetuning
from studies.fit.tuning import IGNORED, Kind, Tuning, batches_of, end_of, tuned
from studies.fit.wanted import wanted_replies
from studies.tasks import TASKS
from tests.property.cases import Ask
from tests.property.reference import bitwise, close
from tests.tiny_models import RANDOM, build

KINDS: tuple[Kind, ...] = ("LoRA", "FullFineTuning")
each_kind = pytest.mark.parametrize("kind", KINDS)
RATES = {"LoRA": 3e-2, "FullFineTuning": 3e-3}


@pytest.fixture(params=RANDOM)
def small(request: pytest.FixtureRequest) -> VLM:
    return build(request.param)


def lessons() -> list[tuple[Prompt, str]]:
    """Of several lengths, about images of one size, and without one."""
    said = ("yes", "no it is not", "an image", "a tiger")
    asks = [Ask("is it so ?"[: 4 + 2 * row], ((28, 28),), row) for row in range(3)] + [Ask("and this is text?", (), 3)]
    return [(ask.prompt(), reply) for ask, reply in zip(asks, said, strict=True)]


def state(vlm: VLM) -> dict[str, Any]:
    """All that must be as it was: weights, what is trained, and what the model answers."""
    weights = {name: value.clone() for name, value in vlm.model.state_dict().items()}
    flags = {name: parameter.requires_grad for name, parameter in vlm.model.named_parameters()}
    with torch.no_grad():
        logits = vlm.logits([prompt for prompt, _ in lessons()])
    return {"weights": weights, "flags": flags, "logits": logits, "attributes": {*vars(vlm.model)}}


def same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert (one["flags"], one["attributes"]) == (other["flags"], other["attributes"])
    assert one["weights"].keys() == other["weights"].keys()
    for name, value in one["weights"].items():
        bitwise(value, other["weights"][name])
    bitwise(one["logits"], other["logits"])


@pytest.mark.parametrize(("name", "kind"), zip(RANDOM, KINDS, strict=True))
def test_lessons_are_learnt_by_heart_and_the_model_is_back_afterwards(name: str, kind: Kind) -> None:
    small = build(name)
    before, fingerprint, mode = state(small), small.fingerprint, small.model.training
    with tuned(small, lessons(), Tuning(kind, RATES[kind], epochs=40, batch_size=4)) as trained:
        replies = small.generate([prompt for prompt, _ in lessons()], max_new_tokens=20)
        assert [reply.strip() for reply in replies] == [reply for _, reply in lessons()]
        assert set(replies.finish_reason) == {"stop"}
        assert small.fingerprint != fingerprint
        assert trained.losses[-1] < 0.5 * trained.losses[0]
    same(state(small), before)
    assert (small.fingerprint, small.model.training) == (fingerprint, mode)
    assert all(parameter.grad is None for parameter in small.model.parameters())


@each_kind
def test_the_model_is_back_after_an_error(small: VLM, kind: Kind) -> None:
    before = state(small)
    with pytest.raises(KeyError, match="in the midst"), tuned(small, lessons(), Tuning(kind, 1e-2, epochs=1)):
        raise KeyError("in the midst")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", lambda *args, **how: (_ for _ in ()).throw(RuntimeError("no step")))
        with pytest.raises(RuntimeError, match="no step"), tuned(small, lessons(), Tuning(kind, 1e-2)):
            pytest.fail("nothing was trained")
    same(state(small), before)


@each_kind
def test_the_language_model_alone_moves(small: VLM, kind: Kind) -> None:
    blocks = small.layout.blocks
    language = blocks.rpartition(".")[0]
    before = {name: value.clone() for name, value in small.model.state_dict().items()}
    with tuned(small, lessons(), Tuning(kind, 1e-2, epochs=2)) as trained:
        now = {name.replace(".base_layer", ""): value for name, value in small.model.state_dict().items()}
        moved = {name for name, value in before.items() if not torch.equal(value, now[name])}
        added = {name for name in now if name not in before}
        count = sum(now[name].numel() for name in (added if kind == "LoRA" else moved))
    if kind == "LoRA":
        assert not moved
        assert added
        assert all(name.startswith(f"{blocks}.") and ".lora_" in name for name in added)
    else:
        assert not added
        assert moved
        assert all(name.startswith((language, small.layout.output_head)) for name in moved)
    assert trained.parameters == count
    numbers = 4 if kind == "LoRA" else 5  # trained, gradient, two moments; and the weights that are put back
    assert 0 <= trained.held_bytes - 4 * numbers * count < 4 * len(added | moved) + 1


def test_labels_are_the_reply_and_its_end(small: VLM) -> None:
    learnt = []
    for inputs, labels in batches_of(small, lessons(), Tuning("LoRA", 1e-3, batch_size=3)):
        assert torch.equal(labels[labels != IGNORED], inputs["input_ids"][labels != IGNORED])
        for row in labels:
            assert row[-1] == end_of(small)
            learnt.append(small.processor.tokenizer.decode(row[row != IGNORED][:-1]).strip())
    assert sorted(learnt) == sorted(reply for _, reply in lessons())


def test_a_padded_batch_has_the_losses_of_its_rows(small: VLM) -> None:
    """Token by token: padding and other rows count for nothing."""
    tuning = Tuning("LoRA", 1e-3, batch_size=4)
    ((inputs, labels),) = batches_of(small, lessons(), tuning)
    alone = [batches_of(small, [lesson], tuning)[0] for lesson in lessons()]
    with torch.no_grad():
        whole = small.model(**inputs, labels=labels).loss
        single = [small.model(**own, labels=said).loss * (said != IGNORED).sum() for own, said in alone]
    close(whole, sum(single) / (labels != IGNORED).sum(), 1e-4)


@each_kind
def test_the_same_seed_gives_the_same_model_and_draws_from_no_global_one(kind: Kind) -> None:
    small, found = build("random-llava"), []
    for stands, seed in ((1, 0), (2, 0), (3, 1)):
        torch.manual_seed(stands)
        before = torch.get_rng_state()
        with tuned(small, lessons(), Tuning(kind, 1e-2, epochs=2, batch_size=2, seed=seed)):
            found.append(small.logits([lessons()[0][0]]))
        assert torch.equal(torch.get_rng_state(), before)
    bitwise(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_vectors_of_the_model_as_it_was_are_refused(small: VLM) -> None:
    push = Add(Site(1), torch.ones(small.d_model), fingerprint=small.fingerprint)
    with tuned(small, lessons(), Tuning("LoRA", 1e-2, epochs=1)):
        with pytest.raises(ValueError, match="captured from model"):
            small.generate([lessons()[0][0]], [push])
        small.generate([lessons()[0][0]], [replace(push, fingerprint=None)], max_new_tokens=2)
    small.generate([lessons()[0][0]], [push], max_new_tokens=2)


def test_what_cannot_be_learnt_is_refused(small: VLM) -> None:
    with pytest.raises(ValueError, match="There are no replies to learn from"), tuned(small, [], Tuning("LoRA", 1e-3)):
        pytest.fail("nothing was trained")
    with pytest.raises(ValueError, match="'QLoRA' is no kind of fine-tuning; there are LoRA, FullFineTuning"):
        unchecked("QLoRA")


def unchecked(kind: Any) -> None:
    """As it is without the tests' own checks of types."""
    made = object.__new__(Tuning)
    object.__setattr__(made, "kind", kind)
    made.__post_init__()


@pytest.mark.parametrize("name", ["shapes_pope", "shapes_safety"])
def test_wanted_replies_are_whole_and_right(name: str) -> None:
    """Answers to the question as it is asked; of the safety task without the label that led to them."""
    vlm, task = build("tiny-llava"), TASKS[name]()
    chosen = range(0, len(task.prompts("val")), 60)
    examples, pairs = ([every[place] for place in chosen] for every in (task.prompts("val"), task.pairs("val")))
    found = wanted_replies(vlm, task, examples, pairs, batch_size=8)
    target = {id(example.prompt): example.target for example in examples}
    assert len(found) > 0.8 * len(examples)
    for prompt, reply in found:
        assert task.valid(reply)
        assert task.parse(reply) == target[id(prompt)]
        assert "harmful" not in reply
        assert "expert ." not in reply


def test_workers_are_refused() -> None:
    with pytest.raises(ValueError, match="leave --workers, --ray and --engine out"):
        finetuning(Arguments(workers=2))
    with pytest.raises(ValueError, match="lies above 0 and below 1"):
        finetuning(Arguments(rates=(3.0,)))


@pytest.mark.slow
def test_the_study_tells_price_and_what_is_forgotten_and_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = Arguments(out=tmp_path, limit=4, screen=2, rates=(1e-3,), epochs=1, shown=1)
    records = finetuning(arguments)
    assert {record["method"] for record in records} == {"NoSteering", *KINDS}
    prices = json.loads((tmp_path / "finetuning.json").read_text())
    assert prices["LoRA"]["rate"] == 10 * prices["FullFineTuning"]["rate"] == 1e-3
    assert prices["LoRA"]["parameters"] < prices["FullFineTuning"]["parameters"]
    forgotten = json.loads((tmp_path / "forgotten.json").read_text())
    assert {record["task"] for record in forgotten} == {"shapes_safety"}
    text = (tmp_path / "table.md").read_text()
    assert "What it costs" in text
    assert "What it forgets: shapes_safety" in text
    monkeypatch.setattr("studies.finetuning.tuned", lambda *args: pytest.fail("it was trained again"))
    assert finetuning(arguments) == records
