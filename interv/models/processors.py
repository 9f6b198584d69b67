"""What transformers lacks: processors for images alone, where video needs a library that is not there.

Transformers reads the parts and settings that a processor loads off the parameters and the code object of `__init__`,
so each family's is written out, and a type checker must leave it alone.
"""

from types import SimpleNamespace
from typing import Any, no_type_check

from transformers import (
    InternVLProcessor,
    LlavaOnevisionProcessor,
    Qwen2_5_VLProcessor,
    Qwen2VLProcessor,
    Qwen3VLProcessor,
    SmolVLMProcessor,
)
from transformers.processing_utils import ProcessorMixin

# What a video's frames are cut and scaled by as images are.
_SHARED = ("patch_size", "merge_size", "temporal_patch_size", "image_mean", "image_std", "rescale_factor")


class _OnDisk:
    """Is saved as the family's own processor, which transformers knows, with the video half that this one wants."""

    _video: str

    def __init_subclass__(cls, video: str) -> None:
        cls.__name__ = cls.__bases__[1].__name__  # the name that a processor is saved under
        cls._video = video

    def to_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        saved = super().to_dict(*args, **kwargs)  # type: ignore[misc]
        images = saved.get("image_processor", {})
        shared = {name: images[name] for name in _SHARED if name in images}
        return saved | {"video_processor": {"video_processor_type": self._video, **shared}}


class _WithoutVideo(ProcessorMixin):
    """Comes between a family's processor, which passes a video processor on, and the mixin, which would check it."""

    @no_type_check
    def __init__(
        self, image_processor=None, tokenizer=None, video_processor=None, chat_template=None, **kwargs
    ) -> None:
        ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)


class ImageQwen2VLProcessor(_OnDisk, Qwen2VLProcessor, video="Qwen2VLVideoProcessor"):
    """The Qwen2-VL processor without its video half, which cannot be loaded where torchvision is missing."""

    @no_type_check
    def __init__(
        self, image_processor: Any = None, tokenizer: Any = None, chat_template: str | None = None, **kwargs: Any
    ) -> None:
        self.image_token, self.video_token = "<|image_pad|>", "<|video_pad|>"
        self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
        self.video_token_id = tokenizer.convert_tokens_to_ids(self.video_token)
        ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)


class ImageQwen2_5_VLProcessor(_OnDisk, Qwen2_5_VLProcessor, _WithoutVideo, video="Qwen2VLVideoProcessor"):
    """The Qwen2.5-VL processor without its video half."""

    @no_type_check
    def __init__(self, image_processor=None, tokenizer=None, chat_template=None, **kwargs) -> None:
        super().__init__(image_processor, tokenizer, chat_template=chat_template)


class ImageQwen3VLProcessor(_OnDisk, Qwen3VLProcessor, _WithoutVideo, video="Qwen3VLVideoProcessor"):
    """The Qwen3-VL processor without its video half."""

    @no_type_check
    def __init__(self, image_processor=None, tokenizer=None, chat_template=None, **kwargs) -> None:
        super().__init__(image_processor, tokenizer, chat_template=chat_template)


class ImageLlavaOnevisionProcessor(
    _OnDisk, LlavaOnevisionProcessor, _WithoutVideo, video="LlavaOnevisionVideoProcessor"
):
    """The LLaVA-OneVision processor without its video half."""

    @no_type_check
    def __init__(
        self,
        image_processor=None,
        tokenizer=None,
        num_image_tokens=None,
        vision_feature_select_strategy=None,
        chat_template=None,
        image_token="<image>",
        video_token="<video>",
        vision_aspect_ratio="anyres_max_9",
        **kwargs,
    ) -> None:
        super().__init__(
            image_processor,
            tokenizer,
            num_image_tokens=num_image_tokens,
            vision_feature_select_strategy=vision_feature_select_strategy,
            chat_template=chat_template,
            image_token=image_token,
            video_token=video_token,
            vision_aspect_ratio=vision_aspect_ratio,
        )


class ImageInternVLProcessor(_OnDisk, InternVLProcessor, _WithoutVideo, video="InternVLVideoProcessor"):
    """The InternVL processor without its video half."""

    @no_type_check
    def __init__(
        self, image_processor=None, tokenizer=None, image_seq_length=256, chat_template=None, **kwargs
    ) -> None:
        super().__init__(image_processor, tokenizer, image_seq_length=image_seq_length, chat_template=chat_template)


class ImageSmolVLMProcessor(_OnDisk, SmolVLMProcessor, video="SmolVLMVideoProcessor"):
    """The SmolVLM processor without its video half, and so without the library that writes its numbers as words."""

    video_processor = SimpleNamespace(num_frames=None, fps=None)  # its chat template asks for these

    @no_type_check
    def __init__(self, image_processor=None, tokenizer=None, image_seq_len=169, chat_template=None, **kwargs) -> None:
        self.fake_image_token = getattr(tokenizer, "fake_image_token", "<fake_token_around_image>")
        self.image_token = getattr(tokenizer, "image_token", "<image>")
        self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
        self.end_of_utterance_token = getattr(tokenizer, "end_of_utterance_token", "<end_of_utterance>")
        self.global_image_token = getattr(tokenizer, "global_image_token", "<global-img>")
        self.video_token = getattr(tokenizer, "video_token", "<video>")
        self.image_seq_len = image_seq_len
        ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)


# By `config.model_type`.
IMAGE_ONLY: dict[str, type[ProcessorMixin]] = {
    "qwen2_vl": ImageQwen2VLProcessor,
    "qwen2_5_vl": ImageQwen2_5_VLProcessor,
    "qwen3_vl": ImageQwen3VLProcessor,
    "llava_onevision": ImageLlavaOnevisionProcessor,
    "internvl": ImageInternVLProcessor,
    "smolvlm": ImageSmolVLMProcessor,
}
