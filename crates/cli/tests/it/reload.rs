//! A service takes its configuration anew, as a whole or not at all.

use rustix::process::Signal;

use crate::authorities::shell;
use crate::upstream::{HELLO, answering};
use crate::world::{Service, World, send};

/// What a client gets that asks for `url`: the status, or what curl says in its place.
fn status(service: &Service, url: &str) -> String {
    let proxy = format!("http://{}", service.proxy);
    let curl = std::process::Command::new("curl")
        .args(["-s", "-o", "/dev/null", "-w", "%{http_code}"])
        .args(["--noproxy", "", "-x", &proxy, url])
        .output()
        .unwrap();
    String::from_utf8(curl.stdout).unwrap()
}

const CONFIG: &str = ".config/oriel/config.toml";
const BLOCK: &str = "[intercept]\nhosts = [\"a.test\"]\nunlisted = \"block\"\n";

#[test]
fn a_changed_file_is_taken_by_itself() {
    let world = World::new();
    let url = format!("http://{}/", answering(HELLO));
    let mut service = world.serve(&["--admin", "off"]);
    assert_eq!(status(&service, &url), "200");
    world.file(CONFIG, BLOCK);
    let said = service.wait_for("took the new configuration");
    assert_eq!(said["changed"], "intercept.hosts, intercept.unlisted");
    assert_eq!(status(&service, &url), "403");
    std::fs::remove_file(world.path(CONFIG)).unwrap();
    service.wait_for("took the new configuration");
    assert_eq!(status(&service, &url), "200");
    assert_eq!(service.stop(), Some(0));
}

#[test]
fn a_hang_up_reloads_and_a_mistake_changes_nothing() {
    let world = World::new();
    let url = format!("http://{}/", answering(HELLO));
    world.file(CONFIG, BLOCK);
    let mut service = world.serve(&["--admin", "off"]);
    send(&service.child, Signal::HUP);
    service.wait_for("took the configuration anew: no setting changed");
    for (text, code, place) in [
        (
            "[intercept]\nunlistd = \"tunnel\"\n",
            "ORL0402",
            Some("2:1"),
        ),
        ("[intercept]\nhosts = [\"a b\"]\n", "ORL0105", None),
        ("[capture]\nenabled = false\n", "ORL0407", None),
        (
            "[[proxy.reverse]]\nlisten = \"127.0.0.1:0\"\nto = \"http://a.test\"\n",
            "ORL0407",
            None,
        ),
        ("[upstream]\nca_files = [\"none.pem\"]\n", "ORL0305", None),
    ] {
        world.file(CONFIG, text);
        send(&service.child, Signal::HUP);
        let said = service.wait_for("the configuration in force stays");
        assert_eq!(said["code"], code, "{said}");
        if let Some(place) = place {
            assert!(said["place"].as_str().unwrap().ends_with(place), "{said}");
        }
        assert_eq!(status(&service, &url), "403", "{text}");
    }
    assert_eq!(service.stop(), Some(0));
}

#[test]
fn another_authority_is_taken() {
    let world = World::new();
    let mut service = world.serve(&["--admin", "off"]);
    let own = world.path(".local/share/oriel/ca/authority.pem");
    std::fs::remove_file(&own).unwrap();
    send(&service.child, Signal::HUP);
    service.wait_for("the certificate authority is another one");
    assert!(own.exists());
    assert_eq!(service.stop(), Some(0));
}

/// Makes a certificate and its key, of a name, as files of a test.
fn certificate(world: &World, name: &str, common_name: &str) {
    let script = format!(
        "umask 077 && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
         -keyout new.key -out new.crt -days 30 -subj '/CN={common_name}' 2>/dev/null \
         && mv new.key {name}.key && mv new.crt {name}.crt"
    );
    shell(world, &script);
}

#[test]
fn a_renewed_certificate_of_a_listener_is_shown_without_being_asked() {
    let world = World::new();
    for name in ["own", "reverse", "shown"] {
        certificate(&world, name, &format!("{name} 1"));
    }
    let file = |name: &str| world.path(name).display().to_string();
    let identity = |name: &str| {
        let (certificate, key) = (file(&format!("{name}.crt")), file(&format!("{name}.key")));
        format!("certificate = \"{certificate}\", key = \"{key}\"")
    };
    let text = format!(
        "[proxy]\ntls = {{ {} }}\n\
         reverse = [{{ listen = \"127.0.0.1:0\", to = \"http://{}\", tls = {{ {} }} }}]\n\
         [upstream]\nclient_certificates = [{{ hosts = [\"a.test\"], {} }}]\n",
        identity("own"),
        answering(HELLO),
        identity("reverse"),
        identity("shown"),
    );
    world.file(CONFIG, &text);
    let mut service = world.serve(&["--admin", "127.0.0.1:0"]);
    let admin = service.admin.unwrap();
    let status = shell(
        &world,
        &format!("curl -sS --noproxy '*' http://{admin}/status"),
    );
    let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
    let listeners = status["listeners"].as_array().unwrap();
    let reverse = listeners
        .iter()
        .find(|one| one["kind"] == "reverse")
        .unwrap();
    let addresses = [
        service.proxy.to_string(),
        reverse["addr"].as_str().unwrap().to_owned(),
    ];
    let shown = |at: &str| {
        let ask = format!(
            "openssl s_client -connect {at} </dev/null 2>/dev/null | openssl x509 -noout -subject"
        );
        let subject = shell(&world, &ask).stdout;
        subject.trim().replace("subject=", "").replace(' ', "")
    };
    assert_eq!(
        addresses.each_ref().map(|at| shown(at)),
        ["CN=own1", "CN=reverse1"]
    );
    for (name, expected) in [
        ("own", ["CN=own2", "CN=reverse1"]),
        ("reverse", ["CN=own2", "CN=reverse2"]),
        ("shown", ["CN=own2", "CN=reverse2"]),
    ] {
        certificate(&world, name, &format!("{name} 2"));
        service.wait_for("took the configuration anew");
        assert_eq!(addresses.each_ref().map(|at| shown(at)), expected);
    }
    assert_eq!(service.stop(), Some(0));
}

#[test]
fn a_log_that_nobody_reads_ends_nothing() {
    let world = World::new();
    let url = format!("http://{}/", answering(HELLO));
    let mut service = world.serve(&["--admin", "off"]);
    service.close_log();
    send(&service.child, Signal::HUP);
    assert_eq!(status(&service, &url), "200");
    assert_eq!(service.stop(), Some(0));
}
