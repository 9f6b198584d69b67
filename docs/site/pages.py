"""What the site has beside the files of docs/: the project's own pages, one page a method, and the reference.

MkDocs calls `on_config` and `on_files`. Nothing of the toolkit is imported: names are read from the sources, so the
environment of the site needs no model library.
"""

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the tests read these pages without MkDocs
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).parents[2]
# Files of the checkout that are pages of the site, where every other page finds them.
BESIDE = {
    "README.md": "index.md",
    "SECURITY.md": "security.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
LISTS = ("STEERERS", "BASELINES", "EXTENSIONS", "COMBINED")  # of methods/catalog.py
# Packages whose public names are the reference, with what each is for.
REFERENCE = {
    "interv": "Read and change activations.",
    "methods": "Ways of choosing what to add.",
    "studies.own": "From a file of examples to a steerer.",
    "studies.foresight": "What can be told before anything is fitted.",
    "studies.tasks": "What is asked and what is right.",
    "studies.recipes": "All that a run depends on, as a value.",
    "studies.measure": "Pure functions of rows.",
}


def on_config(config: "MkDocsConfig") -> "MkDocsConfig":
    """Puts the pages that are made into the navigation."""
    made = {"Methods": [method_page(name) for name in methods()], "Reference": [reference_page(at) for at in REFERENCE]}
    for entry in config.nav or []:
        for title, pages in made.items():
            if isinstance(entry, dict) and title in entry:
                entry[title] += pages
    return config


def on_files(files: "Files", config: "MkDocsConfig") -> "Files":
    """Adds the pages that are made, and the notebooks."""
    from mkdocs.structure.files import File

    texts = {page: moved((ROOT / name).read_text(encoding="utf-8")) for name, page in BESIDE.items()}
    texts |= {method_page(name): method_text(name, place) for name, place in methods().items()}
    texts |= {reference_page(package): reference_text(package, why) for package, why in REFERENCE.items()}
    for page, text in texts.items():
        files.append(File.generated(config, page, content=text))
    for notebook in sorted((ROOT / "notebooks").glob("*.ipynb")):
        files.append(File.generated(config, f"notebooks/{notebook.name}", abs_src_path=str(notebook)))
    return files


def on_page_markdown(markdown: str, **context: Any) -> str:
    """Links out of docs/ lead to where the site has these files."""
    for name, page in BESIDE.items():
        markdown = markdown.replace(f"](../{name}", f"]({page}")
    return markdown.replace("](../notebooks/", "](notebooks/")


def moved(text: str) -> str:
    """A page of the checkout's root, whose links lead into docs/, as a page beside the others."""
    return text.replace("](docs/", "](").replace('src="docs/', 'src="')


def methods() -> dict[str, str]:
    """The module of every method, by the method's name, in the order of the tables."""
    catalog = ast.parse((ROOT / "methods" / "catalog.py").read_text(encoding="utf-8"))
    module = {
        alias.name: node.module
        for node in catalog.body
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    lists = [node for node in catalog.body if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) in LISTS]
    names = [ast.unparse(one) for node in lists if isinstance(node.value, ast.Tuple) for one in node.value.elts]
    return {name: module[name] for name in names}


def method_page(name: str) -> str:
    return f"methods/{name}.md"


def method_text(name: str, module: str) -> str:
    """What docs/methods.md says of the method, and its reference."""
    said = "\n\n".join(paragraphs(name))
    return f"# {name}\n\n{said}\n\n::: {module}.{name}\n    options:\n      heading_level: 2\n"


def paragraphs(name: str) -> list[str]:
    """The paragraphs of docs/methods.md that have the method's name in bold."""
    page = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    parts = re.split(r"\n\n|\n(?=- )", page)
    return [re.sub(r"\s+", " ", part.removeprefix("- ")) for part in parts if f"**{name}**" in part]


def reference_page(package: str) -> str:
    return f"reference/{package}.md"


def reference_text(package: str, why: str) -> str:
    """Every public name of the package."""
    source = ast.parse((ROOT / Path(*package.split(".")) / "__init__.py").read_text(encoding="utf-8"))
    home = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in source.body
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    (listed,) = [node.value for node in source.body if isinstance(node, ast.Assign) and named(node) == "__all__"]
    names = sorted(ast.literal_eval(listed))
    places = {name: home.get(name, f"{package}.{name}") for name in names}
    own = [name for name in names if package == "methods" and name in methods()]
    links = ", ".join(f"[{name}](../{method_page(name)})" for name in own)
    parts = [f"::: {places[name]}\n    options:\n      heading_level: 2" for name in names if name not in own]
    return (
        "\n\n".join((f"# {package}", why, *([f"The methods have pages of their own: {links}."] if own else []), *parts))
        + "\n"
    )


def named(node: ast.Assign) -> str:
    return ast.unparse(node.targets[0])
