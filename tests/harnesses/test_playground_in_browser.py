"""The playground's page in a real browser: on a desk in the light and on a phone in the dark."""

import base64
import io
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

import pytest
from PIL import Image

from studies.run.checkpoint import Checkpoint

pytest.importorskip("gradio", reason="gradio is not installed: pip install 'interv[playground]'")
pytest.importorskip("playwright", reason="playwright is not installed: pip install playwright")

from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

from interv_cli.playground.offered import Offered, offered
from interv_cli.playground.page import launched, page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium; Debian's package is chromium")

TIMEOUT = 60_000  # milliseconds; a method is fitted when it is first asked for
# Every value that the two replies have on their way, in the order of their growth.
WATCH = """() => {
    window.replies = [];
    setInterval(() => {
        const now = [...document.querySelectorAll('.reply textarea')].map(area => area.value);
        if (JSON.stringify(now) != JSON.stringify(window.replies.at(-1))) window.replies.push(now);
    }, 5);
}"""
# What a finger cannot reach: controls and figures beyond the edge, and pictures that their figure cuts off.
BEYOND = """() => {
    const edge = element => element.getBoundingClientRect().right;
    const all = names => [...document.querySelectorAll(names)];
    const out = all('button, textarea, input, figure').filter(one => edge(one) > innerWidth + 1);
    const cut = all('figure img').filter(one => {
        const figure = one.closest('figure');
        return edge(one) > edge(figure) + 1 && !['auto', 'scroll'].includes(getComputedStyle(figure).overflowX);
    });
    return [...out, ...cut].map(one => one.outerHTML.slice(0, 80));
}"""


@dataclass(frozen=True)
class Screen:
    width: int
    height: int
    looks: Literal["light", "dark"]
    touch: bool


DESK, PHONE = Screen(1280, 900, "light", touch=False), Screen(390, 844, "dark", touch=True)


@dataclass
class Visit:
    """One open page, and what went wrong or went elsewhere while it was."""

    page: Page
    errors: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._said)
        self.page.on("request", self._asked)

    def _said(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(message.text)

    def _asked(self, request: Request) -> None:
        if urlsplit(request.url).scheme in ("http", "https") and urlsplit(request.url).hostname != "127.0.0.1":
            self.elsewhere.append(request.url)

    def replies(self) -> list[str]:
        return [area.input_value() for area in self.page.locator(".reply textarea").all()]


@pytest.fixture(scope="module")
def at_once() -> Offered:
    return offered((), Checkpoint(model="tiny-llava"))


@pytest.fixture(scope="module")
def address(at_once: Offered) -> Iterator[str]:
    shown = page(at_once)
    _, where, _ = launched(shown, prevent_thread_lock=True, quiet=True)
    try:
        yield where
    finally:
        shown.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(params=[DESK, PHONE], ids=["desk-light", "phone-dark"])
def screen(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def visit(browser: Browser, address: str, screen: Screen) -> Iterator[Visit]:
    size = {"width": screen.width, "height": screen.height}
    context = browser.new_context(viewport=size, color_scheme=screen.looks, has_touch=screen.touch)
    context.set_default_timeout(TIMEOUT)
    visit = Visit(context.new_page())
    visit.page.goto(address, wait_until="networkidle")
    yield visit
    context.close()


def test_a_question_is_chosen_asked_answered_and_seen_inside(visit: Visit, at_once: Offered, screen: Screen) -> None:
    prompt = at_once.questions[0]
    visit.page.get_by_text(prompt.question).first.click()
    expect(visit.page.get_by_label("question")).to_have_value(prompt.question)
    visit.page.evaluate(WATCH)
    visit.page.get_by_role("button", name="ask", exact=True).click()
    expect(visit.page.locator(".inside img")).to_have_count(2, timeout=TIMEOUT)

    first = next(iter(at_once.choices))
    ((before, after),) = at_once.steered(first, *at_once.start, at_once.choices[first].strength).replies([prompt])
    assert visit.replies() == [before, after]
    grown = [now for now in visit.page.evaluate("window.replies") if any(now)]
    assert len(grown) > 2, "the replies came at once"
    assert grown[-1] == [before, after]

    assert visit.page.evaluate(BEYOND) == []
    for figure in visit.page.locator(".inside img").all():
        drawn = Image.open(io.BytesIO(base64.b64decode(str(figure.get_attribute("src")).split(",")[1]))).convert("L")
        corner = drawn.getpixel((1, 1))
        assert isinstance(corner, int | float)
        assert (corner < 100) == (screen.looks == "dark"), "a figure is not drawn for the page as it looks"
    assert visit.elsewhere == []
    assert visit.errors == []


def test_another_method_at_another_strength_answers(visit: Visit, at_once: Offered) -> None:
    prompt = at_once.questions[0]
    visit.page.get_by_text(prompt.question).first.click()
    expect(visit.page.get_by_label("question")).to_have_value(prompt.question)
    visit.page.get_by_label("method").click()
    visit.page.get_by_role("option", name="MeanSteering", exact=True).click()
    expect(visit.page.get_by_label("method")).to_have_value("MeanSteering")
    visit.page.wait_for_load_state("networkidle")  # the method brings its own strength
    visit.page.get_by_label("number input for strength").fill("2.5")
    visit.page.get_by_label("number input for strength").press("Enter")
    visit.page.get_by_role("button", name="ask", exact=True).click()
    expect(visit.page.get_by_text("MeanSteering at 2.5")).to_be_visible(timeout=TIMEOUT)
    expect(visit.page.locator(".inside img")).to_have_count(2, timeout=TIMEOUT)
    assert visit.replies() == [*at_once.steered("MeanSteering", *at_once.start, 2.5).replies([prompt])[0]]


def test_what_cannot_be_asked_is_said_on_the_page(visit: Visit) -> None:
    visit.page.get_by_label("question").fill("  ")
    visit.page.get_by_role("button", name="ask", exact=True).click()
    expect(visit.page.get_by_text("Type a question.")).to_be_visible(timeout=TIMEOUT)
