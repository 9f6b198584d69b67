"""One batch of contrast pairs through a model: their common tokens once, then only what differs."""

from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Literal

import torch
from einops import einsum, rearrange
from jaxtyping import Float, Int
from torch import Tensor

from interv import VLM, Prompt, Site
from interv.prompts.encoding import Encoded
from interv.prompts.images import shown_by
from methods.contrasts.bank import ContrastBank
from methods.contrasts.continuation import Generated, Trunk, continued, counted_on, spoken
from methods.contrasts.pair import ContrastPair

Pool = Literal["last", "before_last", "mean", "mean_generated"]
Pooled = tuple[ContrastPair, Pool]


def capture_batch(
    vlm: VLM,
    batch: Sequence[Pooled],
    layers: tuple[int, ...],
    generated: Generated,
    share_images: bool = False,
) -> ContrastBank:
    """The bank of one batch. With `share_images`, pairs about the same image run behind one pass over it."""
    pairs, pools = zip(*batch, strict=True)
    first_of = _first_of(batch)
    kept = [number for number, first in enumerate(first_of) if number in first]
    prompts = [[pair.variants()[number] for pair in pairs] for number in kept]  # [variants][pairs]
    encoded = vlm.encode_variants(prompts)
    weights = [_weights(vlm, ["last"] * len(pairs), prompts[0], encoded[0], encoded[0], prompts[0])]
    for variant, tokens in zip(prompts[1:], encoded[1:], strict=True):
        weights.append(_weights(vlm, pools, variant, tokens, encoded[0], prompts[0]))
    shared = _shared_lengths(encoded, weights)
    sites = [Site(layer) for layer in layers]
    talking = [row for row, pool in enumerate(pools) if pool == "mean_generated"]
    trunk = None
    if shared is not None:
        roots = list(range(len(pairs)))
        if share_images:
            roots, shared = _roots(pairs, encoded[0], shared)
        trunk = Trunk.of(vlm, encoded[0], roots, shared, 1 + max(layers), bool(talking))
    for number in range(1, len(encoded)) if talking else ():
        said = spoken(vlm, encoded[number], talking, generated, trunk)
        encoded[number] = continued(encoded[number], said, vlm.pad_token_id)
        weights[number] = counted_on(weights[number], said, talking, encoded[number].input_ids.shape[1])
    if trunk is None:
        pooled = [_pooled_whole(vlm, tokens, weight, sites) for tokens, weight in zip(encoded, weights, strict=True)]
    else:
        pooled = _pooled_behind(vlm, encoded, weights, trunk, sites)
    context, positive, negative, *agnostic = (
        torch.stack([pooled[kept.index(number)][row] for row, number in enumerate(first)]) for first in first_of
    )
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


def _first_of(batch: Sequence[Pooled]) -> list[list[int]]:
    """[variants][pairs]: the first of the pair's prompts that is equal, so that none runs twice.

    The prompt itself stands for a completion only where the pool is "last", as it is always read there and never
    continued. Only a variant that repeats in every pair is saved: the batch runs whole variants.
    """
    columns = []
    for number in range(len(batch[0][0].variants())):
        column = []
        for pair, pool in batch:
            variants = pair.variants()
            start = 0 if number == 0 or pool == "last" else 1
            column.append(next(i for i in range(start, number + 1) if variants[i] == variants[number]))
        columns.append(column if number not in column else [number] * len(batch))
    return columns


def _weights(
    vlm: VLM,
    pools: Sequence[Pool],
    prompts: Sequence[Prompt],
    encoded: Encoded,
    asked_encoded: Encoded,
    asked: Sequence[Prompt],
) -> Float[Tensor, "pairs seq"]:
    """What each token counts in its row's activation. Rows are padded on the left.

    An answer's tokens are those after what its prompt shares with the same prompt without an answer. Where what the
    model says then counts as well, there may be none as yet.
    """
    weights = torch.zeros(encoded.input_ids.shape, device=encoded.input_ids.device)
    bare_encoded = asked_encoded
    if not set(pools) <= {"last", "before_last"}:
        bare = [replace(prompt, answer="", closed=False) for prompt in prompts]
        bare_encoded = asked_encoded if bare == list(asked) else vlm.encode(bare)
    for row, pool in enumerate(pools):
        if pool in ("last", "before_last"):
            weights[row, -1 if pool == "last" else -2] = 1.0
            continue
        tokens = encoded.tokens(row)
        count = len(tokens) - _common(tokens, bare_encoded.tokens(row))
        if count == 0 and pool == "mean":
            raise ValueError(f"{prompts[row].question!r} has no forced answer to average over; use pool='last'.")
        weights[row, len(weights[row]) - count :] = 1 / max(count, 1)
    return weights


