"""ClickHouse's engine behind the part of its HTTP interface that oriel uses.

Takes the user and the password that it asks for (empty: nobody is asked), a folder for its data and a port
of loopback (0: any), which it prints when it serves. Lines of its standard input change how it serves:
`password TEXT`, and `slow MILLISECONDS` for each answer. It ends with its standard input, and removes the
folder then.
"""
import http.server
import os
import re
import sys
import shutil
import threading
import time
import urllib.parse

from chdb import session

USER, PASSWORD, FOLDER, PORT = sys.argv[1:]
SLOW = 0.0
# A cluster of one server, this one: it is asked without a connection.
CONFIG = """<clickhouse>
  <tcp_port>9000</tcp_port>
  <remote_servers><fleet><shard><replica>
    <host>127.0.0.1</host><port>9000</port>
  </replica></shard></fleet></remote_servers>
</clickhouse>
"""
with open(os.path.join(FOLDER, "config.xml"), "w") as config:
    config.write(CONFIG)
ENGINE = session.Session(f"{FOLDER}/data?config-file={FOLDER}/config.xml")
LOCK = threading.Lock()
# Rows that come with an INSERT: the engine reads them from a file in the place of a request.
ROWS = re.compile(r"FROM input\('((?:[^'\\]|\\.)*)'\) FORMAT JSONEachRow$")
# What says how the interface answers, and no setting of a query.
OF_INTERFACE = {"database", "query", "default_format", "wait_end_of_query"}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body leave together: the second of two small segments would wait 40 ms to be acknowledged.
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_POST(self):
        asked = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query, keep_blank_values=True))
        body = self.read_body()
        if USER and (self.headers.get("X-ClickHouse-User"), self.headers.get("X-ClickHouse-Key")) != (USER, PASSWORD):
            self.answer(403, b"Code: 516. DB::Exception: wrong user or password. (AUTHENTICATION_FAILED)")
            return
        time.sleep(SLOW)
        try:
            with LOCK:
                self.answer(200, run(asked, body))
        except Exception as error:
            self.answer(500, str(error).encode())

    def read_body(self):
        length = self.headers.get("Content-Length")
        if length is not None:
            return self.rfile.read(int(length))
        body = b""
        while self.headers.get("Transfer-Encoding") == "chunked":
            size = int(self.rfile.readline(), 16)
            body += self.rfile.read(size)
            self.rfile.readline()
            if size == 0:
                break
        return body

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def run(asked, body):
    ENGINE.query("USE `" + asked.get("database", "default") + "`")
    if "query" in asked:
        path = os.path.join(FOLDER, "rows")
        with open(path, "wb") as rows:
            rows.write(body)
        sql = ROWS.sub(lambda found: f"FROM file('{path}', 'JSONEachRow', '{found[1]}')", asked["query"])
    else:
        sql = body.decode()
    settings = {name: value for name, value in asked.items() if name not in OF_INTERFACE and not name.startswith("param_")}
    if settings and "SELECT" in sql and "CREATE" not in sql:
        sql += " SETTINGS " + ", ".join(f"{name} = {value if value.isdigit() else repr(value)}" for name, value in settings.items())
    values = {name.removeprefix("param_"): value for name, value in asked.items() if name.startswith("param_")}
    return ENGINE.query(sql, asked.get("default_format", "TabSeparated"), params=values).bytes() or b""


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    # Clients come and go; one that went away is no news.
    def handle_error(self, *_):
        pass


server = Server(("127.0.0.1", int(PORT)), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_port, flush=True)
for line in sys.stdin:
    name, _, value = line.rstrip("\n").partition(" ")
    if name == "password":
        PASSWORD = value
    elif name == "slow":
        SLOW = int(value) / 1000
shutil.rmtree(FOLDER, ignore_errors=True)
os._exit(0)
