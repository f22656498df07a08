"""The layers that do nearly all of the work, each with a plain form and one with its weights packed for a CPU.

Their names and shapes are the checkpoints'; see `packable` for how they are packed.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2v_core.models import cpu_kernels
from t2v_core.models.by_taps import ByTaps, convolved
from t2v_core.models.cpu_kernels import Form, Packed, PackedConv, widened_at_once
from t2v_core.models.modelscope.packable import Packable, give_up, take_back
from t2v_core.models.winograd import OverFrames, OverPlaces

SMALL_MAP = 4
"""To make maps of up to this height and width a convolution is faster as a product for each place of its kernel."""

_OVER_FRAMES = (1, 0)  # the padding of a convolution over (f, p)

WIDEST_DOUBLED = 640
"""A `DoublingConv2d` of more channels keeps its one kernel: four are 2 % of the 1.7B's memory, for 1 % of a step."""


class Linear(nn.Linear, Packable):
    """A matrix product over the last axis, with an optional tensor added."""

    def forward(self, input: Tensor, *, plus: Tensor | None = None, out: Tensor | None = None) -> Tensor:
        """(..., i) to (..., o), which goes into `out` if there is one."""
        if self.is_packed:
            return self._packed(input, plus=plus, out=out)
        found = _linear(input, self.weight, self.bias, plus=plus)
        return found if out is None else out.copy_(found)

    def _pack(self) -> None:
        self._packed = Packed(self.weight, self.bias, computes=self.computes)
        give_up(self)

    def _unpack(self) -> None:
        take_back(self, self._packed.unpacked())
        del self._packed


class PlacewiseLinear(nn.Conv1d, Packable):
    """A convolution of kernel 1, kept as one for its checkpoint's sake, and applied to the last axis as a matrix."""

    def __init__(self, dim: int, out_dim: int) -> None:
        super().__init__(dim, out_dim, kernel_size=1)

    def forward(self, input: Tensor, *, plus: Tensor | None = None) -> Tensor:
        """(..., i) to (..., o)."""
        if self.is_packed:
            return self._packed(input, plus=plus)
        return _linear(input, self.weight[..., 0], self.bias, plus=plus)

    def _pack(self) -> None:
        self._packed = Packed(self.weight[..., 0], self.bias, computes=self.computes)
        give_up(self)

    def _unpack(self) -> None:
        take_back(self, self._packed.unpacked()[..., None])
        del self._packed


class Convolution(Packable):
    """A convolution whose packed form follows the shape of its maps."""

    _first_form: type[Form] = PackedConv
    """The form to be packed in: that for the maps that were announced before."""
    _first_maps: torch.Size | None = None

    def arrange_for(self, maps: Tensor) -> None:
        """Have the form that is the fastest for maps of this shape; a plain layer takes it when it's packed."""
        form = self._form_for(maps)
        if not self.is_packed:
            self._first_form, self._first_maps = form, maps.shape
        elif not isinstance(self._packed, form):
            self._packed = self._in_form(form, self._packed.unpacked(), maps.shape)

    @property
    def place(self) -> tuple[int, ...]:
        """That of its form; see `Packable.place`."""
        kernel = cast(Tensor, self.weight)
        if self._first_form is ByTaps:
            return tuple(kernel.shape[:2])
        if self._first_form is not PackedConv or self.computes is None:
            return ()  # such sums are made of a widened copy
        return len(kernel), widened_at_once(kernel, self.computes), *(size for size in kernel.shape[2:] if size > 1)

    @abc.abstractmethod
    def _form_for(self, maps: Tensor) -> type[Any]: ...

    @abc.abstractmethod
    def _in_form(self, form: type[Any], kernel: Tensor, maps: torch.Size | None) -> Form: ...

    def _pack(self) -> None:
        weight = cast(Tensor, self.weight)
        self._packed: Form = self._in_form(self._first_form, weight.flatten(3), self._first_maps)
        give_up(self)

    def _unpack(self) -> None:
        take_back(self, self._packed.unpacked().view(cast(Tensor, self.weight).shape))
        del self._packed


