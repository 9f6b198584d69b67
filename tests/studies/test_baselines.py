"""The other systems in the main study: fitted from what each learns from, chosen by the same rule, kept and resumed."""

from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from methods import BASELINES, CAST, COMBINED, EXTENSIONS, L2S, L2SGated, L2SLayers, L2SWithPAI
from studies.compare import Arguments, compare, methods_of
from studies.fit.fitting import METHODS, STEERING
from studies.fit.materials import first_words
from studies.fit.method_traits import (
    adds,
    at_one_block,
    built_on_l2s,
    in_replies_alone,
    needs_vectors,
    reads_context,
    seeded,
)
from studies.fit.selection import Grid
from studies.recipes.named import EMBEDDED_POPE
from studies.run.arguments import Common
from studies.run.bench import Bench, opened
from studies.run.results import read_rows
from studies.tasks import TASKS, Example, Split
from studies.tasks.shapes_pope import ShapesPope
from tests.property.reference import bitwise
from tests.tiny_models import build

pytestmark = pytest.mark.slow

NAMES = tuple(method.__name__ for method in BASELINES)
BOTH = tuple(method.__name__ for method in COMBINED)
MORE = tuple(method.__name__ for method in EXTENSIONS)
GRID = Grid(writes=(3,), reads=(7,), strengths=(1.0,))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which all were fitted, and answered three test examples."""
    folder = tmp_path_factory.mktemp("results")
    with bench_at(folder) as bench:
        settings = [setting for name in (*NAMES, *MORE, *BOTH) for setting in bench.candidates(name)]
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
    for method in (*BASELINES, *EXTENSIONS):
        monkeypatch.setattr(method, "fit", lambda *args, **how: pytest.fail("it was fitted again"))
    with bench_at(finished) as bench:
        again = {name: bench.candidates(name)[0].steerer for name in NAMES}
        both, network = (bench.candidates(name)[0].steerer for name in ("L2SWithPAI", "L2S"))
        gated, layered = (bench.candidates(name)[0].steerer for name in MORE)
    assert [type(again[name]) for name in NAMES] == [*BASELINES]
    assert isinstance(network, L2S)
    assert isinstance(gated, L2SGated)
    bitwise(gated.network.decoder_weight, network.decoder_weight)
    assert isinstance(layered, L2SLayers)
    assert (layered.blocks, layered.writes) == ((2, 3, 4), 3)
    assert isinstance(both, L2SWithPAI)
    assert [type(part).__name__ for part in both.parts] == ["L2S", "PAI"]
    cast = again["CAST"]
    assert isinstance(cast, CAST)
    assert {(condition.pool, condition.block) for condition in cast.conditions} == {("text", 7)}


def test_all_is_every_name() -> None:
    every = methods_of(Arguments(methods=("all",)))
    assert every == (*STEERING, *NAMES, *MORE, *BOTH, "LogitThreshold")
    assert methods_of(Arguments(methods=("PAI",))) == ("PAI",)
    with pytest.raises(ValueError, match="PAY"):
        methods_of(Arguments(methods=("PAY",)))


def test_the_default_set_stays() -> None:
    assert not {*NAMES, *MORE, *BOTH} & set(Arguments().methods)
    assert set(METHODS) == {*STEERING, *NAMES, *MORE, *BOTH}


def test_what_a_study_must_know_of_them() -> None:
    assert all(adds(method) and not needs_vectors(method) for method in BASELINES)
    assert [method.__name__ for method in BASELINES if reads_context(method) or at_one_block(method)] == ["CAST"]
    assert [method.__name__ for method in BASELINES if seeded(method)] == ["RandomHeads", "VCD"]
    assert [m.__name__ for m in BASELINES if in_replies_alone(m)] == ["ITI", "PAI", "ADHH", "RandomHeads"]


def test_heads_are_judged_where_the_model_says_yes() -> None:
    vlm, task = build("tiny-llava"), TASKS["shapes_pope"]()
    examples = task.prompts("train")[:60]
    replies = vlm.generate([example.prompt for example in examples], max_new_tokens=task.max_new_tokens)
    said = first_words(zip(examples, map(task.parse, replies), strict=True), places=3)
    target = {id(example.prompt): example.target for example in examples}
    assert {one.wrong for one in said} <= {True, False}
    assert sum(one.wrong for one in said) <= 3
    assert all((target[id(one.prompt)] == "no") == one.wrong for one in said), "a yes is wrong where no is right"


def test_what_is_built_on_l2s_is_tried_at_its_layers(tmp_path: Path) -> None:
    named = ("NoSteering", "L2S", *MORE)
    compare(Arguments(out=tmp_path, methods=named, limit=6, screen=3, shown=1, seeds=1, strength=(0.5, 1.0)))
    rows = [row for row in read_rows(tmp_path) if row["split"] == "val"]
    layers = {name: {(row["reads"], row["writes"]) for row in rows if row["method"] == name} for name in named}
    assert len(layers["L2S"]) == 4
    assert all(layers[name] < layers["L2S"] and len(layers[name]) == 1 for name in MORE)
    assert all(built_on_l2s(METHODS[name]) for name in (*MORE, *BOTH))
    assert not any(built_on_l2s(METHODS[name]) for name in (*STEERING, *NAMES))
