"""The command line's composition root: `python -m t2v_core`."""

import os
import sys

from t2v_core.frontends.cli import main

_SPINS = "50000"
"""How often a thread of GNU's OpenMP looks for the next work before it sleeps, a sixth of what is usual.

Where another program has one of the cores, threads that look on keep each other from working: a clip took 12 to 14
seconds instead of 13 to 50, and as long as ever where nobody else works. It's read when torch is loaded.
"""

if __name__ == "__main__":
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = _SPINS
    sys.exit(main())
