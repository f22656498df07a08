"""The kinds of film that ffmpeg writes for us, as a table: codec, container, and what our quality means to each."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from t2v_core.errors import OutputError
from t2v_core.media import PRESETS, Encoding
from t2v_core.media.ffmpeg import INSTALL_REMEDY, FfmpegError, executable

ODD_REMEDY = (
    "Choose an even width and height from 16 pixels on, or another format: mov, webm, gif, webp and apng take any size."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """An encoder by ffmpeg's name, the pixel format it gets, and its arguments for a quality (H.264's CRF).

    `presets` are its names for ours where it has others, `options` its arguments for one of our presets. Encoders for
    which color comes in squares of 2 by 2 pixels and that can't cut them are `only_even`.
    """

    name: str
    pixels: str
    quality: Callable[[int], Sequence[str]]
    presets: Mapping[str, str] = field(default_factory=dict)
    options: Callable[[str], Sequence[str]] = lambda preset: ()
    only_even: bool = False
    least_side: int = 1

    def takes(self, width: int, height: int) -> bool:
        """Whether it can encode this size."""
        return min(width, height) >= self.least_side and not (self.only_even and (width % 2 or height % 2))


@dataclass(frozen=True, slots=True, kw_only=True)
class Film:
    """A codec in a container: the encoders that can make it, the best first, and how ffmpeg writes container and sound.

    `sound` are the arguments for each encoder of sound that will do, the best first.
    """

    name: str
    container: str
    encoders: Sequence[Encoder]
    sound: Sequence[Sequence[str]]
    muxer: Sequence[str] = ()


def encoders() -> frozenset[str]:
    """The names of all encoders, of pictures and of sound, that the ffmpeg here has.

    Raises:
        FfmpegError: there is none, or it can't be started.
    """
    return _encoders_of(executable())


@functools.lru_cache(maxsize=4)
def _encoders_of(program: str) -> frozenset[str]:
    try:
        listed = subprocess.run(  # noqa: S603 - a list, no shell
            [program, "-v", "error", "-encoders"], stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=60
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise FfmpegError(f"ffmpeg can't be started: {error}") from error
    # " V..... libx264   libx264 H.264 …": six flags, of which the first is the kind, and the name.
    words = (line.split() for line in listed.decode(errors="replace").splitlines())
    return frozenset(some[1] for some in words if len(some) > 1 and some[0][0] in "VA" and len(some[0]) == 6)


def check_film(variant: str) -> None:
    """See that there is an ffmpeg that can write this kind.

    Raises:
        OutputError: there is none, or it has no encoder for it.
    """
    film = FILMS[variant]
    try:
        if not any(encoder.name in encoders() for encoder in film.encoders):
            raise missing(film)
    except FfmpegError as error:
        raise no_ffmpeg(error) from error


def no_ffmpeg(error: Exception) -> OutputError:
    """What to say where ffmpeg can't be started."""
    return OutputError(f"No video can be written: ffmpeg can't be started ({error}).", remedy=INSTALL_REMEDY)


def encoder_for(film: Film, encoding: Encoding) -> Encoder:
    """The best encoder that this ffmpeg has and that takes the size.

    Raises:
        OutputError: there is none.
    """
    there = [encoder for encoder in film.encoders if encoder.name in encoders()]
    if not there:
        raise missing(film)
    for encoder in there:
        if encoder.takes(encoding.width, encoding.height):
            return encoder
    size = f"{encoding.width}x{encoding.height}"
    raise OutputError(f"{film.name} can't have {size} pixels.", remedy=ODD_REMEDY)


def sound_for(film: Film) -> Sequence[str]:
    """The arguments of the best encoder of sound that this ffmpeg has.

    Raises:
        OutputError: there is none.
    """
    for arguments in film.sound:
        if arguments[1] in encoders():
            return arguments
    raise OutputError(f"This ffmpeg can't write sound into {film.name}.", remedy="Choose mp4, or no sound.")


def missing(film: Film) -> OutputError:
    """What to say where ffmpeg has no encoder for it."""
    names = " or ".join(encoder.name for encoder in film.encoders)
    return OutputError(
        f"The ffmpeg here can't write {film.name}: it has no {names}.",
        remedy="Choose another format, or name an ffmpeg that has it in the variable IMAGEIO_FFMPEG_EXE.",
    )


def _to_63(crf: int) -> int:
    """The scale of VP9 and AV1, which goes to 63."""
    return round(crf * 63 / 51)


