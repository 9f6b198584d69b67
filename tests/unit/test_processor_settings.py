"""What a processor is told when a model is loaded: its chat template, and the sizes of images."""

import json
from inspect import unwrap
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from interv import VLM, Prompt
from interv.models.processor_settings import template_of
from tests.official import write_official
from tests.property.reference import bitwise
from tests.tiny_models import build
from tests.unit.test_ways_of_generating import picture

PHOTO = Image.new("RGB", (400, 300))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("official")
    return {family: write_official(family, home / family) for family in ("llava", "qwen2_vl")}


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A checkpoint without a chat template."""
    folder = write_official("llava", tmp_path / "bare", "2026")
    (folder / "chat_template.jinja").unlink()
    return folder


def image_tokens(vlm: VLM, image: Image.Image = PHOTO) -> int:
    return int(vlm.encode([Prompt(image, "what?")]).image_mask.sum())


@pytest.mark.parametrize("most", [784, 5000, 100_000])
def test_an_image_is_scaled_to_the_most_pixels(folders: dict[str, Path], most: int) -> None:
    vlm = VLM.load(str(folders["qwen2_vl"]), max_pixels=most)
    images = build("random-qwen2vl").processor.image_processor
    assert image_tokens(vlm) == images.get_number_of_image_patches(300, 400, {"max_pixels": most}) // 4
    assert image_tokens(vlm) <= most / 784
    assert len(vlm.generate([Prompt(PHOTO, "what?")], max_new_tokens=2)) == 1


def test_an_image_is_scaled_to_the_least_pixels(folders: dict[str, Path]) -> None:
    vlm = VLM.load(str(folders["qwen2_vl"]), min_pixels=40_000)
    assert image_tokens(vlm, Image.new("RGB", (28, 28))) >= 40_000 // 784
    both = VLM.load(str(folders["qwen2_vl"]), min_pixels=2 * 784, max_pixels=4 * 784)
    assert {image_tokens(both, Image.new("RGB", (side, side))) for side in (28, 50, 400)} <= {2, 3, 4}
    assert image_tokens(VLM.load(str(folders["qwen2_vl"]))) == 6  # its own bound is nine, here of 2 x 3


@pytest.mark.parametrize(
    ("bounds", "said"),
    [
        ({"max_pixels": 100}, "max_pixels is 100; give a whole number of pixels, 784"),
        ({"min_pixels": -1}, "min_pixels is -1"),
        ({"min_pixels": 2000, "max_pixels": 1000}, "min_pixels is 2000 and max_pixels 1000"),
    ],
)
def test_bounds_that_no_image_can_meet_are_refused(folders: dict[str, Path], bounds: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        VLM.load(str(folders["qwen2_vl"]), **bounds)


def test_a_model_whose_images_have_one_size_takes_no_bounds(folders: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="CLIPImageProcessorPil has sizes of its own"):
        VLM.load(str(folders["llava"]), max_pixels=50_000)


def test_a_checkpoint_without_a_chat_template_is_told_so_at_load(bare: Path) -> None:
    with pytest.raises(ValueError, match=r"bare has no chat template.*chat_template="):
        VLM.load(str(bare))


@pytest.mark.parametrize("form", ["text", "path", "string"])
def test_a_chat_template_is_taken_as_text_or_a_file(bare: Path, form: str, tmp_path: Path) -> None:
    vlm = build("random-llava")
    text = vlm.processor.chat_template
    file = tmp_path / "template.jinja"
    file.write_text(text, encoding="utf-8")
    again = VLM.load(str(bare), chat_template={"text": text, "path": file, "string": str(file)}[form])
    prompts = [Prompt(picture(1), "what?"), Prompt(None, "and?", history=(("user", "a"), ("assistant", "b")))]
    bitwise(again.encode(prompts).input_ids, vlm.encode(prompts).input_ids)


def test_a_chat_template_goes_before_the_checkpoints_own(folders: dict[str, Path]) -> None:
    own = (
        "{% for message in messages %}{% for part in message['content'] %}[{{ part['text'] }}]{% endfor %}{% endfor %}"
    )
    vlm = VLM.load(str(folders["llava"]), chat_template=own)
    assert vlm.processor.tokenizer.decode(vlm.encode([Prompt(None, "what")]).tokens(0)) == "<s>[what]"


@pytest.mark.parametrize(
    ("template", "error", "said"),
    [
        ("{% for message in messages %}", ValueError, "chat_template cannot be used"),
        ("{{ raise_exception('never') }}", ValueError, "never"),
        ("no/such/file.jinja", ValueError, "neither Jinja text nor a file"),
        (Path("no/such/file.jinja"), ValueError, "neither Jinja text nor a file"),
        (7, TypeError, "chat_template is a int"),
    ],
)
def test_what_is_no_chat_template_is_refused(template: Any, error: type, said: str) -> None:
    with pytest.raises(error, match=said):
        unwrap(template_of)(template)


def test_a_tokenizers_own_template_will_do(bare: Path) -> None:
    """Where the template lies beside the tokenizer alone."""
    vlm = build("random-llava")
    config = json.loads((bare / "tokenizer_config.json").read_text())
    config["chat_template"] = vlm.processor.chat_template
    (bare / "tokenizer_config.json").write_text(json.dumps(config))
    bitwise(VLM.load(str(bare)).encode([Prompt(None, "a")]).input_ids, vlm.encode([Prompt(None, "a")]).input_ids)


def test_a_tokenizer_is_no_processor() -> None:
    vlm = build("random-llava")
    with pytest.raises(TypeError, match="is no processor: it has no tokenizer"):
        VLM(vlm.model, vlm.processor.tokenizer)
