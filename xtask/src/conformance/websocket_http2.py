"""HTTP/2 on a pair of streams, by the library h2: what the bridge and the server of
`websocket_cases.py` have in common. It waits for room to send and gives back what it has read.
"""

import asyncio

import h2.config
import h2.connection
import h2.events
import h2.settings

PIECE_BYTES = 64 * 1024
# Besides the 64 KiB that a connection begins with; all of its streams share it.
WINDOW_BYTES = 16 * 1024 * 1024


class Http2:
    """One connection. Events are read by one task; any may send."""

    def __init__(self, reader, writer, settings, client_side):
        self.reader, self.writer = reader, writer
        config = h2.config.H2Configuration(client_side=client_side, header_encoding="utf-8")
        self.state = h2.connection.H2Connection(config)
        self.state.local_settings = h2.settings.Settings(client_side, initial_values=settings)
        self.state.initiate_connection()
        self.state.increment_flow_control_window(WINDOW_BYTES)
        self.changed = asyncio.Event()
        self.flush()

    def flush(self):
        self.writer.write(self.state.data_to_send())

    async def events(self):
        """What the peer does, until it ends the connection."""
        while data := await self.reader.read(PIECE_BYTES):
            for event in self.state.receive_data(data):
                if isinstance(event, h2.events.DataReceived):
                    length = event.flow_controlled_length
                    self.state.acknowledge_received_data(length, event.stream_id)
                yield event
            self.flush()
            self.changed.set()

    def send_head(self, stream, fields):
        self.state.send_headers(stream, fields)
        self.flush()

    async def send(self, stream, data):
        """Sends data as the peer makes room for it."""
        while data:
            room = self.state.local_flow_control_window(stream)
            room = min(room, self.state.max_outbound_frame_size)
            if room == 0:
                self.changed.clear()
                await self.changed.wait()
                continue
            self.state.send_data(stream, data[:room])
            data = data[room:]
            self.flush()
            await self.writer.drain()

    def end(self, stream):
        self.state.end_stream(stream)
        self.flush()
