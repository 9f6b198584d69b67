"""What is timed: each contest names its contestants, and has checked that they agree before it is given away."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from interv import Add, Boost, Op, Prompt, Site, stack
from methods import L2S, ContrastPair, Contrasts, Query, capture_contrasts
from methods.contrasts.capture import Order
from methods.training import Weights
from studies.timing import lens, naive, published
from studies.timing.models import Contestants


@dataclass(frozen=True)
class Contest:
    """Contestants by name, the first of which is what the others are compared with, and what was found equal."""

    what: str
    run: dict[str, Callable[[], Any]]
    equal: str
    most_rounds: int = 99
    numbers: dict[str, float] = field(default_factory=dict)


def capture_contest(
    on: Contestants, items: Sequence[ContrastPair], layers: Sequence[int], order: Order = "given"
) -> Contest:
    """Contrasts of the last token; the toolkit one pair at a time as well, which is the fair comparison."""
    model = naive.wrapped(on)

    def toolkit(size: int) -> Callable[[], Any]:
        return lambda: capture_contrasts(on.vlm, items, batch_size=size, layers=layers, order=order, progress=False)

    theirs, plainly = published.capture(on, items, layers), naive.capture(on, model, items, layers)
    errors = []
    for bank in (toolkit(1)(), toolkit(len(items))()):
        for index, layer in enumerate(layers):
            for ours, *others in zip(
                (bank.context, bank.positive, bank.negative), theirs[layer], plainly[layer], strict=True
            ):
                errors += [gap(ours[:, index], other) for other in others]
    return Contest(
        f"capture of {_counted(len(layers), 'layer')}, {_counted(len(items), 'pair')}"
        + (" about one image" if order == "image" else ""),
        {
            "published procedure": lambda: published.capture(on, items, layers),
            "plain nnsight": lambda: naive.capture(on, model, items, layers),
            "this toolkit, one pair at a time": toolkit(1),
            **({f"this toolkit, {len(items)} pairs at a time": toolkit(len(items))} if len(items) > 1 else {}),
        },
        within(errors, theirs[layers[0]][0]),
        most_rounds=99 if len(layers) == 1 else 2,
    )


def sweep_contest(on: Contestants, items: Sequence[ContrastPair], settings: int, tokens: int = 8) -> Contest:
    """One prompt in many settings: each in a run of its own, or all as rows of one batch behind one prefill."""
    steerer, prompt = l2s(on, items), items[0].prompt
    strengths = [0.1 * (1 + number) for number in range(settings)]
    model, site = naive.wrapped(on), Site(steerer.reads)

    def toolkit() -> list[list[int]]:
        prefill = on.vlm.prefill([prompt], [site])
        query = Query(prefill.captured[site])
        ops = stack([steerer.ops(query, strength) for strength in strengths], 1)
        return on.vlm.generate(prefill.select([0] * settings), ops, max_new_tokens=tokens).token_ids

    def one_by_one() -> list[list[int]]:
        return [published.steered(on, prompt, steerer, strength, tokens) for strength in strengths]

    def traced() -> list[list[int]]:
        return [naive.steered(on, model, [prompt], steerer, strength, tokens)[0] for strength in strengths]

    theirs = one_by_one()
    return Contest(
        f"{settings} settings x {tokens} tokens",
        {"published procedure": one_by_one, "plain nnsight": traced, "this toolkit": toolkit},
        same_replies([toolkit(), traced()], theirs),
        most_rounds=3,
    )


def cache_contest(on: Contestants, items: Sequence[ContrastPair], everything: bool) -> Contest:
    """A cache of all block outputs, or of every hook: ours of a forward that also gives the logits, as theirs does."""
    prompt = items[0].prompt
    blocks = [f"blocks.{layer}.hook_out" for layer in range(on.vlm.n_layers)]
    names = None if everything else blocks

    def toolkit() -> Any:
        return on.vlm.run_with_cache([prompt], names)[1]

    run, errors = {"this toolkit": toolkit}, [0.0]
    if lens.takes(on):
        bridge, inputs = lens.booted(on), lens.given(on, [prompt])
        own, theirs = toolkit(), lens.cached(bridge, inputs, names)
        errors = [gap(own[name], theirs[name]) for name in blocks]
        run = {"TransformerLens": lambda: lens.cached(bridge, inputs, names)} | run
    sample = on.vlm.capture([prompt], blocks[:1])[blocks[0]]
    return Contest(f"cache of {'every hook' if everything else 'all block outputs'}", run, within(errors, sample))


def edit_contest(on: Contestants, prompts: Sequence[Prompt], tokens: int) -> Contest:
    """A vector added at one block while replies are made; the plain replies, and PAI's edit in the attention of ten."""
    middle = on.vlm.n_layers // 2
    vector = torch.randn(on.vlm.d_model, generator=torch.Generator().manual_seed(0)).to(on.vlm.model.dtype)
    boosts = [Boost(Site(block, "hook_attn_scores"), 0.5) for block in range(2, min(12, on.vlm.n_layers))]

    def toolkit(ops: Sequence[Op]) -> list[list[int]]:
        return on.vlm.generate(prompts, ops, max_new_tokens=tokens).token_ids

    adds = [Add(Site(middle), vector)]
    run: dict[str, Callable[[], Any]] = {
        "unsteered generate": lambda: published.unsteered(on, prompts, tokens),
        "this toolkit, no op": lambda: toolkit([]),
        "this toolkit, a vector": lambda: toolkit(adds),
        "this toolkit, Boost inside attention": lambda: toolkit(boosts),
    }
    with on.vlm.installed(adds):
        replies = [published.replies(on.vlm.model, on, prompts, tokens)]
    if lens.takes(on):
        bridge, inputs, name = lens.booted(on), lens.given(on, prompts), f"blocks.{middle}.hook_out"
        at = vector.to(on.vlm.model.device)
        run["TransformerLens, a vector"] = lambda: lens.steered(bridge, inputs, name, at, tokens)
        replies.append(run["TransformerLens, a vector"]())
    return Contest(f"{tokens} tokens{at_once(prompts)}, edited", run, same_replies(replies, toolkit(adds)))


