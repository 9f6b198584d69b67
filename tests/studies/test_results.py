"""Laws of the result folder: nothing lost, nothing twice, no two recipes in one place."""

import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from studies.run.results import Results, key, read_rows, read_skipped, write_json

SETTINGS = {"task": "shapes_pope", "layers": {"reads": 6, "writes": (4,)}, "strength": 1.0}


def make_row(number, **fields):
    return {
        "id": f"test/{number}",
        "task": "shapes_pope",
        "split": "test",
        "method": "L2S",
        "strength": 1.0,
        "reads": 6,
        "writes": [4, 5],
        "seed": 0,
        "reply": f"no , the image has no cup .\n\u2028 {number} \u00e9",
    } | fields


ROWS = [make_row(number) for number in range(4)]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_file_cut_at_any_byte_resumes_to_the_whole_lines_before_it(data):
    with tempfile.TemporaryDirectory() as folder:
        with Results.open(folder, SETTINGS) as results:
            results.append(ROWS)
        file = Path(folder) / "rows.jsonl"
        content = file.read_bytes()
        cut = data.draw(st.integers(0, len(content)))
        file.write_bytes(content[:cut])
        whole = content[:cut].count(b"\n")
        assert read_rows(folder) == ROWS[:whole]
        with Results.open(folder, SETTINGS) as results:
            assert results.done == {key(row) for row in ROWS[:whole]}
            results.append(row for row in ROWS if key(row) not in results.done)
        assert file.read_bytes() == content


