"""What a server's refusal means: HTTP statuses and error objects to `ErrorKind`. No socket.

Exceptions of other libraries are mapped in `runner/client.py`; this is for what servers *say*.
"""

from __future__ import annotations

import re
from typing import Any

from runner.record import ErrorKind

MESSAGE_LIMIT = 2000  # characters kept of a message
EXCERPT_LIMIT = 500  # and of a body that is shown as evidence

_BY_STATUS = {
    401: ErrorKind.AUTH,
    402: ErrorKind.QUOTA,
    403: ErrorKind.AUTH,
    407: ErrorKind.AUTH,  # a proxy's
    408: ErrorKind.TIMEOUT,
    409: ErrorKind.SERVER_ERROR,
    424: ErrorKind.SERVER_ERROR,  # the model failed: TGI, SageMaker
    429: ErrorKind.RATE_LIMIT,
    498: ErrorKind.OVERLOADED,  # Groq's flex tier is full
    503: ErrorKind.OVERLOADED,
    529: ErrorKind.OVERLOADED,
}

# Words servers use as an error's `type` or `code`, without case, punctuation and the "error" or "exception"
# at their end. Messages are never searched: they are prose.
_WORDS = {
    ErrorKind.QUOTA: """
        insufficientquota billinghardlimitreached billing exceededcurrentquota insufficientbalance
        insufficientcredits paymentrequired arrearage accountoverdue budgetexceeded""",
    ErrorKind.RATE_LIMIT: """
        ratelimitexceeded ratelimit ratelimitreached ratelimited toomanyrequests resourceexhausted throttling
        throttled throttlingratequota throttlingallocationquota throttlingburstrate limitrequests
        limitburstrate tokens requests""",
    ErrorKind.OVERLOADED: """
        overloaded engineoverloaded modeloverloaded serveroverloaded serviceunavailable unavailable
        overcapacity modelnotready nocapacity capacityexceeded serverbusy""",
    ErrorKind.SERVER_ERROR: """
        server internalserver internal api modelstream model generation incompletegeneration badgateway
        apiconnection upstream enginedead aborted""",
    ErrorKind.AUTH: """
        authentication invalidauthentication invalidapikey permission permissiondenied accessdenied
        unauthorized unauthenticated forbidden""",
    ErrorKind.BAD_REQUEST: """
        invalidrequest badrequest exceedcontextsize contextlengthexceeded contextwindowexceeded modelnotfound
        notfound contentfilter contentpolicyviolation datainspectionfailed unprocessableentity validation
        invalidargument failedprecondition outofrange requesttoolarge invalidparameter invalidmodel
        unsupportedparameter unsupportedvalue jsonvalidatefailed toolusefailed""",
    ErrorKind.TIMEOUT: "timeout requesttimeout apitimeout modeltimeout deadlineexceeded gatewaytimeout",
}
_BY_WORD = {word: kind for kind, words in _WORDS.items() for word in words.split()}

# MiniMax's own numbers, in `base_resp`, and the statuses they stand for.
_BASE_RESP = {
    1000: 500,
    1001: 408,
    1002: 429,
    1004: 401,
    1008: 402,
    1013: 500,
    1024: 500,
    1026: 400,
    1027: 400,
    1033: 500,
    1039: 429,
    1041: 429,
    1042: 400,
    2013: 400,
    2045: 429,
    2049: 401,
    2056: 429,
}

# Statuses that a word for "no credit" makes more exact: some refuse an unpaid bill with 400.
_OF_QUOTA = frozenset({400, 403, 429})
_MARKS = re.compile(r"[^a-z0-9]")
_CODES = (
    "code",
    "status",
    "status_code",
    "statusCode",
    "http_status_code",
    "error_code",
    "type",
    "error_type",
    "__type",
)
_TEXTS = ("message", "detail", "error_message", "error_msg", "status_msg", "msg", "Message")


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
    known = [kind for word in words if (kind := _BY_WORD.get(word)) is not None]
    if status is not None:
        return ErrorKind.QUOTA if ErrorKind.QUOTA in known and status in _OF_QUOTA else kind_of_status(status)
    if ErrorKind.QUOTA in known:
        return ErrorKind.QUOTA
    for word in words:
        if len(word) == 3 and word.isascii() and word.isdigit() and 300 <= int(word) < 600:
            return kind_of_status(int(word))
    return known[0] if known else ErrorKind.STREAM_ERROR


