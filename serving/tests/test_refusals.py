"""Nothing is ever silently unsteered: what cannot be had is refused where it enters, with a sentence."""

import json
import operator
import shutil
from pathlib import Path
from typing import Any

import pytest
from torch import nn
from vllm import SamplingParams
from vllm.engine.arg_utils import EngineArgs
from vllm.exceptions import VLLMValidationError

from engines import Engines, params
from interv_vllm import __version__, patches
from interv_vllm.admission import check_request
from interv_vllm.asking import Ask, AskError, ask_of
from interv_vllm.layers import decoder_blocks
from interv_vllm.refusals import check_engine
from world import World

BAD = [
    ({"steer": "l2s"}, "'l2s', which this engine has not loaded; it has '"),
    ({"steer": 3}, "must be the name of a steerer"),
    ({"steer": "mean", "steer_strength": "2"}, "must be a number"),
    ({"steer": "mean", "steer_strength": True}, "must be a number"),
    ({"steer": "mean", "steer_strength": float("nan")}, "finite number"),
    ({"steer": "mean", "steer_strength": float("-inf")}, "finite number"),
    ({"steer": "mean", "steer_strength": 10**400}, "finite number|integers must be between"),  # vLLM's own is first
    ({"steer": "mean", "steer_stregth": 2.0}, "'steer_stregth' is no argument"),
    ({"Steer": "mean"}, "'Steer' is no argument"),
    ({"steer_strength": 2.0}, "without 'steer'"),
]


@pytest.mark.parametrize(("extra", "sentence"), BAD)
def test_a_request_that_makes_no_sense_is_refused(
    extra: dict[str, Any], sentence: str, llava: World, engines: Engines
) -> None:
    engine = engines.of(llava.model, llava.steerers)
    with pytest.raises(VLLMValidationError, match=sentence):
        engine.generate(llava.inputs[:1], SamplingParams(extra_args=extra), use_tqdm=False)
    # The engine goes on, with the same image: vLLM must not take it for known to the engine.
    assert engine.generate(llava.inputs[:1], params("mean"), use_tqdm=False)[0].finished


def test_what_is_asked_for() -> None:
    assert ask_of(None) is None
    assert ask_of({"kv_transfer_params": 1}) is None
    assert ask_of({"steer": "a"}) == Ask("a", 1.0)
    assert ask_of({"steer": "a", "steer_strength": -2}) == Ask("a", -2.0)
    for wrong in ({"steer": None}, {"steer": "a", "steer_strength": 10**400}):
        with pytest.raises(AskError):
            ask_of(wrong)


def test_a_server_without_steerers_refuses_them(llava: World, engines: Engines) -> None:
    """The plugin is installed, and nothing was configured."""
    engine = engines.of(llava.model, {})
    with pytest.raises(VLLMValidationError, match="it has none at all"):
        engine.generate(llava.inputs[:1], params("mean"), use_tqdm=False)


SETTINGS = [
    ({"pipeline_parallel_size": 2, "distributed_executor_backend": "mp"}, "pipeline parallelism"),
    ({"speculative_config": {"method": "ngram", "num_speculative_tokens": 2, "prompt_lookup_max": 2}}, "speculative"),
    ({"enable_lora": True}, "LoRA"),
    ({"kv_transfer_config": {"kv_connector": "ExampleConnector", "kv_role": "kv_both"}}, "KV connectors"),
    ({"enable_prompt_embeds": True}, "prompts of embeddings"),
]


@pytest.mark.parametrize(("settings", "name"), SETTINGS)
def test_an_engine_that_cannot_steer_does_not_start(settings: dict[str, Any], name: str, llava: World) -> None:
    config = {"steer": llava.steerers}
    with pytest.raises(ValueError, match=f"does not go together with {name}"):
        EngineArgs(model=llava.model, dtype="float32", additional_config=config, **settings).create_engine_config()


