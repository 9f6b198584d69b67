"""Does a server keep its word under load? Mixed steerers, aborts and a kill; every reply against its single call.

    python serving/load.py WORLD --clients 200 --seconds 300 --out load.json

WORLD is what `serving/tests/make_world.py` wrote. Half way the server is killed and started again.
"""

import argparse
import json
import random
import signal
import socket
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "tests"))

import psutil

from server import Server, body, post
from world import STEERED, TOLERANCE, World

CASES = (*STEERED, (None, 1.0))


@dataclass
class Count:
    """What came of the requests."""

    equal: int = 0
    other: int = 0
    aborted: int = 0
    refused: int = 0  # while the server was down
    worst: float = 0.0
    megabytes: list[float] = field(default_factory=list)


def ask(server: Server, world: World, count: Count, lock: threading.Lock, rng: random.Random) -> None:
    number, (steerer, strength) = rng.randrange(len(world.rows)), rng.choice(CASES)
    if rng.random() < 0.05:
        outcome = aborted(server, body(world, number, steerer, strength, stream=True, ignore_eos=True, max_tokens=96))
    else:
        outcome = answered(server, world, number, steerer, strength)
    with lock:
        if isinstance(outcome, float):
            count.worst = max(count.worst, outcome)
            outcome = "equal" if outcome < TOLERANCE else "other"
        setattr(count, outcome, getattr(count, outcome) + 1)


def answered(server: Server, world: World, number: int, steerer: str | None, strength: float) -> float | str:
    """How far the log-probabilities are off; "other" for other tokens, "refused" where there was no answer."""
    try:
        status, reply = post(server.url, body(world, number, steerer, strength), timeout=120)
    except OSError:
        time.sleep(1)
        return "refused"
    if status != 200:
        return "refused"
    answer, choice = world.answers(steerer or "none", strength)[number], reply["choices"][0]
    if choice["token_ids"] != answer.token_ids:
        return "other"
    said = [step["logprob"] for step in choice["logprobs"]["content"]]
    own = [logprobs[token].item() for logprobs, token in zip(answer.logprobs, answer.token_ids, strict=True)]
    return max(abs(one - other) for one, other in zip(said, own, strict=True))


def aborted(server: Server, fields: dict[str, Any]) -> str:
    """Hangs up after the first piece of the reply."""
    data = json.dumps(fields).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    try:
        with socket.create_connection(("127.0.0.1", server.port), 30) as line:
            line.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
            line.recv(200)
    except OSError:
        return "refused"
    return "aborted"


def memory(server: Server) -> float:
    """Of the server and its engine, in megabytes."""
    own = psutil.Process(server.process.pid)
    return sum(one.memory_info().rss for one in [own, *own.children(recursive=True)]) / 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("world", type=Path)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--out", type=Path, default=Path("load.json"))
    given = parser.parse_args()
    world, count, lock, ends = World(given.world / "llava"), Count(), threading.Lock(), threading.Event()
    with given.out.with_suffix(".log").open("w") as log:
        servers = [Server(world, log)]
        servers[0].wait()

        def client(seed: int) -> None:
            rng = random.Random(seed)
            while not ends.is_set():
                ask(servers[-1], world, count, lock, rng)

        clients = [threading.Thread(target=client, args=(seed,)) for seed in range(given.clients)]
        for one in clients:
            one.start()
        time.sleep(given.seconds / 2)
        count.megabytes.append(memory(servers[-1]))
        servers[-1].stop(signal.SIGKILL)
        again = Server(world, log)
        again.wait()
        servers.append(again)
        count.megabytes.append(memory(again))
        time.sleep(given.seconds / 2)
        count.megabytes.append(memory(again))
        ends.set()
        for one in clients:
            one.join()
        again.stop()
    given.out.write_text(json.dumps(asdict(count), indent=1))
    print(f"{count}; written to {given.out}.")
    return int(bool(count.other) or not count.equal)


if __name__ == "__main__":
    sys.exit(main())
