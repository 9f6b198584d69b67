"""The report in a real browser: nothing in the console, filters that filter, and no page wider than a phone."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from studies.measure import YES_NO, table
from studies.report.page import write_report
from tests.studies.test_report import HOSTILE, make_folder, make_rows

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OFFLINE = ("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic")
PHONE, DESK = 390, 1280

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium")

# A page around the report, in frames as wide as a phone and a desk. It picks every option of every filter in turn, and
# leaves what it saw as its only text.
AROUND = """<!doctype html><meta charset="utf-8">{frames}<script>
addEventListener("load", () => {{
  const seen = [...document.querySelectorAll("iframe")].map((frame) => {{
    const page = frame.contentDocument, root = page.documentElement;
    const visible = () => [...page.querySelectorAll("article")].filter((one) => one.offsetHeight > 0).length;
    const pick = (select, value) => {{
      select.value = value;
      select.dispatchEvent(new Event("change", {{ bubbles: true }}));
      return [visible(), page.querySelector("output").value];
    }};
    const shown = {{ all: visible() }};
    for (const select of page.querySelectorAll("select")) {{
      for (const {{ value }} of select.options) if (value) shown[`${{select.name}}=${{value}}`] = pick(select, value);
      pick(select, "");
    }}
    const cut = [...page.querySelectorAll(".wide:has(table)")].map((box) => box.scrollWidth - box.clientWidth);
    return {{ view: root.clientWidth, wide: root.scrollWidth, cut: Math.max(...cut), shown }};
  }});
  document.body.textContent = JSON.stringify(seen);
}});
</script>"""


def browsed(file: Path, folder: Path) -> tuple[str, list[str]]:
    """The page's text once its scripts have run, and what the browser had to say of it."""
    options = (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--hide-scrollbars",
        *OFFLINE,
        "--enable-logging=stderr",
    )
    command = [CHROMIUM, *options, f"--user-data-dir={folder}", "--virtual-time-budget=10000", "--dump-dom", str(file)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=180)
    return ran.stdout, [line for line in ran.stderr.splitlines() if "CONSOLE" in line]


def looked_at(page: Path, folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """What a phone and a desk show of the report."""
    source = html.escape(page.read_text(encoding="utf-8"))
    frames = "".join(f'<iframe width="{width}" height="900" srcdoc="{source}"></iframe>' for width in (PHONE, DESK))
    around = folder / "around.html"
    around.write_text(AROUND.format(frames=frames), encoding="utf-8")
    text, console = browsed(around, folder / "profile")
    return json.loads(re.search(r"<body>(.*)</body>", text, re.DOTALL)[1]), console


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with long names, wide tables, curves and foreign text."""
    rows = make_rows(hostile=f"{HOSTILE} {'unbroken' * 20}")
    rows += [row | {"variant": f"contexts={'standardised, ' * 3}relu"} for row in rows if row["method"] == "L2S"]
    folder = make_folder(tmp_path_factory.mktemp("study"), rows)
    steered = [row | {"strength": s} for row in rows for s in (0.1, 1.0) if row["method"] == "L2S"]
    curves = table(steered, YES_NO, resamples=20)
    return write_report(folder, f"A study {'unbroken' * 20}", metric="accuracy", curves=curves)


def test_the_page_fits_a_phone_and_its_filters_narrow_the_replies(report: Path, tmp_path: Path) -> None:
    seen, console = looked_at(report, tmp_path)
    assert console == []
    for frame in seen:
        assert frame["wide"] == frame["view"]
        shown = frame["shown"]
        assert shown.pop("all") == 12
        counts = {name: visible for name, (visible, _) in shown.items() if "behavior" not in name}
        # L2S, P2S make six wrong answers right; L2S leaves the first as it was, which was wrong.
        wanted = {"subset=popular": 6, "subset=random": 6}
        assert counts == wanted | {"effects=changed": 6, "effects=corrected": 6, "effects=harmed": 0}
        assert all(said == f"{visible} of 12 shown" for visible, said in shown.values())
    assert [frame["view"] for frame in seen] == [PHONE, DESK]
    assert seen[1]["cut"] == 0


def test_a_script_that_the_page_does_not_know_is_refused(report: Path, tmp_path: Path) -> None:
    altered = tmp_path / "altered.html"
    altered.write_text(report.read_text(encoding="utf-8").replace("form.hidden = false;", "form.hidden = !1;"))
    text, console = browsed(altered, tmp_path / "profile")
    assert any("Content Security Policy" in line for line in console)
    assert 'class="filters" hidden' in text
