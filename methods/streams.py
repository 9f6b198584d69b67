"""Second streams: the same questions asked once more with less to see, beside the prompts in one batch."""

import zlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from interv import VLM, Prompt
from interv.prompts.encoding import Encoded

NOISE_STEPS = 1000
TILED = 5  # axes of pixels that come as [image, tile, channel, height, width]


class Stream(ABC):
    """What is asked beside each prompt. Streams that are equal are one, so several methods may share it."""

    @abstractmethod
    def prompts(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """One companion a prompt."""

    def changed(self, pixels: Float[Tensor, "..."]) -> Tensor:
        """What the companions see in the place of one image, of which this is the model's own normalised form."""
        return pixels


@dataclass(frozen=True)
class WithoutImage(Stream):
    """The prompts without their images: all text stays, and positions close up."""

    def prompts(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        return [replace(prompt, image=None) for prompt in prompts]


@dataclass(frozen=True)
class Noised(Stream):
    """The prompts with noise over their images, as a diffusion model lays it in `step` of 1,000 steps.

    Source: VCD, arXiv:2311.16922, and its published code. An image has the same noise in any batch: what is drawn
    depends on its pixels and the seed alone.
    """

    step: int = 500  # published code
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.step < NOISE_STEPS:
            raise ValueError(f"step is {self.step}; the noise has steps 0 to {NOISE_STEPS - 1}.")

    def prompts(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        return list(prompts)

    def changed(self, pixels: Float[Tensor, "..."]) -> Tensor:
        clean = pixels.float().cpu()
        drawn = zlib.crc32(clean.numpy().tobytes(), self.seed)
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(drawn))
        kept = kept_share(self.step)
        return (kept.sqrt() * clean + (1 - kept).sqrt() * noise).to(pixels)


def kept_share(step: int) -> Float[Tensor, ""]:
    """How much of an image's variance the noise of this step leaves."""
    betas = torch.sigmoid(torch.linspace(-6, 6, NOISE_STEPS)) * (0.5e-2 - 1e-5) + 1e-5
    return (1 - betas).cumprod(dim=0)[step]


def encoded_with(vlm: VLM, prompts: Sequence[Prompt], streams: Sequence[Stream]) -> Encoded:
    """The prompts, and behind them every stream's companions, as one batch.

    Raises ValueError where the model's images cannot be told apart and a stream changes them.
    """
    blocks = [list(prompts), *(stream.prompts(prompts) for stream in streams)]
    encoded = vlm.encode([prompt for block in blocks for prompt in block])
    counts = [sum(_images(prompt) for prompt in block) for block in blocks]
    if "pixel_values" not in encoded.media or all(type(stream).changed is Stream.changed for stream in streams):
        return encoded
    by_prompt = vlm.layout.images_by_prompt and encoded.media["pixel_values"].ndim == TILED
    sizes = [len(block) for block in blocks] if by_prompt else counts
    images = list(_split(encoded, sum(sizes)))
    for number, stream in enumerate(streams, start=1):
        for place in range(sum(sizes[:number]), sum(sizes[: number + 1])):
            images[place] = _changed(stream, images[place])
    return replace(encoded, media=encoded.media | {"pixel_values": torch.cat(images)})


def _changed(stream: Stream, image: Tensor) -> Tensor:
    """An image in tiles is changed tile by tile, and what only fills the batch up, which is zero, stays."""
    if image.ndim < TILED:
        return stream.changed(image)
    tiles = image.flatten(0, 1)
    changed = [stream.changed(tile[None]) if tile.any() else tile[None] for tile in tiles]
    return torch.cat(changed).view_as(image)


def _images(prompt: Prompt) -> int:
    """How many, without opening them."""
    return sum(part["type"] == "image" for message in prompt.messages() for part in message["content"])


def _split(encoded: Encoded, count: int) -> tuple[Tensor, ...]:
    """The pixels of each image, in order: one entry an image, or as many as its grid has patches."""
    pixels = encoded.media["pixel_values"]
    if "image_grid_thw" in encoded.media:
        return pixels.split(encoded.media["image_grid_thw"].prod(-1).tolist())
    if len(pixels) != count:
        raise ValueError(
            f"pixel_values has {len(pixels)} entries for {count} images; which are whose is not known, so that they "
            "cannot be changed one by one. Leave methods with a noised image out on this model."
        )
    return pixels.split(1)
