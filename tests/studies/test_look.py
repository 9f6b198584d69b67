"""Looking inside one reply: the numbers are the model's own, and the page shows them."""

import json
from pathlib import Path

import pytest
import torch

from interv import VLM, Add, Prompt, Site
from methods import Contrasts, MeanSteering, NoSteering
from studies.look import Arguments, look
from studies.run.inside import image_maps, logit_lens, look_inside, rivals
from studies.tasks import TASKS


@pytest.fixture(scope="module", params=["tiny-llava", "tiny-qwen2vl"])
def embedded(request: pytest.FixtureRequest) -> VLM:
    return VLM.load(request.param)


@pytest.fixture(scope="module")
def prompt() -> Prompt:
    return TASKS["shapes_pope"]().prompts("val")[0].prompt


def steerer(vlm: VLM) -> MeanSteering:
    rows = torch.randn(2, vlm.d_model, generator=torch.Generator().manual_seed(0)) * 20
    train = Contrasts(rows, rows, torch.zeros_like(rows), ("",) * 2, ("a", "b"), 3, 3, vlm.fingerprint)
    return MeanSteering.fit(train)


def test_the_lens_at_the_last_block_is_what_the_model_says(embedded: VLM, prompt: Prompt) -> None:
    method = steerer(embedded)
    seen = look_inside(embedded, prompt, method, 2.0, max_new_tokens=4)
    said = embedded.logits([prompt], [Add(Site(3), 2.0 * method.vector)])[0].float().log_softmax(dim=-1)
    torch.testing.assert_close(logit_lens(embedded, seen.states[:, 0])[-1], said, rtol=1e-4, atol=1e-4)


def test_a_reply_is_the_same_whether_it_is_looked_into_or_not(embedded: VLM, prompt: Prompt) -> None:
    method = steerer(embedded)
    seen = look_inside(embedded, prompt, method, 2.0, max_new_tokens=6)
    replies = embedded.generate([prompt], [Add(Site(3), 2.0 * method.vector)], max_new_tokens=6)
    assert seen.reply == replies[0]
    assert len(seen.tokens) == seen.states.shape[1] == len(seen.stream)


def test_movement_is_what_was_added(embedded: VLM, prompt: Prompt) -> None:
    method = steerer(embedded)
    before = look_inside(embedded, prompt, NoSteering(3, 3, embedded.fingerprint), 0.0, max_new_tokens=3)
    after = look_inside(embedded, prompt, method, 2.0, max_new_tokens=3)
    length = 2.0 * method.vector.norm()
    torch.testing.assert_close(after.added, length.expand(len(after.added)), rtol=1e-3, atol=1e-3)
    assert not before.added.any()
    moved = after.moved_from(before)
    assert not moved[:3].any()
    torch.testing.assert_close(moved[3], length / after.stream[0], rtol=1e-3, atol=1e-3)


def test_attention_lies_over_the_picture(embedded: VLM, prompt: Prompt) -> None:
    seen = look_inside(embedded, prompt, steerer(embedded), 0.0, max_new_tokens=2)
    torch.testing.assert_close(seen.attention.sum(dim=1), torch.ones(embedded.n_layers), rtol=1e-4, atol=1e-4)
    maps = image_maps(embedded, embedded.encode([prompt]), seen)
    assert maps is not None
    torch.testing.assert_close(maps.sum(dim=(1, 2)), seen.image_share)
    assert (
        image_maps(
            embedded,
            embedded.encode([Prompt(None, "hello")]),
            look_inside(embedded, Prompt(None, "hello"), steerer(embedded), 0.0, max_new_tokens=2),
        )
        is None
    )


def test_rivals_are_what_is_said_or_nearly_said() -> None:
    one, other = torch.tensor([[0.0, 1.0, 3.0, 2.0]]), torch.tensor([[4.0, 1.0, 3.0, 2.0]])
    assert rivals([one, other]) == [2, 0]
    assert rivals([one, one]) == [2, 3]


@pytest.mark.slow
def test_the_study_leaves_numbers_figures_and_a_page(tmp_path: Path) -> None:
    arguments = Arguments(method="MeanSteering", limit=4, strength=(0.5,), out=tmp_path)
    records = look(arguments)
    assert {record["method"] for record in records} == {"NoSteering", "MeanSteering"}
    numbers = json.loads((tmp_path / "inside.json").read_text())
    assert len(numbers["moved"]) == 8
    assert len(numbers["MeanSteering"]["image_share"]) == 8
    assert {file.name for file in (tmp_path / "figures").iterdir()} >= {"seen.png", "lens.png", "moved-dark.png"}
    page = (tmp_path / "report.html").read_text()
    assert "Logit lens" in page
    rows = (tmp_path / "rows.jsonl").read_text()
    look(arguments)
    assert (tmp_path / "rows.jsonl").read_text() == rows


@pytest.mark.slow
def test_a_question_of_ones_own(tmp_path: Path, prompt: Prompt) -> None:
    prompt.images()[0].save(tmp_path / "own.png")
    asked = {"image": tmp_path / "own.png", "question": prompt.question, "limit": 4, "method": "MeanSteering"}
    records = look(Arguments(**asked, out=tmp_path / "result"))
    assert records
    with pytest.raises(ValueError, match="oracle"):
        look(Arguments(**asked | {"method": "P2S"}))
    with pytest.raises(ValueError, match="--question"):
        look(Arguments(image=tmp_path / "own.png"))
