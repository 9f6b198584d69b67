"""What a capture into shards and a training on them hold does not grow with the pairs."""

import json
from pathlib import Path

import pytest

from tests.unit.test_shards import run

MEMORY = """
import json, sys, threading, time
import psutil, torch
torch.set_num_threads(1)
import methods.contrasts.capture, methods.contrasts.shards
from methods import L2S, capture_contrasts
from methods.contrasts.bank import ContrastBank
from tests.tiny_models import build
from tests.unit.test_shards import made

WIDTH, count = 2048, int(sys.argv[2])
vlm = build("random-llava")
vlm.d_model = WIDTH
methods.contrasts.shards.SHARD_BYTES = 2**21

def wide(vlm, batch, layers, *rest):
    parts = torch.randn(3, len(batch), len(layers), WIDTH, generator=torch.Generator().manual_seed(len(batch)))
    names = tuple(pair.behavior for pair, _ in batch), tuple(pair.id for pair, _ in batch)
    return ContrastBank(*parts, None, *names, layers, vlm.fingerprint)

methods.contrasts.capture.capture_batch = wide

def anonymous():
    text = open("/proc/self/status").read()
    return int(text.split("RssAnon:")[1].split()[0]) * 1024

peak, running = [0], [True]
def watch():
    while running[0]:
        peak[0] = max(peak[0], anonymous())
        time.sleep(0.002)

pairs = made(1) * count
warm = capture_contrasts(vlm, pairs[:32], batch_size=16, layers=[0, 1], progress=False, out=sys.argv[1] + "/warm")
L2S.fit(warm.at(0, 1), epochs=1, hidden=8)
before = peak[0] = anonymous()
thread = threading.Thread(target=watch)
thread.start()
shards = capture_contrasts(vlm, pairs, batch_size=16, layers=[0, 1], progress=False, out=sys.argv[1] + "/all")
L2S.fit(shards.at(0, 1), epochs=1, hidden=8)
running[0] = False
thread.join()
written = sum(len(part) for part in shards.parts) * 3 * 2 * WIDTH * 4
print(json.dumps({"grown": peak[0] - before, "written": written}))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from Linux's /proc")
def test_memory_does_not_grow_with_the_pairs(tmp_path: Path) -> None:
    """64 times as many pairs, 201 MB of activations against 3: the capture and a training hold no more.

    The allocator's own noise is some 10 MB. Keeping one of the three activations of every pair would take 67 MB.
    """
    small, large = (
        json.loads(run(MEMORY, str(tmp_path / str(count)), str(count)).stdout.splitlines()[-1]) for count in (64, 4096)
    )
    assert large["written"] == 64 * small["written"] > 200e6
    assert large["grown"] < small["grown"] + large["written"] / 6
