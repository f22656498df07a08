"""Fills the networks from their files, tensor by tensor, so that no second copy of the weights ever exists.

Each tensor is read straight into its place, or in windows of a few megabytes where it's converted or goes to a GPU,
while the system already fetches what follows. No file is kept open or mapped: it may be replaced or its drive unplugged
while the model runs, and Windows lets it be deleted.
"""

from __future__ import annotations

import functools
import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from t2v_core.models import architectures
from t2v_core.models.layouts import ModelFolder
from t2v_core.models.matching import Target, match
from t2v_core.models.modelscope.checkpoint import Part, may_be_unused, spellings
from t2v_core.models.modelscope.config import ModelConfig
from t2v_core.models.modelscope.text_encoder import TextEncoder
from t2v_core.models.modelscope.unet import UNet3D
from t2v_core.models.modelscope.vae import Autoencoder
from t2v_core.models.tensors import ITEM_SIZES, FileError, TensorRef
from t2v_core.models.weights_file import read_weights
from t2v_core.models.whole import DOWNLOAD_AGAIN, opened

Progress = Callable[[int, int], None]
"""Told the bytes done and the bytes in all."""

Narrowed = Callable[[str, Tensor], Tensor]
"""A tensor of that name as it's to be kept."""

Completed = Callable[[nn.Module], None]
"""Told a block of the network whose weights are all in their places."""

_WINDOW = 16 * 2**20
_AHEAD = 2 * _WINDOW
_TILE = 2**17
"""Numbers that are converted at once by way of float32: they stay in a processor's cache."""

Network = TypeVar("Network", bound=nn.Module)

_KINDS: Mapping[Part, str] = {
    Part.TEXT: architectures.TEXT,
    Part.UNET: architectures.UNET,
    Part.AUTOENCODER: architectures.AUTOENCODER,
}

_USUAL_NAMES = {
    architectures.TEXT: "open_clip_pytorch_model.bin",
    architectures.UNET: "text2video_pytorch_model.pth",
    architectures.AUTOENCODER: "VQGAN_autoencoder.pth",
    # The published autoencoder file is a whole checkpoint of Stable Diffusion 2.
    architectures.STABLE_DIFFUSION_2: "VQGAN_autoencoder.pth",
}


def _ignore(done: int, total: int) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Networks:
    """The three networks of a model, without gradients, in eval mode."""

    text: TextEncoder
    unet: UNet3D
    autoencoder: Autoencoder


def load(
    model: ModelFolder,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    dtypes: Mapping[Part, torch.dtype] | None = None,
    progress: Progress = _ignore,
) -> Networks:
    """Load all parts of a model; every file is checked before the first one is read.

    Args:
        model: what `catalogue.find_model` found.
        device: where the weights go.
        dtype: what they become; by default each part stays as its file has it.
        dtypes: the same for single parts.
        progress: told the bytes done and in all, over the three files.

    Raises:
        WeightsError: naming the file that is missing, damaged, unsafe or another model's, and the remedy.
    """
    plans = {part: plan(model, part) for part in Part}
    total = sum(count_bytes(targets) for targets in plans.values())
    done, networks = 0, {}
    for part, targets in plans.items():
        start = done

        def report(count: int, _: int, start: int = start) -> None:
            progress(start + count, total)

        wanted = (dtypes or {}).get(part, dtype)
        networks[part] = _fill(build(part, model.config), targets, device=device, dtype=wanted, progress=report)
        done += count_bytes(targets)
    return Networks(
        text=cast(TextEncoder, networks[Part.TEXT]),
        unet=cast(UNet3D, networks[Part.UNET]),
        autoencoder=cast(Autoencoder, networks[Part.AUTOENCODER]),
    )


def load_text(
    model: ModelFolder,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    progress: Progress = _ignore,
) -> TextEncoder:
    """The text tower alone; arguments and errors are `load`'s."""
    return cast(TextEncoder, load_part(model, Part.TEXT, device=device, dtype=dtype, progress=progress))


def load_unet(
    model: ModelFolder,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    progress: Progress = _ignore,
) -> UNet3D:
    """The UNet alone; arguments and errors are `load`'s."""
    return cast(UNet3D, load_part(model, Part.UNET, device=device, dtype=dtype, progress=progress))


