"""Which names of the WebUI our code uses, and which ones a WebUI's source has: read from the sources alone.

A name is a chain of attributes, as `ui_toprow.Toprow().submit`: `()` stands for what a call gives.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

OBJECTS = {
    "shared.state": ("shared_state", "State"),
    "shared.prompt_styles": ("styles", "StyleDatabase"),
    "sd_models.model_data": ("sd_models", "SdModelData"),
    "ui_toprow.Toprow()": ("ui_toprow", "Toprow"),
    "ui_toprow.Toprow().ui_styles": ("ui_prompt_styles", "UiPromptStyles"),
    "options.OptionInfo()": ("options", "OptionInfo"),
    "images.FilenameGenerator": ("images", "FilenameGenerator"),
}
"""The classes of objects whose attributes we use."""


@dataclass(frozen=True, slots=True)
class Use:
    """A name, and how it is called: how many arguments by position, and which by name; None if it isn't called."""

    name: str
    call: tuple[int, frozenset[str]] | None = None


def uses_of_modules(path: Path) -> Iterator[Use]:
    """What a file of ours uses of `modules`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    known = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "modules":
            inside = (node.module or "").removeprefix("modules").lstrip(".")
            known |= {each.asname or each.name: f"{inside}.{each.name}".lstrip(".") for each in node.names}

    def chain(node: ast.AST) -> str | None:
        if isinstance(node, ast.Name):
            return known.get(node.id)
        if isinstance(node, ast.Attribute):
            owner = chain(node.value)
            return owner and f"{owner}.{node.attr}"
        if isinstance(node, ast.Call):
            called = chain(node.func)
            return called and f"{called}()"
        return None

    for node in ast.walk(tree):  # names for a chain, as `state = shared.state`
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and (meant := chain(node.value)):
            known[node.targets[0].id] = meant
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (name := chain(node.func)):
            keywords = frozenset(each.arg for each in node.keywords if each.arg)
            yield Use(name, (len(node.args), keywords))
        elif isinstance(node, (ast.Attribute, ast.Name)) and (name := chain(node)):
            yield Use(name)


class WebUI:
    """A WebUI's source, or the stand-in's."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._trees: dict[str, ast.Module] = {}

    def has(self, name: str) -> bool:
        """Whether the name is defined."""
        owner, _, last = name.removesuffix("()").rpartition(".")
        if owner == "shared.opts":
            return self._is_option(last) or self._method("options", "Options", last) is not None
        if owner == "shared.cmd_opts":
            return f'"--{last.replace("_", "-")}"' in self._file("cmd_args").read_text(encoding="utf-8")
        if owner in OBJECTS:
            return self._class_has(*OBJECTS[owner], last)
        if not owner:
            return self._file(last).is_file()
        # Of what a function gives nothing is known.
        return owner.endswith("()") or ("." not in owner and last in self._top(owner))

    def accepts(self, use: Use) -> bool:
        """Whether what the name stands for can be called so; what isn't found here is another library's."""
        assert use.call is not None
        owner, _, last = use.name.rpartition(".")
        if owner in OBJECTS:
            function = self._method(*OBJECTS[owner], last)
            return function is None or _fits(function, use.call, bound=True)
        node = self._top(owner).get(last) if owner and "." not in owner and "(" not in owner else None
        if isinstance(node, ast.ClassDef):
            function = self._method(owner, last, "__init__")
            return function is None or _fits(function, use.call, bound=True)
        return not isinstance(node, ast.FunctionDef) or _fits(node, use.call, bound=False)

    def _file(self, module: str) -> Path:
        return self.root / "modules" / f"{module.replace('.', '/')}.py"

    def _tree(self, module: str) -> ast.Module:
        if module not in self._trees:
            path = self._file(module)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the WebUIs' own
                self._trees[module] = ast.parse(path.read_text(encoding="utf-8") if path.is_file() else "")
        return self._trees[module]

    def _top(self, module: str) -> dict[str, ast.AST]:
        """What stands at the top of a module, by name."""
        found: dict[str, ast.AST] = {}
        for node in ast.walk(self._tree(module)):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                found |= {(each.asname or each.name).split(".")[0]: node for each in node.names}
        for node in self._tree(module).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                found[node.name] = node
            elif isinstance(node, (ast.Assign, ast.AnnAssign)):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                found |= {
                    name.id: node for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)
                }
        return found

    def _class(self, module: str, name: str) -> ast.ClassDef | None:
        node = self._top(module).get(name)
        return node if isinstance(node, ast.ClassDef) else None

    def _method(self, module: str, owner: str, name: str) -> ast.FunctionDef | None:
        body = getattr(self._class(module, owner), "body", [])
        return next((each for each in body if isinstance(each, ast.FunctionDef) and each.name == name), None)

    def _class_has(self, module: str, owner: str, name: str) -> bool:
        node = self._class(module, owner)
        if node is None:
            return False
        names = {each.name for each in node.body if isinstance(each, ast.FunctionDef)}
        for each in ast.walk(node):
            targets = each.targets if isinstance(each, ast.Assign) else [getattr(each, "target", None)]
            names |= {getattr(target, "attr", None) or getattr(target, "id", "") for target in targets if target}
        return name in names

    def _is_option(self, name: str) -> bool:
        nodes = ast.walk(self._tree("shared_options"))
        return any(isinstance(node, ast.Constant) and node.value == name for node in nodes)

    # ---- Its JavaScript

    def scripts(self) -> str:
        """All of its JavaScript."""
        paths = [self.root / "script.js", *sorted((self.root / "javascript").glob("*.js"))]
        return "\n".join(path.read_text(encoding="utf-8") for path in paths if path.is_file())

    def parameters_of(self, function: str) -> int | None:
        """How many parameters a JavaScript function has, None if it isn't there."""
        found = re.search(rf"^(?:async )?function {re.escape(function)}\((.*?)\)", self.scripts(), re.MULTILINE)
        if found is None:
            return None
        return len([part for part in found[1].split(",") if part.strip()])


