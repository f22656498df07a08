"""What each form of a layer takes on this processor, beside the one that was chosen: `python -m benchmarks layers`.

The forms of a row go in turns, round by round, and the fastest go of each counts, in milliseconds, in memory that is
kept as in a run; all forms of a row give the same numbers, or the row says by how much they differ.
Sizes are the 1.7B network's at 256×256.
"""

from __future__ import annotations

import argparse
import copy
import functools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from unittest import mock

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from t2v_core.models import cpu_kernels
from t2v_core.models.by_taps import ByTaps
from t2v_core.models.modelscope.attention import Attention, FeedForward, RememberedText, attend
from t2v_core.models.modelscope.channels_last import GroupNorm, norm_by_channels, norms_by_channels
from t2v_core.models.modelscope.layers import (
    Conv2d,
    DoublingConv2d,
    FramewiseConv,
    GatedLinear,
    JoinedLinear,
    Linear,
    clip_maps,
)
from t2v_core.models.modelscope.packable import compute_in, pack
from t2v_core.models.narrow import keeps_narrow
from t2v_core.rendering.heap import keeping_memory, working_memory
from t2v_core.rendering.upcast import widen_on_use

Form = Callable[[], Tensor]


@dataclass(frozen=True, slots=True)
class Choice:
    """The forms of one layer by what they are called; the first is ours."""

    name: str
    forms: Mapping[str, Form]


