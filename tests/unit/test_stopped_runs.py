"""Runs that go no further than what is read, caches that grow in place, and images that are processed once."""

import gc
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import Cache, DynamicCache

from interv import HOOKS, VLM, Add, Prompt, Site
from interv.running.prefill import fork
from interv.running.room import CHUNK, make_room
from methods import ContrastPair, capture_contrasts


def asked(question: str = "is it red ?") -> Prompt:
    return Prompt(Image.new("RGB", (28, 28), (200, 20, 20)), question)


def calls(vlm: VLM, layer: int, run) -> int:
    """How often a block runs."""
    seen: list[int] = []
    block = vlm.model.get_submodule(f"{vlm.layout.blocks}.{layer}")
    handle = block.register_forward_pre_hook(lambda module, args: seen.append(1))
    run()
    handle.remove()
    return len(seen)


def test_no_block_runs_above_what_is_read(vlm: VLM) -> None:
    pair = ContrastPair(asked(), replace(asked(), answer="yes"), replace(asked(), answer="no"))
    top = vlm.n_layers - 1
    assert calls(vlm, top, lambda: vlm.capture([asked()], [Site(top - 1)])) == 0
    assert calls(vlm, top, lambda: capture_contrasts(vlm, [pair], layers=[top - 1], progress=False)) == 0
    assert calls(vlm, top - 1, lambda: capture_contrasts(vlm, [pair], layers=[top - 1], progress=False)) > 0


def test_the_prompt_leaves_the_last_block_half_way(vlm: VLM) -> None:
    """Its keys and values are all that a reply needs of it, unless something there is read or changed."""
    top, vector = vlm.n_layers - 1, torch.ones(vlm.d_model)

    def ran(ops: Sequence[Add] = (), reads: Sequence[Site] = ()) -> list[int]:
        widths: list[int] = []
        mlp = vlm.model.get_submodule(f"{vlm.layout.blocks}.{top}.mlp")
        handle = mlp.register_forward_pre_hook(lambda module, args: widths.append(args[0].shape[1]))
        prefill = vlm.prefill([asked()], reads)
        vlm.generate(prefill if not ops else [asked()], ops, max_new_tokens=1)
        handle.remove()
        return [width for width in widths if width > 1]

    assert ran() == ran(reads=[Site(0), Site(top - 1)]) == ran([Add(Site(top - 1), vector, "all")]) == []
    assert ran(reads=[Site(top)]) == ran([Add(Site(top), vector, "all")]) == [vlm.encode([asked()]).input_ids.shape[1]]


def test_a_prefill_reads_what_a_capture_reads(vlm: VLM) -> None:
    chosen = [Site(layer, hook) for layer in (0, vlm.n_layers - 1) for hook in HOOKS]
    sites = [site for site in chosen if vlm.layout.has(site)]
    captured = vlm.capture([asked()], sites)
    for site in sites:
        assert torch.equal(vlm.prefill([asked()], [site]).captured[site], captured[site])


def test_layers_captured_alone_are_those_of_all(vlm: VLM) -> None:
    pair = ContrastPair(asked(), replace(asked(), answer="yes, it is"), replace(asked(), answer="no"))
    whole = capture_contrasts(vlm, [pair], progress=False)
    for layer in range(vlm.n_layers):
        alone = capture_contrasts(vlm, [pair], layers=[layer], progress=False)
        assert torch.equal(alone.positive[:, 0], whole.positive[:, layer])
        assert torch.equal(alone.context[:, 0], whole.context[:, layer])


def tensors() -> int:
    return sum(issubclass(type(thing), torch.Tensor | Cache) for thing in gc.get_objects())


def test_a_stopped_run_leaves_nothing_behind(vlm: VLM) -> None:
    """Its activations and its cache go when the call returns, without the garbage collector."""
    encoded = vlm.encode([asked()])
    vlm.capture(encoded, [Site(0)])
    gc.collect()
    gc.disable()
    try:
        before = tensors()
        for _ in range(3):
            vlm.capture(encoded, [Site(0)])
            vlm.prefix(encoded, 1)
        assert tensors() <= before + 1
    finally:
        gc.enable()


def test_nothing_is_generated_behind_a_prefix(vlm: VLM) -> None:
    prefix = vlm.prefix(vlm.encode([asked()]), 1)
    for run in (vlm.generate, vlm.logits):
        with pytest.raises(ValueError, match="prefix of 1 blocks"):
            run(prefix.select([0, 0]))


