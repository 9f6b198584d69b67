"""Capture contrast pairs: batch by batch into memory, or shard by shard into a folder."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args, overload

from interv import VLM, Prompt
from interv.progress import bars
from interv.prompts.images import shown_by
from interv.prompts.rendering import PromptError
from methods.contrasts.bank import ContrastBank, join
from methods.contrasts.pair import ContrastPair
from methods.contrasts.sharded import BankShards
from methods.contrasts.shards import Store
from methods.contrasts.shared_prefix import Pool, Pooled, capture_batch

Order = Literal["given", "length", "image"]


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
    order: Order = ...,
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
    order: Order = ...,
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
    order: Order = "given",
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
        layers: which decoder blocks to keep, each once; all by default.
        generated_tokens: the longest continuation that "mean_generated" averages over, in tokens.
        generated_seed: samples the continuation, by the checkpoint's generation settings; None is greedy.
        order: which pairs make a batch; rows keep the order of `pairs` whatever it is, and equal those of other batches
            up to rounding. "length" puts pairs of about the same length together, which wastes less on padding.
            "image" puts those about the same image together, which then runs once for all of them in the batch, with
            the words before it; that is known by its path, or by being the very same object.
        out: a folder to write to as it goes, instead of keeping the activations in memory. A run that was killed goes
            on where it stopped; the same call with other pairs, settings or another model is refused.

    Raises:
        ValueError: there are no usable pairs, some pairs have an agnostic pair and others have not, or there are
            not as many pools as pairs; a layer is not in the model; the folder holds other contrasts.

    Pairs of which an image cannot be read, or is none that the model's processor takes, are left out and listed in
    `skipped`.
    """
    chosen = tuple(range(vlm.n_layers)) if layers is None else tuple(dict.fromkeys(layers))
    _check(vlm, pairs, chosen, batch_size)
    pools = [pool] * len(pairs) if isinstance(pool, str) else list(pool)
    if len(pools) != len(pairs):
        raise ValueError(f"There are {len(pools)} pools for {len(pairs)} pairs; give one for all, or one a pair.")
    if unknown := set(pools) - set(get_args(Pool)):
        raise ValueError(f"{unknown.pop()!r} is no pool; there are {', '.join(get_args(Pool))}.")
    if order not in get_args(Order):
        raise ValueError(f"{order!r} is no order; there are {', '.join(get_args(Order))}.")
    pooled = list(zip(pairs, pools, strict=True))
    generated = (generated_tokens, generated_seed)
    if out is None:
        with _progress(len(pooled), progress) as advance:
            bank, skipped = _captured(vlm, pooled, batch_size, chosen, generated, order, advance)
        if bank is None:
            raise ValueError(f"None of the {len(pairs)} contrast pairs can be used; the first: {skipped[:1]}.")
        return replace(bank, skipped=tuple(skipped))
    _check_agnostic(pooled)
    settings = {"batch_size": batch_size, "layers": chosen, "generated": generated, "order": order}
    store = Store.begin(out, vlm, pooled, settings)
    parts = {number: pooled[store.rows(number)] for number in store.missing()}
    with _progress(sum(map(len, parts.values())), progress) as advance:
        for number, part in parts.items():
            store.write(number, *_captured(vlm, part, batch_size, chosen, generated, order, advance))
    return BankShards.open(out)


@contextmanager
def _progress(pairs: int, shown: bool) -> Iterator[Callable[[int], None]]:
    """A bar over so many pairs; gives what moves it on, since a shard may be all that there is."""
    with bars(shown=shown) as bar:
        task = bar.add_task("Capturing contrasts", total=pairs)
        yield lambda done: bar.advance(task, done)


def _captured(
    vlm: VLM,
    pooled: Sequence[Pooled],
    batch_size: int,
    layers: tuple[int, ...],
    generated: tuple[int, int | None],
    order: Order,
    advance: Callable[[int], None],
) -> tuple[ContrastBank | None, list[tuple[str, str]]]:
    """The bank of these pairs, None where none of them can be used, and what was skipped; `advance` hears of pairs."""
    good, skipped = _readable(pooled)
    advance(len(skipped))
    if not good:
        return None, skipped
    _check_agnostic(good)
    places = _arranged([pair for pair, _ in good], order)
    parts, done = [], []
    for start in range(0, len(places), batch_size):
        batch = places[start : start + batch_size]
        while batch:
            try:
                parts.append(capture_batch(vlm, [good[place] for place in batch], layers, generated, order == "image"))
                break
            except PromptError as error:  # the processor takes no such image: the others of the batch go on without it
                skipped.append((good[batch[error.index]][0].id, error.reason))
                batch = [place for number, place in enumerate(batch) if number != error.index]
        done += batch
        advance(min(batch_size, len(places) - start))
    if not parts:
        return None, skipped
    bank = join(parts)
    return bank if order == "given" else bank.rows(sorted(range(len(done)), key=done.__getitem__)), skipped


def _arranged(pairs: Sequence[ContrastPair], order: Order) -> list[int]:
    """The pairs' places in the order in which they run."""
    if order == "length":
        return sorted(range(len(pairs)), key=lambda place: _length(pairs[place]))
    first: dict[Hashable, int] = {}
    if order == "image":
        return sorted(range(len(pairs)), key=lambda place: first.setdefault(shown_by(pairs[place].prompt), place))
    return list(range(len(pairs)))


def _length(pair: ContrastPair) -> tuple[int, int]:
    """What a pair's length in tokens goes by: the size of its images, then the characters of its text."""
    text = max(len(prompt.question) + len(prompt.answer) for prompt in pair.variants())
    return sum(image.width * image.height for image in pair.prompt.images()), text


def _check(vlm: VLM, pairs: Sequence[ContrastPair], layers: tuple[int, ...], batch_size: int) -> None:
    if not pairs:
        raise ValueError("There are no contrast pairs; give at least one.")
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be at least 1.")
    if not layers or not set(layers) <= set(range(vlm.n_layers)):
        raise ValueError(
            f"layers is {list(layers)}; give decoder blocks of the model, 0 to {vlm.n_layers - 1}, or None for all."
        )


def _check_agnostic(pooled: Sequence[Pooled]) -> None:
    if len({pair.agnostic is None for pair, _ in pooled}) > 1:
        raise ValueError("Some pairs have an agnostic pair and others have not; give it to all or to none.")


def _readable(pairs: Sequence[Pooled]) -> tuple[list[Pooled], list[tuple[str, str]]]:
    """The pairs all of whose images can be read, and the others' ids with the reason."""
    good, skipped = [], []
    wrong: dict[Hashable, str] = {}  # by image, "" for nothing
    for pair, pool in pairs:
        for prompt in pair.variants():
            if shown_by(prompt) not in wrong:
                wrong[shown_by(prompt)] = _fault(prompt)
        reasons = [wrong[shown_by(prompt)] for prompt in pair.variants() if wrong[shown_by(prompt)]]
        if reasons:
            skipped.append((pair.id, reasons[0]))
        else:
            good.append((pair, pool))
    return good, skipped


def _fault(prompt: Prompt) -> str:
    """Why the prompt's images cannot be read, "" where they can."""
    try:
        prompt.images()
    except ValueError as error:
        return str(error)
    return ""
