"""No pickle runs anything, whatever it holds and in whichever of the files it stands."""

from __future__ import annotations

import builtins
import copyreg
import functools
import io
import operator
import os
import pickle
import struct
import subprocess
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
import torch._utils
from model_layouts import TINY, Payload, pickled, random_states, write_original, zip_of_pickle

from t2v_core.errors import WeightsError
from t2v_core.models.doctor import Severity, examine
from t2v_core.models.layouts import describe
from t2v_core.models.loading import load
from t2v_core.models.modelscope.checkpoint import Part
from t2v_core.models.pickle_machine import run
from t2v_core.models.pickle_values import CodeInPickleError, Inert
from t2v_core.models.torch_file import read_torch_file

FILES = {
    Part.UNET: "text2video_pytorch_model.pth",
    Part.TEXT: "open_clip_pytorch_model.bin",
    Part.AUTOENCODER: "VQGAN_autoencoder.pth",
}


class Trap:
    """Payloads that would create a file if anything of them ran."""

    def __init__(self, folder: Path) -> None:
        self.mark = folder / "RAN"
        touch = f"touch {self.mark}"
        python = f"__import__('pathlib').Path({str(self.mark)!r}).touch()"
        self.payloads = {
            "os.system": Payload(os.system, touch),
            "builtins.eval": Payload(eval, python),
            "builtins.exec": Payload(exec, python),
            "subprocess": Payload(subprocess.run, ["touch", str(self.mark)]),
            "getattr": Payload(getattr, Path(self.mark), "touch"),
            "open": Payload(open, str(self.mark), "w"),
            "partial": Payload(functools.partial(os.system, touch)),
            "operator": Payload(operator.methodcaller("touch"), Path(self.mark)),
            "torch.load": Payload(torch.load, str(self.mark)),
            "torch._utils": Payload(torch._utils._import_dotted_name, "os.system"),
            "torch.storage": Payload(torch.storage._load_from_bytes, pickled(Payload(os.system, touch))),
            "copyreg": Payload(copyreg._reconstructor, Path, object, None),
        }

    def assert_nothing_ran(self) -> None:
        assert not self.mark.exists()


PAYLOADS = sorted(Trap(Path()).payloads)


@pytest.fixture
def trap(tmp_path):
    trap = Trap(tmp_path)
    yield trap
    trap.assert_nothing_ran()


@pytest.fixture(scope="module")
def states():
    return random_states()


@pytest.mark.parametrize("part", Part)
@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_payload_in_any_file_runs_and_the_doctor_names_it(payload, part, states, trap, tmp_path):
    folder = tmp_path / "t2v"
    write_original(folder, TINY, states)
    hostile = {"state_dict": {**states[part], "hidden": trap.payloads[payload]}}
    torch.save(hostile, folder / FILES[part])

    with pytest.raises(WeightsError, match="code in it") as caught:
        load(describe(folder))
    assert str(folder / FILES[part]) in str(caught.value)
    assert caught.value.remedy
    assert caught.value.__cause__ is None

    errors = [f for f in examine(describe(folder), thorough=True).findings if f.severity is Severity.ERROR]
    assert [(f.file, f.what, f.remedy) for f in errors] == [
        (folder / FILES[part], str(caught.value.problem).partition(": ")[2], caught.value.remedy)
    ]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_protocol_and_neither_format_runs_a_payload(payload, legacy, protocol, trap, tmp_path):
    path = tmp_path / "weights.pth"
    data = pickled({"state_dict": {"weight": trap.payloads[payload]}}, protocol)
    if legacy:
        head = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
        path.write_bytes(b"".join(pickled(value, protocol) for value in head) + data + pickled([], protocol))
    else:
        zip_of_pickle(path, data)
    with pytest.raises(WeightsError, match="code in it"):
        read_torch_file(path)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_bare_pickle_is_no_torch_file_and_does_not_run(protocol, trap, tmp_path):
    path = tmp_path / "weights.bin"
    path.write_bytes(pickled(trap.payloads["os.system"], protocol))
    with pytest.raises(WeightsError, match=r"system"):
        read_torch_file(path)


def shell(mark: Path) -> bytes:
    return f"touch {mark}".encode()


