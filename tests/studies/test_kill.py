"""A study that is killed at any moment, also in the middle of a write, resumes to the files of an undisturbed run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def test_a_study_killed_at_random_moments_resumes_to_the_same_files(tmp_path: Path, thorough: bool) -> None:
    kills, torn = (20, 5) if thorough else (2, 1)
    command = [sys.executable, "-m", "tests.studies.killing", tmp_path, "--kills", str(kills), "--torn", str(torn)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=3000)
    assert ran.returncode == 0, ran.stderr
    resumed = [json.loads(line) for line in ran.stdout.splitlines()]
    assert len(resumed) == kills + torn
    assert not [one for one in resumed if one["differing"]]
    # Not all of them after the last row: some had rows left to make.
    assert min(one["bytes"] for one in resumed) < resumed[0]["of"]
