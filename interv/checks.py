"""What is refused at the door, before the model runs."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from interv.encoding import Encoded
from interv.layouts import Layout
from interv.ops import Capture, Edit, Op
from interv.site import Site

# Options of `generate` that cannot go on from a prefill, and what to do instead.
_REFUSED_OPTIONS = {
    "cache_implementation": "the prompt's cache is there already; use installed() and model.generate",
    "prefill_chunk_size": "the prompt has run already; use installed() and model.generate",
    "assistant_model": "a draft model proposes several tokens a step, which the scopes cannot tell apart",
    "prompt_lookup_num_tokens": "it proposes several tokens a step, which the scopes cannot tell apart",
    "input_ids": "the prompts are encoded by the model's own processor",
    "past_key_values": "the prefill brings its own cache",
}


def check_ops(
    ops: Sequence[Op], model: nn.Module, layout: Layout, n_layers: int, d_model: int, rows: int | None, fingerprint: str
) -> None:
    """Raise ValueError or TypeError for the first op that does not fit the model or the number of rows."""
    for op in ops:
        if not isinstance(op, Capture | Edit):
            raise TypeError(f"{op!r} is no op; the ops are Capture, Add, Project, Replace and Scale.")
        check_site(op.site, model, layout, n_layers)
        if not layout.sees_tokens(op.site):
            _check_outside_text(op)
        if op.scope == "image" and layout.locate(op.site)[0] == layout.embedding:
            raise ValueError(
                f"{op.site} comes before the image features, which replace what stands there on image tokens; "
                "use blocks.0.hook_resid_pre."
            )
        if isinstance(op, Edit):
            _check_edit(op, model, d_model, rows, fingerprint)


def check_site(site: Site, model: nn.Module, layout: Layout, n_layers: int) -> None:
    """Raise ValueError where the model has no such place, naming what it has."""
    if site.layer is not None and site.layer >= n_layers:
        raise ValueError(
            f"Site({site.layer}) is outside this model: it has {n_layers} decoder blocks, "
            f"so layer runs from 0 to {n_layers - 1}."
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
    for op in ops:
        if op.scope == "image" and not encoded.image_mask.any(1).all():
            rows = (~encoded.image_mask.any(1)).nonzero().flatten().tolist()
            raise RuntimeError(f"The op at {op.site} has scope 'image' and rows {rows} hold no image.")
        if isinstance(op, Capture) and not isinstance(op.tokens, str):
            raise ValueError("Read tokens by index with vlm.capture(prompts, sites, tokens), not while generating.")


def check_options(options: Mapping[str, Any], captures_tokens: bool) -> None:
    """Raise ValueError for options of `generate` that would make the ops wrong."""
    if options.get("use_cache") is False:
        raise ValueError(
            "Every reply continues from the prompt's cache; without one, use installed() and model.generate."
        )
    for name, reason in _REFUSED_OPTIONS.items():
        if name in options:
            raise ValueError(f"generate({name}=...) is not possible here: {reason}.")
    if options.get("num_beams", 1) > 1 and captures_tokens:
        raise ValueError("Captures cannot follow beams, which swap rows at every step; use num_beams=1.")


def _check_outside_text(op: Op) -> None:
    if op.scope != "all":
        word = "tokens" if isinstance(op, Capture) else "scope"
        raise ValueError(
            f"{op.site} lies outside the language model and sees image patches, not tokens; pass {word}='all'."
        )
    if isinstance(op, Edit) and op.rows is not None:
        raise ValueError(f"{op.site} sees image patches, whose rows are not the prompts'; give one vector for all.")


def _check_edit(op: Edit, model: nn.Module, d_model: int, rows: int | None, fingerprint: str) -> None:
    check_rows([op], rows)
    devices = {parameter.device for parameter in model.parameters()}
    for name, tensor in op.tensors.items():
        if op.site.layer is not None and tensor.shape[-1] != d_model:
            raise ValueError(f"The {name} for {op.site} has width {tensor.shape[-1]}; this model's is {d_model}.")
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
