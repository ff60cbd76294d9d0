//! The page that tells what to do with the certificate, for each system and tool. Plain HTML: no
//! script, nothing from elsewhere, every value escaped.

use std::fmt::Write as _;

use proxy::Authority;

use super::{HOST, escape_markup};

/// How one system or tool is made to trust the certificate, and how that is undone.
struct Way {
    whom: &'static str,
    steps: &'static str,
    undo: &'static str,
}

/// Phones first: they are why people open the page.
const WAYS: [Way; 13] = [
    Way {
        whom: "iPhone, iPad",
        steps: "Open the profile /ca.mobileconfig in Safari and allow it.\nSettings, General, VPN & Device Management: install it.\nSettings, General, About, Certificate Trust Settings: switch it on.",
        undo: "Settings, General, VPN & Device Management: remove the profile.",
    },
    Way {
        whom: "Android",
        steps: "Download /ca.der.\nSettings, Security, Encryption & credentials, Install a certificate, CA certificate.\nBrowsers trust it then; most apps trust only what their makers chose.",
        undo: "Settings, Security, Encryption & credentials, User credentials.",
    },
    Way {
        whom: "macOS",
        steps: "security add-trusted-cert -r trustRoot -k ~/Library/Keychains/login.keychain-db oriel-ca.pem",
        undo: "security remove-trusted-cert oriel-ca.pem",
    },
    Way {
        whom: "Windows",
        steps: "certutil -user -addstore Root oriel-ca.crt",
        undo: "certutil -user -delstore Root \"NAME OF THE CERTIFICATE\"",
    },
    Way {
        whom: "Debian, Ubuntu, Alpine",
        steps: "cp oriel-ca.pem /usr/local/share/ca-certificates/oriel-ca.crt\nupdate-ca-certificates",
        undo: "rm /usr/local/share/ca-certificates/oriel-ca.crt\nupdate-ca-certificates",
    },
    Way {
        whom: "Fedora, RHEL",
        steps: "cp oriel-ca.pem /etc/pki/ca-trust/source/anchors/\nupdate-ca-trust",
        undo: "rm /etc/pki/ca-trust/source/anchors/oriel-ca.pem\nupdate-ca-trust",
    },
    Way {
        whom: "Arch",
        steps: "trust anchor --store oriel-ca.pem",
        undo: "trust anchor --remove oriel-ca.pem",
    },
    Way {
        whom: "SUSE",
        steps: "cp oriel-ca.pem /etc/pki/trust/anchors/\nupdate-ca-certificates",
        undo: "rm /etc/pki/trust/anchors/oriel-ca.pem\nupdate-ca-certificates",
    },
    Way {
        whom: "Chrome, Chromium, Edge on Linux",
        steps: "certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n oriel -i oriel-ca.pem",
        undo: "certutil -d sql:$HOME/.pki/nssdb -D -n oriel",
    },
    Way {
        whom: "Firefox",
        steps: "Settings, Privacy & Security, View Certificates, Authorities, Import: /ca.pem",
        undo: "The same place: Delete or Distrust.",
    },
    Way {
        whom: "Java",
        steps: "keytool -importcert -cacerts -storepass changeit -noprompt -alias oriel -file oriel-ca.pem",
        undo: "keytool -delete -cacerts -storepass changeit -alias oriel",
    },
    Way {
        whom: "Node, Deno (added to what they trust)",
        steps: "export NODE_EXTRA_CA_CERTS=$PWD/oriel-ca.pem DENO_CERT=$PWD/oriel-ca.pem",
        undo: "unset NODE_EXTRA_CA_CERTS DENO_CERT",
    },
    Way {
        whom: "curl, git, Python, Go, Rust (in the place of what they trust)",
        steps: "cat /etc/ssl/certs/ca-certificates.crt oriel-ca.pem > bundle.pem\nexport SSL_CERT_FILE=$PWD/bundle.pem CURL_CA_BUNDLE=$PWD/bundle.pem GIT_SSL_CAINFO=$PWD/bundle.pem REQUESTS_CA_BUNDLE=$PWD/bundle.pem",
        undo: "unset SSL_CERT_FILE CURL_CA_BUNDLE GIT_SSL_CAINFO REQUESTS_CA_BUNDLE",
    },
];

/// The whole page.
pub(super) fn html(authority: &Authority) -> String {
    let subject = escape_markup(authority.subject());
    let fingerprint = authority.sha256().map(|octet| format!("{octet:02X}"));
    let fingerprint = fingerprint.join(":");
    let until = store::json::rfc3339(authority.not_after());
    let mut html = format!(
        r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>oriel: the certificate</title>
<link rel="stylesheet" href="/style.css">
</head>
<body>
<h1>Trust this oriel</h1>
<p>This page comes from the oriel that your connection goes through. It makes certificates with the
authority <strong>{subject}</strong>, valid to {until}.</p>
<p>Compare the fingerprint with <code>oriel ca show</code> on the machine of the proxy before you trust it: whoever
is between you and oriel could have changed an unencrypted page.</p>
<pre>SHA-256 {fingerprint}</pre>
<p><strong>What it means:</strong> who has the key of this authority can read and change what you send to any site.
Install it only if oriel is yours, and take it out when you are done.
What <code>oriel run</code> starts needs none of this.</p>
<h2>Download</h2>
<ul>
<li><a href="/ca.pem">/ca.pem</a>: the certificate as text</li>
<li><a href="/ca.der">/ca.der</a>: the same for Windows and Android</li>
<li><a href="/ca.mobileconfig">/ca.mobileconfig</a>: a profile for iOS and macOS</li>
<li><a href="/ca.pem?chain=1">/ca.pem?chain=1</a>: with those that signed it, and those before it that still count</li>
</ul>
<p>Then see whether it worked: <a href="https://{HOST}/">https://{HOST}/</a> opens without a warning.</p>
<h2>What to do with it</h2>
<p>On the machine of the proxy <code>oriel ca install</code> does these for you, and <code>oriel ca uninstall</code> undoes
them.</p>
"#
    );
    for way in &WAYS {
        let _infallible = write!(
            html,
            "<h3>{}</h3>\n<pre>{}</pre>\n<p>Undo:</p>\n<pre>{}</pre>\n",
            escape_markup(way.whom),
            escape_lines(way.steps),
            escape_lines(way.undo),
        );
    }
    html.push_str("</body>\n</html>\n");
    html
}

fn escape_lines(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(escape_markup).collect();
    lines.join("\n")
}
