"""A batch job over as many prompts as there are: Ray Data hands them to engines, on all machines of a cluster.

    python serving/examples/ray_data.py questions.jsonl replies --model served --steerer caution=steerers/caution

A line of the file is {"image": path, "question": ..., "steer": name, "steer_strength": number}; where "steer" is null
the reply is unsteered. The folder gets the lines with their replies. Every machine has vLLM, interv-vllm and the files.
"""

import argparse
from typing import Any

import pyarrow
import ray
from PIL import Image


class Engine:
    """One engine with all steerers in it, and the model loaded once."""

    def __init__(self, model: str, steerers: dict[str, str], settings: dict[str, Any]) -> None:
        from vllm import LLM

        self.engine = LLM(model, additional_config={"steer": steerers}, **settings)

    def __call__(self, batch: pyarrow.Table) -> pyarrow.Table:
        rows = batch.to_pylist()
        outputs = self.engine.chat([messages(row) for row in rows], [params(row) for row in rows], use_tqdm=False)
        replies = [output.outputs[0].text for output in outputs]
        return batch.append_column("reply", pyarrow.array(replies, pyarrow.string()))


def messages(row: dict[str, Any]) -> list[Any]:
    image = {"type": "image_pil", "image_pil": Image.open(row["image"])}
    return [{"role": "user", "content": [image, {"type": "text", "text": row["question"]}]}]


def params(row: dict[str, Any]) -> Any:
    """What a row asks for, as vLLM takes it."""
    from vllm import SamplingParams

    steer = {"steer": row["steer"], "steer_strength": row["steer_strength"]} if row["steer"] is not None else None
    return SamplingParams(temperature=0, max_tokens=row.get("max_tokens") or 64, extra_args=steer)


def answer(
    file: str, folder: str, model: str, steerers: dict[str, str], *, engines: int, gpus: float, **settings: Any
) -> None:
    """Write the lines of the file with their replies to the folder, as JSON lines.

    Args:
        engines: how many run side by side.
        gpus: of each engine, 0 for processors.
        settings: of each engine, as `vllm.LLM` takes them.
    """
    lines = ray.data.read_json(file)
    compute = ray.data.ActorPoolStrategy(size=engines)
    given = {"fn_constructor_args": (model, steerers, settings), "batch_format": "pyarrow", "batch_size": 64}
    lines.map_batches(Engine, compute=compute, num_gpus=gpus, **given).write_json(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("folder")
    parser.add_argument("--model", required=True)
    parser.add_argument("--steerer", action="append", required=True, help="name=folder; may be given several times")
    parser.add_argument("--engines", type=int, default=1)
    parser.add_argument("--gpus", type=float, default=1)
    given = parser.parse_args()
    steerers = dict(one.split("=", 1) for one in given.steerer)
    answer(given.file, given.folder, given.model, steerers, engines=given.engines, gpus=given.gpus)


if __name__ == "__main__":
    main()