@pytest.mark.parametrize(
    ("place", "value", "name"),
    [
        ("parallel_config.decode_context_parallel_size", 2, "context parallelism"),
        ("parallel_config.prefill_context_parallel_size", 2, "context parallelism"),
        ("parallel_config.enable_dbo", True, "batches in two halves"),
        ("parallel_config.ubatch_size", 2, "batches in two halves"),
        ("model_config.runner_type", "pooling", "pooling"),
    ],
)
def test_what_vllm_itself_allows_on_gpus_alone_is_refused_too(
    place: str, value: Any, name: str, llava: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = started(llava, llava.steerers)
    owner, _, field = place.rpartition(".")
    inner = operator.attrgetter(owner)(config)
    assert hasattr(inner, field), f"this vLLM has no {place}, so nothing would be refused"
    monkeypatch.setattr(inner, field, value)
    with pytest.raises(ValueError, match=f"does not go together with {name}"):
        check_engine(config)


def test_sequence_parallel_passes_of_other_releases_are_refused(llava: World, monkeypatch: pytest.MonkeyPatch) -> None:
    config = started(llava, llava.steerers)
    monkeypatch.setattr(config.compilation_config.pass_config, "enable_sp", True, raising=False)
    with pytest.raises(ValueError, match="does not go together with sequence parallel passes"):
        check_engine(config)


def test_a_prompt_that_goes_on_is_refused() -> None:
    with pytest.raises(AskError, match="send it whole"):
        check_request({"mean": "folder"}, {"steer": "mean"}, resumable=True)
    check_request({"mean": "folder"}, None, resumable=True)


def started(world: World, steerers: dict[str, Any]) -> Any:
    return EngineArgs(model=world.model, dtype="float32", additional_config={"steer": steerers}).create_engine_config()


def test_steerers_of_another_model_are_refused(llava: World, qwen2vl: World, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="made for a width of"):
        started(llava, qwen2vl.steerers)
    other = Path(shutil.copytree(llava.steerers["mean"], tmp_path / "other"))
    card = json.loads((other / "steerer.json").read_text())
    (other / "steerer.json").write_text(json.dumps(card | {"fingerprint": "0123456789abcdef"}))
    with pytest.raises(ValueError, match="was fitted on model 0123456789abcdef"):
        started(llava, {"other": str(other)})
    with pytest.raises(ValueError, match="give a path"):
        started(llava, {"other": 3})


def test_compiled_graphs_are_kept_under_the_blocks_that_they_act_in(llava: World, tmp_path: Path) -> None:
    """A steerer that was fitted anew, at other blocks, may lie in the same folder."""
    hashes = set()
    for name, blocks in (("l2s-3-3", [3]), ("l2s-7-4", [4, 7])):
        shutil.copytree(llava.steerers[name], tmp_path / "s", dirs_exist_ok=True)
        config = started(llava, {"s": str(tmp_path / "s")})
        assert config.additional_config["steer_graph"] == f"{__version__} {blocks}"
        hashes.add(config.compute_hash())
    assert len(hashes) == 2


def test_families_that_were_not_tested_are_refused(llava: World, monkeypatch: pytest.MonkeyPatch) -> None:
    config = started(llava, {})
    config.additional_config = {"steer": llava.steerers}
    monkeypatch.setattr(config.model_config.hf_config, "model_type", "mystery_vl")
    with pytest.raises(ValueError, match="and this model is mystery_vl around llama"):
        patches.loaded(config)
    model = nn.Module()
    model.model = nn.Module()
    model.model.layers = nn.ModuleList([nn.Linear(1, 1)])
    with pytest.raises(ValueError, match="blocks are Linear"):
        decoder_blocks(model)


def test_a_release_without_a_name_does_not_start() -> None:
    class Scheduler:
        pass

    with pytest.raises(RuntimeError, match=r"no .*Scheduler\.cache_blocks, which interv-vllm"):
        patches.wrap(Scheduler, "cache_blocks", print)
