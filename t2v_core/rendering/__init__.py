"""How a video is made: encode the prompt, draw noise, sample, decode."""
