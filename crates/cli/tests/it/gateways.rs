//! Requests for a model's API that go to a gateway: with curl, directly and through an upstream
//! proxy, and what the record says of them.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::Value;
use testbed::forward_proxy::{ForwardProxy, ForwardProxyOptions};
use testbed::upstream::Protocols;

use crate::site::{NAME, Site, flows, text};
use crate::world::{Service, World};

const CONFIG: &str = ".config/oriel/config.toml";

/// Asks for messages as a client of the proxy does that has a token; gives the status.
fn ask(world: &World, service: &Service, login: &str, further: &[&str]) -> String {
    let proxy = format!("http://{login}@{}", service.proxy);
    let ca = world.path("oriel.pem");
    world.oriel(&["ca", "export", "-o", text(&ca)]).succeeded();
    let url = "https://api.anthropic.com/v1/messages?beta=true";
    let curl = Command::new("curl")
        .args([
            "-s",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "--noproxy",
            "",
        ])
        .args(["-x", &proxy, "--cacert", text(&ca), url])
        .args(["-H", "X-Api-Key: sk-ant-mine", "-d", "{}"])
        .args(further)
        .output()
        .unwrap();
    String::from_utf8(curl.stdout).unwrap()
}

fn config(site: &Site, proxy: &ForwardProxy, through_proxy: bool, more: &str) -> String {
    let (gateway, proxy) = (site.authority_of_url(), proxy.address());
    format!(
        "[proxy.auth]\nany_password = true\nrealm = \"AI proxy\"\n\
         [[upstream_proxy.routes]]\nhosts = [\"{NAME}\"]\nurl = \"http://{proxy}\"\n\
         [[gateway.routes]]\nname = \"bridge\"\nhosts = [\"api.anthropic.com\"]\n\
         to = \"https://{gateway}/api/v2/aibridge/{{provider}}{{path}}\"\nprovider = \"anthropic\"\n\
         request_id_header = \"X-Request-Id\"\nupstream_proxy = {through_proxy}\n{more}"
    )
}

#[test]
fn a_token_for_the_proxy_becomes_one_for_the_gateway() {
    for through_proxy in [true, false] {
        let world = World::new();
        let site = Site::https(&world, Protocols::Both);
        let gateway = site.authority_of_url();
        let options = ForwardProxyOptions::default().leading(&gateway, site.upstream.address());
        let proxy = site.runtime.block_on(ForwardProxy::start(options)).unwrap();
        world.file(
            CONFIG,
            &config(&site, &proxy, through_proxy, "token = \"login\"\n"),
        );
        let mut service = world.serve(&["--admin", "off", "--upstream-ca", text(&site.ca)]);
        assert_eq!(ask(&world, &service, "coder:", &[]), "000");
        // The gateway of this test knows no such path; it is the gateway that says so.
        assert_eq!(ask(&world, &service, "coder:t0ken-of-dana", &[]), "404");
        assert_eq!(service.stop(), Some(0));

        let received = site.received();
        assert_eq!(
            received.target,
            "/api/v2/aibridge/anthropic/v1/messages?beta=true"
        );
        let field = |name| received.headers.all(name).collect::<Vec<_>>();
        assert_eq!(field("authorization"), ["Bearer t0ken-of-dana"]);
        assert_eq!(field("x-api-key"), [""; 0]);
        let asked: Vec<_> = proxy.asked().into_iter().map(|asked| asked.what).collect();
        let expected = through_proxy.then(|| format!("CONNECT {gateway}"));
        assert_eq!(asked, expected.into_iter().collect::<Vec<_>>());

        let flow = flows(&world).pop().unwrap();
        assert_eq!(
            flow["url"],
            "https://api.anthropic.com/v1/messages?beta=true"
        );
        let id = flow["id"].as_str().unwrap();
        let detail = world.json(&["flows", "show", id, "--json"]);
        let url = format!("https://{gateway}/api/v2/aibridge/anthropic/v1/messages?beta=true");
        let told = &detail["gateway"];
        assert_eq!(
            (&told["route"], &told["url"]),
            (&"bridge".into(), &Value::from(url))
        );
        assert_eq!(
            field("x-request-id"),
            [told["request_id"].as_str().unwrap()]
        );
        let shown = world.oriel(&["flows", "show", id]).stdout;
        assert!(
            shown.contains("gateway") && shown.contains("bridge"),
            "{shown}"
        );
        let database = std::fs::read(world.path(".local/share/oriel/oriel.db")).unwrap();
        for secret in ["t0ken-of-dana", "sk-ant-mine"] {
            let found = database
                .windows(secret.len())
                .any(|at| at == secret.as_bytes());
            assert!(!found, "{secret} is in the record");
        }
    }
}

