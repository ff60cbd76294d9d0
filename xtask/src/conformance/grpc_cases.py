"""What gRPC promises, case by case: grpcio's client against grpcio's server, HTTP/2 within TLS.

Both sides are in this process and are told by generic handlers what to do, so that no code is
generated. grpcio takes a proxy from the environment by itself; the test is the same with and
without one.

  CONFORMANCE_UPSTREAM   what the server's certificate is issued from: PREFIX.pem and PREFIX.key
  CONFORMANCE_ROOTS      whom the client trusts, PEM
  CONFORMANCE_VERDICTS   where verdicts are written, a line `verdict<TAB>case` for each
"""

import os
import sys
import threading
import time
import traceback
from concurrent import futures

import grpc
import trustme

SECONDS_MAX = 20
CODES = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]

cases = []


def case(function):
    cases.append(function)
    return function


class Service(grpc.GenericRpcHandler):
    """Finds a handler by the name of the method."""

    def __init__(self):
        self.seen_end = threading.Event()
        self.go_on = threading.Event()

    def service(self, details):
        name = details.method.rpartition("/")[2]
        kind, _, _ = name.partition("_")
        wrap = {
            "unary": grpc.unary_unary_rpc_method_handler,
            "upload": grpc.stream_unary_rpc_method_handler,
            "download": grpc.unary_stream_rpc_method_handler,
            "both": grpc.stream_stream_rpc_method_handler,
        }.get(kind)
        method = getattr(self, name, None)
        return wrap(method) if wrap and method else None

    def unary_echo(self, request, context):
        return request

    def unary_metadata(self, request, context):
        sent = [pair for pair in context.invocation_metadata() if pair[0].startswith("x-")]
        context.send_initial_metadata([("x-first-" + key[2:], value) for key, value in sent])
        context.set_trailing_metadata([("x-last-" + key[2:], value) for key, value in sent])
        return request

    def unary_status(self, request, context):
        number = int(request)
        code = next(code for code in CODES if code.value[0] == number)
        context.set_trailing_metadata([("grpc-status-details-bin", b"\x00\xff details")])
        context.abort(code, f"code {number}: 50 % of it, größer\nand on")

    def unary_time_left(self, request, context):
        return str(context.time_remaining()).encode()

    def unary_slow(self, request, context):
        self.watch_end(context)
        self.go_on.wait(SECONDS_MAX)
        return request

    def unary_gzip(self, request, context):
        context.set_compression(grpc.Compression.Gzip)
        return request

    def upload_total(self, requests, context):
        count = total = 0
        for request in requests:
            count += 1
            total += len(request)
        return f"{count} {total}".encode()

    def upload_first(self, requests, context):
        return next(requests)

    def download_count(self, request, context):
        count, size = map(int, request.split())
        for number in range(count):
            yield number.to_bytes(4, "big").ljust(size, b".")

    def download_in_step(self, request, context):
        for number in range(3):
            yield str(number).encode()
            # The client lets it go on once it has the message.
            if not self.go_on.wait(SECONDS_MAX):
                context.abort(grpc.StatusCode.INTERNAL, "the message did not arrive")
            self.go_on.clear()

    def download_abort(self, request, context):
        for number in range(3):
            yield str(number).encode()
        context.abort(grpc.StatusCode.DATA_LOSS, "after three")

    def download_endless(self, request, context):
        self.watch_end(context)
        while context.is_active():
            yield b"x" * 1000
            time.sleep(0.001)

    def download_gzip_by_turns(self, request, context):
        context.set_compression(grpc.Compression.Gzip)
        for number in range(6):
            if number % 2:
                context.disable_next_message_compression()
            yield bytes([number]) * 5000

    def both_echo(self, requests, context):
        yield from requests

    def both_leave_early(self, requests, context):
        yield next(requests)
        context.set_trailing_metadata([("x-left", "early")])

    def watch_end(self, context):
        self.seen_end.clear()
        context.add_callback(self.seen_end.set)


class World:
    """A server and a channel to it."""

    def __init__(self):
        self.service = Service()
        self.server, self.port = self.serve("localhost:0")
        self.channel = self.dial()

    def serve(self, address):
        prefix = os.environ["CONFORMANCE_UPSTREAM"]
        with open(prefix + ".pem", "rb") as pem, open(prefix + ".key", "rb") as key:
            issued = trustme.CA.from_pem(pem.read(), key.read()).issue_cert("localhost")
        chain = b"".join(part.bytes() for part in issued.cert_chain_pems)
        credentials = grpc.ssl_server_credentials([(issued.private_key_pem.bytes(), chain)])
        server = grpc.server(
            futures.ThreadPoolExecutor(max_workers=64), options=[("grpc.max_receive_message_length", -1)]
        )
        server.add_generic_rpc_handlers([self.service])
        port = server.add_secure_port(address, credentials)
        server.start()
        return server, port

    def dial(self, options=(("grpc.max_receive_message_length", -1),)):
        with open(os.environ["CONFORMANCE_ROOTS"], "rb") as roots:
            credentials = grpc.ssl_channel_credentials(roots.read())
        return grpc.secure_channel(f"localhost:{self.port}", credentials, options=list(options))

    def unary(self, name, channel=None):
        return (channel or self.channel).unary_unary(f"/test.Case/unary_{name}")

    def upload(self, name):
        return self.channel.stream_unary(f"/test.Case/upload_{name}")

    def download(self, name):
        return self.channel.unary_stream(f"/test.Case/download_{name}")

    def both(self, name):
        return self.channel.stream_stream(f"/test.Case/both_{name}")