class Conv2d(nn.Conv2d, Convolution):
    """A convolution of channels-last feature maps, with an optional tensor added."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self._is_matrix:
            self._first_form = ByTaps

    @property
    def _is_matrix(self) -> bool:
        is_placewise = self.kernel_size == self.stride == self.dilation == (1, 1) and self.padding == (0, 0)
        return is_placewise and self.groups == 1

    def forward(self, input: Tensor, *, plus: Tensor | None = None) -> Tensor:
        """(n, i, h, w) to (n, o, h', w')."""
        if not self.is_packed:
            return add(self._of_places(input) if self._is_matrix else super().forward(input), plus)
        self.arrange_for(input)
        return self._packed(input, plus=plus)

    def _of_places(self, maps: Tensor) -> Tensor:
        """A matrix product over the channels of each place, which lie side by side afterwards."""
        return F.linear(maps.movedim(1, -1), self.weight[:, :, 0, 0], self.bias).movedim(-1, 1)

    def is_worth_packing(self) -> bool:
        """As for every layer; grouped and dilated convolutions stay plain."""
        return super().is_worth_packing() and self.groups == 1 and self.dilation == (1, 1)

    def _form_for(self, maps: Tensor) -> type[ByTaps | OverPlaces | PackedConv]:
        if self._is_matrix or max(convolved(maps.shape[-2:], self.kernel_size, **self._steps)) <= SMALL_MAP:
            return ByTaps
        is_usual = self.kernel_size == (3, 3) and self.padding == self.stride == (1, 1)
        return OverPlaces if is_usual and OverPlaces.pays(maps, channels=self.out_channels) else PackedConv

    def _in_form(self, form: type[ByTaps | OverPlaces | PackedConv], kernel: Tensor, maps: torch.Size | None) -> Form:
        if issubclass(form, OverPlaces):
            return form(kernel, self.bias)
        announced = {} if issubclass(form, ByTaps) else {"maps": maps}
        steps = self._steps
        return form(
            kernel, self.bias, padding=steps["padding"], stride=steps["stride"], computes=self.computes, **announced
        )

    @property
    def _steps(self) -> dict[str, tuple[int, int]]:
        return {"padding": cast(tuple[int, int], self.padding), "stride": cast(tuple[int, int], self.stride)}


class DoublingConv2d(Conv2d):
    """A 3×3 convolution of maps whose height and width nearest neighbours double before.

    Packed it never sees the doubled maps, unless it's very wide. Of the nine neighbours of a place in them four differ,
    so that each of the four places that one place becomes has a 2×2 kernel, of sums of the 3×3 one's: 4/9 of the
    arithmetic.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim, dim, 3, padding=1)
        self._kernels: dict[tuple[int, int], PackedConv] = {}

    def forward(self, input: Tensor, size: tuple[int, int] | None = None) -> Tensor:  # type: ignore[override]
        """(n, c, h, w) to (n, c, 2h, 2w); `size` may be less than that by one row, one column or both."""
        doubled = 2 * input.shape[-2], 2 * input.shape[-1]
        height, width = size or doubled
        if self._kernels and (height, width) == doubled:
            return self._by_place(input)
        maps = F.interpolate(input, scale_factor=2.0, mode="nearest")[..., :height, :width]
        return nn.Conv2d.forward(self, maps) if self._kernels else super().forward(maps)

    def _by_place(self, maps: Tensor) -> Tensor:
        count, _, height, width = maps.shape
        shape = (count, self.out_channels, 2 * height, 2 * width)
        result = torch.empty(shape, dtype=maps.dtype, device=maps.device, memory_format=torch.channels_last)
        for (row, column), kernel in self._kernels.items():
            # The neighbours in front of the upper and the left places, and those behind the lower and the right ones.
            result[:, :, row::2, column::2] = kernel(F.pad(maps, (1 - column, column, 1 - row, row)))
        return result

    def _pack(self) -> None:
        if self.in_channels > WIDEST_DOUBLED or self.computes not in (None, self.weight.dtype):
            super()._pack()
            return
        # Sums don't tell what they were made of: the weight stays as it is.
        kernel = self.weight.float()
        self._kernels = {
            (row, column): PackedConv(_pairs(_pairs(kernel, 2, row), 3, column).to(self.weight.dtype), self.bias)
            for row in (0, 1)
            for column in (0, 1)
        }

    def _unpack(self) -> None:
        if self._kernels:
            self._kernels = {}
        else:
            super()._unpack()


class FramewiseConv(nn.Conv3d, Convolution):
    """A 3×1×1 convolution over frames, kept as a Conv3d for its checkpoint's sake; it runs as a 2D one over (f, p)."""

    def __init__(self, dim: int, out_dim: int) -> None:
        super().__init__(dim, out_dim, kernel_size=(3, 1, 1), padding=(1, 0, 0))

    def forward(self, input: Tensor, *, plus: Tensor | None = None) -> Tensor:
        """Maps (b, i, f, p) to (b, o, f, p), with zeros before the first and after the last frame; `plus` is added."""
        if not self.is_packed:
            return add(F.conv2d(input, self.weight[..., 0], self.bias, padding=_OVER_FRAMES), plus)
        self.arrange_for(input)
        return self._packed(input, plus=plus)

    def _form_for(self, maps: Tensor) -> type[OverFrames | PackedConv]:
        return OverFrames if OverFrames.pays(maps, channels=self.out_channels) else PackedConv

    def _in_form(self, form: type[OverFrames | PackedConv], kernel: Tensor, maps: torch.Size | None) -> Form:
        if form is PackedConv:
            return PackedConv(kernel, self.bias, padding=_OVER_FRAMES, maps=maps, computes=self.computes)
        return form(kernel, self.bias)


