"""What the launcher knows."""


def git_tag():
    return "stand-in"