def _h265(crf: int) -> list[str]:
    # CRF 0 is lossless in H.264 alone. At a CRF 3 higher, H.265 looks like H.264.
    lossless = ":lossless=1" if crf == 0 else ""
    return ["-crf", str(min(crf + 3, 51)), "-x265-params", f"log-level=error{lossless}"]


def _vp9(crf: int) -> list[str]:
    return ["-lossless", "1"] if crf == 0 else ["-crf", str(_to_63(crf)), "-b:v", "0"]


def _pace(*values: int) -> Mapping[str, str]:
    return {preset: str(value) for preset, value in zip(PRESETS, values, strict=True)}


_VPX_PACE = _pace(8, 6, 5, 5, 4, 3, 2, 1, 0)
_AOM_PACE = _pace(8, 8, 7, 7, 6, 6, 5, 4, 3)

_H264 = Encoder(name="libx264", pixels="yuv420p", quality=lambda crf: ["-crf", str(crf)], only_even=True)
_H264_IN_ORDER = Encoder(
    # The old container has no place for the order in which frames are shown.
    name="libx264",
    pixels="yuv420p",
    quality=lambda crf: ["-crf", str(crf), "-bf", "0"],
    only_even=True,
)
_H265 = Encoder(name="libx265", pixels="yuv420p", quality=_h265, only_even=True, least_side=16)
_VP9 = Encoder(
    name="libvpx-vp9",
    pixels="yuv420p",
    quality=_vp9,
    options=lambda preset: ["-deadline", "good", "-cpu-used", _VPX_PACE.get(preset, "3"), "-row-mt", "1"],
)
_AV1 = (
    Encoder(
        name="libaom-av1",
        pixels="yuv420p10le",
        quality=lambda crf: ["-crf", str(_to_63(crf)), "-b:v", "0"],
        # In ffmpeg 4.2, which imageio-ffmpeg 0.4.9 brings, it still counts as an experiment.
        options=lambda preset: ["-strict", "experimental", "-cpu-used", _AOM_PACE.get(preset, "6"), "-row-mt", "1"],
    ),
    Encoder(
        # Many times as fast, but with 10 bits its plain areas come back up to 70 levels off (SVT-AV1 in ffmpeg 9.0).
        name="libsvtav1",
        pixels="yuv420p",
        quality=lambda crf: ["-crf", str(max(1, _to_63(crf)))],
        presets=_pace(12, 11, 10, 9, 8, 8, 6, 5, 4),
        only_even=True,
        least_side=64,
    ),
)
_PRORES = Encoder(
    name="prores_ks",
    pixels="yuv444p10le",
    quality=lambda crf: ["-profile:v", "4444", "-vendor", "apl0", "-qscale:v", str(1 + crf // 6)],
)

_MP4 = ("-movflags", "+faststart+write_colr")
_WEBM = ("-fflags", "+bitexact")  # without random numbers in it
_AAC = ("-c:a", "aac", "-b:a", "192k")
_OPUS = ("-c:a", "libopus", "-b:a", "160k")
_VORBIS = ("-c:a", "libvorbis", "-q:a", "6")
_PCM = ("-c:a", "pcm_s16le")  # in an avi too: an mp3 begins before its first sample, which moves the pictures

FILMS = {
    "h264": Film(name="An mp4", container="mp4", encoders=[_H264], muxer=_MP4, sound=[_AAC]),
    "h265": Film(
        name="An mp4 with H.265", container="mp4", encoders=[_H265], muxer=(*_MP4, "-tag:v", "hvc1"), sound=[_AAC]
    ),
    "av1": Film(name="An mp4 with AV1", container="mp4", encoders=_AV1, muxer=_MP4, sound=[_AAC]),
    "vp9": Film(name="A webm", container="webm", encoders=[_VP9], muxer=_WEBM, sound=[_OPUS, _VORBIS]),
    "webm-av1": Film(name="A webm with AV1", container="webm", encoders=_AV1, muxer=_WEBM, sound=[_OPUS, _VORBIS]),
    "avi": Film(name="An avi", container="avi", encoders=[_H264_IN_ORDER], sound=[_PCM]),
    "prores": Film(
        # The old place for a comment holds 65,535 bytes.
        name="A mov",
        container="mov",
        encoders=[_PRORES],
        muxer=("-movflags", "+faststart+write_colr+use_metadata_tags"),
        sound=[_PCM],
    ),
}
"""Every kind by the name that a row of WRITERS has as its variant."""
