"""What transformers lacks: a Qwen2-VL processor for images alone."""

from typing import Any, no_type_check

from transformers import Qwen2VLProcessor
from transformers.processing_utils import ProcessorMixin


class ImageQwen2VLProcessor(Qwen2VLProcessor):
    """The Qwen2-VL processor without its video half, which cannot be loaded where torchvision is missing.

    Transformers reads the parts that a processor loads off the parameters of `__init__`.
    """

    @no_type_check  # and off the code object itself, which a type checker would wrap
    def __init__(
        self, image_processor: Any = None, tokenizer: Any = None, chat_template: str | None = None, **kwargs: Any
    ) -> None:
        self.image_token, self.video_token = "<|image_pad|>", "<|video_pad|>"
        self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
        self.video_token_id = tokenizer.convert_tokens_to_ids(self.video_token)
        ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)
