"""Feature maps and kernels that lie channels last all the way through a network, as convolutions on GPUs want them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from t2v_core.models.modelscope.layers import FramewiseConv

HALVES = (torch.float16, torch.bfloat16)
"""The formats in which CUDA's convolutions want channels last."""


class GroupNorm(nn.GroupNorm):
    """A group norm whose result lies in memory as its input does, on every device.

    torch's kernel for CUDA puts channels first, and a convolution in 16 bits behind it has to turn them last again.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(n, c, ...) to the same."""
        if input.is_cuda and input.dtype in HALVES and not torch.is_grad_enabled():
            return norm_channels_last(input, self)
        return super().forward(input)


def norm_channels_last(x: Tensor, norm: nn.GroupNorm) -> Tensor:
    """The group norm of x (n, c, ...) in 16 bits, which lie as x does; sums and factors are in float32."""
    tokens = x.movedim(1, -1)
    groups = tokens.reshape(len(x), -1, norm.num_groups, x.shape[1] // norm.num_groups)
    count, over = groups.shape[1] * groups.shape[3], (1, 3)
    mean = groups.sum(over, keepdim=True, dtype=torch.float32) / count
    squares = torch.linalg.vector_norm(groups, dim=over, keepdim=True, dtype=torch.float32).square() / count
    weight, bias = (value.float().view(groups.shape[2:]) for value in (norm.weight, norm.bias))
    scale = (squares - mean * mean).clamp_(min=0).add_(norm.eps).rsqrt_() * weight
    shift = bias - mean * scale
    # One pass, which takes 16 bits and gives 16 bits.
    found = torch.addcmul(shift, groups, scale, out=torch.empty_like(groups))
    return found.view(tokens.shape).movedim(-1, 1)


def turn_kernels(network: nn.Module) -> None:
    """Let the kernels of convolutions that are no matrices lie channels last, as CUDA's own want them in 16 bits."""
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, FramewiseConv)) and layer.weight[0, 0].numel() > 1:
            last = torch.channels_last if layer.weight.ndim == 4 else torch.channels_last_3d
            layer.weight.data = layer.weight.data.contiguous(memory_format=last)
