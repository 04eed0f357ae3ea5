"""Records as lines of an OpenAI Batch output file, and of its error file.

An answer is `{"id", "custom_id", "response": {"status_code", "request_id", "body"}, "error": null}` with the
body of a completion that was not streamed. A failure the server answered with an HTTP status has that status
and an error body in `response`; any other has `response: null` and `error: {code, message}`.

An answer cut on purpose is an answer. The server gave it no finish reason, and the format allows no null
there: it gets `length`, the format's word for an answer that ended at a limit of tokens.
"""

from __future__ import annotations

from typing import Any

from msgspec import UnsetType

from reports.dataset import AnswerRecord, outcome, served_model

_REQUEST_ID = {"request_id", "request-id", "x-request-id", "apim-request-id", "x-amzn-requestid"}


def custom_id(record: AnswerRecord) -> str:
    """The caller's own id as it is, else `row-<index>`, with `-<sample>` from the second sample on."""
    if record.custom_id is not None:
        return record.custom_id
    return f"row-{record.index}" + (f"-{record.sample}" if record.sample else "")


def _request_id(record: AnswerRecord) -> str | None:
    if record.error and record.error.request_id:
        return record.error.request_id
    response = record.response
    headers = response.get("headers")
    for place in (response, headers if isinstance(headers, dict) else {}):
        for name, value in place.items():
            if name.lower() in _REQUEST_ID and isinstance(value, str):
                return value
    return None


def _is_chat(record: AnswerRecord, api: str | None) -> bool:
    if not isinstance(record.request, UnsetType):
        return record.request.messages is not None or record.request.prompt is None
    return api != "completions"


def _choices(record: AnswerRecord) -> list[dict[str, Any]]:
    if not isinstance(record.choices, UnsetType) and record.choices:
        return record.choices
    return [
        {
            "index": 0,
            "finish_reason": record.finish_reason,
            "text": record.text,
            "reasoning": record.reasoning,
            "refusal": record.refusal,
            "tool_calls": record.tool_calls,
        }
    ]


def _chat_choice(choice: dict[str, Any]) -> dict[str, Any]:
    calls = choice.get("tool_calls")
    # The API's own answers have null, not "", where a model only called tools or refused.
    content = choice.get("text") or (None if calls or choice.get("refusal") else "")
    message = {"role": "assistant", "content": content, "refusal": choice.get("refusal")}
    if choice.get("reasoning"):
        message["reasoning_content"] = choice["reasoning"]
    if calls:
        message["tool_calls"] = calls
    return {
        "index": choice.get("index", 0),
        "message": message,
        "logprobs": None,
        "finish_reason": choice.get("finish_reason"),
    }


def _text_choice(choice: dict[str, Any]) -> dict[str, Any]:
    return {
        "index": choice.get("index", 0),
        "text": choice.get("text") or "",
        "logprobs": None,
        "finish_reason": choice.get("finish_reason"),
    }


def _completion(record: AnswerRecord, api: str | None) -> dict[str, Any]:
    chat = _is_chat(record, api)
    choices = [(_chat_choice if chat else _text_choice)(choice) for choice in _choices(record)]
    if record.status != "ok":
        for choice in choices:
            choice["finish_reason"] = choice["finish_reason"] or "length"
    if len(choices) == 1 and "logprobs" in record.extra:
        choices[0]["logprobs"] = record.extra["logprobs"]
    response = record.response
    body = {
        "id": response.get("id") or f"{'chatcmpl' if chat else 'cmpl'}-{record.id}",
        "object": "chat.completion" if chat else "text_completion",
        "created": response.get("created"),
        "model": served_model(record),
        "choices": choices,
        "usage": record.usage or record.usage_partial,
    }
    return body | {key: response[key] for key in ("system_fingerprint", "service_tier") if response.get(key)}


def _line(
    record: AnswerRecord, response: dict[str, Any] | None, error: dict[str, Any] | None
) -> dict[str, Any]:
    return {
        "id": f"batch_req_{record.id}",
        "custom_id": custom_id(record),
        "response": response,
        "error": error,
    }


def _response(record: AnswerRecord, status_code: int, body: dict[str, Any]) -> dict[str, Any]:
    return {"status_code": status_code, "request_id": _request_id(record), "body": body}


def line(record: AnswerRecord, api: str | None) -> dict[str, Any]:
    """The line of one record: for the output file where it is an answer, else for the error file."""
    if outcome(record) == "ok":
        return _line(record, _response(record, 200, _completion(record, api)), None)
    if record.status == "cancelled" or record.error is None:
        why = record.cancelled_by or "unknown"
        return _line(record, None, {"code": "cancelled", "message": f"cancelled by {why}"})
    kind, message, status = record.error.kind, record.error.message, record.error.http_status
    if status is not None and status >= 400:
        body = {"error": {"message": message, "type": kind, "param": None, "code": kind}}
        return _line(record, _response(record, status, body), None)
    return _line(record, None, {"code": kind, "message": message})
