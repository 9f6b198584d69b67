"""EfficientNet-Lite0, an image encoder for small machines, with the parameter names of its published weights.

Source: arXiv:1905.11946 (EfficientNet) and Google's "lite" variants: no squeeze and excitation, ReLU6, and a stem and a
head of fixed width.
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

# blocks, kernel, stride of the first, expansion, channels in, channels out
_STAGES = (
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
)
WIDTH = 1280  # of the head
STRIDE = 32  # pixels a cell
MEAN, DEVIATION = 127 / 255, 128 / 255  # of the pixels that it was trained on


class _SameConv(nn.Conv2d):
    """TensorFlow's padding: as much as the output size wants, and the odd pixel behind."""

    def forward(self, input: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        height, width = (max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in input.shape[-2:])
        padded = F.pad(input, (width // 2, width - width // 2, height // 2, height - height // 2))
        return F.conv2d(padded, self.weight, self.bias, stride, 0, 1, self.groups)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)  # TensorFlow's


class _Block(nn.Module):
    """An inverted bottleneck: widen, filter each channel by itself, narrow."""

    def __init__(self, kernel: int, stride: int, expansion: int, narrow: int, out: int) -> None:
        super().__init__()
        wide = narrow * expansion
        self.residual = narrow == out and stride == 1
        if expansion != 1:
            self._expand_conv, self._bn0 = _SameConv(narrow, wide, 1, bias=False), _norm(wide)
        self._depthwise_conv, self._bn1 = _SameConv(wide, wide, kernel, stride, groups=wide, bias=False), _norm(wide)
        self._project_conv, self._bn2 = _SameConv(wide, out, 1, bias=False), _norm(out)
        self._widens = expansion != 1

    def forward(self, cells: Tensor) -> Tensor:
        wide = F.relu6(self._bn0(self._expand_conv(cells))) if self._widens else cells
        out = self._bn2(self._project_conv(F.relu6(self._bn1(self._depthwise_conv(wide)))))
        return cells + out if self.residual else out


class Lite0(nn.Module):
    """The encoder without its classifier."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = _SameConv(3, 32, 3, 2, bias=False), _norm(32)
        self._blocks = nn.ModuleList(
            _Block(kernel, stride if place == 0 else 1, expansion, narrow if place == 0 else out, out)
            for count, kernel, stride, expansion, narrow, out in _STAGES
            for place in range(count)
        )
        self._conv_head, self._bn1 = _SameConv(320, WIDTH, 1, bias=False), _norm(WIDTH)

    def forward(
        self, pixels: Float[Tensor, "images 3 height width"]
    ) -> tuple[Float[Tensor, "images 320 rows columns"], Float[Tensor, "images 1280 rows columns"]]:
        """The cells before and after the head's convolution."""
        cells = F.relu6(self._bn0(self._conv_stem(pixels)))
        for block in self._blocks:
            cells = block(cells)
        return cells, F.relu6(self._bn1(self._conv_head(cells)))
