"""Reads one network of a model and arranges it for the device and the number format that it works in."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from t2v_core.models.layouts import ModelFolder
from t2v_core.models.loading import Completed, Progress, build, load_part
from t2v_core.models.modelscope.checkpoint import Part
from t2v_core.models.modelscope.packable import compute_in
from t2v_core.rendering.eight_bits import EightBits
from t2v_core.rendering.layout import lay_out
from t2v_core.rendering.number_formats import FP8, NumberFormat
from t2v_core.rendering.packing import pack_while
from t2v_core.rendering.upcast import stays_narrow, widen_on_use


def loaded(
    folder: ModelFolder,
    part: Part,
    *,
    device: str,
    for_kind: str,
    numbers: NumberFormat,
    arrange: Callable[[nn.Module], None] | None,
    progress: Progress,
) -> nn.Module:
    """A part of a model, ready to be moved to where it works.

    Args:
        folder: the model.
        part: which of its networks.
        device: where its weights go.
        for_kind: the kind of device that it will work on, from there or from main memory.
        numbers: the format that it is held in and computes in.
        arrange: is given the network before it has weights; these are packed for the processor while they are read.
            None leaves them plain.
        progress: told the bytes read and in all.

    Raises:
        WeightsError: as `models.loading.load` does.
    """
    network, eight = build(part, folder.config), EightBits() if numbers.name == FP8 else None

    def read(completed: Completed | None = None) -> None:
        load_part(
            folder,
            part,
            device=device,
            dtype=numbers.stored,
            progress=progress,
            narrowed=eight,
            network=network,
            completed=completed,
        )

    if stays_narrow(numbers, kind=for_kind):
        compute_in(network, numbers.computes)
    if arrange is None:
        read()
    else:
        arrange(network)
        pack_while(read)
    lay_out(network, kind=for_kind, dtype=numbers.computes)
    if eight is not None:
        eight.attach(network)
    if numbers.is_widened:
        widen_on_use(network, numbers.computes)
    return network
