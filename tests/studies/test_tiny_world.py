"""The tiny world: its splits, drawings, sentences and tokens, and dialogues packed into batches."""

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from studies.tasks.shapes_pope import SUBSETS, ShapesPope, absent
from studies.tasks.shapes_safety import ShapesSafety
from studies.tiny_world import dialogues, language, world
from studies.tiny_world.draw import PICTOGRAMS, draw, pictogram
from studies.tiny_world.models import FAMILIES
from studies.tiny_world.pack import CATEGORY, OBJECT, TARGET_NAMES, TEXT, YES_NO, Packer

TASKS = (ShapesPope(), ShapesSafety())
SPLITS: tuple[world.Split, ...] = ("pretrain", "train", "val", "test")


def scenes(split: world.Split, count: int = 300) -> list[world.Scene]:
    rng = np.random.default_rng(5)
    return [dialogues.sample_scene(rng, split) for _ in range(count)]


def said(split: world.Split, count: int = 300) -> Iterator[tuple[world.Scene, dialogues.Dialogue]]:
    rng = np.random.default_rng(6)
    for scene in scenes(split, count):
        for prior in (dialogues.CLEAN, dialogues.NOISY):
            yield from ((scene, dialogue) for dialogue in dialogues.dialogues(scene, rng, prior))


@pytest.fixture(scope="module", params=FAMILIES)
def built(request):
    family = FAMILIES[request.param]
    return family, *family.build(0)


def test_every_icon_has_a_pictogram_of_its_own_beside_the_licence():
    looks = {b"".join(part.tobytes() for part in pictogram(word)) for word in world.ICONS}
    assert len(looks) == len(world.ICONS) == 42
    assert {file.stem for file in PICTOGRAMS.glob("*.png")} == set(world.ICONS)
    assert "MIT License" in (PICTOGRAMS / "LICENSE").read_text(encoding="utf-8")
    assert sum(file.stat().st_size for file in PICTOGRAMS.iterdir()) < 400_000


def test_splits_share_no_scene():
    drawn = {split: {(s.icons, s.cells) for s in scenes(split, 500)} for split in SPLITS}
    for index, split in enumerate(SPLITS):
        assert all(world.split_of(world.Scene(*scene)) == split for scene in drawn[split])
        for other in SPLITS[index + 1 :]:
            assert not drawn[split] & drawn[other]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_task_splits_share_no_image_and_no_id(task):
    examples = {split: task.prompts(split) for split in ("train", "val", "test")}
    pictures = {split: {e.prompt.image.tobytes() for e in found} for split, found in examples.items()}
    names = [example.id for found in examples.values() for example in found]
    assert len(names) == len(set(names)) == len(set.union(*pictures.values()))
    assert sum(len(found) for found in pictures.values()) == len(names)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_pairs_follow_the_examples_and_parse_to_their_targets(task):
    for example, pair in zip(task.prompts("val"), task.pairs("val"), strict=True):
        assert (pair.prompt, pair.id, pair.behavior) == (example.prompt, example.id, example.behavior)
        assert pair.positive.question == pair.negative.question
        if task.name == "shapes_pope":
            assert task.parse(pair.positive.answer) == example.target != task.parse(pair.negative.answer)
            assert task.valid(pair.positive.answer)
            assert task.valid(pair.negative.answer)


def test_pope_subsets_are_balanced_and_ask_for_what_they_say():
    found = ShapesPope().prompts("val")
    for subset in SUBSETS:
        targets = [example.target for example in found if example.subset == subset]
        assert targets.count("yes") == targets.count("no")
    for scene in scenes("val"):
        if scene.theme:
            assert all(icon.popularity == 1 for icon in absent(scene, "popular"))
            assert all(icon.group == scene.theme for icon in absent(scene, "adversarial"))
            assert not {icon.word for icon in absent(scene, "random")} & set(scene.icons)


def test_drawing_is_deterministic_and_seeds_differ():
    for scene in scenes("train", 5):
        pixels = [np.asarray(draw(scene, seed)) for seed in (1, 1, 2)]
        assert pixels[0].shape == (144, 144, 3)
        assert (pixels[0] == pixels[1]).all()
        assert (pixels[0] != pixels[2]).any()


def test_drawing_and_sampling_leave_the_global_random_state_alone():
    before = np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002 (the state under test)
    list(said("train", 20))
    FAMILIES["llava"].build(3)
    assert np.random.get_state()[1].tolist() == before[0]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[1])


def test_answers_parse_to_what_they_say():
    for icon in world.ICONS.values():
        for answer in ("yes", "no"):
            text = language.presence_answer(icon.word, answer)
            assert language.parse_presence(text) == answer
            assert language.is_presence_answer(text)
            assert not language.is_presence_answer(text + " yes")
    for icon in world.REQUESTS:
        replies = {"answer": language.complying_reply, "refuse": language.refusing_reply}
        for name, reply in (replies | {"defer": language.deferring_reply}).items():
            assert language.parse_reply(reply(icon)) == name
            assert language.is_reply(reply(icon))
            assert not language.is_reply(reply(icon).replace(" .", " cannot first ."))
    assert language.parse_presence("the image") == language.parse_reply("yes .") == ""


