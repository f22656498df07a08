"""Finds where each part of a model lies in its folder, in every way in which people have it on their disks.

The original four files, the same as .safetensors, a Diffusers folder, and fine-tunes that borrow another model's
autoencoder. Only names and small JSON files are looked at; the files themselves are judged when they are read.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from t2v_core.errors import WeightsError
from t2v_core.models.known import KnownCheckpoint, recognise_folder
from t2v_core.models.modelscope import diffusers_config
from t2v_core.models.modelscope.checkpoint import Part
from t2v_core.models.modelscope.config import ModelConfig
from t2v_core.models.tensors import FileError
from t2v_core.models.whole import read_json
from t2v_core.request import ModelDefaults

CONFIGURATION = "configuration.json"
ORIGINAL, DIFFUSERS = "original", "Diffusers"


@dataclass(frozen=True, slots=True)
class Note:
    """Something about a file that the user should know, though the model works."""

    file: Path
    what: str

    def __str__(self) -> str:
        return f"{self.file}: {self.what}"


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A model on the disk. `files` says where each part's weights (or their shards' index) are, or should be.

    `notes` are for the user to know; `problems` keep the model from loading.
    """

    name: str
    folder: Path
    layout: str
    files: Mapping[Part, Path]
    config: ModelConfig
    known: KnownCheckpoint | None
    notes: tuple[Note, ...]
    problems: tuple[FileError, ...]

    def check(self) -> None:
        """Raise the first problem."""
        for problem in self.problems:
            raise problem


@dataclass(frozen=True, slots=True)
class _Place:
    """What the names of one part are."""

    key: str
    stem: str
    suffix: str
    subfolder: str


_PLACES: Mapping[Part, _Place] = {
    Part.TEXT: _Place("ckpt_clip", "open_clip_pytorch_model", ".bin", "text_encoder"),
    Part.UNET: _Place("ckpt_unet", "text2video_pytorch_model", ".pth", "unet"),
    Part.AUTOENCODER: _Place("ckpt_autoencoder", "VQGAN_autoencoder", ".pth", "vae"),
}
_SUFFIXES = (".safetensors", ".pth", ".bin", ".pt", ".ckpt")
_DIFFUSERS_STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")
_CONFIG_FIELDS: Mapping[Part, tuple[str, Callable[[Mapping[str, Any]], Any]]] = {
    Part.TEXT: ("text", diffusers_config.text_config),
    Part.UNET: ("unet", diffusers_config.unet_config),
    Part.AUTOENCODER: ("vae", diffusers_config.autoencoder_config),
}
_DARK_TEXT = "_text.bin"
_PADDING = "!"
"""The word that is token 0."""


def looks_like_a_model(folder: Path) -> bool:
    """Whether a folder's names are those of a model, whole or broken."""
    names = {entry.name for entry in _entries(folder)}
    unet = _PLACES[Part.UNET]
    return (
        CONFIGURATION in names
        or "model_index.json" in names
        or any(name.startswith(unet.stem) for name in names)
        or unet.subfolder in names
        or _dark_files(folder) is not None
    )


def describe(
    folder: Path, *, name: str | None = None, boundary: Path | None = None, lenders: Sequence[Path] = ()
) -> ModelFolder:
    """Say where the parts of the model in `folder` are, and what its sizes are. Raises nothing: see `problems`.

    Args:
        folder: the model's folder.
        name: what to call it; by default the folder's name.
        boundary: the models folder, which a configuration.json can't point out of; by default the folder itself. The
            user's own symbolic links are followed: a link is the user's word, a configuration.json a stranger's.
        lenders: folders to take an autoencoder from when the model has none, in this order.
    """
    folder = Path(os.path.abspath(folder))
    search = _Search(folder, Path(os.path.abspath(boundary or folder)), tuple(lenders))
    if not os.path.isdir(folder):
        search.problems.append(FileError(folder, "is no folder.", remedy="Name the folder that the model lies in."))
    layout = search.run()
    known = recognise_folder(folder.name) or recognise_folder(name or "")
    config = search.config
    if known is not None and not search.has_defaults:
        config = dataclasses.replace(config, defaults=known.defaults)
    return ModelFolder(
        name=name or folder.name,
        folder=folder,
        layout=layout,
        files=search.files,
        config=config,
        known=known,
        notes=tuple(search.notes),
        problems=tuple(search.problems),
    )


