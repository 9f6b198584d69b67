"""What is refused at the door of attention, before the model runs."""

from transformers import PreTrainedModel

from interv.attention.function import check_implementation
from interv.ops.op import Capture, Formula, Op
from interv.places.layouts import Layout
from interv.places.site import ROTATED


def check_attention(op: Op, model: PreTrainedModel, layout: Layout) -> None:
    """Raise ValueError where an op cannot act inside attention, or names a head that is not there."""
    check_implementation(model.get_submodule(layout.locate(op.site)[0]))
    if isinstance(op, Capture):
        return
    if op.site.hook in ROTATED:
        near = op.site.hook.replace("rot_", "")
        raise ValueError(
            f"{type(op).__name__} at {op.site}: keys are cached as they are rotated, so both can only be read there; "
            f"change them at {near}."
        )
    if isinstance(op, Formula):
        raise ValueError(
            f"{type(op).__name__} changes hidden states, and {op.site} has scores or weights: change these by Boost, "
            "Drop, an AttentionEdit of your own, or Apply."
        )
    count = layout.heads_of(op.site) or 0
    wrong = [head for head in getattr(op, "chosen_heads", None) or () if head >= count]
    if wrong:
        raise ValueError(
            f"{op.site} has no head {wrong[0]}: there this model has {count} heads, so head runs from 0 to {count - 1}."
        )
