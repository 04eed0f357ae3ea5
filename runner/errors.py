"""What a server's refusal means: HTTP statuses and error objects to `ErrorKind`. No socket.

Exceptions of other libraries are mapped in `runner/client.py`; this is for what servers *say*.
"""

from __future__ import annotations

from typing import Any

from runner.record import ErrorKind

MESSAGE_LIMIT = 2000  # characters kept of a message
EXCERPT_LIMIT = 500  # and of a body that is shown as evidence

_BY_STATUS = {
    401: ErrorKind.AUTH,
    402: ErrorKind.QUOTA,
    403: ErrorKind.AUTH,
    408: ErrorKind.TIMEOUT,
    409: ErrorKind.SERVER_ERROR,
    429: ErrorKind.RATE_LIMIT,
    503: ErrorKind.OVERLOADED,
    529: ErrorKind.OVERLOADED,
}

# Words servers use as an error's `type` or `code`. Messages are never searched: they are prose.
_BY_WORD = {
    "insufficient_quota": ErrorKind.QUOTA,
    "billing_hard_limit_reached": ErrorKind.QUOTA,
    "rate_limit_exceeded": ErrorKind.RATE_LIMIT,
    "rate_limit_error": ErrorKind.RATE_LIMIT,
    "rate_limit_reached": ErrorKind.RATE_LIMIT,
    "too_many_requests": ErrorKind.RATE_LIMIT,
    "tokens": ErrorKind.RATE_LIMIT,  # OpenAI's `type` when tokens a minute ran out
    "requests": ErrorKind.RATE_LIMIT,
    "overloaded_error": ErrorKind.OVERLOADED,
    "overloaded": ErrorKind.OVERLOADED,
    "engine_overloaded": ErrorKind.OVERLOADED,
    "service_unavailable": ErrorKind.OVERLOADED,
    "unavailable_error": ErrorKind.OVERLOADED,
    "server_error": ErrorKind.SERVER_ERROR,
    "internal_server_error": ErrorKind.SERVER_ERROR,
    "internalservererror": ErrorKind.SERVER_ERROR,
    "internal_error": ErrorKind.SERVER_ERROR,
    "api_error": ErrorKind.SERVER_ERROR,
    "authentication_error": ErrorKind.AUTH,
    "invalid_api_key": ErrorKind.AUTH,
    "permission_error": ErrorKind.AUTH,
    "permission_denied": ErrorKind.AUTH,
    "invalid_request_error": ErrorKind.BAD_REQUEST,
    "badrequesterror": ErrorKind.BAD_REQUEST,
    "exceed_context_size_error": ErrorKind.BAD_REQUEST,
    "context_length_exceeded": ErrorKind.BAD_REQUEST,
    "model_not_found": ErrorKind.BAD_REQUEST,
    "not_found_error": ErrorKind.BAD_REQUEST,
    "content_filter": ErrorKind.BAD_REQUEST,
    "timeout": ErrorKind.TIMEOUT,
    "timeout_error": ErrorKind.TIMEOUT,
}


def kind_of_status(status: int) -> ErrorKind:
    """The kind a bare HTTP status stands for (anything but 2xx)."""
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if 300 <= status < 400:
        return ErrorKind.REDIRECT
    if 400 <= status < 500:
        return ErrorKind.BAD_REQUEST
    if 500 <= status < 600:
        return ErrorKind.SERVER_ERROR
    return ErrorKind.PROTOCOL


def kind_of_payload(error: object, status: int | None = None) -> ErrorKind:
    """The kind an error object stands for, with the HTTP status it came with (`None`: inside a 200).

    A `type` or `code` that is a known word wins over the status where it is the more exact of the two: a 429
    whose code is `insufficient_quota` does not pass with time.
    """
    words = _words(error)
    known = [_BY_WORD[word] for word in words if word in _BY_WORD]
    if status is not None:
        return (
            ErrorKind.QUOTA
            if ErrorKind.QUOTA in known and status in {402, 403, 429}
            else kind_of_status(status)
        )
    if ErrorKind.QUOTA in known:
        return ErrorKind.QUOTA
    for word in words:
        if len(word) == 3 and word.isascii() and word.isdigit() and 300 <= int(word) < 600:
            return kind_of_status(int(word))
    return known[0] if known else ErrorKind.STREAM_ERROR


def _words(error: object) -> list[str]:
    if not isinstance(error, dict):
        return []
    found = [error.get(key) for key in ("code", "status", "status_code", "type")]
    return [
        str(value).lower() for value in found if isinstance(value, str | int) and not isinstance(value, bool)
    ]


def error_object(payload: object) -> object | None:
    """The error inside a decoded body or chunk, in any shape servers use; `None` where it is no error."""
    if isinstance(payload, list) and len(payload) == 1:
        payload = payload[0]  # Google's
    if not isinstance(payload, dict):
        return None
    error = payload.get("error")
    if error:
        return error if isinstance(error, dict | str) else {"message": str(error)}
    if payload.get("object") == "error" or payload.get("type") == "error":
        return payload
    if "choices" not in payload and any(payload.get(key) for key in ("detail", "message", "error_message")):
        return payload
    return None


def message_of(error: object) -> str:
    """The server's own words, at most `MESSAGE_LIMIT` characters."""
    text = ""
    if isinstance(error, str):
        text = error
    elif isinstance(error, dict):
        text = next(
            (
                str(error[key])
                for key in ("message", "detail", "error_message", "error", "type", "code")
                if error.get(key)
            ),
            "",
        )
    return text[:MESSAGE_LIMIT] or "the server gave no message"


def request_id_of(headers: Any) -> str | None:
    """The id a server or gateway gave the request, from its response headers."""
    for name in ("x-request-id", "request-id", "apim-request-id", "x-amzn-requestid", "cf-ray"):
        value = headers.get(name)
        if value:
            return str(value)[:200]
    return None
