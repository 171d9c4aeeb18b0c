"""What is listed: complete, small, in fixed order, the same in both eras."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from mcp_types import Tool
from tests.server.mcp.eras import Connect

from takeback.server.mcp.recovery import RECOVERY_KEY

FILES = [
    "read_file", "list_directory", "search_files", "get_file_info",
    "write_file", "edit_file", "move_file", "copy_file", "delete_file", "create_directory",
]  # fmt: skip
RUNS = [
    "list_runs", "get_run", "list_checkpoints", "list_versions",
    "start_run", "finish_run", "create_checkpoint", "resume_from", "rollback_run", "redo_rollback",
    "restore_version", "resolve_conflict", "contain_run",
]  # fmt: skip
ARGUMENTS = {
    "list_runs": "status touched since limit cursor",
    "get_run": "run_id view",
    "list_checkpoints": "run_id limit cursor",
    "list_versions": "object limit cursor",
    "start_run": "goal steps scope parent_run_id on_failure mode",
    "finish_run": "run_id status summary",
    "create_checkpoint": "run_id label step output next_step notes",
    "resume_from": "checkpoint_id restore dry_run plan_digest",
    "rollback_run": "run_id to_checkpoint actions last dry_run plan_digest cascade",
    "redo_rollback": "rollback_id dry_run plan_digest",
    "restore_version": "object version",
    "resolve_conflict": "conflict_id choice content",
    "contain_run": "run_id reason",
}
COMMON = ["run_id", "step", "idempotency_key", "dry_run"]


@pytest.fixture
async def tools(connect: Connect) -> list[Tool]:
    async with connect() as client:
        return (await client.list_tools()).tools


def test_the_families_come_first_and_the_runs_last_in_fixed_order(tools: list[Tool]) -> None:
    names = [tool.name for tool in tools]
    assert names[: len(FILES)] == FILES
    assert names[-len(RUNS) :] == RUNS


def test_every_tool_has_a_title_and_all_four_hints(tools: list[Tool]) -> None:
    for tool in tools:
        assert tool.title
        hints = tool.annotations
        assert hints is not None
        assert None not in (
            hints.read_only_hint, hints.destructive_hint, hints.idempotent_hint, hints.open_world_hint, hints.title,
        ), tool.name  # fmt: skip


def test_descriptions_are_two_sentences_at_most_and_fit_into_300_characters(tools: list[Tool]) -> None:
    for tool in tools:
        assert tool.description
        assert len(tool.description) <= 300
        sentences = [part for part in tool.description.replace("…", "").split(". ") if part]
        assert len(sentences) <= 2, tool.description


def test_the_tools_about_runs_take_exactly_the_arguments_that_are_promised(tools: list[Tool]) -> None:
    listed = {tool.name: list(tool.input_schema["properties"]) for tool in tools if tool.name in RUNS}
    assert listed == {name: words.split() for name, words in ARGUMENTS.items()}


def test_every_acting_tool_takes_the_four_common_arguments_and_none_is_required(tools: list[Tool]) -> None:
    for tool in tools:
        if tool.name in RUNS or tool.annotations is None or tool.annotations.read_only_hint:
            continue
        assert list(tool.input_schema["properties"])[-4:] == COMMON, tool.name
        assert not set(COMMON) & set(tool.input_schema.get("required", []))


def test_all_schemas_are_valid_closed_objects_without_references(tools: list[Tool]) -> None:
    for tool in tools:
        assert tool.output_schema is not None
        for schema in (tool.input_schema, tool.output_schema):
            jsonschema.Draft202012Validator.check_schema(schema)
            assert schema["type"] == "object"
            assert "$ref" not in json.dumps(schema), tool.name
        assert tool.input_schema["additionalProperties"] is False, tool.name
        assert not {"anyOf", "oneOf", "allOf"} & tool.input_schema.keys(), "clients refuse these at the top"


def test_each_acting_answer_is_typed_by_the_result_of_its_tool(tools: list[Tool]) -> None:
    write = next(tool for tool in tools if tool.name == "write_file")
    assert write.output_schema is not None
    result = write.output_schema["properties"]["result"]["anyOf"][0]
    assert result["type"] == "object"
    assert result["properties"]


def test_each_tool_says_in_its_meta_how_it_is_taken_back(tools: list[Tool]) -> None:
    contracts: dict[str, Any] = {tool.name: (tool.meta or {})[RECOVERY_KEY] for tool in tools}
    assert contracts["write_file"]["strategy"] == "compensation"
    assert contracts["write_file"]["reversibility"] == "reversible"
    assert contracts["write_file"]["compensatingOperation"]["operationId"] == "rollback_run"
    assert contracts["announce"] == {"strategy": "none", "reversibility": "irreversible"}
    assert contracts["post_note"]["reversibility"] == "compensable"
    assert contracts["read_file"] == {"strategy": "none", "reversibility": "read_only"}
    assert contracts["write_file"]["worst"] == "irreversible" and "trash" in contracts["write_file"]["worseIf"]
    assert "worst" not in contracts["create_directory"]
    assert contracts["rollback_run"]["compensatingOperation"]["operationId"] == "redo_rollback"
    for contract in contracts.values():
        operation = contract.get("compensatingOperation")
        if operation is not None:
            schema = next(tool for tool in tools if tool.name == operation["operationId"]).input_schema
            assert operation["parameters"].keys() <= schema["properties"].keys()


def test_nothing_that_is_listed_approves_denies_or_releases(tools: list[Tool]) -> None:
    for tool in tools:
        assert not any(word in tool.name for word in ("approve", "deny", "release", "grant"))
        assert not {"approval_id", "approve"} & tool.input_schema["properties"].keys()


def test_how_long_things_are_kept_stands_where_a_run_is_started(tools: list[Tool]) -> None:
    words = next(tool for tool in tools if tool.name == "start_run").description or ""
    assert "24 hours" in words
    assert "30 days" in words


async def test_the_server_says_who_it_is_and_teaches_the_habit(connect: Connect) -> None:
    async with connect() as client:
        assert client.server_info is not None
        assert (client.server_info.name, bool(client.server_info.version)) == ("takeback", True)
        words = client.instructions or ""
    for name in ("start_run", "run_id", "dry_run", "rollback_run", "plan_digest", "resume_from", "finish_run"):
        assert name in words


async def test_lists_may_be_cached(connect: Connect, era: str) -> None:
    async with connect() as client:
        listed = await client.list_tools()
    if era == "modern":
        assert (listed.ttl_ms, listed.cache_scope) == (300_000, "public")


async def test_the_whole_list_stays_small_enough_to_be_read_in_every_chat(tools: list[Tool]) -> None:
    read = [
        {"name": t.name, "description": t.description, "inputSchema": t.input_schema}
        for t in tools
        if t.name in FILES + RUNS
    ]
    assert len(json.dumps(read, separators=(",", ":"))) < 20_000
