"""What the conformance suite asks for by name, offered by our own server beside its own tools."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import struct
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

from mcp.server.mcpserver import Context, require_client_extension
from mcp.server.mcpserver.prompts.base import UserMessage
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    AudioContent,
    CallToolResult,
    ClientCapabilities,
    ContentBlock,
    CreateMessageRequest,
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    EmbeddedResource,
    EmptyResult,
    ImageContent,
    InputRequest,
    InputRequiredResult,
    ListRootsRequest,
    ListRootsResult,
    SamplingMessage,
    SetLevelRequestParams,
    SubscribeRequestParams,
    TextContent,
    TextResourceContents,
    UnsubscribeRequestParams,
)

from takeback.server.engine.answers import EngineError
from takeback.server.mcp.app import TakebackServer
from takeback.server.mcp.long_calls import CURRENT
from takeback.server.mcp.recovery import NOTHING_TO_RECOVER
from takeback.server.mcp.replies import Reply
from takeback.server.mcp.surface import surface_tool
from takeback.server.mcp.tasks import TasksExtension

AnyContext = Context[Any, Any]
Answer = CallToolResult | InputRequiredResult


def _png() -> str:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\x00\xff\x00\x00")
    return base64.b64encode(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    ).decode()


def _wav() -> str:
    samples = b"\x80" * 8
    form = struct.pack("<HHIIHH", 1, 1, 8000, 8000, 1, 8)
    body = b"WAVE" + b"fmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", 8) + samples
    return base64.b64encode(b"RIFF" + struct.pack("<I", len(body)) + body).decode()


PNG, WAV = _png(), _wav()


def said(*blocks: ContentBlock | str, is_error: bool = False) -> CallToolResult:
    content = [TextContent(type="text", text=block) if isinstance(block, str) else block for block in blocks]
    return CallToolResult(content=content, is_error=is_error)


def file_in(uri: str, text: str, kind: str = "text/plain") -> EmbeddedResource:
    return EmbeddedResource(type="resource", resource=TextResourceContents(uri=uri, mime_type=kind, text=text))


def form(message: str, **properties: Any) -> ElicitRequest:
    schema: Any = {"type": "object", "properties": properties, "required": list(properties)}
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def sample(text: str, tokens: int) -> CreateMessageRequest:
    message = SamplingMessage(role="user", content=TextContent(type="text", text=text))
    return CreateMessageRequest(params=CreateMessageRequestParams(messages=[message], max_tokens=tokens))


TEXT = {"type": "string"}


def asked(state: str | None = None, **requests: InputRequest) -> InputRequiredResult:
    return InputRequiredResult(input_requests=requests, request_state=state)


def filled_in(context: AnyContext, key: str, name: str) -> Any:
    """What a person wrote into a field; `None`: nothing."""
    answer = (context.input_responses or {}).get(key)
    if isinstance(answer, ElicitResult) and answer.action == "accept":
        return (answer.content or {}).get(name)
    return None


def add_fixtures(server: TakebackServer, tasks: TasksExtension) -> None:
    """Everything, on a server that is complete otherwise."""
    for function in (*_plain(), *_asking(), *_rounds(), *_as_tasks(tasks)):
        server.add_tool(function, name=function.__name__, description=function.__doc__, structured_output=False)
    _schemas(server)
    _resources(server)
    _prompts(server)
    _legacy(server)
    eligible = tasks.eligible
    tasks.eligible = lambda params: params.name in TASK_TOOLS or eligible(params)
    tasks.patience = 0.05


Tool = Callable[..., Awaitable[Answer]]


def _plain() -> list[Tool]:
    async def test_simple_text() -> Answer:
        """Answers a text."""
        return said("This is a simple text response for testing.")

    async def test_image_content() -> Answer:
        """Answers an image."""
        return said(ImageContent(type="image", data=PNG, mime_type="image/png"))

    async def test_audio_content() -> Answer:
        """Answers a sound."""
        return said(AudioContent(type="audio", data=WAV, mime_type="audio/wav"))

    async def test_embedded_resource() -> Answer:
        """Answers a resource."""
        return said(file_in("test://embedded-resource", "This is an embedded resource content."))

    async def test_multiple_content_types() -> Answer:
        """Answers a text, an image and a resource."""
        mixed = json.dumps({"test": "data", "value": 123}, separators=(",", ":"))
        return said(
            "Multiple content types test:",
            ImageContent(type="image", data=PNG, mime_type="image/png"),
            file_in("test://mixed-content-resource", mixed, "application/json"),
        )

    async def test_error_handling() -> Answer:
        """Fails."""
        return said("This tool intentionally returns an error for testing", is_error=True)

    async def test_tool_with_logging(context: AnyContext) -> Answer:
        """Tells what it does while it does it."""
        for words in ("Tool execution started", "Tool processing data", "Tool execution completed"):
            await context.session.send_log_message("info", words, related_request_id=context.request_id)
            await asyncio.sleep(0.05)
        return said("Three log messages were sent.")

    async def test_logging_tool(context: AnyContext) -> Answer:
        """Logs to whoever wants to know."""
        await context.session.send_log_message("info", "It is being called", related_request_id=context.request_id)
        return said("Logged.")

    async def test_tool_with_progress(context: AnyContext) -> Answer:
        """Tells how far it is."""
        for done in (0, 50, 100):
            await context.report_progress(done, 100)
            await asyncio.sleep(0.05)
        return said("All of it is done.")

    async def test_missing_capability(context: AnyContext) -> Answer:
        """Needs a client that samples."""
        if not context.session.check_client_capability(ClientCapabilities.model_validate({"sampling": {}})):
            raise MCPError(
                code=MISSING_REQUIRED_CLIENT_CAPABILITY,
                message="This tool asks the client to sample",
                data={"requiredCapabilities": {"sampling": {}}},
            )
        return said("The client samples.")

    async def test_trigger_tool_change(context: AnyContext) -> Answer:
        """Tells listeners that the tools have changed."""
        await context.notify_tools_changed()
        return said("Told.")

    async def test_trigger_prompt_change(context: AnyContext) -> Answer:
        """Tells listeners that the prompts have changed."""
        await context.notify_prompts_changed()
        return said("Told.")

    return [
        test_simple_text, test_image_content, test_audio_content, test_embedded_resource, test_multiple_content_types,
        test_error_handling, test_tool_with_logging, test_logging_tool, test_tool_with_progress, test_missing_capability,
        test_trigger_tool_change, test_trigger_prompt_change,
    ]  # fmt: skip


def _asking() -> list[Tool]:
    """Tools that ask while the call waits, for clients of the 2025 protocol."""

    async def put(context: AnyContext, message: str, schema: Any, words: str) -> Answer:
        answer = await context.session.elicit_form(message, schema, related_request_id=context.request_id)
        return said(f"{words}: action={answer.action}, content={json.dumps(answer.content)}")

    async def test_sampling(prompt: str, context: AnyContext) -> Answer:
        """Asks the client's model."""
        message = SamplingMessage(role="user", content=TextContent(type="text", text=prompt))
        answer = await context.session.create_message([message], max_tokens=100, related_request_id=context.request_id)
        return said(f"LLM response: {getattr(answer.content, 'text', '')}")

    async def test_elicitation(message: str, context: AnyContext) -> Answer:
        """Asks the person for a name and an address."""
        schema = {
            "type": "object",
            "properties": {
                "username": {"type": "string", "description": "User's response"},
                "email": {"type": "string", "description": "User's email address"},
            },
            "required": ["username", "email"],
        }
        return await put(context, message, schema, "User response")

    async def test_elicitation_sep1034_defaults(context: AnyContext) -> Answer:
        """Asks with an answer for everything already filled in."""
        properties = {
            "name": {"type": "string", "default": "John Doe"},
            "age": {"type": "integer", "default": 30},
            "score": {"type": "number", "default": 95.5},
            "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
            "verified": {"type": "boolean", "default": True},
        }
        schema = {"type": "object", "properties": properties, "required": []}
        return await put(context, "Is this right?", schema, "Elicitation completed")

    async def test_elicitation_sep1330_enums(context: AnyContext) -> Answer:
        """Asks to choose, in each way in which the protocol can put that."""
        plain = ["option1", "option2", "option3"]
        places = ("First", "Second", "Third")
        options = [{"const": f"value{n}", "title": f"{place} Option"} for n, place in enumerate(places, 1)]
        choices = [{"const": f"value{n}", "title": f"{place} Choice"} for n, place in enumerate(places, 1)]
        old = {"enum": ["opt1", "opt2", "opt3"], "enumNames": ["Option One", "Option Two", "Option Three"]}
        properties = {
            "untitledSingle": {"type": "string", "enum": plain},
            "titledSingle": {"type": "string", "oneOf": options},
            "legacyEnum": {"type": "string", **old},
            "untitledMulti": {"type": "array", "items": {"type": "string", "enum": plain}},
            "titledMulti": {"type": "array", "items": {"anyOf": choices}},
        }
        schema = {"type": "object", "properties": properties, "required": []}
        return await put(context, "Which?", schema, "Elicitation completed")

    return [test_sampling, test_elicitation, test_elicitation_sep1034_defaults, test_elicitation_sep1330_enums]


