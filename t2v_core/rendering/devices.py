"""What each kind of device lacks, and the calls that differ from one to the next: the only place that knows.

CUDA stands for ROCm too, whose torch answers to the same name. DirectML calls its devices "privateuseone".
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from t2v_core.models import processor

FORMATS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
"""The number formats that a network can compute in."""

_CPU_FLAGS = {"bf16": {"avx512_bf16", "amx_bf16", "bf16"}, "fp16": {"avx512_fp16", "amx_fp16", "asimdhp"}}
# Intel's multiply vectors of bf16 at 0.6 of float32's speed; tiles are faster, which not all virtual machines show.
_SLOW_ON_INTEL = {"avx512_bf16"}

# The Turing cards without matrix units: their fp16 convolutions give NaN (pytorch/pytorch issue 77955).
_BROKEN_FP16 = ("GTX 16", "T500", "T550", "T600", "MX450", "MX550", "CMP 30HX", "T1000", "T2000")
_FIRST_WITH_FP16, _FIRST_WITH_BF16 = (6, 0), (8, 0)


@dataclass(frozen=True, slots=True)
class Traits:
    """What one device can do.

    Attributes:
        kind: torch's name for this kind of device, without a number.
        label: what people call it.
        computes: the formats that it multiplies in quickly and rightly, the best one for a video first.
        stores: the formats that it can hold weights in at all.
        fused_attention: torch's scaled_dot_product_attention works and may be trusted in half precision.
        inference_mode: tensors made in inference mode can be computed with; else only `no_grad` will do.
        float64: it knows numbers of 64 bits.
        works_beside: it computes while the processor goes on: asking for a number waits for all work before it.
        pinned: page-locked main memory is copied to it while it computes.
        graphs: a sequence of kernels can be recorded and replayed.
        compiles: torch.compile has a backend for it.
    """

    kind: str
    label: str
    computes: tuple[str, ...] = ("fp32",)
    stores: tuple[str, ...] = ("fp32", "fp16", "bf16", "fp8")
    fused_attention: bool = True
    inference_mode: bool = True
    float64: bool = True
    works_beside: bool = True
    pinned: bool = False
    graphs: bool = False
    compiles: bool = False

    @property
    def best_half(self) -> str:
        """The format of 16 bits for weights: one that it computes in, else one that is widened layer by layer."""
        return next(name for name in (*self.computes, *self.stores) if name in ("fp16", "bf16"))

    @property
    def is_cpu(self) -> bool:
        """Whether it is the processor itself, whose memory is main memory."""
        return self.kind == "cpu"


@functools.lru_cache(maxsize=16)
def traits_of(device: str) -> Traits:
    """What a device can do; what differs between machines is tried out once, on a few numbers."""
    kind = kind_of(device)
    traits = _KINDS.get(kind, _unknown)(device)
    computes = tuple(name for name in traits.computes if name == "fp32" or _multiplies(FORMATS[name], device))
    fused = traits.fused_attention and _works(lambda: _fused_attention(device))
    inference = traits.inference_mode and _works(lambda: _in_inference_mode(device))
    float64 = traits.float64 and _works(lambda: _few(device).to(torch.float64) + 1)
    stores = tuple(name for name in traits.stores if name != "fp8" or _works(lambda: _eight_bits(device)))
    changes = {
        "stores": stores,
        "computes": computes,
        "fused_attention": fused,
        "inference_mode": inference,
        "float64": float64,
    }
    return Traits(**{name: changes.get(name, getattr(traits, name)) for name in Traits.__slots__})


def kind_of(device: str) -> str:
    """A device's kind: "cuda" for "cuda:1"."""
    return device.partition(":")[0]


def best_device() -> str:
    """The name of the first kind of device that this machine has; DirectML only where its package is installed."""
    if torch.cuda.is_available():
        return "cuda"
    if torch.backends.mps.is_available():
        return "mps"
    xpu = getattr(torch, "xpu", None)
    if xpu is not None and xpu.is_available():
        return "xpu"
    try:
        torch_directml = importlib.import_module("torch_directml")  # nothing that we ask for: people bring it
    except ImportError:
        return "cpu"
    return str(torch_directml.device()) if torch_directml.is_available() else "cpu"


