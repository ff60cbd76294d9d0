//! Certificate authorities: made, signed by others, brought along, changed; and what clients that
//! trust one end of the chain say to it. openssl is the other maker of certificates.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use serde_json::Value;
use testbed::upstream::Protocols;

use crate::site::{NAME, Site, flows, only_flow, text};
use crate::world::{Printed, Service, World, mode};

/// Runs shell commands in the home of a test.
pub(crate) fn shell(world: &World, script: &str) -> Printed {
    let output = Command::new("sh")
        .args(["-ec", script])
        .current_dir(world.path(""))
        .output();
    let printed = Printed::of(output.unwrap());
    assert_eq!(printed.code, Some(0), "{script}: {}", printed.stderr);
    printed
}

/// The code of the error that a command ends with, and all that it says.
fn refused(world: &World, arguments: &[&str]) -> (String, String) {
    let all = [arguments, &["--json"]].concat();
    let printed = world.oriel(&all);
    assert_ne!(printed.code, Some(0), "{arguments:?}: {}", printed.stdout);
    let error = printed.error();
    (
        error["code"].as_str().unwrap().to_owned(),
        error.to_string(),
    )
}

/// A service that opens what goes to an upstream with this authority.
fn serve(world: &World, site: &Site, (certificate, key): (&str, &str)) -> Service {
    world.serve_port(
        site.upstream.address().port(),
        &[
            "--admin",
            "off",
            "--upstream-ca",
            text(&site.ca),
            "--intercept",
            NAME,
            "--ca-cert",
            certificate,
            "--ca-key",
            key,
        ],
    )
}

/// Asks an upstream through a service that uses this authority, with clients that trust one file
/// each; gives their exit codes, and the certificates that they are sent.
fn ask(world: &World, authority: (&str, &str), trusted: &[&str]) -> (Vec<Option<i32>>, usize) {
    let site = Site::https(world, Protocols::Both);
    let port = site.upstream.address().port();
    let mut service = serve(world, &site, authority);
    let proxy = service.proxy.to_string();
    let codes = trusted.iter().map(|trusted| {
        let asked = Command::new("curl")
            .args(["-sS", "--noproxy", "", "--proxy", &proxy])
            .args([
                "--cacert",
                text(&world.path(trusted)),
                &site.url("/bytes/7"),
            ])
            .output()
            .unwrap();
        asked.status.code()
    });
    let codes = codes.collect();
    let shown = shell(
        world,
        &format!(
            "openssl s_client -proxy {proxy} -connect {NAME}:{port} -servername {NAME} -showcerts \
             </dev/null"
        ),
    );
    assert_eq!(service.stop(), Some(0));
    (codes, shown.stdout.matches("BEGIN CERTIFICATE").count())
}

/// The steps that people are given who put oriel behind a proxy with an authority of its own, word
/// for word.
const GUIDE: &str = r#"
openssl genrsa -out mitm.key 2048
chmod 400 mitm.key
openssl req -new -x509 -days 365 \
  -key mitm.key \
  -out mitm.crt \
  -subj "/CN=AI Proxy CA"
openssl req -new \
  -key mitm.key \
  -out mitm.csr \
  -subj "/CN=AI Proxy CA"
cat > ca_extensions.cnf << 'EOF'
basicConstraints=CA:TRUE
keyUsage=keyCertSign,cRLSign
EOF
openssl x509 -req \
  -in mitm.csr \
  -CA upstream-ca.crt \
  -CAkey upstream-ca.key \
  -CAcreateserial \
  -out mitm-cross-signed.crt \
  -days 365 \
  -extfile ca_extensions.cnf
cat mitm-cross-signed.crt upstream-ca.crt > mitm-chain.crt
# Check the signing relationship
openssl x509 -in mitm-cross-signed.crt -noout -subject -issuer

# Verify the chain is valid
openssl verify -CAfile upstream-ca.crt mitm-cross-signed.crt
"#;

/// What it is to print, but for the spaces, which OpenSSL has put elsewhere since.
const GUIDE_PRINTS: &str = "\
subject=CN = AI Proxy CA
issuer=CN = Upstream Root CA
mitm-cross-signed.crt: OK
";