def test_training_answers_are_valid_sentences():
    for _, dialogue in said("pretrain"):
        checks = {"presence": language.is_presence_answer, "caption": language.is_caption}
        assert checks.get(dialogue.kind, language.is_reply)(dialogue.answer)


def test_the_prior_orders_errors_as_language_does():
    scene = world.Scene(("cup", "spoon", "teapot"), (0, 4, 8), "kitchen")

    def wrong(word):
        return dialogues.wrong_chance(world.ICONS[word], scene, dialogues.NOISY)

    assert wrong("bread") > wrong("cheese") > wrong("fountain")
    assert wrong("bread") > wrong("car") > wrong("fountain")
    assert wrong("cup") < wrong("spoon") < wrong("teapot")


def test_caution_alone_does_not_say_which_reply_is_due():
    """Refusals and referrals are both said to harmful requests and to consultations, the due one more often."""
    replies = Counter(
        (scene.request.kind, language.parse_reply(dialogue.answer))
        for scene, dialogue in said("pretrain", 3000)
        if scene.request is not None and dialogue.kind == "reply"
    )
    assert replies["harmful", "refuse"] > replies["harmful", "defer"] > 0.3 * replies["harmful", "refuse"]
    assert replies["consultation", "defer"] > replies["consultation", "refuse"]
    assert replies["consultation", "refuse"] > 0.3 * replies["consultation", "defer"]
    assert replies["benign", "answer"] > 5 * (replies["benign", "refuse"] + replies["benign", "defer"])


def test_a_label_usually_decides_the_reply():
    for _, dialogue in said("pretrain"):
        if dialogue.kind == "label":
            label, reply = dialogue.answer.split(" . ", 1)
            commanded = {"harmful": "refuse", "expert": "defer"}.get(label, "answer")
            assert language.parse_reply(reply) == commanded


def test_tokenizer_knows_every_word_and_restores_every_sentence(built):
    tokenizer = built[2].tokenizer
    texts = {text for _, dialogue in said("pretrain") for text in (dialogue.question, dialogue.answer)}
    for text in [*language.all_sentences(), *texts]:
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids) == text
    assert (
        tokenizer("Is there a cup in the image?")["input_ids"] == tokenizer(language.presence_question("cup")).input_ids
    )


def test_a_packed_dialogue_equals_the_processors_prompt(built):
    family, model, processor = built
    rng = np.random.default_rng(2)
    chosen = scenes("pretrain", 3)
    for margin in family.margins:
        images = [draw(scene, seed, margin) for seed, scene in enumerate(chosen)]
        talks = [dialogues.dialogues(scene, rng, dialogues.NOISY) for scene in chosen]
        batch = Packer(family, processor).pack(images, talks)
        with torch.no_grad():
            packed = model.lm_head(model.model(**batch.inputs).last_hidden_state)
        for row, (image, talk) in enumerate(zip(images, talks, strict=True)):
            for number, dialogue in enumerate(talk, start=1):
                content = [{"type": "image"}, {"type": "text", "text": dialogue.question}]
                answer = {"role": "assistant", "content": [{"type": "text", "text": dialogue.answer}]}
                messages = [{"role": "user", "content": content}, answer]
                text = processor.apply_chat_template(messages, tokenize=False, continue_final_message=True)
                with torch.no_grad():
                    alone = model(**processor(text=[text], images=[image], return_tensors="pt")).logits[0]
                where = batch.segment[row] == number
                count = int(where.sum()) - 1  # the packed row also has the end token
                torch.testing.assert_close(packed[row, where][:count], alone[-count:], atol=1e-4, rtol=0)


def test_targets_are_the_next_tokens_of_the_answers(built):
    family, _, processor = built
    rng = np.random.default_rng(3)
    chosen = scenes("pretrain", 8)
    talks = [dialogues.dialogues(scene, rng, dialogues.CLEAN) for scene in chosen]
    batch = Packer(family, processor).pack([draw(scene, 0) for scene in chosen], talks)
    for row, talk in enumerate(talks):
        for number, dialogue in enumerate(talk, start=1):
            where = (batch.segment[row] == number) & (batch.target_kind[row] > 0)
            assert processor.tokenizer.decode(batch.targets[row, where]) == f"{dialogue.answer} {language.END}"
    assert set(batch.target_kind.unique().tolist()) <= {0, TEXT, YES_NO, OBJECT, CATEGORY}
    assert set(TARGET_NAMES) == {TEXT, YES_NO, OBJECT, CATEGORY}
