"""What a study starts from: the right recipe, the data that its folder is of, and every method on equal terms."""

import json
import subprocess
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from rich.progress import Progress

from interv import VLM
from methods import L2S, P2S, MeanSteering, NormRnd, NoSteering, Query, capture_contrasts
from methods.contrasts import shards as stores
from studies.compare import Arguments, compare
from studies.fit.fitting import STEERING
from studies.fit.method_traits import adds, needs_vectors, reads_context, seeded
from studies.fit.selection import Grid
from studies.fit.setting import Setting
from studies.judges import LlamaGuard
from studies.recipes.named import CODE_SAFETY_LLAVA, EMBEDDED_POPE
from studies.run import provenance
from studies.run.answer import answer
from studies.run.arguments import Common
from studies.run.bench import opened
from studies.run.results import Results, read_rows
from studies.run.work import own_vectors
from studies.tasks import TASKS
from studies.tasks.shapes_pope import ShapesPope
from studies.tasks.shapes_safety import ShapesSafety
from tests.studies.guards import save_guard

SMALL = Arguments(methods=("NoSteering", "MeanSteering"), strength=(0.5,), limit=2, screen=1, shown=1, seeds=1)


class Mine(ShapesPope):
    name = "mine"


@dataclass(frozen=True, eq=False)
class Doubled(MeanSteering):
    """A method of one's own."""

    reads_context: ClassVar[bool] = False


@pytest.mark.slow
def test_a_task_and_a_method_of_ones_own_take_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, "mine", Mine)
    monkeypatch.setitem(STEERING, "Doubled", Doubled)
    records = compare(replace(SMALL, task="mine", methods=("NoSteering", "Doubled"), out=tmp_path))
    assert {(r["task"], r["method"]) for r in records} == {("mine", "NoSteering"), ("mine", "Doubled")}
    assert json.loads((tmp_path / "recipe.json").read_text())["settings"]["recipe"]["name"] == "default_mine"


def test_what_a_method_needs_is_known_of_the_shipped_ones_and_has_defaults() -> None:
    assert [name for name, method in STEERING.items() if reads_context(method)] == ["L2S"]
    assert [name for name, method in STEERING.items() if needs_vectors(method)] == ["P2S"]
    assert [name for name, method in STEERING.items() if seeded(method)] == ["NormRnd", "L2S"]
    assert [name for name, method in STEERING.items() if not adds(method)] == ["NoSteering", "PromptSteering"]
    own = type("Own", (L2S.__base__,), {"fit": classmethod(lambda cls, train: cls), "ops": None})
    assert (reads_context(own), needs_vectors(own), seeded(own), adds(own)) == (True, False, False, True)
    assert not reads_context(Doubled)
    assert {L2S, P2S, NormRnd, NoSteering} < {*STEERING.values()}


class Repaired(ShapesPope):
    """One training example less: what a repaired image does to a data folder."""

    def prompts(self, split):
        return super().prompts(split)[1 if split == "train" else 0 :]


@pytest.mark.slow
def test_data_that_changed_is_refused_by_the_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compare(replace(SMALL, out=tmp_path))
    before = (tmp_path / "rows.jsonl").read_bytes()
    monkeypatch.setitem(TASKS, "shapes_pope", Repaired)
    with pytest.raises(ValueError, match=r"examples\.train: '1,020, hash \w+' there, '1,019, hash \w+' now") as error:
        compare(replace(SMALL, out=tmp_path))
    assert "examples.test" not in str(error.value)
    assert (tmp_path / "rows.jsonl").read_bytes() == before


@pytest.fixture(scope="module")
def tiny() -> VLM:
    return VLM.load("tiny-llava")


GRID = Grid((3,), (6,), (1.0,))


def bench_at(folder: Path, vlm: VLM, task: Any = None, limit: int | None = 4, **recipe: Any) -> Any:
    common = Common(out=folder, limit=limit, batch_size=16)
    return opened(common, "test", vlm, task or ShapesPope(), replace(EMBEDDED_POPE, **recipe), GRID, [0])


def test_contrasts_of_other_examples_are_not_used(tmp_path: Path, tiny: VLM) -> None:
    with bench_at(tmp_path, tiny) as bench:
        kept = bench.contrasts("train")
        assert not list((tmp_path / "contrasts").glob("train-*"))
        assert replace(bench, _made={}).contrasts("train").id == kept.id
        less = {("examples", "train"): bench.examples("train")[1:]}
        with pytest.raises(ValueError, match=r"are of other examples; 1 differ \(train-random-0000\)"):
            replace(bench, _made=less).contrasts("train")


def test_rows_of_examples_that_are_no_more_are_left_out(tmp_path: Path, tiny: VLM) -> None:
    with bench_at(tmp_path, tiny, limit=2) as bench:
        bench.answer("val", bench.examples("val"), bench.candidates("NoSteering"))
        gone = read_rows(tmp_path)[0] | {"id": "val-gone"}
        bench.results.append([gone])
        assert "val-gone" not in {row["id"] for row in bench.rows("val")}
        assert len(bench.rows("val")) == 6


@pytest.mark.slow
def test_a_killed_capture_goes_on_and_gives_what_an_undisturbed_one_does(
    tmp_path: Path, tiny: VLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "SHARD_BYTES", 1)  # a shard a batch
    written, write = [], stores.Store.write

    def twice(self: Any, number: int, *parts: Any) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(number)
        write(self, number, *parts)

    with bench_at(tmp_path / "whole", tiny, limit=8) as bench:
        whole = bench.contrasts("train")
    with bench_at(tmp_path / "cut", tiny, limit=8) as bench:
        with monkeypatch.context() as patch:
            patch.setattr(stores.Store, "write", twice)
            with pytest.raises(KeyboardInterrupt):
                bench.contrasts("train")
        rest: list[int] = []
        monkeypatch.setattr(stores.Store, "write", lambda self, n, *parts: rest.append(n) or write(self, n, *parts))
        again = bench.contrasts("train")
    assert written == [0, 1]
    assert rest == [2]
    assert again.id == whole.id
    assert torch.equal(again.context, whole.context)
    assert torch.equal(again.positive, whole.positive)


