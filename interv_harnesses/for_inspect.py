"""A model provider for Inspect.

    inspect eval task.py --model interv/tiny-llava                        # as it is
    inspect eval task.py --model interv/tiny-llava -M steerer=my-steerer  # steered

Inspect finds it by the entry point `inspect_ai` of the distribution: `pip install 'interv[inspect]'`.
"""

from typing import Any

from anyio.to_thread import run_sync
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    GenerateConfig,
    ModelAPI,
    ModelOutput,
    ModelUsage,
    modelapi,
)
from inspect_ai.tool import ToolChoice, ToolInfo

from interv import Prompt
from interv_harnesses.answering import Answering, prompt_of_turns

HONOURED = {"max_tokens", "stop_seqs"}
# Settings of Inspect that say how requests are sent and kept, not what is answered.
OUTSIDE = {"max_retries", "timeout", "attempt_timeout", "max_connections", "adaptive_connections", "cache", "seed"}
GREEDY: dict[str, Any] = {"temperature": 0, "top_k": 1, "top_p": 1, "num_choices": 1}  # these say what is so anyway
ANSWERS = "replies are greedy, one a sample, and end after max_tokens or at a text of stop_seqs"


class SteeredAPI(ModelAPI):
    """A model of the toolkit, steered where `-M steerer=` names a folder; further `-M` are those of `Answering`."""

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig | None = None,
        **model_args: Any,
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config or GenerateConfig())
        self.answering = Answering.load(model_name, **model_args)

    async def generate(
        self, input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig
    ) -> ModelOutput:
        """Answer the last turn. Raises ValueError for what cannot be honoured."""
        check(tools, config)
        prompt = prompt_of(input)
        said = await run_sync(
            lambda: self.answering.reply(prompt, max_new_tokens=config.max_tokens, stop=config.stop_seqs or ())
        )
        message = ChatMessageAssistant(content=said.text, model=self.model_name, source="generate")
        return ModelOutput(
            model=self.model_name,
            choices=[ChatCompletionChoice(message=message, stop_reason="stop" if said.whole else "max_tokens")],
            usage=ModelUsage(input_tokens=said.asked, output_tokens=said.tokens, total_tokens=said.asked + said.tokens),
        )

    def max_tokens(self) -> int:
        """The longest reply where a task does not say: the steerer's own."""
        return self.answering.max_new_tokens

    def max_connections(self) -> int:
        """Samples are answered one after the other."""
        return 1


@modelapi(name="interv")
def interv() -> type[ModelAPI]:
    return SteeredAPI


def check(tools: list[ToolInfo], config: GenerateConfig) -> None:
    """Raise ValueError for a setting that the replies would not follow."""
    if tools:
        raise ValueError(f"{tools[0].name} is a tool, and models are asked without tools here.")
    given = config.model_dump(exclude_none=True, exclude_defaults=True)
    for name, value in given.items():
        if name not in HONOURED | OUTSIDE and not (name in GREEDY and value == GREEDY[name]):
            raise ValueError(f"{name}={value!r} is not possible here: {ANSWERS}.")


def prompt_of(messages: list[ChatMessage]) -> Prompt:
    """Inspect's messages as a prompt, as `prompt_of_turns` reads them."""
    return prompt_of_turns([{"role": turn.role, "content": _parts(turn)} for turn in messages], "A sample")


def _parts(message: ChatMessage) -> list[dict[str, Any]]:
    if isinstance(message.content, str):
        return [{"type": "text", "text": message.content}]
    return [part.model_dump(include={"type", "text", "image"}) for part in message.content]
