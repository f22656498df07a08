"""What each stage of a clip takes of the device's memory, predicted from the networks' own code.

Legend: b batch, f frames, h w latent height and width.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from t2v_core.models.cpu_kernels import usable
from t2v_core.models.loading import build
from t2v_core.models.modelscope.attention import Attention
from t2v_core.models.modelscope.checkpoint import Part
from t2v_core.models.modelscope.config import ModelConfig
from t2v_core.models.modelscope.layers import WIDEST_DOUBLED, DoublingConv2d, GatedLinear
from t2v_core.models.modelscope.packable import Packable, compute_in
from t2v_core.models.modelscope.text_encoder import TextEncoder
from t2v_core.models.modelscope.unet import UNet3D
from t2v_core.models.modelscope.vae import Autoencoder
from t2v_core.rendering.devices import kind_of
from t2v_core.rendering.eight_bits import narrow_shapes
from t2v_core.rendering.layout import lay_out
from t2v_core.rendering.measures import Measures
from t2v_core.rendering.number_formats import FP8, NumberFormat
from t2v_core.rendering.offload import streamed_bytes
from t2v_core.rendering.simulation import Growth, trace
from t2v_core.rendering.slicing import sliced
from t2v_core.rendering.text_in_passing import bytes_in_passing, is_read_in_passing
from t2v_core.rendering.upcast import stays_narrow, widen_on_use

Formats = Mapping[Part, NumberFormat]

_LATENTS_HELD = 10
"""Copies of a clip's latents in float32 that sampler, noise, guidance and preview hold at most."""

# What libraries keep for themselves once they have worked: cuBLAS and cuDNN on a GPU; on a CPU oneDNN's kernels,
# the threads' stacks and what the heap can't give back.
_LIBRARIES = {"cuda": 80 * 2**20, "cpu": 60 * 2**20}

_TORN_HEAP = 1.7
"""How much of a CPU's heap tensors of changing sizes take, for each byte of theirs: measured by benchmarks.memory."""


@dataclass(frozen=True, slots=True)
class ClipShape:
    """What of a clip decides over memory: its latents, and the texts that run at once.

    These are `conds` to follow and, where it's `guided`, one to leave. The longest of them has `text_chunks`; each
    frame has texts of its own if they go `by_frame`. The network sees a `piece` (frames, height, width) of the clip at
    once, by default all of it.
    """

    frames: int
    height: int
    width: int
    guided: bool
    text_chunks: int = 1
    conds: int = 1
    by_frame: bool = False
    piece: tuple[int, int, int] | None = None

    @property
    def at_once(self) -> tuple[int, int, int]:
        """(f, h, w) of what the network sees."""
        return self.piece or (self.frames, self.height, self.width)

    @property
    def cells(self) -> int:
        """Latent cells of all frames."""
        return self.frames * self.height * self.width

    @property
    def texts(self) -> int:
        """How many texts run at once where guidance isn't split."""
        return self.conds + self.guided

    def texts_together(self, rung: Measures) -> int:
        """How many texts run at once on a rung."""
        return 1 if rung.halves else self.texts

    def announce_to(self, unet: UNet3D, rung: Measures, *, dtype: torch.dtype) -> None:
        """Arrange a network for the latents that it will see at once, so that no layer has to change its form then."""
        latents = torch.empty(1, unet.config.in_dim, *self.at_once, dtype=dtype, device="meta")
        unet.arrange_for(latents, texts=self.texts_together(rung))