def _rounds() -> list[Tool]:
    """Tools that answer by a question, for clients of the 2026 protocol."""
    who = form("What is your name?", name=TEXT)
    confirm = form("Please confirm", ok={"type": "boolean"})

    async def test_input_required_result_elicitation(context: AnyContext) -> Answer:
        """Asks for a name, and greets."""
        name = filled_in(context, "user_name", "name")
        return said(f"Hello, {name}!") if name else asked(user_name=who)

    async def test_streaming_elicitation(context: AnyContext) -> Answer:
        """Asks on the stream of its answer, and on no other."""
        name = filled_in(context, "user_name", "name")
        return said(f"Hello, {name}!") if name else asked(user_name=who)

    async def test_input_required_result_sampling(context: AnyContext) -> Answer:
        """Asks the client's model."""
        answer = (context.input_responses or {}).get("capital_question")
        if isinstance(answer, CreateMessageResult):
            return said(f"The model says: {getattr(answer.content, 'text', '')}")
        return asked(capital_question=sample("What is the capital of France?", 100))

    async def test_input_required_result_list_roots(context: AnyContext) -> Answer:
        """Asks for the client's roots."""
        answer = (context.input_responses or {}).get("client_roots")
        if isinstance(answer, ListRootsResult):
            return said(f"The roots are {', '.join(str(root.uri) for root in answer.roots)}.")
        return asked(client_roots=ListRootsRequest())

    async def test_input_required_result_request_state(context: AnyContext) -> Answer:
        """Remembers through the client."""
        if filled_in(context, "confirm", "ok") is not None and context.request_state == "first":
            return said("state-ok")
        return asked("first", confirm=confirm)

    async def test_input_required_result_tampered_state(context: AnyContext) -> Answer:
        """Remembers through the client, who must not change it."""
        if filled_in(context, "confirm", "ok") is not None and context.request_state == "untouched":
            return said("It came back as it was.")
        return asked("untouched", confirm=confirm)

    async def test_input_required_result_multiple_inputs(context: AnyContext) -> Answer:
        """Asks three things at once."""
        wanted = {"user_name", "greeting", "client_roots"}
        if context.request_state == "three" and wanted <= set(context.input_responses or {}):
            return said("Everything was answered.")
        return asked(
            "three", user_name=who, greeting=sample("Generate a greeting", 50), client_roots=ListRootsRequest()
        )

    async def test_input_required_result_multi_round(context: AnyContext) -> Answer:
        """Asks one thing after another."""
        state = context.request_state or ""
        if state.startswith("color of ") and (color := filled_in(context, "step2", "color")):
            return said(f"{state.removeprefix('color of ')} likes {color}.")
        if state == "name" and (name := filled_in(context, "step1", "name")):
            return asked(f"color of {name}", step2=form("Step 2: What is your favorite color?", color=TEXT))
        return asked("name", step1=form("Step 1: What is your name?", name=TEXT))

    async def test_input_required_result_capabilities(context: AnyContext) -> Answer:
        """Asks only what the client can answer."""
        can = context.session.client_capabilities
        requests: dict[str, InputRequest] = {}
        if can is not None and can.elicitation is not None:
            requests["user_name"] = who
        if can is not None and can.sampling is not None:
            requests["greeting"] = sample("Generate a greeting", 50)
        if not requests or set(requests) & set(context.input_responses or {}):
            return said("Nothing is left to ask.")
        return asked(**requests)

    return [
        test_input_required_result_elicitation, test_streaming_elicitation, test_input_required_result_sampling,
        test_input_required_result_list_roots, test_input_required_result_request_state,
        test_input_required_result_tampered_state, test_input_required_result_multiple_inputs,
        test_input_required_result_multi_round, test_input_required_result_capabilities,
    ]  # fmt: skip


