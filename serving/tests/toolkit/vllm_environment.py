"""Where vLLM's environment lies, and how its engines are to run here."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[3]
WORLD = Path(os.environ.get("SERVING_WORLD", ROOT / ".serving" / "world")) / "llava"
VLLM = Path(os.environ.get("SERVING_PYTHON", ROOT / ".serving" / "venv" / "bin" / "python"))
OPTIONS = ("--enforce-eager", "--max-model-len", "256", "--max-num-seqs", "64")
QUIET = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "OMP_NUM_THREADS": "1"}
