"""Does a server keep its word under load? Mixed steerers, aborts and a kill; every reply against its single call.

    python serving/load.py WORLD --clients 200 --seconds 300 --out load.json

WORLD is what `serving/tests/make_world.py` wrote. Half way the server is killed and started again. At the end, when
nobody asks any more, nothing may be held: no request, no row of the table, no block of memory. `--stock` asks the
same of a server without the plugin, unsteered: what its memory does is vLLM's own doing.
"""

import argparse
import functools
import http.client
import json
import random
import re
import signal
import socket
import sys
import threading
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "tests"))

import psutil

from server import Server, body, off, post
from world import STEERED, TOLERANCE, Answer, World

Case = tuple[str | None, float]
UNSTEERED: Case = (None, 1.0)
CASES: tuple[Case, ...] = (*STEERED, UNSTEERED)
EVERY = 15.0  # seconds between two looks at the memory
# For /collective_rpc; and a cache of 1 GB, where vLLM on a CPU takes nearly all memory that there is.
DEV = {"VLLM_SERVER_DEV_MODE": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}


@dataclass
class Count:
    """What came of the requests.

    Attributes:
        unreached: sent while the server was down, or cut off by its end.
        retried: answered with status 500 and asked once more. vLLM answers so where its front end takes an image for
            known to an engine that has not got it yet, as with the first requests of a server, and says "cache drift".
        failed: answered with another status than 200 or, twice, with 500.
        megabytes: of the server and its engine, each with the seconds since it answered first; a list a server.
        held: what the last server still had when all was quiet.
    """

    equal: int = 0
    other: int = 0
    aborted: int = 0
    unreached: int = 0
    retried: int = 0
    failed: int = 0
    worst: float = 0.0
    sentences: list[str] = field(default_factory=list)
    megabytes: list[list[tuple[float, float]]] = field(default_factory=list)
    held: dict[str, float] = field(default_factory=dict)

    @property
    def leaks(self) -> bool:
        return any(self.held.get(name) for name in ("requests", "rows", "running", "waiting", "memory"))


def ask(
    server: Server, world: World, cases: Sequence[Case], count: Count, lock: threading.Lock, rng: random.Random
) -> None:
    number, (steerer, strength) = rng.randrange(len(world.rows)), rng.choice(cases)
    if rng.random() < 0.05:
        outcome = aborted(server, body(world, number, steerer, strength, stream=True, ignore_eos=True, max_tokens=96))
    else:
        outcome = answered(server, world, number, steerer, strength)
    again = isinstance(outcome, str) and outcome.startswith("500")
    if again:
        outcome = answered(server, world, number, steerer, strength)
    with lock:
        count.retried += again
        if isinstance(outcome, float):
            count.worst = max(count.worst, outcome)
            outcome = "equal" if outcome < TOLERANCE else "other"
        elif outcome not in ("aborted", "unreached"):
            count.sentences.append(outcome)
            outcome = "failed"
        setattr(count, outcome, getattr(count, outcome) + 1)


def answered(server: Server, world: World, number: int, steerer: str | None, strength: float) -> float | str:
    """How far the log-probabilities are off, infinitely for other tokens; the server's sentence where it refused."""
    try:
        status, reply = post(server.url, body(world, number, steerer, strength), timeout=120)
    except (OSError, http.client.HTTPException):  # no connection, half an answer
        time.sleep(1)
        return "unreached"
    if status != 200:
        return f"{status}: {reply}"
    return off(_answers(world, steerer or "none", strength)[number], reply)


def aborted(server: Server, fields: dict[str, Any]) -> str:
    """Hangs up after the first piece of the reply."""
    data = json.dumps(fields).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    try:
        with socket.create_connection(("127.0.0.1", server.port), 30) as line:
            line.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
            said = line.recv(200).decode(errors="replace")
    except OSError:
        return "unreached"
    return "aborted" if said.startswith("HTTP/1.1 200") else said or "unreached"


@functools.cache
def _answers(world: World, steerer: str, strength: float) -> list[Answer]:
    return world.answers(steerer, strength)


def memory(server: Server) -> float:
    """Of the server and its engine, in megabytes."""
    own = psutil.Process(server.process.pid)
    return sum(one.memory_info().rss for one in [own, *own.children(recursive=True)]) / 1e6


def watched(server: Server, seconds: float) -> list[tuple[float, float]]:
    """Seconds and megabytes, from now on for so many seconds."""
    began, seen = time.monotonic(), [(0.0, memory(server))]
    while (past := time.monotonic() - began) < seconds:
        time.sleep(min(EVERY, seconds - past))
        seen.append((round(time.monotonic() - began, 1), memory(server)))
    return [(past, round(size)) for past, size in seen]


def held(server: Server, world: World, *, stock: bool) -> dict[str, float]:
    """What the server still has when nobody asks."""
    post(server.url, body(world, 0, None))  # workers hear of an end with the next step
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    names = {"running": "num_requests_running", "waiting": "num_requests_waiting", "memory": "kv_cache_usage_perc"}
    found = {key: _metric(text, f"vllm:{name}") for key, name in names.items()}
    if stock:
        return found
    _, reply = post(server.url, {"method": "interv_held"}, "/collective_rpc")
    return found | reply["results"][0]


def _metric(text: str, name: str) -> float:
    lines = re.findall(rf"^{re.escape(name)}\{{.*\}} (\S+)$", text, re.MULTILINE)
    return sum(map(float, lines))


def main() -> int:
    """Status 1 where a reply was another, none was equal, one was refused, or something leaked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("world", type=Path)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--out", type=Path, default=Path("load.json"))
    parser.add_argument("--stock", action="store_true")
    given = parser.parse_args()
    cases = (UNSTEERED,) if given.stock else CASES
    environment = DEV | ({"VLLM_PLUGINS": "none"} if given.stock else {})
    world, count, lock, ends = World(given.world / "llava"), Count(), threading.Lock(), threading.Event()
    with given.out.with_suffix(".log").open("w+") as log:
        servers = [Server(world, log, **environment)]
        servers[0].wait()

        def client(seed: int) -> None:
            rng = random.Random(seed)
            while not ends.is_set():
                ask(servers[-1], world, cases, count, lock, rng)

        clients = [threading.Thread(target=client, args=(seed,)) for seed in range(given.clients)]
        for one in clients:
            one.start()
        count.megabytes.append(watched(servers[-1], given.seconds / 2))
        servers[-1].stop(signal.SIGKILL)
        again = Server(world, log, **environment)
        again.wait()
        servers.append(again)
        count.megabytes.append(watched(again, given.seconds / 2))
        ends.set()
        for one in clients:
            one.join()
        count.held = held(again, world, stock=given.stock)
        again.stop()
    given.out.write_text(json.dumps(asdict(count), indent=1))
    print(f"{count}; written to {given.out}.")
    return int(bool(count.other or count.failed) or not count.equal or count.leaks)


if __name__ == "__main__":
    sys.exit(main())
