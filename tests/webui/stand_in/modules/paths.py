"""Where things lie; the server sets the folders before anything else is imported."""

import os

data_path = os.environ["STAND_IN_DATA"]
models_path = os.path.join(data_path, "models")
script_path = data_path
