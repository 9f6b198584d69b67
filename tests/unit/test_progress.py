"""Bars are for somebody who looks: a file has none of them, not even an empty line."""

import io

import pytest
from rich.console import Console

from interv import progress
from interv.progress import bars, track


@pytest.mark.parametrize("terminal", [True, False])
def test_bars_are_drawn_in_a_terminal_alone(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    console = Console(file=io.StringIO(), force_terminal=terminal, width=80)
    monkeypatch.setattr(progress, "get_console", lambda: console)
    assert [*track(iter("abc"), "reading rows", total=3)] == ["a", "b", "c"]
    with bars() as bar:
        bar.advance(bar.add_task("answering", total=2), 2)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert ("reading rows" in said and "answering" in said) if terminal else said == ""


def test_bars_that_nobody_asked_for_are_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(file=io.StringIO(), force_terminal=True)
    monkeypatch.setattr(progress, "get_console", lambda: console)
    assert [*track([1, 2], "reading rows", shown=False)] == [1, 2]
    assert console.file.getvalue() == ""  # type: ignore[attr-defined]
