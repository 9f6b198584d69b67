"""Prompt: what it shows the model, and images that cannot be read."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from interv import VLM, Prompt


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere.png"
    with pytest.raises(ValueError, match=r"nowhere\.png cannot be read"):
        Prompt(missing, "what?").images()


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("no image")
    with pytest.raises(ValueError, match=r"notes\.png cannot be read.*Pillow can open"):
        Prompt(tmp_path / "notes.png", "what?").images()


def test_a_truncated_image_is_named(tmp_path: Path) -> None:
    path = tmp_path / "half.png"
    Image.effect_noise((64, 64), 50).save(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"half\.png cannot be read"):
        Prompt(path, "what?").images()


def test_images_come_as_rgb_in_order(tmp_path: Path) -> None:
    path = tmp_path / "grey.png"
    Image.new("L", (3, 5), 7).save(path)
    first, second = Prompt([Image.new("RGBA", (2, 2)), str(path)], "what?").images()
    assert (first.mode, first.size) == ("RGB", (2, 2))
    assert (second.size, second.getpixel((0, 0))) == ((3, 5), (7, 7, 7))


def test_text_only_shows_nothing() -> None:
    prompt = Prompt(None, "what?")
    assert prompt.images() == []
    assert prompt.messages() == [{"role": "user", "content": [{"type": "text", "text": "what?"}]}]


def test_turns_stand_in_order() -> None:
    prompt = Prompt(
        Image.new("RGB", (2, 2)), "and now?", "it", "be brief", history=(("user", "hi"), ("assistant", "ho"))
    )
    messages = prompt.messages()
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user", "assistant"]
    assert [part["type"] for part in messages[3]["content"]] == ["image", "text"]
    assert messages[-1]["content"] == [{"type": "text", "text": "it"}]


def test_an_open_answer_goes_on_and_a_closed_one_ends(vlm: VLM) -> None:
    texts = {}
    for closed in (False, True):
        encoded = vlm.encode([Prompt(None, "what?", "yes", closed=closed)])
        texts[closed] = vlm.processor.tokenizer.decode(encoded.tokens(0))
    assert texts[False].rstrip().endswith("yes")
    assert texts[True].startswith(texts[False].rstrip())
    assert len(texts[True]) > len(texts[False].rstrip())


def test_no_prompts_are_refused(vlm: VLM) -> None:
    with pytest.raises(ValueError, match="no prompts"):
        vlm.encode([])


def test_sixteen_bits_are_not_cut_off_at_white(tmp_path: Path) -> None:
    grey = np.linspace(0, 65535, 64).reshape(8, 8)
    Image.fromarray(grey.astype(np.uint16)).save(tmp_path / "deep.png")
    image = np.asarray(Prompt(tmp_path / "deep.png", "what?").images()[0])
    np.testing.assert_allclose(image[..., 0], grey / 257, atol=1)