def _fits(function: ast.FunctionDef, call: tuple[int, frozenset[str]], *, bound: bool) -> bool:
    positional, keywords = call
    arguments = function.args
    names = [each.arg for each in (*arguments.posonlyargs, *arguments.args)][int(bound) :]
    given = set(names[:positional]) | keywords
    required = names[: len(names) - len(arguments.defaults)]
    if positional > len(names) and arguments.vararg is None:
        return False
    known = {*names, *(each.arg for each in arguments.kwonlyargs)}
    return set(required) <= given and (keywords <= known or arguments.kwarg is not None)


def calls_in_script(code: str) -> dict[str, int]:
    """The functions that a script calls but neither defines nor finds in every browser, and with how many arguments."""
    code = NO_CODE.sub(lambda found: '""' if found[0][0] in "\"'" else "", code)
    ours = set(re.findall(r"(?:function|const|let|var)\s+([\w$]+)", code))
    calls: dict[str, int] = {}
    for match in re.finditer(r"(?<![\w$.])([A-Za-z_$][\w$]*)\(", code):
        name = match[1]
        if name not in ours | BROWSER and not code[: match.start()].endswith(("function ", "new ")):
            calls[name] = max(calls.get(name, 0), _arguments(code, match.end()))
    return calls


NO_CODE = re.compile(r""""(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|//[^\n]*|/\*.*?\*/""", re.DOTALL)
"""Texts and comments: a text may hold what begins a comment, as "image/*" does."""

BROWSER = {
    *("if", "for", "while", "switch", "catch", "return", "typeof", "function", "await", "async", "of"),
    *(
        "Array",
        "Boolean",
        "Date",
        "JSON",
        "Math",
        "Number",
        "Object",
        "Promise",
        "Set",
        "String",
        "parseInt",
        "parseFloat",
    ),
    *("DataTransfer", "Event", "Image", "fetch", "confirm", "alert", "getComputedStyle", "encodeURIComponent"),
    *("clearTimeout", "setTimeout", "setInterval", "requestAnimationFrame"),
}
"""Words before a bracket that no WebUI has to define."""


def _arguments(code: str, start: int) -> int:
    """How many arguments stand between the bracket before `start` and its partner."""
    depth, commas, last = 0, 0, ""
    for character in code[start:]:
        if character in "([{":
            depth += 1
        elif character in ")]}":
            if depth == 0:
                break
            depth -= 1
        elif character == "," and depth == 0:
            commas += 1
        last = last if character.isspace() else character
    return commas + 1 if last else 0