/// What people are told to try when it does not work: is it signed by another, and does a request
/// come through.
const TROUBLESHOOTING: [&str; 2] = [
    "openssl x509 -in mitm-cross-signed.crt -noout -subject -issuer",
    r"# Test with curl through the proxy
curl -x http://localhost:8888 \
  --cacert /path/to/ai-proxy-ca.crt \
  https://api.anthropic.com/v1/messages
",
];

/// A root of somebody else.
const UPSTREAM_CA: &str = "openssl req -x509 -newkey rsa:2048 -nodes -keyout upstream-ca.key \
                           -out upstream-ca.crt -days 365 -subj '/CN=Upstream Root CA'";

#[test]
fn files_made_by_the_guide_are_taken_as_they_are() {
    let world = World::new();
    shell(&world, UPSTREAM_CA);
    let said = shell(&world, GUIDE).stdout;
    let bare = |text: &str| text.replace(' ', "");
    assert!(bare(&said).ends_with(&bare(GUIDE_PRINTS)), "{said}");
    let [names, request] = TROUBLESHOOTING;
    let said = shell(&world, names).stdout;
    let expected = bare(GUIDE_PRINTS);
    let (subject, issuer) = (expected.lines().next(), expected.lines().nth(1));
    assert_eq!(bare(&said).lines().next(), subject);
    assert_eq!(bare(&said).lines().nth(1), issuer);
    shell(
        &world,
        "openssl req -x509 -newkey rsa:2048 -nodes -keyout /dev/null -out stranger.crt -subj /CN=s",
    );
    assert_eq!(mode(&world.path("mitm.key")), 0o400);
    let files = ("mitm-chain.crt", "mitm.key");
    let trusted = ["upstream-ca.crt", "stranger.crt", "mitm.crt"];
    let (codes, sent) = ask(&world, files, &trusted);
    // The certificate that the authority signed itself is of the same name and key, so that who
    // trusts it takes the leaves as well.
    assert_eq!(codes, [Some(0), Some(60), Some(0)]);
    assert_eq!(sent, 2, "the leaf, and the authority without its root");
    let kinds: Vec<_> = flows(&world)
        .iter()
        .map(|flow| flow["error"]["kind"].clone())
        .filter(|kind| kind == "client_distrusts")
        .collect();
    assert_eq!(kinds.len(), 1);

    let site = Site::https(&world, Protocols::Both);
    let mut service = serve(&world, &site, files);
    // Its proxy, its file and its host are those of this test.
    let request = request
        .replace("localhost:8888", &service.proxy.to_string())
        .replace("/path/to/ai-proxy-ca.crt", "upstream-ca.crt")
        .replace(
            "https://api.anthropic.com/v1/messages",
            &site.url("/bytes/7"),
        );
    let asked = shell(&world, &format!("unset no_proxy NO_PROXY; {request}"));
    assert_eq!(asked.stdout.len(), 7, "{}", asked.stderr);
    assert_eq!(service.stop(), Some(0));

    let flags = ["--ca-cert", "mitm-chain.crt", "--ca-key", "mitm.key"];
    let verified = world.done(&[&["ca", "verify", "--tools", "none"][..], &flags].concat());
    assert!(
        verified.contains("CN=AI Proxy CA, cross-signed by CN=Upstream Root CA"),
        "{verified}"
    );
    assert!(verified.contains("the chain holds"), "{verified}");
    assert!(
        verified.contains("clients have to trust CN=Upstream Root CA\n"),
        "{verified}"
    );
    let chain = world.done(&[&["ca", "export", "--format", "chain"][..], &flags].concat());
    let file = std::fs::read_to_string(world.path("mitm-chain.crt")).unwrap();
    assert_eq!(chain, file);
}

