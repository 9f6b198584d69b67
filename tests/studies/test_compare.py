"""The main study, small: its files, its rule, its resuming and its refusals."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from interv import VLM, Prompt
from methods import ContrastPair
from studies.compare import Arguments, compare
from studies.fit.controls import LogitThreshold, answer_words, is_yes_no
from studies.fit.selection import Choice, finalists, ranked, winners
from studies.measure import accuracy, estimate
from studies.recipes import RECIPES
from studies.report.conclusion import tell
from studies.run.answer import readable
from studies.run.results import Results, read_rows
from studies.tasks import TASKS
from studies.tasks.shapes_pope import ShapesPope

SMALL = Arguments(
    methods=("NoSteering", "PromptSteering", "MeanSteering", "L2S", "P2S", "LogitThreshold", "ConstantDirection"),
    strength=(0.5, 2.0),
    limit=4,
    screen=2,
    seeds=2,
    shown=1,
    batch_size=32,
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results") / "pope"
    compare(replace(SMALL, out=folder))
    return folder


def by_key(rows: list[dict]) -> dict:
    return {(r["method"], r["strength"], r["reads"], r["writes"], r["seed"], r["split"], r["id"]): r for r in rows}


def test_a_study_leaves_all_its_files(finished: Path) -> None:
    for name in ("recipe.json", "rows.jsonl", "table.json", "table.md", "choices.json", "report.html"):
        assert (finished / name).stat().st_size > 0, name
    assert list((finished / "figures").glob("*.png"))
    assert (finished / "steerers" / "L2S" / "steerer.safetensors").exists()


def test_every_row_has_the_agreed_fields(finished: Path) -> None:
    fields = {"id", "task", "split", "subset", "behavior", "method", "strength", "reads", "writes", "seed"}
    fields |= {"question", "target", "reply", "parsed"}
    rows = read_rows(finished)
    assert all(fields <= row.keys() for row in rows)
    assert {row["split"] for row in rows} == {"val", "test"}


def test_every_method_answers_every_test_example_once_a_seed(finished: Path) -> None:
    rows = [row for row in read_rows(finished) if row["split"] == "test"]
    for method in SMALL.methods:
        own = [row for row in rows if row["method"] == method]
        assert len(own) == 12 * (2 if method == "L2S" else 1), method
        assert len({(row["strength"], row["reads"], row["writes"]) for row in own}) == 1


def test_test_settings_are_those_chosen_on_validation(finished: Path) -> None:
    chosen = {choice["method"]: choice for choice in json.loads((finished / "choices.json").read_text())}
    for row in read_rows(finished):
        if row["split"] == "test" and row["method"] in chosen:
            assert all(row[name] == chosen[row["method"]][name] for name in ("strength", "reads", "writes"))


def test_table_holds_both_controls_and_paired_differences(finished: Path) -> None:
    table = json.loads((finished / "table.json").read_text())
    whole = {r["method"]: r for r in table if r["subset"] == "all" and r["metric"] == "accuracy"}
    assert set(SMALL.methods) == set(whole)
    assert whole["NoSteering"]["difference"] == 0
    assert all(record["difference_low"] is not None for record in whole.values())


def test_intervals_of_a_method_of_several_seeds_hold_its_seeds(finished: Path) -> None:
    table = json.loads((finished / "table.json").read_text())
    (record,) = (r for r in table if (r["method"], r["subset"], r["metric"]) == ("L2S", "all", "accuracy"))
    rows = [row for row in read_rows(finished) if (row["split"], row["method"]) == ("test", "L2S")]
    expected = estimate(rows, [accuracy])[0]
    assert (record["low"], record["high"], record["seeds"]) == (expected["low"], expected["high"], 2)
    assert "over seeds" in (finished / "table.md").read_text()


def test_curves_are_of_the_screened_examples_alone(finished: Path) -> None:
    curves = json.loads((finished / "curves.json").read_text())
    whole = [record for record in curves if (record["subset"], record["metric"]) == ("all", "accuracy")]
    assert {record["n"] for record in whole} == {SMALL.screen * 3}
    assert {record["method"] for record in whole} == {*SMALL.methods} - {"LogitThreshold"}


def test_the_console_has_the_first_table_and_a_path_to_copy(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file, page = tmp_path / "table.md", tmp_path / ("long" * 20) / "run [1]" / "report.html"
    file.write_text("# title\n\nfound [0.1 to 0.2]\n\n## accuracy\n\n| 1 |\n\n## recall\n\n| 2 |\n")
    tell(file, page)
    said = capsys.readouterr().out
    assert said.startswith("# title\n\nfound [0.1 to 0.2]\n\n## accuracy\n\n| 1 |\n")
    assert "recall" not in said
    assert said.splitlines()[-1] == f"Table, figures and page are in {page}"


@pytest.mark.slow
def test_a_run_cut_at_any_line_resumes_to_the_same_rows(finished: Path, tmp_path: Path) -> None:
    whole = (finished / "rows.jsonl").read_bytes().splitlines(keepends=True)
    cut = tmp_path / "cut"
    cut.mkdir()
    (cut / "recipe.json").write_bytes((finished / "recipe.json").read_bytes())
    (cut / "rows.jsonl").write_bytes(b"".join(whole[: len(whole) // 3]) + whole[-1][:20])
    compare(replace(SMALL, out=cut))
    rows = read_rows(cut)
    assert len(by_key(rows)) == len(rows)
    differing = {
        k for k, row in by_key(rows).items() if {**row, "image": ""} != {**by_key(read_rows(finished))[k], "image": ""}
    }
    assert not differing
    assert len(rows) == len(whole)


def test_a_folder_with_another_recipe_is_refused(finished: Path) -> None:
    before = (finished / "rows.jsonl").read_bytes()
    with pytest.raises(ValueError, match="limit: 4 there, 3 now"):
        compare(replace(SMALL, out=finished, limit=3))
    assert (finished / "rows.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "pop"}, "'pop' is no task; there are shapes_pope"),
        ({"model": "tiny-lava"}, "'tiny-lava' is no model"),
        ({"methods": ("L2",)}, "'L2' is no method; there are NoSteering"),
        ({"recipe": "papr"}, "'papr' is no recipe; there are paper_pope_llava"),
    ],
)
def test_unknown_names_are_refused_with_what_exists(change: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        compare(replace(SMALL, out=tmp_path / "x", **change))


def test_an_unreadable_image_is_skipped_by_id_and_counted(tmp_path: Path) -> None:
    example = TASKS["shapes_pope"]().prompts("val")[0]
    broken = replace(example, id="broken", prompt=replace(example.prompt, image=tmp_path / "no.png"))
    with Results.open(tmp_path / "out", {}) as results:
        assert readable([example, broken], results) == [example]
        assert "no.png" in results.skipped["broken"]


def rows_of(method: str, strength: float, accuracies: list[bool], valid: list[bool]) -> list[dict]:
    return [
        {"id": str(i), "subset": "s", "method": method, "strength": strength, "reads": None, "writes": 3, "seed": 0}
        | {"target": "yes", "parsed": "yes" if right else "no", "valid": ok, "reply": "", "question": ""}
        for i, (right, ok) in enumerate(zip(accuracies, valid, strict=True))
    ]


def test_the_choice_keeps_the_quality_budget_before_it_maximises() -> None:
    task = TASKS["shapes_pope"]()
    rows = rows_of("NoSteering", 0.0, [False] * 10, [True] * 10)
    rows += rows_of("L2S", 1.0, [True] * 6 + [False] * 4, [True] * 9 + [False])  # 90% well-formed: within
    rows += rows_of("L2S", 2.0, [True] * 10, [True] * 8 + [False] * 2)  # better, but 80% well-formed
    best = winners(ranked(rows, task))["L2S"]
    assert (best.strength, best.objective, best.valid) == (1.0, 0.6, 0.9)


def test_of_equal_settings_the_weaker_is_chosen() -> None:
    rows = [row for strength in (3.0, 0.5, 2.0) for row in rows_of("L2S", strength, [True] * 4, [True] * 4)]
    assert winners(ranked(rows, TASKS["shapes_pope"]()))["L2S"].strength == 0.5


def test_three_finalists_a_method() -> None:
    choices = [Choice(method, s, None, 3, 0.0, 1.0) for s in (1.0, 2.0, 3.0, 4.0) for method in ("A", "B")]
    assert [c.strength for c in finalists(choices) if c.method == "A"] == [1.0, 2.0, 3.0]


def test_controls_are_left_out_where_answers_are_not_yes_and_no() -> None:
    assert is_yes_no(TASKS["shapes_pope"]())
    assert not is_yes_no(TASKS["shapes_safety"]())


@pytest.mark.slow
def test_a_setting_that_was_not_chosen_is_not_in_the_table(finished: Path, tmp_path: Path) -> None:
    """As another guard's choice would leave it among the test rows."""
    out = tmp_path / "again"
    shutil.copytree(finished, out)
    before = json.loads((out / "table.json").read_text())
    other = [row | {"strength": 9.0} for row in read_rows(out) if (row["split"], row["method"]) == ("test", "L2S")]
    with (out / "rows.jsonl").open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in other)
    compare(replace(SMALL, out=out))
    assert json.loads((out / "table.json").read_text()) == before


