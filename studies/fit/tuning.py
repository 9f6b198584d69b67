"""The model itself changed for a while: its language model fine-tuned on replies, and as it was afterwards."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from time import perf_counter
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from transformers import get_cosine_schedule_with_warmup

from interv import VLM, Prompt
from interv.prompts.encoding import Encoded

Kind = Literal["LoRA", "FullFineTuning"]
IGNORED = -100  # the label of a token that no loss is taken of, in transformers


@dataclass(frozen=True)
class Tuning:
    """How the language model is trained.

    "LLaVA" is its recipe for a task of one's own, scripts/v1_5/finetune_task_lora.sh at c121f04: AdamW without decay, a
    cosine after 3% of warm-up, batches of 16, and rank 128 with alpha 256, which small models have no room for.

    Attributes:
        kind: "LoRA" trains adapters on every linear map of the decoder blocks, "FullFineTuning" all weights of the
            language model. Vision tower and projector stay as they are.
        learning_rate: at its height.
        rank, alpha: of the adapters.
    """

    kind: Kind
    learning_rate: float
    epochs: int = 3
    batch_size: int = 16  # LLaVA
    rank: int = 8
    alpha: int = 16  # LLaVA's twice the rank
    warmup: float = 0.03  # LLaVA, as a share of all steps
    clip: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"{self.kind!r} is no kind of fine-tuning; there are {', '.join(get_args(Kind))}.")


@dataclass(frozen=True)
class Trained:
    """What a training was.

    Attributes:
        parameters: how many numbers were trained.
        share: of all the model's.
        seconds: of the training alone.
        held_bytes: of what was trained, its gradients, the optimiser's state, and the weights that are put back.
        losses: the mean over the batches of each epoch, in nats a token.
    """

    parameters: int
    share: float
    seconds: float
    held_bytes: int
    losses: tuple[float, ...]

    def record(self) -> dict[str, Any]:
        return asdict(self)


@contextmanager
def tuned(vlm: VLM, replies: Sequence[tuple[Prompt, str]], tuning: Tuning) -> Iterator[Trained]:
    """The model fine-tuned to answer these prompts so; on exit, also after an error, it has its own weights back.

    Inside, `vlm` is another model, by its fingerprint too: what was captured from it before is refused. Raises
    ValueError for no replies, and ModuleNotFoundError for LoRA without peft.
    """
    if not replies:
        raise ValueError("There are no replies to learn from; give at least one prompt with the reply that is wanted.")
    batches = batches_of(vlm, replies, tuning)
    trainable = [(parameter, parameter.requires_grad) for parameter in vlm.model.parameters()]
    open_weights = adapters if tuning.kind == "LoRA" else language_weights
    whole = sum(parameter.numel() for parameter in vlm.model.parameters())
    vlm.model.requires_grad_(False)
    try:
        with open_weights(vlm, tuning) as (parameters, kept_bytes):
            start = perf_counter()
            losses, state_bytes = train(vlm, batches, parameters, tuning)
            count = sum(parameter.numel() for parameter in parameters)
            seconds = perf_counter() - start
            yield Trained(count, count / whole, seconds, kept_bytes + state_bytes, losses)
    finally:
        for parameter, before in trainable:
            parameter.requires_grad_(before)
            parameter.grad = None


@contextmanager
def adapters(vlm: VLM, tuning: Tuning) -> Iterator[tuple[list[nn.Parameter], int]]:
    """LoRA's matrices beside every linear map of the decoder blocks, taken out again on exit."""
    try:
        from peft import LoraConfig, get_peft_model
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("LoRA needs peft: pip install 'interv[lora]', or take FullFineTuning.") from error
    blocks = vlm.layout.blocks
    names = [
        f"{blocks}.{name}"
        for name, module in vlm.model.get_submodule(blocks).named_modules()
        if isinstance(module, nn.Linear)
    ]
    config = LoraConfig(r=tuning.rank, lora_alpha=tuning.alpha, lora_dropout=0.0, target_modules=names)
    before = {*vars(vlm.model)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(tuning.seed)
        adapted = get_peft_model(vlm.model, config)
    try:
        yield [parameter for parameter in adapted.parameters() if parameter.requires_grad], 0
    finally:
        adapted.unload()
        for name in {*vars(vlm.model)} - before:
            delattr(vlm.model, name)


@contextmanager
def language_weights(vlm: VLM, tuning: Tuning) -> Iterator[tuple[list[nn.Parameter], int]]:
    """All weights of the language model, with copies that are put back on exit."""
    parts = [vlm.layout.blocks.rpartition(".")[0], vlm.layout.output_head]
    modules = [vlm.model.get_submodule(part) for part in parts]
    parameters = list(dict.fromkeys(parameter for module in modules for parameter in module.parameters()))
    kept = [parameter.detach().clone() for parameter in parameters]
    for parameter in parameters:
        parameter.requires_grad_(True)
    try:
        yield parameters, bytes_of(kept)
    finally:
        with torch.no_grad():
            for parameter, before in zip(parameters, kept, strict=True):
                parameter.copy_(before)


def train(
    vlm: VLM, batches: Sequence[tuple[dict[str, Tensor], Tensor]], parameters: list[nn.Parameter], tuning: Tuning
) -> tuple[tuple[float, ...], int]:
    """Cross-entropy on the replies' tokens, the mean over those of a batch; the losses by epoch, and bytes held."""
    optimiser = torch.optim.AdamW(parameters, tuning.learning_rate, weight_decay=0.0)
    steps = tuning.epochs * len(batches)
    schedule = get_cosine_schedule_with_warmup(optimiser, round(tuning.warmup * steps), steps)
    generator = torch.Generator().manual_seed(tuning.seed)
    losses = []
    for _ in range(tuning.epochs):
        total = 0.0
        for number in torch.randperm(len(batches), generator=generator).tolist():
            inputs, labels = batches[number]
            with torch.enable_grad():
                loss = vlm.model(**inputs, labels=labels, use_cache=False).loss
                loss.backward()
            nn.utils.clip_grad_norm_(parameters, tuning.clip)
            optimiser.step()
            schedule.step()
            optimiser.zero_grad()
            total += float(loss.detach())
        losses.append(total / len(batches))
    moments = [value for state in optimiser.state.values() for value in state.values() if isinstance(value, Tensor)]
    return tuple(losses), 2 * bytes_of(parameters) + bytes_of(moments)


def batches_of(
    vlm: VLM, replies: Sequence[tuple[Prompt, str]], tuning: Tuning
) -> list[tuple[dict[str, Tensor], Tensor]]:
    """The model's inputs with the labels of each batch: the reply and the token that ends it, nothing before them.

    Which replies make a batch is drawn once and each is encoded once; the epochs differ in the order of the batches.
    """
    order = torch.randperm(len(replies), generator=torch.Generator().manual_seed(tuning.seed)).tolist()
    made = []
    for start in range(0, len(order), tuning.batch_size):
        chunk = [replies[place] for place in order[start : start + tuning.batch_size]]
        prompts = [prompt for prompt, _ in chunk]
        asked, answered = vlm.encode_variants([prompts, [replace(prompt, answer=reply) for prompt, reply in chunk]])
        whole = ended(answered, end_of(vlm))
        said = whole.attention_mask.sum(1) - asked.attention_mask.sum(1)
        width = whole.input_ids.shape[1]
        learnt = torch.arange(width, device=said.device)[None] >= (width - said)[:, None]
        made.append((whole.model_inputs(), whole.input_ids.masked_fill(~learnt, IGNORED)))
    return made


def end_of(vlm: VLM) -> int:
    """The token that ends a reply: chat templates often leave it out. Raises ValueError where the model has none."""
    known: Any = vlm.model.generation_config.eos_token_id
    first = known[0] if isinstance(known, list) and known else known
    if not isinstance(first, int):
        raise ValueError(
            f"{vlm.name} has no token that ends a reply (eos_token_id is {known}); it cannot learn to end."
        )
    return first


def ended(encoded: Encoded, token: int) -> Encoded:
    """Every row with one token more, at its end, where padding is none."""

    def longer(values: Tensor, last: Tensor | int) -> Tensor:
        more = torch.as_tensor(last, dtype=values.dtype, device=values.device).expand_as(values[..., :1])
        return torch.cat([values, more], dim=-1)

    return replace(
        encoded,
        input_ids=longer(encoded.input_ids, token),
        attention_mask=longer(encoded.attention_mask, 1),
        position_ids=longer(encoded.position_ids, encoded.position_ids[..., -1:] + 1),
        image_mask=longer(encoded.image_mask, 0),
        per_token={name: longer(values, 0) for name, values in encoded.per_token.items()},
    )


def bytes_of(tensors: Sequence[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
