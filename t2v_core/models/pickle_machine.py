"""A pickle machine that builds tensors' places and plain values, and can't import, call or run anything.

Python's own unpickler looks names up and calls them; this one has no way to. It goes through the opcodes that
`pickletools` reads, keeps names as text, and refuses every name that weights have no use for.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any

from t2v_core.models.pickle_values import (
    MAPPINGS,
    REBUILDERS,
    CodeInPickleError,
    DamagedPickleError,
    Inert,
    Name,
    is_harmless,
    is_storage_type,
    storage_named,
)

MOST_OPCODES = 500_000
"""The original files have some 60,000; the bound keeps a hostile one from filling the memory."""


def run(file: IO[bytes]) -> Any:
    """Read one pickle from where `file` stands, up to and including its STOP.

    Returns:
        Plain values, with `StoredTensor` for tensors, `Storage` for bare storages, and `Inert` or `Name` elsewhere.

    Raises:
        CodeInPickleError: when it names, calls or changes anything else than tensors need.
        DamagedPickleError: when it makes no sense; other exceptions may pass for broken opcodes.
    """
    machine = _Machine()
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if count > MOST_OPCODES:
            raise DamagedPickleError(f"it has more than {MOST_OPCODES:,} instructions")
        if opcode.name == "STOP":
            return machine.pop()
        machine.step(opcode.name, argument)
    raise DamagedPickleError("it has no end")


@dataclass(slots=True)
class _Machine:
    stack: list[Any] = field(default_factory=list)
    outer: list[list[Any]] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def step(self, opcode: str, argument: Any) -> None:
        if opcode in _LITERALS:
            self.push(argument)
        elif opcode in _VALUES:
            self.push(_VALUES[opcode]())
        elif opcode in _ACTIONS:
            _ACTIONS[opcode](self, argument)
        elif opcode not in ("PROTO", "FRAME"):
            raise CodeInPickleError(f"the instruction {opcode}")

    def push(self, value: Any) -> None:
        # A method, for a mark changes which list the stack is: the value must be there before the list is looked up.
        self.stack.append(value)

    def pop(self) -> Any:
        if not self.stack:
            raise DamagedPickleError("it takes more values than it made")
        return self.stack.pop()

    def top(self) -> Any:
        if not self.stack:
            raise DamagedPickleError("it takes more values than it made")
        return self.stack[-1]

    def since_mark(self) -> list[Any]:
        if not self.outer:
            raise DamagedPickleError("it closes what it never opened")
        items, self.stack = self.stack, self.outer.pop()
        return items

    def mark(self, _: Any) -> None:
        self.outer.append(self.stack)
        self.stack = []

    def drop(self, _: Any) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.since_mark()

    def remember(self, index: int | None) -> None:
        self.memo[len(self.memo) if index is None else int(index)] = self.top()

    def recall(self, index: int) -> None:
        if int(index) not in self.memo:
            raise DamagedPickleError(f"it recalls value {index}, which it never made")
        self.push(self.memo[int(index)])

    def tuple_of(self, count: int) -> None:
        items = [self.pop() for _ in range(count)]
        self.push(tuple(reversed(items)))

    def append(self, items: list[Any]) -> None:
        target = self.top()
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, Inert):
            raise DamagedPickleError("it appends to what is no list")

    def set_items(self, items: list[Any]) -> None:
        target = self.top()
        if isinstance(target, dict):
            target.update(_pairs(items))
        elif not isinstance(target, Inert):
            raise DamagedPickleError("it sets items of what is no dictionary")

    def name(self, module: Any, name: Any) -> Name:
        if not (isinstance(module, str) and isinstance(name, str)):
            raise DamagedPickleError("it names something that is no text")
        found = Name(module, name)
        key = (module, name)
        if not (key in REBUILDERS or key in MAPPINGS or is_storage_type(found) or is_harmless(found)):
            raise CodeInPickleError(str(found))
        return found

    def stack_global(self, _: Any) -> None:
        name, module = self.pop(), self.pop()
        self.push(self.name(module, name))

    def call(self, called: Any, arguments: Any) -> None:
        if not isinstance(called, Name):
            raise CodeInPickleError("a call of something that is no class")
        if not isinstance(arguments, (tuple, list)):
            raise DamagedPickleError("it calls without a tuple of arguments")
        key = (called.module, called.name)
        if key in REBUILDERS:
            self.push(REBUILDERS[key](*arguments))
        elif key in MAPPINGS:
            pairs = next((items for items in arguments if isinstance(items, (list, tuple))), ())
            self.push(dict(_pairs([value for pair in pairs for value in pair])))
        elif is_harmless(called):
            self.push(Inert())
        else:
            raise CodeInPickleError(f"a call of {called}")

    def reduce(self, _: Any) -> None:
        arguments, called = self.pop(), self.pop()
        self.call(called, arguments)

    def new_object_ex(self, _: Any) -> None:
        keywords, arguments, called = self.pop(), self.pop(), self.pop()
        if keywords != {}:
            raise CodeInPickleError(f"a call of {called} with keywords")
        self.call(called, arguments)

    def instance(self, argument: str) -> None:
        arguments = self.since_mark()
        self.call(self.name(*argument.split(" ", 1)), arguments)

    def make_object(self, _: Any) -> None:
        items = self.since_mark()
        if not items:
            raise DamagedPickleError("it makes an object of no class")
        self.call(items[0], items[1:])

    def build(self, _: Any) -> None:
        # State of an inert value is dropped; a state dict's own (`_metadata`) too.
        self.pop()
        if isinstance(self.top(), Name):
            raise CodeInPickleError(f"a change of {self.top()}")

    def persistent(self, _: Any) -> None:
        self.push(storage_named(self.pop()))

    def popped(self, method: Callable[[list[Any]], None], count: int) -> None:
        items = [self.pop() for _ in range(count)]
        method(items[::-1])


_LITERALS = frozenset((
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
))  # fmt: skip
_VALUES: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "EMPTY_SET": Inert,
}
_ACTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": _Machine.mark,
    "POP": _Machine.drop,
    "POP_MARK": lambda machine, _: (machine.since_mark(), None)[1],
    "DUP": lambda machine, _: machine.push(machine.top()),
    "PUT": _Machine.remember,
    "BINPUT": _Machine.remember,
    "LONG_BINPUT": _Machine.remember,
    "MEMOIZE": lambda machine, _: machine.remember(None),
    "GET": _Machine.recall,
    "BINGET": _Machine.recall,
    "LONG_BINGET": _Machine.recall,
    "TUPLE": lambda machine, _: machine.push(tuple(machine.since_mark())),
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "LIST": lambda machine, _: machine.push(machine.since_mark()),
    "DICT": lambda machine, _: machine.push(dict(_pairs(machine.since_mark()))),
    "FROZENSET": lambda machine, _: (machine.since_mark(), machine.push(Inert()))[1],
    "APPEND": lambda machine, _: machine.popped(machine.append, 1),
    "APPENDS": lambda machine, _: machine.append(machine.since_mark()),
    "ADDITEMS": lambda machine, _: machine.append(machine.since_mark()),
    "SETITEM": lambda machine, _: machine.popped(machine.set_items, 2),
    "SETITEMS": lambda machine, _: machine.set_items(machine.since_mark()),
    "GLOBAL": lambda machine, argument: machine.push(machine.name(*argument.split(" ", 1))),
    "STACK_GLOBAL": _Machine.stack_global,
    "REDUCE": _Machine.reduce,
    "NEWOBJ": _Machine.reduce,
    "NEWOBJ_EX": _Machine.new_object_ex,
    "INST": _Machine.instance,
    "OBJ": _Machine.make_object,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.persistent,
}


def _pairs(items: list[Any]) -> list[tuple[Any, Any]]:
    if len(items) % 2:
        raise DamagedPickleError("a dictionary's key has no value")
    return list(zip(map(_hashable, items[::2]), items[1::2], strict=True))


def _hashable(key: Any) -> Any:
    """Keys of other kinds name no weights; hashing nested tuples could take for ever."""
    return key if isinstance(key, (str, int, float, bytes, Name, type(None))) else Inert()
