"""Replicas behind one address: Ray Serve starts engines on a cluster and spreads requests over them.

    serve run serving.examples.ray_serve:application model=served steerers='{"caution": "steerers/caution"}' replicas=4

Requests are those of docs/serving.md, at http://127.0.0.1:8000/v1/chat/completions, with the model's name "steered".
"""

import json
from typing import Any

from ray.serve.llm import LLMConfig, build_openai_app


def application(given: dict[str, str]) -> Any:
    """What `serve run` starts.

    Args:
        given: `model`, `steerers` as JSON, and optionally `replicas`, `gpus` of each (0 for processors) and `engine`,
            further settings of vLLM as JSON.
    """
    gpus = float(given.get("gpus", 1))
    bundle = {"CPU": 1.0, "GPU": gpus} if gpus else {"CPU": 1.0}
    settings = {"additional_config": {"steer": json.loads(given["steerers"])}, **json.loads(given.get("engine", "{}"))}
    config = LLMConfig(
        model_loading_config={"model_id": "steered", "model_source": given["model"]},
        deployment_config={"num_replicas": int(given.get("replicas", 1))},
        placement_group_config={"bundles": [bundle]},
        engine_kwargs=settings,
    )
    return build_openai_app({"llm_configs": [config]})