def test_the_threshold_answers_in_the_words_that_the_task_forces() -> None:
    class Cased(ShapesPope):
        """As POPE's recipes force it."""

        def pairs(self, split: str) -> list[ContrastPair]:
            asked = Prompt(None, "?")
            forced = [("yes", "Yes, the image"), ("no", "No")]
            return [ContrastPair(asked, replace(asked, answer=a), asked, behavior) for behavior, a in forced]

    assert answer_words(Cased()) == ("Yes", "No")
    assert answer_words(TASKS["shapes_pope"]()) == ("yes", "no")
    vlm = VLM.load("tiny-llava")
    prompts = [example.prompt for example in TASKS["shapes_pope"]().prompts("val")[:2]]
    control = LogitThreshold.fit(vlm, prompts, ["yes", "no"], words=("no", "yes"))
    plain = LogitThreshold.fit(vlm, prompts, ["yes", "no"])
    assert (control.yes_id, control.no_id) == (plain.no_id, plain.yes_id)
    assert set(control.answers(vlm, prompts)) <= {"no", "yes"}


@pytest.mark.slow
def test_the_threshold_samples_where_the_recipe_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    generate = VLM.generate
    monkeypatch.setattr(VLM, "generate", lambda *args, **how: asked.append(how) or generate(*args, **how))
    sampled = replace(RECIPES["embedded_pope"], name="sampled", sampled=True)
    monkeypatch.setitem(RECIPES, "sampled", sampled)
    compare(replace(SMALL, out=tmp_path, recipe="sampled", methods=("NoSteering", "LogitThreshold"), limit=2))
    assert asked
    assert all(how["do_sample"] for how in asked)