@dataclass(slots=True)
class _Search:
    folder: Path
    boundary: Path
    lenders: tuple[Path, ...]
    config: ModelConfig = field(default_factory=ModelConfig)
    has_defaults: bool = False
    files: dict[Part, Path] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)
    problems: list[FileError] = field(default_factory=list)

    def run(self) -> str:
        originals = {part: _original_file(self.folder, part) for part in Part}
        has_subfolder = os.path.isdir(self.folder / _PLACES[Part.UNET].subfolder)
        # A folder may hold both; the original files are taken where they are all there.
        if has_subfolder and not all(originals.values()):
            self._diffusers()
            layout = DIFFUSERS
        else:
            self._original()
            layout = ORIGINAL
        stated_in = "unet/config.json" if layout == DIFFUSERS else CONFIGURATION
        self._judge(self.folder / stated_in, self.config.check)
        return layout

    def _diffusers(self) -> None:
        for part in Part:
            self.files[part] = self._diffusers_part(self.folder, part) or self._expected_in_diffusers(part)
        if not os.path.exists(self.files[Part.AUTOENCODER]):
            self._borrow_autoencoder()
        self._tokenizer()
        path = self.folder / "scheduler" / "scheduler_config.json"
        if os.path.exists(path):
            noise = self._judge(path, lambda: diffusers_config.noise_config(read_json(path)))
            self.config = dataclasses.replace(self.config, noise=noise or self.config.noise)
        else:
            self.notes.append(Note(path, "is missing: the 1.7B model's noise schedule is used."))

    def _tokenizer(self) -> None:
        """Its words are OpenCLIP's in all published models; only what short prompts are filled up with could differ."""
        path = self.folder / "tokenizer" / "special_tokens_map.json"
        special = self._judge(path, lambda: read_json(path)) if os.path.exists(path) else None
        padding = special and special.get("pad_token")
        if isinstance(padding, dict):
            padding = padding.get("content")
        if padding and padding != _PADDING:
            self.notes.append(
                Note(path, f"fills prompts up with {padding!r}; here they are filled up with {_PADDING!r}.")
            )

    def _expected_in_diffusers(self, part: Part) -> Path:
        stem = "model" if part is Part.TEXT else "diffusion_pytorch_model"
        return self.folder / _PLACES[part].subfolder / f"{stem}.safetensors"

    def _diffusers_part(self, folder: Path, part: Part) -> Path | None:
        """The weights in a Diffusers folder's subfolder, whose config.json is taken over with them."""
        subfolder = folder / _PLACES[part].subfolder
        weights = _diffusers_file(subfolder)
        if weights is None:
            return None
        path = subfolder / "config.json"
        name, read = _CONFIG_FIELDS[part]
        if os.path.exists(path):
            sizes = self._judge(path, lambda: read(read_json(path)))
            if sizes is not None:
                self.config = dataclasses.replace(self.config, **{name: sizes})
        else:
            self.notes.append(Note(path, "is missing: the 1.7B model's sizes are used."))
        return weights

    def _original(self) -> None:
        declared = self._configuration()
        dark = _dark_files(self.folder) or {}
        for part, place in _PLACES.items():
            named = declared.get(place.key)
            configured = self._inside(named) if isinstance(named, str) else None
            found = next((path for path in _spelt(configured) if os.path.exists(path)), None)
            found = found or _original_file(self.folder, part) or dark.get(part)
            if found is None and part is Part.AUTOENCODER:
                found = self._diffusers_part(self.folder, part)
            self.files[part] = found or configured or self.folder / f"{place.stem}{place.suffix}"
        if not os.path.exists(self.files[Part.AUTOENCODER]):
            self._borrow_autoencoder()

    def _configuration(self) -> Mapping[str, Any]:
        """Read configuration.json, take its sizes over, and return its model_args."""
        path = self.folder / CONFIGURATION
        if not os.path.exists(path):
            self.notes.append(Note(path, "is missing: the 1.7B model's is used."))
            return {}
        document = self._judge(path, lambda: read_json(path))
        config = document and self._judge(path, lambda: ModelConfig.from_dict(document))
        if not document or config is None:
            return {}
        self.config = config
        arguments = document.get("model", {}).get("model_args", {})
        self.has_defaults = "defaults" in arguments
        return arguments

    def _inside(self, named: str) -> Path | None:
        """A path from configuration.json, refused where its words lead out of the models folder."""
        words = named.replace("\\", "/")
        path = Path(os.path.normpath(self.folder / words))
        try:
            inside = "\0" not in words and os.path.commonpath(
                [os.path.normcase(path), os.path.normcase(self.boundary)]
            ) == os.path.normcase(self.boundary)
        except ValueError:  # another drive
            inside = False
        if inside and ":" not in words[2:]:
            return path
        self.problems.append(
            FileError(
                self.folder / CONFIGURATION,
                f"points to {named[:200]!r}, which is outside the models folder {self.boundary}, and that is refused.",
                remedy="Copy that file beside it and write its plain name there, or put both into the models folder.",
            )
        )
        return None

    def _borrow_autoencoder(self) -> None:
        part = Part.AUTOENCODER
        parent = (self.folder.parent,) if _is_inside(self.folder.parent, self.boundary) else ()
        for lender in (*parent, *self.lenders):
            if lender == self.folder:
                continue
            found = _original_file(lender, part) or self._diffusers_part(lender, part)
            if found is not None:
                self.files[part] = found
                self.notes.append(Note(found, "is used, for the model has no autoencoder of its own."))
                return

    def _judge(self, path: Path, read: Callable[[], Any]) -> Any:
        """What `read` returns, or None with its error among the problems."""
        try:
            return read()
        except FileError as error:
            self.problems.append(error)
        except WeightsError as error:
            what = error.problem.removeprefix(f"{CONFIGURATION}: ")
            self.problems.append(FileError(path, f"says that {what}", remedy=error.remedy))
        return None


