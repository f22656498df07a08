"""Still pictures: a folder with every frame as PNG or JPEG, or the first frame alone."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from pathlib import Path

from PIL import Image

from t2v_core.errors import OutputError
from t2v_core.media import Encoding, checked_chunk
from t2v_core.media.picture_text import jpeg_with_text
from t2v_core.media.png_file import encoded, with_text
from t2v_core.media.quality import picture_quality
from t2v_core.media.temporary import folder_of
from t2v_core.media.written_file import WrittenFile
from t2v_core.video import Frames


def write(target: Path, chunks: Iterable[Frames], encoding: Encoding, *, variant: str) -> int:
    """Write pictures, the recipe in each: into the folder `target`, or the first one as the file `target`.

    Raises:
        OutputError: no frames, too large a picture, a full disk.
        ValueError: a chunk isn't of the size that was said.
    """
    make, suffix = _KINDS[variant]
    frames = 0
    for some in chunks:
        for frame in checked_chunk(some, encoding):
            if suffix or not frames:
                path = target / f"{frames:05d}{suffix}" if suffix else target
                with WrittenFile(path, folder=folder_of(target)) as file:
                    file.write(make(frame, encoding))
            frames += 1
    if not frames:
        raise OutputError("There are no frames to write.")
    return frames if suffix else 1


def _png(frame: Frames, encoding: Encoding) -> bytes:
    return with_text(encoded(frame, preset=encoding.preset), encoding.infotext)


def _jpeg(frame: Frames, encoding: Encoding) -> bytes:
    content = io.BytesIO()
    try:
        Image.fromarray(frame).save(content, "jpeg", quality=picture_quality(encoding.crf), subsampling=0)
    except OSError as error:  # more than 65,500 pixels a side
        raise OutputError(f"A JPEG can't have {encoding.width}x{encoding.height} pixels.") from error
    return jpeg_with_text(content.getvalue(), encoding.infotext)


_KINDS: dict[str, tuple[Callable[[Frames, Encoding], bytes], str]] = {
    "png-sequence": (_png, ".png"),
    "jpeg-sequence": (_jpeg, ".jpg"),
    "png": (_png, ""),
}
"""Each variant's pictures, and their suffix in a folder; "" where there is one picture and no folder."""
