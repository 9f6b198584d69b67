"""Images that the rows themselves hold, in every form in which a text file or a hub's column has them."""

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from studies.tasks.pope.files import load_questions
from tests.studies.benchmark_files import picture
from tests.studies.test_question_files import OWN, own_rows, pictures, write


def stored(seed: int) -> bytes:
    content = io.BytesIO()
    picture(seed).save(content, format="PNG")
    return content.getvalue()


WAYS: dict[str, Callable[[int], object]] = {
    "base64": lambda n: {"bytes": base64.b64encode(stored(n)).decode(), "path": f"{n}.png"},
    "numbers": lambda n: {"bytes": list(stored(n)), "path": None},
    "literal": lambda n: str({"bytes": stored(n), "path": f"{n}.png"}),  # a data frame's to_csv
    "json": lambda n: json.dumps({"bytes": base64.b64encode(stored(n)).decode(), "path": f"{n}.png"}),
    "path": lambda n: {"bytes": None, "path": f"val2014\\{n}.png"},
    "url": lambda n: "data:image/png;base64," + base64.b64encode(stored(n)).decode(),
}


@pytest.mark.parametrize("kind", ["json", "jsonl", "csv"])
@pytest.mark.parametrize("way", WAYS)
def test_rows_of_the_hub_hold_their_images(way: str, kind: str, tmp_path: Path) -> None:
    rows = [
        {"question_id": str(n), "question": OWN, "answer": "yes", "category": "popular", "image": WAYS[way](n)}
        for n in range(20)
    ]
    if way != "path":
        write(tmp_path / "bare" / f"pope.{kind}", rows[:10])  # without a name, an image is told by what it shows
        bare = [q for q in load_questions(tmp_path / "bare")[0] if not q.flaw]
        assert [q.image.convert("RGB").tobytes() for q in bare] == [picture(n).tobytes() for n in range(10)]
        assert len({q.image_name for q in bare}) == 10
    write(
        pictures(tmp_path / "data") / f"pope.{kind}",
        [{**row, "image_source": f"COCO_{n}"} for n, row in enumerate(rows)],
    )
    questions, flaws = load_questions(tmp_path / "data")
    assert not flaws
    assert [(q.image_name, q.flaw) for q in questions] == [(f"COCO_{n}", "") for n in range(20)]


def test_a_held_image_that_is_none_is_named(tmp_path: Path) -> None:
    held = [{"bytes": "no picture"}, {"bytes": [1, 999]}, {"bytes": None, "path": None}, "{'bytes': b'x", 7, {}]
    rows = [{"id": n, "question": OWN, "answer": "no", "image": image} for n, image in enumerate(held)]
    write(pictures(tmp_path) / "pope.json", [*own_rows(), *rows])
    questions, flaws = load_questions(tmp_path)
    named = {flaw.id for flaw in flaws} | {q.id for q in questions if q.flaw}
    assert len(named) == len(held)
    assert sum(not q.flaw for q in questions) == 40