def _is_inside(path: Path, boundary: Path) -> bool:
    return path == boundary or boundary in path.parents


def _spelt(path: Path | None) -> tuple[Path, ...]:
    """A configured file, or the same converted to another format."""
    return () if path is None else (path, *(path.with_suffix(suffix) for suffix in _SUFFIXES))


def _original_file(folder: Path, part: Part) -> Path | None:
    stem = _PLACES[part].stem
    return next((path for suffix in _SUFFIXES if os.path.exists(path := folder / f"{stem}{suffix}")), None)


def _diffusers_file(folder: Path) -> Path | None:
    """The weights file or index in a subfolder: safetensors before .bin, without a variant (fp16) before with one."""
    names = sorted((entry.name for entry in _entries(folder)), key=lambda name: (len(name), name))
    for suffix in (".safetensors", ".bin"):
        for stem in _DIFFUSERS_STEMS:
            mine = [name for name in names if name.startswith(f"{stem}.") and suffix in name]
            whole = [name for name in mine if name.endswith(suffix)]
            indexes = [name for name in mine if name.endswith(".json") and f"{suffix}.index" in name]
            for name in (f"{stem}{suffix}", f"{stem}{suffix}.index.json", *whole, *indexes):
                if name in names and "-of-" not in name:
                    return folder / name
    shards = [name for name in names if "-of-" in name and name.endswith((".safetensors", ".bin"))]
    if shards:  # without their index, which is then the file that is missing
        stem = shards[0].partition("-")[0]
        return folder / f"{stem}{Path(shards[0]).suffix}.index.json"
    return None


def _dark_files(folder: Path) -> dict[Part, Path] | None:
    """`NAME.pth` beside `NAME_text.bin`, as zeroscope v2 dark is published."""
    for text in sorted(entry for entry in _entries(folder) if entry.name.endswith(_DARK_TEXT)):
        unet = text.with_name(text.name.removesuffix(_DARK_TEXT) + ".pth")
        if os.path.exists(unet):
            return {Part.UNET: unet, Part.TEXT: text}
    return None


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def native_size(defaults: ModelDefaults) -> str:
    """A model's native clip for people: "576×320, 24 frames"."""
    return f"{defaults.width}×{defaults.height}, {defaults.frames} frames"