#[test]
fn a_chain_of_any_depth_is_sent_whole() {
    let world = World::new();
    let init = |name: &str, length: &str, key: &str| {
        let (crt, private) = (format!("{name}.crt"), format!("{name}.key"));
        let arguments = [
            "ca",
            "init",
            "--name",
            name,
            "--key",
            key,
            "--path-length",
            length,
            "--ca-cert",
            &crt,
            "--ca-key",
            &private,
        ];
        world.done(&arguments);
        assert_eq!(mode(&world.path(&private)), 0o600);
    };
    init("root", "2", "rsa3072");
    init("middle", "1", "p384");
    init("below", "0", "p256");
    let sign = |name: &str, issuer: (&str, &str), length: &str| {
        let (crt, private, csr) = (
            format!("{name}.crt"),
            format!("{name}.key"),
            format!("{name}.csr"),
        );
        let request = [
            "ca",
            "csr",
            "--ca-cert",
            &crt,
            "--ca-key",
            &private,
            "-o",
            &csr,
        ];
        world.done(&request);
        let chain = format!("{name}-chain.crt");
        let arguments = [
            "ca",
            "cross-sign",
            &csr,
            "--issuer-cert",
            issuer.0,
            "--issuer-key",
            issuer.1,
            "--path-length",
            length,
            "-o",
            &chain,
        ];
        world.done(&arguments);
    };
    sign("middle", ("root.crt", "root.key"), "1");
    sign("below", ("middle-chain.crt", "middle.key"), "0");
    // A file in any order is put in order.
    let chain = std::fs::read_to_string(world.path("below-chain.crt")).unwrap();
    let mut parts: Vec<_> = chain
        .split_inclusive("-----END CERTIFICATE-----\n")
        .collect();
    assert_eq!(parts.len(), 3);
    parts.reverse();
    world.file("mixed.crt", &parts.concat());
    for file in ["below-chain.crt", "mixed.crt"] {
        let (codes, sent) = ask(&world, (file, "below.key"), &["root.crt", "below.crt"]);
        assert_eq!((codes, sent), (vec![Some(0), Some(0)], 3), "{file}");
    }
    shell(
        &world,
        "openssl verify -x509_strict -CAfile root.crt -untrusted below-chain.crt below-chain.crt",
    );
    let (code, said) = refused(
        &world,
        &[
            "ca",
            "cross-sign",
            "middle.csr",
            "--issuer-cert",
            "below-chain.crt",
            "--issuer-key",
            "below.key",
        ],
    );
    assert_eq!(code, "ORL0308");
    assert!(said.contains("CN=below allows 0 authorities"), "{said}");
}

#[test]
fn an_authority_is_made_as_asked_and_never_over_another() {
    let world = World::new();
    let made = [
        "ca",
        "init",
        "--key",
        "rsa2048",
        "--cn",
        "AI Proxy CA",
        "--organization",
        "Corp",
        "--days",
        "9",
        "--only",
        "api.openai.com,10.0.0.0/8",
        "--json",
    ];
    let made: Value = world.json(&made);
    assert_eq!(made["subject"], "CN=AI Proxy CA,O=Corp");
    assert_eq!(made["kind"], "self_signed");
    assert_eq!(made["key"], "RSA 2048");
    assert_eq!(made["path_length"], 0);
    assert_eq!(made["name_constraints"], "only api.openai.com, 10.0.0.0/8");
    let file = world.path(".local/share/oriel/ca/authority.pem");
    assert_eq!(mode(&file), 0o600);
    let before = std::fs::read(&file).unwrap();
    let (code, said) = refused(&world, &["ca", "init"]);
    assert_eq!(code, "ORL0307");
    assert!(said.contains("oriel ca rotate"), "{said}");
    assert_eq!(std::fs::read(&file).unwrap(), before);
    world.file("there.crt", "");
    let files = ["--ca-cert", "there.crt", "--ca-key", "new.key"];
    let (code, _) = refused(&world, &[&["ca", "init"][..], &files].concat());
    assert_eq!(code, "ORL0307");
    assert!(!world.path("new.key").exists());
    for wrong in [["--only", "*.a.test"], ["--days", "0"], ["--name", ""]] {
        let (code, _) = refused(&world, &[&["ca", "init"][..], &wrong].concat());
        assert_eq!(code, "ORL0306", "{wrong:?}");
    }
}

