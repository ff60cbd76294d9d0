//! curl through every way into `oriel serve`.

use std::process::{Command, Output};

use testbed::upstream::Protocols;

use crate::site::{NAME, Site, flows, text};
use crate::world::{Printed, Service, World};

/// A service with this `[proxy]` section in its config, which opens the upstream of the site.
fn serve(world: &World, site: &Site, section: &str) -> Service {
    world.file(".config/oriel/config.toml", &format!("[proxy]\n{section}"));
    site.serve(world)
}

/// The URL of the site with a path, asked for with these arguments.
fn curl(world: &World, arguments: &[&str]) -> Output {
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--noproxy", ""])
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .current_dir(world.path(""));
    curl.output().unwrap()
}

fn check(world: &World, arguments: &[&str]) {
    let output = curl(world, arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    assert_eq!(output.stdout.len(), 300, "{arguments:?}");
}

fn ca(world: &World) -> String {
    let path = world.path(".local/share/oriel/ca/authority.pem");
    text(&path).to_owned()
}

/// The fronts of all flows, as the record has them.
fn fronts(world: &World) -> Vec<(String, String)> {
    let id = |flow: &serde_json::Value| flow["id"].as_str().unwrap().to_owned();
    let mut ids: Vec<String> = flows(world).iter().map(id).collect();
    ids.reverse();
    let client = |id: &String| {
        let shown = world.json(&["flows", "show", id, "--json"]);
        let client = &shown["client"];
        let field = |name: &str| client[name].as_str().unwrap().to_owned();
        (field("front"), field("proxy_direction"))
    };
    ids.iter().map(client).collect()
}

#[test]
fn socks_5_is_spoken_on_the_port_of_the_proxy() {
    let world = World::new();
    let site = Site::https(&world, Protocols::Both);
    let mut service = serve(&world, &site, "");
    let (proxy, ca) = (service.proxy.to_string(), ca(&world));
    let url = site.url("/bytes/300");
    // With --socks5 curl looks the name up itself and asks for an address, which is not opened.
    for (flag, trusted) in [("--socks5-hostname", &*ca), ("--socks5", text(&site.ca))] {
        check(&world, &["--cacert", trusted, flag, &proxy, &url]);
    }
    assert_eq!(service.stop(), Some(0));
    let expected = ("socks5".to_owned(), "forward".to_owned());
    assert_eq!(fronts(&world), [expected.clone(), expected]);
}

#[test]
fn a_password_is_asked_for_in_socks_and_in_http() {
    let world = World::new();
    let site = Site::http(&world);
    let mut service = serve(&world, &site, "credentials = \"me:secret\"\n");
    let proxy = service.proxy.to_string();
    let url = site.url("/bytes/300");
    for flag in ["--socks5-hostname", "-x"] {
        check(&world, &[flag, &proxy, "--proxy-user", "me:secret", &url]);
        let wrong = curl(&world, &[flag, &proxy, "--proxy-user", "me:wrong", &url]);
        assert_ne!(wrong.stdout.len(), 300, "{flag}");
        let without = curl(&world, &[flag, &proxy, &url]);
        assert_ne!(without.stdout.len(), 300, "{flag}");
    }
    assert_eq!(service.stop(), Some(0));
    assert_eq!(site.upstream.received().len(), 2);
    let shown = world.oriel(&["config", "show"]).stdout;
    assert!(
        shown.contains("me:***") && !shown.contains("secret"),
        "{shown}"
    );
}

#[test]
fn a_unix_socket_is_for_its_owner() {
    let world = World::new();
    let site = Site::http(&world);
    let path = world.path("oriel.sock");
    let section = format!("unix = {:?}\n", text(&path));
    let mut service = serve(&world, &site, &section);
    assert_eq!(crate::world::mode(&path), 0o600);
    let target = site.url("/bytes/300");
    let arguments = [
        "--unix-socket",
        text(&path),
        "--request-target",
        &target,
        &target,
    ];
    check(&world, &arguments);
    assert_eq!(service.stop(), Some(0));
    assert!(!path.exists());
    let flow = &flows(&world)[0];
    let shown = world.json(&["flows", "show", flow["id"].as_str().unwrap(), "--json"]);
    let client = shown["client"]["address"].as_str().unwrap();
    assert!(client.starts_with("unix:pid="), "{shown}");
    assert_eq!(
        shown["client"]["proxy_address"],
        format!("unix:{}", path.display())
    );
    assert_eq!(shown["client"]["front"], "absolute_form");
}

#[test]
fn the_proxy_itself_is_reached_by_tls() {
    let world = World::new();
    let site = Site::https(&world, Protocols::Http1);
    let mut service = serve(&world, &site, "tls = {}\n");
    let (proxy, ca) = (format!("https://{}", service.proxy), ca(&world));
    let url = site.url("/bytes/300");
    check(
        &world,
        &["-x", &proxy, "--proxy-cacert", &ca, "--cacert", &ca, &url],
    );
    let distrusting = curl(&world, &["-x", &proxy, "--cacert", &ca, &url]);
    assert!(!distrusting.status.success());
    assert_eq!(service.stop(), Some(0));
}

#[test]
fn a_header_comes_first_where_it_is_asked_for() {
    let world = World::new();
    let site = Site::http(&world);
    let mut service = serve(&world, &site, "proxy_protocol = true\n");
    let proxy = format!("http://{}", service.proxy);
    let url = site.url("/bytes/300");
    check(&world, &["--haproxy-protocol", "-x", &proxy, &url]);
    assert!(!curl(&world, &["-x", &proxy, &url]).status.success());
    assert_eq!(service.stop(), Some(0));
    assert_eq!(flows(&world).len(), 1);
}

#[test]
fn a_reverse_listener_stands_before_an_upstream() {
    let world = World::new();
    let site = Site::https(&world, Protocols::Both);
    let to = format!("https://{}", site.authority_of_url());
    let section = format!(
        "reverse = [\n  {{ listen = \"127.0.0.1:0\", to = \"{to}\" }},\n  \
         {{ listen = \"127.0.0.1:0\", to = \"{to}\", tls = {{ names = [\"{NAME}\"] }} }},\n]\n"
    );
    let mut service = serve(&world, &site, &section);
    let mut bound = || {
        let said = service.wait_for("listening on");
        assert_eq!(said["to"], to);
        let message = said["message"].as_str().unwrap();
        message.rsplit_once(':').unwrap().1.to_owned()
    };
    let (plain, tls) = (bound(), bound());
    let (plain, tls) = (
        format!("http://{NAME}:{plain}/bytes/300"),
        format!("https://{NAME}:{tls}/bytes/300"),
    );
    let ca = ca(&world);
    check(&world, &["--http1.1", &plain]);
    check(&world, &["--http2-prior-knowledge", &plain]);
    check(&world, &["--http1.1", "--cacert", &ca, &tls]);
    check(&world, &["--http2", "--cacert", &ca, &tls]);
    assert_eq!(service.stop(), Some(0));
    let expected = ("reverse".to_owned(), "reverse".to_owned());
    assert_eq!(fronts(&world), vec![expected; 4]);
}

#[test]
fn what_cannot_be_listened_on_is_named_with_its_place() {
    let world = World::new();
    let fails = |section: &str| -> Printed {
        world.file(".config/oriel/config.toml", &format!("[proxy]\n{section}"));
        world.oriel(&[
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "off",
            "--json",
        ])
    };
    let reverse = |to: &str| format!("reverse = [{{ listen = \"127.0.0.1:0\", {to} }}]\n");
    for (section, code, said) in [
        (
            reverse("to = \"api.openai.com\""),
            "ORL0403",
            "begins with http",
        ),
        (reverse("too = \"https://a.example\""), "ORL0403", "too"),
        ("tls = { name = [] }\n".to_owned(), "ORL0403", "name"),
        (
            "tls = { names = [] }\n".to_owned(),
            "ORL0106",
            "names nobody",
        ),
        (
            "tls = { key = \"k.pem\" }\n".to_owned(),
            "ORL0106",
            "certificate and key",
        ),
        (
            "credentials = \"me\"\n".to_owned(),
            "ORL0403",
            "user:password",
        ),
        (
            "unix = \"/missing/oriel.sock\"\n".to_owned(),
            "ORL0101",
            "/missing",
        ),
        ("socks = true\n".to_owned(), "ORL0402", "socks"),
    ] {
        let error = fails(&section).error();
        assert_eq!(error["code"], code, "{section}: {error}");
        assert!(error.to_string().contains(said), "{section}: {error}");
    }
    let open = "reverse = [{ listen = \"0.0.0.0:0\", to = \"https://a.example\" }]\n";
    assert_eq!(fails(open).error()["code"], "ORL0102");
}