def load_autoencoder(
    model: ModelFolder,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    progress: Progress = _ignore,
) -> Autoencoder:
    """The autoencoder alone; arguments and errors are `load`'s."""
    return cast(Autoencoder, load_part(model, Part.AUTOENCODER, device=device, dtype=dtype, progress=progress))


def load_part(
    model: ModelFolder,
    part: Part,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    progress: Progress = _ignore,
    narrowed: Narrowed | None = None,
    network: nn.Module | None = None,
    completed: Completed | None = None,
) -> nn.Module:
    """One network of a model; errors and the other arguments are `load`'s.

    Args:
        narrowed: makes of each tensor, by its name, what is kept of it; it comes when the tensor is on its device.
        network: an empty one, that `build` made, to be filled instead of a new one.
        completed: told each of the network's blocks as soon as it's whole, in the order of the file.
    """
    network = build(part, model.config) if network is None else network
    return _fill(
        network,
        plan(model, part),
        device=device,
        dtype=dtype,
        progress=progress,
        narrowed=narrowed,
        completed=completed,
    )


def plan(model: ModelFolder, part: Part) -> tuple[Target, ...]:
    """Which tensor of which file goes where, with everything checked and nothing read but headers.

    Raises:
        WeightsError: as `load` does.
    """
    model.check()
    return match_part(model, part)


def match_part(model: ModelFolder, part: Part) -> tuple[Target, ...]:
    """`plan` for a model whose folder may have problems elsewhere."""
    path = model.files[part]
    return match(
        path,
        read_weights(path),
        shapes_of(part, model.config),
        spellings=spellings(part, model.config),
        may_be_unused=lambda name: may_be_unused(part, name, model.config),
        kind=_KINDS[part],
        usual_names=_USUAL_NAMES,
    )


@functools.lru_cache(maxsize=8)
def shapes_of(part: Part, config: ModelConfig) -> Mapping[str, tuple[int, ...]]:
    """The names and shapes of a network's tensors."""
    return {name: tuple(value.shape) for name, value in build(part, config).state_dict().items()}


def count_bytes(targets: tuple[Target, ...]) -> int:
    """How many bytes of the files a plan reads."""
    return sum(source.nbytes for target in targets for source in target.sources)


class _NoFilling(TorchFunctionMode):
    """Leaves out what fills new weights: without memory there is nothing to fill.

    Yet torch would load symbolic algebra for it, which takes two seconds of every start.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in ("normal_", "uniform_", "fill_", "zero_", "ones_", "zeros_", "constant_"):
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def build(part: Part, config: ModelConfig) -> nn.Module:
    """The network without memory for its weights."""
    with torch.device("meta"), _NoFilling():
        if part is Part.TEXT:
            return TextEncoder(config.text)
        return UNet3D(config.unet) if part is Part.UNET else Autoencoder(config.vae)


def blocks_of(network: nn.Module) -> Iterator[nn.Module]:
    """The modules that the network calls, in the order in which they were made; lists are looked into."""
    for module in network.children():
        if isinstance(module, nn.ModuleList):
            yield from blocks_of(module)
        elif any(True for _ in module.parameters()):
            yield module


def _fill(
    network: Network,
    targets: tuple[Target, ...],
    *,
    device: torch.device | str,
    dtype: torch.dtype | None,
    progress: Progress,
    narrowed: Narrowed | None = None,
    completed: Completed | None = None,
) -> Network:
    network.eval()
    owners = {} if completed is None else _owners(network)
    missing = Counter(owners.values())
    # A tensor made in inference mode could later be neither changed nor compiled.
    with torch.inference_mode(mode=False):
        for name, value in _read(targets, device=device, dtype=dtype, progress=progress):
            assign(network, name, value if narrowed is None else narrowed(name, value))
            if completed is not None and (block := owners.get(name)) is not None:
                missing[block] -= 1
                if not missing[block]:
                    completed(block)
    return network


def _owners(network: nn.Module) -> dict[str, nn.Module]:
    """The block that each of a network's tensors belongs to, by the tensor's name."""
    names = {module: f"{name}." for name, module in network.named_modules()}
    return {names[block] + name: block for block in blocks_of(network) for name in block.state_dict()}


def assign(network: nn.Module, name: str, value: Tensor) -> None:
    """Let the network's tensor of that name be this one."""
    place, _, own = name.rpartition(".")
    owner = network.get_submodule(place)
    owner.load_state_dict({own: value}, strict=False, assign=True)
    # Last, for torch before 2.2 asks for the gradients of what it assigns.
    getattr(owner, own).requires_grad_(False)