def test_any_rows_follow_a_prefix_and_leave_it_as_it_is(vlm: VLM) -> None:
    encoded = vlm.encode([asked(), asked("or is it blue ?")])
    prefix, rows, site = vlm.prefix(encoded, 2), [1, 0, 1], Site(1)
    ids, mask = encoded.input_ids[rows, -1:], torch.ones(3, 1, dtype=torch.long)
    positions, length = encoded.position_ids[..., rows, -1:] + 1, prefix.cache.get_seq_length()
    once, again = (vlm.extend(prefix, rows, ids, mask, positions, [site])[site] for _ in range(2))
    assert torch.equal(once, again)
    assert torch.equal(once[0], once[2])
    assert (once[0] != once[1]).any()
    assert prefix.cache.get_seq_length() == length


@pytest.mark.parametrize("rows", [1, 3])
def test_a_cache_with_room_is_the_growing_cache(rows: int) -> None:
    """Also past its room, after a crop, with other rows, and without touching the cache that it came from."""
    draw = torch.Generator().manual_seed(0)

    def new(count: int, rows: int = rows) -> torch.Tensor:
        return torch.randn(rows, 2, count, 4, generator=draw)

    plain = DynamicCache()
    plain.update(new(5), new(5), 0)
    roomy, kept = fork(plain), plain.layers[0].keys.clone()
    make_room(roomy, 3)
    grown = fork(plain)
    for count in (1, 1, 2, CHUNK, 1):
        keys, values = new(count), new(count)
        for ours, theirs in zip(roomy.update(keys, values, 0), grown.update(keys, values, 0), strict=True):
            assert torch.equal(ours, theirs)
    assert torch.equal(plain.layers[0].keys, kept)
    for cache in (roomy, grown):
        cache.crop(-2)
        cache.reorder_cache(torch.arange(rows).flip(0))
        cache.batch_repeat_interleave(2)
    keys, values = new(1, 2 * rows), new(1, 2 * rows)
    for ours, theirs in zip(roomy.update(keys, values, 0), grown.update(keys, values, 0), strict=True):
        assert torch.equal(ours, theirs)


def test_a_row_is_not_copied_to_be_repeated(vlm: VLM) -> None:
    prefill = vlm.prefill([asked()])
    many = prefill.select([0] * 5)
    keys = many.cache.layers[0].keys
    assert keys.shape[0] == 5
    assert keys.untyped_storage().data_ptr() == prefill.cache.layers[0].keys.untyped_storage().data_ptr()
    with pytest.raises(IndexError):
        prefill.select([1])


def test_an_image_runs_once_for_all_pairs_about_it(vlm: VLM, tmp_path: Path) -> None:
    """Whether it is named by its path or is the same object, and in whatever order the pairs come."""
    files = [tmp_path / "red.png", tmp_path / "blue.png"]
    for file, color in zip(files, ("red", "blue"), strict=True):
        Image.new("RGB", (28, 28), color).save(file)
    asks = [Prompt(files[number % 2], f"is it {number} ?") for number in range(6)]
    pairs = [ContrastPair(ask, replace(ask, answer="yes"), replace(ask, answer="no")) for ask in asks]
    seen: list[int] = []
    tower = vlm.model.get_submodule(vlm.layout.projector)
    handle = tower.register_forward_hook(lambda module, args, output: seen.append(output.numel()))
    alone = capture_contrasts(vlm, pairs, batch_size=6, progress=False)
    shared = capture_contrasts(vlm, pairs, batch_size=6, order="image", progress=False)
    handle.remove()
    assert seen[0] == 3 * seen[1]
    torch.testing.assert_close(shared.positive, alone.positive, atol=1e-5, rtol=1e-5)


def test_images_are_processed_once_a_pair(vlm: VLM, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    process = type(vlm.processor.image_processor).__call__

    def counted(self, images, *args, **named):
        seen.append(len(images))
        return process(self, images, *args, **named)

    monkeypatch.setattr(type(vlm.processor.image_processor), "__call__", counted)
    prompt = asked()
    pair = ContrastPair(prompt, replace(prompt, answer="yes"), replace(prompt, answer="no"))
    capture_contrasts(vlm, [pair], progress=False)
    assert seen == [1]
    variants = [[prompt], [replace(prompt, answer="no")], [asked("other ?")]]
    for ours, alone in zip(vlm.encode_variants(variants), (vlm.encode(prompts) for prompts in variants), strict=True):
        assert torch.equal(ours.input_ids, alone.input_ids)
        assert all(torch.equal(ours.media[name], alone.media[name]) for name in alone.media)
