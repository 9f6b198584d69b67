"""Many machines: the examples for Ray, each with two engines here, give the toolkit's replies."""

import json
import os
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import ray
from ray import serve
from transformers import AutoTokenizer

from server import body, off, post
from world import STEERED, TOLERANCE, World

EXAMPLES = str(Path(__file__).parents[1] / "examples")
CASES = (*STEERED, (None, 1.0))
SETTINGS = {"dtype": "float32", "enforce_eager": True, "max_model_len": 256, "max_num_seqs": 16}


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([EXAMPLES, os.environ.get("PYTHONPATH", "")]))
        patch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
        patch.setattr(sys, "path", [EXAMPLES, *sys.path])
        ray.init(num_cpus=6, include_dashboard=False, log_to_driver=False)
        yield
        serve.shutdown()
        ray.shutdown()


def test_a_batch_job_equals_the_toolkit(cluster: None, llava: World, tmp_path: Path) -> None:
    import ray_data

    rows = []
    for number, row in enumerate(llava.rows):
        steer, strength = CASES[number % len(CASES)]
        image = str(llava.folder / row["image"])
        asked = {"image": image, "question": row["question"], "max_tokens": 12, "number": number}
        rows.append(asked | {"steer": steer, "steer_strength": strength})
    file = tmp_path / "questions.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    ray_data.answer(str(file), str(tmp_path / "out"), llava.model, llava.steerers, engines=2, gpus=0, **SETTINGS)
    lines = [line for part in (tmp_path / "out").iterdir() for line in part.read_text().splitlines()]
    replies = {reply["number"]: reply["reply"] for reply in map(json.loads, lines)}
    tokenizer = AutoTokenizer.from_pretrained(llava.model)
    for row in rows:
        answer = llava.answers(row["steer"] or "none", row["steer_strength"])[row["number"]]
        # vLLM puts the space before a first word into the text.
        assert replies[row["number"]].strip() == tokenizer.decode(answer.token_ids, skip_special_tokens=True)


def test_replicas_behind_one_address_equal_the_toolkit(cluster: None, llava: World) -> None:
    import ray_serve

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    given = {"model": llava.model, "steerers": json.dumps(llava.steerers), "replicas": "2", "gpus": "0"}
    serve.run(ray_serve.application({**given, "engine": json.dumps(SETTINGS)}))
    order = [(number, *CASES[number % len(CASES)]) for number in range(len(llava.rows))]
    url = f"http://127.0.0.1:{port}"
    with ThreadPoolExecutor(8) as pool:
        replies = [*pool.map(lambda case: post(url, body(llava, *case, model="steered")), order)]
    for (number, steerer, strength), (status, reply) in zip(order, replies, strict=True):
        assert status == 200, reply
        assert off(llava.answers(steerer or "none", strength)[number], reply) < TOLERANCE
    status, reply = post(url, body(llava, 0, "nobody", model="steered"))
    assert (status, "has not loaded" in str(reply)) == (400, True), reply
