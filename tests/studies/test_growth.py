"""How time and memory grow: measured at two small sizes, drawn and put into a page."""

from pathlib import Path

import numpy as np
import pytest

from studies.measure import bootstrap
from studies.timing import growth


@pytest.mark.slow
def test_every_kind_is_measured_at_every_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "PAIRS", 2)
    monkeypatch.setattr(growth, "CONTRASTS", 130)
    monkeypatch.setattr(growth, "PROMPTS", 1)
    monkeypatch.setattr(growth, "EXAMPLES", 20)
    page = tmp_path / "page.md"
    page.write_text("<!-- measured: growth -->\n<!-- end: growth -->\n")
    records = growth.growth(growth.Arguments(factors=(1, 2), out=tmp_path, write=page))
    assert [(record["kind"], record["factor"]) for record in records] == [
        (kind, factor) for kind in ("capture", "fit", "sweep", "table") for factor in (1, 2)
    ]
    assert all(record["seconds"] > 0 for record in records)
    assert all(kind in page.read_text() for kind in growth.KINDS)
    assert (tmp_path / "growth.png").stat().st_size > 0


def test_the_power_of_a_linear_growth_is_one() -> None:
    records = [{"factor": factor, "seconds": 0.5 + 2.0 * factor} for factor in (1, 4, 16, 64)]
    assert 0.9 < growth.slope(records) < 1.0
    assert growth.slope([{"factor": f, "seconds": f**2} for f in (1, 4)]) == 2


def test_a_part_that_fails_ends_the_measuring() -> None:
    def fails() -> None:
        raise SystemExit(1)

    with pytest.raises(EOFError):
        growth.apart(fails)


def test_draws_take_a_byte_each_and_sums_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = bootstrap.weights_of(300, 50, 0)
    assert weights.dtype == np.uint8
    assert (weights.sum(axis=1, dtype=np.int64) == 300).all()
    columns = np.random.default_rng(0).integers(0, 2, (300, 3)).astype(float)
    whole = bootstrap.resampled_sums(columns, np.arange(300), 50, 0)
    monkeypatch.setattr(bootstrap, "NUMBERS", 900)
    assert (bootstrap.resampled_sums(columns, np.arange(300), 50, 0) == whole).all()
    assert (whole == weights.astype(float) @ columns).all()
