"""ClickHouse's engine behind the part of its HTTP interface that oriel uses.

Takes the user and the password that it asks for (empty: nobody is asked), serves a port of loopback that
it prints, and ends with its standard input.
"""
import http.server
import os
import re
import sys
import tempfile
import threading
import urllib.parse

from chdb import session

USER, PASSWORD = sys.argv[1], sys.argv[2]
FOLDER = tempfile.mkdtemp(prefix="oriel-ch-")
ENGINE = session.Session(os.path.join(FOLDER, "data"))
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


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_port, flush=True)
sys.stdin.read()
os._exit(os.system(f"rm -rf '{FOLDER}'"))
