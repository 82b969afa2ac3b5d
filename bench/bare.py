"""StickyRoute without its metrics: the same program, less the statements that only count.

What is left out is found in the source: on the path of a request, all that touches `counters` or raises a
number of a scope, but for what the limit of requests in flight goes by.
"""

import ast
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Final

MODULES: Final = frozenset(
    f"stickyroute_proxy.{name}"
    for name in ("exchange", "wire.downstream", "wire.upstream", "wire.answer", "affinity.choose")
)
_COUNTING: Final = frozenset(("counters", "_counters", "counter", "scope"))
"""The names of what counts. Of a scope only its numbers and `count` do."""
_LIMITING: Final = frozenset(("requests", "ended"))
"""Numbers that decide who is let in."""


def strip(tree: ast.Module) -> list[str]:
    """Take the counting statements out of a module; returns them."""
    stripper = _Stripper()
    stripper.visit(tree)
    ast.fix_missing_locations(tree)
    return stripper.removed


class _Stripper(ast.NodeTransformer):
    def __init__(self) -> None:
        self.removed: list[str] = []
        self._loaded: frozenset[str] = frozenset()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        found = -1
        while found != len(self.removed):  # what only a removed statement needed goes too
            found = len(self.removed)
            self._loaded = frozenset(
                part.id
                for part in ast.walk(node)
                if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load)
            )
            self.generic_visit(node)
        return node

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.stmt:
        target: ast.expr = node.target
        while isinstance(target, ast.Subscript):
            target = target.value
        counts = isinstance(target, ast.Attribute) and target.attr not in _LIMITING and _counts(target)
        return self._remove(node) if counts else node

    def visit_Expr(self, node: ast.Expr) -> ast.stmt:
        called = node.value.func if isinstance(node.value, ast.Call) else None
        if isinstance(called, ast.Attribute) and called.attr in ("add", "count") and _counts(called):
            return self._remove(node)
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.stmt:
        given = [part for target in node.targets for part in ast.walk(target) if isinstance(part, ast.expr)]
        unused = all(
            isinstance(part, ast.Tuple) or (isinstance(part, ast.Name) and part.id not in self._loaded)
            for part in given
        )
        return self._remove(node) if unused and _counts(node.value) else node

    def _remove(self, node: ast.stmt) -> ast.stmt:
        self.removed.append(ast.unparse(node))
        return ast.Pass()


def _counts(node: ast.expr) -> bool:
    return any(
        (isinstance(part, ast.Attribute) and part.attr in _COUNTING)
        or (isinstance(part, ast.Name) and part.id in _COUNTING)
        for part in ast.walk(node)
    )


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name in MODULES else None
        if spec is not None and spec.origin is not None:
            spec.loader = _Loader(name, spec.origin)
        return spec


class _Loader(SourceFileLoader):
    def get_code(self, name: str) -> CodeType:
        path = self.get_filename(name)
        tree = ast.parse(Path(path).read_text())
        strip(tree)
        return compile(tree, path, "exec")


def main() -> None:
    sys.meta_path.insert(0, _Finder())
    from stickyroute_proxy.main import main as proxy  # noqa: PLC0415 - by way of the finder

    proxy()


if __name__ == "__main__":
    main()