#[test]
fn a_key_that_others_can_read_stops_the_start() {
    let world = World::new();
    world.done(&["ca", "init"]);
    let file = world.path(".local/share/oriel/ca/authority.pem");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--admin", "off"];
    for command in [&["run", "--", "true"][..], &serve, &["ca", "verify"]] {
        let printed = world.oriel(command);
        assert!(matches!(printed.code, Some(4 | 125)), "{:?}", printed.code);
        let fix = format!("chmod 600 {}", file.display());
        assert!(printed.stderr.contains(&fix), "{}", printed.stderr);
    }
}

#[test]
fn an_answer_to_a_request_is_imported_and_the_one_before_stays_trusted() {
    let world = World::new();
    shell(&world, UPSTREAM_CA);
    world.done(&["ca", "init", "--name", "ours"]);
    let before = world.done(&["ca", "export"]);
    world.done(&["ca", "csr", "-o", "ours.csr"]);
    shell(
        &world,
        "printf 'basicConstraints=CA:TRUE\nkeyUsage=keyCertSign,cRLSign\n' > ext && openssl x509 \
         -req -in ours.csr -CA upstream-ca.crt -CAkey upstream-ca.key -CAcreateserial -out ours.crt \
         -days 9 -extfile ext",
    );
    let import = [
        "ca",
        "import",
        "ours.crt",
        "--chain",
        "upstream-ca.crt",
        "--json",
    ];
    let shown: Value = world.json(&import);
    assert_eq!(shown["kind"], "cross_signed");
    assert_eq!(shown["issuer"], "CN=Upstream Root CA");
    assert_eq!(shown["chain"].as_array().unwrap().len(), 2);
    assert_eq!(shown["earlier"][0]["subject"], "CN=ours");
    let after = world.done(&["ca", "export"]);
    assert_eq!(after.matches("BEGIN CERTIFICATE").count(), 3);
    assert!(after.contains(before.trim()));
    let own = ".local/share/oriel/ca/authority.pem";
    let (codes, sent) = ask(&world, (own, own), &["upstream-ca.crt"]);
    assert_eq!((codes, sent), (vec![Some(0)], 2));
    // There is no making another like it.
    let (code, said) = refused(&world, &["ca", "rotate"]);
    assert_eq!(code, "ORL0307");
    assert!(
        said.contains("only CN=Upstream Root CA can sign a new one"),
        "{said}"
    );
}

#[test]
fn every_form_of_key_and_certificate_is_imported() {
    let world = World::new();
    shell(
        &world,
        "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out crt.pem -subj /CN=theirs
         openssl rsa -in key.pem -traditional -out pkcs1.pem
         openssl rsa -in key.pem -outform DER -traditional -out pkcs1.der
         openssl pkey -in key.pem -outform DER -out pkcs8.der
         openssl x509 -in crt.pem -outform DER -out crt.der
         openssl pkcs8 -topk8 -in key.pem -passout pass:x -out locked.pem
         chmod 400 *.pem *.der",
    );
    world.done(&["ca", "import", "crt.pem", "--key", "key.pem"]);
    for key in ["pkcs1.pem", "pkcs1.der", "pkcs8.der"] {
        let import = [
            "ca",
            "import",
            "crt.der",
            "--key",
            key,
            "--replace",
            "--overlap",
            "0s",
        ];
        world.done(&import);
        assert_eq!(
            world.json(&["ca", "show", "--json"])["subject"],
            "CN=theirs"
        );
        assert_eq!(
            mode(&world.path(".local/share/oriel/ca/authority.pem")),
            0o600
        );
    }
    let (_, said) = refused(&world, &["ca", "import", "crt.pem", "--key", "locked.pem"]);
    assert!(said.contains("the key is encrypted"), "{said}");
    world.done(&["ca", "init", "--ca-cert", "new.crt", "--ca-key", "new.key"]);
    let (_, said) = refused(&world, &["ca", "import", "new.crt", "--key", "key.pem"]);
    assert!(
        said.contains("the key does not belong to the certificate"),
        "{said}"
    );
    let (code, _) = refused(&world, &["ca", "import", "new.crt", "--key", "new.key"]);
    assert_eq!(code, "ORL0307", "another key is there");
    std::fs::set_permissions(
        world.path("new.key"),
        std::fs::Permissions::from_mode(0o644),
    )
    .unwrap();
    let (code, _) = refused(&world, &["ca", "import", "new.crt", "--key", "new.key"]);
    assert_eq!(code, "ORL0301");
}

