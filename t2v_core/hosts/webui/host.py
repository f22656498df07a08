"""The WebUI's folders and device, and its image checkpoint, which leaves the device while we use it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from modules import devices, extensions, paths, sd_models, shared

from t2v_core.frontends.tab.gradio_versions import upload_folder
from t2v_core.host import Upscaler
from t2v_core.hosts.standalone import MODEL_FOLDERS
from t2v_core.hosts.webui import settings, upscalers


class WebUIHost:
    """What the program needs to know of the WebUI that it runs in."""

    @property
    def models_folders(self) -> Sequence[Path]:
        """Where the WebUI's models lie, `--models-dir` and `--data-dir` included."""
        return tuple(Path(paths.models_path) / name for name in MODEL_FOLDERS)

    @property
    def output_folder(self) -> Path:
        """The folder of Settings ▸ Paths for saving."""
        return settings.output_folder()

    @property
    def input_folders(self) -> Sequence[Path]:
        """What the page was given to upload, and what this WebUI has made; a path from a page leads nowhere else."""
        return (upload_folder(), settings.output_folder(), *settings.image_folders())

    @property
    def wildcard_folders(self) -> Sequence[Path]:
        """Those of sd-dynamic-prompts, of the wildcards extension, and of others that keep theirs as these do."""
        named = getattr(shared.opts, "wildcard_dir", None), getattr(shared.cmd_opts, "wildcards_dir", None)
        beside = (Path(extension.path) / "wildcards" for extension in extensions.active())
        return (*(Path(folder) for folder in named if folder), *(folder for folder in beside if folder.is_dir()))

    def device(self) -> str:
        """The device that the WebUI uses for Stable Diffusion, which its command line may have chosen."""
        return str(devices.device)

    def upscalers(self) -> Mapping[str, Upscaler]:
        """The WebUI's own upscalers, as in its Extras tab."""
        return upscalers.found()

    @contextlib.contextmanager
    def borrow_device(self) -> Iterator[None]:
        """Move the image checkpoint off the device, if one is loaded, and bring it back in the end.

        `shared.sd_model` must not be read for that: it loads a checkpoint where there is none.
        """
        checkpoint = _loaded_checkpoint()
        if checkpoint is not None:
            sd_models.unload_model_weights(checkpoint)
        try:
            yield
        finally:
            devices.torch_gc()
            if checkpoint is not None:
                sd_models.send_model_to_device(checkpoint)


def _loaded_checkpoint() -> object | None:
    """The image checkpoint, None if there is none; waits while the WebUI is loading one."""
    data = sd_models.model_data
    with getattr(data, "lock", contextlib.nullcontext()):
        checkpoint = data.sd_model
    # Forge has a stand-in until the first checkpoint is loaded.
    return None if type(checkpoint).__name__ == "FakeInitialModel" else checkpoint
