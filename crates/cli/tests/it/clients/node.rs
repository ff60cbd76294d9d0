//! Node: a version that obeys the proxy variables is captured, one that does not is named as the
//! reason why nothing was. Trust is checked in both, by a tunnel made by hand, and so is `fetch`: where
//! Node does not lead it through the proxy, undici does.

use serde_json::json;
use testbed::upstream::Protocols;

use crate::site::{Site, flows, only_flow};
use crate::world::{Printed, World};

/// Whether `fetch` honours NODE_USE_ENV_PROXY: from 22.21 and 24.0 on.
fn obeys_proxy_variables() -> bool {
    let output = std::process::Command::new("node")
        .args(["-p", "process.versions.node"])
        .output();
    let output = output.expect("node is there: .ci/run installs it");
    let version = String::from_utf8(output.stdout).unwrap();
    let mut numbers = version
        .trim()
        .split('.')
        .map(|part| part.parse::<u32>().unwrap());
    let version = (numbers.next().unwrap(), numbers.next().unwrap());
    version >= (24, 0) || (version.0 == 22 && version.1 >= 21)
}

#[test]
fn fetch_is_captured_or_the_reason_is_told() {
    let world = World::new();
    let site = Site::https(&world, Protocols::Http1);
    // The pause lets the processes' connections be seen; a real agent lives longer.
    let script = "fetch(process.argv[1]).then(r => r.text()).then(t => {
        console.log(t.length); setTimeout(() => process.exit(0), 700) })";
    let printed = Printed::of(
        site.command_with(
            &world,
            &["--summary", "compact"],
            // An old Node takes the first address of a name alone; the upstream has no IPv6.
            &[
                "node",
                "--dns-result-order=ipv4first",
                "-e",
                script,
                &site.url("/bytes/1000"),
            ],
        )
        // Without this an old Node would refuse the upstream, which it reaches directly.
        .env("NODE_TLS_REJECT_UNAUTHORIZED", "0")
        .output()
        .unwrap(),
    );
    assert_eq!(
        (printed.code, printed.stdout.as_str()),
        (Some(0), "1000\n"),
        "{}",
        printed.stderr
    );
    if obeys_proxy_variables() {
        assert_eq!(only_flow(&world)["url"], site.url("/bytes/1000"));
        return;
    }
    assert_eq!(flows(&world).len(), 0);
    let told = printed.stderr;
    assert!(told.contains("No traffic reached oriel."), "{told}");
    assert!(told.contains("node (pid "), "{told}");
    assert!(
        told.contains(&format!(
            "directly to 127.0.0.1:{}",
            site.upstream.address().port()
        )),
        "{told}"
    );
    assert!(told.contains("ignores HTTPS_PROXY"), "{told}");
    assert!(told.contains("NODE_USE_ENV_PROXY"), "{told}");
}

#[test]
fn fetch_is_captured_with_a_dispatcher_that_obeys() {
    let modules = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../target/clients/node_modules"
    );
    assert!(
        std::path::Path::new(modules).join("undici").is_dir(),
        "undici is missing in {modules}; .ci/run installs it"
    );
    let world = World::new();
    let site = Site::https(&world, Protocols::Both);
    // It is Node's own fetch, as agents call it: the dispatcher alone is another one.
    let script = r#"
const { EnvHttpProxyAgent, setGlobalDispatcher } = require("undici");
if (process.argv[2] === "old") setGlobalDispatcher(new EnvHttpProxyAgent());
(async () => {
  const [bytes, echo] = [process.argv[1] + "/bytes/5000", process.argv[1] + "/upload"];
  const answer = await fetch(bytes);
  const sent = await fetch(echo, { method: "POST", body: "x".repeat(300) });
  console.log(answer.status, (await answer.arrayBuffer()).byteLength, sent.status);
})();
"#;
    let age = if obeys_proxy_variables() {
        "new"
    } else {
        "old"
    };
    let mut command = site.command(&world, &["node", "-e", script, &site.url(""), age]);
    let printed = Printed::of(command.env("NODE_PATH", modules).output().unwrap());
    assert_eq!(
        (printed.code, printed.stdout.as_str()),
        (Some(0), "200 5000 200\n"),
        "{}",
        printed.stderr
    );
    let all = flows(&world);
    assert_eq!(all.len(), 2, "{all:?}");
    for (flow, path) in all.iter().zip(["/bytes/5000", "/upload"]) {
        assert_eq!(flow["url"], site.url(path));
        assert_eq!(flow["status"], 200);
    }
    assert_eq!(all[0]["sizes"]["response_bytes"], 5000);
    assert_eq!(all[1]["sizes"]["request_bytes"], 300);
    assert_eq!(site.upstream.received().len(), 2);
}

#[test]
fn tls_trusts_what_run_tells_it_to() {
    let world = World::new();
    let site = Site::https(&world, Protocols::Both);
    let script = r#"
const http = require("http"), https = require("https"), tls = require("tls");
const proxy = new URL(process.env.HTTPS_PROXY), url = new URL(process.argv[1]);
http.request({ host: proxy.hostname, port: proxy.port, method: "CONNECT", path: url.host })
  .on("connect", (reply, socket) => {
    const wrapped = () => tls.connect({ socket, servername: url.hostname });
    https.get(url, { createConnection: wrapped }, (answer) => {
      let length = 0;
      answer.on("data", (data) => { length += data.length; });
      answer.on("end", () => { console.log(reply.statusCode, answer.statusCode, length); socket.destroy(); });
    });
  }).end();
"#;
    let printed = site.run(&world, &["node", "-e", script, &site.url("/bytes/5000")]);
    assert_eq!(
        (printed.code, printed.stdout.as_str()),
        (Some(0), "200 200 5000\n"),
        "{}",
        printed.stderr
    );
    let flow = only_flow(&world);
    assert_eq!(
        (&flow["status"], &flow["proto"]),
        (&json!(200), &json!("HTTP/1.1"))
    );
    assert_eq!(flow["sizes"]["response_bytes"], 5000);
}
