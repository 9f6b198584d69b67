"""Laws of the report: it says what the table says, needs nothing but itself, and foreign text stays text."""

import json
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_rgba
from PIL import Image

from studies.measure import YES_NO, table
from studies.report.figures import style as figures
from studies.report.figures.picture import comparison_picture
from studies.report.page import write_report
from studies.report.replies import data_uri, effects, entries, sample
from studies.report.tables import safe
from studies.run.results import Results

HOSTILE = "<script>alert(1)</script> | [x](javascript:y) `z` \"'><img src=//evil.example/a.png onerror=alert(2)>"
METHODS = {"NoSteering": "yes", "L2S": None, "P2S": None, "LogitThreshold": "no"}


def make_rows(count=12, hostile="", image=""):
    """NoSteering always says yes, the threshold always no, L2S and P2S are right but for example 0 of L2S."""
    rows = []
    for index in range(count):
        target = "yes" if index % 2 else "no"
        for method, constant in METHODS.items():
            parsed = constant or ("yes" if (method, index) == ("L2S", 0) else target)
            rows.append(
                {
                    "id": f"test/{index:02}",
                    "task": "shapes_pope",
                    "split": "test",
                    "subset": ("random", "popular")[index % 2],
                }
                | {"behavior": f"kind {hostile}", "method": method, "strength": 1.0, "reads": 6, "writes": 4, "seed": 0}
                | {"question": f"is there a cup ? {hostile}", "target": target, "reply": f"{parsed} . {hostile}"}
                | {"parsed": parsed, "valid": True, "image": image}
            )
    return rows


def make_folder(folder, rows, skipped=True):
    with Results.open(folder, {"model": "tiny-llava", "note": HOSTILE}, seeds=[0]) as results:
        name = results.save_image("scene", Image.new("RGB", (48, 48), "teal"))
        results.append([row | {"image": name} for row in rows])
        if skipped:
            results.skip("test/99", f"unreadable {HOSTILE}")
        results.write("table.json", table(rows, YES_NO, skipped=len(results.skipped), resamples=50))
    return folder


class Page(HTMLParser):
    """Every element's name and attributes, and the text between them."""

    def __init__(self, source):
        super().__init__()
        self.elements, self.text = [], ""
        self.feed(source)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = make_folder(tmp_path_factory.mktemp("study"), make_rows(hostile=HOSTILE))
    return Page(write_report(folder, f"A study {HOSTILE}", metric="accuracy").read_text())


def test_the_page_makes_no_request(page):
    for tag, attributes in page.elements:
        assert tag not in {"iframe", "object", "embed", "base"}
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            assert attributes.get(name, "data:").startswith("data:"), (tag, attributes)
    style = page.text[: page.text.index("A study", 20)]
    assert "url(" not in style
    assert "@import" not in style
    assert any("default-src 'none'" in attributes.get("content", "") for _, attributes in page.elements)


def test_foreign_text_is_shown_and_never_run(page):
    assert sum(tag == "script" for tag, _ in page.elements) == 1
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    # Title, questions, replies, the recipe and reasons for skipping all hold it.
    assert page.text.count("<script>alert(1)</script>") > 2 * 12 + 3


def test_every_sampled_input_shows_every_method_with_a_mark_in_words(page):
    articles = [attributes for tag, attributes in page.elements if tag == "article"]
    assert len(articles) == 12
    assert len(re.findall("✓ right|✗ wrong", page.text)) == 12 * len(METHODS)
    assert [article["data-effects"] for article in articles].count("changed corrected") == 6
    assert {article["data-subset"] for article in articles} == {"random", "popular"}
    assert "1 skipped item" in page.text
    images = [a for tag, a in page.elements if tag == "img" and a.get("alt", "").startswith("the image of")]
    assert len(images) == 12


def test_without_scripts_the_list_is_whole_and_the_filters_are_away(page):
    assert [a for tag, a in page.elements if tag == "form"] == [{"class": "filters", "hidden": None}]
    assert not any("hidden" in attributes for tag, attributes in page.elements if tag == "article")


def test_markdown_has_the_tables_and_no_foreign_markup(tmp_path):
    rows = [row | {"subset": f"{row['subset']} | <b> [x](y) *z*"} for row in make_rows()]
    write_report(make_folder(tmp_path, rows, skipped=False), "A | <i>study</i>", metric="f1")
    text = (tmp_path / "table.md").read_text()
    assert text.index("## f1") < text.index("## accuracy")
    assert "Skipped items: 0" in text
    assert "<b>" not in text
    assert "<i>" not in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == len(YES_NO) * (2 + len(METHODS))
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {9}


@settings(max_examples=80, deadline=None)
@given(st.text(max_size=60))
def test_markdown_text_stays_one_line_and_one_cell(text):
    shown = safe(text)
    assert len(shown.splitlines()) <= 1
    bare = re.sub(r"\\.", "", shown)
    assert not set(bare) & set("|<>`*[]~")


def test_the_report_is_drawn_again_from_its_files(tmp_path):
    make_folder(tmp_path, make_rows())
    first = write_report(tmp_path, "A study").read_bytes()
    assert write_report(tmp_path, "A study").read_bytes() == first
    assert {file.name for file in (tmp_path / "figures").iterdir()} == {"accuracy.png", "accuracy-dark.png"}


