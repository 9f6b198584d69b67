"""Every planted fault is found by the laws that are named for it; the code without faults passes the same laws."""

import pytest

from tests.mutation.run import FAULTS, LAWS, finds, survives
from tests.tiny_models import RANDOM, build


@pytest.mark.parametrize("name", RANDOM)
@pytest.mark.parametrize("law", LAWS)
def test_law_holds_without_faults(law: str, name: str) -> None:
    error = survives(law, build(name))
    if error is not None:
        raise error


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_fault_is_found(fault) -> None:
    assert fault.laws
    for law in fault.laws:
        assert finds(law, fault), f"{law!r} does not notice: {fault.name}"


def test_there_are_faults_enough() -> None:
    names = [fault.name for fault in FAULTS]
    assert len(names) == len(set(names)) >= 20
    assert {law for fault in FAULTS for law in fault.laws} <= set(LAWS)
