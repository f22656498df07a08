"""The command line's composition root: `python -m t2v_core`."""

import sys

from t2v_core.frontends.cli import main

if __name__ == "__main__":
    sys.exit(main())