def refusal(call):
    """The status that a call must fail with."""
    try:
        call()
    except grpc.RpcError as error:
        return error
    raise AssertionError("it did not fail")


@case
def unary(world):
    assert world.unary("echo")(b"hello", timeout=SECONDS_MAX) == b"hello"


@case
def unary_of_no_bytes(world):
    assert world.unary("echo")(b"", timeout=SECONDS_MAX) == b""


@case
def unary_of_16_mib(world):
    message = os.urandom(1024) * 16 * 1024
    assert world.unary("echo")(message, timeout=SECONDS_MAX) == message


@case
def metadata_both_ways(world):
    sent = [("x-text", "a b"), ("x-twice", "1"), ("x-twice", "2"), ("x-raw-bin", bytes(range(256)))]
    _, call = world.unary("metadata").with_call(b"", metadata=sent, timeout=SECONDS_MAX)
    # One key that occurs twice keeps the order of its values.
    first = [pair for pair in call.initial_metadata() if pair[0].startswith("x-")]
    last = [pair for pair in call.trailing_metadata() if pair[0].startswith("x-")]
    assert sorted(first, key=lambda pair: pair[0]) == sorted(
        [("x-first-" + key[2:], value) for key, value in sent], key=lambda pair: pair[0]
    ), first
    assert sorted(last, key=lambda pair: pair[0]) == sorted(
        [("x-last-" + key[2:], value) for key, value in sent], key=lambda pair: pair[0]
    ), last


@case
def metadata_of_6_kib(world):
    sent = [("x-long", "v" * 6 * 1024)]
    _, call = world.unary("metadata").with_call(b"", metadata=sent, timeout=SECONDS_MAX)
    assert ("x-last-long", "v" * 6 * 1024) in call.trailing_metadata()


def add_status_case(code):
    def status(world):
        number = code.value[0]
        error = refusal(lambda: world.unary("status")(str(number).encode(), timeout=SECONDS_MAX))
        assert error.code() is code, error
        assert error.details() == f"code {number}: 50 % of it, größer\nand on", error.details()
        assert ("grpc-status-details-bin", b"\x00\xff details") in error.trailing_metadata()

    status.__name__ = "status_" + code.name.lower()
    cases.append(status)


for each in CODES:
    add_status_case(each)


@case
def method_that_is_not_there(world):
    error = refusal(lambda: world.unary("nothing")(b"", timeout=SECONDS_MAX))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED, error


@case
def message_too_large_for_the_client(world):
    channel = world.dial([("grpc.max_receive_message_length", 1000)])
    error = refusal(lambda: world.unary("echo", channel)(b"x" * 1001, timeout=SECONDS_MAX))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED, error
    assert world.unary("echo", channel)(b"x" * 1000, timeout=SECONDS_MAX) == b"x" * 1000
    channel.close()


@case
def client_stream_of_1000(world):
    messages = (b"m" * (number % 100) for number in range(1000))
    total = sum(number % 100 for number in range(1000))
    assert world.upload("total")(messages, timeout=SECONDS_MAX) == f"1000 {total}".encode()


@case
def client_stream_of_none(world):
    assert world.upload("total")(iter(()), timeout=SECONDS_MAX) == b"0 0"


@case
def client_stream_of_64_mib(world):
    messages = (b"x" * 1024 * 1024 for _ in range(64))
    assert world.upload("total")(messages, timeout=SECONDS_MAX) == b"64 67108864"


@case
def client_stream_answered_before_its_end(world):
    enough = threading.Event()

    def messages():
        yield b"first"
        enough.wait(SECONDS_MAX)

    assert world.upload("first")(messages(), timeout=SECONDS_MAX) == b"first"
    enough.set()


@case
def server_stream_of_1000(world):
    received = list(world.download("count")(b"1000 4", timeout=SECONDS_MAX))
    assert received == [number.to_bytes(4, "big") for number in range(1000)]


@case
def server_stream_of_none(world):
    assert list(world.download("count")(b"0 0", timeout=SECONDS_MAX)) == []


@case
def server_stream_of_64_mib(world):
    received = world.download("count")(b"64 1048576", timeout=SECONDS_MAX)
    assert sum(len(message) for message in received) == 64 * 1024 * 1024


