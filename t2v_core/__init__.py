"""Text to video with the ModelScope 1.7B network; importing this package loads no torch."""

__version__ = "0.1.0"