def on_device(device: str) -> contextlib.AbstractContextManager[Any]:
    """Within the block torch means this one of several devices where none is named: for events, queues, recordings."""
    choose = getattr(getattr(torch, kind_of(device), None), "device", None)
    return choose(device) if choose is not None else contextlib.nullcontext()


def no_gradients(device: str) -> contextlib.AbstractContextManager[Any]:
    """Within the block nothing is kept for gradients, in the quickest way that the device bears."""
    return torch.inference_mode() if traits_of(device).inference_mode else torch.no_grad()


@contextlib.contextmanager
def weights_moving() -> Iterator[None]:
    """Within the block weights may get other memory, and stay weights as compiled code knows them.

    In inference mode they would become tensors of another kind, for which all of it would be compiled again.
    """
    with torch.inference_mode(mode=False), torch.no_grad():
        yield


def free_memory(device: str) -> int | None:
    """Bytes that a run may still take on the device, what torch keeps for it included; None where nobody can say."""
    kind = kind_of(device)
    if kind == "cpu":
        return _free_main_memory()
    try:
        if kind == "mps":
            # The processor and the GPU share one memory.
            limit = torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
            return max(0, min(limit, _free_main_memory()))
        module = getattr(torch, kind)
        kept = module.memory_reserved(device) - module.memory_allocated(device)
        return module.mem_get_info(device)[0] + kept
    except (AttributeError, RuntimeError):  # an older torch, a driver that doesn't say, DirectML
        return None


def memory_held(device: str) -> int:
    """Bytes of the device's memory that this process's tensors take; 0 where nobody can say."""
    count = getattr(getattr(torch, kind_of(device), None), "memory_allocated", None)
    return count(device) if count is not None and kind_of(device) != "cpu" else 0


def memory_in_use(device: str) -> Callable[[], int]:
    """What tells how many bytes this process uses: at most since now on a device that counts so, else just now."""
    kind = kind_of(device)
    if kind == "mps":
        return torch.mps.current_allocated_memory
    module: Any = getattr(torch, kind, None)
    if kind != "cpu" and hasattr(module, "max_memory_allocated"):
        module.reset_peak_memory_stats(device)
        return lambda: module.max_memory_allocated(device)
    import psutil

    process = psutil.Process()
    return lambda: process.memory_info().rss


def empty_cache(device: str) -> None:
    """Give back what torch, or on a CPU the heap, keeps of the device's memory for later."""
    if kind_of(device) == "cpu":
        with contextlib.suppress(OSError, AttributeError):  # a C library of another kind than GNU's
            ctypes.CDLL(None).malloc_trim(0)
        return
    give_back = getattr(getattr(torch, kind_of(device), None), "empty_cache", None)
    if give_back is not None:
        give_back()


def synchronize(device: str) -> None:
    """Wait until the device has done all that it was given."""
    wait = getattr(getattr(torch, kind_of(device), None), "synchronize", None)
    if wait is not None:
        wait()


