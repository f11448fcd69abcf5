"""Loading a graph by name: `path/to/file.py:attribute`, as in `langgraph.json`, `module:attribute`, or a folder."""

import difflib
import hashlib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from langgraph.graph import StateGraph
from langgraph.pregel.protocol import PregelProtocol

from graph_voice.errors import LoadError

__all__ = ["load_graph", "load_module", "load_object", "locate", "name_of", "source_of"]

DEFAULT_ATTRIBUTE = "graph"
FILE_OF_FOLDER = "graph.py"


def load_graph(spec: str, *, reload: bool = False) -> Any:
    """Load the graph that `spec` names.

    `spec` is `path.py:attribute` or `package.module:attribute`; the attribute is `graph` if none is given. A folder
    stands for the `graph.py` in it. The attribute is a `StateGraph`, a compiled graph, or a function without arguments
    that returns one; the function is then called. A file's folder is importable only while the file is executed, so
    import at the top of the file. A file in a package (a folder with an `__init__.py`) is imported as a part of it, so
    it may import its siblings (`from .menu import MENU`). A file is executed once per process, or again with `reload`;
    what it imports is not reloaded.

    Raises:
        LoadError: there is no such file, module or attribute, the file fails while it is imported, or the
            attribute is not a graph. The message says which, and what is there instead.
    """
    target = load_object(spec, reload=reload)
    module, _ = _loaded(spec, reload=False)
    if not _is_graph(target) and callable(target):
        target = _called(target, spec, module)
    if _is_graph(target):
        return target
    raise LoadError(
        f"{spec} is not a graph but {target!r:.60}. Name a StateGraph, a compiled graph, or a function "
        f"without arguments that returns one. {_graphs_in(module)}"
    )


def load_object(spec: str, *, reload: bool = False) -> Any:
    """Load whatever `spec` names, as `load_graph`, but it need not be a graph.

    Raises `LoadError` if there is no such file, module or attribute, or the file fails while it is imported.
    """
    module, attribute = _loaded(spec, reload=reload)
    target: Any = module
    for name in attribute.split("."):
        try:
            target = getattr(target, name)
        except AttributeError:
            close = difflib.get_close_matches(name, [key for key in vars(module) if key[:1] != "_"], 1)
            hint = f"; did you mean {close[0]!r}?" if close else "."
            where = module.__file__ or module.__name__
            raise LoadError(f"{where} has no attribute {attribute!r}{hint} {_graphs_in(module)}") from None
    return target


def load_module(spec: str) -> ModuleType:
    """The module in which `spec` names an attribute. Raises `LoadError` as `load_graph` does."""
    module, _ = _loaded(spec, reload=False)
    return module


def locate(spec: str) -> str:
    """`spec` in a form that a process in another working directory can load: with the file's absolute path.

    Raises `LoadError` if there is no such file. Nothing is executed, so whether the file has the graph is not checked.
    """
    where, attribute = _parts(spec)
    if not _is_path(where):
        return f"{where}:{attribute}"
    path = Path(where).expanduser()
    if not path.is_file():
        raise LoadError(_missing(path))
    return f"{path.resolve()}:{attribute}"


def source_of(spec: str) -> str:
    """The file, or the module's name, in `spec`; for a folder, its `graph.py`."""
    return _parts(spec)[0]


def name_of(spec: str) -> str:
    """A name for the graph of `spec`: the file's name, or for a folder's `graph.py` the folder's name."""
    where = source_of(spec)
    if not _is_path(where):
        return where.rpartition(".")[2]
    path = Path(where)
    return path.resolve().parent.name if path.name == FILE_OF_FOLDER else path.stem


def _loaded(spec: str, *, reload: bool) -> tuple[ModuleType, str]:
    where, attribute = _parts(spec)
    if _is_path(where):
        return _from_file(Path(where).expanduser(), spec, reload=reload), attribute
    return _from_name(where, spec, reload=reload), attribute


def _is_path(where: str) -> bool:
    return where.endswith(".py") or "/" in where or "\\" in where or Path(where).is_file()


def _parts(spec: str) -> tuple[str, str]:
    where, colon, attribute = spec.strip().rpartition(":")
    # A drive letter's colon is not a separator, and a bare path has none.
    if not colon or "/" in attribute or "\\" in attribute:
        where, attribute = spec.strip(), DEFAULT_ATTRIBUTE
    if not where:
        raise LoadError(f"{spec!r} doesn't name a file: write path/to/file.py:{attribute or DEFAULT_ATTRIBUTE}")
    if (inside := Path(where).expanduser() / FILE_OF_FOLDER).is_file():
        where = str(inside)
    return where, attribute or DEFAULT_ATTRIBUTE


def _from_file(path: Path, spec: str, *, reload: bool) -> ModuleType:
    if not path.is_file():
        raise LoadError(_missing(path))
    path = path.resolve()
    for known in () if reload else tuple(sys.modules.values()):
        # The file may already have been imported as a part of its package: don't execute it twice.
        if getattr(known, "__file__", None) == str(path) and known.__name__ != "__main__":
            return known
    if (path.parent / "__init__.py").is_file():
        return _from_package(path, spec, reload=reload)
    # Named by the whole path: two files named `agent.py` are two modules.
    name = f"{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    found = importlib.util.spec_from_file_location(name, path)
    if found is None or found.loader is None:
        raise LoadError(f"{path} is not a Python file: its name must end in .py")
    module = importlib.util.module_from_spec(found)
    before = sys.modules.get(name)
    sys.modules[name] = module  # pickle, dataclasses and type hints look a module up by its name
    try:
        with _importable(path.parent):
            found.loader.exec_module(module)
    except (KeyboardInterrupt, GeneratorExit):
        _restore(name, before)
        raise
    except BaseException as error:  # SystemExit too: a file that exits returns no graph
        _restore(name, before)
        raise LoadError(_failed(spec, error, path)) from error
    return module