def training_contest(pairs: int, width: int, epochs: int, iterations: int) -> Contest:
    """L2S's network on synthetic contrasts of the safety benchmark's size, judged on held-out rows."""
    train, held_out = planted(pairs, width, seed=0), planted(pairs // 4, width, seed=1)

    def toolkit() -> L2S:
        return L2S.fit(train, epochs=epochs, learning_rate=1e-4)

    def theirs() -> torch.nn.Module:
        return published.train(train, hidden=100, epochs=epochs, iterations=iterations)

    fitted, network = toolkit(), theirs()
    with torch.no_grad():
        predicted = fitted.predict(held_out.context), network(held_out.context)
        ours, other = (float(published.loss(vectors, held_out.vectors)) for vectors in predicted)
    return Contest(
        f"training on {pairs:,} x {width:,}, {epochs} epochs",
        {f"published recipe, {iterations} dictionary iterations": theirs, "this toolkit, L2S.fit": toolkit},
        f"validation loss {ours:.4f}, the published recipe's {other:.4f}",
        most_rounds=1,
        numbers={"validation_loss": ours, "published_validation_loss": other},
    )


def planted(pairs: int, width: int, *, seed: int) -> Contrasts:
    """Contexts of a few hidden causes, and vectors that depend on the causes by a fixed curved map; both with noise."""
    law, draw = torch.Generator().manual_seed(0), torch.Generator().manual_seed(100 + seed)
    to_context, inward = torch.randn(16, width, generator=law), torch.randn(16, 32, generator=law) / 4
    outward = torch.randn(32, width, generator=law) / 5
    causes = torch.randn(pairs, 16, generator=draw)
    context = causes @ to_context / 4 + 0.3 * torch.randn(pairs, width, generator=draw)
    vectors = torch.tanh(causes @ inward) @ outward + 0.3 * torch.randn(pairs, width, generator=draw)
    names = tuple(map(str, range(pairs)))
    return Contrasts(context, vectors, torch.zeros_like(vectors), ("",) * pairs, names, 0, 0, "")


def at_once(prompts: Sequence[Prompt]) -> str:
    return "" if len(prompts) == 1 else f", {len(prompts)} prompts at once"


def _counted(number: int, noun: str) -> str:
    return f"one {noun}" if number == 1 else f"{number} {noun}s"


def l2s(on: Contestants, items: Sequence[ContrastPair]) -> L2S:
    """A network that acts in the middle of the model and reads far above; its strength is of a few per cent."""
    vlm = on.vlm
    bank = capture_contrasts(vlm, items, batch_size=1, layers=[vlm.n_layers // 2, vlm.n_layers - 2], progress=False)
    fitted = L2S.fit(bank.at(reads=vlm.n_layers - 2, writes=vlm.n_layers // 2), epochs=5, hidden=16, init="random")
    return L2S(
        fitted.reads,
        fitted.writes,
        fitted.fingerprint,
        *Weights(fitted.encoder_weight, fitted.encoder_bias, fitted.decoder_weight).to(vlm.model.device),
        scope=fitted.scope,
    )


def gap(ours: Tensor, theirs: Tensor) -> float:
    """The greatest difference, as a share of the greatest activation."""
    return float((ours.cpu().float() - theirs.cpu().float()).abs().max() / theirs.float().abs().max())


def within(errors: Sequence[float], sample: Tensor) -> str:
    """Raise RuntimeError where activations differ by more than rounding."""
    tolerance = 1e-4 if sample.dtype == torch.float32 else 0.1
    if max(errors) > tolerance:
        raise RuntimeError(
            f"The contestants disagree by {max(errors):.1e} of the largest activation; nothing was timed."
        )
    return f"activations within {max(errors):.0e} of the largest"


def same_replies(ours: Sequence[Sequence[list[int]]], theirs: Sequence[list[int]]) -> str:
    """How many replies agree to the last token. In half precision rounding may decide between two tokens."""
    every = [reply == wanted for replies in ours for reply, wanted in zip(replies, theirs, strict=True)]
    return f"{sum(every)} of {len(every)} replies equal to the last token"
