"""Train an embedded model from scratch: python studies/tiny_world/train.py --family llava --out FOLDER

Stage 0 ties each image patch to the word of what it shows. Stage 1 trains the language model on dialogues, first nearly
clean ones, then with the label noise of `dialogues.NOISY`, which is what makes the model hallucinate.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from transformers import PreTrainedModel

from studies.tiny_world.dialogues import CLEAN, NOISY, Prior, dialogues, sample_scene
from studies.tiny_world.draw import draw_with
from studies.tiny_world.models import FAMILIES
from studies.tiny_world.pack import TARGET_NAMES, Batch, Packer, cell_words

Losses = dict[str, float]


@dataclass(frozen=True)
class Settings:
    """What a training run depends on. The defaults made the shipped weights, on one thread."""

    family: str = "llava"
    out: Path = Path("interv/embedded/tiny-llava")
    seed: int = 0
    vision_steps: int = 700
    vision_batch: int = 64
    clean_steps: int = 2100
    noisy_steps: int = 1000
    scenes: int = 16  # a batch of stage 1
    learning_rate: float = 2e-3
    projector_factor: float = 0.05  # at the full rate the image path collapses while the loss keeps falling
    warmup: int = 100
    weight_decay: float = 0.02
    clip: float = 1.0
    early_exit: float = 0.5  # clean dialogues: weight of the loss read out at a middle block, so that evidence is there
    early_blocks: tuple[int, ...] = (4, 5)
    noise: float = 0.6  # largest residual noise on answers, relative to |h|: steering must not break the sentences
    noise_blocks: tuple[int, ...] = (2, 3, 4, 5, 6)
    threads: int = 2


def main(settings: Settings) -> Path:
    """Train, save model and processor to `settings.out`, return it."""
    if settings.family not in FAMILIES:
        raise ValueError(f"Unknown family {settings.family!r}; there are: {', '.join(FAMILIES)}.")
    torch.set_num_threads(settings.threads)
    console, start = Console(), perf_counter()
    family = FAMILIES[settings.family]
    model, processor = family.build(settings.seed)
    model.set_attn_implementation("eager")  # with so few tokens and a dense mask it is the fastest on a CPU
    packer = Packer(family, processor)
    bar = Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeRemainingColumn(), console=console)
    with bar:
        for stage, steps, run in (
            ("vision", settings.vision_steps, train_vision(model, packer, settings)),
            ("dialogues", settings.clean_steps + settings.noisy_steps, train_dialogues(model, packer, settings)),
        ):
            task = bar.add_task(stage, total=steps)
            for step, losses in enumerate(run, start=1):
                bar.update(task, advance=1, description=f"{stage} {step}/{steps} {describe(losses)}")
                if step % 100 == 0 or step == steps:
                    console.print(f"{stage} {step:5d} {perf_counter() - start:5.0f} s  {describe(losses)}")
    model.to(torch.bfloat16).save_pretrained(settings.out)
    processor.save_pretrained(settings.out)
    console.print(f"Model and processor are in {settings.out} ({perf_counter() - start:.0f} s).")
    return settings.out


def describe(losses: Losses) -> str:
    return "  ".join(f"{name} {value:.3f}" for name, value in losses.items())


def train_vision(model: PreTrainedModel, packer: Packer, settings: Settings) -> Iterator[Losses]:
    """Stage 0: each patch's projection against the (fixed, random) embedding of the word for what it shows."""
    family, words = packer.family, packer.processor.tokenizer
    table = model.get_input_embeddings().weight.detach()
    scale = table.pow(2).sum(-1).mean()
    parts = (_part(model, family.vision), _part(model, family.projector))
    parameters = list(dict.fromkeys(parameter for part in parts for parameter in part.parameters()))
    optimiser = torch.optim.AdamW(parameters, settings.learning_rate, weight_decay=settings.weight_decay)
    schedule = _cosine(optimiser, settings.vision_steps, settings.warmup)
    averages: Losses = {}
    for step in range(settings.vision_steps):
        rng = np.random.default_rng([settings.seed, 0, step])
        margin = family.margins[step % len(family.margins)]
        scenes = [sample_scene(rng, "pretrain") for _ in range(settings.vision_batch)]
        drawn = [draw_with(scene, rng, margin) for scene in scenes]
        pixels = packer.processor.image_processor([image for image, _ in drawn], return_tensors="pt")
        labels = [cell_words(s, words.pad_token, margin, corner) for s, (_, corner) in zip(scenes, drawn, strict=True)]
        target = torch.tensor([words.convert_tokens_to_ids(row) for row in labels]).flatten()
        features = image_features(model, dict(pixels)).reshape(len(target), -1)
        # Where a projection equals its word's embedding, its logit is 8 and the others are about 0.
        guess = nn.functional.cross_entropy(8 * features @ table.T / scale, target)
        distance = (features - table[target]).pow(2).sum(-1).mean() / scale
        _step(guess + distance, parameters, optimiser, schedule, settings.clip)
        seen = target != words.pad_token_id
        hits = (features @ table.T).argmax(-1) == target
        _average(averages, {"distance": distance.item(), "icons": hits[seen].float().mean().item()})
        yield averages


