"""The settings of the paper and of the published code on two benchmarks and two models, and of the embedded tasks.

Where a value of the code stands in a paper recipe, the paper is silent. docs/reproduction.md lists what differs.
"""

from dataclasses import replace
from typing import Any

from studies.recipes.completions import (
    CAREFUL,
    POPE_CODE,
    POPE_PAPER,
    REFUSE,
    SAFETY_GROUPS,
    SAFETY_LLAVA,
    SAFETY_QWEN,
    reading_before_last,
)
from studies.recipes.recipe import Recipe

_LLAVA, _QWEN = "llava-hf/llava-1.5-7b-hf", "Qwen/Qwen2-VL-7B-Instruct"
# By a checkpoint's model_type: the model that layers and strengths below are for, and how many decoder blocks it has.
MADE_FOR = {"llava": (_LLAVA, 32), "qwen2_vl": (_QWEN, 28)}

PAPER_POPE_LLAVA = Recipe(
    "paper_pope_llava",
    "pope",
    _LLAVA,
    reads=14,
    writes=14,
    pool="mean_generated",
    forced=POPE_PAPER,
    strength=1.0,
    learning_rate=5e-5,
    schedule="cosine",
    warmup_epochs=50,
    checkpoint="best_validation",
    max_new_tokens=12,
    prompt_suffix=CAREFUL,
    parser="first_12_tokens",
)
CODE_POPE_LLAVA = replace(
    PAPER_POPE_LLAVA,
    name="code_pope_llava",
    generated_sampled=True,
    forced=POPE_CODE,
    scope="all",
    cosine_ramp=True,
    balanced=True,
    split=(1100, 100, 0),
    split_seed=None,
    sampled=True,
    max_new_tokens=128,
    question_end=" ",
    parser="first_15_characters",
)
PAPER_SAFETY_LLAVA = Recipe(
    "paper_safety_llava",
    "mm_safety",
    _LLAVA,
    reads=30,
    writes=15,
    forced=SAFETY_LLAVA,
    strength=2.2,
    learning_rate=1e-4,
    schedule="cosine",
    warmup_epochs=50,
    checkpoint="best_validation",
    split=(72, 8, 20),
    split_seed=21,
    max_new_tokens=200,
    prompt_suffix=REFUSE,
    judge="llama_guard_and_phrases",
)
CODE_SAFETY_LLAVA = replace(
    PAPER_SAFETY_LLAVA,
    name="code_safety_llava",
    context="closed_user_turn",
    closed_answer=True,
    equalise=SAFETY_GROUPS,
    scope="all",
    init="dictionary",
    schedule="constant",
    warmup_epochs=0,
    checkpoint="last",
    split=(80, 0, 20),
)
PAPER_POPE_QWEN = replace(PAPER_POPE_LLAVA, name="paper_pope_qwen", model=_QWEN, reads=17, writes=17)
CODE_POPE_QWEN = replace(CODE_POPE_LLAVA, name="code_pope_qwen", model=_QWEN, reads=17, writes=17, hidden=400)
_QWEN_SAFETY: dict[str, Any] = {"model": _QWEN, "reads": 14, "writes": 14}
PAPER_SAFETY_QWEN = replace(PAPER_SAFETY_LLAVA, name="paper_safety_qwen", forced=SAFETY_QWEN, **_QWEN_SAFETY)
CODE_SAFETY_QWEN = replace(
    CODE_SAFETY_LLAVA, name="code_safety_qwen", forced=reading_before_last(SAFETY_QWEN), **_QWEN_SAFETY
)
# Captions: the paper steers them with POPE's vectors and gives no pairs; layers are POPE's, the strength is chosen.
CHAIR_LLAVA = replace(
    PAPER_POPE_LLAVA,
    name="chair_llava",
    task="chair",
    forced=(),
    pool="mean",
    strength=None,
    max_new_tokens=128,
    prompt_suffix="Mention only what the image shows.",
    parser="task",
)
# On the small worlds the settings were chosen on validation scenes; layers and strength still are, in each run.
EMBEDDED_POPE = Recipe("embedded_pope", "shapes_pope", "tiny-llava", pool="mean", max_new_tokens=12)
EMBEDDED_SAFETY = Recipe("embedded_safety", "shapes_safety", "tiny-llava", max_new_tokens=14)
EMBEDDED_CAPTIONS = Recipe("embedded_captions", "shapes_captions", "tiny-llava", pool="mean", max_new_tokens=40)
# Blocks and strengths as they were of use on the validation scenes of several trainings: a constant direction answers
# "no" to all from half a contrast on, and contexts read behind block 25 hardly help L2S. Steering every token of the
# reply, as far as is of use for the answer, breaks its words; the last prompt token alone decides the answer.
EMBEDDED_PICTURES = Recipe(
    "embedded_pictures_pope",
    "pictures_pope",
    "smol-llava",
    pool="mean",
    scope="last_prompt",
    max_new_tokens=14,
    tried_reads=(20, 25),
    tried_writes=(20, 25),
    tried_strengths=(0.05, 0.1, 0.2, 0.5, 1.0),
)
EMBEDDED_PICTURES_CAPTIONS = replace(
    EMBEDDED_PICTURES,
    name="embedded_pictures_captions",
    task="pictures_captions",
    scope="response",
    max_new_tokens=40,
    tried_strengths=(0.25, 0.5, 1.0, 2.0),
)

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        *(PAPER_POPE_LLAVA, CODE_POPE_LLAVA, PAPER_POPE_QWEN, CODE_POPE_QWEN),
        *(PAPER_SAFETY_LLAVA, CODE_SAFETY_LLAVA, PAPER_SAFETY_QWEN, CODE_SAFETY_QWEN),
        *(CHAIR_LLAVA, EMBEDDED_POPE, EMBEDDED_SAFETY, EMBEDDED_CAPTIONS),
        *(EMBEDDED_PICTURES, EMBEDDED_PICTURES_CAPTIONS),
    )
}
