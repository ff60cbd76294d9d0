//! Upstream proxies from the settings to the socket: where they are set, what goes through them,
//! and that a change of the settings changes the way.

use std::process::Command;

use testbed::client::Client;
use testbed::forward_proxy::{ForwardProxy, ForwardProxyOptions};
use testbed::upstream::{Protocols, UpstreamOptions, Version};
use testbed::websocket::{Frame, TEXT};

use crate::site::{Site, flows, text};
use crate::world::{Printed, Service, World};

/// Only the proxy knows where it is.
const HOST: &str = "a.example";

fn https(world: &World) -> Site {
    Site::certified(world, |authority| {
        UpstreamOptions::https(authority.issue(&[HOST]), Protocols::Both)
    })
}

/// A proxy that wants to know who asks, and finds the upstream on both ports.
fn proxy(site: &Site) -> ForwardProxy {
    let to = site.upstream.address();
    let options = ForwardProxyOptions::default()
        .leading("a.example:443", to)
        .leading("a.example:80", to)
        .asking_for("me", "secret");
    site.runtime.block_on(ForwardProxy::start(options)).unwrap()
}

fn url(proxy: &ForwardProxy) -> String {
    format!("http://me:secret@{}", proxy.address())
}

fn asked(proxy: &ForwardProxy) -> Vec<String> {
    proxy.asked().into_iter().map(|asked| asked.what).collect()
}

/// curl through a service, with the status after the body.
fn curl(service: &Service, arguments: &[&str]) -> String {
    let proxy = format!("http://{}", service.proxy);
    let output = Command::new("curl")
        .args(["-sS", "--noproxy", "", "--proxy", &proxy])
        .args(["-o", "/dev/null", "-w", "%{http_code}"])
        .args(arguments)
        .output();
    Printed::of(output.unwrap()).stdout
}

#[test]
fn a_run_goes_through_the_proxy_of_its_shell() {
    let world = World::new();
    let site = https(&world);
    let proxy = proxy(&site);
    let command = ["curl", "-sS", "--http2", "https://a.example/bytes/10"];
    for variable in ["HTTPS_PROXY", "all_proxy"] {
        let run = site
            .command(&world, &command)
            .env(variable, url(&proxy))
            .output();
        let printed = Printed::of(run.unwrap());
        assert_eq!(printed.stdout.len(), 10, "{variable}: {}", printed.stderr);
    }
    assert_eq!(asked(&proxy), ["CONNECT a.example:443"; 2]);
    let received = site.upstream.received();
    assert!(
        received
            .iter()
            .all(|request| request.version == Version::Http2)
    );
    let flow = &flows(&world)[0];
    let shown = world.oriel(&["flows", "show", flow["id"].as_str().unwrap()]);
    let through = format!("through  http://{}\n", proxy.address());
    assert!(shown.stdout.contains(&through), "{}", shown.stdout);
    assert!(!shown.stdout.contains("secret"), "{}", shown.stdout);
}

#[test]
fn a_run_goes_past_the_proxy_where_it_is_told_to() {
    let world = World::new();
    let site = https(&world);
    let proxy = proxy(&site);
    // The command does not heed the list itself.
    let script = "unset NO_PROXY; curl -sS https://a.example/";
    let command = ["sh", "-c", script];
    let listed = site
        .command(&world, &command)
        .env("HTTPS_PROXY", url(&proxy))
        .env("NO_PROXY", "b.example, .c.example,a.example")
        .output();
    let off = site
        .command_with(
            &world,
            &["--upstream-proxy", "off", "--summary", "none"],
            &command,
        )
        .env("HTTPS_PROXY", url(&proxy))
        .output();
    for output in [listed, off] {
        let printed = Printed::of(output.unwrap());
        assert!(
            printed.stdout.contains("a.example cannot be resolved"),
            "{}",
            printed.stdout
        );
    }
    assert_eq!(asked(&proxy), [""; 0]);
}

