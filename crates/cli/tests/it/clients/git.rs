//! git over HTTPS: a clone and a push through the program, against git's own server side.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use testbed::authority::Authority;

use crate::site::{NAME, flows, text};
use crate::world::{Printed, World};

/// Answers by `git http-backend`, over TLS; prints its port.
const SERVER: &str = r#"
import http.server, os, ssl, subprocess, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        path, _, query = self.path.partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        variables = dict(os.environ, GIT_PROJECT_ROOT=sys.argv[1], GIT_HTTP_EXPORT_ALL="1",
            PATH_INFO=path, QUERY_STRING=query, REQUEST_METHOD=self.command, REMOTE_USER="test",
            CONTENT_TYPE=self.headers.get("Content-Type", ""), CONTENT_LENGTH=str(len(body)),
            HTTP_CONTENT_ENCODING=self.headers.get("Content-Encoding", ""),
            GIT_PROTOCOL=self.headers.get("Git-Protocol", ""))
        said = subprocess.run(["git", "http-backend"], input=body, env=variables, stdout=subprocess.PIPE).stdout
        head, _, answer = said.partition(b"\r\n\r\n")
        fields = [line.split(": ", 1) for line in head.decode().split("\r\n")]
        status = [value for name, value in fields if name == "Status"]
        self.send_response(int(status[0][:3]) if status else 200)
        for name, value in fields:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
    do_POST = do_GET
    def log_message(self, *arguments):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2])
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
"#;

/// The server's process, which ends with the test.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start(world: &World, identity: &str) -> Self {
        let script = world.file("server.py", SERVER);
        let mut child = Command::new("python3")
            .args([text(&script), text(&world.path("")), identity])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        Self {
            child,
            port: line.trim().parse().unwrap(),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing is left to be done if it has ended already.
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

#[test]
fn a_repository_is_cloned_and_pushed_to() {
    let world = World::new();
    let authority = Authority::new("upstream authority");
    let identity = authority.issue(&[NAME]);
    let pem = format!("{}{}", identity.key_pem(), identity.chain_pem());
    let identity = world.file("identity.pem", &pem);
    let ca = world.file("upstream.pem", &authority.certificate_pem());
    let server = Server::start(&world, text(&identity));
    let script = format!(
        "set -e
        git init -q --bare -b main there.git && git -C there.git config http.receivepack true
        export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@test GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@test
        git clone -q https://{NAME}:{port}/there.git one 2>&1
        cd one && git checkout -q -B main && seq 1 20000 > file && git add file && git commit -q -m first
        git push -q origin main 2>&1
        cd .. && git clone -q https://{NAME}:{port}/there.git two
        cmp one/file two/file && git -C two log --format=%s",
        port = server.port
    );
    let arguments = [
        "run",
        "-q",
        "--upstream-ca",
        text(&ca),
        "--",
        "sh",
        "-c",
        &script,
    ];
    let printed = Printed::of(world.command(&arguments).output().unwrap()).succeeded();
    assert!(printed.stdout.ends_with("first\n"), "{}", printed.stdout);
    let all = flows(&world);
    let count = |path: &str| all.iter().filter(|flow| flow["path"] == path).count();
    assert!(count("/there.git/info/refs") >= 3, "{all:?}");
    assert_eq!(count("/there.git/git-receive-pack"), 1, "{all:?}");
    assert!(count("/there.git/git-upload-pack") >= 1, "{all:?}");
    for flow in &all {
        assert_eq!(flow["status"], 200, "{flow}");
        assert_eq!(flow["state"], "completed", "{flow}");
    }
}
