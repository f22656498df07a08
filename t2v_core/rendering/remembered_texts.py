"""What the network remembers of a clip's texts from step to step."""

from __future__ import annotations

import torch
from torch import Tensor

from t2v_core.models.modelscope.attention import RememberedText


class RememberedTexts:
    """Texts as the network takes them, the same one for the same tensor."""

    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype = dtype
        # With the text itself, so that no other tensor takes its place and with it its number.
        self._known: dict[int, tuple[Tensor, RememberedText]] = {}

    def __call__(self, text: Tensor) -> RememberedText:
        """Features (b, n, d), or (b, f, n, d) of each frame's own text; of these only the last one is remembered."""
        if id(text) not in self._known:
            if text.ndim == 4:  # its keys and values are as large as what the frames' own layers hold
                self._known = {number: known for number, known in self._known.items() if known[0].ndim != 4}
            self._known[id(text)] = (text, RememberedText(text.to(self._dtype)))
        return self._known[id(text)][1]
