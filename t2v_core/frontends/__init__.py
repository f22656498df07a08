"""How people reach the program."""
