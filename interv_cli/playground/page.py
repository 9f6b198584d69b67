"""The page, in gradio: what is asked on one side, the two replies and what happened inside on the other."""

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from PIL import Image

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # a local page tells nobody that it was opened

import gradio as gr

from interv import Prompt
from interv_cli.playground.looking import UNSTEERED, growing, inside
from interv_cli.playground.offered import Offered

STRONGEST = 4.0
# The machine's own fonts: nothing is fetched for them.
FONTS = ("ui-sans-serif", "system-ui", "sans-serif")
MONO = ("ui-monospace", "monospace")
CSS = """
.reply textarea { font-size: 1.05rem; }
.inside figure { margin: 0 0 1rem; overflow-x: auto; }
.inside figcaption { color: var(--body-text-color); font-size: .85rem; margin-bottom: .3rem; }
.inside img { width: 100%; min-width: 34rem; height: auto; border-radius: .4rem; }
footer { display: none !important; }
"""
# Figures are drawn for the page as it looks, which the browser alone knows.
LOOKS_DARK = "(...given) => [...given.slice(0, -1), document.body.classList.contains('dark')]"


def page(offered: Offered) -> gr.Blocks:
    """The page of these choices."""
    first = next(iter(offered.choices))
    reads, writes = offered.start
    # All that any method has, for who asks without the page; there the list is of the method that is chosen.
    all_reads, all_writes = (
        sorted({block for choice in offered.choices.values() for block in getattr(choice, name)})
        for name in ("reads", "writes")
    )
    strongest = max(STRONGEST, *(2 * choice.strength for choice in offered.choices.values()))
    with gr.Blocks(title="interv playground", analytics_enabled=False, fill_width=True) as shown:
        gr.Markdown(
            f"## {offered.vlm.name}, unsteered and steered\nAsk about a picture. A method reads the last prompt token "
            "at one block and adds a vector at another; strength 0 changes nothing."
        )
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                image = gr.Image(label="image", type="pil", format="png", height=260, sources=["upload", "clipboard"])
                question = gr.Textbox(label="question", placeholder="is there a cat in the image ?")
                _examples(offered, image, question)
            with gr.Column(scale=3, min_width=300):
                method = gr.Dropdown([*offered.choices], value=first, label="method")
                with gr.Row():
                    read = gr.Dropdown(all_reads, value=reads, label="reads block", min_width=100)
                    written = gr.Dropdown(all_writes, value=writes, label="steers block", min_width=100)
                    strength = gr.Slider(0, strongest, value=1.0, step=0.05, label="strength", min_width=160, scale=2)
                ask = gr.Button("ask", variant="primary")
                with gr.Row():
                    plain = gr.Textbox(label=UNSTEERED, min_width=140, lines=3, elem_classes="reply")
                    changed = gr.Textbox(label="steered", min_width=140, lines=3, elem_classes="reply")
                seen = gr.HTML(elem_classes="inside")
        dark = gr.Checkbox(visible=False)

        def settings(name: str) -> list[Any]:
            """Which blocks there are to choose from, and a strength to begin with."""
            choice = offered.choices[name]
            start = {"reads": reads, "writes": writes}
            return [
                *(
                    gr.Dropdown(
                        choices=[*blocks],
                        value=start[word] if start[word] in blocks else blocks[0],
                        interactive=len(blocks) > 1,
                    )
                    for word, blocks in (("reads", choice.reads), ("writes", choice.writes))
                ),
                gr.Slider(maximum=max(STRONGEST, 2 * choice.strength), value=choice.strength),
            ]

        def answer(
            picture: Image.Image | None, asked: str, name: str, read: int, written: int, strong: float, dark: bool
        ) -> Iterator[tuple[Any, Any, Any]]:
            if not asked.strip():
                raise gr.Error("Type a question.")
            try:
                steered = offered.steered(name, int(read), int(written), float(strong))
                prompt = Prompt(picture, asked.strip())
                label = f"{name} at {strong:g}"
                before = after = ""
                yield before, gr.Textbox(value=after, label=label), ""
                for before, after in growing(steered, prompt):
                    yield before, after, gr.skip()
                yield before, after, inside(steered, prompt, dark=dark)
            except ValueError as error:
                raise gr.Error(str(error)) from error

        inputs, outputs = [image, question, method, read, written, strength, dark], [plain, changed, seen]
        shown.load(settings, method, [read, written, strength], api_name=False)
        method.change(settings, method, [read, written, strength], api_name="settings")
        gr.on([ask.click, question.submit], answer, inputs, outputs, js=LOOKS_DARK, api_name="ask")
    return shown


def launched(shown: gr.Blocks, **options: Any) -> Any:
    """Serve the page, to this machine alone unless told otherwise."""
    theme = gr.themes.Default(font=[*FONTS], font_mono=[*MONO])
    return shown.launch(theme=theme, css=CSS, share=False, show_error=True, ssr_mode=False, **options)


def _examples(offered: Offered, image: gr.Image, question: gr.Textbox) -> None:
    """Questions to begin with; their pictures lie in files, as gradio wants them."""
    if not offered.questions:
        return
    folder = Path(mkdtemp(prefix="interv-playground-"))
    rows = []
    for number, prompt in enumerate(offered.questions):
        (picture,) = prompt.images()
        picture.save(folder / f"{number}.png")
        rows.append([str(folder / f"{number}.png"), prompt.question])
    gr.Examples(rows, [image, question], label="or begin with one of these", examples_per_page=len(rows))
