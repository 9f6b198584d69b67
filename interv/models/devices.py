"""Where a model takes its inputs."""

import torch
from torch import nn


def device_of(model: nn.Module) -> torch.device:
    """The device of the model's weights; of offloaded ones the device that accelerate brings them to when they run."""
    device: torch.device = model.device  # type: ignore[assignment]
    if device.type != "meta":
        return device
    for module in model.modules():
        hook = getattr(module, "_hf_hook", None)
        for one in getattr(hook, "hooks", [hook]):
            place = getattr(one, "execution_device", None)
            if place is not None:
                return torch.device(place)
    raise ValueError("The model's weights lie on the meta device and nowhere else; load them, or dispatch the model.")
