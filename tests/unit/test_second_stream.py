"""Second streams: their rows follow, never steer or stop, and a mix of like with like changes nothing."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from interv import VLM, Prompt
from methods import VCD, ContrastBank, PAILogits, ask, steer
from methods.mixing import cut_off
from methods.streams import Noised, Stream, WithoutImage, encoded_with, kept_share
from tests.baselines import bank, contrasts, fitted, sixteen, strengths
from tests.property.cases import Ask
from tests.property.reference import bitwise, close
from tests.tiny_families import family
from tests.tiny_models import RANDOM, build

OPTIONS = {"max_new_tokens": 4, "eos_token_id": []}
MIXERS = ("PAILogits", "VCD")


@pytest.fixture(params=RANDOM)
def small(request: pytest.FixtureRequest) -> VLM:
    return build(request.param)


@dataclass(frozen=True)
class Same(Stream):
    """The prompts themselves."""

    def prompts(self, prompts: list[Prompt]) -> list[Prompt]:
        return list(prompts)


class OfTheSame(VCD):
    @property
    def stream(self) -> Stream:
        return Same()


class Recording(LogitsProcessor):
    """What the last processor before the choice is given, row by row."""

    def __init__(self) -> None:
        self.fed: list[Tensor] = []
        self.scores: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # type: ignore[override]
        self.fed.append(input_ids[:, -1].clone())
        self.scores.append(scores.clone())
        return scores


def check_companions_follow(vlm: VLM, name: str, **options: object) -> None:
    """Every row of the second stream is fed the token of its run, greedy or sampled, one reply a prompt or several."""
    prompts, seen = sixteen(name)[:3], Recording()
    settings = {**OPTIONS, "logits_processor": LogitsProcessorList([seen]), **options}
    replies = steer(vlm, prompts, fitted(vlm, name), strength=2.0, **settings)
    rows = len(replies)
    assert rows == 3 * int(options.get("num_return_sequences", 1))
    assert {len(ids) for ids in replies.token_ids} == {len(seen.fed)} == {4}
    for step, fed in enumerate(seen.fed[1:]):
        assert fed[:rows].tolist() == [ids[step] for ids in replies.token_ids]
        assert torch.equal(fed[rows:], fed[:rows])


def check_like_with_like_changes_nothing(vlm: VLM) -> None:
    """Streams of the same image, at any strength, give the plain reply, but for rounding."""
    prompts = sixteen("VCD")[:3]
    plain = vlm.generate(prompts, **OPTIONS)
    steerer = OfTheSame(0, 0, "", least=0.0)
    assert steer(vlm, prompts, steerer, strength=3.0, **OPTIONS).token_ids == plain.token_ids
    asked = ask(vlm, prompts, [steerer])
    close(asked.logits(vlm, [asked.run(steerer, 3.0)]), vlm.logits(asked.prefill)[:3], 1e-4)


def check_noise_is_of_the_image_alone(vlm: VLM) -> None:
    """The companions' pixels are the same in any batch, and the prompts' own stay as they are."""
    prompts = sixteen("PAI")[:4]
    stream = Noised(500, 1)
    whole = encoded_with(vlm, prompts, [stream]).media["pixel_values"]
    clean = vlm.encode(prompts).media["pixel_values"]
    bitwise(whole[: len(clean)], clean)
    noised = whole[len(clean) :]
    parts = [encoded_with(vlm, [prompt], [stream]).media["pixel_values"].chunk(2)[1] for prompt in prompts]
    bitwise(torch.cat(parts), noised)
    assert not torch.equal(noised, clean)
    assert not torch.equal(encoded_with(vlm, prompts, [Noised(500, 2)]).media["pixel_values"][len(clean) :], noised)


def check_unlikely_tokens_are_cut_off(vlm: VLM, name: str) -> None:
    """What is left has a tenth of the likeliest token's probability or more, with the image; that one always stays."""
    asked = ask(vlm, sixteen(name)[:4], [fitted(vlm, name)])
    own = vlm.logits(asked.prefill)[:4]
    mixed = asked.logits(vlm, [asked.run(fitted(vlm, name), 1.0)])
    kept = mixed.isfinite()
    assert kept.gather(1, own.argmax(1, keepdim=True)).all()
    share = (own.log_softmax(-1) - own.log_softmax(-1).amax(-1, keepdim=True)).exp()
    assert torch.equal(kept, share >= 0.1)
    bitwise(cut_off(own, own, 0.0), own)


@pytest.mark.parametrize("name", MIXERS)
@pytest.mark.parametrize(
    "options", [{}, {"do_sample": True, "seed": 1}, {"num_return_sequences": 2, "do_sample": True}]
)
def test_companions_follow(small: VLM, name: str, options: dict) -> None:
    check_companions_follow(small, name, **options)


def test_like_with_like_changes_nothing(small: VLM) -> None:
    check_like_with_like_changes_nothing(small)


def test_noise_is_of_the_image_alone(small: VLM) -> None:
    check_noise_is_of_the_image_alone(small)