def train_dialogues(model: PreTrainedModel, packer: Packer, settings: Settings) -> Iterator[Losses]:
    """Stage 1: language model and, slowly, projector; the vision tower is frozen."""
    _part(model, packer.family.vision).requires_grad_(False)
    projector = list(_part(model, packer.family.projector).parameters())
    projector_ids = {id(parameter) for parameter in projector}
    for parameter in projector:
        parameter.requires_grad_(True)
    rest = [p for p in model.parameters() if p.requires_grad and id(p) not in projector_ids]
    rates = [(rest, 1.0), (projector, settings.projector_factor)]
    groups = [{"params": params, "lr": settings.learning_rate * factor} for params, factor in rates]
    optimiser = torch.optim.AdamW(groups, weight_decay=settings.weight_decay)
    steps = settings.clean_steps + settings.noisy_steps
    schedule = _cosine(optimiser, steps, settings.warmup)
    averages: Losses = {}
    for step in range(steps):
        rng = np.random.default_rng([settings.seed, 1, step])
        clean = step < settings.clean_steps
        batch = sample_batch(packer, rng, settings.scenes, CLEAN if clean else NOISY)
        final, early, losses = dialogue_losses(model, batch, rng, settings)
        # The middle has learned from what images show; only the end of the model learns to follow the prior.
        loss = final + settings.early_exit * early if clean else final
        _step(loss, rest + projector, optimiser, schedule, settings.clip)
        _average(averages, losses)
        yield averages


def sample_batch(packer: Packer, rng: np.random.Generator, scenes: int, prior: Prior) -> Batch:
    margins = packer.family.margins
    margin = margins[rng.integers(len(margins))]
    chosen = [sample_scene(rng, "pretrain") for _ in range(scenes)]
    images = [draw_with(scene, rng, margin)[0] for scene in chosen]
    return packer.pack(images, [dialogues(scene, rng, prior) for scene in chosen])


def dialogue_losses(
    model: PreTrainedModel, batch: Batch, rng: np.random.Generator, settings: Settings
) -> tuple[Tensor, Tensor, Losses]:
    """Next-token losses on the answers, at the last block and at a middle one, under residual noise."""
    text = model.model.language_model
    noisy = settings.noise_blocks[rng.integers(len(settings.noise_blocks))]
    early = settings.early_blocks[rng.integers(len(settings.early_blocks))]
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    where = batch.target_kind > 0
    target, kind = batch.targets[where], batch.target_kind[where]
    with _residual_noise(text.layers[noisy], batch, settings.noise, generator), _read(text.layers[early]) as middle:
        final = model.model(**batch.inputs, use_cache=False).last_hidden_state
    losses = nn.functional.cross_entropy(model.lm_head(final[where]), target, reduction="none")
    exit_loss = nn.functional.cross_entropy(model.lm_head(text.norm(middle[0][where])), target)
    named = {TARGET_NAMES[k]: losses[kind == k].mean().item() for k in TARGET_NAMES if (kind == k).any()}
    return losses.mean(), exit_loss, named | {"early": exit_loss.item()}


@contextmanager
def _residual_noise(block: nn.Module, batch: Batch, share: float, generator: torch.Generator) -> Iterator[None]:
    """Shift each dialogue's answer in one direction, a random one or from one answer token's state to another's.

    The last prompt token is spared: there the answer is decided, and a decision may follow its evidence.
    """
    segment = batch.segment.clamp(min=0)

    def add(_module, _inputs, hidden: Tensor) -> Tensor:
        rows, _, width = hidden.shape
        direction = torch.randn(rows, int(segment.max()) + 1, width, generator=generator)
        states = hidden.detach()[batch.answer]
        ends = torch.randint(len(states), (2, *direction.shape[:2]), generator=generator)
        natural = torch.rand(*direction.shape[:2], 1, generator=generator) < 0.5
        direction = torch.where(natural, states[ends[0]] - states[ends[1]], direction)
        size = share * torch.rand(rows, direction.shape[1], 1, generator=generator)
        shift = torch.gather(size * nn.functional.normalize(direction, dim=-1), 1, segment[..., None].expand_as(hidden))
        return hidden + shift * hidden.detach().norm(dim=-1, keepdim=True) * batch.answer[..., None]

    handle = block.register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _read(block: nn.Module) -> Iterator[list[Tensor]]:
    seen: list[Tensor] = []
    handle = block.register_forward_hook(lambda _module, _inputs, hidden: seen.append(hidden))
    try:
        yield seen
    finally:
        handle.remove()


def image_features(model: PreTrainedModel, pixels: dict[str, Tensor]) -> Tensor:
    """Projected image tokens of a batch, [tokens of all images, d_model] once reshaped."""
    features = model.get_image_features(**pixels)
    features = getattr(features, "pooler_output", features)
    return torch.cat(list(features)) if isinstance(features, (list, tuple)) else features


def _part(model: nn.Module, path: str) -> nn.Module:
    return model.get_submodule(path)


def _cosine(optimiser: torch.optim.Optimizer, steps: int, warmup: int) -> torch.optim.lr_scheduler.LambdaLR:
    def factor(step: int) -> float:
        return min(1.0, (step + 1) / warmup) * 0.5 * (1 + np.cos(np.pi * min(1.0, step / steps)))

    return torch.optim.lr_scheduler.LambdaLR(optimiser, factor)


def _step(loss: Tensor, parameters: Sequence[Tensor], optimiser, schedule, clip: float) -> None:
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(parameters, clip)
    optimiser.step()
    schedule.step()


def _average(averages: Losses, losses: Losses, keep: float = 0.95) -> None:
    for name, value in losses.items():
        averages[name] = keep * averages.get(name, value) + (1 - keep) * value


if __name__ == "__main__":
    main(tyro.cli(Settings))
