"""Run contrast pairs through a model: their common tokens once, then only what differs."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from einops import einsum, rearrange
from jaxtyping import Float, Int
from rich.progress import track
from torch import Tensor

from interv import VLM, Prompt, Site
from interv.encoding import Encoded
from methods.contrasts import ContrastBank, ContrastPair, join

Pool = Literal["last", "mean"]


def capture_contrasts(
    vlm: VLM,
    pairs: Sequence[ContrastPair],
    *,
    batch_size: int = 8,
    pool: Pool = "last",
    layers: Sequence[int] | None = None,
    progress: bool = True,
) -> ContrastBank:
    """Read context, positive and negative activations of every pair, at all layers in one pass.

    The longest common prefix of a pair's prompts, image included, runs once and what differs continues from its
    cache; pairs whose images or first tokens differ run whole.

    Args:
        pool: "last" reads the last token of a completion (the paper's safety setting), "mean" averages over the
            tokens of the forced answer (its hallucination setting).
        layers: which decoder blocks to keep; all by default.

    Raises:
        ValueError: there are no usable pairs, or some pairs have an agnostic pair and others have not.

    Pairs whose image cannot be read are left out and listed in `skipped`.
    """
    chosen = tuple(range(vlm.n_layers)) if layers is None else tuple(layers)
    good, skipped = _readable(pairs)
    if not good:
        raise ValueError(f"None of the {len(pairs)} contrast pairs can be used; the first: {skipped[:1]}.")
    if len({pair.agnostic is None for pair in good}) > 1:
        raise ValueError("Some pairs have an agnostic pair and others have not; give it to all or to none.")
    starts = range(0, len(good), batch_size)
    batches = [good[start : start + batch_size] for start in starts]
    steps = track(batches, "Capturing contrasts", disable=not progress, transient=True)
    return join([_capture_batch(vlm, batch, pool, chosen) for batch in steps], skipped)


def _readable(pairs: Sequence[ContrastPair]) -> tuple[list[ContrastPair], list[tuple[str, str]]]:
    good, skipped = [], []
    for pair in pairs:
        try:
            pair.prompt.images()
            good.append(pair)
        except ValueError as error:
            skipped.append((pair.id, str(error)))
    return good, skipped


def _capture_batch(vlm: VLM, pairs: Sequence[ContrastPair], pool: Pool, layers: tuple[int, ...]) -> ContrastBank:
    prompts = list(zip(*(pair.variants() for pair in pairs), strict=True))  # [variants][pairs]
    encoded = [vlm.encode(variant) for variant in prompts]
    weights = [_last(encoded[0])]
    for variant, tokens in zip(prompts[1:], encoded[1:], strict=True):
        weights.append(_last(tokens) if pool == "last" else _completion(vlm, variant, tokens, prompts[0], encoded[0]))
    shared = _shared_lengths(encoded)
    sites = [Site(layer) for layer in layers]
    if shared is None:
        pooled = [_pooled_whole(vlm, tokens, weight, sites) for tokens, weight in zip(encoded, weights, strict=True)]
    else:
        pooled = _pooled_behind(vlm, encoded, weights, shared, sites)
    context, positive, negative, *agnostic = pooled
    return ContrastBank(
        context,
        positive,
        negative,
        agnostic[0] - agnostic[1] if agnostic else None,
        tuple(pair.behavior for pair in pairs),
        tuple(pair.id for pair in pairs),
        layers,
        vlm.fingerprint,
    )


def _last(encoded: Encoded) -> Float[Tensor, "pairs seq"]:
    """Weight 1 on the last token of each row; rows are padded on the left."""
    weights = torch.zeros(encoded.input_ids.shape, device=encoded.input_ids.device)
    weights[:, -1] = 1.0
    return weights


def _completion(
    vlm: VLM, prompts: Sequence[Prompt], encoded: Encoded, asked: Sequence[Prompt], asked_encoded: Encoded
) -> Float[Tensor, "pairs seq"]:
    """Equal weights on the tokens of the forced answer: those after what the prompt without an answer shares."""
    bare = [replace(prompt, answer="", closed=False) for prompt in prompts]
    bare_encoded = asked_encoded if bare == list(asked) else vlm.encode(bare)
    weights = torch.zeros(encoded.input_ids.shape, device=encoded.input_ids.device)
    for row in range(len(encoded)):
        tokens = encoded.tokens(row)
        count = len(tokens) - _common(tokens, bare_encoded.tokens(row))
        if count == 0:
            raise ValueError(f"{prompts[row].question!r} has no forced answer to average over; use pool='last'.")
        weights[row, -count:] = 1 / count
    return weights


def _shared_lengths(encoded: Sequence[Encoded]) -> list[int] | None:
    """How many leading tokens each pair's prompts share, at least one left over; None where images are not shared."""
    first = encoded[0]
    for other in encoded[1:]:
        same = other.media.keys() == first.media.keys() and all(
            values.shape == other.media[name].shape and torch.equal(values, other.media[name])
            for name, values in first.media.items()
        )
        if not same:
            return None
    lengths = []
    for row in range(len(first)):
        tokens = [variant.tokens(row) for variant in encoded]
        shortest = min(len(ids) for ids in tokens)
        length = min(shortest - 1, *(_common(tokens[0], ids) for ids in tokens[1:]))
        images = first.image_mask[row][first.attention_mask[row].bool()].nonzero()
        if length <= (int(images.max()) if len(images) else 0):
            return None
        lengths.append(length)
    return lengths


def _common(one: Int[Tensor, " one"], other: Int[Tensor, " other"]) -> int:
    length = min(len(one), len(other))
    differs = (one[:length] != other[:length]).nonzero()
    return int(differs[0]) if len(differs) else length


def _pooled_whole(
    vlm: VLM, encoded: Encoded, weights: Float[Tensor, "pairs seq"], sites: list[Site]
) -> Float[Tensor, "pairs layers d_model"]:
    rows = [weights[row][encoded.attention_mask[row].bool()] for row in range(len(encoded))]
    layers = vlm.capture(encoded, sites, tokens="all").values()
    pooled = [
        torch.stack([einsum(w, h.float(), "seq, seq d -> d") for w, h in zip(rows, layer, strict=True)])
        for layer in layers
    ]
    return torch.stack(pooled, dim=1).cpu()


def _pooled_behind(
    vlm: VLM, encoded: Sequence[Encoded], weights: Sequence[Tensor], shared: list[int], sites: list[Site]
) -> list[Float[Tensor, "pairs layers d_model"]]:
    """All variants of all pairs as rows of one continuation, padded on the right, behind the shared tokens."""
    pairs, variants, device = len(shared), len(encoded), encoded[0].input_ids.device
    trunk = vlm.prefill(encoded[0].head(shared, pad_token_id=vlm.pad_token_id))
    lengths = torch.tensor(
        [[int(tokens.attention_mask[row].sum()) - shared[row] for tokens in encoded] for row in range(pairs)]
    )
    width = int(lengths.max())
    kept = (torch.arange(width) < lengths[..., None]).to(device)  # [pairs, variants, width]
    planes = encoded[0].position_ids.shape[:-2]
    ids = torch.full((pairs, variants, width), vlm.pad_token_id, device=device)
    positions = torch.zeros((*planes, pairs, variants, width), dtype=torch.long, device=device)
    pooling = torch.zeros((pairs, variants, width), device=device)
    for row in range(pairs):
        for variant, tokens in enumerate(encoded):
            count = int(lengths[row, variant])
            ids[row, variant, :count] = tokens.input_ids[row, -count:]
            positions[..., row, variant, :count] = tokens.position_ids[..., row, -count:]
            pooling[row, variant, :count] = weights[variant][row, -count:]
    activations = vlm.extend(
        trunk.select([row for row in range(pairs) for _ in range(variants)]),
        rearrange(ids, "pairs variants seq -> (pairs variants) seq"),
        rearrange(kept, "pairs variants seq -> (pairs variants) seq").long(),
        rearrange(positions, "... pairs variants seq -> ... (pairs variants) seq"),
        sites,
    )
    flat = rearrange(pooling, "pairs variants seq -> (pairs variants) seq")
    pooled = torch.stack([einsum(flat, h.float(), "rows seq, rows seq d -> rows d") for h in activations.values()], 1)
    return list(rearrange(pooled.cpu(), "(pairs variants) layers d -> variants pairs layers d", variants=variants))