class Footprint:
    """Predictions for one model in given number formats on one kind of device; each is worked out once."""

    def __init__(self, config: ModelConfig, formats: Formats, *, device: str) -> None:
        self._config = config
        self._formats = dict(formats)
        self._kind = kind_of(device)
        self._networks: dict[Part, nn.Module] = {}
        self._growths: dict[object, Growth] = {}
        self._peaks: dict[object, int] = {}

    def peak(self, clip: ClipShape, rung: Measures, *, chunk: int, loaded: Collection[Part] = tuple(Part)) -> int:
        """Bytes of the device's memory that a run takes on a rung at most.

        `chunk` frames are decoded at once, and the parts `loaded` are there before it begins with the text.
        """
        stages = {
            Part.TEXT: self._text(clip.text_chunks),
            Part.UNET: self._sampling(clip, rung) + _LATENTS_HELD * 4 * self._config.unet.in_dim * clip.cells,
            Part.AUTOENCODER: self._decoding(clip, chunk) + 4 * self._config.unet.in_dim * clip.cells,
        }
        torn = _TORN_HEAP if self._kind == "cpu" else 1
        most = max(
            self._resident(part, clip, rung, loaded if part is Part.TEXT else tuple(Part)) + round(torn * held)
            for part, held in stages.items()
        )
        return most + _LIBRARIES.get(self._kind, 0)

    def weights(self, part: Part) -> int:
        """Bytes of a part's weights."""
        if part not in self._peaks:
            state, widest = self._network(part).state_dict().values(), self._formats[part].stored.itemsize
            # What is wider than it's stored is so for the traces alone.
            self._peaks[part] = sum(tensor.numel() * min(tensor.element_size(), widest) for tensor in state)
        return self._peaks[part]

    @property
    def all_weights(self) -> int:
        """Bytes of the whole model."""
        return sum(self.weights(part) for part in Part)

    def _resident(self, working: Part, clip: ClipShape, rung: Measures, loaded: Collection[Part]) -> int:
        """The weights that are on the device while a part works, its own and of those loaded what may stay."""
        others = [part for part in loaded if part is not working and not rung.sends_away(part, working=working)]
        own = self.weights(working)
        if rung.blocks and working is Part.UNET:
            own = streamed_bytes(self._network(working))
        elif working is Part.TEXT and working not in loaded and is_read_in_passing(rung, device=self._kind):
            own = bytes_in_passing(self._network(working).state_dict(), numbers=self._formats[working])
        return own + sum(map(self.weights, others)) + sum(self._places(part, clip, rung) for part in (working, *others))

    def _places(self, part: Part, clip: ClipShape, rung: Measures) -> int:
        """What the places take that a network's packed weights are widened in, one for each shape."""
        numbers = self._formats[part]
        if not stays_narrow(numbers, kind=self._kind):
            return 0
        key = ("places", part, clip.at_once, clip.texts_together(rung))
        if key not in self._peaks:
            network = self._network(part)
            if isinstance(network, UNet3D):
                clip.announce_to(network, rung, dtype=numbers.computes)
            shapes = {layer.place for layer in network.modules() if isinstance(layer, Packable)}
            self._peaks[key] = sum(map(math.prod, shapes)) * numbers.computes.itemsize
        return self._peaks[key]

    def _text(self, chunks: int) -> int:
        key = (Part.TEXT, chunks)
        if key not in self._peaks:
            tower = self._network(Part.TEXT)
            assert isinstance(tower, TextEncoder)
            tokens = torch.empty(chunks, tower.config.context_length, dtype=torch.int64, device="meta")
            self._peaks[key] = max(trace(lambda: tower(tokens).float(), networks=[tower], kind=self._kind))
        return self._peaks[key]

    def _sampling(self, clip: ClipShape, rung: Measures) -> int:
        batch = clip.texts_together(rung)
        if not rung.slices:
            key = (Part.UNET, batch, clip.text_chunks)
            if key not in self._growths:
                sizes = [(frames, 32, 32) for frames in (4, 8)]
                traces = [(f * h * w, self._unet((f, h, w), batch, clip.text_chunks)) for f, h, w in sizes]
                self._growths[key] = Growth.between(*traces)
            return self._growths[key].peak(math.prod(clip.at_once)) + self._texts(clip, batch)
        # A slice's size depends on all three, so that there are no straight lines.
        key = (Part.UNET, clip.at_once, clip.text_chunks)
        if key not in self._peaks:
            self._peaks[key] = max(self._unet(clip.at_once, batch, clip.text_chunks, slices=True))
        return self._peaks[key] + self._texts(clip, batch)

    def _texts(self, clip: ClipShape, batch: int) -> int:
        """What the network keeps of texts that differ by frame: each frame's features, keys and values."""
        if not clip.by_frame:
            return 0
        kept = sum(
            layer.to_k.out_features + layer.to_v.out_features
            for layer in self._network(Part.UNET).modules()
            if isinstance(layer, Attention) and layer.to_qkv is None
        )
        width = self._config.unet.context_dim
        numbers = self._formats[Part.UNET].computes.itemsize * (kept + width) + 4 * width
        return batch * clip.at_once[0] * clip.text_chunks * self._config.text.context_length * numbers

    def _unet(self, shape: tuple[int, int, int], batch: int, chunks: int, *, slices: bool = False) -> tuple[int, ...]:
        network, config = self._network(Part.UNET), self._config
        latents = torch.empty(1, config.unet.in_dim, *shape, device="meta")
        text = torch.empty(batch, chunks * config.text.context_length, config.unet.context_dim, device="meta")
        timesteps, dtype = torch.empty(1, device="meta"), self._formats[Part.UNET].computes
        with sliced(network, first_only=True) if slices else contextlib.nullcontext():
            return trace(
                lambda: network(latents.to(dtype), timesteps, text.to(dtype)).float(),
                networks=[network],
                kind=self._kind,
            )

    def _decoding(self, clip: ClipShape, chunk: int) -> int:
        key = Part.AUTOENCODER
        if key not in self._growths:
            sizes = [(side * side, self._decoder(side)) for side in (16, 32)]
            self._growths[key] = Growth.between(*sizes)
        return self._growths[key].peak(min(chunk, clip.frames) * clip.height * clip.width)

    def _decoder(self, side: int) -> tuple[int, ...]:
        network = self._network(Part.AUTOENCODER)
        assert isinstance(network, Autoencoder)
        latents = torch.empty(1, self._config.unet.in_dim, side, side, device="meta")
        dtype = self._formats[Part.AUTOENCODER].computes

        def decode() -> torch.Tensor:
            pictures = network.decode(latents.to(dtype)).float()
            # As the story makes frames of them.
            return (pictures / 2 + 0.5).clamp(0, 1).mul(255.0)

        return trace(decode, networks=[network], kind=self._kind)

    def _network(self, part: Part) -> nn.Module:
        if part not in self._networks:
            numbers = self._formats[part]
            network = build(part, self._config).to(numbers.stored).requires_grad_(False).eval()
            assert isinstance(network, (TextEncoder, UNet3D, Autoencoder))
            if numbers.name == FP8:
                narrow_shapes(network)
            if stays_narrow(numbers, kind=self._kind):
                _pretend_widened(network, numbers.computes)
            if numbers.is_widened:
                widen_on_use(network, numbers.computes)
            if self._kind == "cpu" and usable(numbers.computes):
                _pretend_packed(network, doubling=not numbers.is_widened)
            lay_out(network, kind=self._kind, dtype=numbers.computes)
            self._networks[part] = network
        return self._networks[part]