TASK_TOOLS = {
    "slow_compute",
    "failing_job",
    "protocol_error_job",
    "confirm_delete",
    "multi_input",
    "test_tool_with_task",
}


def _as_tasks(tasks: TasksExtension) -> list[Tool]:
    """Tools that take long: longer than the patience of the fixture's server."""

    async def at_work(seconds: float) -> None:
        call = CURRENT.get()
        if call is None:
            await asyncio.sleep(seconds)
            return
        try:
            await asyncio.wait_for(call.cancelling.wait(), seconds)
        except TimeoutError:
            return
        with contextlib.suppress(EngineError):  # the task notes it
            call.give_up_if_cancelled()

    async def greet(name: str) -> Answer:
        """Greets at once."""
        return said(f"Hello, {name}!")

    async def slow_compute(seconds: float = 1, label: str = "") -> Answer:
        """Computes for so many seconds."""
        await at_work(seconds)
        return said(f"Computed {label} for {seconds} s.")

    async def failing_job(context: AnyContext) -> Answer:
        """Works for a while, in vain; only as a task."""
        require_client_extension(context.request_context, tasks.identifier)
        await at_work(0.3)
        return said("It did not work out.", is_error=True)

    async def protocol_error_job() -> Answer:
        """Works for a while and ends in an error of the protocol."""
        await at_work(0.1)
        raise MCPError(code=INVALID_PARAMS, message="This cannot be done at all")

    async def confirm_delete(filename: str, context: AnyContext) -> Answer:
        """Works for a while, then wants to know whether to go on."""
        if filled_in(context, "confirm", "confirm") is not None:
            return said(f"{filename} is gone.")
        await at_work(0.1)
        return asked(confirm=form(f"Delete {filename}?", confirm={"type": "boolean"}))

    async def multi_input(context: AnyContext) -> Answer:
        """Works for a while, then wants to know two things at once."""
        names = [filled_in(context, key, "name") for key in ("first", "second")]
        if all(names):
            return said(f"Thank you, {' and '.join(names)}.")
        await at_work(0.1)
        return asked(first=form("Who is first?", name=TEXT), second=form("Who is second?", name=TEXT))

    async def test_tool_with_task(context: AnyContext) -> Answer:
        """Asks for a name first, then works for a while."""
        name = filled_in(context, "user_name", "name")
        if not name:
            return asked(user_name=form("What is your name?", name=TEXT))
        await at_work(0.2)
        return said(f"Done for {name}.")

    return [greet, slow_compute, failing_job, protocol_error_job, confirm_delete, multi_input, test_tool_with_task]


