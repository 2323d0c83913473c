"""Which of this project's sources a piece of work runs: what cache keys and the ledger cover.

Imports are followed from the modules that do the work, also those inside functions, and never listed by hand. What
counts of a source is its syntax tree without docstrings, so a comment, a docstring or a blank line changes no digest.
"""

from __future__ import annotations

import ast
from collections.abc import Collection
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from radar_lib.files import digest_bytes, digest_file, digest_json

LIBRARY = __name__.partition(".")[0]
PROSE = {".md", ".pyc"}  # files beside a module that decide nothing


@cache
def source_of(module: str) -> Path | None:
    """The file of a module of this library or of a package that stands on it; None where no module has that name."""
    package, *rest = module.split(".")
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent.joinpath(*rest)
    return next((file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file()), None)


def imports_of(source: str, *, packages: Collection[str] = (LIBRARY,), package: str = "") -> set[str]:
    """Dotted names of the modules of some packages that a source imports, wherever in it.

    Args:
        packages: that are followed, by name; what others are is in their versions.
        package: the package that relative imports start from.
    """
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return {name for name in names if name.partition(".")[0] in packages and source_of(name)}


@cache
def _imports(module: str, packages: frozenset[str]) -> frozenset[str]:
    path = source_of(module)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    return frozenset(imports_of(path.read_text(encoding="utf-8"), packages=packages, package=package))


def import_closure(modules: Collection[str], *, without: tuple[str, ...] = ()) -> list[str]:
    """These modules and all that importing them runs, sorted: of this library and of their own packages.

    Args:
        without: prefixes of modules that are left out and not followed.
    """
    packages = frozenset({LIBRARY, *(name.partition(".")[0] for name in modules)})
    closure: set[str] = set()
    new = set(modules)
    while new := {name for name in new if not name.startswith(without)}:
        closure |= new
        above = {name.rpartition(".")[0] for name in new} - {""}
        new = above.union(*(_imports(name, packages) for name in new)) - closure
    return sorted(closure)


@cache
def digest_syntax(path: Path) -> str:
    """Digest of a Python file's syntax tree without docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and body:
            match body[0]:
                case ast.Expr(ast.Constant(str())):
                    node.body = body[1:]
    return digest_bytes(ast.dump(tree).encode())


@cache
def _files_beside(folder: Path) -> dict[str, str]:
    """Digests of the data files that lie in a package's folder, or below it outside any other package."""
    found = {}
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not (path / "__init__.py").exists() and path.name != "__pycache__":
            found |= {f"{path.name}/{name}": digest for name, digest in _files_beside(path).items()}
        elif path.is_file() and path.suffix not in {".py", *PROSE}:
            found[path.name] = digest_file(path)
    return found


def source_digests(*modules: str, without: tuple[str, ...] = ()) -> dict[str, str]:
    """Digest by name of everything that decides what `modules` do: sources and the data files beside them.

    Args:
        without: prefixes of modules that are not followed, such as a package whose content computes nothing.
    """
    names = import_closure(modules, without=without)
    digests = {name: digest_syntax(source_of(name)) for name in names}
    for package in [name for name in names if source_of(name).name == "__init__.py"]:
        digests |= {f"{package}/{name}": digest for name, digest in _files_beside(source_of(package).parent).items()}
    return digests


def digest_sources(*modules: str) -> str:
    """One digest of `source_digests`."""
    return digest_json(source_digests(*modules))
