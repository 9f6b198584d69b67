"""A model of lmms-eval.

    lmms-eval --model interv --model_args pretrained=tiny-llava --tasks pope
    lmms-eval --model interv --model_args pretrained=tiny-llava,steerer=my-steerer --tasks pope

lmms-eval finds it by the entry point `lmms_eval.models` of the distribution.
"""

from typing import Any

from lmms_eval.api.instance import Instance
from lmms_eval.api.model import lmms
from lmms_eval.models.registry_v2 import ModelManifest
from tqdm import tqdm

from interv_harnesses.answering import Answering, prompt_of_turns

HONOURED = {"max_new_tokens", "until"}
# These say what is so anyway, or nothing where nothing is drawn.
GREEDY: dict[str, tuple[Any, ...]] = {
    "do_sample": (False,),
    "temperature": (0,),
    "num_beams": (1,),
    "use_cache": (True,),
}
UNUSED = {"top_p", "top_k", "image_aspect_ratio"}


def manifest() -> ModelManifest:
    return ModelManifest("interv", chat_class_path=f"{__name__}.SteeredLmms")


class SteeredLmms(lmms):
    """A model of the toolkit, steered where `steerer` names a folder; further arguments are those of `Answering`."""

    is_simple = False

    def __init__(self, pretrained: str = "", batch_size: Any = 1, max_batch_size: Any = None, **told: Any) -> None:
        """Raises ValueError for an argument that there is not, and for batches: samples are answered by themselves."""
        super().__init__()
        if batch_size not in (None, 1, "1"):
            raise ValueError(f"batch_size is {batch_size}; samples are answered one after the other, so leave it at 1.")
        self.answering = Answering.load(
            pretrained, **{name: value for name, value in told.items() if value is not None}
        )

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """One reply a request, cut before the first text of `until`. Raises ValueError for what is not honoured."""
        return [self._reply(*request.args) for request in tqdm(requests, desc="answering")]

    def _reply(self, context: str, messages_of: Any, settings: dict[str, Any], doc: int, task: str, split: str) -> str:
        check(settings)
        until = settings.get("until") or ()
        stop = [until] if isinstance(until, str) else [text for text in until if text]
        messages = [dict(turn) for turn in messages_of(self.task_dict[task][split][doc])]
        prompt = prompt_of_turns(messages, f"Sample {doc} of {task}")
        said = self.answering.reply(prompt, max_new_tokens=settings.get("max_new_tokens"), stop=stop).text
        ends = [place for text in stop if (place := said.find(text)) >= 0]
        return said[: min(ends)] if ends else said

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        raise NotImplementedError("A steered model answers; likelihoods of given answers are not had here.")

    def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:
        raise NotImplementedError(
            "A steered model answers one turn a sample; tasks of several rounds are not had here."
        )


def check(settings: dict[str, Any]) -> None:
    """Raise ValueError for a setting that the replies would not follow."""
    for name, value in settings.items():
        if value is not None and name not in HONOURED | UNUSED and value not in GREEDY.get(name, ()):
            raise ValueError(
                f"{name}={value!r} is not possible here: replies are greedy, and end by max_new_tokens, until."
            )
