"""The command line: `python -m t2v_core`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from t2v_core.errors import Txt2VideoError
from t2v_core.frontends.cli.parser import build_parser

UNEXPECTED = 70
"""The exit code of an error that is ours, not the user's (EX_SOFTWARE of sysexits.h)."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; `Txt2VideoError.exit_code` says which kind of error means what."""
    options = build_parser().parse_args(arguments)
    logging.basicConfig(level=logging.DEBUG if options.verbose else logging.WARNING, format="%(message)s")
    try:
        return options.command(options)
    except Txt2VideoError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("Stopped at once; finished files are kept.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0
    except Exception as error:
        if options.verbose:
            raise
        print(
            f"error: something went wrong that should not: {type(error).__name__}: {error}\n"
            "Run the same command with --verbose and report what it prints.",
            file=sys.stderr,
        )
        return UNEXPECTED