def _from_package(path: Path, spec: str, *, reload: bool) -> ModuleType:
    """A file imported as a part of its package. By its path alone, its relative imports would fail."""
    top = path.parent
    while (top.parent / "__init__.py").is_file():
        top = top.parent
    name = ".".join(path.relative_to(top.parent).with_suffix("").parts)
    if (known := _imported_as(path.parent)) is not None:
        name = f"{known}.{path.stem}"  # or its siblings would be there twice, each class of theirs too
    elif (other := sys.modules.get(top.name)) is not None and str(top) not in map(str, getattr(other, "__path__", ())):
        raise LoadError(
            f"{path} is a part of the package {top.name!r}, but another package of that name is already loaded "
            f"({other.__file__}). Rename the folder, or start another process."
        )
    before = set(sys.modules)
    try:
        with _importable(top.parent):
            if reload and name in sys.modules:
                return importlib.reload(sys.modules[name])
            return importlib.import_module(name)
    except BaseException as error:
        for new in set(sys.modules) - before:
            if new.partition(".")[0] == name.partition(".")[0]:
                del sys.modules[new]
        if isinstance(error, KeyboardInterrupt | GeneratorExit):
            raise
        raise LoadError(_failed(spec, error, path)) from error


def _imported_as(folder: Path) -> str | None:
    """The name under which the package in this folder was imported; None if it was not."""
    for name, module in tuple(sys.modules.items()):
        if str(folder) in map(str, getattr(module, "__dict__", {}).get("__path__") or ()):
            return name
    return None


def _restore(name: str, before: ModuleType | None) -> None:
    if before is None:
        sys.modules.pop(name, None)
    else:
        sys.modules[name] = before


def _from_name(name: str, spec: str, *, reload: bool) -> ModuleType:
    with _importable(Path.cwd()):
        try:
            if reload and name in sys.modules:
                return importlib.reload(sys.modules[name])
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
                raise LoadError(_failed(spec, error, None)) from error
            file = Path(*name.split(".")).with_suffix(".py")
            hint = f" The file {file} exists: write {file}:..." if file.is_file() else " For a file, write its path."
            raise LoadError(f"there is no module {error.name!r} to import for {spec}.{hint}") from error
        except (ValueError, TypeError) as error:
            raise LoadError(f"{name!r} is neither a module's name nor the path of a .py file") from error
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise LoadError(_failed(spec, error, None)) from error


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    entry = str(folder)
    if entry in sys.path:
        yield
        return
    sys.path.insert(0, entry)
    # The finder's cache may not know a file that was just written.
    importlib.invalidate_caches()
    try:
        yield
    finally:
        # The file may have changed sys.path itself: remove only the entry added above.
        if entry in sys.path:
            sys.path.remove(entry)


def _missing(path: Path) -> str:
    if path.is_dir():
        return f"{path} is a folder without a {FILE_OF_FOLDER}: name a .py file in it{_listed_files(path)}"
    folder = path.parent
    if not folder.is_dir():
        return f"there is no file {path}: the folder {folder} does not exist"
    names = [one.name for one in (*folder.glob("*.py"), *(made.parent for made in folder.glob("*/graph.py")))]
    close = difflib.get_close_matches(path.name, names, 3, 0.6)
    if close:
        return f"there is no file {path}; did you mean {' or '.join(str(folder / name) for name in close)}?"
    return f"there is no file {path}{_listed_files(folder)}"


def _listed_files(folder: Path) -> str:
    found = [*folder.glob("*.py"), *(made.parent for made in folder.glob("*/graph.py"))]
    names = sorted(one.name for one in found)
    if not names:
        return f"; {folder} holds no .py files"
    more = ", ..." if len(names) > 8 else ""
    return f"; {folder} holds {', '.join(names[:8])}{more}"


def _failed(spec: str, error: BaseException, path: Path | None) -> str:
    """The original error, and the lines that led to it, starting in the user's file."""
    frames = traceback.extract_tb(error.__traceback__)
    if path is not None:
        first = next((index for index, frame in enumerate(frames) if frame.filename == str(path)), len(frames))
        frames = traceback.StackSummary.from_list(frames[first:])
    else:
        loaders = {__file__, importlib.__file__}
        kept = [f for f in frames if f.filename not in loaders and "importlib" not in f.filename]
        frames = traceback.StackSummary.from_list(kept)
    lines = "".join(traceback.format_list(frames[-4:])).rstrip()
    said = "".join(traceback.format_exception_only(error)).rstrip()
    return "\n".join(part for part in (f"{spec} can't be loaded, it fails while it is imported:", lines, said) if part)


def _called(function: Any, spec: str, module: ModuleType) -> Any:
    try:
        with _importable(Path(module.__file__ or "").parent):
            made = function()
    except Exception as error:
        frames = traceback.format_list(traceback.extract_tb(error.__traceback__)[1:][-4:])
        said = "".join(traceback.format_exception_only(error)).rstrip()
        raise LoadError(
            f"{spec} can't be called without arguments to make the graph:\n{''.join(frames)}{said}"
        ) from error
    if inspect.iscoroutine(made):
        made.close()
        raise LoadError(f"{spec} is an async function: name a plain one, without arguments, that returns the graph")
    return made


def _is_graph(target: Any) -> bool:
    return isinstance(target, StateGraph | PregelProtocol)


def _graphs_in(module: ModuleType) -> str:
    names = [name for name, value in vars(module).items() if _is_graph(value)]
    if not names:
        return "It holds no graphs."
    return f"Its graphs: {', '.join(names)}."