OPCODES = {
    "GLOBAL": lambda m: b"cos\nsystem\n(V" + shell(m) + b"\ntR.",
    "GLOBAL posix": lambda m: b"cposix\nsystem\n(V" + shell(m) + b"\ntR.",
    "STACK_GLOBAL": lambda m: b"\x80\x04\x8c\x02os\x8c\x06system\x93(V" + shell(m) + b"\ntR.",
    "STACK_GLOBAL dotted": lambda m: b"\x80\x04\x8c\x0bcollections\x8c\x15OrderedDict.__class__\x93.",
    "INST": lambda m: b"(V" + shell(m) + b"\nios\nsystem\n.",
    "OBJ": lambda m: b"(cos\nsystem\nV" + shell(m) + b"\no.",
    "NEWOBJ": lambda m: b"\x80\x02cos\nsystem\n(V" + shell(m) + b"\nt\x81.",
    "NEWOBJ_EX": lambda m: b"\x80\x04cos\nsystem\n(V" + shell(m) + b"\nt}\x92.",
    "EXT1": lambda m: b"\x80\x02\x82\x01.",
    "EXT2": lambda m: b"\x80\x02\x83\x01\x00.",
    "EXT4": lambda m: b"\x80\x02\x84\x01\x00\x00\x00.",
    "PERSID": lambda m: b"Pstorage\n.",
    "BINPERSID": lambda m: b"Vstorage\nQ.",
    "BINPERSID of another class": lambda m: b"\x80\x02(Vstorage\nccollections\nOrderedDict\nV0\nVcpu\nK\x01tQ.",
    "BUILD on a class": lambda m: b"ccollections\nOrderedDict\n}V__init__\nK\x01sb.",
    "BUILD on a function": lambda m: b"ctorch._utils\n_rebuild_tensor_v2\n}V__code__\nK\x01sb.",
    "BUILD with slots": lambda m: b"ctorch._utils\n_rebuild_parameter\n(N}V__defaults__\nK\x01stb.",
    "calling a result": lambda m: b"\x80\x02ccollections\nOrderedDict\n)R(V" + shell(m) + b"\ntR.",
    "calling a stand-in": lambda m: b"\x80\x02c_codecs\nencode\n(V" + shell(m) + b"\ntR)R.",
    "calling a text": lambda m: b"Vos.system\n)R.",
    "keywords": lambda m: b"\x80\x04ccollections\nOrderedDict\n)}Va\nK\x01s\x92.",
    "NEXT_BUFFER": lambda m: b"\x80\x05\x97.",
}  # fmt: skip


@pytest.mark.parametrize("opcode", OPCODES)
def test_no_opcode_reaches_code(opcode, trap, tmp_path):
    data = OPCODES[opcode](trap.mark)
    with pytest.raises(CodeInPickleError):
        run(io.BytesIO(data))
    zip_of_pickle(tmp_path / "weights.pth", data)
    with pytest.raises(WeightsError, match="code in it"):
        read_torch_file(tmp_path / "weights.pth")


@pytest.mark.parametrize("payload", ["os.system", "builtins.eval", "builtins.exec", "subprocess"])
def test_the_traps_of_these_tests_do_spring_in_pythons_own_unpickler(payload, tmp_path):
    trap = Trap(tmp_path)
    pickle.loads(pickled(trap.payloads[payload]))
    assert trap.mark.exists()


def test_classes_and_tables_of_ours_stay_as_they_were():
    before = dict(vars(Inert)), dict(vars(OrderedDict)), set(vars(builtins))
    for make in OPCODES.values():
        with pytest.raises(CodeInPickleError):
            run(io.BytesIO(make(Path("x"))))
    assert (dict(vars(Inert)), dict(vars(OrderedDict)), set(vars(builtins))) == before


def tensor_pickle(
    *, key: str = "0", numel: object = 4, offset: object = 0, shape: object = (4,), stride: object = (1,)
):
    """A state dict of one float32 tensor, with a storage as it is told."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj):
            return ("storage", torch.FloatStorage, key, "cpu", numel) if obj == "STORAGE" else None

    buffer = io.BytesIO()
    rebuild = Payload(torch._utils._rebuild_tensor_v2, "STORAGE", offset, shape, stride, False, OrderedDict())
    Pickler(buffer, 2).dump({"weight": rebuild})
    return buffer.getvalue()


@pytest.mark.parametrize(
    "changes",
    [
        {"numel": 2**62},
        {"shape": (2**40,), "stride": (1,)},
        {"shape": (2**40,), "stride": (0,), "numel": -1},
        {"offset": 2**62},
        {"offset": -1},
        {"stride": (-1,)},
        {"shape": (2, 2)},
        {"shape": "4"},
        {"shape": (4.0,)},
        {"shape": (True,)},
        {"numel": "4"},
        {"key": "1"},
        {"key": "../../etc/passwd"},
        {"shape": (1,) * 40, "stride": (1,) * 40},
    ],
    ids=str,
)
def test_tensors_that_reach_out_of_their_file_are_refused(changes, tmp_path):
    path = tmp_path / "weights.pth"
    zip_of_pickle(path, tensor_pickle(), _0=bytes(16))
    assert read_torch_file(path)["weight"].shape == (4,)
    zip_of_pickle(path, tensor_pickle(**changes), _0=bytes(16))
    with pytest.raises(WeightsError, match="is damaged"):
        read_torch_file(path)


BOMBS = {
    "deep nesting": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
    "doubling tuples as a key": b"\x80\x02}" + b"K\x01" + b"2\x86" * 2_000 + b"K\x01s.",
    "many values": b"\x80\x02" + b"]" * 1_000_000 + b".",
    "a far memo place": b"\x80\x02Nr\xff\xff\xff\xff.",
    "a long text": b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b".",
    "a long number": b"L" + b"9" * 100_000 + b"L\n.",
    "no end": b"\x80\x02}",
    "underflow": b"\x80\x02R.",
    "nothing": b"",
    "noise": bytes(range(256)),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_hostile_or_damaged_pickle_ends_soon_in_a_clean_error(bomb, tmp_path):
    path = tmp_path / "weights.pth"
    zip_of_pickle(path, BOMBS[bomb])
    with pytest.raises(WeightsError) as caught:
        read_torch_file(path)
    assert caught.value.remedy
    assert len(str(caught.value)) < 1000


def test_a_compressed_pickle_of_absurd_size_is_not_unpacked(tmp_path):
    import zipfile

    path = tmp_path / "weights.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(64 * 2**20))
    with pytest.raises(WeightsError, match="absurd size"):
        read_torch_file(path)
