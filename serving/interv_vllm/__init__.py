"""Learned steering inside stock vLLM: read the last prompt token, predict, add at another block, in one request.

A request names a steerer: `SamplingParams(extra_args={"steer": name, "steer_strength": 1.0})`, over HTTP
`"vllm_xargs": {"steer": name, "steer_strength": 1.0}`. The engine is told which there are when it starts:
`additional_config={"steer": {name: folder}}`.
"""

__version__ = "0.1.0"


def register() -> None:
    """Called by vLLM in each of its processes, through the entry point `vllm.general_plugins`."""
    from interv_vllm import patches

    patches.apply()
