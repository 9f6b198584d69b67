"""The laws as plain functions of a model, each on a few fixed cases: what a planted fault has to get past."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from interv import SCOPES, VLM
from methods import L2S, STEERERS
from methods.steerer import Fitted
from tests.property import test_law_01_zero_strength as law_01
from tests.property import test_law_02_exact_change as law_02
from tests.property import test_law_02_inside as inside
from tests.property import test_law_03_order as law_03
from tests.property import test_law_04_rows as law_04
from tests.property import test_law_05_cache as law_05
from tests.property import test_law_05_contrasts as contrasts
from tests.property import test_law_05_precision as precision
from tests.property import test_law_05_prefill as prefill
from tests.property import test_law_06_hooks as law_06
from tests.property import test_law_07_functions as functions
from tests.property import test_law_07_scopes as law_07
from tests.property import test_law_08_clean as law_08
from tests.property import test_law_09_touched as law_09
from tests.property import test_law_10_refused as law_10
from tests.property import test_law_11_capture as law_11
from tests.property import test_law_11_names as names
from tests.property import test_law_12_steerers as law_12
from tests.property import test_law_13_attention as law_13
from tests.property import test_law_13_attention_door as attention_door
from tests.property import test_law_13_attention_facts as attention_facts
from tests.property import test_law_13_attention_read as attention_read
from tests.property.attention_cases import Pull, Scene
from tests.property.cases import Ask, Case, Push
from tests.property.places import PLACES
from tests.tiny_models import build

SHOWING = (Ask("what is it?", ((28, 28),), 0), Ask("hm", ((84, 84), (28, 56)), 1))
MIXED = (*SHOWING, Ask("and this is text?", (), 2))
EACH_ITS_OWN = (True, True)
STEERED = Case(MIXED, (Push(rowwise=EACH_ITS_OWN),))
SEVERAL = Case(
    SHOWING,
    (
        Push("hook_mlp_out", 0, "all", seed=1),
        Push("hook_resid_mid", 0, "image", "project", seed=2),
        Push("hook_resid_mid", 1, "prompt", "scale", 0.5),
        Push("hook_resid_post", 1, "response", rowwise=EACH_ITS_OWN, seed=3),
        Push("hook_resid_post", 1, "response", "scale", 2.0),
        Push("hook_resid_pre", 2, "last_prompt", seed=4),
        Push("hook_attn_out", 2, "generated", seed=5),
    ),
)
AT_ONE_SITE = Case(
    MIXED, (Push("hook_resid_mid", rowwise=EACH_ITS_OWN), Push("hook_resid_mid", 1, kind="scale", strength=3.0))
)
OF_ONE_HEAD = tuple(
    Case(SHOWING, (Push(place, 1, scope, rowwise=EACH_ITS_OWN),))
    for place, scope in (("query head", "all"), ("key head", "image"), ("value head", "prompt"), ("z head", "response"))
)
BY_FUNCTION = Case(
    MIXED,
    (
        Push("hook_resid_post", 0, "last_prompt", "apply", rowwise=EACH_ITS_OWN, seed=1),
        Push("hook_resid_mid", 1, "prompt", "apply", rowwise=EACH_ITS_OWN, seed=2),
        Push("key head", 1, "all", "scale", 2.0),
        Push("z head", 2, "response", "apply", seed=3),
        Push("value head", 2, "prompt"),
    ),
)
Check = Callable[[VLM], None]


def each(check: Callable[..., None], *cases: Any, **named: Any) -> Check:
    """One law over several cases."""

    def law(vlm: VLM) -> None:
        for case in cases:
            check(vlm, case, **named)

    return law


def scopes(place: str = "hook_resid_post", layer: int = 1) -> list[Case]:
    """One case a scope, its rows with vectors of their own."""
    return [Case(SHOWING, (Push(place, layer, scope, rowwise=EACH_ITS_OWN),), 3) for scope in SCOPES]


def in_half_precision(vlm: VLM) -> None:
    precision.check_hand_written_stages_give_the_same_bits(build(vlm.name, torch.bfloat16), STEERED)


def steerers(check: Callable[[type[Fitted]], None]) -> Check:
    def law(vlm: VLM) -> None:
        for method in STEERERS:
            check(method)

    return law


def saved_is_loaded(vlm: VLM) -> None:
    for method in STEERERS:
        with TemporaryDirectory() as folder:
            law_12.check_saved_is_loaded(method, Path(folder))


def refused(vlm: VLM) -> None:
    for name in law_10.WRONG:
        law_10.check_wrong_op_is_refused(vlm, name)


WITHOUT_DECODING = [case for case in scopes() if case.pushes[0].scope != "generated"]
PAIRS = (contrasts.Contrast(SHOWING[0]), contrasts.Contrast(SHOWING[1], "yes, it is so", "no", " please"))
ABOUT_TWO_IMAGES = tuple(
    contrasts.Contrast(Ask(question, ((28, 28),), seed)) for question, seed in (("one", 0), ("more", 1), ("and one", 0))
)
TRUNCATED = [replace(case, pushes=(replace(case.pushes[0], place=law_07.PLACE),)) for case in scopes()]

ONE_ROW = Scene(SHOWING[:1], (Pull("drop", "all", 0, (1,), "prompt"), Pull("boost", "image", 1, None, "all", 2.0)))
OF_A_KIND = tuple(Pull("boost", kind, at % 3, None, "response", 2.0) for at, kind in enumerate(("text", "after_image")))
PULLED = Scene(
    SHOWING,
    (
        Pull("boost", "image", 0, None, "all", 1.0, True),
        Pull("gate", "after_image", 1, (0, 3), "response", 1.0, threshold=0.2),
        Pull("drop", "before_image", 1, (1,), "response", rowwise=True),
        Pull("drop", "reply", 2, None, "response", 1.0),
    ),
)
BEHIND = Scene(SHOWING, PULLED.pulls[1:])


LAWS: dict[str, Check] = {
    "1 zero strength changes nothing": each(law_01.check_zero_strength_changes_nothing, STEERED, SEVERAL),
    "1 ... through hooks": each(law_01.check_zero_strength_changes_nothing_through_hooks, WITHOUT_DECODING[0]),
    "2 the change at the site is exact": each(law_02.check_change_at_the_site_is_exact, *WITHOUT_DECODING),
    "2 captures see the exact change": each(law_02.check_captures_see_the_exact_change, *WITHOUT_DECODING),
    "2 a head changes alone": lambda vlm: [  # type: ignore[dict-item,return-value]
        check(vlm, case)
        for case in OF_ONE_HEAD
        for check in (law_02.check_change_at_the_site_is_exact, law_02.check_captures_see_the_exact_change)
    ],
    "2 a function changes its scope alone": each(
        law_02.check_captures_see_the_exact_change,
        *(Case(SHOWING, (Push("hook_resid_post", 1, "image", "apply", seed=seed),)) for seed in (0, 1)),
    ),
    "2 inside norms and attention": lambda vlm: [  # type: ignore[dict-item,return-value]
        inside.check_inside_is_read_and_changed(vlm),
        inside.check_the_heads_shares_are_the_output(vlm),
    ],
    "3 causes come before effects": inside.check_causes_come_before_effects,
    "3 order across sites decides nothing": each(
        partial(law_03.check_order_across_sites_decides_nothing, seed=3), SEVERAL
    ),
    "3 ops at one site apply in list order": each(law_03.check_ops_at_one_site_apply_in_list_order, AT_ONE_SITE),
    "3 ... through hooks": each(law_03.check_installed_ops_at_one_site_apply_in_list_order, AT_ONE_SITE),
    "4 a row equals its prompt alone": each(law_04.check_row_equals_prompt_alone, STEERED),
    "4 a row of a function equals its prompt alone": each(law_04.check_row_equals_prompt_alone, BY_FUNCTION),
    "4 right padding changes no row": each(law_04.check_right_padding_changes_no_row, *WITHOUT_DECODING),
    "4 selected rows are the rows": each(law_04.check_selected_rows_are_the_rows, STEERED),
    "5 prefill and decode equal full passes": each(law_05.check_prefill_and_decode_equal_full_passes, STEERED, SEVERAL),
    "5 one's own function and single heads equal full passes": each(
        law_05.check_prefill_and_decode_equal_full_passes, BY_FUNCTION
    ),
    "5 cache on equals off": each(law_05.check_cache_on_equals_off, SEVERAL),
    "5 one prefill equals two passes": each(prefill.check_one_prefill_equals_two_passes, STEERED),
    "5 a prefill outlives other batches": each(prefill.check_prefill_outlives_other_batches, STEERED),
    "5 hand-written stages, the same bits": each(precision.check_hand_written_stages_give_the_same_bits, STEERED),
    "5 ... in bfloat16": in_half_precision,
    "5 contrasts equal full passes": lambda vlm: [  # type: ignore[dict-item,return-value]
        contrasts.check_contrasts_equal_full_passes(vlm, PAIRS, pool) for pool in ("last", "mean")
    ],
    "5 what is said counts": partial(
        contrasts.check_contrasts_equal_full_passes, contrasts=PAIRS, pool="mean_generated"
    ),
    "5 pairs about one image equal full passes": partial(
        contrasts.check_contrasts_equal_full_passes,
        contrasts=ABOUT_TWO_IMAGES,
        pool="mean",
        order="image",
        batch_size=3,
    ),
    "6 hooks from the start, the same reply": each(law_06.check_hooks_from_the_start_give_the_same_reply, SEVERAL),
    "6 hooks behind a prefill, the same bits": each(
        law_06.check_hooks_behind_the_same_prefill_give_the_same_bits, STEERED
    ),
    "6 functions at names are ops": each(names.check_functions_at_names_are_ops, Case(MIXED[::2], ())),
    "7 a function is given the scope's tokens": lambda vlm: [  # type: ignore[dict-item,return-value]
        functions.check_a_function_is_given_the_scopes_tokens(vlm, Case(SHOWING, ()), every) for every in (False, True)
    ],
    "7 a scope takes in its tokens": each(law_07.check_scope_takes_in_its_tokens, *TRUNCATED),
    "7 ... through hooks": each(law_07.check_scope_takes_in_its_tokens, *TRUNCATED, through_hooks=True),
    "7 generated leaves the first token": each(law_07.check_generated_leaves_the_first_token, STEERED),
    "7 response changes the first token": each(law_07.check_response_changes_the_first_token, STEERED),
    "8 nothing stays": each(law_08.check_nothing_stays, STEERED),
    "9 untouched ops raise": each(law_09.check_untouched_ops_raise, (Ask("text", ()),)),
    "9 an image op needs images": law_09.check_image_op_needs_an_image_in_every_row,
    "9 a prompt without a cache is no prefill": law_09.check_a_prompt_without_a_cache_is_no_prefill,
    "10 a wrong op is refused": refused,
    "10 a wrong result is refused": lambda vlm: [  # type: ignore[dict-item,return-value]
        functions.check_a_wrong_result_is_refused(vlm, name) for name in functions.WRONG
    ],
    "10 wrong rows are refused by hooks": law_10.check_wrong_rows_are_refused_by_hooks,
    "11 capture equals hidden states": each(law_11.check_capture_equals_hidden_states, MIXED),
    "11 capture equals a hook": lambda vlm: [  # type: ignore[dict-item,return-value]
        law_11.check_capture_equals_a_hook(vlm, SHOWING[1], PLACES[name](vlm, 1)) for name in PLACES
    ],
    "11 a cache equals plain hooks": each(names.check_cache_equals_plain_hooks, OF_ONE_HEAD[0], Case(MIXED, ())),
    "11 captured tokens are those asked for": each(law_11.check_captured_tokens_are_those_asked_for, SHOWING),
    "11 captured while generating": each(law_11.check_captured_while_generating, Case(SHOWING, (Push("mlp input"),))),
    "11 captures are copies": law_11.check_captures_are_copies,
    "12 fit depends on data and seed alone": steerers(law_12.check_fit_depends_on_data_and_seed_alone),
    "12 the seed is used": lambda vlm: law_12.check_seed_is_used(L2S),
    "12 each prompt is steered by itself": steerers(law_12.check_each_prompt_is_steered_by_itself),
    "12 what is saved is loaded": saved_is_loaded,
    "12 ops say where and whose": steerers(law_12.check_ops_say_where_and_whose),
    "12 a planted direction is found": steerers(law_12.check_planted_direction_is_found),
    "12 a batch is steered row by row": lambda vlm: law_12.check_batch_is_steered_row_by_row(vlm, L2S),
    "13 captures equal eager attention": lambda vlm: attention_read.check_capture_equals_eager(vlm, MIXED),
    "13 the first block has eager's bits": attention_read.check_first_block_has_eagers_bits,
    "13 ... in bfloat16": lambda vlm: attention_read.check_first_block_has_eagers_bits(build(vlm.name, torch.bfloat16)),
    "13 edits equal a pass by hand": each(
        law_13.check_edits_equal_a_pass_by_hand, PULLED, ONE_ROW, Scene(SHOWING, OF_A_KIND)
    ),
    "13 cache on equals off": each(law_13.check_cache_on_equals_off, PULLED),
    "13 a row equals its prompt alone": each(law_13.check_row_equals_prompt_alone, PULLED),
    "13 a trace equals hooks": each(law_13.check_trace_equals_hooks, BEHIND),
    "13 zero strength changes nothing": each(law_13.check_zero_strength_changes_nothing, PULLED),
    "13 the rest keeps its bits": lambda vlm: law_13.check_the_rest_keeps_its_bits(
        vlm, Scene(SHOWING), Pull("drop", "image", 1, (2,), "last_prompt")
    ),
    "13 reading changes nothing": each(attention_read.check_reading_changes_nothing, Scene(SHOWING)),
    "13 generated leaves the first token": each(law_13.check_generated_leaves_the_first_token, Scene(SHOWING)),
    "13 captured while generating": each(attention_read.check_captured_while_generating, Scene(SHOWING)),
    "13 columns are told apart": each(attention_facts.check_columns_are_told_apart, Scene(SHOWING)),
    "13 boost gives to the image alone": each(attention_facts.check_boost_gives_to_the_image_alone, Scene(SHOWING)),
    "13 drop takes its columns away": each(attention_facts.check_drop_takes_its_columns_away, Scene(SHOWING)),
    "13 gates are counted": each(attention_facts.check_gates_are_counted, Scene(SHOWING)),
    "13 gates of ended rows": attention_facts.check_rows_that_ended_are_not_counted,
    "13 gates decide head by head": each(attention_facts.check_gates_decide_head_by_head, Scene(SHOWING)),
    "13 columns that no row has are refused": attention_door.check_columns_that_no_row_has_are_refused,
    "13 other attention is refused": attention_door.check_other_attention_is_refused,
    "13 nothing stays": attention_door.check_nothing_stays,
    "13 contexts act together": attention_door.check_contexts_act_together,
    "13 other runs leave attention alone": attention_door.check_only_runs_with_attention_ops_leave_sdpa,
}
