"""The smallest gateway there is: passes every request on and every answer back, as it comes.

    python examples/gateway.py --to http://127.0.0.1:8000 --port 8001 --delay 15

It stands for yours in examples/github-actions-gate.yml: put your own in its place. `--delay` makes it slower.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Mapping

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector, web

# They are about one connection, and every connection has its own.
_OWN = {"host", "connection", "keep-alive", "transfer-encoding", "content-length", "te", "upgrade"}


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _OWN}


async def serve(to: str, port: int, delay_s: float) -> None:
    """Serve until the process is ended."""
    upstream = ClientSession(
        connector=TCPConnector(limit=0), timeout=ClientTimeout(total=None), auto_decompress=False
    )

    async def passed_on(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(delay_s)
        body = await request.read()
        url = to.rstrip("/") + request.path_qs
        try:
            async with upstream.request(
                request.method, url, data=body, headers=_kept(request.headers)
            ) as answer:
                response = web.StreamResponse(status=answer.status, headers=_kept(answer.headers))
                await response.prepare(request)
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
                await response.write_eof()
                return response
        except ClientError as error:
            return web.json_response({"error": {"message": f"no answer from {to}: {error}"}}, status=502)

    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", passed_on)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    print(f"listening on http://127.0.0.1:{runner.addresses[0][1]}/v1", flush=True)
    await asyncio.Event().wait()


def main() -> None:
    """Read the flags, and serve."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--to", required=True, metavar="URL", help="where requests go")
    parser.add_argument("--port", type=int, default=8001, help="port to listen on; 0 picks a free one")
    parser.add_argument("--delay", type=float, default=0.0, metavar="MS", help="wait so long before each")
    given = parser.parse_args()
    try:
        asyncio.run(serve(given.to, given.port, given.delay / 1000))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
