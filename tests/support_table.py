"""Run the laws on a tiny random model of every family, and write the table of docs/models.md.

python tests/support_table.py              all families, then the page
python tests/support_table.py gemma3       one family: what failed, as JSON
"""

import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import hypothesis
import pytest

JOBS = 2  # families at once
ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "models.md"
BEGIN, END = "<!-- made by tests/support_table.py -->", "<!-- end -->"
sys.path.insert(0, str(ROOT))


class Recorder:
    """How often each law held and what broke it."""

    def __init__(self, family: str) -> None:
        self.family = family
        self.held: dict[str, int] = {}
        self.broken: dict[str, list[str]] = {}

    def pytest_configure(self, config: pytest.Config) -> None:
        """The laws run on this family instead of the models of the test suite."""
        from interv.places.layouts import LAYOUTS
        from tests import tiny_families, tiny_models

        found = hypothesis.settings(
            hypothesis.settings.get_profile("default"),
            phases=(hypothesis.Phase.generate,),  # a family that fails everywhere would shrink its examples for hours
            report_multiple_bugs=False,
        )
        hypothesis.settings.register_profile("table", found)
        hypothesis.settings.load_profile("table")
        for name, row in _trial_rows().items():
            LAYOUTS.setdefault(name, row)
        _know_places(self.family)
        tiny_models.model_names = lambda: [self.family]
        tiny_models.build = lambda name, *args: tiny_families.family(name)

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[Any]) -> None:
        """Only what runs on a model."""
        calls = [(item, getattr(item, "callspec", None)) for item in items]
        items[:] = [item for item, call in calls if call is not None and call.params.get("vlm") == self.family]

    def pytest_runtest_logreport(self, report: Any) -> None:
        law = re.search(r"test_law_(\d+)", report.nodeid)
        if law is None or (report.when != "call" and report.passed) or report.skipped:
            return
        name = report.nodeid.rpartition("::")[2]
        if report.passed:
            self.held[law[1]] = self.held.get(law[1], 0) + 1
        else:
            crash = getattr(report.longrepr, "reprcrash", None)
            reason = str(getattr(crash, "message", report.longrepr)).strip().splitlines()
            self.broken.setdefault(law[1], []).append(f"{name}: {reason[0][:160] if reason else ''}")


def _trial_rows() -> dict[str, Any]:
    """Rows of families that are not admitted, so that the page can say why."""
    from dataclasses import replace

    from interv.places.layouts import LAYOUTS

    return {"paligemma": replace(LAYOUTS["llava"], images_by_prompt=True)}


def _know_places(family: str) -> None:
    """Where the tests' own hooks find the parts of this family; they share nothing with interv/places/layouts.py."""
    from tests.property import places

    tower = ("model.vision_tower.encoder.layers.0", "model.multi_modal_projector")
    visual = ("model.visual.blocks.0", "model.visual.merger")
    places.VISION.update(
        llava_next=tower,
        llava_onevision=tower,
        qwen2_5_vl=visual,
        qwen3_vl=visual,
        internvl=("model.vision_tower.encoder.layer.0", tower[1]),
        gemma3=tower,
        paligemma=tower,
        idefics3=("model.vision_model.encoder.layers.0", "model.connector"),
        smolvlm=("model.vision_model.encoder.layers.0", "model.connector"),
    )
    four, fused = (places.VISION_ATTENTION[name] for name in ("llava", "qwen2_vl"))
    named = tuple(f"attention.{part}" for part in ("q_proj", "k_proj", "v_proj", "projection_layer"))
    for name in places.VISION.keys() - places.VISION_ATTENTION.keys():
        places.VISION_ATTENTION[name] = fused if name.startswith("qwen") else four
    places.VISION_ATTENTION["internvl"] = (named, False)
    if family in ("idefics3", "smolvlm"):
        places.BLOCKS = "model.text_model.layers"
        places.PLACES["final norm"] = places._path("model.text_model.norm")
    if family == "gemma3":
        places.BEFORE_MLP, places.NORM_OFFSET = "pre_feedforward_layernorm", 1.0
        places.PLACES |= {
            "hook_resid_mid": places._hook("hook_resid_mid", ".pre_feedforward_layernorm", "input"),
            "hook_attn_out": places._hook("hook_attn_out", ".post_attention_layernorm", "output"),
            "hook_mlp_out": _changed(
                places._hook("hook_mlp_out", ".post_feedforward_layernorm", "output"), stateless=False
            ),
        }
    if family == "internvl":  # four patches are put side by side before the projector
        places.PLACES["projector input"] = _changed(places.PLACES["projector input"], width=4 * 16)


def _changed(place: Any, **fields: Any) -> Any:
    from dataclasses import replace

    return lambda vlm, layer: replace(place(vlm, layer), **fields)


def laws(family: str) -> dict[str, Any]:
    """Run every law on one family, in this process."""
    recorder = Recorder(family)
    pytest.main(["-q", "--no-header", "-p", "no:cacheprovider", "--tb=short", str(ROOT / "tests/property")], [recorder])
    return {"family": family, "held": recorder.held, "broken": recorder.broken}


def apart(family: str) -> dict[str, Any]:
    """The same in a process of its own, since the tests' places are set once a process."""
    done = subprocess.run([sys.executable, __file__, family], capture_output=True, text=True, cwd=ROOT)
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"family"')]
    if not lines:
        return {"family": family, "held": {}, "broken": {"00": [f"not built: {done.stderr.strip()[-200:]}"]}}
    return json.loads(lines[-1])


def table(results: list[dict[str, Any]]) -> str:
    """The support table and, under it, what failed."""
    from interv.places.layouts import LAYOUTS

    names = sorted({law for result in results for part in ("held", "broken") for law in result[part]})
    lines = [f"| `model_type` | {' | '.join(map(str.lstrip, (n.lstrip('0') or '-' for n in names)))} | admitted |"]
    lines.append(f"|---|{'---|' * (len(names) + 1)}")
    for result in results:
        cells = [_cell(len(result["broken"].get(n, [])), result["held"].get(n, 0)) for n in names]
        admitted = "yes" if not result["broken"] and result["family"] in LAYOUTS else "no"
        lines.append(f"| {result['family']} | {' | '.join(cells)} | {admitted} |")
    reasons: dict[tuple[str, str], list[str]] = {}
    for result in results:
        for law, texts in sorted(result["broken"].items()):
            for text in texts:
                reasons.setdefault((result["family"], text.partition(": ")[2]), []).append(law.lstrip("0"))
    lines += ["", "What failed:", ""] if reasons else ["", "Nothing failed."]
    for (family, reason), found in reasons.items():
        numbers = ", ".join(dict.fromkeys(found))
        count = f"{len(found)} tests" if len(found) > 1 else "one test"
        lines.append(f"- {family}, {count} of law {numbers}: `{reason.replace('`', '')}`")
    return "\n".join(lines)


def _cell(broken: int, held: int) -> str:
    return f"{broken} of {broken + held} fail" if broken else str(held) if held else "-"


def main() -> None:
    from tests.tiny_families import FAMILIES

    if len(sys.argv) > 1:
        print(json.dumps(laws(sys.argv[1])))
        return
    results = []
    with ThreadPoolExecutor(JOBS) as pool:
        for result in pool.map(apart, FAMILIES):
            results.append(result)
            broken = {law: len(texts) for law, texts in result["broken"].items()}
            print(f"{result['family']}: {sum(result['held'].values())} held, broken by law: {broken}", flush=True)
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{table(results)}\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    print(f"The table is in {PAGE}")


if __name__ == "__main__":
    main()
