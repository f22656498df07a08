"""Our options in the WebUI's Settings: one table, from which they are registered and read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modules import options, paths, shared

from t2v_core.fields import names_in
from t2v_core.frontends.tab.gradio_versions import CheckboxGroup, Radio, Slider
from t2v_core.hosts.standalone import OUTPUT_FOLDER
from t2v_core.rendering.plan import Rest
from t2v_core.request import FIELDS
from t2v_core.service import CHOICES

PREFIX = "txt2video_"
SECTION = ("txt2video", "txt2video")
PATHS_SECTION = ("saving-paths", "Paths for saving", "saving")

RESTS = {
    "Nothing": Rest.NOWHERE,
    "The model, in main memory": Rest.MAIN_MEMORY,
    "The model, on the device": Rest.ON_DEVICE,
}


@dataclass(frozen=True, slots=True)
class Option:
    """One option; `choices` are shown as a row to choose from, `bounds` (lowest, highest, step) as a slider.

    A default that is a list is of an option that takes several of its choices.
    """

    default: Any
    label: str
    info: str = ""
    choices: Sequence[str] = ()
    bounds: tuple[float, float, float] | None = None
    section: tuple[str, ...] = SECTION


def _like_field(name: str) -> Option:
    """The value that a field of the tab has when the page opens."""
    field = FIELDS[name]
    low, high, step = field.spec.minimum, field.spec.maximum, field.spec.step
    bounds = None if low is None or high is None or step is None else (low, high, step)
    default = list(names_in(field.default)) if field.spec.several else field.default
    return Option(default, f"{field.spec.label} at start", field.spec.help, CHOICES.get(name, ()), bounds)


AT_START = ("format", "crf", "preset", "vae_precision", "attention")
"""The fields whose value at the page's start is an option."""

IMAGE_FOLDERS = (
    *("outdir_samples", "outdir_txt2img_samples", "outdir_img2img_samples", "outdir_extras_samples"),
    *("outdir_grids", "outdir_txt2img_grids", "outdir_img2img_grids", "outdir_save", "outdir_init_images", "temp_dir"),
)
"""The WebUI's own options that name folders of pictures; some are empty, some not in every WebUI."""

OPTIONS: dict[str, Option] = {
    "outdir": Option("", "Output directory for txt2video", f"empty: {OUTPUT_FOLDER.as_posix()}", section=PATHS_SECTION),
    "filename_pattern": Option(
        "",
        "Video filename pattern",
        "takes what the pattern of images takes, and [frames], [fps], [video_model]; empty: the pattern of images",
    ),
    "keep": Option(
        "The model, in main memory",
        "What stays in memory between runs",
        "nothing: each run loads the model again; on the device: quickest, but leaves less room for images",
        tuple(RESTS),
    ),
    "preview": Option(True, "Show a moving preview", "as often as Live previews says"),
    "shown": Option(16, "How many clips of a run are shown", "all are saved", bounds=(1, 64, 1)),
    "save_frames": Option(False, "Save the frames as PNG files too", "in a folder beside the clip"),
    **{name: _like_field(name) for name in AT_START},
}


def register() -> None:
    """Put the options into the WebUI's Settings."""
    for name, option in OPTIONS.items():
        component, arguments = None, None
        if isinstance(option.default, list):
            component, arguments = CheckboxGroup, {"choices": list(option.choices)}
            _take_several(PREFIX + name)
        elif option.choices:
            component, arguments = Radio, {"choices": list(option.choices)}
        elif option.bounds:
            component, arguments = Slider, dict(zip(("minimum", "maximum", "step"), option.bounds, strict=True))
        row = options.OptionInfo(option.default, option.label, component, arguments, section=option.section[:2])
        if len(option.section) > 2:
            row.category_id = option.section[2]
        shared.opts.add_option(PREFIX + name, row.info(option.info))


def _take_several(key: str) -> None:
    """What was saved when the option took one name is a list of that one from now on."""
    data = vars(shared.opts)["data"]
    if isinstance(saved := data.get(key), str):
        data[key] = list(names_in(saved))


def value(name: str) -> Any:
    """What the user has set, or the default where the options aren't registered; several names as a field has them."""
    default = OPTIONS[name].default
    found = getattr(shared.opts, PREFIX + name, default)
    return ", ".join(found or default) if isinstance(default, list) else found


def output_folder() -> Path:
    """Where videos go; a relative folder begins at the WebUI's data folder."""
    return Path(paths.data_path) / (value("outdir") or OUTPUT_FOLDER)


def image_folders() -> tuple[Path, ...]:
    """Where the WebUI's own pictures lie: those of Paths for saving, and of temporary ones."""
    set_here = (getattr(shared.opts, name, "") for name in IMAGE_FOLDERS)
    return tuple(Path(paths.data_path) / folder for folder in set_here if folder)


def rest() -> Rest:
    """Where the model waits for the next run."""
    return RESTS.get(value("keep"), Rest.MAIN_MEMORY)
