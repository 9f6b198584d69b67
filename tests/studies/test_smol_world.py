"""The world of smol-llava: honest labels, splits that share no composition, and training that packs without leaks."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from interv.assembled.delta import open_for_training
from studies.smol_world import language
from studies.smol_world.checking import embed
from studies.smol_world.dialogues import asked, dialogues
from studies.smol_world.draw import SIDE, draw, draw_with, pictogram
from studies.smol_world.pack import IGNORED, pack
from studies.smol_world.pool import NOTHING, WORDS, make_pool
from studies.smol_world.scenes import ABSENCES, Scene, absent_word, sample_scene, split_of
from studies.smol_world.train import Settings, Stage, main
from studies.smol_world.words import THINGS
from studies.tasks.cut_outs import CutOuts, named
from studies.tasks.pictures_captions import PicturesCaptions
from studies.tasks.pictures_pope import PicturesPope
from tests.tiny_models import tiny_llava

CELLS = 4  # image tokens of the tiny model


def scenes(split: str, count: int = 60) -> list[Scene]:
    rng = np.random.default_rng(1)
    return [sample_scene(rng, split) for _ in range(count)]


@pytest.fixture(scope="module")
def pope() -> PicturesPope:
    return PicturesPope.load()


@pytest.fixture(scope="module")
def captions() -> PicturesCaptions:
    return PicturesCaptions.load()


def test_every_thing_has_a_picture() -> None:
    assert len(THINGS.words) == 91
    for word in THINGS.words:
        picture = pictogram(word)
        assert picture.getchannel("A").getbbox() == (0, 0, *picture.size)
        assert max(picture.size) == 128


def test_no_set_of_things_is_in_two_splits() -> None:
    seen = {split: {frozenset(one.words) for one in scenes(split)} for split in ("pretrain", "check", "train", "test")}
    for split, sets in seen.items():
        assert all(split_of(tuple(words)) == split for words in sets)
        assert all(not sets & other for name, other in seen.items() if name != split)
    assert split_of(("cat", "dog")) == split_of(("dog", "cat"))


def test_absent_things_are_absent_and_of_their_subset() -> None:
    rng = np.random.default_rng(0)
    for scene in scenes("test"):
        absent = {kind: absent_word(rng, scene, kind) for kind in ABSENCES}
        assert not set(absent.values()) & set(scene.words)
        assert absent["popular"] in THINGS.popular
        assert THINGS.theme_of[absent["adversarial"]] in {THINGS.theme_of[word] for word in scene.words}


def test_answers_are_true_and_no_is_as_frequent_as_told() -> None:
    rng = np.random.default_rng(0)
    answers = [
        (scene, dialogue.answer)
        for scene in scenes("pretrain", 400)
        for dialogue in dialogues(scene, rng, 0.25)
        if dialogue.question != language.CAPTION_REQUEST
    ]
    for scene, answer in answers:
        shown = any(answer == language.answer(word, True) for word in scene.words)
        denied = any(answer == language.answer(word, False) for word in scene.words)
        assert answer.startswith("Yes") == shown
        assert not denied
    assert np.mean([answer.startswith("No") for _, answer in answers]) == pytest.approx(0.25, abs=0.03)


def test_things_lie_in_their_quarters() -> None:
    for scene in scenes("test", 20):
        image, boxes = draw_with(scene, np.random.default_rng(3))
        assert image.size == (SIDE, SIDE)
        for word, quarter in zip(scene.words, scene.quarters, strict=True):
            left, top, right, bottom = boxes[word]
            assert quarter % 2 * SIDE // 2 <= left < right <= (quarter % 2 + 1) * SIDE // 2
            assert quarter // 2 * SIDE // 2 <= top < bottom <= (quarter // 2 + 1) * SIDE // 2
    assert draw(scene, 5).tobytes() == draw(scene, 5).tobytes()


def test_dialogues_about_one_picture_do_not_see_each_other() -> None:
    model, processor = tiny_llava()
    cells = torch.randn(1, CELLS, model.config.vision_config.hidden_size)
    talk = [asked("cat", True), asked("bus", False)]

    def states(*said) -> torch.Tensor:
        packed = pack(processor, [said], CELLS)
        hidden = model.model.language_model(
            inputs_embeds=embed(model, packed.ids, cells),
            attention_mask=packed.mask(),
            position_ids=packed.positions,
        ).last_hidden_state
        return hidden[packed.targets != IGNORED]

    with torch.no_grad():
        together, apart = states(*talk), torch.cat([states(one) for one in talk])
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=1e-5)


def test_a_question_is_packed_as_the_processor_writes_it() -> None:
    _, processor = tiny_llava()
    packed = pack(processor, [[asked("cat", True)]], CELLS)
    turn = [{"type": "image"}, {"type": "text", "text": language.question("cat")}]
    text = processor.apply_chat_template([{"role": "user", "content": turn}], add_generation_prompt=True)
    written = processor(text=text, images=Image.new("RGB", (28, 28)), return_tensors="pt", add_special_tokens=False)
    prompt = written["input_ids"][0].tolist()
    assert packed.ids[0, : len(prompt)].tolist() == prompt
    assert packed.asks[0].nonzero().flatten().tolist() == [len(prompt) - 1]
    end = processor.tokenizer.eos_token
    assert processor.tokenizer.decode(packed.ids[0, len(prompt) :]) == language.answer("cat", True) + end


def test_the_projector_learns_words_and_training_ends_in_deltas(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from studies.smol_world import checking, train

    model, processor = tiny_llava()
    tower = model.model.vision_tower
    tower.forward = lambda pixels, call=tower.forward: _without_class(call(pixels))
    monkeypatch.setattr(train, "base_model", lambda folder: (model, processor))
    monkeypatch.setattr(checking, "READS", (1,))
    stage = (Stage(steps=2, no=0.3, learning_rate=1e-3, every=2, warmup=1),)
    ends = main(
        Settings(
            tmp_path, scenes=8, checked=6, projector_steps=30, shared=stage, few_no=stage * 2, many_no=stage, threads=1
        )
    )
    assert {"few-no", "many-no"} < set(ends)
    files = {f"{name}.safetensors" for name in ("shared", "few-no", "many-no")}
    assert {file.name for file in tmp_path.iterdir()} == files


def _without_class(out):
    out.last_hidden_state = out.last_hidden_state[:, 1:]
    return out


def test_cells_are_labelled_by_what_lies_there() -> None:
    class Tower(torch.nn.Module):
        def forward(self, pixels):
            cells = torch.zeros(len(pixels), 49, 2)
            return type("Out", (), {"last_hidden_state": cells})

    def images(pictures, return_tensors):
        return {"pixel_values": torch.zeros(len(pictures), 3, 4, 4)}

    pool = make_pool(Tower(), images, "check", 5, 0)
    for scene, labels in zip(pool.scenes, pool.labels, strict=True):
        assert {WORDS[label] for label in labels.tolist() if label != NOTHING} == set(scene.words)


def test_changes_alone_and_the_projector_are_trained() -> None:
    model, _ = tiny_llava()
    changes = open_for_training(model, rank=2, seed=0)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert len(trained) == len(changes) + len([*model.model.multi_modal_projector.parameters()])
    assert all("up" in name or "down" in name or "projector" in name for name in trained)


def test_questions_are_balanced_and_about_scenes_of_their_split(pope: PicturesPope) -> None:
    sizes = {"train": 54, "val": 20, "test": 150}
    for split, count in sizes.items():
        examples = pope.prompts(split)
        assert len(examples) == 6 * count
        assert len({example.unit for example in examples}) == 3 * count
        for subset in ABSENCES:
            targets = [example.target for example in examples if example.subset == subset]
            assert targets.count("yes") == targets.count("no") == count


def test_forced_answers_are_what_the_task_reads_and_calls_whole(pope: PicturesPope) -> None:
    for pair, example in zip(pope.pairs("val"), pope.prompts("val"), strict=True):
        assert pope.parse(pair.positive.answer) == example.target
        assert {pope.parse(pair.negative.answer), example.target} == {"yes", "no"}
        assert pope.valid(pair.positive.answer)
    assert not pope.valid("Yes, there is a cat in the picture?")
    assert not pope.valid("No, there is no cat in the picture. No")
    assert pope.parse("Nothing") == ""


def test_captions_name_what_the_scene_shows(captions: PicturesCaptions) -> None:
    for example, scene, other in captions.items("val"):
        caption = language.caption(scene.words)
        assert captions.parse(caption) == example.target
        assert captions.valid(caption)
        assert other.tobytes() != example.prompt.image.tobytes()
    assert captions.parse("The picture shows a cat, an unicorn and a bus.") == "bus, cat"
    assert not captions.valid("The picture shows a cat a bus.")


def test_scenes_are_put_together_from_a_folder_of_named_cut_outs(tmp_path: Path) -> None:
    for number in range(16):
        folder = tmp_path / ("animals" if number % 2 else "tools")
        folder.mkdir(exist_ok=True)
        cut = Image.new("RGBA", (60, 40))
        cut.paste((200, 10 * number, 0, 255), (10, 10, 50, 30))
        cut.save(folder / f"Thing_{chr(97 + number)}-2.png")
    (tmp_path / "animals" / "broken.png").write_text("no picture")
    task = PicturesPope.load(tmp_path)
    assert {named(file) for file in tmp_path.rglob("*.png")} >= {"thing a", "thing p"}
    assert CutOuts.load(tmp_path).pictures["thing a"].size == (40, 20)
    assert "thing" in task.prompts("val")[0].prompt.question
    with pytest.raises(ValueError, match="0 things and 12 are the least"):
        CutOuts.load(tmp_path / "none")
