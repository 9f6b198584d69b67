"""Capture contrast pairs: batch by batch into memory, or shard by shard into a folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import get_args, overload

from rich.progress import track

from interv import VLM
from methods.contrasts import ContrastBank, ContrastPair, join
from methods.shards import BankShards, Store
from methods.shared_prefix import Pool, Pooled, capture_batch


@overload
def capture_contrasts(
    vlm: VLM,
    pairs: Sequence[ContrastPair],
    *,
    batch_size: int = ...,
    pool: Pool | Sequence[Pool] = ...,
    layers: Sequence[int] | None = ...,
    generated_tokens: int = ...,
    generated_seed: int | None = ...,
    progress: bool = ...,
    by_length: bool = ...,
    out: None = ...,
) -> ContrastBank: ...
@overload
def capture_contrasts(
    vlm: VLM,
    pairs: Sequence[ContrastPair],
    *,
    batch_size: int = ...,
    pool: Pool | Sequence[Pool] = ...,
    layers: Sequence[int] | None = ...,
    generated_tokens: int = ...,
    generated_seed: int | None = ...,
    progress: bool = ...,
    by_length: bool = ...,
    out: str | Path,
) -> BankShards: ...
def capture_contrasts(
    vlm: VLM,
    pairs: Sequence[ContrastPair],
    *,
    batch_size: int = 8,
    pool: Pool | Sequence[Pool] = "last",
    layers: Sequence[int] | None = None,
    generated_tokens: int = 99,  # published code: 100 new tokens, the last of which is never fed back
    generated_seed: int | None = None,
    progress: bool = True,
    by_length: bool = False,
    out: str | Path | None = None,
) -> ContrastBank | BankShards:
    """Read context, positive and negative activations of every pair, at all layers in one pass.

    The longest common prefix of a pair's prompts, image included, runs once and what differs continues from its
    cache; pairs whose images or first tokens differ run whole. No block runs that is above all of `layers`.

    Args:
        pool: which tokens of a completion make its activation; one for all pairs, or one a pair. "last" reads its last
            token (the paper's safety setting), "before_last" the one before (the published code's for Qwen2-VL's
            experts). "mean" averages over the tokens of the forced answer, "mean_generated" over these and over what
            the model then says by itself (the paper's hallucination setting).
        layers: which decoder blocks to keep; all by default.
        generated_tokens: the longest continuation that "mean_generated" averages over, in tokens.
        generated_seed: samples the continuation, by the checkpoint's generation settings; None is greedy.
        by_length: batch pairs of about the same length, which wastes less on padding where lengths differ much; rows
            keep the order of `pairs`, and equal those of other batches up to rounding.
        out: a folder to write to as it goes, instead of keeping the activations in memory. A run that was killed goes
            on where it stopped; the same call with other pairs, settings or another model is refused.

    Raises:
        ValueError: there are no usable pairs, some pairs have an agnostic pair and others have not, or there are
            not as many pools as pairs; the folder holds other contrasts.

    Pairs whose image cannot be read are left out and listed in `skipped`.
    """
    chosen = tuple(range(vlm.n_layers)) if layers is None else tuple(layers)
    pools = [pool] * len(pairs) if isinstance(pool, str) else list(pool)
    if len(pools) != len(pairs):
        raise ValueError(f"There are {len(pools)} pools for {len(pairs)} pairs; give one for all, or one a pair.")
    if unknown := set(pools) - set(get_args(Pool)):
        raise ValueError(f"{unknown.pop()!r} is no pool; there are {', '.join(get_args(Pool))}.")
    pooled = list(zip(pairs, pools, strict=True))
    generated = (generated_tokens, generated_seed)
    if out is None:
        return _captured(vlm, pooled, batch_size, chosen, generated, by_length, progress)
    _check_agnostic(pooled)
    settings = {"batch_size": batch_size, "layers": chosen, "generated": generated, "by_length": by_length}
    store = Store.begin(out, vlm, pooled, settings)
    missing = store.missing()
    for number in track(missing, "Capturing contrasts", disable=not progress, transient=True):
        part = pooled[store.rows(number)]
        store.write(number, *_shard(vlm, part, batch_size, chosen, generated, by_length))
    return BankShards.open(out)


def _captured(
    vlm: VLM,
    pooled: Sequence[Pooled],
    batch_size: int,
    layers: tuple[int, ...],
    generated: tuple[int, int | None],
    by_length: bool,
    progress: bool,
) -> ContrastBank:
    good, skipped = _readable(pooled)
    if not good:
        raise ValueError(f"None of the {len(pooled)} contrast pairs can be used; the first: {skipped[:1]}.")
    _check_agnostic(good)
    order = sorted(range(len(good)), key=lambda row: _length(good[row][0])) if by_length else range(len(good))
    arranged = [good[row] for row in order]
    batches = [arranged[start : start + batch_size] for start in range(0, len(good), batch_size)]
    steps = track(batches, "Capturing contrasts", disable=not progress, transient=True)
    bank = join([capture_batch(vlm, batch, layers, generated) for batch in steps], skipped)
    return bank.rows(sorted(range(len(good)), key=list(order).__getitem__)) if by_length else bank


def _shard(
    vlm: VLM,
    pooled: Sequence[Pooled],
    batch_size: int,
    layers: tuple[int, ...],
    generated: tuple[int, int | None],
    by_length: bool,
) -> tuple[ContrastBank | None, list[tuple[str, str]]]:
    """The bank of these pairs, None where none of them can be used, and what was skipped."""
    good, skipped = _readable(pooled)
    return (_captured(vlm, good, batch_size, layers, generated, by_length, False) if good else None), skipped


def _length(pair: ContrastPair) -> tuple[int, int]:
    """What a pair's length in tokens goes by: the size of its images, then the characters of its text."""
    text = max(len(prompt.question) + len(prompt.answer) for prompt in pair.variants())
    return sum(image.width * image.height for image in pair.prompt.images()), text


def _check_agnostic(pooled: Sequence[Pooled]) -> None:
    if len({pair.agnostic is None for pair, _ in pooled}) > 1:
        raise ValueError("Some pairs have an agnostic pair and others have not; give it to all or to none.")


def _readable(pairs: Sequence[Pooled]) -> tuple[list[Pooled], list[tuple[str, str]]]:
    good, skipped = [], []
    for pair, pool in pairs:
        try:
            pair.prompt.images()
            good.append((pair, pool))
        except ValueError as error:
            skipped.append((pair.id, str(error)))
    return good, skipped
