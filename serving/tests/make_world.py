"""What the engines are compared with: models, steerers, prompts and the toolkit's own answers, written to a folder.

    PYTHONPATH=.:serving .venv/bin/python serving/tests/make_world.py FOLDER

It runs in the toolkit's environment: no release of transformers suits both the toolkit and vLLM.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from interv import VLM, Prompt
from interv.prompts.rendering import render
from interv_vllm.export import export_for_vllm
from methods import L2S, Contrasts, MeanSteering, MeanSteeringBA, NormRnd, NoSteering, capture_contrasts, steer
from methods.steerer import Fitted
from random_qwen2vl import questions, random_qwen2vl
from random_qwen2vl import steerers as random_steerers
from studies.tasks import TASKS

PAIRS = ((3, 3), (6, 3), (7, 4), (2, 5))  # reads, writes
TOKENS = 12
PROMPTS = 32
HIDDEN = 32


def make_llava(folder: Path) -> None:
    """The embedded model, exported; steerers are fitted on it as it comes."""
    vlm, task = VLM.load("tiny-llava"), TASKS["shapes_pope"]()
    source = folder / "source"
    vlm.model.save_pretrained(source)
    vlm.processor.save_pretrained(source)
    export_for_vllm(source, folder / "llava" / "model", fingerprint=vlm.fingerprint)
    bank = capture_contrasts(vlm, task.pairs("train")[::8], batch_size=64, pool="mean")
    train = bank.at(3, 3)
    steerers: dict[str, Fitted] = {f"l2s-{at}-{to}": following(bank.at(at, to)) for at, to in PAIRS}
    steerers |= {"l2s-fitted": L2S.fit(bank.at(6, 3), epochs=30)}
    steerers |= {"mean": MeanSteering.fit(train), "mean-ba": MeanSteeringBA.fit(train), "random": NormRnd.fit(train)}
    steerers |= {f"{name}-generated": replace(steerers[name], scope="generated") for name in ("l2s-3-3", "mean")}
    examples = task.prompts("test")
    prompts = [as_large_as_taken(vlm, example.prompt) for example in examples[:: len(examples) // PROMPTS][:PROMPTS]]
    strengths = {name: (1.0, 2.5) if name.startswith("l2s") else (2.5,) for name in steerers}
    write(folder / "llava", vlm, steerers | {"none": NoSteering.fit(train)}, prompts, strengths | {"none": (1.0,)})


def following(train: Contrasts) -> L2S:
    """A network whose vectors follow the prompt: one that is fitted in seconds adds nearly the same to all of them."""
    generator = torch.Generator().manual_seed(0)
    apart = train.context - train.context.mean(0)
    encoder = torch.randn(HIDDEN, train.width, generator=generator) / apart.norm(dim=1).mean()
    decoder = torch.randn(train.width, HIDDEN, generator=generator) * train.mean_norm / (train.width * HIDDEN) ** 0.5
    decoder[:, :4] = train.vectors.mean(0)[:, None] / 2  # some push this way in some prompts and that way in others
    bias = -encoder @ train.context.mean(0)
    vectors = torch.tanh(apart @ encoder.T) @ decoder.T
    assert (vectors - vectors.mean(0)).norm(dim=1).mean() > vectors.norm(dim=1).mean() / 2
    return L2S(train.reads, train.writes, train.fingerprint, encoder, bias, decoder)


def as_large_as_taken(vlm: VLM, prompt: Prompt) -> Prompt:
    """Scaled already: Pillow and torchvision, which vLLM takes, differ by a level of grey when they do it."""
    size = vlm.processor.image_processor.crop_size
    (image,) = prompt.images()
    return replace(prompt, image=image.resize((size["width"], size["height"])))


def make_qwen2vl(folder: Path) -> None:
    vlm = random_qwen2vl(folder / "qwen2vl" / "model")
    steerers: dict[str, Fitted] = {**random_steerers(vlm), "none": NoSteering(0, 0, vlm.fingerprint)}
    write(folder / "qwen2vl", vlm, steerers, questions(PROMPTS), dict.fromkeys(steerers, (1.0,)))


def write(
    folder: Path,
    vlm: VLM,
    steerers: dict[str, Fitted],
    prompts: list[Prompt],
    strengths: dict[str, tuple[float, ...]],
) -> None:
    """`prompts.json` with images beside it, `steerers/`, and `answers/<steerer>@<strength>.safetensors`."""
    (folder / "answers").mkdir(parents=True)
    (folder / "images").mkdir()
    rows = []
    for number, prompt in enumerate(prompts):
        image = f"images/{number}.png"
        prompt.images()[0].save(folder / image)
        text, length = render(vlm.processor, prompt), vlm.encode([prompt]).input_ids.shape[1]
        rows.append({"prompt": text, "question": prompt.question, "image": image, "tokens": length})
    (folder / "prompts.json").write_text(json.dumps(rows, indent=1))
    for name, steerer in steerers.items():
        steerer.save(folder / "steerers" / name)
        for strength in strengths[name]:
            replies = steer(vlm, prompts, steerer, strength=strength, max_new_tokens=TOKENS, logits=True)
            save_file(answers(replies), folder / "answers" / f"{name}@{strength}.safetensors")


def answers(replies: Any) -> dict[str, torch.Tensor]:
    """Token ids, -1 behind the end of a reply, and log-probabilities, [prompts, steps, vocabulary]."""
    steps = replies.logits.shape[1]
    ids = torch.tensor([ids + [-1] * (steps - len(ids)) for ids in replies.token_ids])
    return {"token_ids": ids, "logprobs": replies.logits.float().log_softmax(-1)}


def main() -> None:
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    make_llava(folder)
    make_qwen2vl(folder)
    (folder / "done").touch()


if __name__ == "__main__":
    main()
