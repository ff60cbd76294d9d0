"""A server that sends each message of a WebSocket back, within TLS, by HTTP/1.1 (RFC 6455) or
HTTP/2 (RFC 8441). Frames, their rules and their compression are those of the library websockets.
"""

import asyncio
import codecs
import os
import ssl
import sys

import h2.events
import h2.exceptions
import h2.settings
import trustme
from websockets.datastructures import Headers
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.frames import CloseCode, Opcode
from websockets.protocol import Protocol, Side, State
from websockets.server import ServerProtocol
from websockets.utils import accept_key

from websocket_http2 import PIECE_BYTES, Http2

NAME = "localhost"
# The longest message of Autobahn's cases has 16 MiB.
MESSAGE_BYTES_MAX = 64 * 1024 * 1024
# So many are read one by one, which answers what comes before an error however it arrived.
SINGLE_BYTES_MAX = 1024
# What is raised when the peer has gone, which its side of the case tells.
GONE = (OSError, asyncio.IncompleteReadError, h2.exceptions.ProtocolError)
MESSAGE_OPCODES = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)


async def start(protocol):
    """Starts the server for one protocol, as ALPN names it, and gives its port."""
    prefix = os.environ["CONFORMANCE_UPSTREAM"]
    with open(prefix + ".pem", "rb") as pem, open(prefix + ".key", "rb") as key:
        authority = trustme.CA.from_pem(pem.read(), key.read())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(NAME).configure_cert(context)
    context.set_alpn_protocols([protocol])
    return await listen({"http/1.1": serve_http1, "h2": serve_http2}[protocol], context)


async def listen(serve, context=None):
    """Starts to listen on a port of the kernel's choice, and gives the port."""
    running = set()

    async def take(reader, writer):
        # asyncio itself lets go of a connection while its reading is paused.
        running.add(asyncio.current_task())
        try:
            await serve(reader, writer)
        except GONE as error:
            print(f"{writer.get_extra_info('peername')}: {error!r}", file=sys.stderr)
        finally:
            writer.close()
            running.discard(asyncio.current_task())

    server = await asyncio.start_server(take, "127.0.0.1", 0, ssl=context)
    return server.sockets[0].getsockname()[1]


class Echo:
    """One WebSocket after its opening."""

    def __init__(self, offers):
        factory = ServerPerMessageDeflateFactory()
        headers = Headers([("Sec-WebSocket-Extensions", offer) for offer in offers])
        opening = ServerProtocol(extensions=[factory])
        self.agreed, extensions = opening.process_extensions(headers)
        self.frames = Protocol(Side.SERVER, state=State.OPEN, max_size=MESSAGE_BYTES_MAX)
        self.frames.extensions = extensions
        self.is_over = False

    def receive(self, data):
        """Takes bytes, and gives those to send. `is_over` says that nothing may follow them."""
        step = 1 if len(data) <= SINGLE_BYTES_MAX else len(data)
        for start in range(0, len(data), step):
            self.frames.receive_data(data[start : start + step])
            for frame in self.frames.events_received():
                if frame.opcode in MESSAGE_OPCODES and self.frames.state is State.OPEN:
                    self.receive_part(frame)
        pieces = self.frames.data_to_send()
        # The library's word for the end.
        self.is_over = b"" in pieces
        return b"".join(pieces)

    def receive_part(self, frame):
        if frame.opcode is not Opcode.CONT:
            self.parts = []
            self.decoder = codecs.getincrementaldecoder("utf-8")()
            self.is_text = frame.opcode is Opcode.TEXT
        self.parts.append(frame.data)
        if self.is_text:
            try:
                self.decoder.decode(frame.data, final=frame.fin)
            except UnicodeDecodeError as error:
                self.frames.fail(CloseCode.INVALID_DATA, error.reason)
                return
        if frame.fin:
            send = self.frames.send_text if self.is_text else self.frames.send_binary
            send(b"".join(self.parts))


async def serve_http1(reader, writer):
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    fields = Headers()
    for line in head.split("\r\n")[1:-2]:
        name, _, value = line.partition(":")
        fields[name] = value.strip()
    echo = Echo(fields.get_all("Sec-WebSocket-Extensions"))
    proof = accept_key(fields["Sec-WebSocket-Key"])
    answer = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
    answer.append(f"Sec-WebSocket-Accept: {proof}")
    if echo.agreed:
        answer.append(f"Sec-WebSocket-Extensions: {echo.agreed}")
    writer.write("\r\n".join([*answer, "", ""]).encode())
    while not echo.is_over and (data := await reader.read(PIECE_BYTES)):
        writer.write(echo.receive(data))
        await writer.drain()


async def serve_http2(reader, writer):
    settings = {h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL: 1}
    connection = Http2(reader, writer, settings, client_side=False)
    arrived, tasks = {}, set()
    async for event in connection.events():
        if isinstance(event, h2.events.RequestReceived):
            offers = [value for name, value in event.headers if name == "sec-websocket-extensions"]
            queue = arrived[event.stream_id] = asyncio.Queue()
            task = asyncio.create_task(serve_stream(connection, event.stream_id, offers, queue))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        elif isinstance(event, h2.events.DataReceived):
            arrived[event.stream_id].put_nowait(event.data)
        elif isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset)):
            arrived[event.stream_id].put_nowait(None)
    for task in tasks:
        task.cancel()


async def serve_stream(connection, stream, offers, arrived):
    echo = Echo(offers)
    agreed = [("sec-websocket-extensions", echo.agreed)] if echo.agreed else []
    connection.send_head(stream, [(":status", "200"), *agreed])
    try:
        while not echo.is_over and (data := await arrived.get()) is not None:
            await connection.send(stream, echo.receive(data))
        connection.end(stream)
    except GONE as error:
        print(f"stream {stream}: {error!r}", file=sys.stderr)
