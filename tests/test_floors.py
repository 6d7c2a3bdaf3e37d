"""The house of DESIGN.md: a file imports only from floors below its own, and only the top floor talks to a person."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import gradflow

ROOT = Path(gradflow.__file__).parent
FILES = {
    ".".join(file.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): file
    for file in ROOT.rglob("*.py")
}

COMMON = {"errors", "checked", "rng", "resources", "lightning"}  # small words that every floor may use
TOP = {"cli", "commands", "hydra_main", "usage", "display", "doctor", "__main__", "__init__"}
BELOW = {
    "theory": set(),
    "instruments": set(),
    "diagnosis": set(),
    "models": {"theory"},
    "tasks": set(),
    "training": {"instruments", "models", "tasks"},
    "runs": {"diagnosis", "instruments", "models", "tasks", "theory", "training"},
    "sweeps": {"diagnosis", "instruments", "models", "tasks", "training", "runs"},
    "results": {"diagnosis", "runs"},
    "papers": {"results", "runs", "sweeps"},
}
SLOW = {"torch", "torchvision", "lightning", "sklearn", "wandb"}


def floor(module: str) -> str:
    """The second part of a module's path: its folder, or its own name at the top."""
    return module.split(".")[1] if "." in module else "__init__"


@cache
def imports(module: str, *, at_once: bool = False) -> tuple[tuple[int, str], ...]:
    """(line, module) of everything a file imports; `at_once`: only what is run when it is imported itself."""
    return tuple(_imports(module, at_once))


def _imports(module: str, at_once: bool) -> Iterator[tuple[int, str]]:
    for node in _walk(ast.parse(FILES[module].read_text(encoding="utf-8")), at_once):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: a relative import"
            assert node.module
            for name in node.names:
                whole = f"{node.module}.{name.name}"
                yield node.lineno, whole if whole in FILES else node.module


def _walk(tree: ast.AST, at_once: bool) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        later = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or (
            isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        )
        if not (at_once and later):
            yield node
            yield from _walk(node, at_once)


def reached(module: str) -> set[str]:
    """Everything that is imported, directly or not, when a module is; a package comes with its `__init__`."""
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in FILES:
            waiting += [found for _, found in imports(name, at_once=True)]
            waiting += [name.rpartition(".")[0]] if "." in name else []
    return seen


@pytest.mark.parametrize("module", FILES)
def test_a_file_imports_only_from_floors_below(module):
    own = floor(module)
    assert own in BELOW or own in COMMON | TOP, f"{module} is on no floor; see DESIGN.md"
    if own in TOP:
        return
    allowed = BELOW.get(own, set()) | COMMON | {own, "__init__"}
    found = [(line, name) for line, name in imports(module) if name.split(".")[0] == "gradflow"]
    assert [f"{module}:{line} imports {name}" for line, name in found if floor(name) not in allowed] == []


@pytest.mark.parametrize(
    "module", [module for module in FILES if floor(module) in {"results", "diagnosis", "papers"} | TOP - {"__init__"}]
)
def test_a_table_or_a_status_never_waits_for_torch(module):
    """Nor does a help page: what is slow is imported inside the functions that need it."""
    slow = {name for name in reached(module) if name.split(".")[0] in SLOW}
    if floor(module) in ("results", "diagnosis", "papers"):
        slow |= {name for _, name in imports(module) if name.split(".")[0] in SLOW}
    assert slow == set()


@pytest.mark.parametrize("module", [module for module in FILES if floor(module) not in TOP])
def test_nothing_below_the_cli_prints_or_reads_what_was_typed(module):
    talk = {"print", "input", "sys.argv", "sys.stdin", "sys.stdout", "sys.stderr", "sys.exit"}
    tree = ast.parse(FILES[module].read_text(encoding="utf-8"))
    words = [(ast.unparse(node), node) for node in ast.walk(tree) if isinstance(node, ast.Name | ast.Attribute)]
    assert [f"{module}:{node.lineno} {word}" for word, node in words if word in talk] == []


def test_the_rules_see_what_they_forbid():
    """Floors that are known to lie above each other do import each other, so that an empty list means something."""
    assert any(floor(name) == "training" for _, name in imports("gradflow.runs.execute"))
    assert "torch" in {name.split(".")[0] for name in reached("gradflow.runs.execute")}
    assert "gradflow.runs.record" in reached("gradflow.results.table")
    assert {"gradflow.sweeps.pool", "gradflow.runs.execute"}.isdisjoint(reached("gradflow.results.report"))
