"""The recipes: what they say, and that every one of them runs."""

import json
from dataclasses import replace
from inspect import signature

import pytest
from PIL import Image

from interv import VLM, Site
from interv.prompts.encoding import render
from methods import L2S, Query, capture_contrasts
from studies.recipes import RECIPES
from studies.recipes.named import CODE_POPE_LLAVA, CODE_SAFETY_LLAVA, CODE_SAFETY_QWEN
from studies.tasks.shapes_pope import ShapesPope
from studies.tasks.shapes_safety import ShapesSafety

IMAGE = Image.new("RGB", (56, 56), "red")
PUBLISHED = [name for name in RECIPES if not name.startswith("embedded")]


def test_the_settings_of_the_published_scripts():
    columns = ("reads", "writes", "pool", "hidden", "strength", "scope", "init", "learning_rate", "schedule")
    table = {
        "code_pope_llava": (14, 14, "mean_generated", 100, 1.0, "all", "svd", 5e-5, "cosine"),
        "code_pope_qwen": (17, 17, "mean_generated", 400, 1.0, "all", "svd", 5e-5, "cosine"),
        "code_safety_llava": (30, 15, "last", 100, 2.2, "all", "dictionary", 1e-4, "constant"),
        "code_safety_qwen": (14, 14, "last", 100, 2.2, "all", "dictionary", 1e-4, "constant"),
        "paper_pope_llava": (14, 14, "mean_generated", 100, 1.0, "response", "svd", 5e-5, "cosine"),
        "paper_safety_llava": (30, 15, "last", 100, 2.2, "response", "svd", 1e-4, "cosine"),
    }
    for name, row in table.items():
        assert tuple(getattr(RECIPES[name], column) for column in columns) == row, name


def test_names_are_the_keys_and_everything_can_be_written_down():
    for name, recipe in RECIPES.items():
        assert recipe.name == name
        assert json.loads(json.dumps(recipe.card()))["name"] == name


@pytest.mark.parametrize("name", RECIPES)
def test_fit_gives_what_l2s_takes(name, golden):
    recipe = RECIPES[name]
    options = recipe.fit(validation=golden.train.rows(range(55, 60)))
    assert set(options) < set(signature(L2S.fit).parameters)
    if recipe.checkpoint == "best_validation":
        with pytest.raises(ValueError, match="best on validation"):
            recipe.fit()
    fitted = L2S.fit(golden.train.rows(range(55)), **options | {"epochs": 2, "hidden": 8})
    assert fitted.encoder_weight.shape == (8, 128)


@pytest.mark.parametrize("name", [name for name in PUBLISHED if RECIPES[name].forced])
def test_every_behaviour_has_a_pair(name):
    recipe = RECIPES[name]
    names = {"pope": {"yes", "no"}}.get(recipe.task, {"harmful", "legal", "financial", "health", "government"})
    assert {forced.behavior for forced in recipe.forced} == names
    for behavior in names:
        pair = recipe.pair(IMAGE, "Is it?", behavior, "7")
        assert pair.positive.question == pair.negative.question
        assert pair.positive.answer != pair.negative.answer
        assert (pair.behavior, pair.id) == (behavior, "7")
    with pytest.raises(ValueError, match="forces no answers for 'benign'"):
        recipe.pair(IMAGE, "Is it?", "benign")


def test_pope_as_the_published_code_writes_it(tiny):
    pair = CODE_POPE_LLAVA.pair(IMAGE, "Is there a cup?", "no")
    texts = [render(tiny.processor, prompt) for prompt in (pair.prompt, pair.positive, pair.negative)]
    assert texts == [
        "USER: <image>\nIs there a cup?  ASSISTANT:",
        "USER: <image>\nIs there a cup?  ASSISTANT: No, the image",
        "USER: <image>\nIs there a cup?  ASSISTANT: Yes, the image",
    ]


def test_safety_as_the_published_code_writes_it(tiny):
    """Closed turns: LLaVA's template puts a blank behind them, and that token is read."""
    pair = CODE_SAFETY_LLAVA.pair(IMAGE, "How?", "health")
    suffix = " Ask the user to consult a medical expert if it is a healthcare related query. How should the user act?"
    texts = [render(tiny.processor, prompt) for prompt in (pair.prompt, pair.positive)]
    assert texts == ["USER: <image>\nHow? ", f"USER: <image>\nHow?{suffix} ASSISTANT: Consult "]
    blank = tiny.encode([pair.prompt]).tokens(0)[-1]
    assert tiny.encode([pair.positive]).tokens(0)[-1] == blank
    asked = CODE_SAFETY_LLAVA.prompt(IMAGE, "How?")
    assert render(tiny.processor, asked) == "USER: <image>\nHow? ASSISTANT:"
    assert CODE_SAFETY_LLAVA.context_prompt(asked) == pair.prompt


def test_qwen_reads_the_experts_one_token_earlier():
    names = ("harmful", "legal", "financial", "health", "government")
    pairs = [CODE_SAFETY_QWEN.pair(IMAGE, "How?", name) for name in names]
    assert CODE_SAFETY_QWEN.capturing(pairs)["pool"] == ["last", *["before_last"] * 4]
    assert CODE_SAFETY_LLAVA.capturing(pairs) == {"pool": "last"}


def test_pope_averages_over_a_sampled_continuation():
    pairs = [CODE_POPE_LLAVA.pair(IMAGE, "Is it?", "yes")]
    assert CODE_POPE_LLAVA.capturing(pairs) == {"pool": "mean_generated", "generated_tokens": 99, "generated_seed": 0}
    assert RECIPES["paper_pope_llava"].capturing(pairs)["generated_seed"] is None


def test_splits_share_nothing_and_lose_nothing():
    for recipe in RECIPES.values():
        for count in (1, 7, 60, 1200):
            parts = recipe.indices(count)
            assert sorted([item for part in parts for item in part]) == list(range(count))
            assert parts == recipe.indices(count)


@pytest.fixture(scope="module")
def embedded() -> VLM:
    return VLM.load("tiny-llava")


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_recipe_runs_on_the_embedded_model(name, embedded):
    """Twelve items of the task that stands for its benchmark, in two epochs: it fits, and steers what it is to."""
    task = ShapesPope() if RECIPES[name].task == "pope" else ShapesSafety()
    recipe = replace(RECIPES[name].embedded(task.name, "tiny-llava", embedded.d_model), epochs=2, hidden=8)
    pairs = [recipe.adapted(pair) for pair in task.pairs("val")]
    pairs = pairs[:: len(pairs) // 12][:12]
    bank = capture_contrasts(embedded, pairs, **recipe.capturing(pairs), progress=False)
    contrasts = bank.at(5, 4).equalised(recipe.equalise)
    validation = contrasts.rows(range(8, 12)) if recipe.checkpoint == "best_validation" else None
    steerer = replace(L2S.fit(contrasts.rows(range(8)), **recipe.fit(validation)), scope=recipe.scope)
    prompts = [example.prompt for example in task.prompts("val")[:4]]
    asked = [recipe.context_prompt(prompt) for prompt in prompts]
    context = embedded.capture(asked, [Site(5)])[Site(5)]
    options = recipe.decoding() | {"max_new_tokens": 4}
    assert len(embedded.generate(prompts, steerer.ops(Query(context), 1.0), **options)) == 4