def _schemas(server: TakebackServer) -> None:
    """Tools with schemas that have to arrive as they are."""

    async def nothing(arguments: dict[str, Any], context: AnyContext) -> Reply:
        return Reply(content=[TextContent(type="text", text="Nothing was done.")], structured_content={})

    def needs(name: str) -> dict[str, Any]:
        return {"required": [name]}

    by_phone = {"properties": {"contactMethod": {"const": "phone"}}, **needs("contactMethod")}
    place = {"street": TEXT, "city": TEXT}
    rich: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$defs": {"address": {"$anchor": "addressDef", "type": "object", "properties": place}},
        "type": "object",
        "properties": {
            "name": TEXT,
            "address": {"$ref": "#/$defs/address"},
            "contactMethod": {"type": "string", "enum": ["phone", "email"]},
            "phone": TEXT,
            "email": TEXT,
        },
        "allOf": [{"anyOf": [needs("phone"), needs("email")]}],
        "if": by_phone,
        "then": needs("phone"),
        "else": needs("email"),
        "additionalProperties": False,
    }
    mirrored = {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}
    for name, schema in (("json_schema_2020_12_tool", rich), ("test_custom_headers", mirrored)):
        tools = server._tool_manager  # pyright: ignore[reportPrivateUsage] -- the SDK derives schemas from functions only
        tools._tools[name] = surface_tool(  # pyright: ignore[reportPrivateUsage] -- see above
            name, name, "Has a schema.",
            handler=nothing, input_schema=schema, output_schema={"type": "object"}, recovery=NOTHING_TO_RECOVER,
        )  # fmt: skip


