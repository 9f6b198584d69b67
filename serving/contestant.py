"""vLLM among the contestants of `studies/speed.py --vllm PYTHON`, which starts this with the python that has vLLM.

    PYTHON serving/contestant.py FOLDER THREADS DTYPE

FOLDER holds a checkpoint, `source`, a steerer, `l2s`, and `prompts.json`: rendered prompts and their images. A line of
standard input asks for replies of `tokens` tokens to the first `count` prompts, `steered` or not, and a line answers.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any


def main(folder: Path, threads: str, dtype: str) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what vLLM prints goes to standard error
    os.environ.update(OMP_NUM_THREADS=threads, VLLM_CPU_KVCACHE_SPACE="1", HF_HUB_OFFLINE="1")
    os.environ.update(VLLM_ENABLE_V1_MULTIPROCESSING="0", VLLM_LOGGING_LEVEL="ERROR", VLLM_NO_USAGE_STATS="1")
    import torch
    from PIL import Image
    from vllm import LLM, SamplingParams, __version__

    from interv_vllm.export import export_for_vllm

    rows = json.loads((folder / "prompts.json").read_text())
    inputs = [
        {"prompt": row["prompt"], "multi_modal_data": {"image": Image.open(folder / row["image"]).convert("RGB")}}
        for row in rows
    ]
    engine = LLM(
        str(export_for_vllm(folder / "source", folder / "model")),
        dtype=dtype,
        enforce_eager=True,
        max_num_batched_tokens=8192,
        max_num_seqs=max(8, len(rows)),
        enable_prefix_caching=False,  # with both caches off every request processes and encodes its image
        mm_processor_cache_gb=0,
        additional_config={"steer": {"l2s": str(folder / "l2s")}},
    )

    def answer(what: Any) -> None:
        answers.write(json.dumps(what) + "\n")
        answers.flush()

    answer({"vllm": __version__, "threads": torch.get_num_threads()})
    for line in sys.stdin:
        asked = json.loads(line)
        extra = {"steer": "l2s"} if asked["steered"] else None
        params = SamplingParams(temperature=0, max_tokens=asked["tokens"], ignore_eos=True, extra_args=extra)
        outputs = engine.generate(inputs[: asked["count"]], params, use_tqdm=False)
        answer([list(output.outputs[0].token_ids) for output in outputs])


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
