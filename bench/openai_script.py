"""What one would write with the openai SDK: the thing `make bench` measures Streamgauge against.

`python openai_script.py PROMPTS URL OUT CONCURRENCY MAX_TOKENS` asks for every prompt of a JSONL file,
streamed, so many at once, and writes a line an answer. It keeps the time of the first token, and of no other.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import TextIO

from openai import AsyncOpenAI


async def ask(
    client: AsyncOpenAI, gate: asyncio.Semaphore, prompt: str, max_tokens: int, out: TextIO
) -> None:
    """Send one prompt and write its answer."""
    async with gate:
        sent_ns = time.monotonic_ns()
        first_token_ns = usage = None
        pieces = []
        stream = await client.chat.completions.create(
            model="mock",
            messages=[{"role": "user", "content": prompt}],
            max_tokens=max_tokens,
            stream=True,
            stream_options={"include_usage": True},
        )
        async for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                if first_token_ns is None:
                    first_token_ns = time.monotonic_ns()
                pieces.append(chunk.choices[0].delta.content)
            if chunk.usage is not None:
                usage = chunk.usage.model_dump()
        answer = {
            "prompt": prompt,
            "text": "".join(pieces),
            "usage": usage,
            "sent_ns": sent_ns,
            "first_token_ns": first_token_ns,
        }
        out.write(json.dumps(answer) + "\n")
        out.flush()


async def main(prompts: str, url: str, out: str, concurrency: str, max_tokens: str) -> None:
    """Send all prompts."""
    with Path(prompts).open(encoding="utf-8") as file:  # noqa: ASYNC230 - nothing else is running yet
        texts = [json.loads(line)["prompt"] for line in file]
    gate = asyncio.Semaphore(int(concurrency))
    with Path(out).open("w", encoding="utf-8") as file:  # noqa: ASYNC230 - a line is written in microseconds
        async with AsyncOpenAI(base_url=url, api_key="none") as client:
            await asyncio.gather(*(ask(client, gate, text, int(max_tokens), file) for text in texts))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
