"""Each shortcut's gain in time beside its error, against the exact run; `python -m benchmarks.shortcuts`."""
