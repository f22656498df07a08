"""The LoRAs on this machine: files, and folders that hold one, in folders beside the models and in the WebUI's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from t2v_core.errors import RequestError
from t2v_core.fields import closest
from t2v_core.models.lora.wanted import FIELD
from t2v_core.request import problem

FOLDER_NAMES = ("lora", "Lora", "loras", "LoRA")
"""What the folder in a models folder is called; the first one is recommended."""

WEBUI_FOLDER = "Lora"
"""The WebUI's own folder in `models`, of whose subfolders those count that are called like our models folders."""

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
_DEEPEST = 3


@dataclass(frozen=True, slots=True)
class LoraFile:
    """A LoRA as people choose it: its name, another that is as good or "", and the file with its weights."""

    name: str
    path: Path
    also: str = ""


def folders(models_folders: Sequence[Path]) -> tuple[Path, ...]:
    """Every folder in which LoRAs are looked for, whether it's there or not, the first one to recommend."""
    beside = [folder / FOLDER_NAMES[0] for folder in models_folders]
    others = [folder / name for folder in models_folders for name in FOLDER_NAMES[1:]]
    webui = [folder.parent / WEBUI_FOLDER / folder.name for folder in models_folders]
    return tuple(dict.fromkeys([*beside, *webui, *others]))


def find_all(models_folders: Sequence[Path]) -> tuple[LoraFile, ...]:
    """Every LoRA by name, sorted; of two with one name the first counts. A folder that holds one is called after it."""
    found: dict[str, LoraFile] = {}
    seen: set[Path] = set()
    for folder in folders(models_folders):
        # On some systems two of the names are one folder.
        if folder.is_dir() and (place := folder.resolve()) not in seen:
            seen.add(place)
            for lora in _in_folder(folder, "", depth=1):
                found.setdefault(lora.name.casefold(), lora)
    return tuple(sorted(found.values(), key=lambda lora: lora.name.casefold()))


def find(name: str, models_folders: Sequence[Path], *, paths: bool = True) -> LoraFile:
    """The LoRA of that name (in any case of letters, with or without its suffix), or at that path.

    Args:
        name: a name as `find_all` gives it, its last part, or a path to a file or to a folder that holds one.
        models_folders: those of the host.
        paths: whether a path is allowed; False where a stranger gives the name.

    Raises:
        RequestError: with the nearest name, and where LoRAs go.
    """
    loras = find_all(models_folders)
    wanted = _plain(name)
    for spelt in (_plain, lambda known: _plain(known.rpartition("/")[2])):
        for lora in loras:
            if wanted in (spelt(lora.name), spelt(lora.also)):
                return lora
    at_path = _at_path(name) if paths else None
    if at_path is not None:
        return LoraFile(name, at_path)
    raise _unknown(name, loras, models_folders)


def _in_folder(folder: Path, prefix: str, *, depth: int) -> Iterator[LoraFile]:
    for entry in _entries(folder):
        if entry.suffix in SUFFIXES and entry.is_file():
            yield LoraFile(f"{prefix}{entry.stem}", entry)
        elif entry.is_dir() and depth < _DEEPEST:
            only = _only_file(entry)
            if only is not None:
                yield LoraFile(f"{prefix}{entry.name}", only, f"{prefix}{entry.name}/{only.stem}")
            else:
                yield from _in_folder(entry, f"{prefix}{entry.name}/", depth=depth + 1)


def _only_file(folder: Path) -> Path | None:
    """The weights of a folder that holds just these, as PEFT's and the published ones do."""
    files = [entry for entry in _entries(folder) if entry.suffix in SUFFIXES and entry.is_file()]
    adapters = [file for file in files if file.stem == "adapter_model"]
    return (adapters or files)[0] if len(files) == 1 or adapters else None


def _at_path(name: str) -> Path | None:
    try:
        path = Path(name).expanduser()
        if path.is_dir():
            return _only_file(path)
        return path if path.is_file() else None
    except (OSError, ValueError, RuntimeError):
        return None


def _unknown(name: str, loras: Sequence[LoraFile], models_folders: Sequence[Path]) -> RequestError:
    where = folders(models_folders)
    there = f". {closest(name, [lora.name for lora in loras])}" if loras else " here, nor any other."
    place = f" LoRAs for the video model go into {where[0]}." if where else ""
    return problem(FIELD, f"There is no LoRA {name!r}{there}{place}")


def _plain(name: str) -> str:
    """A name as it's compared: without the suffix that people may type."""
    name = name.replace("\\", "/").casefold()
    return next((name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix)), name)


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError:
        return []
