"""The images that studies show: what the model's processor takes, at what size, and without a mark in words."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from interv import Prompt
from methods import NoSteering
from studies.fit.setting import Setting
from studies.recipes import RECIPES, Recipe
from studies.run.answer import _batches, readable
from studies.run.arguments import Common, prepare, sized
from studies.run.results import Results
from studies.tasks import TASKS, Example
from studies.tasks.pope.files import load_questions
from studies.tasks.reading import asked
from tests.studies.benchmark_files import picture, save_pictures, write_lines, write_parquet
from tests.tiny_models import build

PHOTO = Image.new("RGB", (400, 300))
TOKEN = 48 * 48  # pixels of an image token of tiny-qwen2vl


def example(id: str, image: Any) -> Example:
    return Example(id, Prompt(image, "what?"), "s", "b", "t")


def test_an_image_that_the_model_does_not_take_is_skipped_by_its_id(tmp_path: Path) -> None:
    strip = Image.new("RGB", (3000, 10))
    good = [example("good", picture(1)), example("grey", Image.new("L", (32, 32)))]
    bad = [example("strip", strip), example("again", strip), example("gone", tmp_path / "no.png")]
    with Results.open(tmp_path / "out", {}) as results:
        assert readable([good[0], *bad, good[1]], results, build("random-qwen2vl")) == good
        assert all("aspect ratio" in results.skipped[name] for name in ("strip", "again"))
        assert results.skipped["gone"].startswith("The image")


@pytest.mark.parametrize("where", ["arguments", "recipe", "both"])
def test_bounds_of_an_images_size_reach_the_model_and_the_recipe(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    own = replace(Recipe("bounded", "shapes_pope", "tiny-qwen2vl"), max_pixels=TOKEN if where == "both" else 3 * TOKEN)
    monkeypatch.setitem(RECIPES, "bounded", own)
    common = Common(model="tiny-qwen2vl", recipe=None if where == "arguments" else "bounded")
    common = common if where == "recipe" else replace(common, max_pixels=3 * TOKEN)
    vlm, _, recipe = prepare(common)
    assert int(vlm.encode([Prompt(PHOTO, "what ?")]).image_mask.sum()) <= 3
    assert recipe.max_pixels == recipe.card()["max_pixels"] == 3 * TOKEN
    assert "min_pixels" not in recipe.card()
    again = sized(common, recipe).load()  # as a worker loads it
    assert int(again.encode([Prompt(PHOTO, "what ?")]).image_mask.sum()) <= 3


@pytest.mark.parametrize("text", ["<image>\nIs there a dog?", "<image>Is there a dog?", "Is there a dog?\n<image>"])
def test_a_mark_where_the_image_goes_is_no_word_of_the_question(text: str, tmp_path: Path) -> None:
    assert asked(text) == "Is there a dog?"
    assert asked("Is <image> a tag?") == "Is <image> a tag?"
    row = {"question_id": "1", "image": "a.png", "text": text, "label": "yes"}
    write_lines(tmp_path / "files" / "coco_pope_random.json", [row])
    save_pictures(tmp_path / "files", ["a.png"])
    column = {
        "id": "0",
        "question_id": "1",
        "question": text,
        "answer": "yes",
        "image_source": "a",
        "category": "random",
    }
    write_parquet(tmp_path / "hub" / "a.parquet", [column | {"image": picture(1)}])
    for folder in ("files", "hub"):
        questions, flaws = load_questions(tmp_path / folder)
        assert ([question.text for question in questions], flaws) == (["Is there a dog?"], [])


class Briefed(NoSteering):
    """A method whose prompt differs in its system turn alone."""

    def rewrite(self, prompt: Prompt) -> Prompt:
        return replace(prompt, system="be brief")


def test_settings_share_a_prefill_where_their_whole_prompt_is_the_same(tmp_path: Path) -> None:
    settings = [Setting(method(1, 1, ""), 0.0, seed) for seed, method in enumerate((NoSteering, Briefed, NoSteering))]
    with Results.open(tmp_path / "out", {}) as results:
        work = list(_batches(TASKS["shapes_pope"](), "test", [example("a", picture(1))], settings, results, 64))
    assert [[one.seed for one in group] for _, groups in work for group in groups] == [[0, 2], [1]]
