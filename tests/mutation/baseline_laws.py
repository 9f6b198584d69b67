"""The laws of the other systems, and of what goes beyond the paper, as plain functions of a model."""

from functools import partial

from tests.mutation.laws import Check, each
from tests.parity import test_baselines as published
from tests.property import test_law_14_baselines as law_14
from tests.unit import test_attention_methods as attention_methods
from tests.unit import test_cast as cast
from tests.unit import test_iti as iti
from tests.unit import test_l2s_extensions as extensions
from tests.unit import test_planted_heads as planted_heads
from tests.unit import test_second_stream as streams

BASELINE_LAWS: dict[str, Check] = {
    "14 zero strength changes nothing": each(law_14.check_zero_strength_changes_nothing, "CAST", "VCD"),
    "14 a batch equals single runs": each(law_14.check_a_batch_equals_single_runs, "CAST", "VCD", "ITI", count=3),
    "14 runs side by side equal runs apart": partial(law_14.check_side_by_side_equals_apart, names=("PAI", "VCD")),
    "14 padding counts for nothing": partial(cast.check_padding_counts_for_nothing, count=4),
    "14 rows without a condition are left alone": cast.check_rows_without_a_condition_are_left_alone,
    "14 a planted condition is found": lambda vlm: cast.check_planted_condition_is_found(),
    "14 rules of conditions": lambda vlm: cast.check_rules(),
    "14 CAST's similarity as published": published.check_cast_similarity,
    "14 CAST's direction as published": lambda vlm: published.check_cast_direction(),
    "14 PAI's scores as published": published.check_pai,
    "14 PAI's logits as published": published.check_pai_logits,
    "14 AD-HH's rule as published": published.check_adhh,
    "14 VCD's logits as published": published.check_vcd,
    "14 image mass grows": attention_methods.check_image_mass_grows,
    "14 text is dropped": attention_methods.check_text_is_dropped,
    "14 attribution finds a planted head": attention_methods.check_attribution_finds_a_planted_head,
    "14 a planted head is the first": planted_heads.check_a_planted_head_is_the_first,
    "14 companions follow": partial(streams.check_companions_follow, name="VCD", do_sample=True, seed=1),
    "14 unlikely tokens are cut off": each(streams.check_unlikely_tokens_are_cut_off, "PAILogits", "VCD"),
    "14 noise is of the image alone": streams.check_noise_is_of_the_image_alone,
    "14 a planted head is found": lambda vlm: iti.check_planted_head_is_found(),
    "14 heads are judged on unseen pairs": lambda vlm: iti.check_heads_are_judged_on_unseen_pairs(),
    "14 chosen heads alone change": iti.check_chosen_heads_alone_change,
    "12 a row that is left alone keeps its bits": extensions.check_a_row_that_is_left_alone_keeps_its_bits,
    "12 both kinds count alike for the gate": lambda vlm: extensions.check_both_kinds_count_alike_for_the_gate(),
    "12 each block gets its own direction": lambda vlm: extensions.check_each_block_gets_its_own_direction(),
}
