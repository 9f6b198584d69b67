"""What a fit says of itself: results on held-out rows with intervals, what they cost, and how it was chosen."""

from collections.abc import Mapping, Sequence
from typing import Any

from more_itertools import map_reduce

from studies.measure import Record, Row, called, difference, table
from studies.own.arguments import BASELINES, FitArguments
from studies.own.foretold import Foretold
from studies.own.weighing import NEUTRAL, divergence, margin, preference
from studies.run.bench import Bench
from studies.run.cost import said
from studies.run.lines import plain
from studies.run.provenance import runs_on, versions
from studies.tasks.examples_file import Data

UNSTEERED = "NoSteering"
KEPT = ("method", "strength", "reads", "writes", "subset", "metric", "value", "low", "high", "n", "units")
BESIDE = ("difference", "difference_low", "difference_high")


def card_of(
    bench: Bench,
    arguments: FitArguments,
    data: Data,
    chosen: Mapping[str, Any],
    rows: Sequence[Row],
    forecast: Foretold | None,
) -> dict[str, Any]:
    """The card as plain values: what `steerer.json` keeps beside the steerer and the model card is written from."""
    vlm, own = bench.vlm, chosen[arguments.method]
    asked = [row for row in rows if row["subset"] != NEUTRAL]
    elsewhere = [row for row in rows if row["subset"] == NEUTRAL]
    metrics = bench.task.metrics if bench.task.has_targets else (preference, margin)  # type: ignore[attr-defined]
    objective = bench.task.objective
    records = table(asked, metrics, UNSTEERED)
    results = [_brief(record) for record in records]
    moved = [_brief(record) for record in table(elsewhere, (divergence,), UNSTEERED)] if elsewhere else []
    by_method = map_reduce(asked, called)
    leading = [metric for metric in metrics if metric.name == objective]
    against = [
        {"baseline": name} | {field: record[field] for field in ("metric", "value", "low", "high", "n")}
        for name in BASELINES
        if name != arguments.method
        for record in difference(by_method[arguments.method], by_method[name], leading)
        if record["subset"] == "all"
    ]
    card = {
        "model": {
            "name": arguments.model,
            "revision": arguments.revision or getattr(vlm.model.config, "_commit_hash", None),
            "fingerprint": vlm.fingerprint,
            "type": vlm.model.config.model_type,
            "n_layers": vlm.n_layers,
            "d_model": vlm.d_model,
            "dtype": str(vlm.model.dtype).removeprefix("torch."),
            "max_pixels": arguments.max_pixels,
            "min_pixels": arguments.min_pixels,
            "load_in_4bit": arguments.load_in_4bit,
            "load_in_8bit": arguments.load_in_8bit,
            "preprocessing": vlm.preprocessing,
        },
        "strength": own.setting.strength,
        "max_new_tokens": arguments.max_new_tokens,
        "chosen": _choice(arguments, own, objective),
        "data": {
            "source": data.name,
            "hash": data.hash,
            "rows": len(data.items),
            "left_out": len(data.flaws),
            "images": len({image for item in data.items for image in item.images}),
            "splits": {split: len(bench.examples(split)) for split in ("train", "val", "test")},
        },
        "objective": objective,
        "results": results,
        "against": against,
        "neutral": moved,
        "forecast": None if forecast is None else forecast.card(records),
        "baseline_prompt": arguments.prompt,
        "cost": said(bench.results.folder),
        "made_with": versions() | runs_on(),
    }
    return plain(card)


def _choice(arguments: FitArguments, own: Any, objective: str) -> dict[str, Any]:
    found = own.found
    if found is None:
        return {"how": "The method has no strength to choose."}
    told = (
        f"On validation rows, of {own.candidates} candidates: the best {objective} that keeps at least "
        f"{1 - arguments.budget:.0%} of the unsteered quality, found by {found.replies:,} answers."
    )
    if found.index is None:
        told += " None of them did better than the unsteered model, so the strength is 0 and nothing is steered."
    return {
        "how": told,
        "candidates": own.candidates,
        "replies": found.replies,
        "budget": arguments.budget,
        "effect": found.effect,
        "quality": found.quality,
        "unsteered_effect": found.unsteered[0],
        "unsteered_quality": found.unsteered[1],
    }


def _brief(record: Record) -> Record:
    return {name: record[name] for name in (*KEPT, *BESIDE)}


def lines_of(card: Mapping[str, Any], method: str) -> list[str]:
    """The card in words, for the console: what steering did on held-out rows, what it cost, what was forecast."""
    objective = card["objective"]
    lines = []
    for record in card["results"]:
        if record["subset"] == "all" and record["metric"] in (objective, "valid", "margin"):
            lines.append(
                f"{record['method']:>15}  {record['metric']:<10} {record['value']:.3f} "
                f"[{_number(record['low'])} to {_number(record['high'])}], n = {record['n']}"
            )
    for record in card["neutral"]:
        if record["subset"] == "all" and record["method"] != UNSTEERED:
            lines.append(
                f"{record['method']:>15}  moves neutral prompts by {record['value']:.4f} nats a token "
                f"[{_number(record['low'], 4)} to {_number(record['high'], 4)}], n = {record['n']}"
            )
    for record in card["against"]:
        lines.append(
            f"{method} minus {record['baseline']}: {record['value']:+.3f} "
            f"[{_number(record['low'], sign=True)} to {_number(record['high'], sign=True)}] {record['metric']}"
        )
    return [*lines, card["chosen"]["how"], *_foretold(card["forecast"], method)]


def _foretold(told: Mapping[str, Any] | None, method: str) -> list[str]:
    """What was expected, and how it came out."""
    if told is None:
        return []
    lines = [f"Forecast before the fit: {told['said'][0]}"]
    for one in told["expected"]:
        if one["method"] == method and one["measured"] is not None:
            expected, measured = (_share(one[name]) for name in ("expected", "measured"))
            lines.append(f"{method} was expected at {expected} on validation rows and is at {measured} on test rows.")
    return lines


def _share(record: Mapping[str, Any]) -> str:
    return f"{_number(record['value'])} [{_number(record['low'])} to {_number(record['high'])}]"


def _number(value: float | None, digits: int = 3, *, sign: bool = False) -> str:
    """With so many digits; "?" where an interval has no end."""
    return "?" if value is None or value != value else f"{value:{'+' if sign else ''}.{digits}f}"
