"""Things of the desktop; here they are only remembered."""

opened_folders = []


def open_folder(path):
    opened_folders.append(path)
