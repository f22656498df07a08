"""Which published checkpoints can be downloaded: their files on the hub, and the folder that they go to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from t2v_core.errors import ModelNotFoundError
from t2v_core.models.known import PRUNED, KnownCheckpoint, published_at

HUB = "huggingface.co"


@dataclass(frozen=True, slots=True)
class Piece:
    """One file of a checkpoint: the first of `names` that is published; an optional one is left out if none is.

    `gigabytes`, of 1e9 bytes, is 0 for a few kilobytes and None where only the hub knows it.
    """

    names: tuple[str, ...]
    gigabytes: float | None = 0.0
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Downloadable:
    """A checkpoint to download; `name` is its folder among the models, and so what to choose it by afterwards."""

    name: str
    known: KnownCheckpoint
    pieces: tuple[Piece, ...]

    @property
    def repository(self) -> str:
        """The hub's name for it, "owner/name"."""
        return self.known.source.removeprefix(f"{HUB}/")

    @property
    def gigabytes(self) -> float | None:
        """About how much is downloaded; None where only the hub knows it."""
        sizes = [piece.gigabytes for piece in self.pieces]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    @property
    def size(self) -> str:
        """The same for people."""
        return "told by the hub" if self.gigabytes is None else f"{self.gigabytes:.1f} GB"


def _original(*, unet: float, text: float, autoencoder: float) -> tuple[Piece, ...]:
    return (
        Piece(("configuration.json",), optional=True),
        Piece(("open_clip_pytorch_model.bin",), text),
        Piece(("VQGAN_autoencoder.pth",), autoencoder),
        Piece(("text2video_pytorch_model.pth",), unet),
    )


def _diffusers(*, unet: float | None = None, text: float | None = None, vae: float | None = None) -> tuple[Piece, ...]:
    """A Diffusers folder: of several versions of a file the smallest, and safetensors before pickles."""
    return (
        Piece(("model_index.json",)),
        Piece(("scheduler/scheduler_config.json",), optional=True),
        Piece(("tokenizer/special_tokens_map.json",), optional=True),
        Piece(("text_encoder/config.json",)),
        Piece(("vae/config.json",)),
        Piece(("unet/config.json",)),
        Piece(tuple(_versions("text_encoder", "model", "pytorch_model")), text),
        Piece(tuple(_versions("vae", "diffusion_pytorch_model")), vae),
        Piece(tuple(_versions("unet", "diffusion_pytorch_model")), unet),
    )


def _versions(folder: str, stem: str, pickled_stem: str = "") -> Iterator[str]:
    for variant in (".fp16", ""):
        yield f"{folder}/{stem}{variant}.safetensors"
    for variant in (".fp16", ""):
        yield f"{folder}/{pickled_stem or stem}{variant}.bin"


def _of(repository: str) -> KnownCheckpoint:
    return published_at(f"{HUB}/{repository}")


# The one to begin with comes first. Its folder is the one that people have; the others are named as they are published.
DOWNLOADS = (
    Downloadable("t2v", PRUNED, _original(unet=2.82, text=1.97, autoencoder=2.61)),
    Downloadable(
        "modelscope-damo-text-to-video-synthesis",
        _of("ali-vilab/modelscope-damo-text-to-video-synthesis"),
        _original(unet=5.65, text=3.94, autoencoder=5.21),
    ),
    Downloadable(
        "text-to-video-ms-1.7b", _of("ali-vilab/text-to-video-ms-1.7b"), _diffusers(unet=2.82, text=0.68, vae=0.17)
    ),
    Downloadable("zeroscope_v2_576w", _of("cerspense/zeroscope_v2_576w"), _diffusers()),
    Downloadable("zeroscope_v2_XL", _of("cerspense/zeroscope_v2_XL"), _diffusers()),
    Downloadable("potat1", _of("camenduru/potat1"), _diffusers()),
)


def find_download(name: str) -> Downloadable:
    """The row of that name, in any case of letters.

    Raises:
        ModelNotFoundError: listing what there is.
    """
    for row in DOWNLOADS:
        if row.name.casefold() == name.casefold():
            return row
    raise ModelNotFoundError(
        f"There is no download called {name!r}. There are: {', '.join(row.name for row in DOWNLOADS)}.",
        remedy="Other models can be put into the models folder by hand: see docs/models.md.",
    )
