"""How a network that isn't packed lies in a device's memory, and how much of it works at once."""

from __future__ import annotations

import torch
from torch import nn

from t2v_core.models.modelscope.channels_last import HALVES, turn_kernels
from t2v_core.models.modelscope.layers import JoinedLinear
from t2v_core.models.modelscope.unet import UNet3D
from t2v_core.rendering.devices import weights_moving


def lay_out(network: nn.Module, *, kind: str, dtype: torch.dtype) -> None:
    """Arrange a network for a kind of device that computes in a format, wherever it is now; no number changes."""
    if isinstance(network, UNet3D):
        network.take_clips(together=kind != "cpu")
    if kind == "cuda" and dtype in HALVES:
        with weights_moving():
            turn_kernels(network)


def join_projections(network: nn.Module) -> None:
    """Let projections of the same tokens be one product each, on the device where the network is now."""
    with weights_moving():
        for layer in network.modules():
            if isinstance(layer, JoinedLinear):
                layer.join()


def separate_projections(network: nn.Module) -> None:
    """Undo `join_projections`, before the network leaves its device."""
    for layer in network.modules():
        if isinstance(layer, JoinedLinear):
            layer.separate()
