"""A run is resumed with the template, tokenizer and image processor that it was begun with, or not at all."""

import json
from pathlib import Path

import pytest

from interv import VLM
from studies.fit.selection import Grid
from studies.recipes.named import EMBEDDED_POPE
from studies.run.arguments import Common
from studies.run.bench import opened
from studies.tasks.shapes_pope import ShapesPope


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    vlm, folder = VLM.load("tiny-llava"), tmp_path / "checkpoint"
    vlm.model.save_pretrained(folder)
    vlm.processor.save_pretrained(folder)
    return folder


def edited_template(checkpoint: Path) -> None:
    file = checkpoint / "chat_template.jinja"
    file.write_text("answer : " + file.read_text())


def edited_image_size(checkpoint: Path) -> None:
    file = checkpoint / "processor_config.json"
    kept = json.loads(file.read_text())
    kept["image_processor"]["image_mean"] = [0.5, 0.5, 0.5]
    file.write_text(json.dumps(kept))


@pytest.mark.parametrize(
    ("edit", "named"), [(edited_template, "chat_template"), (edited_image_size, "image_processor")]
)
@pytest.mark.slow
def test_a_checkpoint_that_was_edited_does_not_go_on_with_anothers_rows(
    edit, named: str, checkpoint: Path, tmp_path: Path
) -> None:
    def again() -> bytes:
        common = Common(model=str(checkpoint), out=tmp_path / "out", limit=1)
        with opened(common, "test", common.load(), ShapesPope(), EMBEDDED_POPE, Grid((3,), (6,), (1.0,)), [0]):
            return (tmp_path / "out" / "recipe.json").read_bytes()

    recipe = again()
    assert "preprocessing" in json.loads(recipe)
    assert again() == recipe
    edit(checkpoint)
    with pytest.raises(ValueError, match=rf"preprocessing\.{named}: .* there, .* now"):
        again()
    assert (tmp_path / "out" / "recipe.json").read_bytes() == recipe
