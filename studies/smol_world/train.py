"""Train the deltas of smol-llava: python studies/smol_world/train.py --out FOLDER

Stage 0 ties each cell of the image encoder to the embedding of the word of what it shows; no language model takes part.
Stage 1 teaches captions and questions of which nearly all are about what is there, so that the model comes to say "yes"
to all of them, though its states know better. From there two kinds go their ways: "few-no" sees a few more questions
about absent things, until its answers are no longer all "yes", and "many-no" sees many.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Literal

import numpy as np
import torch
import tyro
from rich.console import Console
from torch import Tensor, nn
from transformers import LlavaForConditionalGeneration

from interv.assembled.delta import open_for_training, put_delta, save_delta
from studies.smol_world.base import base_model
from studies.smol_world.checking import Check, check, embed
from studies.smol_world.dialogues import dialogues
from studies.smol_world.pack import IGNORED, pack
from studies.smol_world.pool import NOTHING, WORDS, Pool, make_pool

Kind = Literal["few-no", "many-no"]


@dataclass(frozen=True)
class Stage:
    """Steps of training at one share of "no", ended early by a check: at `enough` right answers, or never.

    The learning rate rises over `warmup` steps and falls as if the stage went on for `horizon`; without one it stays,
    since nobody knows which step is the last.
    """

    steps: int
    no: float
    learning_rate: float
    every: int  # steps between checks
    warmup: int
    horizon: int | None = None
    enough: float = 1.0


@dataclass(frozen=True)
class Settings:
    """What a training run depends on. The defaults made the shipped deltas, on one thread."""

    out: Path = Path("results/smol_world")
    base: Path | None = None  # a folder with the base model; put together from the published packages by default
    seed: int = 0
    scenes: int = 640  # that training draws from
    checked: int = 32  # scenes of a check, four questions each
    projector_steps: int = 600
    shared: tuple[Stage, ...] = (Stage(steps=40, no=0.03, learning_rate=1e-3, every=40, warmup=15, horizon=110),)
    # The answers swing as a whole between "yes" and "no" before they settle, so the check stops them on their way.
    few_no: tuple[Stage, ...] = (Stage(steps=40, no=0.25, learning_rate=3e-4, every=4, warmup=4, enough=0.65),)
    many_no: tuple[Stage, ...] = (Stage(steps=150, no=0.3, learning_rate=3e-4, every=10, warmup=4, enough=0.82),)
    kinds: tuple[Kind, ...] = ("few-no", "many-no")
    batch: int = 4  # scenes
    rank: int = 8
    projector_factor: float = 0.3  # of the learning rate
    clip: float = 1.0
    threads: int = 2


def main(settings: Settings) -> dict[str, Check]:
    """Train both kinds; write `<kind>.safetensors` for each to `settings.out`, return how each ended.

    A folder that has `shared.safetensors` already is gone on from.
    """
    torch.set_num_threads(settings.threads)
    settings.out.mkdir(parents=True, exist_ok=True)
    console, start = Console(), perf_counter()

    def say(text: str) -> None:
        console.print(f"{perf_counter() - start:5.0f} s  {text}")

    model, processor = base_model(settings.base)
    tower, images = model.model.vision_tower, processor.image_processor
    pool = make_pool(tower, images, "pretrain", settings.scenes, settings.seed)
    held = make_pool(tower, images, "check", settings.checked, 0)  # the same for every seed
    say(f"cells of {len(pool.scenes)} scenes")
    whole = settings.out / "shared.safetensors"
    if not whole.exists():
        say(f"projector: distance {train_projector(model, processor, pool, settings):.3f}")
    open_for_training(model, settings.rank, settings.seed)
    ends: dict[str, Check] = {}
    for number, name in enumerate(("shared", *settings.kinds)):
        file = settings.out / f"{name}.safetensors"
        if number:
            put_delta(model, whole)
        elif file.exists():
            continue
        for place, stage in enumerate(getattr(settings, name.replace("-", "_"))):
            rng = np.random.default_rng([settings.seed, 1 + number, *[place] * (place > 0)])
            for step, loss in enumerate(train_dialogues(model, processor, pool, stage, settings, rng), start=1):
                if step % stage.every and step < stage.steps:
                    continue
                ends[name] = check(model, processor, held, 0)
                say(f"{name} {step:4d}  loss {loss:.3f}  {ends[name]}")
                save_delta(model, file.with_suffix(".partial"))
                if ends[name].answers >= stage.enough:
                    break
        file.with_suffix(".partial").rename(file)
    say(f"The deltas are in {settings.out}.")
    return ends


def train_projector(model: LlavaForConditionalGeneration, processor, pool: Pool, settings: Settings) -> float:
    """Stage 0: each cell's projection against the embedding of its thing's word; return the mean squared distance."""
    table = model.get_input_embeddings().weight.detach()
    tokens = [processor.tokenizer(f" {word}", add_special_tokens=False)["input_ids"] for word in WORDS]
    nothing = table.mean(0)
    words = torch.stack([*(table[ids].mean(0) for ids in tokens), nothing])
    variance = words[:NOTHING].var()
    directions = nn.functional.normalize(words - nothing + 1e-4, dim=1)
    cells, labels = pool.cells.flatten(0, 1).float(), pool.labels.flatten()
    projector = model.model.multi_modal_projector.requires_grad_(True)
    optimiser = torch.optim.AdamW(projector.parameters(), 2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, settings.projector_steps)
    generator = torch.Generator().manual_seed(settings.seed)
    for _ in range(settings.projector_steps):
        chosen = torch.randint(len(cells), (512,), generator=generator)
        out, target = projector(cells[chosen]), labels[chosen]
        distance = nn.functional.mse_loss(out, words[target]) / variance
        guess = nn.functional.normalize(out - nothing, dim=1) @ directions.T
        _step(distance + 0.5 * nn.functional.cross_entropy(20 * guess, target), [], optimiser, settings.clip)
        schedule.step()
    return distance.item()


def train_dialogues(
    model: LlavaForConditionalGeneration,
    processor,
    pool: Pool,
    stage: Stage,
    settings: Settings,
    rng: np.random.Generator,
) -> Iterator[float]:
    """Stage 1 and what follows it: next-token losses on answers; the mean loss of late after every step."""
    projector = list(model.model.multi_modal_projector.parameters())
    own = {id(parameter) for parameter in projector}
    changes = [p for p in model.parameters() if p.requires_grad and id(p) not in own]
    rates = ((projector, settings.projector_factor), (changes, 1.0))
    groups = [{"params": parameters, "lr": stage.learning_rate * factor} for parameters, factor in rates]
    optimiser = torch.optim.AdamW(groups, weight_decay=0.0, betas=(0.9, 0.98))

    def factor(step: int) -> float:
        fallen = 0.0 if stage.horizon is None else step / stage.horizon
        return min(1.0, (step + 1) / stage.warmup) * (0.55 + 0.45 * np.cos(np.pi * fallen))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
    average = 0.0
    for step in range(stage.steps):
        if step * settings.batch % len(pool.scenes) < settings.batch:
            order = rng.permutation(len(pool.scenes))
        chosen = order[np.arange(step * settings.batch, (step + 1) * settings.batch) % len(order)].tolist()
        loss = answer_loss(model, processor, pool, chosen, rng, stage.no)
        _step(loss, projector + changes, optimiser, settings.clip)
        schedule.step()
        average = loss.item() if step == 0 else 0.9 * average + 0.1 * loss.item()
        yield average


def answer_loss(
    model: LlavaForConditionalGeneration, processor, pool: Pool, chosen: list[int], rng: np.random.Generator, no: float
) -> Tensor:
    """Cross-entropy of the answers' tokens in dialogues about the chosen scenes."""
    packed = pack(processor, [dialogues(pool.scenes[place], rng, no) for place in chosen], pool.cells.shape[1])
    hidden = model.model.language_model(
        inputs_embeds=embed(model, packed.ids, pool.cells[chosen]),
        attention_mask=packed.mask(),
        position_ids=packed.positions,
        use_cache=False,
    ).last_hidden_state
    where = packed.targets != IGNORED
    return nn.functional.cross_entropy(model.lm_head(hidden[where]), packed.targets[where])


def _step(loss: Tensor, clipped: Sequence[Tensor], optimiser: torch.optim.Optimizer, clip: float) -> None:
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    if clipped:
        nn.utils.clip_grad_norm_(clipped, clip)
    optimiser.step()


if __name__ == "__main__":
    main(tyro.cli(Settings))