def test_noise_grows_by_the_published_schedule() -> None:
    betas = torch.sigmoid(torch.linspace(-6, 6, 1000).double()) * (0.005 - 1e-5) + 1e-5
    close(kept_share(500).double(), (1 - betas)[:501].prod())
    assert kept_share(0) > 0.9999
    pixels = torch.randn(1, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    close(Noised(0).changed(pixels), pixels, 0.01)
    far = Noised(999).changed(pixels)
    kept = float(kept_share(999))
    assert abs(float((far * pixels).mean()) - kept**0.5) < 0.05
    assert abs(float(far.var()) - 1) < 0.1
    with pytest.raises(ValueError, match="steps 0 to 999"):
        Noised(1000)


def test_almost_no_noise_is_almost_plain(small: VLM) -> None:
    prompts, steerer = sixteen("VCD")[:2], VCD.fit(contrasts(small), least=0.0, step=0)
    asked = ask(small, prompts, [steerer])
    plain, mixed = small.logits(asked.prefill)[:2], asked.logits(small, [asked.run(steerer, 1.0)])
    strong = VCD.fit(contrasts(small), least=0.0, step=900)
    other = ask(small, prompts, [strong])
    moved = (other.logits(small, [other.run(strong, 1.0)]) - plain).abs().max()
    assert (mixed - plain).abs().max() < 0.1 * moved


@pytest.mark.parametrize("name", MIXERS)
def test_unlikely_tokens_are_cut_off(small: VLM, name: str) -> None:
    check_unlikely_tokens_are_cut_off(small, name)


def test_a_gamma_of_one_keeps_the_bits(small: VLM) -> None:
    """As published: with nothing to mix, nothing is cut off either."""
    steerer = PAILogits.fit(contrasts(small), excess=0.0)
    asked = ask(small, sixteen("PAILogits")[:3], [steerer])
    bitwise(asked.logits(small, [asked.run(steerer, 2.0)]), small.logits(asked.prefill)[:3])


def test_a_reply_ends_with_its_own_row(small: VLM) -> None:
    """End tokens, stop strings and reasons are those of the prompts' rows."""
    prompts, steerer = sixteen("VCD")[:2], fitted(small, "VCD")
    free = steer(small, prompts, steerer, **OPTIONS)
    ended = steer(small, prompts, steerer, max_new_tokens=4, eos_token_id=[free.token_ids[0][1], free.token_ids[1][1]])
    assert [ids[:2] for ids in ended.token_ids] == [ids[:2] for ids in free.token_ids]
    assert [len(ids) for ids in ended.token_ids] == [2, 2]
    assert ended.finish_reason == ["stop", "stop"]
    assert len(free) == 2
    assert free.finish_reason == ["length", "length"]


def test_the_stream_without_images_has_all_text_and_no_image(small: VLM) -> None:
    prompts = sixteen("PAI")[:3]
    encoded = encoded_with(small, prompts, [WithoutImage()])
    assert not encoded.image_mask[3:].any()
    for row, prompt in enumerate(prompts):
        bare = small.encode([replace(prompt, image=None)])
        assert torch.equal(encoded.tokens(3 + row), bare.tokens(0))
        own = encoded.position_ids[..., 3 + row, -len(bare.tokens(0)) :]
        assert torch.equal(own, bare.position_ids[..., 0, :]), "positions close up"


def test_a_stream_that_several_share_runs_once(small: VLM) -> None:
    prompts = sixteen("VCD")[:2]
    one, other = (PAILogits.fit(contrasts(small), excess=excess) for excess in (0.1, 2.0))
    asked = ask(small, prompts, [one, other, fitted(small, "VCD")])
    assert len(asked.prefill) == 6
    runs = [asked.run(one, 1.0), asked.run(other, strengths(2))]
    apart = [ids for run in runs for ids in asked.answered(small, [run], **OPTIONS).token_ids]
    assert asked.answered(small, runs, **OPTIONS).token_ids == apart


def test_beams_are_refused(small: VLM) -> None:
    with pytest.raises(ValueError, match="use num_beams=1"):
        steer(small, sixteen("VCD")[:1], fitted(small, "VCD"), num_beams=2, max_new_tokens=2)


def test_old_banks_are_read(tmp_path: Path, small: VLM) -> None:
    """Contrasts that were kept before contexts could be pooled are of the last prompt token."""
    bank(small).save(tmp_path)
    card = (tmp_path / "contrasts.json").read_text()
    assert '"context_pool": "last_prompt"' in card
    (tmp_path / "contrasts.json").write_text(card.replace(',\n "context_pool": "last_prompt"', ""))
    assert ContrastBank.load(tmp_path).context_pool == "last_prompt"


@pytest.mark.parametrize("name", ["llava_next", "llava_onevision", "qwen3_vl", "gemma3", "idefics3"])
def test_noise_is_of_the_image_alone_in_any_family(name: str) -> None:
    """Also where images come in tiles, of which the batch is filled up with zeros, or prompt by prompt."""
    vlm, stream = family(name), Noised(500)
    prompts = [Ask("what?", ((28, 28),), 1).prompt(), Ask("and this?", ((84, 28),), 2).prompt()]
    mixed = [*prompts, replace(prompts[0], image=None), replace(prompts[0], image=[prompts[0].image[0]] * 2)]
    for asked in (prompts, mixed[2:]):
        steerer = VCD(0, 0, "", least=0.0)
        whole = ask(vlm, asked, [steerer])
        logits = whole.logits(vlm, [whole.run(steerer, 1.0)])
        for row, prompt in enumerate(asked):
            alone = ask(vlm, [prompt], [steerer])
            close(logits[row : row + 1], alone.logits(vlm, [alone.run(steerer, 1.0)]), 1e-4)
    clean, noised = (encoded_with(vlm, prompts, streams).media["pixel_values"] for streams in ([], [stream]))
    assert torch.equal(noised[: len(clean)], clean)
    assert not torch.equal(noised[len(clean) :], clean)


def test_images_that_cannot_be_told_apart_are_refused() -> None:
    vlm = family("internvl")
    with pytest.raises(ValueError, match="which are whose is not known"):
        encoded_with(vlm, [Ask("what?", ((84, 28),), 1).prompt()], [Noised()])
