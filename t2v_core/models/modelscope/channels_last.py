"""Feature maps and kernels that lie channels last all the way through a network, as convolutions want them."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2v_core.models.modelscope.layers import FramewiseConv

HALVES = (torch.float16, torch.bfloat16)
"""The formats of 16 bits, in which CUDA's convolutions want channels last."""

_OF_GROUPS = range(256, 1024)
"""The places of maps that torch's kernel for processors norms group by group, so that in 16 bits it takes up to four
times as long as by channels: from here on it has another way, and fewer aren't worth the calls."""


class GroupNorm(nn.GroupNorm):
    """A group norm whose result lies in memory as its input does, on every device.

    torch's kernel for CUDA puts channels first, and a convolution in 16 bits behind it has to turn them last again.
    That for processors is slow in 16 bits for maps of some sizes, which have another way.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(n, c, ...) to the same."""
        if input.dtype in HALVES and not torch.is_grad_enabled():
            if input.is_cuda:
                return norm_channels_last(input, self)
            if _is_of_groups(input) and norms_by_channels(input.dtype):
                return norm_by_channels(input, self)
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


def norm_by_channels(x: Tensor, norm: nn.GroupNorm) -> Tensor:
    """The group norm of channels-last maps x (n, c, h, w) in 16 bits on a processor; sums and factors are in float32.

    The norm of a batch of one map, which torch computes for all channels at once, with what their groups have.
    """
    nothing, ones = torch.zeros(x.shape[1]), torch.ones(x.shape[1])
    stats = [torch.batch_norm_update_stats(maps, nothing, ones, 0.0) for maps in x.split(1)]
    means, variances = (torch.stack(found).unflatten(1, (norm.num_groups, -1)) for found in zip(*stats, strict=True))
    between, mean = torch.var_mean(means, -1, correction=0, keepdim=True)
    variance = variances.mean(-1, keepdim=True).add_(between)
    of_channels = [value.expand_as(means).flatten(1) for value in (mean, variance)]
    weight, bias = norm.weight.float(), norm.bias.float()
    result, unused = torch.empty_like(x), x.new_empty(0, dtype=torch.float32)
    for maps, found, its_mean, its_variance in zip(x.split(1), result.split(1), *of_channels, strict=True):
        out = (found, unused, unused)
        torch.native_batch_norm(maps, weight, bias, its_mean, its_variance, False, 0.0, norm.eps, out=out)
    return result


def _is_of_groups(x: Tensor) -> bool:
    """Whether torch would norm these maps group by group on a processor."""
    if x.device.type != "cpu" or x.ndim != 4 or not x.is_contiguous(memory_format=torch.channels_last):
        return False
    return x.shape[2] * x.shape[3] in _OF_GROUPS


@functools.lru_cache(maxsize=2)
def norms_by_channels(dtype: torch.dtype) -> bool:
    """Whether torch has what `norm_by_channels` takes, which isn't documented, and it gives what it should."""
    norm = nn.GroupNorm(2, 8, dtype=dtype)
    maps = torch.linspace(-1, 1, 8 * 3 * 8, dtype=dtype).view(1, 8, 3, 8).contiguous(memory_format=torch.channels_last)
    try:
        with torch.inference_mode():
            found = norm_by_channels(maps, norm)
            return torch.allclose(found.float(), F.group_norm(maps.float(), 2, eps=norm.eps), rtol=1e-2, atol=1e-2)
    except (AttributeError, RuntimeError, NotImplementedError, TypeError):
        return False


def turn_kernels(network: nn.Module) -> None:
    """Let the kernels of convolutions that are no matrices lie channels last, as CUDA's own want them in 16 bits."""
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, FramewiseConv)) and layer.weight[0, 0].numel() > 1:
            last = torch.channels_last if layer.weight.ndim == 4 else torch.channels_last_3d
            layer.weight.data = layer.weight.data.contiguous(memory_format=last)