def _resources(server: TakebackServer) -> None:
    @server.resource("test://static-text", name="static-text", description="A text", mime_type="text/plain")
    def static_text() -> str:
        return "This is the content of the static text resource."

    @server.resource("test://static-binary", name="static-binary", description="An image", mime_type="image/png")
    def static_binary() -> bytes:
        return base64.b64decode(PNG)

    @server.resource("test://watched-resource", name="watched", description="It changes", mime_type="text/plain")
    def watched() -> str:
        return "It will change."

    @server.resource("test://template/{id}/data", name="template", description="By id", mime_type="application/json")
    def template(id: str) -> str:
        return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})


def _prompts(server: TakebackServer) -> None:
    def message(content: Any) -> UserMessage:
        return UserMessage(content=content)

    @server.prompt(description="A prompt")
    def test_simple_prompt() -> list[UserMessage]:
        return [message("This is a simple prompt for testing.")]

    @server.prompt(description="A prompt with two arguments")
    def test_prompt_with_arguments(arg1: str, arg2: str) -> list[UserMessage]:
        return [message(f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'")]

    @server.prompt(description="A prompt with a resource in it")
    def test_prompt_with_embedded_resource(resourceUri: str) -> list[UserMessage]:  # the suite's name for it
        resource = file_in(resourceUri, "Embedded resource content for testing.")
        return [message(resource), message("Please process the embedded resource above.")]

    @server.prompt(description="A prompt with an image in it")
    def test_prompt_with_image() -> list[UserMessage]:
        image = ImageContent(type="image", data=PNG, mime_type="image/png")
        return [message(image), message("Please analyze the image above.")]

    @server.prompt(description="A prompt that asks first")
    def test_input_required_result_prompt(context: AnyContext) -> Any:
        given = filled_in(context, "user_context", "context")
        if not given:
            return asked(user_context=form("What context should the prompt use?", context=TEXT))
        return [message(f"Use this context: {given}")]


def _legacy(server: TakebackServer) -> None:
    """Methods of the 2025 protocol that our server does not offer by itself."""
    lowlevel = server._lowlevel_server  # pyright: ignore[reportPrivateUsage] -- the SDK has no other way for these

    async def set_level(context: Any, params: SetLevelRequestParams) -> EmptyResult:
        return EmptyResult()

    async def watch(context: Any, params: Any) -> EmptyResult:
        return EmptyResult()

    lowlevel.add_request_handler("logging/setLevel", SetLevelRequestParams, set_level)
    lowlevel.add_request_handler("resources/subscribe", SubscribeRequestParams, watch)
    lowlevel.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, watch)
