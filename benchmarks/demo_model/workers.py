"""Processes of one thread each: they train faster on a CPU than threads do, as they only meet to average gradients."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn


@dataclass(frozen=True, slots=True)
class Worker:
    """One of the processes that train together: each draws its own clips and noise, the first one saves and logs."""

    work: Path
    seed: int
    rank: int
    count: int
    device: str = "cpu"


def in_parallel(work: Callable[..., None], *arguments: Any, workers: int) -> None:
    """Call `work(*arguments, rank)` in as many processes, which `average_gradients` joins."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(  # type: ignore[attr-defined]
        _join, args=(work, arguments, workers, port), nprocs=workers
    )


def _join(rank: int, work: Callable[..., None], arguments: tuple[Any, ...], workers: int, port: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=workers)
    work(*arguments, rank)
    dist.destroy_process_group()


def average_gradients(network: nn.Module) -> None:
    """Give every worker the mean of all workers' gradients."""
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for gradient, mean in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))