class _GatedHalf:
    """Half of a gated layer as it is packed on a CPU, which makes its result in one pass; only the result's shape."""

    def __init__(self, size: int) -> None:
        self._size = size

    def gelu(self, x: torch.Tensor) -> torch.Tensor:
        """(..., i) to (..., o)."""
        return torch.empty((*x.shape[:-1], self._size), dtype=x.dtype, device="meta")

    def times(self, x: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
        """(..., i) and (..., o) to (..., o)."""
        return torch.empty_like(factor)


class _PlaceKernel:
    """One of the kernels that a layer of doubled maps has while it's packed on a CPU; only the result's shape."""

    def __init__(self, dim: int) -> None:
        self._dim = dim

    def __call__(self, maps: torch.Tensor) -> torch.Tensor:
        """(n, c, h + 1, w + 1) to (n, c, h, w)."""
        shape = (len(maps), self._dim, maps.shape[-2] - 1, maps.shape[-1] - 1)
        return torch.empty(shape, dtype=maps.dtype, device="meta", memory_format=torch.channels_last)


def _pretend_widened(network: nn.Module, dtype: torch.dtype) -> None:
    """Let the layers that widen their weights themselves, in places of their own, have wide ones."""
    compute_in(network, dtype)
    for layer in network.modules():
        if isinstance(layer, Packable):
            layer.to(dtype)


def _pretend_packed(network: nn.Module, *, doubling: bool) -> None:
    """Let the layers whose packed form holds less at the peak take that form's way, those of doubled maps if said."""
    for layer in network.modules():
        if isinstance(layer, GatedLinear):
            half = _GatedHalf(layer.out_features // 2)
            layer._packed = cast(Any, (half, half))
            layer.is_packed = True
        elif doubling and isinstance(layer, DoublingConv2d) and layer.in_channels <= WIDEST_DOUBLED:
            kernel = _PlaceKernel(layer.out_channels)
            layer._kernels = cast(Any, {(row, column): kernel for row in (0, 1) for column in (0, 1)})


@functools.lru_cache(maxsize=8)
def footprint_of(config: ModelConfig, formats: tuple[tuple[Part, NumberFormat], ...], *, device: str) -> Footprint:
    """The predictions for a model, with what was worked out for them before."""
    return Footprint(config, dict(formats), device=device)