def to_device(tensor: Tensor, device: str) -> Tensor:
    """A tensor in main memory, copied to the device without waiting where that can be done."""
    if traits_of(device).pinned and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def fetch(tensor: Tensor) -> Callable[[], Tensor]:
    """Begin to copy a small tensor to main memory; what is returned waits for it, and for nothing that came after."""
    if not traits_of(tensor.device.type).pinned:
        return tensor.cpu
    copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    copy.copy_(tensor, non_blocking=True)
    copied = getattr(torch, tensor.device.type).Event()
    copied.record()

    def wait() -> Tensor:
        copied.synchronize()
        return copy

    return wait


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device or the system had no memory left; on CPU, MPS and DirectML torch says so in words alone."""
    words = str(error).lower()
    signs = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory", "alloc_failed",
             "failed to allocate", "could not allocate", "insufficient memory", "out_of_device_memory",
             # What cuDNN's convolutions make of it, once no way to compute one finds room for its workspace.
             "unable to find an engine", "unable to find a valid cudnn algorithm")  # fmt: skip
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in words for sign in signs)


def is_lost(error: BaseException) -> bool:
    """Whether an error says that the device itself has failed, so that nothing more can run on it in this process."""
    words = str(error).lower()
    signs = ("device-side assert", "illegal memory access", "launch failure", "device lost", "device removed",
             "ecc error", "unknown error", "device is lost", "has fallen off the bus", "device hung")  # fmt: skip
    return isinstance(error, RuntimeError) and any(sign in words for sign in signs)


def _cpu(_: str) -> Traits:
    flags = cpu_flags() - (_SLOW_ON_INTEL if processor.is_by_intel() else set())
    halves = tuple(name for name, any_of in _CPU_FLAGS.items() if any_of & flags)
    return Traits("cpu", "CPU", computes=("fp32", *halves), works_beside=False)


def _cuda(device: str) -> Traits:
    rocm = torch.version.hip is not None
    properties = torch.cuda.get_device_properties(device)
    # ROCm counts its generations otherwise; its bf16 is said by a call of its own.
    generation = (properties.major, properties.minor)
    halves = []
    if rocm or (generation >= _FIRST_WITH_FP16 and not any(name in properties.name for name in _BROKEN_FP16)):
        halves.append("fp16")
    if torch.cuda.is_bf16_supported() if rocm else generation >= _FIRST_WITH_BF16:
        halves.append("bf16")
    label = "ROCm" if rocm else "CUDA"
    return Traits("cuda", label, computes=(*halves, "fp32"), pinned=True, graphs=True, compiles=generation >= (7, 0))


def _mps(_: str) -> Traits:
    # Its fused attention keeps all scores and, since macOS 14.5, gives black pictures in half precision.
    computes = ("fp16", "bf16", "fp32")
    return Traits(
        "mps", "MPS", computes=computes, stores=("fp32", "fp16", "bf16"), fused_attention=False, float64=False
    )


def _directml(_: str) -> Traits:
    # One bf16 tensor ends the whole process (microsoft/DirectML issue 688), so that it mustn't be tried out;
    # inference mode fails (602), and so do numbers of 64 bits on many cards (430, 699).
    return Traits(
        "privateuseone", "DirectML", computes=("fp16", "fp32"), stores=("fp32", "fp16"),
        fused_attention=False, inference_mode=False, float64=False,
    )  # fmt: skip


def _xpu(_: str) -> Traits:
    return Traits("xpu", "XPU", computes=("fp16", "bf16", "fp32"), compiles=True)


def _unknown(device: str) -> Traits:
    return Traits(kind_of(device), kind_of(device), computes=("fp16", "bf16", "fp32"), fused_attention=False)


_KINDS: dict[str, Callable[[str], Traits]] = {
    "cpu": _cpu,
    "cuda": _cuda,
    "mps": _mps,
    "privateuseone": _directml,
    "xpu": _xpu,
}


@functools.lru_cache(maxsize=1)
def cpu_flags() -> frozenset[str]:
    """What this processor's kernel says it can do; nothing where it says nothing."""
    return frozenset(processor.fact("flags", "features").split())


def _free_main_memory() -> int:
    import psutil

    return psutil.virtual_memory().available


def _few(device: str, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.ones(8, 8, dtype=dtype).to(device)


def _multiplies(dtype: torch.dtype, device: str) -> bool:
    return _works(lambda: _few(device, dtype) @ _few(device, dtype))


def _eight_bits(device: str) -> Tensor:
    return _few(device).to(torch.float8_e4m3fn).to(torch.float32)


def _fused_attention(device: str) -> Tensor:
    few = _few(device)[None, None]
    return F.scaled_dot_product_attention(few, few, few)


def _in_inference_mode(device: str) -> Tensor:
    with torch.inference_mode():
        return F.linear(_few(device), _few(device)).reshape(2, 4, 8) * 2


def _works(attempt: Callable[[], Tensor]) -> bool:
    """Whether something can be computed, and its result is made of numbers."""
    try:
        return bool(torch.isfinite(attempt().float().cpu()).all())
    except (RuntimeError, TypeError, NotImplementedError, AssertionError, AttributeError):
        return False
