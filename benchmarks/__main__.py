"""The benchmarks' composition root: `python -m benchmarks compare`, `python -m benchmarks scaling`."""

from __future__ import annotations

import importlib
import logging
import sys

COMMANDS = {
    "compare": ("benchmarks.compare.command", "ours, Diffusers' pipeline and ModelScope's own code side by side"),
    "scaling": ("benchmarks.compare.scaling", "our time and memory against frames, size and batch"),
    "layers": ("benchmarks.layers", "each form of a layer beside the one that was chosen, on this processor"),
    "drafts": ("benchmarks.drafts", "how true a draft in few steps is to its clip"),
    "interpolation": ("benchmarks.interpolation", "frames in between against the true ones, by each method"),
    "memory": ("benchmarks.memory", "the peak that is foretold before a run against the measured one"),
}


def main(arguments: list[str]) -> int:
    """Hand the arguments to the named benchmark."""
    if not arguments or arguments[0] not in COMMANDS:
        lines = [f"  {name:10} {what}" for name, (_, what) in COMMANDS.items()]
        print("\n".join(["usage: python -m benchmarks COMMAND [--help]", "", *lines]))
        return 0 if arguments[:1] in ([], ["-h"], ["--help"]) else 2
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr)
    return importlib.import_module(COMMANDS[arguments[0]][0]).main(arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
