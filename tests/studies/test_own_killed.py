"""A fit and a file of questions that are killed at any moment go on where they stopped: nothing lost, nothing twice."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.studies.killing_own import fit_once
from tests.studies.world_file import write_world

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("what", ["fit", "ask"])
def test_what_is_killed_at_random_moments_ends_as_an_undisturbed_run(what: str, tmp_path: Path, thorough: bool) -> None:
    data = write_world(tmp_path / "world", val=60)
    if what == "ask":
        fit_once(data, data.parent / "steerer", None)
    kills, torn, in_a_row = (20, 5, 5) if thorough else (3, 1, 2)
    command = [sys.executable, "-m", "tests.studies.killing_own", what, data.parent, "--kills", str(kills)]
    command += ["--torn", str(torn), "--in-a-row", str(in_a_row)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=3000)
    assert ran.returncode == 0, ran.stderr
    resumed = [json.loads(line) for line in ran.stdout.splitlines()]
    assert len(resumed) == kills + torn + 1
    assert not [one for one in resumed if one["differing"] or not one["kept"]]
    assert min(one["bytes"] for one in resumed) < resumed[0]["of"]  # not all of them after the last line