def _shared_lengths(encoded: Sequence[Encoded], weights: Sequence[Tensor]) -> list[int] | None:
    """How many leading tokens each pair's prompts share, none of which is read; None where images are not shared.

    Where nothing is read as yet, the last token is not shared: what is said begins there.
    """
    first = encoded[0]
    for other in encoded[1:]:
        same = other.media.keys() == first.media.keys() and all(
            values is other.media[name]
            or (values.shape == other.media[name].shape and torch.equal(values, other.media[name]))
            for name, values in first.media.items()
        )
        if not same:
            return None
    lengths = []
    for row in range(len(first)):
        tokens = [variant.tokens(row) for variant in encoded]
        read = [weight[row] != 0 for weight in weights]
        unread = [
            int(own[variant.attention_mask[row].bool()].int().argmax()) if own.any() else len(ids) - 1
            for variant, own, ids in zip(encoded, read, tokens, strict=True)
        ]
        length = min([*unread, *(_common(tokens[0], ids) for ids in tokens[1:])])
        images = first.image_mask[row][first.attention_mask[row].bool()].nonzero()
        if length <= (int(images.max()) if len(images) else 0):
            return None
        lengths.append(length)
    return lengths


def _roots(pairs: Sequence[ContrastPair], encoded: Encoded, shared: list[int]) -> tuple[list[int], list[int]]:
    """For each pair, the first of those about its image, or itself; and how many tokens it shares with that one."""
    alone = list(range(len(pairs)))
    if any(len(pair.prompt.pictures()) != 1 for pair in pairs):
        return alone, shared  # which pixels are whose is known for one image a prompt
    try:
        encoded.images_of(alone)
    except ValueError:
        return alone, shared
    first: dict[Hashable, int] = {}
    roots = [first.setdefault(shown_by(pair.prompt), row) for row, pair in enumerate(pairs)]
    lengths = list(shared)
    for root in first.values():
        rows = [row for row in alone if roots[row] == root]
        tokens = encoded.tokens(root)
        length = min(min(shared[row], _common(tokens, encoded.tokens(row))) for row in rows)
        image_end = int(encoded.image_mask[root][encoded.attention_mask[root].bool()].nonzero().max())
        for row in rows:
            if length > image_end:
                lengths[row] = length
            else:
                roots[row] = row
    return roots, lengths


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
    vlm: VLM,
    encoded: Sequence[Encoded],
    weights: Sequence[Tensor],
    trunk: Trunk,
    sites: list[Site],
) -> list[Float[Tensor, "pairs layers d_model"]]:
    """All variants of all pairs as rows of one continuation of their trunk, padded on the right."""
    pairs, variants, device = len(trunk.lengths), len(encoded), encoded[0].input_ids.device
    lengths = torch.tensor(
        [[int(tokens.attention_mask[row].sum()) - trunk.lengths[row] for tokens in encoded] for row in range(pairs)]
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
        trunk.prefill,
        [place for place in trunk.places for _ in range(variants)],
        rearrange(ids, "pairs variants seq -> (pairs variants) seq"),
        rearrange(kept, "pairs variants seq -> (pairs variants) seq").long(),
        rearrange(positions, "... pairs variants seq -> ... (pairs variants) seq"),
        sites,
    )
    flat = rearrange(pooling, "pairs variants seq -> (pairs variants) seq")
    pooled = torch.stack([einsum(flat, h.float(), "rows seq, rows seq d -> rows d") for h in activations.values()], 1)
    return list(rearrange(pooled.cpu(), "(pairs variants) layers d -> variants pairs layers d", variants=variants))
