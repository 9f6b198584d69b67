"""What is refused at the door, before the model runs."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool
from torch import Tensor, nn
from transformers import PreTrainedModel

from interv.attention.checks import check_attention
from interv.ops.attention_edits import AttentionEdit
from interv.ops.op import Capture, Edit, Op
from interv.places.columns import BY_IMAGE
from interv.places.layouts import Layout
from interv.places.parts import part_of
from interv.places.site import Site
from interv.prompts.encoding import Encoded
from interv.prompts.prompt import Prompt
from interv.running.prefill import Prefill


def check_ops(
    ops: Sequence[Op],
    model: PreTrainedModel,
    layout: Layout,
    rows: int | None,
    fingerprint: str,
) -> None:
    """Raise ValueError or TypeError for the first op that does not fit the model or the number of rows."""
    for op in ops:
        if not isinstance(op, Capture | Edit):
            raise TypeError(f"{op!r} is no op; the ops are Capture, Add, Project, Replace, Scale, Apply, Boost, Drop.")
        if isinstance(op, Capture) and isinstance(op.tokens, Tensor) and len(op.tokens) != (rows or len(op.tokens)):
            raise ValueError(
                f"Capture at {op.site} has indices for {len(op.tokens)} rows, the batch has {rows}; give each a row."
            )
        check_site(op.site, model, layout)
        if not layout.sees_tokens(op.site):
            _check_outside_text(op)
        if op.scope == "image" and layout.locate(op.site)[0] == layout.embedding:
            raise ValueError(
                f"{op.site} comes before the image features, which replace what stands there on image tokens; "
                "use blocks.0.hook_resid_pre."
            )
        if layout.in_attention(op.site):
            check_attention(op, model, layout)
        if isinstance(op, Edit):
            _check_edit(op, model, layout, rows, fingerprint)


def check_list(values: object) -> None:
    """Raise TypeError for a single op, prompt or site where a list of them is asked for."""
    if isinstance(values, Prompt | Capture | Edit | Site | str):
        raise TypeError(f"A list is needed here, also for one {type(values).__name__}: put it into brackets.")


def check_prompts(prompts: object, model: nn.Module) -> None:
    """Raise TypeError for what is no list of prompts nor a prefill of them, ValueError for one of another model."""
    if isinstance(prompts, Prompt):
        check_list(prompts)
    if isinstance(prompts, Prefill):
        check_prefill(prompts, model)
        return
    way = "give a list of prompts: [Prompt(image, question)], with None for no image"
    if isinstance(prompts, str | bytes | Mapping) or not isinstance(prompts, Sequence):
        raise TypeError(f"Prompts came as a {type(prompts).__name__}; {way}.")
    for number, prompt in enumerate(prompts):
        if not isinstance(prompt, Prompt):
            raise TypeError(f"prompts[{number}] is a {type(prompt).__name__}; {way}.")


def check_site(site: Site, model: nn.Module, layout: Layout) -> None:
    """Raise ValueError where the model has no such place, naming what it has."""
    number, sizes = layout.number_of(site), layout.tower_of(site)[2]
    if number is not None and sizes is not None and not 0 <= number < sizes.layers:
        kind = "decoder" if site.tower == "language" else "vision"
        if not sizes.layers:
            raise ValueError(f"Site({site.layer}) is outside this model: its vision tower has no blocks of attention.")
        raise ValueError(
            f"Site({site.layer}) is outside this model: it has {sizes.layers} {kind} blocks, "
            f"so layer runs from 0 to {sizes.layers - 1}, or from -{sizes.layers} to -1."
        )
    heads = layout.heads_of(site)
    if site.head is not None and heads is not None and site.head >= heads:
        raise ValueError(
            f"{site} is outside this model: there it has {heads} heads, so head runs from 0 to {heads - 1}."
        )
    path, _ = layout.locate(site)
    module: nn.Module = model
    parts = path.split(".")
    for depth, part in enumerate(parts):
        children = dict(module.named_children())
        if part not in children:
            above = ".".join(parts[:depth]) or "the model"
            raise ValueError(f"{path!r} is no module of this model: {above} has {', '.join(children) or 'no parts'}.")
        module = children[part]
    part_of(site, layout, model)


def check_rows(ops: Sequence[Op], rows: int | None) -> None:
    """Raise ValueError for the first op that is made for another number of rows, where that is known."""
    for op in ops:
        if isinstance(op, Edit) and op.rows not in (None, rows or op.rows):
            raise ValueError(
                f"The op at {op.site} is made for {op.rows} rows and the batch has {rows}; one entry a prompt."
            )


def check_prompt_ops(ops: Sequence[Op], encoded: Encoded) -> None:
    """Raise for ops that cannot act while these prompts run again: ValueError, or RuntimeError where no token is."""
    if encoded.image_mask.any() and not encoded.media:
        raise ValueError("Ops that reach into the prompt run it again, and selected rows keep no pixels; pass prompts.")
    check_images(ops, encoded.image_mask)
    for op in ops:
        if isinstance(op, Capture) and not isinstance(op.tokens, str):
            raise ValueError("Read tokens by index with vlm.capture(prompts, sites, tokens), not while generating.")


def check_images(ops: Sequence[Op], image_mask: Bool[Tensor, "batch seq"]) -> None:
    """Raise RuntimeError where an op would leave out a row that has no image token."""
    for op in ops:
        if isinstance(op, AttentionEdit) and op.columns in BY_IMAGE:
            rows = (~image_mask.any(1) & op.reaches(image_mask)).nonzero().flatten().tolist()
            if rows:
                raise RuntimeError(
                    f"The op at {op.site} acts on columns {op.columns!r} and rows {rows} hold no image; give these "
                    "rows strength 0."
                )
        if op.scope == "image" and not image_mask.any(1).all():
            rows = (~image_mask.any(1)).nonzero().flatten().tolist()
            raise RuntimeError(f"The op at {op.site} has scope 'image' and rows {rows} hold no image.")


def check_prefill(prefill: Prefill, model: nn.Module) -> None:
    """Raise ValueError for a prefill that this model cannot go on from."""
    if prefill.model is not model:
        raise ValueError("This prefill is another model's; make it with vlm.prefill of the model that is to reply.")
    if prefill.blocks is not None:
        raise ValueError(f"A prefix of {prefill.blocks} blocks cannot be replied to; pass prompts or a prefill.")


def _check_outside_text(op: Op) -> None:
    if op.scope != "all":
        word = "tokens" if isinstance(op, Capture) else "scope"
        raise ValueError(
            f"{op.site} lies outside the language model and sees image patches, not tokens; pass {word}='all'."
        )
    if isinstance(op, Edit) and op.rows is not None:
        raise ValueError(f"{op.site} sees image patches, whose rows are not the prompts'; give one vector for all.")


def _check_edit(op: Edit, model: PreTrainedModel, layout: Layout, rows: int | None, fingerprint: str) -> None:
    check_rows([op], rows)
    for name, tensor in op.numbers.items():
        if not torch.isfinite(tensor.to(model.dtype)).all():
            raise ValueError(
                f"The {name} for {op.site} reaches {float(tensor.abs().max()):.3g}, more than {model.dtype} holds "
                f"({torch.finfo(model.dtype).max:.3g}); make it smaller, or load the model in bfloat16."
            )
    width = part_of(op.site, layout, model).width
    devices = {parameter.device for parameter in model.parameters()}
    for name, tensor in op.tensors.items():
        if width is not None and tensor.shape[-1] != width:
            raise ValueError(f"The {name} for {op.site} has width {tensor.shape[-1]}; this model's is {width} there.")
        if tensor.device.type != "cpu" and tensor.device not in devices:
            raise ValueError(
                f"The {name} for {op.site} is on {tensor.device}, the model on {', '.join(map(str, devices))}; "
                "move it to the CPU or to the model."
            )
    if op.fingerprint not in (None, fingerprint):
        raise ValueError(
            f"The op at {op.site} was captured from model {op.fingerprint}, this one is {fingerprint}; "
            "capture it again from this model."
        )