def test_curves_and_further_figures_are_shown(tmp_path):
    make_folder(tmp_path, make_rows())
    rows = [row | {"strength": strength} for row in make_rows() for strength in (0.02, 1.0)]
    curves = table([row for row in rows if row["method"] == "L2S"], YES_NO, resamples=20)
    threshold = [row | {"strength": None} for row in make_rows() if row["method"] == "LogitThreshold"]
    curves += table(threshold, YES_NO, resamples=20)
    extra = figures.save(figures.intervals(curves, "f1"), tmp_path / "extra.png")
    page = Page(
        write_report(
            tmp_path,
            "A study",
            curves=curves,
            curve_metrics=["accuracy", "valid"],
            extra_figures=[(extra, "An extra one.")],
        ).read_text()
    )
    assert sum(tag == "figure" for tag, _ in page.elements) == 3
    assert (tmp_path / "figures" / "strength.png").exists()
    assert "An extra one." in page.text


def test_what_cannot_be_reported_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="run the study to its end"):
        write_report(tmp_path, "A study")
    make_folder(tmp_path, make_rows())
    with pytest.raises(ValueError, match="no metric 'bleu': it has accuracy, precision"):
        write_report(tmp_path, "A study", metric="bleu")


def test_a_sample_is_even_over_subsets_and_blind_to_replies_and_order():
    rows = make_rows(40)
    rows = [row for row in rows if row["subset"] == "random" or row["id"] < "test/12"]
    chosen = sample(rows, 10, seed=3)
    subset = {row["id"]: row["subset"] for row in rows}
    assert [subset[id] for id in chosen].count("random") == 5
    assert chosen == sample([row | {"parsed": "", "reply": ""} for row in rows[::-1]], 10, seed=3)
    assert chosen != sample(rows, 10, seed=4)
    assert sorted(sample(rows, 99)) == sorted(subset)


def test_inputs_whose_image_was_kept_are_the_ones_to_show(tmp_path):
    rows = make_rows()
    Image.new("RGB", (8, 8)).save(tmp_path / "kept.png")
    rows[9]["image"] = "kept.png"
    (entry,) = entries(tmp_path, rows, sample(rows, 5))
    assert entry["id"] == rows[9]["id"]
    assert entry["image"].startswith("data:image/png;base64,")


def test_effects_are_counted_against_the_baseline():
    rows = make_rows() + [row | {"seed": 1, "parsed": ""} for row in make_rows() if row["method"] == "L2S"]
    counts = {effect["method"]: effect for effect in effects(rows)}
    assert list(counts) == ["L2S", "P2S", "LogitThreshold"]
    assert [counts["L2S"][name] for name in ("changed", "corrected", "harmed", "n")] == [5, 5, 0, 12]
    assert [counts["LogitThreshold"][name] for name in ("changed", "corrected", "harmed", "n")] == [12, 6, 6, 12]


def test_a_control_that_changes_an_answer_is_not_steering(tmp_path):
    rows = [row for row in make_rows() if row["method"] in ("NoSteering", "LogitThreshold")]
    assert all(not entry["effects"] for entry in entries(tmp_path, rows, sample(rows, 5)))


def test_only_images_of_the_folder_are_shown(tmp_path):
    folder = tmp_path / "study"
    folder.mkdir()
    Image.new("RGB", (900, 300)).save(folder / "a.png")
    Image.new("RGB", (9, 9)).save(tmp_path / "secret.png")
    (folder / "b.png").write_text("not an image")
    assert data_uri(folder, "a.png").startswith("data:image/jpeg;base64,")
    for name in ("", "../secret.png", str(tmp_path / "secret.png"), "b.png", "none.png", "."):
        assert data_uri(folder, name) == ""


def test_figures_show_every_method_subset_and_undefined_value():
    rows = [row | {"target": "no"} for row in make_rows()]
    records = json.loads(json.dumps(table(rows, YES_NO, resamples=20)).replace("NaN", "null"))
    for theme in (figures.LIGHT, figures.DARK):
        figure = figures.intervals(records, "recall", theme=theme)
        assert figure.get_facecolor() == to_rgba(theme.paper)
        assert [axis.get_title(loc="left") for axis in figure.axes] == ["all", "popular", "random"]
        assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == [
            "NoSteering",
            "L2S",
            "P2S",
            "LogitThreshold",
        ]
    with pytest.raises(ValueError, match="No record of 'bleu'"):
        figures.intervals(records, "bleu")


def test_a_comparison_picture_marks_every_answer_of_one_example():
    rows = [row for row in make_rows(hostile="costs $1 or $2") if row["id"] == "test/00"]
    figure = comparison_picture(rows, Image.new("RGB", (48, 48)))
    texts = [text.get_text() for text in figure.axes[1].texts]
    assert (texts.count("✓"), texts.count("✗")) == (2, 2)
    # A bare pair of dollar signs would be set as a formula.
    assert any(r"costs \$1 or \$2" in text for text in texts)
    figure.canvas.draw()
    with pytest.raises(ValueError, match="shows one example, not 12"):
        comparison_picture(make_rows(), Image.new("RGB", (4, 4)))
