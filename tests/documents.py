"""What the documentation holds: blocks of code, and the commands in them."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[1]
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    *sorted(str(file.relative_to(ROOT)) for file in (ROOT / "docs").glob("*.md")),
)
SHELL = ("sh", "")  # an indented block has no language


@dataclass(frozen=True)
class Block:
    """A block of a page; `language` is "" for one that is indented, and `line` where it begins, counted from 1."""

    page: str
    line: int
    language: str
    text: str

    @property
    def name(self) -> str:
        """The page and the block's first line, by which a list names it."""
        return f"{self.page}: {self.text.splitlines()[0].strip()}"

    @property
    def commands(self) -> list[str]:
        """The commands of a shell, whole where they are continued or a quote is open, without their comments."""
        found, open_one = [], ""
        for line in re.sub(r"\\\n\s*", "", self.text).splitlines():
            open_one += line if open_one else re.sub(r"(?:^|\s+)# .*$", "", line).strip()
            try:
                shlex.split(open_one)
            except ValueError:  # the quote ends in a later line
                open_one += "\n"
                continue
            found += [open_one] if open_one else []
            open_one = ""
        return found


def blocks(page: str, *languages: str) -> list[Block]:
    """The blocks of a page in these languages, or all of them."""
    tokens = MarkdownIt().parse((ROOT / page).read_text(encoding="utf-8"))
    found = [
        Block(page, (token.map or [0])[0] + 1, token.info, token.content)
        for token in tokens
        if token.type in ("fence", "code_block")
    ]
    return [block for block in found if not languages or block.language in languages]
