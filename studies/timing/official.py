"""How LLaVA-1.5 and Qwen2-VL lie on the hub: key names, configuration files and chat templates, of 2024 and of today.

"2024" is what llava-hf/llava-1.5-7b-hf and Qwen/Qwen2-VL-7B-Instruct hold: the key names of that time, Qwen2-VL's text
settings at the top of its configuration, preprocessor_config.json, and the chat template as JSON. "2026" is what
transformers 5 calls the same things. Weights come in several files with an index in both.
"""

import json
from pathlib import Path
from typing import Any, Literal

Age = Literal["2024", "2026"]
AGES: tuple[Age, ...] = ("2024", "2026")
KEYS_2024 = {
    "llava": {
        "model.language_model.": "language_model.model.",
        "lm_head.": "language_model.lm_head.",
        "model.vision_tower.": "vision_tower.vision_model.",
        "model.multi_modal_projector.": "multi_modal_projector.",
    },
    "qwen2_vl": {"model.language_model.": "model.", "model.visual.": "visual."},
}
PROCESSORS = {"llava": "LlavaProcessor", "qwen2_vl": "Qwen2VLProcessor"}
TEMPLATES = {
    "llava": (
        "{% for message in messages %}"
        "{% if message['role'] != 'system' %}{{ message['role'].upper() + ': '}}{% endif %}"
        "{# Render all images first #}"
        "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}"
        "{# Render all text next #}{% if message['role'] != 'assistant' %}"
        "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] + ' '}}"
        "{% endfor %}{% else %}"
        "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
        "{% generation %}{{ content['text'] + ' '}}{% endgeneration %}{% endfor %}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
    ),
    "qwen2_vl": (
        "{% set image_count = namespace(value=0) %}{% for message in messages %}"
        "{% if loop.first and message['role'] != 'system' %}"
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "{% endif %}<|im_start|>{{ message['role'] }}\n"
        "{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n"
        "{% else %}{% for content in message['content'] %}"
        "{% if content['type'] == 'image' or 'image' in content or 'image_url' in content %}"
        "{% set image_count.value = image_count.value + 1 %}"
        "{% if add_vision_id %}Picture {{ image_count.value }}: {% endif %}<|vision_start|><|image_pad|><|vision_end|>"
        "{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
}


def named(key: str, family: str, age: Age) -> str:
    """What the weight of this name, which is today's, is called in a checkpoint of that age."""
    names = KEYS_2024[family] if age == "2024" else {}
    start = next((start for start in names if key.startswith(start)), "")
    return names.get(start, "") + key[len(start) :]


def as_in_2024(folder: Path, family: str) -> None:
    """Put the configuration and the processor that transformers saved there into the form of 2024."""
    processor = read(folder / "processor_config.json")
    (folder / "processor_config.json").unlink()
    write(folder / "preprocessor_config.json", {**processor["image_processor"], "processor_class": PROCESSORS[family]})
    template = folder / "chat_template.jinja"
    write(folder / "chat_template.json", {"chat_template": template.read_text(encoding="utf-8")})
    template.unlink()
    config = read(folder / "config.json") | {"transformers_version": "4.41.2"}
    config["torch_dtype"] = config.pop("dtype", "float32")
    text = config["text_config"]
    rotation = text.pop("rope_parameters")
    text["rope_theta"] = rotation["rope_theta"]
    if family == "qwen2_vl":
        text["rope_scaling"] = {"type": "mrope", "mrope_section": rotation["mrope_section"]}
        config |= {key: value for key, value in config.pop("text_config").items() if key != "model_type"}
        vision = config["vision_config"]
        vision.pop("rope_parameters")
        vision["in_chans"] = vision.pop("in_channels")
    if family == "llava":
        config["image_token_index"] = config.pop("image_token_id", config.get("image_token_index"))
    write(folder / "config.json", config)


def named_processor(folder: Path, family: str) -> None:
    """Name the family's own processor in the files that were saved there."""
    own = {"processor_class": PROCESSORS[family]}
    change(folder / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast", **own)
    change(folder / "processor_config.json", **own)


def change(file: Path, **fields: Any) -> None:
    write(file, read(file) | fields)


def read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8"))


def write(file: Path, value: Any) -> None:
    file.write_text(json.dumps(value, indent=2), encoding="utf-8")
