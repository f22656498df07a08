"""File names from patterns, and recipes in pictures."""

import datetime
import re

from modules import errors, shared

NOTHING_AND_SKIP_PREVIOUS_TEXT = object()
_PART = re.compile(r"(?P<text>.*?)(?:\[(?P<pattern>[^\[\]]+)\]|$)")


def sanitize_filename_part(text, replace_spaces=True):
    if text is None:
        return None
    if replace_spaces:
        text = text.replace(" ", "_")
    return re.sub(r'[#<>:"/\\|?*\n\r\t]', "_", text).lstrip(" ")[:128].rstrip(" .")


def _checkpoint_of_images(self):
    raise RuntimeError("this name would load the image checkpoint")


class FilenameGenerator:
    replacements = {
        "seed": lambda self: self.seed,
        "steps": lambda self: self.p.steps,
        "cfg": lambda self: self.p.cfg_scale,
        "width": lambda self: self.image.width,
        "height": lambda self: self.image.height,
        "date": lambda self: datetime.datetime.now().strftime("%Y-%m-%d"),
        "job_timestamp": lambda self: getattr(self.p, "job_timestamp", shared.state.job_timestamp),
        "prompt": lambda self: sanitize_filename_part(self.prompt),
        "batch_number": lambda self: NOTHING_AND_SKIP_PREVIOUS_TEXT if self.p.batch_size == 1 else 1,
        "model_name": _checkpoint_of_images,
        "model_hash": _checkpoint_of_images,
        "none": lambda self: "",
    }

    def __init__(self, p, seed, prompt, image, zip=False, basename=""):
        self.p = p
        self.seed = seed
        self.prompt = prompt
        self.image = image
        self.zip = zip
        self.basename = basename

    def apply(self, x):
        """Known patterns become their values; unknown ones stay, and what fails is reported and stays as well."""
        made = ""
        for match in _PART.finditer(x):
            text, pattern = match["text"], match["pattern"]
            if pattern is None:
                made += text
                continue
            value = None
            try:
                replacement = self.replacements.get(pattern.lower())
                value = replacement(self) if replacement else None
            except Exception:
                errors.report(f"Error adding [{pattern}] to filename", exc_info=True)
            if value is not NOTHING_AND_SKIP_PREVIOUS_TEXT:
                made += f"{text}[{pattern}]" if value is None else f"{text}{value}"
        return made


def read_info_from_image(image):
    items = {key: str(value) for key, value in (image.info or {}).items()}
    return items.pop("parameters", None), items
