//! A chain of two proxies, with Squid as the upstream one: it opens TLS, and so does oriel. Clients
//! trust the root of Squid and nothing else, since oriel's authority is signed by it.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use testbed::authority::{certificates_from_pem, client_config};
use testbed::client::Client;
use testbed::upstream::{Protocols, UpstreamOptions};
use testbed::websocket::{Frame, TEXT};
use tokio::time::Instant;

use crate::site::{Site, flows, only_flow, text};
use crate::world::{Printed, Service, World, send};

/// Only Squid knows where it is.
const HOST: &str = "models.example";
/// Squid does not let anybody go there.
const DENIED: &str = "denied.example";
/// Squid wants to know who goes there.
const PRIVATE: &str = "private.example";

/// How long Squid may take to listen.
const START: Duration = Duration::from_secs(30);

/// A Squid of this test, with its root `squid-ca.crt`.
struct Squid {
    child: Child,
    /// Where it opens TLS.
    address: SocketAddr,
    /// Where it does not.
    unopened: SocketAddr,
    log: PathBuf,
}

impl Squid {
    fn start(world: &World, upstream_ca: &Path) -> Self {
        assert!(
            find_squid().is_some_and(|squid| {
                let version = Command::new(squid).arg("-v").output().unwrap();
                String::from_utf8_lossy(&version.stdout).contains("--with-openssl")
            }),
            "a Squid that opens TLS is missing: .ci/run installs squid-openssl"
        );
        let folder = world.path("squid");
        let log = folder.join("access.log");
        std::fs::create_dir_all(&folder).unwrap();
        for name in ["squid-ca.crt", "squid-ca.key"] {
            std::fs::copy(world.path(name), folder.join(name)).unwrap();
        }
        std::fs::copy(upstream_ca, folder.join("upstreams.pem")).unwrap();
        let hosts = [HOST, DENIED, PRIVATE].join(" ");
        world.file("squid/hosts", &format!("127.0.0.1 {hosts}\n"));
        let password = openssl(world, &["passwd", "-apr1", "s:cret"]);
        world.file("squid/users", &format!("me:{password}"));
        let helpers = "/usr/lib/squid";
        let database = folder.join("certificates");
        let made = Command::new(format!("{helpers}/security_file_certgen"))
            .args(["-c", "-s", text(&database), "-M", "4MB"])
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        // Squid listens on ports that are named; these were free a moment ago.
        let free = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [address, unopened] = [&free[0], &free[1]].map(|free| free.local_addr().unwrap());
        let at = text(&folder);
        let own_user = match rustix::process::getuid().is_root() {
            true => "cache_effective_user proxy",
            false => "",
        };
        let settings = format!(
            "http_port {address} ssl-bump generate-host-certificates=on \
             dynamic_cert_mem_cache_size=4MB cert={at}/squid-ca.crt key={at}/squid-ca.key\n\
             http_port {unopened}\n\
             sslcrtd_program {helpers}/security_file_certgen -s {at}/certificates -M 4MB\n\
             sslcrtd_children 1\n\
             tls_outgoing_options cafile={at}/upstreams.pem\n\
             auth_param basic program {helpers}/basic_ncsa_auth {at}/users\n\
             auth_param basic realm squid\n\
             acl step1 at_step SslBump1\n\
             acl denied dstdomain {DENIED}\n\
             acl private dstdomain {PRIVATE}\n\
             acl known proxy_auth REQUIRED\n\
             ssl_bump peek step1\n\
             ssl_bump bump all\n\
             http_access deny denied\n\
             http_access allow localhost private known\n\
             http_access deny private\n\
             http_access allow localhost\n\
             http_access deny all\n\
             http_upgrade_request_protocols websocket allow all\n\
             hosts_file {at}/hosts\n\
             cache deny all\n\
             cache_mem 8 MB\n\
             via off\n\
             forwarded_for delete\n\
             pinger_enable off\n\
             access_log stdio:{at}/access.log\n\
             cache_log {at}/cache.log\n\
             pid_filename {at}/squid.pid\n\
             coredump_dir {at}\n\
             shutdown_lifetime 1 seconds\n\
             {own_user}\n"
        );
        let settings = world.file("squid/squid.conf", &settings);
        if !own_user.is_empty() {
            // It gives up its rights, and then must still reach its files.
            let home = world.path("");
            for words in [
                &["chmod", "755", text(&home)][..],
                &["chown", "-R", "proxy:", at],
            ] {
                let (program, arguments) = words.split_first().unwrap();
                let done = Command::new(program).args(arguments).status().unwrap();
                assert!(done.success(), "{words:?}");
            }
        }
        drop(free);
        let child = Command::new(find_squid().unwrap())
            .args(["-N", "-f", text(&settings)])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let squid = Self {
            child,
            address,
            unopened,
            log,
        };
        squid.wait_until_it_listens(&folder.join("cache.log"));
        squid
    }

