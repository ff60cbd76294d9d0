"""Autobahn's cases for WebSocket servers, by kosoku, against `websocket_server.py`.

kosoku speaks HTTP/1.1 in clear. A bridge in this process takes its connections and opens one within
TLS for each, by HTTP/1.1 or, with RFC 8441, by HTTP/2: directly, or through the proxy that
HTTPS_PROXY names.

  argv[1]                `http/1.1` or `h2`
  CONFORMANCE_UPSTREAM   what the server's certificate is issued from: PREFIX.pem and PREFIX.key
  CONFORMANCE_ROOTS      whom the bridge trusts, PEM
  CONFORMANCE_VERDICTS   where verdicts are written, a line `verdict<TAB>case` for each
"""

import asyncio
import importlib
import os
import ssl
import sys

import h2.events
import h2.settings
import kosoku
import kosoku._caseindex
from websockets.utils import accept_key

import websocket_server
from websocket_http2 import PIECE_BYTES, Http2
from websocket_server import NAME

PROTOCOL = sys.argv[1]
PROXY = os.environ.get("HTTPS_PROXY", "").removeprefix("http://")
CASES_AT_ONCE = 4
# There is no group 8.
CASES = [f"{group}.*" for group in (1, 2, 3, 4, 5, 6, 7, 9, 10, 12, 13)]
# A case of compression (12 and 13) has 1000 messages, and all sizes of them would take an hour. Those of
# 16, 64, 256 and 1024 bytes, and of 8 KiB in frames of 256 bytes, have all.
WHOLE_SIZES = (1, 2, 3, 4, 11)
MESSAGES = 100


def shorten_cases():
    """Takes fewer messages in the cases of the larger sizes."""
    kosoku._caseindex.initialize_shims()
    compression = importlib.import_module("case12_x_x")
    for case in compression.Case12_X_X + compression.Case13_X_X:
        if int(case.__name__.rsplit("_", 1)[1]) not in WHOLE_SIZES:
            case.COUNT = MESSAGES


async def dial(port):
    """A connection within TLS to the server."""
    context = ssl.create_default_context(cafile=os.environ["CONFORMANCE_ROOTS"])
    context.set_alpn_protocols([PROTOCOL])
    if not PROXY:
        return await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=NAME)
    host, _, proxy_port = PROXY.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(proxy_port))
    writer.write(f"CONNECT {NAME}:{port} HTTP/1.1\r\nHost: {NAME}:{port}\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    if head.split(b" ", 2)[1] != b"200":
        raise ConnectionError(head)
    await writer.start_tls(context, server_hostname=NAME)
    return reader, writer


async def first_of(*steps):
    """Waits until one direction has ended, which ends the other."""
    tasks = [asyncio.create_task(step) for step in steps]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def bridge_http1(reader, writer, port):
    upstream_reader, upstream_writer = await dial(port)
    await first_of(copy(reader, upstream_writer), copy(upstream_reader, writer))
    upstream_writer.close()


async def copy(reader, writer):
    while data := await reader.read(PIECE_BYTES):
        writer.write(data)
        await writer.drain()


async def bridge_http2(reader, writer, port):
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    path = lines[0].split(" ")[1]
    split = [line.partition(":") for line in lines[1:-2]]
    fields = {name.lower(): value.strip() for name, _, value in split}
    # RFC 8441 section 5: all of HTTP/1.1's fields but those of the upgrade and its proof.
    key = fields.pop("sec-websocket-key")
    kept = [(name, value) for name, value in fields.items() if name.startswith("sec-websocket-")]
    connection = Http2(*await dial(port), {}, client_side=True)
    events = connection.events()
    async for event in events:
        if isinstance(event, h2.events.RemoteSettingsChanged) and may_connect(event):
            break
    stream = connection.state.get_next_available_stream_id()
    pseudo = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https")]
    pseudo += [(":path", path), (":authority", f"{NAME}:{port}")]
    connection.send_head(stream, pseudo + kept)
    await first_of(from_client(connection, stream, reader), to_client(events, key, writer))
    connection.writer.close()


def may_connect(event):
    setting = event.changed_settings.get(h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL)
    return setting is not None and setting.new_value == 1


async def from_client(connection, stream, reader):
    while data := await reader.read(PIECE_BYTES):
        await connection.send(stream, data)
    connection.end(stream)


async def to_client(events, key, writer):
    async for event in events:
        if isinstance(event, h2.events.ResponseReceived):
            writer.write(upgraded(dict(event.headers), key))
        elif isinstance(event, h2.events.DataReceived):
            writer.write(event.data)
            await writer.drain()
        elif isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset)):
            return


def upgraded(fields, key):
    """The answer to the opening in HTTP/1.1's words."""
    if fields[":status"] != "200":
        return b"HTTP/1.1 502 Bad Gateway\r\n\r\n"
    lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
    lines.append(f"Sec-WebSocket-Accept: {accept_key(key)}")
    lines += [f"{name}: {value}" for name, value in fields.items() if name.startswith("sec-w")]
    return "\r\n".join([*lines, "", ""]).encode()


async def main():
    shorten_cases()
    port = await websocket_server.start(PROTOCOL)
    bridge = {"http/1.1": bridge_http1, "h2": bridge_http2}[PROTOCOL]

    async def serve(reader, writer):
        await bridge(reader, writer, port)

    front_port = await websocket_server.listen(serve)
    try:
        url = f"ws://127.0.0.1:{front_port}/"
        results = await kosoku.run_fuzzingclient(url, CASES, concurrency=CASES_AT_ONCE)
    except kosoku.FailureError as failure:
        results = failure.results
    with open(os.environ["CONFORMANCE_VERDICTS"], "w", encoding="utf-8") as verdicts:
        for result in results:
            verdict = "passed" if result.passed else "failed"
            # The finer verdicts are part of the name, so that they are compared too.
            fine = f"{result.behavior.value}, close {result.behavior_close.value}"
            verdicts.write(f"{verdict}\t{result.case_id} ({fine})\n")


asyncio.run(main())
