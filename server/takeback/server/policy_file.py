"""Reading the policy file: YAML, checked whole before anything is served, with the line of a mistake where there is one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ValidationError

from takeback.server.engine.policy_rules import PolicyFile, RulesPolicy
from takeback.server.settings import SettingsError

MOST_BYTES: Final = 256 * 1024
_ADVICE: Final = "Correct it; docs/policy.md shows what can stand there. `takeback policy check` tries it."


class _Loader(yaml.SafeLoader):
    """Plain values only: no aliases (a short file could stand for a huge one), no key twice (the second would win unseen)."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.MarkedYAMLError(problem="aliases are not allowed", problem_mark=self.get_mark())
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if str(key.value) in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {str(key.value)!r} stands there twice", problem_mark=key.start_mark
                )
            seen.add(str(key.value))
        return super().construct_mapping(node, deep=deep)


# times and numbers with colons stay as they are written: 08:30 is no number in base sixty
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.rpartition(":")[2] in ("bool", "null", "merge")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"[0-9]+\Z"), list("0123456789"))  # pyright: ignore[reportUnknownMemberType] -- its stubs


def read_policy(file: Path) -> RulesPolicy:
    """The policy that a file describes.

    :raises SettingsError: it cannot be read, is no YAML, or a rule is not one.
    """
    try:
        with file.open("rb") as opened:
            raw = opened.read(MOST_BYTES + 1)
        text = raw.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SettingsError(
            f"The policy file {file} cannot be read: {why}.", "Name an existing file in [policy] file."
        ) from error
    if len(raw) > MOST_BYTES:
        raise SettingsError(f"The policy file {file} is larger than {MOST_BYTES // 1024} KiB.", "Write fewer rules.")
    try:
        tree = yaml.load(text, _Loader)  # noqa: S506 -- a safe loader, narrowed further
    except yaml.YAMLError as error:
        raise SettingsError(f"The policy file {file} is not valid YAML: {_place(error)}.", _ADVICE) from error
    except RecursionError as error:
        raise SettingsError(f"The policy file {file} is nested too deeply.", _ADVICE) from error
    try:
        return RulesPolicy(PolicyFile.model_validate(tree).rules)
    except ValidationError as error:
        raise SettingsError(f"The policy file {file} is not right: {_mistake(error, tree)}.", _ADVICE) from error


def _place(error: yaml.YAMLError) -> str:
    if not isinstance(error, yaml.MarkedYAMLError):
        return "it holds characters that no text has"
    mark = error.problem_mark or error.context_mark
    words = error.problem or error.context or "it cannot be understood"
    return words if mark is None else f"line {mark.line + 1}: {words}"


def _mistake(error: ValidationError, tree: Any) -> str:
    first = error.errors(include_url=False)[0]
    parts = [str(part) for part in first["loc"]]
    if len(parts) >= 2 and parts[0] == "rules" and parts[1].isdigit():
        number = int(parts[1])
        rule = tree["rules"][number]
        name: object = rule.get("id") if isinstance(rule, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] -- YAML
        parts[:2] = [f"rule {name!r}" if isinstance(name, str) else f"rule {number + 1}"]
    where = [part for part in (".".join(parts[:1]), ".".join(parts[1:])) if part]
    words = first["msg"].removeprefix("Value error, ")
    return ": ".join([*where, words[:1].lower() + words[1:]])
