"""The image checkpoint: here a word, so that tests see where it is and whether anybody loaded it."""

import threading


class Checkpoint:
    def __init__(self):
        self.is_on_device = True
        self.moves = []


class SdModelData:
    def __init__(self):
        self.sd_model = None
        self.lock = threading.Lock()


model_data = SdModelData()


def unload_model_weights(sd_model=None, info=None):
    checkpoint = sd_model or model_data.sd_model
    checkpoint.is_on_device = False
    checkpoint.moves.append("off")
    return checkpoint


def send_model_to_device(m):
    m.is_on_device = True
    m.moves.append("on")
