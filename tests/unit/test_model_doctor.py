"""The doctor names the right file and the right remedy, and loading says the same."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from model_layouts import (
    TINY,
    Payload,
    pickled,
    random_states,
    safetensors_bytes,
    write_diffusers,
    write_diffusers_sharded,
    write_json,
    write_original,
    write_original_safetensors,
)
from safetensors.torch import save_file

from t2v_core.errors import WeightsError
from t2v_core.models import whole
from t2v_core.models.doctor import Severity, examine
from t2v_core.models.layouts import describe
from t2v_core.models.loading import load
from t2v_core.models.modelscope.checkpoint import Part

CONFIGURATION = "configuration.json"
UNET, TEXT, VQGAN = "text2video_pytorch_model.pth", "open_clip_pytorch_model.bin", "VQGAN_autoencoder.pth"
PAGE = b"\n<!DOCTYPE html><html><head><title>Sign in</title></head></html>" * 20
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 2823000000\n"


@dataclass(frozen=True)
class Case:
    """How a whole folder is broken, and what must be said about which file."""

    break_it: Callable[[Path], object]
    file: str
    what: str
    remedy: str
    write: Callable[..., None] = write_original


def write(name: str, data: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(data)


def remove(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def rename(name: str, other: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).rename(folder / other)


def cut(name: str, share: float) -> Callable[[Path], object]:
    return lambda folder: os.truncate(folder / name, int((folder / name).stat().st_size * share))


def swap(one: str, other: str) -> Callable[[Path], object]:
    def break_it(folder: Path) -> None:
        (folder / one).rename(folder / "x")
        (folder / other).rename(folder / one)
        (folder / "x").rename(folder / other)

    return break_it


def save(name: str, *names: str, shape: tuple[int, ...] = (2, 2)) -> Callable[[Path], object]:
    return lambda folder: torch.save({key: torch.zeros(shape) for key in names}, folder / name)


def change(name: str, edit: Callable[[dict], object]) -> Callable[[Path], object]:
    def break_it(folder: Path) -> None:
        state = torch.load(folder / name, weights_only=True)
        edit(state)
        torch.save(state, folder / name)

    return break_it


def edit_json(name: str, *path: str, value: object) -> Callable[[Path], object]:
    def break_it(folder: Path) -> None:
        document = node = json.loads((folder / name).read_text(encoding="utf-8"))
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = value
        write_json(folder / name, document)

    return break_it


def flip_bytes_of_the_pickle(folder: Path) -> None:
    with zipfile.ZipFile(folder / UNET) as archive:
        name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        place = archive.getinfo(name).header_offset + 200
    with (folder / UNET).open("r+b") as file:
        file.seek(place)
        file.write(b"\xff" * 8)


def pack_again(folder: Path) -> None:
    with zipfile.ZipFile(folder / UNET) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(folder / UNET, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in records.items():
            archive.writestr(name, data)


def pack_into_a_zip(folder: Path) -> None:
    (folder / UNET).rename(folder / "inner.pth")
    with zipfile.ZipFile(folder / UNET, "w") as archive:
        archive.write(folder / "inner.pth", UNET)
    (folder / "inner.pth").unlink()


def replace_by_a_folder(folder: Path) -> None:
    (folder / UNET).unlink()
    (folder / UNET).mkdir()


def point_shard_elsewhere(folder: Path) -> None:
    index = folder / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    document = json.loads(index.read_text())
    document["weight_map"]["conv_in.weight"] = "../../secret.safetensors"
    write_json(index, document)


SHARD = "unet/diffusion_pytorch_model-00002-of-00002.safetensors"
SAFE_UNET, SAFE_TEXT = "text2video_pytorch_model.safetensors", "open_clip_pytorch_model.safetensors"

CASES = {
    "unet missing": Case(remove(UNET), UNET, "is missing", "Put"),
    "text tower missing": Case(remove(TEXT), TEXT, "is missing", "Put"),
    "autoencoder missing": Case(remove(VQGAN), VQGAN, "is missing", "Put"),
    "configuration is a page": Case(write(CONFIGURATION, PAGE), CONFIGURATION, "a web page", "/resolve/"),
    "unet is a page": Case(write(UNET, PAGE), UNET, "a web page", "/resolve/"),
    "text tower is a page with a byte order mark": Case(
        write(TEXT, b"\xef\xbb\xbf" + PAGE), TEXT, "a web page", "/resolve/"
    ),
    "unet is an LFS pointer": Case(write(UNET, POINTER), UNET, "Git LFS pointer", "git lfs pull"),
    "configuration is an LFS pointer": Case(write(CONFIGURATION, POINTER), CONFIGURATION, "Git LFS", "git lfs pull"),
    "an error message for weights": Case(write(VQGAN, b'{"error": "401"}'), VQGAN, "is text", "download it again"),
    "unet empty": Case(write(UNET, b""), UNET, "is empty", "download it again"),
    "configuration empty": Case(write(CONFIGURATION, b""), CONFIGURATION, "is empty", "download it again"),
    "configuration cut short": Case(cut(CONFIGURATION, 0.5), CONFIGURATION, "not valid JSON", "download it again"),
    "configuration is a list": Case(write(CONFIGURATION, b"[]"), CONFIGURATION, "not an object", "download it again"),
    "configuration is no text": Case(write(CONFIGURATION, b"\xff{}"), CONFIGURATION, "not valid JSON", "again"),
    "configuration of the wrong kind": Case(
        edit_json(CONFIGURATION, "model", "model_cfg", "unet_dim", value="big"), CONFIGURATION, "unet_dim", "Put back"
    ),
    "configuration points outside": Case(
        edit_json(CONFIGURATION, "model", "model_args", "ckpt_unet", value="../../x.pth"),
        CONFIGURATION, "outside the models folder", "Copy that file",
    ),
    "configuration of another size": Case(
        edit_json(CONFIGURATION, "model", "model_cfg", "unet_dim", value=64), UNET, "another size", "configuration"
    ),
    "unet cut short": Case(cut(UNET, 0.7), UNET, "cut short", "download it again"),
    "autoencoder cut short early": Case(cut(VQGAN, 0.1), VQGAN, "cut short", "download it again"),
    "safetensors cut short": Case(
        cut(SAFE_UNET, 0.9), SAFE_UNET, "cut short", "download it again", write_original_safetensors
    ),
    "safetensors cut within the header": Case(
        cut(SAFE_UNET, 0.001), SAFE_UNET, "cut short", "download it again", write_original_safetensors
    ),
    "download never finished": Case(write(UNET, bytes(4096)), UNET, "zeros only", "download it again"),
    "browser left-over": Case(
        rename(UNET, UNET + ".crdownload"), UNET, "hasn't finished", "Let the download finish"
    ),
    "second copy": Case(
        rename(UNET, "text2video_pytorch_model (1).pth"), UNET, "(1).pth is there", "Rename"
    ),
    "zip damaged": Case(flip_bytes_of_the_pickle, UNET, "is damaged", "download it again"),
    "zip packed again": Case(pack_again, UNET, "packed again", "as its author published it"),
    "zip around the file": Case(pack_into_a_zip, UNET, "zip archive, but not of weights", "Unpack"),
    "gzip": Case(write(UNET, b"\x1f\x8b\x08" + bytes(100)), UNET, "gzip", "Unpack"),
    "a GGUF": Case(write(UNET, b"GGUF" + bytes(100)), UNET, "GGUF", "original file"),
    "a picture": Case(write(UNET, b"\x89PNG\r\n\x1a\n" + bytes(range(256))), UNET, "neither a torch", "download"),
    "pickle with code": Case(
        lambda folder: torch.save({"a": Payload(os.system, "true")}, folder / UNET), UNET, ".system", "Delete it"
    ),
    "bare pickle": Case(write(UNET, pickled({"a": 1})), UNET, "not of weights", "Put"),
    "no weights inside": Case(lambda folder: torch.save({"a": 1}, folder / UNET), UNET, "no weights", "Put"),
    "nameless tensors": Case(
        lambda folder: torch.save([torch.zeros(2)], folder / UNET), UNET, "T2V-Turbo", "Put"
    ),
    "swapped unet and text tower": Case(swap(UNET, TEXT), UNET, "holds a text tower's weights", f"called {TEXT}"),
    "swapped text tower and autoencoder": Case(
        swap(TEXT, VQGAN), VQGAN, "holds a text tower's weights", f"called {TEXT}"
    ),
    "swapped unet and autoencoder": Case(swap(UNET, VQGAN), VQGAN, "holds the text-to-video UNet", f"called {UNET}"),
    "keys missing": Case(
        change(UNET, lambda state: [state.pop(name) for name in list(state)[:8]]),
        UNET, "lacks 8 tensors: time_embed.0.weight, time_embed.0.bias, time_embed.2.weight, time_embed.2.bias, "
        "input_blocks.0.0.weight and 3 more.", "Download it again",
    ),
    "keys unexpected": Case(
        change(UNET, lambda state: state.update({"foo.bar": torch.zeros(2)})), UNET, "unexpected foo.bar", "another"
    ),
    "shape of another model": Case(
        change(UNET, lambda state: state.update({"out.2.bias": torch.zeros(5)})),
        UNET, "out.2.bias (5 instead of 4)", "configuration",
    ),
    "quantised": Case(
        change(UNET, lambda state: state.update({"out.2.bias": torch.zeros(4, dtype=torch.int8)})),
        UNET, "whole numbers", "fp16",
    ),
    "an unknown number format": Case(
        change(UNET, lambda state: state.update({"out.2.bias": torch.zeros(4, dtype=torch.complex64)})),
        UNET, "unknown format", "fp16",
    ),
    "an unknown number format in safetensors": Case(
        write(SAFE_UNET, safetensors_bytes({"a": {"dtype": "F4", "shape": [2], "data_offsets": [0, 1]}}, b"\0")),
        SAFE_UNET, "unknown format F4", "fp16", write_original_safetensors,
    ),
    "safetensors header lies": Case(
        write(SAFE_UNET, safetensors_bytes({"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 4]}}, bytes(4))),
        SAFE_UNET, "another length than its shape", "download it again", write_original_safetensors,
    ),
    "safetensors header is no JSON": Case(
        write(SAFE_UNET, safetensors_bytes(b"{" + b"[" * 5000)), SAFE_UNET, "is damaged", "download it again",
        write_original_safetensors,
    ),
    "Stable Diffusion 1": Case(
        save(UNET, "model.diffusion_model.input_blocks.0.0.weight", "cond_stage_model.transformer.text_model.x"),
        UNET, "Stable Diffusion 1", "Put the file",
    ),
    "SDXL": Case(
        save(UNET, "model.diffusion_model.input_blocks.0.0.weight", "conditioner.embedders.0.x"), UNET, "SDXL", "Put"
    ),
    "an image UNet of Diffusers": Case(
        save(UNET, "down_blocks.0.resnets.0.norm1.weight", "mid_block.a", "time_embedding.linear_1.weight"),
        UNET, "an image UNet", "Put",
    ),
    "AnimateDiff": Case(
        save(UNET, "down_blocks.0.motion_modules.0.temporal_transformer.norm.weight"), UNET, "AnimateDiff", "Put"
    ),
    "a LoRA": Case(save(UNET, "lora_unet_x.lora_up.weight", "lora_unet_x.lora_down.weight"), UNET, "a LoRA", "Put"),
    "a vision half": Case(save(TEXT, "visual.conv1.weight"), TEXT, "vision half", "Put"),
    "something unheard of": Case(save(UNET, "alpha", "beta"), UNET, "called alpha, beta", "another"),
    "a folder instead of a file": Case(replace_by_a_folder, UNET, "is a folder", "Put"),
    "diffusers unet missing": Case(
        lambda folder: shutil.rmtree(folder / "unet") or (folder / "unet").mkdir(),
        "unet/diffusion_pytorch_model.safetensors", "is missing", "Put", write_diffusers,
    ),
    "diffusers configuration is a page": Case(
        write("unet/config.json", PAGE), "unet/config.json", "a web page", "/resolve/", write_diffusers
    ),
    "diffusers class is another": Case(
        edit_json("unet/config.json", "_class_name", value="UNetMotionModel"),
        "unet/config.json", "UNetMotionModel", "Put back", write_diffusers,
    ),
    "a shard missing": Case(remove(SHARD), SHARD, "is missing", "Put", write_diffusers_sharded),
    "a shard cut short": Case(cut(SHARD, 0.5), SHARD, "cut short", "download it again", write_diffusers_sharded),
    "the index missing": Case(
        remove("unet/diffusion_pytorch_model.safetensors.index.json"),
        "unet/diffusion_pytorch_model.safetensors.index.json", "is missing", "Put", write_diffusers_sharded,
    ),
    "the index points elsewhere": Case(
        point_shard_elsewhere, "unet/diffusion_pytorch_model.safetensors.index.json", "refused", "download it again",
        write_diffusers_sharded,
    ),
    "no folder at all": Case(shutil.rmtree, "", "is no folder", "Name the folder"),
}  # fmt: skip


@pytest.fixture(scope="module")
def whole_folders(tmp_path_factory):
    """One whole folder a layout, to be copied and broken."""
    states, root = random_states(), tmp_path_factory.mktemp("whole")
    for writer in {case.write for case in CASES.values()}:
        writer(root / writer.__name__, TINY, states)
    return root


@pytest.mark.parametrize("name", CASES)
def test_the_doctor_names_the_file_and_the_remedy_and_loading_says_the_same(name, whole_folders, tmp_path):
    case, folder = CASES[name], tmp_path / "t2v"
    shutil.copytree(whole_folders / case.write.__name__, folder)
    case.break_it(folder)

    report = examine(describe(folder))

    assert not report.is_healthy
    findings = [finding for finding in report.findings if finding.severity is Severity.ERROR]
    finding = next(finding for finding in findings if case.what in finding.what)
    assert finding.file == folder / case.file
    assert case.remedy.casefold() in finding.remedy.casefold()
    with pytest.raises(WeightsError) as caught:
        load(describe(folder))
    first = findings[0]
    assert (caught.value.problem, caught.value.remedy) == (f"{first.file}: {first.what}", first.remedy)


@pytest.mark.parametrize("writer", [write_original, write_original_safetensors, write_diffusers])
def test_a_whole_folder_is_healthy_and_each_part_is_described(writer, tmp_path):
    writer(tmp_path, TINY, random_states(dtype=torch.float16))
    report = examine(describe(tmp_path), thorough=True)
    assert report.is_healthy
    assert [finding.severity for finding in report.findings] == [Severity.OK] * 3
    for part, finding in zip(Part, report.findings, strict=True):
        assert part.value in finding.what
        assert "float16" in finding.what


def test_a_missing_configuration_is_a_note(tmp_path):
    write_original(tmp_path, TINY, random_states())
    (tmp_path / CONFIGURATION).unlink()
    notes = [f for f in examine(describe(tmp_path)).findings if f.severity is Severity.NOTE]
    assert [(note.file, note.what) for note in notes] == [
        (tmp_path / CONFIGURATION, "is missing: the 1.7B model's is used.")
    ]


def test_left_overs_are_pointed_out_though_the_model_is_whole(tmp_path):
    write_original(tmp_path, TINY, random_states())
    (tmp_path / "other.part").write_bytes(b"x")
    (tmp_path / "VQGAN_autoencoder (2).pth").write_bytes(b"x")
    report = examine(describe(tmp_path))
    warned = [finding.file.name for finding in report.findings if finding.severity is Severity.WARNING]
    assert report.is_healthy
    assert warned == ["VQGAN_autoencoder (2).pth", "other.part"]


def test_a_changed_byte_in_the_numbers_is_found_when_asked_to_be_thorough(tmp_path):
    write_original(tmp_path, TINY, random_states())
    with (tmp_path / UNET).open("r+b") as file:
        file.seek((tmp_path / UNET).stat().st_size // 2)
        file.write(b"\x55" * 64)
    assert examine(describe(tmp_path)).is_healthy
    report = examine(describe(tmp_path), thorough=True)
    assert [f.file.name for f in report.findings if f.severity is Severity.ERROR] == [UNET]


def test_a_file_without_read_permission_is_named(tmp_path, monkeypatch):
    write_original(tmp_path, TINY, random_states())
    real = Path.open

    def refuse(self, *arguments, **keywords):
        if self.name == UNET:
            raise PermissionError(13, "Permission denied")
        return real(self, *arguments, **keywords)

    monkeypatch.setattr(whole.Path, "open", refuse)
    finding = next(f for f in examine(describe(tmp_path)).findings if f.severity is Severity.ERROR)
    assert finding.file == tmp_path / UNET
    assert "permission" in finding.what
    assert "right to read" in finding.remedy


def test_a_disk_that_fails_is_named(tmp_path, monkeypatch):
    write_original(tmp_path, TINY, random_states())

    def fail(self, *arguments, **keywords):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(whole.Path, "open", fail)
    with pytest.raises(WeightsError, match="Input/output error"):
        load(describe(tmp_path))


def test_the_doctor_reads_no_numbers(tmp_path, monkeypatch):
    save_file({"out.2.bias": torch.zeros(4)}, tmp_path / "x.safetensors")
    write_original(tmp_path, TINY, random_states())
    monkeypatch.setattr("mmap.mmap", None)
    assert examine(describe(tmp_path)).is_healthy
