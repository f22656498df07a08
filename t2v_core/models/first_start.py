"""What the first start leaves for the user: the folder for the 1.7B weights, with a note on what goes there."""

from __future__ import annotations

import logging
import textwrap
from pathlib import Path

from t2v_core.models import FAMILIES
from t2v_core.models.catalogue import DEMO, FIRST, README, is_empty
from t2v_core.models.downloadable import DOWNLOADS

logger = logging.getLogger(__name__)


def prepare(models: Path) -> None:
    """Make ModelScope/t2v in a `models` folder, with its readme while nothing else is in it.

    Overwrites nothing and raises nothing: a disk that can't be written is logged, and the program works without.
    """
    folder = models / FAMILIES["modelscope"].folders[0] / FIRST
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if is_empty(folder):
            with (folder / README).open("x", encoding="utf-8") as file:
                file.write(readme())
    except FileExistsError:
        return
    except OSError as error:
        logger.warning("txt2video: %s can't be made: %s", folder, error.strerror or error)


def readme() -> str:
    """What goes into the folder, how large it is, under which licence, and where it comes from."""
    row = DOWNLOADS[0]
    files = [(piece.names[0], piece.gigabytes) for piece in row.pieces]
    width = max(len(name) for name, _ in files)
    sizes = "\n".join(f"    {name:<{width}}  {f'{size:.2f} GB' if size else 'small'}" for name, size in files)
    where = f"https://{row.known.source}"
    others = "\n".join(f"    {row.name:<40} https://{row.known.source}" for row in DOWNLOADS[1:])
    paragraphs = (
        f"This folder is for the weights of ModelScope's text-to-video model, the files of\n{where}\n\n{sizes}",
        f"Licence: {row.known.licence}, which does not allow commercial use.",
        _filled(
            "The txt2video tab downloads them here when you ask it to; so does "
            f'"python -m t2v_core download {row.name}". Or download the files in a browser and put them here, under '
            "these names. The same files as .safetensors will do, too."
        ),
        _filled(f'Until then there is the model "{DEMO}": it comes with the program and needs nothing of this.'),
        f"Other models have folders of their own beside this one:\n\n{others}",
    )
    return "\n\n".join(paragraphs) + "\n"


def _filled(text: str) -> str:
    return textwrap.fill(text, width=100, break_long_words=False, break_on_hyphens=False)
