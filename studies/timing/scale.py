"""How much memory capture and training take, each in a process of its own, beside what a formula says.

python -m studies.timing.scale capture random-40m 16
python -m studies.timing.scale training random-40m 8000
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from interv import VLM
from methods import L2S, ContrastBank, ShardedContrasts, capture_contrasts
from methods.contrasts.shards import SHARD_BYTES, Store
from studies.timing.contests import planted
from studies.timing.memory import clock, held, watched
from studies.timing.models import pairs, random_llava

BATCH, WIDTH, ROWS_A_SHARD = 2, 4096, 1000


def measured(kind: str, model: str, count: int) -> dict[str, Any]:
    """The record of one size, from a fresh process."""
    command = [sys.executable, "-m", "studies.timing.scale", kind, model, str(count)]
    root = Path(__file__).parents[2]
    return json.loads(subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout)


def capture_bytes(vlm: VLM, batch: int, prefix: int, tail: int, layers: int, variants: int = 3) -> int:
    """About what a capture holds beside the model and a shard, in bytes; the number of pairs is not in it.

    The cache of the prefixes, one block of it twice for the rows behind them, what is read there, and one block's
    widest activations.
    """
    text, size = vlm.model.config.get_text_config(), vlm.model.dtype.itemsize
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    keys = 2 * heads * (text.hidden_size // text.num_attention_heads) * size
    cache = keys * batch * (text.num_hidden_layers * prefix + variants * (prefix + prefix + tail))
    read = 2 * layers * batch * variants * tail * text.hidden_size * size
    block = batch * prefix * (3 * text.intermediate_size + 6 * text.hidden_size) * size
    return cache + read + block


def capture(model: str, count: int) -> dict[str, Any]:
    vlm = VLM(*random_llava(model), model)
    asked = pairs(2) * (count // 2)
    encoded = [vlm.encode([variant]) for variant in asked[0].variants()]
    prefix, longest = encoded[0].input_ids.shape[1] - 1, max(each.input_ids.shape[1] for each in encoded)

    def run(number: int) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            return len(capture_contrasts(vlm, asked[:number], batch_size=BATCH, progress=False, out=folder))

    formula = capture_bytes(vlm, BATCH, prefix, longest - prefix, vlm.n_layers)
    shard = 2 * min(SHARD_BYTES, 4 * 3 * vlm.n_layers * vlm.d_model * count)
    before = held()[0]
    return {"pairs": count, "formula": formula + shard, **grown(lambda: run(count), before)}


def training(model: str, count: int) -> dict[str, Any]:
    """One epoch on `count` x 4,096 contrasts in shards, singular vectors included."""
    with tempfile.TemporaryDirectory() as folder:
        # Written by another process, whose freed memory would hide here what training takes.
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            pool.submit(plant, folder, count).result()
        store = store_of(folder, count)
        shards = ShardedContrasts(tuple(store.read(number).at(0, 0) for number in range(-(-count // ROWS_A_SHARD))))
        before = held()[0]
        # Weights, gradients and two moments of Adam; batches of 256 rows with their differences and products.
        formula = 4 * (4 * 2 * 100 * WIDTH + 6 * 256 * WIDTH + 6 * 116 * WIDTH)
        return {"pairs": count, "formula": formula, **grown(lambda: L2S.fit(shards, epochs=1), before)}


def store_of(folder: str, count: int, width: int = WIDTH) -> Store:
    return Store(Path(folder), count, ROWS_A_SHARD, (0,), width, "", False)


def plant(folder: str, count: int, width: int = WIDTH) -> None:
    """Write `count` synthetic contrasts in shards."""
    store = store_of(folder, count, width)
    for number, start in enumerate(range(0, count, ROWS_A_SHARD)):
        rows = planted(min(ROWS_A_SHARD, count - start), width, seed=number)
        tensors = (rows.context[:, None], rows.positive[:, None], rows.negative[:, None])
        store.write(number, ContrastBank(*tensors, None, rows.behavior, rows.id, (0,), ""), [])


def grown(run: Callable[[], Any], before: int) -> dict[str, Any]:
    """Peak of the process's own memory over what it held before, and the seconds."""
    with watched() as peak, clock() as taken:
        run()
    return {"peak": peak.own - before, "seconds": taken[0]}


if __name__ == "__main__":
    torch.set_num_threads(1)
    kind, name, number = sys.argv[1:]
    print(json.dumps({"capture": capture, "training": training}[kind](name, int(number))))
