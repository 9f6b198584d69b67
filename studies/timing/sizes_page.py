"""What the real sizes gave, as Markdown."""

from typing import Any


def section(result: dict[str, Any]) -> str:
    """One family's part of the page: the machine, then a table of loads, of rows, and of the pair."""
    where, steps = result["machine"], result["steps"]
    packages = ", ".join(f"{name} {number}" for name, number in where["versions"].items())
    cut = "" if result["layers"] is None else f", cut to {result['layers']} decoder blocks"
    lines = [
        f"### {result['family']}{cut}",
        "",
        f"{where['processor']}, {where['cores']} cores, {where['threads']} threads of torch; {packages}; commit "
        f"{(where['commit'] or 'unknown')[:12]}, {where['day']}. Image of {result['image'][0]} x {result['image'][1]} "
        f"pixels, matrix products in {'float32' if result['products'] == 'float32' else 'bfloat16'}.",
        "",
        *_table(
            ("step", "seconds", "peak of its own, GB", "peak with mapped files, GB", "found"),
            [
                (
                    s["what"],
                    f"{s['seconds']:.0f}" if "seconds" in s else "",
                    _gb(s, "own"),
                    _gb(s, "resident"),
                    _found(s),
                )
                for s in steps
                if "by_hand" not in s
            ],
        ),
        *_table(
            ("run", "tokens, of the image", "seconds", "by hand", "peak of its own, GB", "found"),
            [
                (
                    f"{s['what']}" + (f" ({s['network']})" if "network" in s else ""),
                    f"{s['tokens']}, {s['image_tokens']}" if "tokens" in s else "",
                    f"{s['seconds']:.0f}",
                    f"{s['by_hand']:.0f}",
                    _gb(s, "own"),
                    _found(s),
                )
                for s in steps
                if "by_hand" in s
            ],
        ),
    ]
    return "\n".join(lines)


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    if not rows:
        return []
    sides = ["---"] + ["---:"] * (len(head) - 2) + ["---"]
    return [f"| {' | '.join(cells)} |" for cells in (head, tuple(sides), *rows)] + [""]


def _gb(step: dict[str, Any], name: str) -> str:
    return f"{step[name] / 1e9:.1f}" if name in step else ""


def _found(step: dict[str, Any]) -> str:
    said = []
    if "bytes" in step:
        said.append(f"{step['bytes']:,} bytes of weights in {step['files']} files")
    if "fingerprint" in step:
        said.append(f"fingerprint {step['fingerprint']}")
    if "equal" in step:
        bits = "logits and tokens equal to the last bit" if "gap" in step else "logits equal to the last bit"
        said.append(bits if step["equal"] else f"NOT equal, by {step.get('gap', float('nan')):.3g}")
    if "moved" in step:
        said.append(f"steering moves the first logits by up to {step['moved']:.2g}")
    if "relative_gap" in step:
        said.append(f"within {step['relative_gap']:.2g} of the largest activation")
    return "; ".join(said)
