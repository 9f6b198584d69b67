"""What a steered reply costs beside an unsteered one: by L2S, however it is done, and by each method."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from interv import VLM, Prompt, Site
from methods import (
    ADHH,
    CAST,
    ITI,
    L2S,
    PAI,
    VCD,
    Condition,
    ContrastPair,
    L2SGated,
    L2SLayers,
    L2SWithADHH,
    L2SWithPAI,
    MeanSteering,
    PAILogits,
    PromptSteering,
    Query,
    Rule,
    steer,
)
from methods.steerer import Fitted
from studies.timing import naive, published
from studies.timing.contests import Contest, at_once, l2s, same_replies
from studies.timing.models import Contestants
from studies.timing.served import Served

BY_METHOD = "{} tokens, by method"
SHARE = 0.02  # of the heads that AD-HH acts in; paper: 20 of LLaVA's 1,024


def generation_contest(
    on: Contestants, prompts: Sequence[Prompt], steerer: L2S, tokens: int, engine: Served | None = None
) -> Contest:
    """Steered replies, as many at once as there are prompts, against plain unsteered `generate`, which is the floor.

    The published procedure takes one prompt at a time. `engine` has the same prompts and steerer.
    """
    model, site = naive.wrapped(on), Site(steerer.reads)
    ops = steerer.ops(Query(on.vlm.prefill(prompts, [site]).captured[site]))

    def one_by_one() -> list[list[int]]:
        return [published.steered(on, prompt, steerer, 1.0, tokens) for prompt in prompts]

    def traced() -> list[list[int]]:
        return naive.steered(on, model, prompts, steerer, 1.0, tokens)

    def toolkit() -> list[list[int]]:
        return steer(on.vlm, prompts, steerer, max_new_tokens=tokens).token_ids

    def installed() -> list[list[int]]:
        with on.vlm.installed(ops):
            return published.replies(on.vlm.model, on, prompts, tokens)

    steered = {
        "published procedure": one_by_one,
        "plain nnsight": traced,
        "this toolkit, L2S": toolkit,
        "this toolkit, installed hooks": installed,
    }
    run: dict[str, Callable[[], Any]] = {"unsteered generate": lambda: published.unsteered(on, prompts, tokens)}
    if engine is not None:
        ask = partial(engine.replies, len(prompts), tokens)
        run[f"vLLM {engine.about['vllm']}, unsteered"] = partial(ask, steered=False)
        steered[f"vLLM {engine.about['vllm']}, L2S by this toolkit's plugin"] = partial(ask, steered=True)
    what = "first token" if tokens == 1 else f"{tokens} tokens"
    return Contest(
        f"{what}{at_once(prompts)}, steered by L2S",
        run | steered,
        same_replies([reply() for who, reply in steered.items() if who != "published procedure"], one_by_one()),
    )


def methods_contest(on: Contestants, items: Sequence[ContrastPair], tokens: int) -> Contest:
    """One reply by each method. Each must say at strength 0 what the model says unsteered."""
    prompt = items[0].prompt

    def reply(steerer: Fitted, strength: float = 1.0) -> list[int]:
        return steer(on.vlm, [prompt], steerer, strength=strength, max_new_tokens=tokens).token_ids[0]

    def plain() -> list[int]:
        return published.unsteered(on, [prompt], tokens)[0]

    steerers = made(on, items)
    run: dict[str, Callable[[], Any]] = {"unsteered generate": plain}
    run |= {f"this toolkit, {type(steerer).__name__}": partial(reply, steerer) for steerer in steerers}
    unsteered = plain()
    found = [reply(steerer, 0.0) for steerer in steerers if not isinstance(steerer, PromptSteering)]
    for steerer in steerers:
        reply(steerer)  # the warm-up
    return Contest(BY_METHOD.format(tokens), run, f"{same_replies([found], [unsteered] * len(found))} at strength 0")


def made(on: Contestants, items: Sequence[ContrastPair]) -> list[Fitted]:
    """Every method that acts in its own way, with numbers that were drawn: what they are costs nothing.

    The others cost what one of these does: NormRnd and MeanSteering add one vector, RandomHeads is ADHH.
    """
    vlm, network = on.vlm, l2s(on, items)
    where = (network.reads, network.writes, vlm.fingerprint)
    width, blocks = vlm.d_model, (network.writes - 1, network.writes, network.writes + 1)
    heads = vlm.model.config.get_text_config().num_attention_heads
    count = max(1, round(SHARE * vlm.n_layers * heads))
    spread = [(index * vlm.n_layers // count, index % heads) for index in range(count)]
    draw = partial(drawn, vlm)
    pai = PAI(*where, tuple(range(round(vlm.n_layers / 16), vlm.n_layers)))
    adhh = ADHH(*where, tuple(spread))
    condition = Condition("a", network.reads, "text", "cosine", "above", -2.0)  # always met
    return [
        PromptSteering(*where, suffix="answer carefully ."),
        MeanSteering(*where, draw(width)),
        network,
        L2SGated(*where, network, draw(width), draw(1)[0], threshold=-torch.inf),
        L2SLayers(*where, network.encoder_weight, network.encoder_bias, draw(len(blocks) * width, 16), blocks),
        CAST(*where, draw(1, width), draw(1, 1, width), (condition,), ("a",), blocks[:1], (Rule("any", ("a",), "a"),)),
        ITI(*where, draw(count, width), tuple(block for block, _ in spread), tuple(spread)),
        pai,
        PAILogits(*where),
        adhh,
        VCD(*where),
        L2SWithPAI.of([network, pai]),
        L2SWithADHH.of([network, adhh]),
    ]


def drawn(vlm: VLM, *shape: int) -> Tensor:
    """A few per cent of what a state measures."""
    number = 0.02 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return number.to(vlm.model.device)