    fn wait_until_it_listens(&self, log: &Path) {
        let begun = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            let said = || std::fs::read_to_string(log).unwrap_or_default();
            assert!(begun.elapsed() < START, "Squid does not listen: {}", said());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Squid {
    fn drop(&mut self) {
        // In order, so that it ends its helpers too.
        send(&self.child, rustix::process::Signal::TERM);
        let _ended = self.child.wait();
    }
}

fn find_squid() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let mut files = folders.map(|folder| folder.join("squid"));
    files.find(|file| file.is_file())
}

fn openssl(world: &World, arguments: &[&str]) -> String {
    let output = Command::new("openssl")
        .args(arguments)
        .current_dir(world.path(""))
        .output()
        .expect("openssl is there: .ci/run installs it");
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Makes Squid's root, oriel's own key and certificate, and the chain of the two, with the commands
/// that people are told to use. The intermediate is valid for so many days.
fn make_authorities(world: &World, days: &str) {
    let run = |line: &str| openssl(world, &line.split(' ').collect::<Vec<_>>());
    let subject = |line: &str, name: &str| {
        let mut words: Vec<&str> = line.split(' ').collect();
        words.extend(["-subj", name]);
        openssl(world, &words);
    };
    run("genrsa -out squid-ca.key 2048");
    subject(
        "req -new -x509 -days 365 -key squid-ca.key -out squid-ca.crt",
        "/CN=Squid Root CA",
    );
    run("genrsa -out mitm.key 2048");
    subject(
        "req -new -x509 -days 365 -key mitm.key -out mitm.crt",
        "/CN=AI Proxy CA",
    );
    subject("req -new -key mitm.key -out mitm.csr", "/CN=AI Proxy CA");
    world.file(
        "ca_extensions.cnf",
        "basicConstraints=CA:TRUE\nkeyUsage=keyCertSign,cRLSign\n",
    );
    run(&format!(
        "x509 -req -in mitm.csr -CA squid-ca.crt -CAkey squid-ca.key -CAcreateserial \
         -out mitm-cross-signed.crt -days {days} -extfile ca_extensions.cnf"
    ));
    let read = |name: &str| std::fs::read_to_string(world.path(name)).unwrap();
    let chain = read("mitm-cross-signed.crt") + &read("squid-ca.crt");
    world.file("mitm-chain.crt", &chain);
    use std::os::unix::fs::PermissionsExt;
    let owner_only = std::fs::Permissions::from_mode(0o400);
    std::fs::set_permissions(world.path("mitm.key"), owner_only).unwrap();
}

/// An upstream that only Squid finds and trusts.
fn upstream(world: &World) -> Site {
    Site::certified(world, |authority| {
        let identity = authority.issue(&[HOST, DENIED, PRIVATE]);
        UpstreamOptions::https(identity, Protocols::Both)
    })
}

/// oriel between the client and Squid. `ca` is what it believes of Squid, `chain` what it shows
/// clients.
fn oriel(world: &World, site: &Site, squid: &str, ca: &str, chain: &str) -> Service {
    let port = site.upstream.address().port();
    let (ca, chain, key) = (world.path(ca), world.path(chain), world.path("mitm.key"));
    world.serve_port(
        port,
        &[
            "--admin",
            "off",
            "--intercept",
            "*.example",
            "--upstream-proxy",
            squid,
            "--upstream-proxy-ca",
            text(&ca),
            "--ca-cert",
            text(&chain),
            "--ca-key",
            text(&key),
        ],
    )
}

/// What a client gets that trusts the root of Squid, and has no other proxy than oriel.
fn curl(world: &World, service: &Service, arguments: &[&str], url: &str) -> Printed {
    let output = curl_command(world, service, arguments, url).output();
    Printed::of(output.unwrap())
}

fn curl_command(world: &World, service: &Service, arguments: &[&str], url: &str) -> Command {
    let proxy = format!("http://{}", service.proxy);
    let root = world.path("squid-ca.crt");
    let mut command = Command::new("curl");
    command
        .args([
            "-sS",
            "--noproxy",
            "",
            "--proxy",
            &proxy,
            "--cacert",
            text(&root),
        ])
        .args(arguments)
        .arg(url);
    command
}

fn url(site: &Site, host: &str, path: &str) -> String {
    format!("https://{host}:{}{path}", site.upstream.address().port())
}

#[test]
fn a_client_that_trusts_the_root_of_squid_trusts_the_chain() {
    let world = World::new();
    make_authorities(&world, "365");
    let site = upstream(&world);
    let squid = Squid::start(&world, &site.ca);
    let mut service = oriel(
        &world,
        &site,
        &squid.url(),
        "squid-ca.crt",
        "mitm-chain.crt",
    );
    let body = ["-d", "what a model is asked"];
    let printed = curl(&world, &service, &body, &url(&site, HOST, "/echo"));
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    assert!(
        printed.stdout.ends_with("what a model is asked"),
        "{}",
        printed.stdout
    );
    let received = site.received();
    assert_eq!(
        received.headers.get("host"),
        Some(&*format!("{HOST}:{}", site.upstream.address().port()))
    );
    assert_eq!(service.stop(), Some(0));
    let log = std::fs::read_to_string(&squid.log).unwrap();
    let port = site.upstream.address().port();
    assert!(log.contains(&format!("CONNECT {HOST}:{port}")), "{log}");
    assert!(
        log.contains(&format!("POST https://{HOST}:{port}/echo")),
        "{log}"
    );

    let flow = only_flow(&world);
    let id = flow["id"].as_str().unwrap();
    let shown = world.json(&["flows", "show", id, "--json"]);
    let upstream = &shown["upstream"];
    assert_eq!(upstream["proxy"], squid.url());
    assert_eq!(upstream["address"], squid.address.to_string());
    assert_eq!(upstream["tls"]["certificate"]["issuer"], "CN=Squid Root CA");
    let shown = world.oriel(&["flows", "show", id]).stdout;
    assert!(
        shown.contains(&format!("through  {}", squid.url())),
        "{shown}"
    );
}

#[test]
fn what_oriel_does_not_open_is_squids_to_open() {
    let world = World::new();
    make_authorities(&world, "365");
    let site = upstream(&world);
    let squid = Squid::start(&world, &site.ca);
    let port = site.upstream.address().port();
    let squid_url = squid.url();
    let arguments = [
        "--admin",
        "off",
        "--bypass",
        HOST,
        "--upstream-proxy",
        &squid_url,
    ];
    let mut service = world.serve_port(port, &arguments);
    let printed = curl(&world, &service, &[], &url(&site, HOST, "/bytes/3"));
    assert_eq!(
        (printed.code, printed.stdout.len()),
        (Some(0), 3),
        "{}",
        printed.stderr
    );
    assert_eq!(service.stop(), Some(0));
    assert_eq!(only_flow(&world)["route"]["action"], "tunnel");
}

#[test]
fn events_come_through_both_proxies_as_they_happen() {
    let world = World::new();
    make_authorities(&world, "365");
    let site = upstream(&world);
    let squid = Squid::start(&world, &site.ca);
    let unopened = format!("http://{}", squid.unopened);
    // Squid speaks HTTP/1.1 where it opens TLS; where it does not, oriel and the upstream agree.
    for (way, ca, version) in [
        (squid.url(), "squid-ca.crt", "HTTP/1.1 200"),
        (unopened, "upstream.pem", "HTTP/2 200"),
    ] {
        let service = oriel(&world, &site, &way, ca, "mitm-chain.crt");
        // The second event comes when the test is long over.
        let url = url(&site, HOST, "/sse?events=2&delay_ms=3600000");
        let show = ["-N", "-i", "--suppress-connect-headers"];
        let mut client = curl_command(&world, &service, &show, &url)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(client.stdout.take().unwrap()).lines();
        let mut lines = lines.map(Result::unwrap);
        let status = lines.next().unwrap_or_default();
        assert!(status.starts_with(version), "{way}: {status}");
        assert!(lines.any(|line| line.starts_with("data:")), "{way}");
        client.kill().unwrap();
        client.wait().unwrap();
    }
}

#[test]
fn a_websocket_goes_through_both_proxies() {
    let world = World::new();
    make_authorities(&world, "365");
    let site = upstream(&world);
    let squid = Squid::start(&world, &site.ca);
    let root = std::fs::read(world.path("squid-ca.crt")).unwrap();
    let roots = certificates_from_pem(&root).unwrap();
    let unopened = format!("http://{}", squid.unopened);
    for (way, ca) in [(squid.url(), "squid-ca.crt"), (unopened, "upstream.pem")] {
        let mut service = oriel(&world, &site, &way, ca, "mitm-chain.crt");
        let authority = format!("{HOST}:{}", site.upstream.address().port());
        let talk = async {
            let mut client = Client::connect_through(service.proxy, &authority).await?;
            let config = client_config(&roots, &["http/1.1"]);
            client.start_tls(HOST, config).await?;
            let host = [("Host", authority.as_str())];
            let mut socket = client.start_websocket("/websocket", &host).await?;
            for said in ["Hello", "again"] {
                socket.send(&Frame::new(TEXT, said)).await?;
                let echo = socket.read().await?.unwrap();
                assert_eq!(echo.payload, said);
            }
            socket.send(&Frame::close(1000, "done")).await?;
            while socket.read().await?.is_some() {}
            std::io::Result::Ok(())
        };
        let talk = async { tokio::time::timeout(START, talk).await };
        site.runtime.block_on(talk).unwrap().unwrap();
        assert_eq!(service.stop(), Some(0));
    }
    let kinds = flows(&world)
        .into_iter()
        .map(|flow| (flow["kind"].clone(), flow["status"].clone()));
    let expected = ("websocket".into(), 101.into());
    assert_eq!(kinds.collect::<Vec<_>>(), [expected.clone(), expected]);
}

#[test]
fn another_root_than_squids_is_not_enough() {
    let world = World::new();
    make_authorities(&world, "365");
    let site = upstream(&world);
    let squid = Squid::start(&world, &site.ca);
    let mut service = oriel(&world, &site, &squid.url(), "mitm.crt", "mitm-chain.crt");
    let status = ["-w", "%{http_code}"];
    let printed = curl(&world, &service, &status, &url(&site, HOST, "/bytes/3"));
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    let said = format!(
        "through {}: the upstream's certificate for CN={HOST}",
        squid.url()
    );
    assert!(printed.stdout.contains(&said), "{}", printed.stdout);
    let reason = "was issued by CN=Squid Root CA, which is not trusted";
    assert!(printed.stdout.contains(reason), "{}", printed.stdout);
    assert!(printed.stdout.ends_with("502"), "{}", printed.stdout);
    assert_eq!(service.stop(), Some(0));
    assert_eq!(
        only_flow(&world)["error"]["kind"],
        "certificate_unknown_issuer"
    );
    assert_eq!(site.upstream.received().len(), 0);
}

#[test]
fn without_the_chain_the_client_does_not_trust_oriel() {
    let world = World::new();
    make_authorities(&world, "365");
    let site = upstream(&world);
    let squid = Squid::start(&world, &site.ca);
    let mut service = oriel(&world, &site, &squid.url(), "squid-ca.crt", "mitm.crt");
    let printed = curl(&world, &service, &[], &url(&site, HOST, "/bytes/3"));
    assert_eq!(printed.code, Some(60), "{}", printed.stderr);
    assert_eq!(service.stop(), Some(0));
    let error = &only_flow(&world)["error"];
    assert_eq!(
        (&error["kind"], &error["side"]),
        (&"client_distrusts".into(), &"client".into())
    );
    assert!(
        error["message"].as_str().unwrap().contains("unknown_ca"),
        "{error}"
    );
}

#[test]
fn what_squid_refuses_is_told_as_its_refusal() {
    let world = World::new();
    make_authorities(&world, "365");
    let site = upstream(&world);
    let squid = Squid::start(&world, &site.ca);
    // Where it opens TLS, it tells refusals within: as the answers of upstreams.
    let refusing = format!("http://{}", squid.unopened);
    let mut service = oriel(&world, &site, &refusing, "upstream.pem", "mitm-chain.crt");
    for (host, said) in [
        (DENIED, "with 403 Forbidden"),
        (PRIVATE, "asks for credentials (Basic)"),
    ] {
        let printed = curl(
            &world,
            &service,
            &["-w", "%{http_code}"],
            &url(&site, host, "/"),
        );
        assert_eq!(printed.code, Some(0), "{}", printed.stderr);
        assert!(printed.stdout.contains(said), "{}", printed.stdout);
        assert!(printed.stdout.ends_with("502"), "{}", printed.stdout);
    }
    assert_eq!(service.stop(), Some(0));
    let kinds = flows(&world)
        .into_iter()
        .map(|flow| flow["error"]["kind"].clone());
    let expected = ["upstream_proxy_denied", "upstream_proxy_unauthorized"];
    assert_eq!(kinds.collect::<Vec<_>>(), expected);
    let login = world.file("login", "me:s:cret\n");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&login, mode).unwrap();
    let config = format!("[upstream_proxy]\ncredentials_file = {:?}\n", text(&login));
    world.file(".config/oriel/config.toml", &config);
    let service = oriel(&world, &site, &refusing, "upstream.pem", "mitm-chain.crt");
    let printed = curl(&world, &service, &[], &url(&site, PRIVATE, "/bytes/3"));
    assert_eq!(
        (printed.code, printed.stdout.len()),
        (Some(0), 3),
        "{}",
        printed.stderr
    );
    assert_eq!(site.received().headers.get("proxy-authorization"), None);
}

#[test]
fn an_intermediate_that_has_expired_is_not_begun_with() {
    let world = World::new();
    make_authorities(&world, "-1");
    let (chain, key) = (world.path("mitm-chain.crt"), world.path("mitm.key"));
    let authority = ["--ca-cert", text(&chain), "--ca-key", text(&key)];
    let arguments = [&["run", "--json"][..], &authority, &["--", "true"]].concat();
    let error = world.oriel(&arguments).error();
    assert_eq!(error["code"], "ORL0303", "{error}");
    assert!(
        error.to_string().contains("CN=AI Proxy CA has expired"),
        "{error}"
    );
}
