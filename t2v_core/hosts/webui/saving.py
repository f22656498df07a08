"""Where the WebUI's settings put a video, and who is told of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from modules import images, script_callbacks, shared
from PIL import Image

from t2v_core.hosts.webui import settings
from t2v_core.media.naming import Placement
from t2v_core.run import ClipSaved
from t2v_core.video import Video

DEFAULT_PATTERN = "[seed]"


def place(video: Video) -> Placement:
    """The folder and the name that the patterns of the WebUI and of our own option say."""
    names = _names(video)
    folder = settings.output_folder()
    if shared.opts.save_to_dirs:
        # Patterns may hold separators; the WebUI strips what would lead out of the folder, and so do we.
        parts = names.apply(shared.opts.directories_filename_pattern or "").replace("\\", "/").split("/")
        folder = folder.joinpath(*(part.strip(" .") for part in parts if part.strip(" .")))
    pattern = settings.value("filename_pattern") or shared.opts.samples_filename_pattern or DEFAULT_PATTERN
    return Placement(
        folder,
        stem=names.apply(pattern),
        numbered=shared.opts.save_images_add_number,
        text_beside=shared.opts.save_txt,
        frames_beside=settings.value("save_frames"),
    )


def announce(saved: ClipSaved) -> None:
    """Call the callbacks of extensions that want to know of saved files, with the first frame as the picture."""
    picture = Image.fromarray(saved.first_frame)
    for path in saved.paths:
        parameters = script_callbacks.ImageSaveParams(picture, None, str(path), {"parameters": saved.infotext})
        script_callbacks.image_saved_callback(parameters)


def _names(video: Video) -> Any:
    """The WebUI's generator of names for a video; it would read, and so load, the image checkpoint for [model_name]."""
    request, model = video.request, video.model
    ours = {
        "frames": lambda self: request.frames,
        "fps": lambda self: f"{request.fps:g}",
        "video_model": lambda self: images.sanitize_filename_part(model.name, replace_spaces=False),
        "sampler": lambda self: images.sanitize_filename_part(request.sampler, replace_spaces=False),
        "scheduler": lambda self: images.sanitize_filename_part(request.schedule, replace_spaces=False),
        "sampler_scheduler": lambda self: images.sanitize_filename_part(
            f"{request.sampler} {request.schedule}", replace_spaces=False
        ),
        "model_hash": lambda self: model.hash,
    }
    ours["model_name"] = ours["video_model"]
    generator = type(
        "VideoNames", (images.FilenameGenerator,), {"replacements": images.FilenameGenerator.replacements | ours}
    )
    height, width = video.frames.shape[1:3]
    first = Image.fromarray(video.frames[:1][0])
    processing = SimpleNamespace(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        steps=request.steps,
        cfg_scale=request.cfg_scale,
        width=width,
        height=height,
        styles=[],
        user=None,
        batch_size=1,
        n_iter=1,
        all_seeds=[request.seed],
        denoising_strength=None,
        job_timestamp=shared.state.job_timestamp,
    )
    return generator(processing, request.seed, request.prompt, first)
