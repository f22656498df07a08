"""Makes the demo model from nothing: text tower, autoencoder, UNet; `python -m benchmarks.demo_model.train`."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn

from benchmarks.demo_model.clips import Canvas
from benchmarks.demo_model.sizes import DEMO
from benchmarks.demo_model.train_autoencoder import train_autoencoder
from benchmarks.demo_model.train_text import train_text
from benchmarks.demo_model.train_unet import Stage, train_unet
from benchmarks.demo_model.workers import Worker, in_parallel
from t2v_core.models.modelscope.text_encoder import TextEncoder
from t2v_core.models.modelscope.vae import Autoencoder

Network = TypeVar("Network", bound=nn.Module)
SEED = 20
STAGES = (
    Stage(Canvas(frames=8, side=64), clips=8000, steps=3000, batch=16, peak=1e-3, end=0.3),
    Stage(Canvas(frames=16, side=128), clips=3000, steps=2000, batch=6, peak=7e-4, end=0.0),
)


def main() -> None:
    """Train what the work folder doesn't have yet, then write the model's folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("build/demo_model"), help="checkpoints; goes on where it was")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each; share the batches")
    arguments = parser.parse_args()
    work: Path = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    in_parallel(train_all, work, workers=arguments.workers)


def train_all(work: Path, rank: int) -> None:
    """What each worker does; the text tower is too small to share, so each trains the same one."""
    if rank == 0:
        handlers = [logging.StreamHandler(), logging.FileHandler(work / "train.log")]
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", handlers=handlers)
    worker = Worker(work=work, seed=SEED, rank=rank, count=dist.get_world_size())
    tower = once(work / "text.pt", TextEncoder(DEMO.text), lambda: train_text(DEMO.text, seed=SEED))
    vae = once(work / "autoencoder.pt", Autoencoder(DEMO.vae), lambda: train_autoencoder(DEMO.vae, worker=worker))
    train_unet(DEMO.unet, DEMO.noise, tower=tower, vae=vae, stages=STAGES, worker=worker)


def once(path: Path, empty: Network, train: Callable[[], Network]) -> Network:
    """The module saved at path, or else trained now and saved there; all workers must ask for it."""
    missing = not path.exists()
    dist.barrier()
    if missing:
        trained = train()
        if dist.get_rank() == 0:
            torch.save(trained.state_dict(), path)
        dist.barrier()
    empty.load_state_dict(torch.load(path, weights_only=True))
    return empty.eval().requires_grad_(False)


if __name__ == "__main__":
    main()