#[test]
fn a_chain_that_does_not_hold_is_told_and_not_imported() {
    let world = World::new();
    shell(&world, UPSTREAM_CA);
    shell(&world, GUIDE);
    shell(&world, &UPSTREAM_CA.replace("upstream-ca.", "namesake."));
    shell(&world, "cat mitm-cross-signed.crt namesake.crt > wrong.crt");
    let verify = [
        "ca",
        "verify",
        "--tools",
        "none",
        "--ca-cert",
        "wrong.crt",
        "--ca-key",
        "mitm.key",
    ];
    let printed = world.oriel(&verify);
    assert_eq!(printed.code, Some(1), "{}", printed.stderr);
    let fault = "CN=AI Proxy CA was not signed by the key of CN=Upstream Root CA that follows it";
    assert!(printed.stdout.contains(fault), "{}", printed.stdout);
    let printed = world.oriel(&[&verify[..], &["--json"]].concat());
    let document: Value = serde_json::from_str(&printed.stdout).unwrap();
    assert_eq!(document["holds"], false);
    assert_eq!(document["faults"][0], fault);
    let (code, said) = refused(&world, &["ca", "import", "wrong.crt", "--key", "mitm.key"]);
    assert_eq!(code, "ORL0309");
    assert!(said.contains(fault), "{said}");
    assert!(!world.path(".local/share/oriel/ca").exists());
    let mixed = [
        "ca",
        "verify",
        "--tools",
        "none",
        "--ca-cert",
        "namesake.crt",
        "--ca-key",
        "mitm.key",
    ];
    let printed = world.oriel(&mixed);
    assert_eq!(printed.code, Some(1));
    assert!(
        printed.stderr.contains("the key does not belong"),
        "{}",
        printed.stderr
    );
}