def main(arguments: list[str]) -> int:
    """Measure every choice and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks layers", description=__doc__)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="a hundredth of the size, to see that it works")
    options = parser.parse_args(arguments)
    dtype = torch.float32 if options.precision == "fp32" else torch.bfloat16
    print(f"{options.precision}, {torch.get_num_threads()} threads, torch {torch.__version__}; milliseconds\n")
    with torch.inference_mode(), working_memory(wanted=True):
        for choice in choices(dtype, frames=options.frames, scale=8 if options.quick else 1):
            print(row(choice, rounds=options.rounds), flush=True)
    return 0


def row(choice: Choice, *, rounds: int) -> str:
    """One choice as a line of a table: what each form takes, and ours as a share of the next best."""
    with keeping_memory(choice.name):
        results = {name: form().float() for name, form in choice.forms.items()}
    best = dict.fromkeys(choice.forms, float("inf"))
    with keeping_memory(choice.name):
        for _ in range(rounds):
            for name, form in choice.forms.items():
                start = time.perf_counter()
                form()
                best[name] = min(best[name], time.perf_counter() - start)
    ours, *others = best.values()
    own, *found = results.values()
    differs = max(float(torch.linalg.norm(other - own) / torch.linalg.norm(own)) for other in found)
    forms = ", ".join(f"{name} {1000 * seconds:.1f}" for name, seconds in best.items())
    return f"| {choice.name} | {forms} | {ours / min(others):.2f} | {differs:.0e} |"


def choices(dtype: torch.dtype, *, frames: int, scale: int) -> Iterator[Choice]:
    """Every choice that was made by measuring, at the sizes where it matters."""
    for places, dim in ((1024, 320), (64, 1280), (16, 1280)):
        yield from _products(dtype, rows=frames * places // scale, dim=dim // scale)
    yield _gated(dtype, rows=frames * 1024 // scale, dim=320 // scale)
    for side, dim in ((2, 1280), (4, 1280), (8, 1280), (16, 640), (32, 320)):
        yield _convolution(dtype, frames=frames, side=side, dim=dim // scale)
    for side, dim in ((8, 1280), (16, 640)):
        yield _convolution(dtype, frames=frames, side=side, dim=dim // scale, stride=2)
    for side, dim in ((8, 96), (8, 1280)):
        yield _turned(dtype, frames=frames, side=side, dim=dim // scale)
    for places, dim in ((1024, 320), (64, 1280)):
        yield _over_frames(dtype, frames=frames, places=places // scale, dim=dim // scale)
    for side, dim in ((16, 640), (64, 256)):
        yield _doubled(dtype, frames=frames, side=side // scale, dim=dim // scale)
    yield _by_rows(dtype, rows=frames * 1024 // scale, dim=320 // scale)
    if dtype is torch.bfloat16 and keeps_narrow():
        for side, dim in ((4, 1280), (16, 640)):
            yield from _widened(frames=frames, side=side, dim=dim // scale)
    for places, heads in ((1024, 5), (64, 20)):
        yield from _over_axes(dtype, frames=frames, places=places // scale, heads=heads)
        yield _of_text(dtype, tokens=frames * places // scale, heads=heads)
    for shape in ((frames, 640, 16, 16), (1, 640, frames, 32), (frames, 1280, 8, 8)):
        yield _normed(dtype, *shape)


def _products(dtype: torch.dtype, *, rows: int, dim: int) -> Iterator[Choice]:
    (x, more), layer = torch.randn(2, rows, dim, dtype=dtype), Linear(dim, dim, dtype=dtype)
    weight, bias = layer.weight.clone(), layer.bias.clone()
    plain = Linear(dim, dim, dtype=dtype)
    plain.weight, plain.bias = nn.Parameter(weight), nn.Parameter(bias)
    pack(layer)
    yield Choice(
        f"product of {rows} × {dim} by {dim} × {dim}",
        {"packed": lambda: layer(x), "oneDNN": lambda: plain(x), "torch": lambda: F.linear(x, weight, bias)},
    )
    yield Choice(
        "the same, and something added",
        _in_passes(lambda: layer(x, plus=more)),
    )
    three = [Linear(dim, dim, bias=False, dtype=dtype) for _ in range(3)]
    alone = [Linear(dim, dim, bias=False, dtype=dtype) for _ in range(3)]
    for one, other in zip(three, alone, strict=True):
        other.load_state_dict(one.state_dict())
        pack(other)
    joined = JoinedLinear(*three)
    pack(joined)
    yield Choice(
        "query, key and value",
        {"one product": lambda: torch.cat(joined(x), -1), "three": lambda: torch.cat([one(x) for one in alone], -1)},
    )


def _in_passes(work: Form) -> dict[str, Form]:
    """Products that something follows, as this processor has them and the two ways that there are."""

    def joining(joins: bool) -> Tensor:
        with mock.patch.object(cpu_kernels, "joins_passes", return_value=joins):
            return work()

    return {"ours": work, "in one pass": lambda: joining(True), "in two": lambda: joining(False)}


def _gated(dtype: torch.dtype, *, rows: int, dim: int) -> Choice:
    x, layer = torch.randn(rows, dim, dtype=dtype), GatedLinear(dim, 8 * dim, dtype=dtype)
    whole = Linear(dim, 8 * dim, dtype=dtype)
    whole.load_state_dict(layer.state_dict())
    pack(layer)
    pack(whole)

    def in_steps() -> Tensor:
        value, gate = whole(x).chunk(2, dim=-1)
        return value * F.gelu(gate)

    forms = _in_passes(lambda: layer(x)) | {"one product, GELU and gate after it": in_steps}
    return Choice(f"GEGLU of {rows} × {dim}", forms)


def _convolution(dtype: torch.dtype, *, frames: int, side: int, dim: int, stride: int = 1) -> Choice:
    maps = torch.randn(frames, dim, side, side, dtype=dtype).contiguous(memory_format=torch.channels_last)
    layer, plain = (Conv2d(dim, dim, 3, padding=1, stride=stride, dtype=dtype) for _ in range(2))
    plain.load_state_dict(layer.state_dict())
    turned = plain.weight.contiguous(memory_format=torch.channels_last)
    direct, taps = (
        form(plain.weight, plain.bias, padding=1, stride=stride) for form in (cpu_kernels.PackedConv, ByTaps)
    )
    pack(layer)
    return Choice(
        f"3×3 convolution of {frames} maps of {side}×{side}, {dim} channels" + (", halving them" if stride > 1 else ""),
        {
            "by its size": lambda: layer(maps),
            "packed": lambda: direct(maps),
            "a product for each place of the kernel": lambda: taps(maps),
            "torch": lambda: F.conv2d(maps, plain.weight, plain.bias, padding=1, stride=stride),
            "torch, channels-last weights": lambda: F.conv2d(maps, turned, plain.bias, padding=1, stride=stride),
        },
    )


def _turned(dtype: torch.dtype, *, frames: int, side: int, dim: int) -> Choice:
    maps = torch.randn(frames, dim, side, side, dtype=dtype).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(dim, dim, 3, 3, dtype=dtype)
    fitting, other = (cpu_kernels.PackedConv(weight, None, padding=1) for _ in range(2))
    other.is_in_order = True
    return Choice(
        f"3×3 convolution of {frames} maps of {side}×{side}, {dim} channels",
        {"kernel in these maps' order": lambda: fitting(maps), "in that of larger ones": lambda: other(maps)},
    )


def _over_frames(dtype: torch.dtype, *, frames: int, places: int, dim: int) -> Choice:
    clip = torch.randn(1, frames, places, dim, dtype=dtype)
    maps = clip_maps(clip)
    layer, plain = (FramewiseConv(dim, dim).to(dtype) for _ in range(2))
    plain.load_state_dict(layer.state_dict())
    pack(layer)
    weight, bias = plain.weight, plain.bias
    assert bias is not None
    volume = rearrange(maps, "b c f p -> b c f p 1")
    packed, three = (form(weight[..., 0], bias, padding=(1, 0)) for form in (cpu_kernels.PackedConv, ByTaps))
    return Choice(
        f"convolution over {frames} frames of {places} places, {dim} channels",
        {
            "by its size": lambda: layer(maps),
            "2D, packed": lambda: packed(maps),
            "three products, packed": lambda: three(maps),
            "2D": lambda: plain(maps),
            "3D": lambda: F.conv3d(volume, weight, bias, padding=(1, 0, 0))[..., 0],
        },
    )


def _doubled(dtype: torch.dtype, *, frames: int, side: int, dim: int) -> Choice:
    maps = torch.randn(frames, dim, side, side, dtype=dtype).contiguous(memory_format=torch.channels_last)
    layer, whole = DoublingConv2d(dim).to(dtype), Conv2d(dim, dim, 3, padding=1, dtype=dtype)
    whole.load_state_dict(layer.state_dict())
    pack(layer)
    pack(whole)
    return Choice(
        f"3×3 convolution of {frames} maps of {side}×{side} that are doubled, {dim} channels",
        {
            "2×2, four times": lambda: layer(maps),
            "3×3 of doubled maps": lambda: whole(F.interpolate(maps, scale_factor=2.0, mode="nearest")),
        },
    )


def _by_rows(dtype: torch.dtype, *, rows: int, dim: int) -> Choice:
    tokens, layer = torch.randn(1, 1, rows, dim, dtype=dtype), FeedForward(dim).to(dtype)
    pack(layer)
    return Choice(
        f"feed-forward of {rows} × {dim}",
        {"some rows at a time": lambda: layer(tokens, plus=tokens), "all": lambda: layer._rows(tokens, tokens)},
    )


def _widened(*, frames: int, side: int, dim: int) -> Iterator[Choice]:
    """What is for processors that multiply bf16 badly, beside what is for those that do it well."""
    maps = torch.randn(frames, dim, side, side).contiguous(memory_format=torch.channels_last)
    tokens = torch.randn(frames * side**2, dim)
    inputs = {Linear(dim, dim): tokens, Conv2d(dim, dim, 3, padding=1): maps}
    for first, x in inputs.items():
        narrow, native, plain = (copy.deepcopy(first).bfloat16() for _ in range(3))
        compute_in(narrow, torch.float32)
        pack(narrow)
        pack(native)
        widen_on_use(plain, torch.float32)
        same = x.bfloat16()
        yield Choice(
            f"{'product' if x is tokens else '3×3 convolution'} of {frames} maps of {side}×{side}, {dim} channels",
            {
                "widened from its packed order": lambda layer=narrow, x=x: layer(x),
                "widened, then packed": lambda layer=plain, x=x: layer(x),
                "in bf16": lambda layer=native, x=same: layer(x),
            },
        )


def _of_text(dtype: torch.dtype, *, tokens: int, heads: int) -> Choice:
    query = torch.randn(1, tokens, heads, 64, dtype=dtype).transpose(1, 2)
    features = torch.randn(1, 77, 64, dtype=dtype)
    layer = Attention(64, heads=heads, head_dim=64, axes="", context_dim=64).to(dtype)
    remembered = RememberedText(features)
    plain, filled = (
        [rearrange(part, "b n (heads d) -> b heads n d", heads=heads) for part in parts]
        for parts in ((layer.to_k(features), layer.to_v(features)), remembered.projected(layer))
    )
    return Choice(
        f"attention of {tokens} tokens to a text's 77, {heads} heads",
        {
            "filled up with keys of nothing": lambda: attend(query, *filled, mask=remembered.mask),
            "as it is": lambda: attend(query, *plain),
        },
    )


def _over_axes(dtype: torch.dtype, *, frames: int, places: int, heads: int) -> Iterator[Choice]:
    joined = torch.randn(frames, places, 3 * heads * 64, dtype=dtype)

    def plain(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return (query @ key.transpose(-1, -2) * 64**-0.5).softmax(-1) @ value

    forms = {"ours": attend, "torch's": F.scaled_dot_product_attention, "plain": plain}
    for name, axes in (
        (f"attention over {places} places in {frames} frames", "f p (heads d) -> f heads p d"),
        (f"attention over {frames} frames at {places} places", "f p (heads d) -> p heads f d"),
    ):
        parts = [rearrange(part, axes, heads=heads) for part in joined.chunk(3, dim=-1)]
        calls: dict[str, Callable[[], Tensor]] = {form: functools.partial(call, *parts) for form, call in forms.items()}
        yield Choice(f"{name}, {heads} heads", calls)


def _normed(dtype: torch.dtype, *shape: int) -> Choice:
    maps = torch.randn(shape).to(dtype).contiguous(memory_format=torch.channels_last)
    norm = GroupNorm(32, shape[1]).to(dtype)
    forms: dict[str, Form] = {"ours": lambda: norm(maps), "torch's": lambda: nn.GroupNorm.forward(norm, maps)}
    if norms_by_channels(dtype):
        forms["by channels"] = lambda: norm_by_channels(maps, norm)
    return Choice(f"norm of {shape[0]} maps of {shape[2]}×{shape[3]}, {shape[1]} channels", forms)
