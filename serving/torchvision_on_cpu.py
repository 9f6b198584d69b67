"""Lets torchvision be imported where its wheel was built for CUDA and torch was not.

    python serving/torchvision_on_cpu.py

vLLM's LLaVA needs torchvision's image processors, not its compiled operators. Without its library the package stops at
the first operator that it describes; here these get a signature.
"""

from importlib.util import find_spec
from pathlib import Path

MARK = "# a CUDA build beside CPU torch"
LINES = f"""

if not _has_ops():  {MARK}
    for _name in ("nms", "qnms"):
        torch.library.define(f"torchvision::{{_name}}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""


def main() -> None:
    """Does nothing the second time."""
    package = find_spec("torchvision")
    assert package is not None
    assert package.submodule_search_locations is not None
    file = Path(package.submodule_search_locations[0]) / "extension.py"
    text = file.read_text()
    if MARK not in text:
        file.write_text(text + LINES)


if __name__ == "__main__":
    main()