#[test]
fn a_token_may_be_in_a_file_and_clients_bring_their_keys() {
    let world = World::new();
    let site = Site::https(&world, Protocols::Http1);
    let proxy = site
        .runtime
        .block_on(ForwardProxy::start(ForwardProxyOptions::default()))
        .unwrap();
    let token = world.file("token", "shared\n");
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
    let more = format!(
        "token_file = \"{}\"\ntoken_header = \"X-Bridge-Token\"\nclient_credentials = \"keep\"\n",
        text(&token)
    );
    world.file(CONFIG, &config(&site, &proxy, false, &more));
    let service = world.serve(&["--admin", "off", "--upstream-ca", text(&site.ca)]);
    let login = ["-H", "X-Bridge-Token: spoofed"];
    assert_eq!(ask(&world, &service, "a:b", &login), "404");
    let received = site.received();
    assert_eq!(received.headers.get("x-api-key"), Some("sk-ant-mine"));
    let tokens: Vec<_> = received.headers.all("x-bridge-token").collect();
    assert_eq!(tokens, ["shared"]);
}

#[test]
fn a_wrong_route_is_told() {
    let world = World::new();
    let wide = world.file("wide", "token");
    std::fs::set_permissions(&wide, std::fs::Permissions::from_mode(0o644)).unwrap();
    let wide = format!("token_file = \"{}\"", text(&wide));
    let to = "to = \"https://gw.example{path}\"";
    for (route, told) in [
        ("hosts = []", "names no hosts"),
        ("hosts = [\"a.test\"]", "neither `to` nor"),
        (
            &format!("hosts = [\"a.test\"]\n{to}\nblock = true"),
            "`to` and `block",
        ),
        (
            "hosts = [\"a.test\"]\nto = \"gw.example\"",
            "begins with http",
        ),
        (
            &format!("hosts = [\"a.test\"]\n{to}\ntoken = \"login\""),
            "set proxy.auth",
        ),
        (
            &format!("hosts = [\"a.test\"]\n{to}\ntoken = \"file\""),
            "name token_file",
        ),
        (
            &format!("hosts = [\"a.test\"]\n{to}\ntoken_header = \"X\""),
            "and no token",
        ),
        (&format!("hosts = [\"a.test\"]\n{to}\n{wide}"), "chmod 600"),
        (
            &format!("hosts = [\"a.test\"]\n{to}\nrequest_id_header = \"Host\""),
            "frames or routes",
        ),
        (
            &format!("hosts = [\"a.test\"]\n{to}\npaths = [\"v1\"]"),
            "no pattern",
        ),
        (
            &format!("hosts = [\"a.test\"]\n{to}\npaths = [\"/v1/../x\"]"),
            "no pattern",
        ),
        (
            &format!("hosts = [\"a.test\"]\n{to}\nmethods = [\"GET\", \"post\"]"),
            "methods are in upper case, such as \"POST\"",
        ),
    ] {
        world.file(CONFIG, &format!("[[gateway.routes]]\n{route}\n"));
        let refused = world.oriel(&["serve", "--listen", "127.0.0.1:0", "--admin", "off"]);
        let code = if told.starts_with("chmod") { 4 } else { 2 };
        assert_eq!(refused.code, Some(code), "{route}: {}", refused.stderr);
        assert!(refused.stderr.contains("ORL0109"), "{}", refused.stderr);
        assert!(refused.stderr.contains(told), "{route}: {}", refused.stderr);
    }
}
