"""What a processor is told beside its files: the chat template, the size of images, a token to pad with."""

import copy
from pathlib import Path
from typing import Any

from transformers.utils.chat_template_utils import render_jinja_template


def ready(processor: Any, name: str = "") -> Any:
    """The processor, or a copy of it with what replies cannot do without.

    A tokenizer without a token to pad with pads with its unknown or end token: padding is masked, so the choice decides
    nothing. Raises ValueError where there is no chat template, and TypeError for what is no processor.
    """
    tokenizer = getattr(processor, "tokenizer", None)
    if tokenizer is None:
        raise TypeError(f"{type(processor).__name__} is no processor: it has no tokenizer; give AutoProcessor's.")
    template = getattr(processor, "chat_template", None) or tokenizer.chat_template
    if not template:
        raise ValueError(
            f"{name or 'The processor'} has no chat template, so no prompt can be written; pass "
            "VLM.load(..., chat_template=...), or set processor.chat_template, to the Jinja text that it was tuned on."
        )
    if template is not processor.chat_template or tokenizer.pad_token_id is None:
        processor = copy.copy(processor)
        processor.chat_template = template
    if tokenizer.pad_token_id is None:
        processor.tokenizer = copy.deepcopy(tokenizer)
        processor.tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    return processor


def template_of(given: str | Path) -> str:
    """The chat template as text, from a text or a file. Raises ValueError for what is no Jinja."""
    if not isinstance(given, str | Path):
        raise TypeError(f"chat_template is a {type(given).__name__}; give Jinja text, or the path of a file with it.")
    is_file = isinstance(given, Path) or ("{" not in given and "\n" not in given)
    if is_file and not Path(given).is_file():
        raise ValueError(f"chat_template is {str(given)!r}, which is neither Jinja text nor a file.")
    text = Path(given).read_text(encoding="utf-8") if is_file else str(given)
    try:
        render_jinja_template([[{"role": "user", "content": [{"type": "text", "text": "a"}]}]], chat_template=text)
    except Exception as error:  # a template raises whatever it likes
        raise ValueError(f"chat_template cannot be used ({type(error).__name__}: {error}).") from error
    return text


def bound_pixels(processor: Any, least: int | None, most: int | None) -> None:
    """Set how many pixels an image is scaled to at least and at most.

    Raises ValueError for a processor whose images have a size of their own, and for bounds that no image can meet.
    """
    images = processor.image_processor
    own = dict(getattr(images, "size", None) or {})
    if not hasattr(images, "merge_size") or not (own.get("shortest_edge") and own.get("longest_edge")):
        raise ValueError(
            f"max_pixels and min_pixels bound the images of Qwen2-VL and its kin; {type(images).__name__} has sizes of "
            f"its own ({own})."
        )
    smallest = (images.patch_size * images.merge_size) ** 2
    for name, value in (("min_pixels", least), ("max_pixels", most)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < smallest):
            raise ValueError(f"{name} is {value!r}; give a whole number of pixels, {smallest} (one token) or more.")
    if least and most and least > most:
        raise ValueError(f"min_pixels is {least} and max_pixels {most}; no image has both.")
    low, high = least or own["shortest_edge"], most or own["longest_edge"]
    # One that is given alone moves the checkpoint's other bound where that stands in its way.
    low, high = (min(low, high), high) if most else (low, max(low, high))
    images.size = type(images.size)(shortest_edge=low, longest_edge=high)
