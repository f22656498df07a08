"""What is installed beside us: here nothing."""

extensions = []


def active():
    return [extension for extension in extensions if extension.enabled]