def test_a_captures_bar_moves_within_a_shard(tmp_path: Path, tiny: VLM, monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[float] = []
    monkeypatch.setattr(Progress, "advance", lambda self, task, done=1: moved.append(done))
    pairs = ShapesPope().pairs("train")[:7]
    for out in (None, tmp_path / "shards"):
        moved.clear()
        capture_contrasts(tiny, pairs, batch_size=3, layers=[3], out=out)
        assert [done for done in moved if done] == [3, 3, 1]


def test_a_resumed_run_goes_on_with_the_networks_that_were_fitted(
    tmp_path: Path, tiny: VLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bench_at(tmp_path, tiny) as bench:
        fitted = {name: bench.candidates(name)[0].steerer for name in STEERING}
        other = bench.fit("L2S", 6, 3, 1).steerer
    for place in ("fit_together", "Fits._fit"):
        monkeypatch.setattr(f"studies.fit.fitting.{place}", lambda *args, **how: pytest.fail("it was fitted again"))
    with bench_at(tmp_path, tiny) as bench:
        for name, steerer in fitted.items():
            again = bench.candidates(name)[0].steerer
            assert type(again) is type(steerer)
            for field in fields(steerer):
                ours, theirs = getattr(again, field.name), getattr(steerer, field.name)
                assert torch.equal(ours, theirs) if isinstance(theirs, torch.Tensor) else ours == theirs
        assert torch.equal(bench.fit("L2S", 6, 3, 1).steerer.decoder_weight, other.decoder_weight)
    assert not list((tmp_path / "fits").rglob("*.partial"))


@pytest.mark.slow
def test_the_oracle_adds_what_l2s_learns_to_predict(tmp_path: Path, tiny: VLM) -> None:
    recipe = CODE_SAFETY_LLAVA.embedded("shapes_safety", "tiny-llava", tiny.d_model)
    common = Common(out=tmp_path, limit=6, batch_size=16)
    with opened(common, "test", tiny, ShapesSafety(), recipe, GRID, [0]) as bench:
        contrasts = bench.targets("val", 6, 3)
        norms = {kind: [] for kind in ("harmful", "consultation")}
        chunk = bench.examples("val")
        own = own_vectors(lambda reads, writes: bench.targets("val", reads, writes), chunk, P2S(6, 3, ""))
        for example, vector in zip(chunk, own, strict=True):
            if example.behavior in norms:
                norms[example.behavior].append(float(vector.norm()))
        means = [sum(values) / len(values) for values in norms.values()]
        assert means[0] == pytest.approx(means[1], rel=1e-4)
        assert contrasts.scale is not None
        seen = []
        kept, steerer = P2S.ops, bench.fit("P2S", 6, 3, 0).steerer
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(P2S, "ops", lambda self, query, s=1.0: seen.append(query) or kept(self, query, s))
            bench.answer("val", chunk, [Setting(steerer, 1.0)])
        torch.testing.assert_close(torch.cat([query.vectors for query in seen]), own)
        assert isinstance(seen[0], Query)


def test_the_guard_decides_and_judges_are_recorded(tmp_path: Path, tiny: VLM) -> None:
    class Judged(ShapesPope):
        def __init__(self, guard: LlamaGuard | None, *judges: Any) -> None:
            self.panel = SimpleNamespace(guard=guard, judges=judges)

    guard = LlamaGuard(str(save_guard(tmp_path / "guard")))
    out, judge = tmp_path / "out", SimpleNamespace(name="large", version="2")
    with bench_at(out, tiny, Judged(guard, judge)):
        recipe = json.loads((out / "recipe.json").read_text())
    assert recipe["judges"] == [{"name": "large", "version": "2"}]
    assert recipe["settings"]["guard"]["form"] == "published"
    with bench_at(out, tiny, Judged(guard)):  # other judges rate what is there
        pass
    for other in (None, replace_form(guard)):
        with pytest.raises(ValueError, match="guard"), bench_at(out, tiny, Judged(other)):
            pass


def replace_form(guard: LlamaGuard) -> LlamaGuard:
    return LlamaGuard(guard.name, form="documented")


def test_ids_that_look_alike_as_files_keep_their_own_pictures(tmp_path: Path, tiny: VLM) -> None:
    task = ShapesPope()
    one, other = task.prompts("val")[:2]
    examples = [replace(one, id="a/b"), replace(other, id="a-b")]
    with Results.open(tmp_path, {}) as results:
        settings = [Setting(NoSteering(3, 3, ""))]
        answer(tiny, task, "val", examples, settings, results, pictured=frozenset(("a/b", "a-b")))
    names = {row["image"] for row in read_rows(tmp_path)}
    assert len(names) == 2
    assert len({(tmp_path / name).read_bytes() for name in names}) == 2
    assert not list((tmp_path / "images").glob("*.partial"))


def test_the_commit_is_this_packages_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    user = ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "theirs"]
    subprocess.run(["git", "-C", tmp_path, *user], check=True)
    (tmp_path / "site-packages").mkdir()
    monkeypatch.setattr(provenance, "ROOT", tmp_path / "site-packages")
    assert provenance.commit() is None
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    assert len(str(provenance.commit())) >= 40
