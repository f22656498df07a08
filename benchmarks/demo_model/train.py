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
from benchmarks.demo_model.export import export, restore
from benchmarks.demo_model.sizes import DEMO
from benchmarks.demo_model.train_autoencoder import train_autoencoder
from benchmarks.demo_model.train_text import train_text
from benchmarks.demo_model.train_unet import CHECKPOINT, START, Stage, train_unet
from benchmarks.demo_model.workers import Worker, in_parallel
from t2v_core.models.catalogue import DEMO_FOLDER
from t2v_core.models.modelscope.text_encoder import TextEncoder
from t2v_core.models.modelscope.unet import UNet3D
from t2v_core.models.modelscope.vae import Autoencoder

Network = TypeVar("Network", bound=nn.Module)
SEED = 20
TEXT, AUTOENCODER = "text.pt", "autoencoder.pt"
STAGES = (Stage(Canvas(frames=8, side=64), clips=5000, steps=6000, batch=16, peak=1e-3, end=0.0),)


def main() -> None:
    """Train what the work folder doesn't have yet, then write the model's folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("build/demo_model"), help="checkpoints; goes on where it was")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each; share the batches")
    parser.add_argument("--device", default="cpu", help="where the UNet is trained; with cuda, one worker is best")
    parser.add_argument("--from", type=Path, dest="start", metavar="FOLDER", help="begin with this model's weights")
    parser.add_argument("--output", type=Path, default=DEMO_FOLDER, help="where the model is written")
    arguments = parser.parse_args()
    work: Path = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    if arguments.start:
        restore(DEMO, arguments.start, unet=work / START, vae=work / AUTOENCODER, tower=work / TEXT)
    in_parallel(train_all, work, arguments.device, workers=arguments.workers)
    export_trained(work, arguments.output)


def train_all(work: Path, device: str, rank: int) -> None:
    """What each worker does; the text tower is too small to share, so each trains the same one."""
    if rank == 0:
        handlers = [logging.StreamHandler(), logging.FileHandler(work / "train.log")]
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", handlers=handlers)
    worker = Worker(work=work, seed=SEED, rank=rank, count=dist.get_world_size(), device=device)
    tower = once(work / TEXT, TextEncoder(DEMO.text), lambda: train_text(DEMO.text, seed=SEED))
    vae = once(work / AUTOENCODER, Autoencoder(DEMO.vae), lambda: train_autoencoder(DEMO.vae, worker=worker))
    train_unet(DEMO.unet, DEMO.noise, tower=tower, vae=vae, stages=STAGES, worker=worker)


def export_trained(work: Path, folder: Path) -> None:
    """Write the model of the work folder's checkpoints, also while training goes on."""
    tower, vae, unet = TextEncoder(DEMO.text), Autoencoder(DEMO.vae), UNet3D(DEMO.unet)
    tower.load_state_dict(torch.load(work / TEXT, weights_only=True))
    vae.load_state_dict(torch.load(work / AUTOENCODER, weights_only=True))
    unet.load_state_dict(torch.load(work / CHECKPOINT, weights_only=True, map_location="cpu")["average"])
    export(DEMO, unet=unet, vae=vae, tower=tower, folder=folder)


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
