"""The command line, as far as the extension asks about it."""

import argparse

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--hide-ui-dir-config", action="store_true")
