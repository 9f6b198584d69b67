"""EfficientNet-Lite0 as a vision tower of transformers, which `AutoModel` then knows by its model type."""

from typing import Any

from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

from interv.assembled.lite0 import STRIDE, WIDTH, Lite0


class LiteVisionConfig(PretrainedConfig):
    model_type = "efficientnet_lite"

    def __init__(self, hidden_size: int = WIDTH, image_size: int = 224, patch_size: int = STRIDE, **rest: Any) -> None:
        super().__init__(**rest)
        self.hidden_size, self.image_size, self.patch_size = hidden_size, image_size, patch_size


class LiteVisionModel(PreTrainedModel):
    """One token a cell of 32 x 32 pixels; 49 for a picture of 224 x 224."""

    config_class = LiteVisionConfig
    main_input_name = "pixel_values"
    base_model_prefix = "net"

    def __init__(self, config: LiteVisionConfig) -> None:
        super().__init__(config)
        self.net = Lite0()
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Nothing: the weights are always loaded."""

    def forward(self, pixel_values: Tensor, **_options: Any) -> BaseModelOutputWithPooling:
        cells = self.net(pixel_values.to(self.dtype))[1].flatten(2).transpose(1, 2)
        return BaseModelOutputWithPooling(last_hidden_state=cells, pooler_output=cells.mean(1), hidden_states=(cells,))


def register() -> None:
    """Let transformers find the tower by the model type in a folder's config; more than once is no harm."""
    AutoConfig.register(LiteVisionConfig.model_type, LiteVisionConfig, exist_ok=True)
    AutoModel.register(LiteVisionConfig, LiteVisionModel, exist_ok=True)
