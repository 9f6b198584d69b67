"""Contrasts in a folder: what is left out, and what is refused because it is not what the folder was begun with."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import methods.contrasts.shards
from interv import VLM, Prompt
from methods import BankShards, ContrastPair, capture_contrasts
from tests.tiny_models import build
from tests.unit.test_shards import BATCH, COUNT, made


@pytest.fixture(scope="module")
def small() -> VLM:
    return build("random-llava")


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch, small: VLM) -> None:
    """Four pairs a shard."""
    monkeypatch.setattr(methods.contrasts.shards, "SHARD_BYTES", 4 * 3 * 4 * small.n_layers * small.d_model)


@pytest.mark.usefixtures("small_shards")
def test_other_pairs_and_settings_are_refused(small: VLM, tmp_path: Path) -> None:
    capture_contrasts(small, made(), batch_size=BATCH, progress=False, out=tmp_path)
    with pytest.raises(ValueError, match="begun with other asked"):
        capture_contrasts(small, made(first="is it blue ?"), batch_size=BATCH, progress=False, out=tmp_path)
    with pytest.raises(ValueError, match="settings"):
        capture_contrasts(small, made(), batch_size=4, progress=False, out=tmp_path)
    with pytest.raises(ValueError, match=r"holds no shards\.json"):
        BankShards.open(tmp_path / "elsewhere")


@pytest.mark.usefixtures("small_shards")
def test_unreadable_images_are_left_out(small: VLM, tmp_path: Path) -> None:
    pairs = made()
    for number in (1, 4, 5, 6, 7):  # one of the first shard, and all of the second
        missing = Prompt(str(tmp_path / "none.png"), "is it ?")
        pairs[number] = ContrastPair(missing, missing, missing, id=str(number))
    shards = capture_contrasts(small, pairs, batch_size=BATCH, progress=False, out=tmp_path / "out")
    assert [len(part) for part in shards.parts] == [3, 0, 3]
    assert [id_ for id_, _ in shards.skipped] == ["1", "4", "5", "6", "7"]
    assert shards.at(1, 0).take(torch.tensor([3]))[0].shape == (1, small.d_model)
    with pytest.raises(ValueError, match="None of the 1"):
        capture_contrasts(small, pairs[1:2], progress=False, out=tmp_path / "nothing")


@pytest.mark.parametrize("place", ["positive", "negative", "agnostic"])
@pytest.mark.parametrize("folder", [None, "out"])
def test_a_pair_is_left_out_for_the_image_of_any_prompt(
    small: VLM, tmp_path: Path, place: str, folder: str | None
) -> None:
    pairs = [replace(pair, agnostic=(pair.positive, pair.negative)) for pair in made(3)]
    missing = Prompt(str(tmp_path / "none.png"), "is it ?", answer="no")
    pairs[1] = replace(pairs[1], **{place: (pairs[1].positive, missing) if place == "agnostic" else missing})
    bank = capture_contrasts(small, pairs, progress=False, out=folder and tmp_path / folder)
    assert [id_ for id_, _ in bank.skipped] == ["1"]
    assert "none.png" in bank.skipped[0][1]
    assert len(bank) == 2


def test_an_image_is_opened_once_to_see_whether_it_can_be(
    small: VLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And once more by the batch that shows it, in memory as in shards."""
    path, open_, seen = str(tmp_path / "red.png"), Image.open, []
    Image.new("RGB", (28, 28), "red").save(path)
    monkeypatch.setattr(Image, "open", lambda file: seen.append(file) or open_(file))
    pair = ContrastPair(*(Prompt(path, "is it ?", answer=answer) for answer in ("", "yes", "no")))
    for out in (None, tmp_path / "out"):
        seen.clear()
        capture_contrasts(small, [pair] * 2, progress=False, out=out)
        assert seen == [path] * 2


def check_refused(small: VLM, folder: Path, pair: ContrastPair, other: ContrastPair) -> None:
    """The folder takes the pair again, and not the other one."""
    for _ in range(2):
        capture_contrasts(small, [pair], progress=False, out=folder)
    with pytest.raises(ValueError, match="begun with other asked"):
        capture_contrasts(small, [other], progress=False, out=folder)


@pytest.mark.parametrize("change", ["pixels", "size", "mode", "palette", "none"])
def test_other_pixels_are_refused(small: VLM, tmp_path: Path, change: str) -> None:
    image = Image.new("RGB", (28, 28), "red").quantize(4)
    other = image.copy()
    match change:
        case "pixels":
            other.putpixel((3, 4), 1)
        case "size":
            other = other.resize((14, 56))
        case "mode":
            other = Image.frombytes("L", image.size, image.tobytes())
        case "palette":
            other.putpalette([0, 0, 255])
    ask = Prompt(image, "is it red ?")
    pair = ContrastPair(ask, replace(ask, answer="yes"), replace(ask, answer="no"))
    shown = None if change == "none" else other
    check_refused(small, tmp_path, pair, replace(pair, negative=replace(pair.negative, image=shown)))


def test_other_image_files_are_refused(small: VLM, tmp_path: Path) -> None:
    """By their path, by their place in a list, and by the size of the file."""
    paths = [str(tmp_path / f"{name}.png") for name in "abc"]
    for path in paths:
        Image.new("RGB", (28, 28), "red").save(path)
    ask = Prompt(paths[0], "is it red ?")
    pair = ContrastPair(ask, replace(ask, answer="yes"), replace(ask, answer="no"))
    check_refused(small, tmp_path / "one", pair, replace(pair, negative=replace(pair.negative, image=paths[1])))
    first, other = (ContrastPair(*[replace(ask, image=images)] * 3) for images in (paths[:2], paths[1:]))
    check_refused(small, tmp_path / "several", first, other)
    Image.new("RGB", (560, 56), "red").save(paths[0])
    with pytest.raises(ValueError, match="begun with other asked"):
        capture_contrasts(small, [pair], progress=False, out=tmp_path / "one")


def test_an_image_that_breaks_off_is_skipped_from_a_folder_too(small: VLM, tmp_path: Path) -> None:
    path = tmp_path / "cut.png"
    Image.effect_noise((64, 64), 90).save(path)
    path.write_bytes(path.read_bytes()[:900])
    cut = Prompt(Image.open(path), "is it ?")
    pairs = [*made(2), ContrastPair(cut, cut, cut, id="cut")]
    for _ in range(2):
        shards = capture_contrasts(small, pairs, progress=False, out=tmp_path / "out")
        assert [id_ for id_, _ in shards.skipped] == ["cut"]


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("left", [0, 5, 200, -1])
def test_a_broken_shard_is_named(small: VLM, tmp_path: Path, left: int) -> None:
    capture_contrasts(small, made(), batch_size=BATCH, progress=False, out=tmp_path)
    path = tmp_path / "contrasts-00001-of-00003.safetensors"
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(ValueError, match=r"contrasts-00001-of-00003\.safetensors is broken.*delete it and call"):
        BankShards.open(tmp_path)
    path.unlink()
    assert len(capture_contrasts(small, made(), batch_size=BATCH, progress=False, out=tmp_path)) == COUNT


def test_a_file_that_is_no_shard_is_named(small: VLM, tmp_path: Path) -> None:
    capture_contrasts(small, made(2), progress=False, out=tmp_path)
    save_file({"context": torch.ones(2)}, tmp_path / "contrasts-00000-of-00001.safetensors")
    with pytest.raises(ValueError, match="is broken"):
        BankShards.open(tmp_path)