class JoinedLinear(Packable):
    """Several linear layers of one input, one product while they are packed or joined; they stay where they were."""

    goes_first = True

    def __init__(self, *layers: Linear) -> None:
        super().__init__()
        self._layers = layers  # in a tuple: they belong to the module that made them
        self._sizes = [layer.out_features for layer in layers]
        self._joined: Tensor | None = None

    def forward(self, input: Tensor) -> tuple[Tensor, ...]:
        """(..., i) to (..., o) of each layer."""
        if self.is_packed:
            return self._packed(input).split(self._sizes, dim=-1)
        if self._joined is not None:
            return F.linear(input, self._joined).split(self._sizes, dim=-1)
        return tuple(layer(input) for layer in self._layers)

    def join(self) -> None:
        """Let the layers' weights be rows of one matrix where they are, until `separate`: what changes them changes it.

        Layers with a bias, and those whose weights change while they run, stay apart.
        """
        if self._joined is None and not any(layer.bias is not None or layer._forward_hooks for layer in self._layers):
            self._joined = torch.cat([layer.weight.data for layer in self._layers])
            for layer, rows in zip(self._layers, self._joined.split(self._sizes), strict=True):
                layer.weight.data = rows

    def separate(self) -> None:
        """Forget the matrix, before the layers' weights go elsewhere."""
        self._joined = None

    def is_worth_packing(self) -> bool:
        """As each of the layers, which must have no bias."""
        return all(layer.is_worth_packing() and layer.bias is None for layer in self._layers)

    @property
    def place(self) -> tuple[int, ...]:
        """All rows; see `Packable.place`."""
        return sum(self._sizes), self._layers[0].in_features

    def _weights(self) -> Iterator[Tensor]:
        return (layer.weight for layer in self._layers)

    def _pack(self) -> None:
        joined = cpu_kernels.joined([layer.weight for layer in self._layers])
        self._packed = Packed(joined, None, computes=self._layers[0].computes)
        for layer in self._layers:
            give_up(layer)

    def _unpack(self) -> None:
        for layer, weight in zip(
            self._layers, self._packed.unpacked().split([layer.out_features for layer in self._layers]), strict=True
        ):
            take_back(layer, weight.clone())
        del self._packed


class GatedLinear(nn.Linear, Packable):
    """A linear layer whose second half gates the first through an exact GELU (arXiv 2002.05202)."""

    def forward(self, input: Tensor) -> Tensor:
        """(..., i) to (..., o / 2)."""
        if self.is_packed:
            value, gate = self._packed
            return value.times(input, gate.gelu(input))
        value, gate = _linear(input, self.weight, self.bias).chunk(2, dim=-1)
        return value * F.gelu(gate)

    @property
    def place(self) -> tuple[int, ...]:
        """A half; see `Packable.place`."""
        return self.out_features // 2, self.in_features

    def _pack(self) -> None:
        halves = zip(self.weight.chunk(2), self.bias.chunk(2), strict=True)
        self._packed = tuple(Packed(weight, bias, computes=self.computes) for weight, bias in halves)
        give_up(self)

    def _unpack(self) -> None:
        take_back(self, torch.cat([half.unpacked() for half in self._packed]))
        del self._packed


def silu(x: Tensor) -> Tensor:
    """SiLU, in the place of its input where nobody needs that for a gradient."""
    return F.silu(x, inplace=not torch.is_grad_enabled())


def add(x: Tensor, more: Tensor | None) -> Tensor:
    """The sum, in the place of the first where nobody needs that for a gradient."""
    if more is None:
        return x
    return x + more if torch.is_grad_enabled() else x.add_(more)


def clip_maps(tokens: Tensor) -> Tensor:
    """Tokens (b, f, p, c) as channels-last maps (b, c, f, p), which norms and convolutions over a clip stay with.

    Not by rearrange, whose last step may give a batch of 1 another stride, which torch takes for another order.
    """
    return tokens.permute(0, 3, 1, 2)


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None, *, plus: Tensor | None = None) -> Tensor:
    if (
        x.device.type == "cpu"
        and cpu_kernels.usable(x.dtype)
        and weight.dtype is x.dtype
        and not torch.is_grad_enabled()
    ):
        return cpu_kernels.linear(x, weight, bias, plus=plus)
    return add(F.linear(x, weight, bias), plus)


def _pairs(kernel: Tensor, axis: int, place: int) -> Tensor:
    """A kernel's three weights along an axis as two, for the first or the second of two places made of one."""
    before, same, behind = kernel.unbind(axis)
    return torch.stack([before + same, behind] if place else [before, same + behind], dim=axis)
