"""Hypothesis profiles and the models that the tests run on."""

import sys
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch

# Helpers are imported as `tests.property.reference`, also by a pytest that was not started with `python -m`.
sys.path.insert(0, str(Path(__file__).parents[1]))

SLOW = [hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large, hypothesis.HealthCheck.filter_too_much]
hypothesis.settings.register_profile(
    "default", max_examples=4, deadline=None, derandomize=True, database=None, suppress_health_check=SLOW
)
hypothesis.settings.register_profile("thorough", max_examples=200, deadline=None, suppress_health_check=SLOW)
hypothesis.settings.load_profile("default")


def pytest_configure(config: pytest.Config) -> None:
    torch.set_num_threads(1)  # tiny models are slower on several threads


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """A study that was run in a test may have set another number, and sums round by it."""
    torch.set_num_threads(1)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes `vlm` runs on every model."""
    if "vlm" in metafunc.fixturenames:
        from tests.tiny_models import model_names

        metafunc.parametrize("vlm", model_names(), indirect=True, scope="session")


@pytest.fixture(scope="session")
def vlm(request: pytest.FixtureRequest) -> Any:
    from tests.tiny_models import build

    return build(request.param)


@pytest.fixture(scope="session")
def thorough() -> bool:
    """Whether the long runs are asked for."""
    return hypothesis.settings().max_examples >= 200
