"""Compiled models, engines in processes of their own, and tensors that lie on two workers."""

from typing import Any

import pytest

from engines import Engines
from laws import mixed_batch_equals_the_toolkit
from server import body, off, post, serving
from world import TOLERANCE, World


@pytest.mark.parametrize(
    ("settings", "environment"),
    [
        ({"enforce_eager": False}, {}),
        ({}, {"VLLM_ENABLE_V1_MULTIPROCESSING": "1"}),
        ({"tensor_parallel_size": 2}, {"VLLM_ENABLE_V1_MULTIPROCESSING": "1", "VLLM_CPU_OMP_THREADS_BIND": "0|1"}),
    ],
    ids=["compiled", "processes", "tensor-parallel"],
)
def test_it_equals_the_toolkit(
    settings: dict[str, Any],
    environment: dict[str, str],
    llava: World,
    engines: Engines,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    engine = engines.of(llava.model, llava.steerers, **settings)
    try:
        mixed_batch_equals_the_toolkit(engine, llava)
        found = engine.collective_rpc("interv_held")
        assert found[0]["read"] > 0
        assert all(one == found[0] for one in found)
    finally:
        engines.close()


def test_two_engines_behind_one_address(llava: World, engines: Engines, tmp_path: Any) -> None:
    engines.close()
    options = ("--data-parallel-size", "2")
    with (tmp_path / "log").open("w+") as log, serving(llava, log, *options, VLLM_CPU_OMP_THREADS_BIND="0|1") as server:
        for number in range(8):
            status, reply = post(server.url, body(llava, number, "l2s-3-3", 2.5))
            assert status == 200, reply
            assert off(llava.answers("l2s-3-3", 2.5)[number], reply) < TOLERANCE
