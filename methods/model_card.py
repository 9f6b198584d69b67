"""The README.md of a shared steerer: what it is for, what it does, what it costs, and what it must not be used for."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from methods.kept import CARD, TENSORS

LIBRARY = "interv"
MISUSE = """\
Steering can be turned round: the same file, at a negative strength or with wanted and unwanted answers swapped, makes a
model say what it was taught not to. Do not use it to remove safety behaviour, to deceive, or to slant answers about
people. It changes what a model tends to say and proves nothing about what is in an image: do not rely on a steered
answer where a wrong one does harm, and judge it on your own data first, its subgroups too."""


def model_card(card: Mapping[str, Any], place: str = "<owner>/<name>") -> str:
    """The page of a `steerer.json`; `place` is where it is loaded from."""
    about: Mapping[str, Any] = card.get("about") or {}
    model: Mapping[str, Any] = about.get("model") or {}
    parts = [
        f"---\n{_metadata(card, about, model).to_yaml()}\n---",
        f"# {card['method']} for {model.get('name') or 'a vision-language model'}",
        "Not a model: a steerer, which changes what a vision-language model says while it runs, without new weights. "
        f"`{TENSORS}` holds its tensors and `{CARD}` all else; there is no pickle in it and no code.",
        "```python\nfrom interv import VLM, Prompt\nfrom methods import load_steerer, steer\n\n"
        f"vlm = VLM.load({str(model.get('name') or '<model>')!r})\nsteerer = load_steerer({place!r}, vlm=vlm)\n"
        "prompts = [Prompt('photo.jpg', 'What is this?')]\n"
        f"print(steer(vlm, prompts, steerer, strength={about.get('strength', 1.0)}))\n```",
        _table("What it belongs to", _belongs(card, about, model)),
    ]
    if about:
        told = (about.get("chosen") or {}).get("how")
        parts += [*(("## How it was chosen", str(told)) if told else ()), *_results(about)]
    parts += ["## Intended use", _use(card, about), "## Misuse", MISUSE]
    return "\n\n".join(part for part in parts if part) + "\n"


def _metadata(card: Mapping[str, Any], about: Mapping[str, Any], model: Mapping[str, Any]) -> ModelCardData:
    name = str(model.get("name") or "")
    on_hub = bool(re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name))  # an embedded model and a folder have no page there
    tags = ["activation-steering", "steering-vector", "interpretability", "vision-language", card["method"].lower()]
    objective = about.get("objective")
    measured = [
        EvalResult(
            task_type="image-text-to-text",
            dataset_type="own",
            dataset_name=f"held-out rows of {(about.get('data') or {}).get('source', 'own data')}",
            dataset_split="test",
            metric_type=str(objective),
            metric_value=record["value"],
        )
        for record in about.get("results", ())
        if (record["method"], record["subset"], record["metric"]) == (card["method"], "all", objective)
    ]
    return ModelCardData(
        library_name=LIBRARY,
        pipeline_tag="image-text-to-text",
        tags=tags,
        base_model=name if on_hub else None,
        base_model_relation="adapter" if on_hub else None,
        model_name=f"{card['method']} for {name}" if measured else None,
        eval_results=measured or None,
    )


def _belongs(card: Mapping[str, Any], about: Mapping[str, Any], model: Mapping[str, Any]) -> list[tuple[str, Any]]:
    data: Mapping[str, Any] = about.get("data") or {}
    inputs: Mapping[str, Any] = model.get("preprocessing") or {}
    strength = about.get("strength")
    splits = "" if not data else ", ".join(f"{n} {name}" for name, n in data["splits"].items())
    return [
        ("method", card["method"]),
        ("base model", model.get("name")),
        ("revision", model.get("revision")),
        ("fingerprint of its weights", card.get("fingerprint")),
        ("chat template", inputs.get("chat_template")),
        ("processor", inputs.get("processor")),
        ("layers", f"reads block {card.get('reads')}, writes block {card.get('writes')}, counted from 0"),
        ("tokens steered", card.get("scope")),
        ("strength", None if strength is None else f"{strength:g} times the predicted vector"),
        ("data", None if not data else f"{data['rows']} rows about {data['images']} images ({splits})"),
        ("hash of the data", data.get("hash")),
    ]


def _results(about: Mapping[str, Any]) -> list[str]:
    if not about.get("results"):
        return []
    parts = ["## What it does on held-out rows", _scores(about["results"])]
    if about.get("against"):
        lines = [
            (
                f"minus {one['baseline']}",
                f"{_of(one['value'], '+')} [{_of(one['low'], '+')} to {_of(one['high'], '+')}]",
            )
            for one in about["against"]
        ]
        parts.append(_rows(("the steerer", f"{about['objective']}, paired, 95% interval"), lines))
    if told := about.get("forecast"):
        parts += ["## What was forecast before the fit", *map(_plain, told["said"])]
        if told["expected"]:
            head = ("method", f"forecast of the {about['objective']}, on validation rows", "came out, on test rows")
            both = [(one["method"], _share(one["expected"]), _share(one["measured"])) for one in told["expected"]]
            parts.append(_rows(head, both))
    if about.get("neutral"):
        parts += [
            "## What it costs elsewhere",
            "Mean divergence, in nats a token, of the steered from the unsteered model along the unsteered replies to "
            "prompts that steering should leave alone.",
            _scores([one for one in about["neutral"] if one["method"] != "NoSteering"], 4),
        ]
    return parts


def _scores(records: Sequence[Mapping[str, Any]], digits: int = 3) -> str:
    lines = [
        (
            one["method"],
            one["metric"],
            f"{_of(one['value'], '', digits)}",
            f"{_of(one['low'], '', digits)} to {_of(one['high'], '', digits)}",
            one["n"],
        )
        for one in records
        if one["subset"] == "all"
    ]
    return _rows(("method", "metric", "value", "95% interval", "n"), lines)


def _use(card: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    shown = (about.get("data") or {}).get("source")
    told = f"It was fitted on {shown}, and nothing is known of it on other questions and images." if shown else ""
    return (
        f"Research on steering, and answers of the kind that it was fitted on. {told} Another model refuses it.".strip()
    )


def _table(title: str, lines: Sequence[tuple[str, Any]]) -> str:
    return f"## {title}\n\n{_rows(('', ''), [(name, value) for name, value in lines if value not in (None, '')])}"


def _rows(head: Sequence[str], lines: Sequence[Sequence[Any]]) -> str:
    cells = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in cells)


def _share(record: Mapping[str, Any] | None) -> str:
    return "" if record is None else f"{_of(record['value'])} [{_of(record['low'])} to {_of(record['high'])}]"


def _cell(value: Any) -> str:
    return _plain(value).replace("|", "\\|")


def _plain(value: Any) -> str:
    """What a file says may be anything; here it is text in a line."""
    return re.sub(r"\s+", " ", str(value)).replace("<", "&lt;")


def _of(value: float | None, sign: str = "", digits: int = 3) -> str:
    return "?" if value is None or value != value else f"{value:{sign}.{digits}f}"
