"""Lines, blank lines and JSON as odd as they come, and good answers all the same."""

from __future__ import annotations

import json

from runner.record import ErrorKind
from tests.runner.streams_json import HELLO, UNFINISHED, Case, delta, sse, usage

_END = delta(finish="stop")

FRAMING: dict[str, Case] = {
    "blank lines forgotten between events": Case(
        b"".join(b"data: " + json.dumps(c).encode() + b"\n" for c in HELLO) + b"data: [DONE]\n\n",
        usage=usage(2),
        tokens=2,
    ),
    "blank line forgotten before done": Case(
        sse(*HELLO)[:-1] + b"data: [DONE]\n\n", usage=usage(2), tokens=2
    ),
    "no blank line at all": Case(
        b"".join(b"data: " + json.dumps(c).encode() + b"\n" for c in HELLO), usage=usage(2), tokens=2
    ),
    "json over several lines, left without a blank line": Case(
        sse(*UNFINISHED) + b'data: {"choices":\ndata: [{"delta":{},\ndata: "finish_reason":"stop"}]}',
        tokens=2,
    ),
    "no blank line at all, and cut": Case(
        b"".join(b"data: " + json.dumps(c).encode() + b"\n" for c in UNFINISHED) + b'data: {"cho',
        ErrorKind.TRUNCATED,
        finish=None,
        tokens=2,
    ),
    "an id and a retry with every event": Case(
        b"".join(b"id: 1\nretry: 5\n" + sse(c) for c in HELLO), usage=usage(2), tokens=2
    ),
    "id behind the data": Case(b"".join(sse(c)[:-1] + b"id: 1\n\n" for c in HELLO), usage=usage(2), tokens=2),
    "a field without a colon, and unknown ones": Case(
        b"data\n\nfoo\nbar: x\n" + sse(*HELLO) + b"event\n\n", usage=usage(2), tokens=2
    ),
    "a comment inside an event": Case(
        b"".join(b": c\n" + sse(c)[:-1] + b": d\n\n" for c in HELLO), usage=usage(2), tokens=2
    ),
    "crlf inside an event of several lines": Case(
        sse(*HELLO[:3]) + b'data: {"choices":\r\ndata: [{"delta":{},\rdata: "finish_reason":"stop"}]}\r\r',
        tokens=2,
    ),
    "many blank lines": Case(
        sse(*HELLO, done=True).replace(b"\n\n", b"\n\n\n\r\n\n"), usage=usage(2), tokens=2
    ),
    "blank lines and a bom first": Case(b"\n\n" + sse(*HELLO), usage=usage(2), tokens=2),
    "spaces in front": Case(b"   \n" + sse(*HELLO), usage=usage(2), tokens=2),
    "json with spaces all over": Case(
        b"".join(
            b"data:   " + json.dumps(c, indent=None, separators=(" , ", " : ")).encode() + b" \t\n\n"
            for c in HELLO
        ),
        usage=usage(2),
        tokens=2,
    ),
    "escapes of every kind": Case(
        b'data: {"choices":[{"delta":{"content":"\\u0048e\\u006cl\\u006f\\n\\t\\"\\\\\\/\\ud83d\\ude00"},'
        b'"finish_reason":"stop"}]}\n\n',
        text='Hello\n\t"\\/\U0001f600',
        tokens=1,
    ),
    "characters of four bytes": Case(
        sse(
            b'{"choices":[{"delta":{"content":"\xf0\x9f\x98\x80\xe2\x82\xac\xc3\xa9"},"finish_reason":"stop"}]}'
        ),
        text="\U0001f600\u20ac\xe9",
        tokens=1,
    ),
    "a character cut over two events": Case(
        sse(
            b'{"choices":[{"delta":{"content":"\xe2\x82"}}]}',
            b'{"choices":[{"delta":{"content":"\xac"}}]}',
            _END,
        ),
        text="\ufffd\ufffd",
        tokens=2,
    ),
    "a nul in the text": Case(sse(delta("a\0b", finish="stop")), text="a\0b", tokens=1),
    "a number of 5000 digits": Case(
        sse(*UNFINISHED, b'{"choices":[{"delta":{},"finish_reason":"stop"}],"n":' + b"7" * 5000 + b"}"),
        tokens=2,
    ),
    "an exponent no float can hold": Case(
        sse(b'{"choices":[{"delta":{"content":"Hello"},"finish_reason":"stop"}],"n":1e999}'), tokens=1
    ),
    "choices twice in one chunk": Case(
        sse(
            b'{"choices":[{"delta":{"content":"no"}}],"choices":[{"delta":{"content":"Hello"},"finish_reason":"stop"}]}'
        ),
        tokens=1,
    ),
    "a bom in front of an event's json": Case(
        sse(*UNFINISHED, b"\xef\xbb\xbf" + json.dumps(_END).encode()), tokens=2
    ),
    "a bare line that is no error": Case(
        sse(*HELLO[:2]) + b'{"status": "working"}\n\n' + sse(*HELLO[2:]), usage=usage(2), tokens=2
    ),
    "half a bare object": Case(sse(*HELLO[:2]) + b'{"a":\n\n' + sse(*HELLO[2:]), usage=usage(2), tokens=2),
    "a bare brace behind the last data": Case(
        sse(*HELLO[:3]) + b"data: " + json.dumps(_END).encode() + b"\n{", tokens=2
    ),
}