#[test]
fn a_service_takes_the_variables_only_if_it_is_told_to() {
    let world = World::new();
    let site = Site::http(&world);
    let proxy = proxy(&site);
    for (told, expected) in [(false, "502"), (true, "200")] {
        let config = format!("[upstream_proxy]\nfrom_environment = {told}\n");
        world.file(".config/oriel/config.toml", &config);
        let mut command = world.serve_command(&["--admin", "off"]);
        command.env("HTTPS_PROXY", url(&proxy));
        let service = Service::start(command);
        assert_eq!(curl(&service, &["http://a.example/"]), expected);
    }
    assert_eq!(asked(&proxy), ["GET http://a.example/"]);
}

#[test]
fn what_is_opened_tunnelled_and_plain_goes_through() {
    let world = World::new();
    let (secure, plain) = (https(&world), Site::http(&world));
    let options = ForwardProxyOptions::default()
        .leading("a.example:443", secure.upstream.address())
        .leading("b.example:443", secure.upstream.address())
        .leading("a.example:80", plain.upstream.address());
    let proxy = secure
        .runtime
        .block_on(ForwardProxy::start(options))
        .unwrap();
    // The second site wrote its own.
    let ca = world.file("secure.pem", &secure.authority.certificate_pem());
    let config = format!(
        "[upstream_proxy]\nurl = \"http://{}\"\nca = \"secure.pem\"\n\
         [[upstream_proxy.routes]]\nhosts = [\"c.example\"]\nurl = \"off\"\n\
         [intercept]\nhosts = [\"a.example\"]\n",
        proxy.address()
    );
    let config = world.file("oriel.toml", &config);
    let mut service = world.serve(&["--admin", "off", "--config", text(&config)]);
    assert_eq!(curl(&service, &["-k", "https://a.example/"]), "200");
    assert_eq!(
        curl(
            &service,
            &[
                "--cacert",
                text(&ca),
                "--connect-to",
                "a.example::b.example:",
                "https://a.example/"
            ]
        ),
        "200"
    );
    assert_eq!(curl(&service, &["http://a.example/"]), "200");
    assert_eq!(curl(&service, &["http://c.example/"]), "502");
    secure.runtime.block_on(async {
        let client = Client::connect(service.proxy).await.unwrap();
        let socket = client.start_websocket("http://a.example/websocket", &[("Host", HOST)]);
        let mut socket = socket.await.unwrap();
        socket.send(&Frame::new(TEXT, "hello")).await.unwrap();
        assert_eq!(socket.read().await.unwrap().unwrap().payload, "hello");
    });
    let expected = [
        "CONNECT a.example:443",
        "CONNECT b.example:443",
        "GET http://a.example/",
        "CONNECT a.example:80",
    ];
    assert_eq!(asked(&proxy), expected);
    assert_eq!(service.stop(), Some(0));
    let actions: Vec<_> = flows(&world)
        .iter()
        .map(|flow| flow["route"]["action"].clone())
        .collect();
    assert_eq!(actions[..2], ["intercept", "tunnel"]);
}

#[test]
fn a_change_of_the_settings_changes_the_way() {
    let world = World::new();
    let site = Site::http(&world);
    let proxies = [proxy(&site), proxy(&site)];
    let login = world.file("login", "me:secret\n");
    let set_mode = |mode: u32| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(&login, mode).unwrap();
    };
    set_mode(0o600);
    let write = |proxy: &ForwardProxy| {
        let config = format!(
            "[upstream_proxy]\nurl = \"http://{}\"\ncredentials_file = \"login\"\n",
            proxy.address()
        );
        world.file("oriel.toml", &config)
    };
    let config = write(&proxies[0]);
    let mut service = world.serve(&["--admin", "off", "--config", text(&config)]);
    assert_eq!(curl(&service, &["http://a.example/"]), "200");
    write(&proxies[1]);
    let said = service.wait_for("took the new configuration");
    assert_eq!(said["changed"], "upstream_proxy.url");
    assert_eq!(curl(&service, &["http://a.example/"]), "200");
    // A file that others can read is not taken, and what was in force stays.
    set_mode(0o644);
    write(&proxies[0]);
    let said = service.wait_for("the configuration in force stays");
    assert_eq!(said["code"], "ORL0108");
    assert_eq!(curl(&service, &["http://a.example/"]), "200");
    assert_eq!(proxies.each_ref().map(|proxy| proxy.asked().len()), [1, 2]);
}