def _words(error: object) -> list[str]:
    if not isinstance(error, dict):
        return []
    found = [str(v) for key in _CODES if isinstance(v := error.get(key), str) or type(v) is int]
    return [word for text in found for word in (_word(text), *_parts(text))]


def _parts(text: str) -> list[str]:
    """What stands before and behind the points: `Throttling.RateQuota`, `litellm.RateLimitError`."""
    first, point, rest = text[:200].partition(".")
    return [_word(first), _word(rest.rpartition(".")[2])] if point and not first.isdigit() else []


def _word(text: str) -> str:
    # `com.amazon#ThrottlingException`, `unauthenticated:bad-credentials`
    word = text[:200].rpartition("#")[2].partition(":")[0].lower()
    if word[:1].isalpha():
        word = _MARKS.sub("", word).removesuffix("exception").removesuffix("error")
    return word


def error_object(payload: object) -> object | None:
    """The error inside a decoded body or chunk, in any shape servers use; `None` where it is no error."""
    if isinstance(payload, list) and len(payload) == 1:
        payload = payload[0]  # Google's
    if not isinstance(payload, dict):
        return None
    error = payload.get("error")
    if error:
        return _with_codes(error[0] if isinstance(error, list) else error, payload)  # a list: Cloudflare's
    if payload.get("object") == "error" or payload.get("type") == "error":
        return payload
    if "choices" not in payload:
        return _error_alone(payload)
    return _error_within(payload)


def _with_codes(error: object, payload: dict[str, Any]) -> dict[str, Any]:
    """The error as an object, with what stands beside it where it has no code of its own."""
    if isinstance(error, str):
        error = {"message": payload.get("message") or error}
    elif not isinstance(error, dict):
        error = {"message": str(error)}
    return {**{key: payload[key] for key in _CODES if key in payload}, **error}


def _error_alone(payload: dict[str, Any]) -> object | None:
    """The error of an object that is no chunk."""
    if any(payload.get(key) for key in _TEXTS):
        return payload
    several = payload.get("errors")
    if isinstance(several, list) and several:
        return _with_codes(several[0], payload)  # Cloudflare's
    for key, value in payload.items():
        if key.endswith("Exception") and isinstance(value, dict):
            return {"type": key, **value}  # Bedrock's
    return _error_within(payload)


def _error_within(payload: dict[str, Any]) -> object | None:
    """An error that a chunk holds deeper in: of one choice, or under a key of the vendor's own."""
    choices = payload.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict) and choice.get("error"):
            return _with_codes(choice["error"], {})  # OpenRouter's
    if "base_resp" in payload:
        return _base_resp(payload["base_resp"])
    vendor = payload.get("x_groq")
    if isinstance(vendor, dict) and vendor.get("error"):
        return _with_codes(vendor["error"], {"code": vendor["error"]})  # one word of Groq's
    return None


def _base_resp(base: object) -> object | None:
    number = base.get("status_code") if isinstance(base, dict) else None
    if not isinstance(base, dict) or type(number) is not int or number == 0:  # 0 in every good chunk
        return None
    return {"code": _BASE_RESP.get(number), "message": base.get("status_msg") or f"base_resp {number}"}


def one_line(text: str) -> str:
    """Foreign words for a terminal or a page: one line, and nothing in it that is not printable."""
    return " ".join(printable(text).split())


def printable(text: str) -> str:
    """Foreign text with its lines kept, and no other control character: those steer terminals."""
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text.replace("\r\n", "\n"))


def message_of(error: object) -> str:
    """The server's own words, at most `MESSAGE_LIMIT` characters, not redacted yet, nor on one line."""
    text = ""
    if isinstance(error, str):
        text = error
    elif isinstance(error, dict):
        found = next((error[key] for key in (*_TEXTS, "error", "type", "code") if error.get(key)), "")
        if isinstance(found, dict):
            found = next((found[key] for key in _TEXTS if found.get(key)), found)
        text = str(found)
    text = text[:MESSAGE_LIMIT]
    return text if one_line(text) else "the server gave no message"


def request_id_of(headers: Any) -> str | None:
    """The id a server or gateway gave the request, from its response headers."""
    for name in ("x-request-id", "request-id", "apim-request-id", "x-amzn-requestid", "cf-ray"):
        value = headers.get(name)
        if value:
            return str(value)[:200]
    return None