#[test]
fn what_made_place_is_trusted_until_its_window_ends() {
    let world = World::new();
    let site = Site::https(&world, Protocols::Both);
    world.done(&["ca", "init", "--name", "ours", "--key", "p384"]);
    let first = world.done(&["ca", "export"]);
    // A shell is pointed at files of trust.
    world.done(&["env"]);
    assert_eq!(mode(&world.path(".local/share/oriel/ca/ca.pem")), 0o600);
    let shown = world.done(&["ca", "rotate", "--overlap", "2d", "--json"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["subject"], "CN=ours #2");
    assert_eq!(shown["key"], "ECDSA P-384");
    assert_eq!(shown["earlier"][0]["subject"], "CN=ours");
    let folder = world.path(".local/share/oriel/ca");
    let second = world.done(&["ca", "export", "--format", "chain"]);
    for file in ["bundle.pem", "ca.pem"] {
        let given = std::fs::read_to_string(folder.join(file)).unwrap();
        assert!(
            given.contains(first.trim()) && given.contains(&second),
            "{file}"
        );
    }
    // The key of the old one is gone.
    let files = std::fs::read_dir(&folder).unwrap().flatten();
    let texts: Vec<_> = files
        .map(|file| std::fs::read_to_string(file.path()).unwrap())
        .collect();
    let keys: usize = texts
        .iter()
        .map(|text| text.matches("BEGIN PRIVATE").count())
        .sum();
    assert_eq!((texts.len(), keys), (4, 1));

    let given = |world: &World| {
        let bundle = world.done(&["ca", "export", "--format", "bundle"]);
        let seen = site.run(
            world,
            &[
                "sh",
                "-c",
                "cat \"$CURL_CA_BUNDLE\" \"$NODE_EXTRA_CA_CERTS\"",
            ],
        );
        let lasting = shell(
            world,
            &format!(
                "HOME=$PWD XDG_DATA_HOME= {} env --shell bash > vars && . ./vars && cat \
                 \"$CURL_CA_BUNDLE\"",
                env!("CARGO_BIN_EXE_oriel")
            ),
        );
        [bundle, seen.stdout, lasting.stdout].map(|text| text.matches(first.trim()).count())
    };
    assert_eq!(given(&world), [1, 2, 1]);
    let asked = site.run(&world, &["curl", "-sS", &site.url("/bytes/3")]);
    assert_eq!(
        (asked.code, asked.stdout.len()),
        (Some(0), 3),
        "{}",
        asked.stderr
    );

    let earlier = std::fs::read_dir(&folder).unwrap().flatten();
    let mut earlier =
        earlier.filter(|file| file.file_name().to_str().unwrap().starts_with("earlier"));
    let earlier = earlier.next().unwrap().path();
    let text = std::fs::read_to_string(&earlier).unwrap();
    let (_, certificates) = text.split_once('\n').unwrap();
    let over = format!("Trusted until 2026-01-01T00:00:00Z\n{certificates}");
    std::fs::write(&earlier, over).unwrap();
    assert_eq!(given(&world), [0, 0, 0]);
    world.done(&["ca", "rotate"]);
    assert!(!earlier.exists());
    assert_eq!(
        world.json(&["ca", "show", "--json"])["subject"],
        "CN=ours #3"
    );
}

/// What clients say that trust one file each, of a service whose authority is changed while it runs:
/// curl's exit code, and OpenSSL's verdict on the chain that is sent.
fn rotated_with(world: &World, path_length: &str) -> Vec<(Option<i32>, bool)> {
    let site = Site::https(world, Protocols::Both);
    let port = site.upstream.address().port();
    world.done(&["ca", "init", "--name", "ours", "--path-length", path_length]);
    world.done(&["ca", "export", "--format", "chain", "-o", "old.pem"]);
    let of_run = site.run(world, &["sh", "-c", "cat \"$CURL_CA_BUNDLE\""]);
    world.file("run.pem", &of_run.stdout);
    world.file("bare/etc/ssl/certs/ca-certificates.crt", "");
    world.done(&["ca", "install", "--root", "bare", "--yes"]);
    let flags = ["--admin", "off", "--intercept", NAME, "--upstream-ca"];
    let mut service = world.serve_port(port, &[&flags[..], &[text(&site.ca)]].concat());
    let shown = world.done(&["ca", "rotate"]);
    let command = format!(
        "oriel ca install --store system --root {}",
        text(&world.path("bare"))
    );
    assert!(shown.contains(&command), "{shown}");
    let signs = shown.contains("has signed this one");
    assert_eq!(signs, path_length != "0", "{shown}");
    assert_ne!(shown.contains("alone does not take"), signs, "{shown}");
    service.wait_for("took the configuration anew");
    world.done(&["ca", "export", "--format", "chain", "-o", "new.pem"]);
    let proxy = service.proxy.to_string();
    let asked = ["old.pem", "new.pem", "run.pem"].map(|trusted| {
        let curl = Command::new("curl")
            .args(["-sS", "--noproxy", "", "--proxy", &proxy, "--cacert"])
            .args([text(&world.path(trusted)), &site.url("/bytes/7")])
            .output()
            .unwrap();
        let verified = shell(
            world,
            &format!(
                "openssl s_client -proxy {proxy} -connect {NAME}:{port} -servername {NAME} \
                 -showcerts </dev/null >sent 2>/dev/null
                 openssl x509 -in sent -out leaf.pem
                 openssl verify -x509_strict -CAfile {trusted} -untrusted sent leaf.pem 2>&1 || true"
            ),
        );
        (curl.status.code(), verified.stdout == "leaf.pem: OK\n")
    });
    assert_eq!(service.stop(), Some(0));
    asked.to_vec()
}

#[test]
fn who_trusts_the_old_authority_alone_takes_leaves_of_the_new_one_if_the_old_one_may_sign_it() {
    let world = World::new();
    let taken = (Some(0), true);
    assert_eq!(rotated_with(&world, "1"), [taken; 3]);
    // As long as the window lasts: without it the old one is nothing.
    let folder = world.path(".local/share/oriel/ca");
    let files = std::fs::read_dir(&folder).unwrap().flatten();
    let names = files.map(|file| file.file_name().into_string().unwrap());
    let signed: Vec<_> = names
        .filter(|name| name.starts_with("successor-"))
        .collect();
    assert_eq!(signed.len(), 1);
    let document = world.json(&["ca", "rotate", "--overlap", "0s", "--json"]);
    assert_eq!(document["stale"]["signed_until"], Value::Null);
    assert_eq!(document["stale"]["subject"], "CN=ours #2");
    // That one was installed nowhere.
    assert_eq!(document["stale"]["installed"], serde_json::json!([]));
}

#[test]
fn who_trusts_an_old_authority_that_may_sign_no_other_is_told_to_install_the_new_one() {
    let world = World::new();
    let (refused, taken) = ((Some(60), false), (Some(0), true));
    assert_eq!(rotated_with(&world, "0"), [refused, taken, refused]);
}

#[test]
fn hosts_outside_the_constraints_pass_unopened() {
    let world = World::new();
    let site = Site::https(&world, Protocols::Both);
    world.done(&["ca", "init", "--only", "other.test"]);
    let url = site.url("/bytes/5");
    let command = ["curl", "-sS", "--cacert", text(&site.ca), &url];
    let printed = site.run(&world, &command);
    assert_eq!(
        (printed.code, printed.stdout.len()),
        (Some(0), 5),
        "{}",
        printed.stderr
    );
    let flow = only_flow(&world);
    assert_eq!(flow["kind"], "tunnel");
    let rule = flow["route"]["rule"].as_str().unwrap();
    assert!(
        rule.starts_with("outside the name constraints of the authority"),
        "{rule}"
    );
    let blocked = [
        "--summary",
        "none",
        "--unlisted",
        "block",
        "--intercept",
        NAME,
    ];
    let printed = Printed::of(
        site.command_with(&world, &blocked, &command)
            .output()
            .unwrap(),
    );
    assert_eq!(printed.code, Some(56), "{}", printed.stderr);
    assert!(printed.stderr.contains("403"), "{}", printed.stderr);
}

#[test]
fn an_authority_whose_time_is_over_is_refused() {
    let world = World::new();
    shell(
        &world,
        "openssl req -new -newkey rsa:2048 -nodes -keyout key.pem -out csr.pem -subj /CN=old
         echo basicConstraints=CA:TRUE > ext
         openssl x509 -req -in csr.pem -signkey key.pem -days -1 -extfile ext -out crt.pem
         chmod 400 key.pem",
    );
    let run = [
        "run",
        "--ca-cert",
        "crt.pem",
        "--ca-key",
        "key.pem",
        "--",
        "true",
    ];
    let printed = world.oriel(&run);
    assert_eq!(printed.code, Some(125), "{}", printed.stderr);
    assert!(printed.stderr.contains("ORL0303"), "{}", printed.stderr);
    assert!(
        printed.stderr.contains("CN=old has expired"),
        "{}",
        printed.stderr
    );
}

#[test]
fn trust_stores_are_written_for_those_who_read_no_pem() {
    let world = World::new();
    world.done(&["ca", "init", "--name", "first"]);
    world.done(&["ca", "rotate"]);
    let p12 = [
        "ca",
        "export",
        "--format",
        "p12",
        "--password",
        "sesame",
        "-o",
        "trust.p12",
    ];
    world.done(&p12);
    let said = shell(
        &world,
        "openssl pkcs12 -in trust.p12 -nokeys -passin pass:sesame",
    )
    .stdout;
    assert_eq!(said.matches("BEGIN CERTIFICATE").count(), 2, "{said}");
    let java = ["ca", "export", "--format", "java", "-o", "trust.jks"];
    let has_keytool = Command::new("keytool").arg("-help").output().is_ok();
    if !has_keytool {
        let (code, said) = refused(&world, &java);
        assert_eq!(code, "ORL0312");
        assert!(said.contains("--format p12"), "{said}");
        return;
    }
    world.done(&java);
    let list = "keytool -list -keystore trust.jks -storepass changeit";
    let said = shell(&world, list).stdout;
    assert_eq!(said.matches("oriel-").count(), 2, "{said}");
    assert!(
        said.matches("trustedCertEntry").count() > 50,
        "Java's own roots"
    );
}
