"""The rules of a conversation. They are not in the service model: Bedrock states them only in the messages of its
ValidationExceptions."""

from __future__ import annotations

from itertools import pairwise

from router.doubles.aws.call import AwsError, Json


def check_conversation(params: Json) -> None:
    """Raises `AwsError` ValidationException for messages that Converse refuses."""
    problem = _problem(params)
    if problem is not None:
        raise AwsError("ValidationException", problem)


def _problem(params: Json) -> str | None:
    messages = params.get("messages", [])
    roles = [message["role"] for message in messages]
    if not roles or roles[0] != "user":
        return "A conversation must start with a user message."
    if any(before == after for before, after in pairwise(roles)):
        return "A conversation must alternate between user and assistant roles."
    if any(not message["content"] for message in messages):
        return "The content field in a message is empty."
    blocks = [block for message in messages for block in message["content"]]
    if any("text" in block and not block["text"].strip() for block in blocks):
        return "The text field in the ContentBlock object is blank."
    if "toolConfig" not in params and any("toolUse" in block or "toolResult" in block for block in blocks):
        return "The toolConfig field must be defined when using toolUse and toolResult content blocks."
    return _tool_results(messages)


def _tool_results(messages: list[Json]) -> str | None:
    """Each tool use is answered in the next message, and nothing else is."""
    for before, after in pairwise([{"content": []}, *messages]):
        asked = {block["toolUse"]["toolUseId"] for block in before["content"] if "toolUse" in block}
        given = {block["toolResult"]["toolUseId"] for block in after["content"] if "toolResult" in block}
        if asked != given:
            return "The toolResult blocks must match the toolUse blocks of the previous turn."
    return None
