"""The pages lead somewhere, on the site and where they are read as plain files, and the site has all of them."""

import re
import runpy
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from methods.catalog import BASELINES, COMBINED, EXTENSIONS, STEERERS
from tests.documents import PAGES, ROOT

SITE: dict[str, Any] = runpy.run_path(str(ROOT / "docs" / "site" / "pages.py"))


def links(page: str) -> list[str]:
    """The addresses of links and pictures within the checkout."""
    tokens = MarkdownIt().enable("table").parse((ROOT / page).read_text(encoding="utf-8"))
    inline = [child for token in tokens for child in token.children or []]
    found = [str(child.attrGet("href") or child.attrGet("src") or "") for child in inline]
    return [address for address in found if address and "://" not in address]


def anchors(page: Path) -> set[str]:
    """The headings of a page, as an address names them."""
    tokens = MarkdownIt().parse(page.read_text(encoding="utf-8"))
    titles = [tokens[place + 1].content for place, token in enumerate(tokens) if token.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_file_and_a_heading(page: str) -> None:
    for address in links(page):
        place, _, heading = address.partition("#")
        target = (ROOT / page).parent / place if place else ROOT / page
        assert target.exists(), f"{page} links to {address}"
        assert not heading or heading in anchors(target), f"{page} links to {address}"


def test_every_page_is_in_the_sites_navigation() -> None:
    listed = {*re.findall(r"(\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)}
    own = {file.name for file in (ROOT / "docs").glob("*.md")}
    assert listed == own | {*SITE["BESIDE"].values()}


def test_the_site_finds_the_files_that_lie_beside_the_docs() -> None:
    """A link that leaves docs/ is rewritten for the site, or it would lead nowhere there."""
    outside = {a.partition("#")[0] for page in PAGES if page.startswith("docs/") for a in links(page) if "../" in a}
    known = {f"../{name}" for name in SITE["BESIDE"]}
    assert not [one for one in outside - known if not one.startswith("../notebooks/")]


def test_every_method_has_a_page_with_what_is_said_of_it() -> None:
    methods = (*STEERERS, *BASELINES, *EXTENSIONS, *COMBINED)
    assert {method.__name__: method.__module__ for method in methods} == SITE["methods"]()
    for method in methods:
        text = SITE["method_text"](method.__name__, method.__module__)
        assert f"**{method.__name__}**" in text, f"docs/methods.md says nothing of {method.__name__}"
        assert f"::: {method.__module__}.{method.__name__}" in text


@pytest.mark.parametrize("package", SITE["REFERENCE"])
def test_the_reference_has_every_public_name(package: str) -> None:
    from importlib import import_module

    module = import_module(package)
    text = SITE["reference_text"](package, "")
    named = re.findall(r"^::: (\S+)$", text, re.MULTILINE)
    elsewhere = re.findall(r"\(\.\./methods/(\w+)\.md\)", text)
    assert sorted([*elsewhere, *(name.rpartition(".")[2] for name in named)]) == sorted(module.__all__)
    for name in named:
        home, _, own = name.rpartition(".")
        assert getattr(import_module(home), own) is getattr(module, own)
