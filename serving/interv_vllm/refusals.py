"""Engines that cannot steer as they are set up: refused when they start, front end and worker alike."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from interv_vllm.asking import KEY
from interv_vllm.layers import FAMILIES
from interv_vllm.reading import Source, read_steerer
from interv_vllm.steerers import Nothing, Steerer, SteererError, check_fits

OWN_CARD = "interv.json"  # beside a checkpoint that `export` wrote: the fingerprint of the model that it was


def configured(config: Any) -> dict[str, Any]:
    """The steerers by name, as the engine's configuration has them."""
    own = (config.additional_config or {}).get(KEY) or {}
    if not isinstance(own, Mapping):
        raise SteererError(f'additional_config[{KEY!r}] is {own!r}; give {{"name": "folder"}}.')
    return dict(own)


def loaded(config: Any) -> dict[str, Steerer]:
    """The steerers, read and checked against the engine; {} where it has none.

    Raises ValueError for settings that steering was not made for, and SteererError for steerers of another model.
    """
    sources = {name: Source.of(name, value) for name, value in configured(config).items()}
    if not sources:
        return {}
    check_engine(config)
    text = config.model_config.hf_text_config
    fingerprint = _fingerprint(config.model_config.model)
    steerers = {}
    for name, source in sources.items():
        steerer, fitted_on = read_steerer(source)
        check_fits(name, steerer, text.hidden_size, text.num_hidden_layers)
        if fingerprint and fitted_on and fingerprint != fitted_on and not isinstance(steerer, Nothing):
            raise SteererError(f"Steerer {name!r} was fitted on model {fitted_on}; this one is {fingerprint}.")
        steerers[name] = steerer
    return steerers


def check_engine(config: Any) -> None:
    """Raises ValueError, which names the setting."""
    parallel, passes = config.parallel_config, config.compilation_config.pass_config
    unfit = {
        "pipeline parallelism": parallel.pipeline_parallel_size > 1,
        "context parallelism": max(_size(parallel, "decode"), _size(parallel, "prefill")) > 1,
        "batches in two halves": parallel.enable_dbo or getattr(parallel, "ubatch_size", 0) > 1,
        "speculative decoding": config.speculative_config is not None,
        "LoRA adapters": config.lora_config is not None,
        "KV connectors": config.kv_transfer_config is not None,
        "sequence parallel passes": getattr(passes, "enable_sp", False),
        "prompts of embeddings": getattr(config.model_config, "enable_prompt_embeds", False),
        "pooling": config.model_config.runner_type == "pooling",
    }
    for name, on in unfit.items():
        if on:
            raise ValueError(f"Steering does not go together with {name}; leave one of them out.")
    family, text = config.model_config.hf_config.model_type, config.model_config.hf_text_config.model_type
    if FAMILIES.get(family) != text:
        known = " and ".join(f"{one} around {inside}" for one, inside in FAMILIES.items())
        raise ValueError(f"Steering was tested on {known}, and this model is {family} around {text}.")


def _size(parallel: Any, stage: str) -> int:
    return getattr(parallel, f"{stage}_context_parallel_size", 1)


def _fingerprint(model: str) -> str:
    card = Path(model) / OWN_CARD
    return json.loads(card.read_text())["fingerprint"] if card.is_file() else ""
