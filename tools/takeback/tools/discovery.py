"""Where families come from: this package, entry points that are named, Python files that are named; nothing else."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
import traceback
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Self, TypeGuard, cast

from pydantic import BaseModel

from takeback.tools.contract import AnyTool, Tool
from takeback.tools.definition import DefinitionError, check_family_name, check_tool_class, where
from takeback.tools.registry import BUILT_IN, GROUP, Family, NoSettings, Services


def find_families(
    *, modules: Sequence[Path] = (), plugins: Sequence[str] = (), off: Sequence[str] = ()
) -> list[type[Family]]:
    """The families that are on: built-in ones, then plugins, then files, each in the order given.

    :raises DefinitionError: a name leads nowhere, or what it leads to is not usable.
    """
    files = {path.stem: path for path in modules}
    known = [*BUILT_IN, *plugins, *files]
    for name in off:
        if name not in known:
            raise DefinitionError(
                f"[tools] off names {name!r}, and there is no such family.", advice=f"There are: {', '.join(known)}."
            )
    found = [_from_reference(name, BUILT_IN[name]) for name in BUILT_IN if name not in off]
    wanted = [name for name in plugins if name not in off and name not in BUILT_IN]
    found += [_from_entry_point(name) for name in wanted]
    return found + [load_file(path) for path in modules if path.stem not in off]


def load_file(path: Path) -> type[Family]:
    """The family that a Python file defines: its `Family` class, or one made of all its concrete tools.

    In a file without a `Family` the family is named after the file; each tool is made without arguments, or with the
    `Services` if its constructor takes one; a pydantic model named `Settings` in the file is its settings.

    :raises DefinitionError: the file cannot be imported, or defines nothing usable; names file and line.
    """
    module = _import_file(path)
    own = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and value.__module__ == module.__name__ and not value.__name__.startswith("_")
    ]
    families = [value for value in own if issubclass(value, Family)]
    if len(families) > 1:
        raise DefinitionError(
            f"{path} defines {len(families)} families.",
            advice="Define one per file, or put them into files of their own.",
        )
    if families:
        _check_family(families[0])
        return families[0]
    written = [value for value in own if _is_tool(value)]
    # a class that others in the file build on is a base, not a tool that somebody forgot to finish
    bases = {base for tool in written for base in tool.__mro__[1:] if inspect.isabstract(base)}
    tools = [tool for tool in written if tool not in bases]
    if not tools:
        raise DefinitionError(
            f"{path} defines no tool.",
            advice="Derive a class from one of the four kinds of tools, or leave the file out.",
        )
    for tool in tools:
        check_tool_class(tool)
    settings: object = getattr(module, "Settings", NoSettings)
    if not (isinstance(settings, type) and issubclass(settings, BaseModel)):
        raise DefinitionError(
            f"{path} defines a `Settings` that is no pydantic model.", advice="Derive it from BaseModel."
        )
    return _family_of(path, module, tools, settings)


def _is_tool(definition: type) -> TypeGuard[type[AnyTool]]:
    return issubclass(definition, Tool)


def _family_of(path: Path, module: ModuleType, tools: Sequence[type[AnyTool]], its: type[BaseModel]) -> type[Family]:
    class FileFamily(Family):
        """The tools of one file."""

        name = path.stem
        settings = its

        @classmethod
        async def open(cls, services: Services) -> Self:
            family = cls()
            family.tools = tuple(_make(tool, services) for tool in tools)
            return family

    FileFamily.__module__ = module.__name__
    check_family_name(tools[0], path.stem)
    return FileFamily


def _make(tool: type[AnyTool], services: Services) -> AnyTool:
    needed = [
        parameter
        for parameter in inspect.signature(tool).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if not needed:
        return tool()
    if len(needed) == 1 and needed[0].kind in (needed[0].POSITIONAL_ONLY, needed[0].POSITIONAL_OR_KEYWORD):
        return cast("Callable[[Services], AnyTool]", tool)(services)
    raise DefinitionError(
        f"{where(tool)}: {tool.__name__} cannot be made from the services alone.",
        advice="Let its constructor take nothing or `services`, or define a Family in the file whose `open` makes the tools.",
    )


def _from_entry_point(name: str) -> type[Family]:
    from importlib.metadata import entry_points

    group = entry_points(group=GROUP)
    found = [point for point in group if point.name == name]
    if not found:
        raise DefinitionError(
            f"[tools] plugins names {name!r}, and no installed package offers it.",
            advice=f"Install the package, or name one of: {', '.join(sorted(point.name for point in group)) or 'none'}.",
        )
    if len({point.value for point in found}) > 1:
        raise DefinitionError(
            f"More than one installed package offers the tools {name!r}: {', '.join(point.value for point in found)}.",
            advice="Uninstall one of them.",
        )
    return _from_reference(name, found[0].value)


def _from_reference(name: str, reference: str) -> type[Family]:
    module_name, _, attribute = reference.partition(":")
    try:
        family: object = getattr(importlib.import_module(module_name), attribute)
    except Exception as error:
        raise DefinitionError(
            f"The tools {name!r} ({reference}) could not be imported: {_told(error)}.",
            advice="Mend the package, or take its name out of [tools] plugins.",
        ) from error
    if not (isinstance(family, type) and issubclass(family, Family)):
        raise DefinitionError(
            f"The tools {name!r} ({reference}) are no Family.", advice="Name a class derived from Family."
        )
    _check_family(family)
    if family.name != name:
        raise DefinitionError(
            f"The tools {name!r} ({reference}) call themselves {family.name!r}.",
            advice="Let the entry point and the family's `name` be the same.",
        )
    return family


def _check_family(family: type[Family]) -> None:
    check_family_name(family, getattr(family, "name", None))
    missing = sorted(getattr(family, "__abstractmethods__", ()))
    if missing:
        raise DefinitionError(
            f"{where(family)}: {family.__name__} does not define `{missing[0]}`.",
            advice="Write `async def open(cls, services)` as a classmethod that returns the open family.",
        )


def _import_file(path: Path) -> ModuleType:
    path = path.absolute()
    # private, so that a file called json.py replaces nothing; registered, because pydantic looks annotations up there
    name = f"_takeback_file_{path.stem}_{zlib.crc32(os.fsencode(path)):08x}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise DefinitionError(f"{path} is no Python file.", advice="[tools] modules names files that end in .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except FileNotFoundError as error:
        del sys.modules[name]
        if not path.exists():
            raise DefinitionError(f"There is no file {path}.", advice="Mend the path in [tools] modules.") from error
        raise _broken(path, error) from error
    except Exception as error:
        del sys.modules[name]
        raise _broken(path, error) from error
    return module


def _broken(path: Path, error: Exception) -> DefinitionError:
    lines = list(_lines(path, error))
    at = f"{path}, line {lines[-1]}" if lines else str(path)
    return DefinitionError(f"{at}: {_told(error)}.", advice="Mend the file, or take it out of [tools] modules.")


def _lines(path: Path, error: Exception) -> Iterator[int]:
    if isinstance(error, SyntaxError) and error.filename == str(path) and error.lineno is not None:
        yield error.lineno
        return
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename == str(path) and frame.lineno is not None:
            yield frame.lineno


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".rstrip(".")