def _read(
    targets: tuple[Target, ...], *, device: torch.device | str, dtype: torch.dtype | None, progress: Progress
) -> Iterator[tuple[str, Tensor]]:
    """Each tensor's name and values, in the order of the plan."""
    done, total, staging = 0, count_bytes(targets), new_staging()
    progress(0, total)
    for target in targets:
        own = dtype or _torch_dtype(target.sources[0].dtype)
        value = torch.empty(target.shape, dtype=own, device=device)
        for count in read_target(value, target, staging=staging):
            done += count
            progress(done, total)
        yield target.name, value


def read_target(value: Tensor, target: Target, *, staging: Tensor | None = None) -> Iterator[int]:
    """Fill a tensor without gaps, and yield the bytes of each source when they are read; errors are `read_into`'s."""
    rows, start = value.view(-1), 0
    for source in target.sources:
        read_into(rows[start : start + source.numel], source, staging=staging)
        start += source.numel
        yield source.nbytes


def read_into(out: Tensor, ref: TensorRef, *, staging: Tensor | None = None) -> None:
    """Copy a file's tensor into `out`, (ref.numel,), converted to its dtype and on its device.

    Args:
        out: the place.
        ref: the tensor in the file.
        staging: bytes to convert in, (any,) uint8. One for all tensors keeps the heap from being torn by many.

    Raises:
        FileError: when the file has gone or has become shorter since its header was read.
    """
    if ref.numel == 0:
        return
    staging = new_staging() if staging is None else staging
    size, dtype = ITEM_SIZES[ref.dtype], _torch_dtype(ref.dtype)
    with opened(ref.file) as file:
        if not ref.is_contiguous:
            # A view with gaps or turned axes: rare, and small, for checkpoints save parameters.
            elements = torch.empty(ref.span, dtype=dtype)
            _copy_bytes(file, ref, start=0, out=elements)
            out.copy_(elements.as_strided(ref.shape, ref.stride).reshape(-1))
            return
        step = staging.numel() // size
        in_place = out.device.type == "cpu" and out.dtype == dtype
        for start in range(0, ref.numel, step):
            count = min(step, ref.numel - start)
            place = out[start : start + count]
            window = place if in_place else staging[: count * size].view(dtype)
            _copy_bytes(file, ref, start=start, out=window)
            if not in_place:
                _convert(window, place)


def new_staging() -> Tensor:
    """Room for one window of a file."""
    return torch.empty(_WINDOW, dtype=torch.uint8)


def _convert(values: Tensor, place: Tensor) -> None:
    """Copy numbers (any,) to a place of another format or on another device.

    A CPU turns one 16-bit format into the other number by number, in three times what both ways of float32 take.
    """
    if place.device.type != "cpu" or {values.dtype, place.dtype} != {torch.float16, torch.bfloat16}:
        place.copy_(values)
        return
    for some, there in zip(values.split(_TILE), place.split(_TILE), strict=True):
        there.copy_(some.float())


def _copy_bytes(file: BinaryIO, ref: TensorRef, *, start: int, out: Tensor) -> None:
    """Fill `out`, a packed CPU tensor of the file's dtype, from the tensor's element `start` on."""
    first, room = ref.offset + start * ITEM_SIZES[ref.dtype], memoryview(cast(Any, out.view(torch.uint8).numpy()))
    _read_ahead(file, first + len(room))
    file.seek(first)
    while room:
        count = file.readinto(room)  # type: ignore[attr-defined]
        if not count:
            raise FileError(ref.file, "has become shorter while it was read.", remedy=DOWNLOAD_AGAIN)
        room = room[count:]


def _read_ahead(file: BinaryIO, start: int) -> None:
    """Let the system fetch what comes next while this window is converted; it takes no memory of ours."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file.fileno(), start, _AHEAD, os.POSIX_FADV_WILLNEED)


def _torch_dtype(name: str) -> torch.dtype:
    return getattr(torch, name)


def count_parameters(model: ModelFolder, part: Part) -> int:
    """How many numbers a part's network has, once its file was checked.

    Raises:
        WeightsError: as `load` does.
    """
    return sum(math.prod(target.shape) for target in plan(model, part))
