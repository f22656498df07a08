"""The device of the image model."""

import gc

import torch

device = torch.device("cpu")


def torch_gc():
    gc.collect(0)
