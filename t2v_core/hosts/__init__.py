"""The places the program runs in."""
