"""What steering costs beside serving the same requests unsteered, in CPU seconds of one engine.

    PYTHONPATH=.:serving .venv/bin/python serving/price.py write FOLDER       # the model of 40 million parameters
    .serving/venv/bin/python serving/price.py measure FOLDER --rounds 4

Both are taken in turn, and of each the best round counts: what else the machine does only ever adds.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CASES = ((8, 32), (1, 32))  # requests at once, tokens of each reply
MOST = 1.05


def write(folder: Path) -> None:
    """Model, steerer and images; the model never ends a reply by itself."""
    import torch

    from interv.prompts.rendering import render
    from interv_vllm.export import export_for_vllm
    from methods import L2S
    from studies.timing.models import pairs, random_llava

    model, processor = random_llava("random-40m")
    model.save_pretrained(folder / "source")
    processor.save_pretrained(folder / "source")
    export_for_vllm(folder / "source", folder / "model")
    width, blocks = (getattr(model.config.text_config, name) for name in ("hidden_size", "num_hidden_layers"))
    network = (torch.randn(100, width), torch.zeros(100), torch.randn(width, 100) / width)
    L2S(2 * blocks // 3, blocks // 2, "", *network).save(folder / "l2s")
    rows = []
    for number, pair in enumerate(pairs(max(requests for requests, _ in CASES))):
        image = f"{number}.png"
        pair.prompt.images()[0].save(folder / image)
        rows.append({"prompt": render(processor, pair.prompt), "image": image})
    (folder / "prompts.json").write_text(json.dumps(rows))


def measure(folder: Path, rounds: int) -> dict[str, float]:
    """The price of each case: best steered over best unsteered."""
    os.environ.update(OMP_NUM_THREADS="1", VLLM_CPU_KVCACHE_SPACE="1", HF_HUB_OFFLINE="1")
    os.environ.update(VLLM_ENABLE_V1_MULTIPROCESSING="0", VLLM_LOGGING_LEVEL="ERROR")
    from PIL import Image
    from vllm import LLM, SamplingParams

    engine = LLM(
        str(folder / "model"),
        dtype="float32",
        enforce_eager=True,
        max_model_len=1024,
        max_num_batched_tokens=8192,
        enable_prefix_caching=False,
        additional_config={"steer": {"l2s": str(folder / "l2s")}},
    )
    rows = json.loads((folder / "prompts.json").read_text())
    inputs = [
        {"prompt": row["prompt"], "multi_modal_data": {"image": Image.open(folder / row["image"])}} for row in rows
    ]

    def seconds(requests: int, tokens: int, extra: dict[str, Any] | None) -> float:
        params = SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True, extra_args=extra)
        began = time.process_time()
        engine.generate(inputs[:requests], params, use_tqdm=False)
        return time.process_time() - began

    return {
        f"{requests} x {tokens} tokens": price(rounds, lambda extra, own=(requests, tokens): seconds(*own, extra))
        for requests, tokens in CASES
    }


def price(rounds: int, seconds: Callable[[dict[str, Any] | None], float]) -> float:
    seconds(None)  # images are processed once, whoever comes first
    plain, steered = [], []
    for _ in range(rounds):
        plain.append(seconds(None))
        steered.append(seconds({"steer": "l2s"}))
    print(f"unsteered {min(plain):.2f} s, steered {min(steered):.2f} s")
    return min(steered) / min(plain)


def main() -> int:
    """Status 1 where a price is above the most that it may be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=("write", "measure"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=4)
    given = parser.parse_args()
    if given.command == "write":
        write(given.folder)
        return 0
    found = measure(given.folder, given.rounds)
    print({case: round(value, 3) for case, value in found.items()})
    return int(max(found.values()) > MOST)


if __name__ == "__main__":
    raise SystemExit(main())