def test_a_killed_process_loses_no_row_that_it_appended(tmp_path):
    program = (
        "import os, signal, sys\n"
        "from studies.run.results import Results\n"
        f"results = Results.open(sys.argv[1], {SETTINGS!r})\n"
        f"results.append({ROWS[:2]!r})\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = Path(__file__).parents[2]
    ended = subprocess.run([sys.executable, "-c", program, str(tmp_path)], env={"PYTHONPATH": str(root)}, timeout=60)
    assert ended.returncode == -9
    with Results.open(tmp_path, SETTINGS) as results:
        assert results.done == {key(row) for row in ROWS[:2]}


@settings(max_examples=30, deadline=None)
@given(st.text(max_size=20), st.floats())
@example("half a pair: \ud800", 0.5)
def test_any_text_and_number_come_back(text, number):
    with tempfile.TemporaryDirectory() as folder:
        with Results.open(folder, SETTINGS) as results:
            results.append([make_row(0, reply=text, score=number, count=np.int64(3))])
        (row,) = read_rows(folder)
        assert row["reply"] == text
        assert row["score"] == (number if math.isfinite(number) else None)
        assert row["count"] == 3


def test_nothing_is_there_twice(tmp_path):
    with Results.open(tmp_path, SETTINGS) as results:
        results.append(ROWS[:2])
        with pytest.raises(ValueError, match=r"1 of 2 rows are there already, the first with method L2S.*id test/1"):
            results.append([ROWS[2], ROWS[1]])
        with pytest.raises(ValueError, match="there already"):
            results.append([ROWS[3], ROWS[3]])
        results.append([make_row(0, seed=1), make_row(0, strength=2.0), make_row(0, split="val")])
    # A refused list leaves none of its rows behind.
    assert len(read_rows(tmp_path)) == 5


def test_another_recipe_is_refused_and_what_differs_is_named(tmp_path):
    Results.open(tmp_path, SETTINGS, seeds=[0], fingerprint="abc").close()
    before = (tmp_path / "recipe.json").read_bytes()
    other = {"task": "shapes_pope", "layers": {"reads": 7, "writes": (4,)}, "new": True}
    with pytest.raises(ValueError, match="another recipe") as error:
        Results.open(tmp_path, other, seeds=[0, 1], fingerprint="abd")
    for line in (
        "layers.reads: 6 there, 7 now",
        "strength: 1.0 there, '(none)' now",
        "new: '(none)' there, True now",
        "seeds: [0] there, [0, 1] now",
        "fingerprint: 'abc' there, 'abd' now",
        "delete the folder to start again",
    ):
        assert line in str(error.value)
    assert "task" not in str(error.value)
    assert (tmp_path / "recipe.json").read_bytes() == before


def test_other_versions_are_recorded_and_not_refused(tmp_path):
    Results.open(tmp_path, SETTINGS).close()
    file = tmp_path / "recipe.json"
    recipe = json.loads(file.read_text())
    assert {"settings", "seeds", "fingerprint", "versions", "commit"} == set(recipe)
    places = {"processor", "threads"}
    assert {"python", "torch", "transformers", "nnsight", "numpy", *places} == set(recipe["versions"])
    assert recipe["versions"]["threads"] == torch.get_num_threads()
    assert recipe["versions"]["processor"]
    earlier = {"earlier": [{"versions": recipe["versions"], "commit": "0ld"}]}
    for there in ({"commit": "0ld"}, earlier, {"commit": "0ld"} | earlier):
        write_json(file, recipe | there)
        Results.open(tmp_path, SETTINGS).close()
        assert json.loads(file.read_text()) == recipe | earlier


def test_another_template_is_another_recipe(tmp_path):
    """And so is a folder of which nobody knows what its prompts were made inputs by."""
    ours = {"chat_template": "ab", "pillow": "12.0"}
    Results.open(tmp_path / "known", SETTINGS, preprocessing=ours).close()
    assert json.loads((tmp_path / "known" / "recipe.json").read_text())["preprocessing"] == ours
    Results.open(tmp_path / "known", SETTINGS, preprocessing=ours).close()
    with pytest.raises(ValueError, match=r"preprocessing\.chat_template: 'ab' there, 'cd' now") as error:
        Results.open(tmp_path / "known", SETTINGS, preprocessing=ours | {"chat_template": "cd"})
    assert "pillow" not in str(error.value)
    Results.open(tmp_path / "before", SETTINGS).close()
    with pytest.raises(ValueError, match=r"'\(none\)' there, 'ab' now\n(.*\n)*An earlier version made it"):
        Results.open(tmp_path / "before", SETTINGS, preprocessing=ours)


def test_rows_without_a_recipe_are_refused(tmp_path):
    (tmp_path / "rows.jsonl").write_text("{}\n")
    with pytest.raises(ValueError, match=r"rows but no recipe\.json"):
        Results.open(tmp_path, SETTINGS)


def test_one_process_at_a_time_has_the_folder(tmp_path):
    with Results.open(tmp_path, SETTINGS), pytest.raises(RuntimeError, match="in use by a running study"):
        Results.open(tmp_path, SETTINGS)
    Results.open(tmp_path, SETTINGS).close()


def test_a_damaged_line_is_named(tmp_path):
    with Results.open(tmp_path, SETTINGS) as results:
        results.append(ROWS)
    file = tmp_path / "rows.jsonl"
    lines = file.read_bytes().split(b"\n")
    file.write_bytes(b"\n".join([lines[0], b'{"id": ', *lines[2:]]))
    with pytest.raises(ValueError, match=r"rows\.jsonl, line 2 is not JSON"):
        Results.open(tmp_path, SETTINGS)
    # The refused opening let go of the folder.
    file.write_bytes(b"\n".join([lines[0], *lines[2:]]))
    with Results.open(tmp_path, SETTINGS) as results:
        results.append([ROWS[1]])


def test_skipped_items_are_kept_once(tmp_path):
    for _ in range(2):
        with Results.open(tmp_path, SETTINGS) as results:
            results.skip("test/9", "the image cannot be read")
            assert results.skipped == {"test/9": "the image cannot be read"}
    assert read_skipped(tmp_path) == {"test/9": "the image cannot be read"}
    assert len((tmp_path / "skipped.jsonl").read_text().splitlines()) == 1


def test_a_failed_write_leaves_the_old_file(tmp_path):
    with Results.open(tmp_path, SETTINGS) as results:
        file = results.write("table.json", [{"value": float("nan")}])
        assert json.loads(file.read_text()) == [{"value": None}]
        with pytest.raises(TypeError):
            results.write("table.json", [object()])
        assert json.loads(file.read_text()) == [{"value": None}]
    assert not list(tmp_path.glob("*.partial"))


def test_an_image_is_kept_once_inside_the_folder(tmp_path):
    with Results.open(tmp_path, SETTINGS) as results:
        names = [results.save_image(name, Image.new("RGB", (4, 4))) for name in ("a/../b", "a-b", "a-b")]
    assert names[1] == names[2] != names[0]
    assert all((tmp_path / name).resolve().is_relative_to(tmp_path / "images") for name in names)
