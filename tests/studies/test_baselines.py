"""The other systems in the main study: fitted from what each learns from, chosen by the same rule, kept and resumed."""

from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from methods import BASELINES, CAST, COMBINED, L2SWithPAI
from studies.compare import Arguments, methods_of
from studies.fit.fitting import METHODS, STEERING
from studies.fit.materials import first_words
from studies.fit.method_traits import adds, at_one_block, in_replies_alone, needs_vectors, reads_context, seeded
from studies.fit.selection import Grid
from studies.recipes.named import EMBEDDED_POPE
from studies.run.arguments import Common
from studies.run.bench import Bench, opened
from studies.run.results import read_rows
from studies.tasks import TASKS, Example, Split
from studies.tasks.shapes_pope import ShapesPope
from tests.tiny_models import build

pytestmark = pytest.mark.slow

NAMES = tuple(method.__name__ for method in BASELINES)
BOTH = tuple(method.__name__ for method in COMBINED)
GRID = Grid(writes=(3,), reads=(7,), strengths=(1.0,))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which all were fitted, and answered three test examples."""
    folder = tmp_path_factory.mktemp("results")
    with bench_at(folder) as bench:
        settings = [setting for name in (*NAMES, *BOTH) for setting in bench.candidates(name)]
        bench.answer("test", bench.examples("test"), settings)
    return folder


def bench_at(folder: Path) -> AbstractContextManager[Bench]:
    common, vlm = Common(out=folder, limit=1, batch_size=24), build("tiny-llava")
    return opened(common, "test", vlm, Examples(), EMBEDDED_POPE, GRID, [0])


class Examples(ShapesPope):
    """Enough to train on that the model errs on some; one of each subset elsewhere."""

    def prompts(self, split: Split) -> list[Example]:
        every = super().prompts(split)
        return [replace(example, subset=example.id) for example in every[680:720]] if split == "train" else every


def test_all_answer_every_example_by_one_rule(finished: Path) -> None:
    rows = read_rows(finished)
    for name in NAMES:
        own = [row for row in rows if row["method"] == name]
        assert len(own) == 3, name
        assert all((row["writes"] is None) == (name != "CAST") for row in own)
        assert all((row["reads"] is None) == (name != "CAST") for row in own)


def test_a_resumed_run_goes_on_with_what_was_fitted(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for method in BASELINES:
        monkeypatch.setattr(method, "fit", lambda *args, **how: pytest.fail("it was fitted again"))
    with bench_at(finished) as bench:
        again = {name: bench.candidates(name)[0].steerer for name in NAMES}
        both = bench.candidates("L2SWithPAI")[0].steerer
    assert [type(again[name]) for name in NAMES] == [*BASELINES]
    assert isinstance(both, L2SWithPAI)
    assert [type(part).__name__ for part in both.parts] == ["L2S", "PAI"]
    cast = again["CAST"]
    assert isinstance(cast, CAST)
    assert {(condition.pool, condition.block) for condition in cast.conditions} == {("text", 7)}


def test_all_is_every_name() -> None:
    every = methods_of(Arguments(methods=("all",)))
    assert every == (*STEERING, *NAMES, *BOTH, "LogitThreshold")
    assert methods_of(Arguments(methods=("PAI",))) == ("PAI",)
    with pytest.raises(ValueError, match="PAY"):
        methods_of(Arguments(methods=("PAY",)))


def test_the_default_set_stays() -> None:
    assert not {*NAMES, *BOTH} & set(Arguments().methods)
    assert set(METHODS) == {*STEERING, *NAMES, *BOTH}


def test_what_a_study_must_know_of_them() -> None:
    assert all(adds(method) and not needs_vectors(method) for method in BASELINES)
    assert [method.__name__ for method in BASELINES if reads_context(method) or at_one_block(method)] == ["CAST"]
    assert [method.__name__ for method in BASELINES if seeded(method)] == ["RandomHeads", "VCD"]
    assert [m.__name__ for m in BASELINES if in_replies_alone(m)] == ["ITI", "PAI", "ADHH", "RandomHeads"]


def test_heads_are_judged_where_the_model_says_yes() -> None:
    vlm, task = build("tiny-llava"), TASKS["shapes_pope"]()
    examples = task.prompts("train")[:60]
    said = first_words(vlm, task, examples, 32, places=3)
    target = {id(example.prompt): example.target for example in examples}
    assert {one.wrong for one in said} <= {True, False}
    assert sum(one.wrong for one in said) <= 3
    assert all((target[id(one.prompt)] == "no") == one.wrong for one in said), "a yes is wrong where no is right"
