"""Keys that are written into a graph's file: whoever reads the file has them."""

import ast
import inspect
import os
from collections.abc import Iterator, Mapping
from types import ModuleType

from graph_voice.agents.agent import Agent
from graph_voice.checks.findings import Finding, Severity
from graph_voice.secrets.credentials import credentials_in, is_credential, looks_like_key

__all__ = ["check_keys"]

_INSTEAD = (
    "Take it from the environment, os.environ[\"...\"], or leave it out: LiveKit's plugins and LangChain's models look "
    "there themselves. Replace the key where you got it, since it may have been read."
)
_SHORTEST = 6
"""Characters of the shortest text that is taken for a key."""


def check_keys(agents: Mapping[str, Agent], module: ModuleType | None) -> Iterator[Finding]:
    """Keys in the graph's file, and in the voices of its agents. A finding never shows the key.

    Args:
        agents: name -> agent.
        module: the module that defines the graph. None: only the voices are searched.
    """
    written = dict(_literals(module)) if module is not None else {}
    for name, line in written.values():
        told = f"{name} is a key, written into the file." if name else "A key is written into the file."
        yield Finding(Severity.WARNING, told, _INSTEAD, where=f"{module.__file__}:{line}" if module else None)
    elsewhere = {*written, *os.environ.values()}
    for agent_name, agent in agents.items():
        for part in ("stt", "tts", "vad", "turn_handling", "options"):
            for path, value in credentials_in(getattr(agent.voice, part, None), part):
                if value not in elsewhere:
                    yield Finding(
                        Severity.WARNING,
                        f'agent "{agent_name}": Voice({part}=...) has a key, {path}, that is not from the environment.',
                        _INSTEAD,
                        agent=agent_name,
                    )


def _literals(module: ModuleType) -> Iterator[tuple[str, tuple[str, int]]]:
    """Value -> the name that it is given, which may be empty, and its line."""
    try:
        tree = ast.parse(inspect.getsource(module))
    except (OSError, TypeError, SyntaxError):
        return  # not from a file
    for node in ast.walk(tree):
        for name, given in _named(node):
            value = given.args[0] if isinstance(given, ast.Call) and _is_wrapper(given) else given
            if isinstance(value, ast.Constant) and isinstance(text := value.value, str) and _is_key(name, text):
                yield text, (name, value.lineno)


def _named(node: ast.AST) -> Iterator[tuple[str, ast.AST | None]]:
    """The values that a node gives a name: arguments, a dict's items, assignments, defaults."""
    if isinstance(node, ast.Call):
        yield from ((keyword.arg or "", keyword.value) for keyword in node.keywords)
        yield from (("", argument) for argument in node.args)
        if isinstance(node.func, ast.Name | ast.Attribute) and node.args:  # os.environ.setdefault("...", "...")
            yield from (
                (first.value, second)
                for first, second in zip(node.args, node.args[1:], strict=False)
                if isinstance(first, ast.Constant) and isinstance(first.value, str)
            )
    elif isinstance(node, ast.Dict):
        yield from ((str(getattr(key, "value", "")), value) for key, value in zip(node.keys, node.values, strict=True))
    elif isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        yield from ((_name_of(target), node.value) for target in targets)
    elif isinstance(node, ast.arguments):
        arguments = [*node.posonlyargs, *node.args]
        yield from ((a.arg, d) for a, d in zip(arguments[::-1], node.defaults[::-1], strict=False))
        yield from ((a.arg, d) for a, d in zip(node.kwonlyargs, node.kw_defaults, strict=True))


def _is_wrapper(call: ast.Call) -> bool:
    """Whether this is `SecretStr("...")`, or the like."""
    return bool(call.args) and isinstance(call.func, ast.Name | ast.Attribute) and "Secret" in _name_of(call.func)


def _name_of(target: ast.AST) -> str:
    if isinstance(target, ast.Subscript):
        return str(getattr(target.slice, "value", ""))
    return str(getattr(target, "id", None) or getattr(target, "attr", None) or "")


def _is_key(name: str, text: str) -> bool:
    if any(c.isspace() for c in text) and not looks_like_key(text):
        return False
    if looks_like_key(text):
        return len(text) < 4000
    is_variable = text.isupper() and text.replace("_", "").isalnum()  # the name of an environment variable
    named = is_credential(name) and len(text) >= _SHORTEST and not is_variable
    return named and (any(c.isdigit() for c in text) or is_credential(name, surely=True))
