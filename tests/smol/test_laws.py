"""The laws on a pretrained language model: 30 blocks, grouped queries, byte-level BPE, a chat template of turns.

`make test-smol` runs them where `interv get smol-llava` has been run; without it they are skipped.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from interv import VLM, Site
from interv.assembled.get import find
from tests.property import test_law_01_zero_strength as law_01
from tests.property import test_law_02_exact_change as law_02
from tests.property import test_law_03_order as law_03
from tests.property import test_law_04_rows as law_04
from tests.property import test_law_05_cache as law_05
from tests.property import test_law_05_contrasts as law_05_contrasts
from tests.property import test_law_05_prefill as law_05_prefill
from tests.property import test_law_06_hooks as law_06
from tests.property import test_law_07_scopes as law_07
from tests.property import test_law_08_clean as law_08
from tests.property import test_law_11_capture as law_11
from tests.property.cases import Ask, Case, Push

NAME = "smol-llava"


def _here() -> bool:
    try:
        find(NAME)
    except ValueError:
        return False
    return True


pytestmark = [
    pytest.mark.smol,
    pytest.mark.skipif(not _here(), reason=f"python -m interv get {NAME} puts the model there"),
]

ASKS = (
    Ask("Is there a cat in the picture?", ((40, 56),), 0),
    Ask("What is in the picture? Say it in one long sentence, with care.", ((224, 224),), 1),
    Ask("no picture", (), 2),
)
# The residual stream here has a norm of hundreds in its middle; a unit vector moves nothing.
PUSH = Push("hook_resid_post", 20, strength=40.0, rowwise=(True, True))
CASE = Case(ASKS, (PUSH, Push("hook_mlp_out", 5, strength=20.0)), 4)
SCOPES = ("all", "prompt", "last_prompt", "generated", "response")

CHECKS: dict[str, Callable[[VLM, Case], None]] = {
    "strength 0": law_01.check_zero_strength_changes_nothing,
    "strength 0 through hooks": law_01.check_zero_strength_changes_nothing_through_hooks,
    "exact change": law_02.check_change_at_the_site_is_exact,
    "order": law_03.check_order_across_sites_decides_nothing,
    "rows": law_04.check_row_equals_prompt_alone,
    "rows behind one prefill": law_04.check_selected_rows_are_the_rows,
    "cache": law_05.check_cache_on_equals_off,
    "full pass": law_05.check_first_logits_equal_a_full_pass,
    "one prefill and two passes": law_05_prefill.check_one_prefill_equals_two_passes,
    "hooks": law_06.check_hooks_from_the_start_give_the_same_reply,
    "hooks behind a prefill": law_06.check_hooks_behind_the_same_prefill_give_the_same_bits,
    "first token": law_07.check_generated_leaves_the_first_token,
    "nothing stays": law_08.check_nothing_stays,
}


@pytest.fixture(scope="module")
def smol() -> VLM:
    return VLM.load(NAME)


@pytest.mark.parametrize("law", CHECKS)
def test_a_law_holds(law: str, smol: VLM) -> None:
    CHECKS[law](smol, CASE)


@pytest.mark.parametrize("scope", SCOPES)
def test_scopes_take_in_their_tokens(scope: str, smol: VLM) -> None:
    law_07.check_scope_takes_in_its_tokens(smol, Case(ASKS, (Push("hook_mlp_out", 12, scope, strength=20.0),), 4))


@pytest.mark.parametrize("pool", ["last", "mean"])
def test_contrasts_behind_a_shared_prefix_equal_full_passes(pool: str, smol: VLM) -> None:
    asked = ASKS[0]
    contrasts = tuple(
        law_05_contrasts.Contrast(Ask(question, asked.sizes, asked.seed), "Yes, there is.", "No, there is none.")
        for question in ("Is there a cat?", "Is there a very small dog?")
    )
    law_05_contrasts.check_contrasts_equal_full_passes(smol, contrasts, pool)


def test_captures_are_the_hidden_states(smol: VLM) -> None:
    law_11.check_capture_equals_hidden_states(smol, ASKS)


def test_the_tower_has_no_blocks_to_steer(smol: VLM) -> None:
    assert not any(site.tower == "vision" for site in smol.sites())
    with pytest.raises(ValueError, match="vision tower has no blocks of attention"):
        smol.capture(CASE.prompts()[:1], [Site(0, tower="vision")])


def test_a_saved_folder_gives_the_same_model(smol: VLM, tmp_path: Path) -> None:
    smol.model.save_pretrained(tmp_path)
    smol.processor.save_pretrained(tmp_path)
    again = VLM.load(str(tmp_path))
    assert again.fingerprint == smol.fingerprint
    assert torch.equal(again.logits(CASE.prompts()[:1]), smol.logits(CASE.prompts()[:1]))
