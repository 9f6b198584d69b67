"""The model before its delta: SmolLM2-135M-Instruct behind EfficientNet-Lite0, as LLaVA puts such parts together."""

from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    CLIPImageProcessorPil,
    GenerationConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from interv.assembled.lite0 import DEVIATION, MEAN, STRIDE
from interv.assembled.tower import LiteVisionConfig, register

IMAGE_TOKEN = "<image>"
# SmolLM2's turns, without the system message that it would begin with.
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def assemble(language: Path, vision: Path) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """The model in float32 and its processor, from a GGUF file and a file of EfficientNet-Lite0's weights.

    The projector between the two is random: the delta brings it. Needs the package gguf.
    """
    register()
    tokenizer = AutoTokenizer.from_pretrained(language.parent, gguf_file=language.name)
    tokenizer.add_tokens([IMAGE_TOKEN], special_tokens=True)
    text = AutoModelForCausalLM.from_pretrained(language.parent, gguf_file=language.name, dtype=torch.float32)
    del text.config.quantization_config  # the weights are plain numbers by now
    text.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    tower = LiteVisionConfig()
    config = LlavaConfig(
        vision_config=tower,
        text_config=text.config,
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
        image_seq_length=(tower.image_size // STRIDE) ** 2,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlavaForConditionalGeneration(config)
    model.model.language_model.load_state_dict(text.model.state_dict())
    model.lm_head.weight = model.model.language_model.embed_tokens.weight
    model.model.vision_tower.net.load_state_dict(_encoder(vision))
    model.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    return model.eval(), _processor(tokenizer, tower.image_size)


def _encoder(file: Path) -> dict[str, torch.Tensor]:
    weights = torch.load(file, map_location="cpu", weights_only=True)
    return {name: tensor for name, tensor in weights.items() if not name.startswith("_fc.")}  # the classifier


def _processor(tokenizer, side: int) -> LlavaProcessor:
    images = CLIPImageProcessorPil(
        size={"shortest_edge": side},
        crop_size={"height": side, "width": side},
        image_mean=[MEAN] * 3,
        image_std=[DEVIATION] * 3,
    )
    return LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=STRIDE,
        vision_feature_select_strategy="full",
        num_additional_image_tokens=0,
        chat_template=CHAT_TEMPLATE,
        image_token=IMAGE_TOKEN,
    )
