"""What the operations of a video network give, by shape: tensors on the meta device, made without torch's own rules.

These load seconds' worth of modules when they are first asked (symbolic algebra, the compiler), which nobody should
wait for who only wants to know whether a clip fits. What isn't in the table is left to them.

Legend: x the first argument, w a weight.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from t2v_core.models.modelscope.channels_last import HALVES

Result = tuple[Tensor | None, int]
"""A tensor without memory, None for "ask torch"; and bytes that the kernel takes meanwhile and gives back."""


def result_of(name: str, args: Sequence[Any], kwargs: Mapping[str, Any], *, kind: str) -> Result:
    """What the function of this name gives on a device of this kind, if it is known here."""
    rule = _RULES.get(name)
    if rule is None or kwargs.get("out") is not None:
        return None, 0
    tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
    if tensors and not all(tensor.is_meta or tensor.ndim == 0 for tensor in tensors):
        return None, 0
    return rule(args, kwargs, kind)


def _elementwise(args: Sequence[Any], kwargs: Mapping[str, Any], kind: str) -> Result:
    tensors = [value for value in args if isinstance(value, Tensor)]
    shape = _broadcast([tensor.shape for tensor in tensors])
    dtype = tensors[0].dtype
    for tensor in tensors[1:]:
        dtype = torch.promote_types(dtype, tensor.dtype) if tensor.ndim else dtype
    model = next((tensor for tensor in tensors if tensor.shape == shape), None)
    return _like(model, shape, dtype), 0


def _group_norm(args: Sequence[Any], kwargs: Mapping[str, Any], kind: str) -> Result:
    x = args[0]
    # Its kernel knows one layout and copies others to it; in 16 bits the network has its own way.
    if kind == "cuda" and x.dtype not in HALVES and not x.is_contiguous():
        return _new(x.shape, x.dtype), _bytes(x.shape, x.dtype)
    return _like(x, x.shape, x.dtype), 0


def _packed_like_first(args: Sequence[Any], kwargs: Mapping[str, Any], kind: str) -> Result:
    return _new(args[0].shape, args[0].dtype), 0


def _linear(args: Sequence[Any], kwargs: Mapping[str, Any], kind: str) -> Result:
    x, w = args[0], args[1]
    copied = 0 if x.is_contiguous() else _bytes(x.shape, x.dtype)
    return _new((*x.shape[:-1], w.shape[0]), x.dtype), copied


def _conv(args: Sequence[Any], kwargs: Mapping[str, Any], kind: str) -> Result:
    names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
    named: dict[str, Any] = dict(zip(names, args, strict=False)) | dict(kwargs)
    x, w = named["input"], named["weight"]
    stride, padding, dilation = (
        _each(named.get(key, default), w.ndim - 2) for key, default in (("stride", 1), ("padding", 0), ("dilation", 1))
    )
    if x.ndim != w.ndim or isinstance(named.get("padding"), str):
        return None, 0
    sizes = [
        (size + 2 * pad - gap * (kernel - 1) - 1) // step + 1
        for size, kernel, step, pad, gap in zip(x.shape[2:], w.shape[2:], stride, padding, dilation, strict=True)
    ]
    last = w.ndim == 4 and (_channels_last(x) or _channels_last(w))
    format = torch.channels_last if last else torch.contiguous_format
    workspace = 0 if x.is_contiguous(memory_format=format) else _bytes(x.shape, x.dtype)
    if kind == "cpu":  # oneDNN turns plain weights into its own order each time
        workspace += _bytes(w.shape, w.dtype)
    return _new((x.shape[0], w.shape[0], *sizes), x.dtype, format), workspace


def _attention(args: Sequence[Any], kwargs: Mapping[str, Any], kind: str) -> Result:
    query, value = args[0], args[2]
    return _new((*query.shape[:-1], value.shape[-1]), query.dtype), 0


def _product(args: Sequence[Any], kwargs: Mapping[str, Any], kind: str) -> Result:
    a, b = args[0], args[1]
    if a.ndim < 2 or b.ndim < 2:
        return None, 0
    batch = _broadcast([a.shape[:-2], b.shape[:-2]])
    return _new((*batch, a.shape[-2], b.shape[-1]), a.dtype), 0


def _added_product(args: Sequence[Any], kwargs: Mapping[str, Any], kind: str) -> Result:
    return _product(args[1:], kwargs, kind)


def _cat(args: Sequence[Any], kwargs: Mapping[str, Any], kind: str) -> Result:
    tensors = list(args[0])
    dim = kwargs.get("dim", args[1] if len(args) > 1 else 0)
    shape = list(tensors[0].shape)
    shape[dim] = sum(tensor.shape[dim] for tensor in tensors)
    last = len(shape) == 4 and all(_channels_last(tensor) for tensor in tensors)
    format = torch.channels_last if last else torch.contiguous_format
    return _new(shape, tensors[0].dtype, format), 0


def _upsample(args: Sequence[Any], kwargs: Mapping[str, Any], kind: str) -> Result:
    named = dict(zip(("input", "size", "scale_factor"), args, strict=False)) | dict(kwargs)
    x, size, factor = named["input"], named.get("size"), named.get("scale_factor")
    if size is None:
        size = [math.floor(length * each) for length, each in zip(x.shape[2:], _each(factor, x.ndim - 2), strict=True)]
    size = _each(size, x.ndim - 2)
    format = torch.channels_last if _channels_last(x) else torch.contiguous_format
    return _new((*x.shape[:2], *size), x.dtype, format), 0


def _dropped_out(args: Sequence[Any], kwargs: Mapping[str, Any], kind: str) -> Result:
    return args[0], 0  # networks are in eval mode


def _in_place(args: Sequence[Any], kwargs: Mapping[str, Any], kind: str) -> Result:
    return args[0], 0


def _empty_like(args: Sequence[Any], kwargs: Mapping[str, Any], kind: str) -> Result:
    x = args[0]
    return _like(x, x.shape, kwargs.get("dtype") or x.dtype), 0


def _stack(args: Sequence[Any], kwargs: Mapping[str, Any], kind: str) -> Result:
    tensors = list(args[0])
    dim = kwargs.get("dim", args[1] if len(args) > 1 else 0)
    shape = list(tensors[0].shape)
    shape.insert(dim % (len(shape) + 1), len(tensors))
    return _new(shape, tensors[0].dtype), 0


def _range(args: Sequence[Any], kwargs: Mapping[str, Any], kind: str) -> Result:
    on_meta = torch.device(kwargs.get("device") or "cpu").type == "meta"
    if not on_meta or not all(isinstance(value, int) for value in args):
        return None, 0
    return _new((len(range(*args)),), kwargs.get("dtype") or torch.int64), 0


def _embedding(args: Sequence[Any], kwargs: Mapping[str, Any], kind: str) -> Result:
    weight, tokens = sorted(args[:2], key=lambda tensor: not tensor.is_floating_point())
    return _new((*tokens.shape, weight.shape[1]), weight.dtype), 0


_RULES: Mapping[str, Callable[[Sequence[Any], Mapping[str, Any], str], Result]] = {
    **dict.fromkeys(
        ("add", "sub", "mul", "div", "rsub", "__radd__", "__rmul__", "__rsub__", "true_divide", "silu", "gelu", "relu",
         "sigmoid", "tanh", "exp", "cos", "sin", "neg", "clamp", "clamp_min", "softmax", "round", "pow", "sqrt"),
        _elementwise,
    ),
    **dict.fromkeys(
        ("add_", "sub_", "mul_", "div_", "silu_", "gelu_", "copy_", "clamp_", "round_", "addcmul_", "__iadd__",
         "__imul__", "__isub__", "zero_", "fill_"),
        _in_place,
    ),
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), _conv),
    **dict.fromkeys(("matmul", "mm", "bmm", "__matmul__"), _product),
    **dict.fromkeys(("addmm", "baddbmm"), _added_product),
    **dict.fromkeys(("cat", "concat", "concatenate"), _cat),
    **dict.fromkeys(("empty_like", "zeros_like"), _empty_like),
    "group_norm": _group_norm,
    "layer_norm": _packed_like_first,
    "linear": _linear,
    "scaled_dot_product_attention": _attention,
    "interpolate": _upsample,
    "dropout": _dropped_out,
    "embedding": _embedding,
    "stack": _stack,
    "arange": _range,
}  # fmt: skip


def _like(model: Tensor | None, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """A tensor of a shape, in the order of the model's axes where that has no gaps."""
    if model is not None and model.ndim == 4 and _channels_last(model):
        return _new(shape, dtype, torch.channels_last)
    if model is None or model.is_contiguous() or not _is_dense(model):
        return _new(shape, dtype)
    order = sorted(range(model.ndim), key=lambda dim: (-model.stride(dim), dim))
    turned = _new([shape[dim] for dim in order], dtype)
    return turned.permute([order.index(dim) for dim in range(model.ndim)])


def _new(shape: Sequence[int], dtype: torch.dtype, format: torch.memory_format = torch.contiguous_format) -> Tensor:
    return torch.empty(tuple(shape), dtype=dtype, device="meta", memory_format=format)


def _bytes(shape: Sequence[int], dtype: torch.dtype) -> int:
    return math.prod(shape) * dtype.itemsize


def _channels_last(tensor: Tensor) -> bool:
    return tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous()


def _is_dense(tensor: Tensor) -> bool:
    """Whether the elements lie without gaps and none lies twice, in whatever order."""
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True


def _broadcast(shapes: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """The shape that arrays of these shapes have together; torch's own function loads symbolic algebra."""
    longest = max(map(len, shapes))
    padded = [(1,) * (longest - len(shape)) + tuple(shape) for shape in shapes]
    return tuple(next((size for size in sizes if size != 1), 1) for sizes in zip(*padded, strict=True))


def _each(value: Any, dims: int) -> Sequence[Any]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,) * dims
