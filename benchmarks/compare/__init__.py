"""Ours, Diffusers' pipeline and ModelScope's own code with the same weights, side by side in one run."""
