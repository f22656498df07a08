"""The WebUI's own options that the extension or the page reads, with their defaults there."""

from modules.options import OptionInfo

_DEFAULTS = {
    "save_to_dirs": True,
    "directories_filename_pattern": "[date]",
    "directories_max_prompt_words": 8,
    "samples_filename_pattern": "",
    "save_images_add_number": True,
    "save_txt": False,
    "live_previews_enable": True,
    "live_previews_image_format": "png",
    "live_preview_refresh_period": 200,
    "show_progress_every_n_steps": 1,
    "show_progressbar": True,
    "disable_token_counters": False,
    "interrupt_after_current": True,
}
options_templates = {key: OptionInfo(default, key) for key, default in _DEFAULTS.items()}