@case
def server_stream_arrives_message_by_message(world):
    world.service.go_on.clear()
    for number, message in enumerate(world.download("in_step")(b"", timeout=SECONDS_MAX)):
        assert message == str(number).encode()
        world.service.go_on.set()


@case
def server_stream_that_fails_after_three(world):
    call = world.download("abort")(b"", timeout=SECONDS_MAX)
    received = []
    error = refusal(lambda: received.extend(call))
    assert (error.code(), error.details()) == (grpc.StatusCode.DATA_LOSS, "after three")
    # `extend` keeps what came before the failure.
    assert received == [b"0", b"1", b"2"], received


@case
def both_stream_in_turns(world):
    got_it = threading.Semaphore(1)

    def messages():
        for number in range(200):
            assert got_it.acquire(timeout=SECONDS_MAX)
            yield str(number).encode()

    for number, message in enumerate(world.both("echo")(messages(), timeout=SECONDS_MAX)):
        assert message == str(number).encode()
        got_it.release()
    assert number == 199


@case
def both_stream_at_once(world):
    messages = [os.urandom(512) * 128 for _ in range(200)]
    assert list(world.both("echo")(iter(messages), timeout=SECONDS_MAX)) == messages


@case
def both_stream_and_the_server_leaves_first(world):
    enough = threading.Event()

    def messages():
        yield b"first"
        enough.wait(SECONDS_MAX)

    call = world.both("leave_early")(messages(), timeout=SECONDS_MAX)
    assert list(call) == [b"first"]
    assert ("x-left", "early") in call.trailing_metadata()
    enough.set()


@case
def gzip_from_the_client(world):
    message = b"a" * 100_000
    call = world.unary("echo")
    assert call(message, compression=grpc.Compression.Gzip, timeout=SECONDS_MAX) == message


@case
def deflate_from_the_client(world):
    message = b"a" * 100_000
    call = world.unary("echo")
    assert call(message, compression=grpc.Compression.Deflate, timeout=SECONDS_MAX) == message


@case
def gzip_from_the_server(world):
    message = b"b" * 100_000
    assert world.unary("gzip")(message, timeout=SECONDS_MAX) == message


@case
def gzip_of_every_other_message(world):
    received = list(world.download("gzip_by_turns")(b"", timeout=SECONDS_MAX))
    assert received == [bytes([number]) * 5000 for number in range(6)]


@case
def deadline_is_told_to_the_server(world):
    left = float(world.unary("time_left")(b"", timeout=15))
    # On the wire it is rounded up.
    assert 10 < left < 16, left


@case
def deadline_ends_the_call_on_both_sides(world):
    world.service.go_on.clear()
    error = refusal(lambda: world.unary("slow")(b"", timeout=0.5))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED, error
    assert world.service.seen_end.wait(SECONDS_MAX), "the server was not told"
    world.service.go_on.set()


@case
def cancelled_stream_ends_at_the_server(world):
    call = world.download("endless")(b"")
    next(call)
    call.cancel()
    assert refusal(lambda: list(call)).code() is grpc.StatusCode.CANCELLED
    assert world.service.seen_end.wait(SECONDS_MAX), "the server was not told"


@case
def hundred_calls_at_once_on_one_channel(world):
    messages = [os.urandom(16) * 1000 for _ in range(100)]
    calls = [world.unary("echo").future(message, timeout=SECONDS_MAX) for message in messages]
    assert [call.result() for call in calls] == messages


@case
def keepalive_pings(world):
    channel = world.dial([("grpc.keepalive_time_ms", 1000), ("grpc.keepalive_timeout_ms", 1000)])
    world.service.go_on.clear()
    call = world.unary("slow", channel).future(b"still there", timeout=SECONDS_MAX)
    time.sleep(3)
    world.service.go_on.set()
    assert call.result() == b"still there"
    channel.close()


@case
def server_that_stops_and_comes_back(world):
    other = World()
    assert other.unary("echo")(b"1", timeout=SECONDS_MAX) == b"1"
    other.server.stop(grace=None).wait()
    error = refusal(lambda: other.unary("echo")(b"2", timeout=SECONDS_MAX))
    assert error.code() is grpc.StatusCode.UNAVAILABLE, error
    other.server, port = other.serve(f"localhost:{other.port}")
    assert port == other.port
    answer = other.unary("echo")(b"3", timeout=SECONDS_MAX, wait_for_ready=True)
    assert answer == b"3"
    other.channel.close()
    other.server.stop(grace=None).wait()


def main():
    world = World()
    with open(os.environ["CONFORMANCE_VERDICTS"], "w", encoding="utf-8") as verdicts:
        for one in cases:
            try:
                one(world)
                verdict = "passed"
            except Exception:
                verdict = "failed"
                print(one.__name__, file=sys.stderr)
                traceback.print_exc()
            verdicts.write(f"{verdict}\t{one.__name__}\n")
            verdicts.flush()
    world.channel.close()
    world.server.stop(grace=None).wait()


main()
