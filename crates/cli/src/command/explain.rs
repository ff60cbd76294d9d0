//! `oriel explain`: what an error code means, offline.

use crate::context::Context;
use crate::exit::Exit;
use crate::output::{print, print_json};
use crate::problem::Problem;
use traffic::spelling::nearest;

/// A code and what it means.
pub(crate) struct Entry {
    pub(crate) code: &'static str,
    pub(crate) title: &'static str,
    pub(crate) text: &'static str,
}

/// Every code that the program prints.
#[rustfmt::skip]
pub(crate) const ENTRIES: &[Entry] = &[
    entry("ORL0001", "the command line is wrong",
        "A flag, a value or a command is not known, or one is missing. `oriel help COMMAND` shows them with examples."),
    entry("ORL0002", "a program was named where a command of oriel belongs",
        "oriel never guesses that you want to run something. Write: oriel run -- PROGRAM"),
    entry("ORL0005", "no such flow or run",
        "Ids look like k7q2 (a run) and k7q2.31 (its 31st flow). @last is the newest run, @-2 the one before it. `oriel flows` lists ids."),
    entry("ORL0006", "the id may mean more than one run",
        "Type more of its letters, or the whole id."),
    entry("ORL0007", "the filter cannot be read",
        "A filter is key:value terms with spaces between them, for example `host:api.openai.com status:>=400 -method:GET`. OR and ( ) combine them; bare words search the URL."),
    entry("ORL0008", "the output cannot be written",
        "stdout, or a file that was named for output, does not take what is written to it: the disk is full, or the folder is not there."),
    entry("ORL0009", "a file cannot be imported",
        "`oriel import` reads HAR 1.2, the JSON lines of `oriel export` and flow files of mitmproxy (format 7 and later). Where a file is damaged, what stands before is imported."),
    entry("ORL0101", "cannot listen on an address",
        "The address is not one of this machine, or the port needs a permission (ports below 1024 on most systems)."),
    entry("ORL0102", "listening off loopback without credentials",
        "Everybody who reaches the address could use the proxy, and would see what it may reach. Listen on 127.0.0.1, or accept it by name: --danger-listen-without-credentials."),
    entry("ORL0103", "the port is in use",
        "Another program listens there. Use that one, stop it, or choose another port with --listen; port 0 lets the system choose."),
    entry("ORL0104", "the admin address is not a loopback address",
        "The admin port has no credentials yet, so it listens on this machine only."),
    entry("ORL0105", "a rule about hosts cannot be read",
        "Patterns are exact names (api.openai.com), suffixes (*.openai.com), * for every host, addresses and ranges of addresses, each with an optional :port."),
    entry("ORL0106", "the TLS of a listener cannot be set up",
        "proxy.tls and the tls of a reverse listener take a certificate chain and its key in PEM form, or names that oriel's authority signs for."),
    entry("ORL0107", "who may use the proxy cannot be read",
        "proxy.auth names a file of users, a program, a URL, or any_password: exactly one. The file has name:$argon2id$… in each line, which oriel auth hash NAME writes, and nobody but its owner may read it."),
    entry("ORL0108", "an upstream proxy cannot be used",
        "Its credentials are user:password; a file with them is readable by its owner only. SOCKS 5 wants both a user name and a password."),
    entry("ORL0109", "a gateway route cannot be used",
        "Each of gateway.routes names hosts, and either to, the URL of the gateway, or block = true. The token comes from the client's login to the proxy or from a file that nobody but its owner may read."),
    entry("ORL0201", "the command was not found",
        "oriel looks for the command on PATH, as a shell does. Aliases and functions of a shell are not programs: oriel run -- bash -ic 'NAME'."),
    entry("ORL0202", "the command cannot be executed",
        "The file is there, but it is not executable, is a folder, or is for another kind of machine."),
    entry("ORL0203", "the command could not be started",
        "The system refused to start it, or its working folder is not there."),
    entry("ORL0204", "capturing broke while the command ran",
        "With --strict the command is stopped (SIGTERM, five seconds later SIGKILL) when what it does cannot be stored, and the exit code is 125. Without it the command goes on, and the summary says what is missing."),
    entry("ORL0205", "base URLs have nowhere to lead",
        "With --env-mode base-url a command is sent to a gateway by OPENAI_BASE_URL, ANTHROPIC_BASE_URL and their like, and oriel has to stand in front of it: oriel run --pair URL does for one command, oriel start --pair URL for all."),
    entry("ORL0206", "the run is to fail on this",
        "The command succeeded, and what it asked for did not keep to --fail-on, so the exit code is 99. A figure that is not known, as what was captured has a gap, counts as one that fails. The summary has all figures (--summary full, --summary-file FILE)."),
    entry("ORL0210", "no traffic reached oriel",
        "The command made no connection, or made it past the proxy: some programs ignore HTTPS_PROXY, and NO_PROXY takes hosts out of it."),
    entry("ORL0211", "the upstream proxy was in the way",
        "oriel reaches upstreams through the proxy that upstream_proxy.url names; a run also through the one that HTTPS_PROXY or ALL_PROXY named before. That proxy could not be reached, wants credentials, or refused. Give it what it wants, take hosts out of it (upstream_proxy.no_proxy, NO_PROXY), or go past it: --upstream-proxy off."),
    entry("ORL0220", "variables of proxies fight each other",
        "Programs read HTTP_PROXY or http_proxy, HTTPS_PROXY or https_proxy: both should say the same. `oriel run` sets all of them for what it starts, and reaches upstreams through the proxy that was set before."),
    entry("ORL0221", "hosts go past the proxy",
        "NO_PROXY takes hosts out of every proxy, so that oriel sees nothing of calls to them. `oriel run` keeps it, since some servers are reachable in no other way."),
    entry("ORL0222", "a variable names roots that cannot be read",
        "SSL_CERT_FILE, NODE_EXTRA_CA_CERTS and their like name files with the certificates to trust. Where the file is missing, a program trusts nothing, or fails to start. `oriel run` sets most of them to a bundle of its own."),
    entry("ORL0223", "certificates are not verified",
        "A variable switches verifying off: whoever is on the way could answer in the place of any host. oriel needs no such variable; unset it."),
    entry("ORL0224", "a certificate ends soon",
        "Once it has expired no client takes it, nor what it signed. `oriel ca rotate` makes a new authority and keeps the old one trusted for a while."),
    entry("ORL0225", "the clock is wrong",
        "A certificate, or a file that oriel wrote, is from the future. TLS fails on a machine whose clock is wrong, in both directions."),
    entry("ORL0226", "others can read what is kept",
        "What was captured is for you alone: folders have mode 0700, files 0600. Somebody changed it."),
    entry("ORL0227", "there is little free space",
        "oriel goes on passing traffic when the disk is full, but cannot keep it."),
    entry("ORL0228", "a stream does not come through",
        "`oriel doctor` sent an event stream and a WebSocket through oriel to an upstream of its own, all on this machine, and they did not arrive as they happened. Something on this machine gets hold of connections over loopback."),
    entry("ORL0229", "nothing was repaired",
        "`oriel doctor --fix` asks before it changes the mode of files, and nobody was there to be asked. --yes does it without asking."),
    entry("ORL0301", "others can read the authority's key",
        "Who has the key can pretend to be any host towards everyone who trusts the certificate. Make it yours alone: chmod 600 FILE."),
    entry("ORL0302", "the certificate authority cannot be used",
        "The certificate or the key is not PEM, they are not a pair, or the certificate is not that of an authority. Move the file away and oriel makes a new one."),
    entry("ORL0303", "the certificate authority has expired",
        "No client takes a certificate that it signs. `oriel ca rotate` makes a new one; clients that were given the old one have to be given the new one (oriel ca export)."),
    entry("ORL0304", "half a certificate authority",
        "An authority is a certificate and its key. Give both --ca-cert and --ca-key, or neither."),
    entry("ORL0305", "a file of upstream certificates cannot be read",
        "--upstream-ca names a PEM file with certificates to trust besides the system's."),
    entry("ORL0306", "a certificate cannot be made as it was asked for",
        "Names have 1 to 64 characters, lifetimes 1 to 3650 days. --only takes host names, which stand for every name below them too, addresses, and ranges such as 10.0.0.0/8."),
    entry("ORL0307", "there is a certificate authority already",
        "oriel does not overwrite one, since whoever trusts it would not trust another. `oriel ca rotate` makes a new one, `oriel ca import --replace` takes one from elsewhere; both keep the old one trusted for a while."),
    entry("ORL0308", "another authority cannot be signed",
        "A request (oriel ca csr, openssl req -new) is PEM or DER and signed by its own key. Who signs must be allowed to have authorities below it: its path length says how many."),
    entry("ORL0309", "the chain of an authority does not hold",
        "The file has the authority's certificate, then the one that signed it, and so on to the root. Each must be signed by the key of the next, be valid today, and be allowed to sign authorities. `oriel ca verify` says what is wrong."),
    entry("ORL0310", "the client does not trust oriel's certificate",
        "The program has its own list of trusted certificates, pins the one it expects, or what started it set another file in place of the one that oriel names in its environment; where that was seen, the message names the variable. Set such a variable before oriel and not behind, add oriel's certificate to the program's list (oriel ca export), or leave the host unopened: --bypass HOST."),
    entry("ORL0311", "an upstream's certificate is not trusted",
        "oriel verifies upstreams, since the client sees oriel's certificate and cannot. Trust the issuer (--upstream-ca FILE), or accept it for one host by name (--danger-accept-invalid-upstream HOST): every flow it touches is marked."),
    entry("ORL0312", "a Java trust store cannot be made",
        "`oriel ca export --format java` copies the roots of the Java whose keytool is on PATH and adds oriel's certificate with it. Without keytool take --format p12: Java reads it, but it has no other roots."),
    entry("ORL0313", "the certificate cannot be installed",
        "There is no store of the kind that was asked for, the program that changes it is missing (certutil of NSS, keytool of Java), or nobody was there to be asked. `oriel ca install --dry-run` shows what would be touched."),
    entry("ORL0314", "not allowed to change what programs trust",
        "The system's store belongs to root. Root has another home, so name your data folder: sudo oriel ca install --store system --data ~/.local/share/oriel. Nothing was changed."),
    entry("ORL0315", "a change of what programs trust failed",
        "An installation that fails is undone. What could not be undone stays written down: `oriel ca uninstall` tries it again."),
    entry("ORL0316", "a trust store has a password",
        "A certificate database of NSS (Firefox: the primary password) or a Java key store does not open with the password that it mostly has. Put the password into a file of mode 0600 and name it: --nss-password-file FILE, --java-password-file FILE. The other stores were changed."),
    entry("ORL0317", "another oriel is changing what programs trust",
        "Two at once could lose what the other wrote down, so one waits for the other, a minute at most. Try again when it has ended."),
    entry("ORL0318", "a journal lists what oriel does not do",
        "What was installed is written down in trust.json. Root may read one that others can write to, so nothing in it is believed: an entry has to be a step that oriel takes for that certificate, at a path that oriel knows, and no command stands in it. Other entries are neither undone nor forgotten. Look who wrote them."),
    entry("ORL0400", "the config file cannot be read",
        "The file that --config or ORIEL_CONFIG names is not there, or may not be read."),
    entry("ORL0401", "the config file is not TOML",
        "The caret stands where reading stopped."),
    entry("ORL0402", "unknown key",
        "A key that oriel does not know would have no effect, so it is an error. `oriel config schema` lists all keys."),
    entry("ORL0403", "wrong value",
        "The value is not of the kind that the key takes. `oriel config schema` says which kind that is."),
    entry("ORL0404", "a project file may only tighten",
        "`.oriel.toml` lies in a folder that the agent can write to. It may block and redact more, never less. Put other settings into your own file (oriel config path)."),
    entry("ORL0405", "a variable has a wrong value",
        "Variables are read like the config file's values; lists have commas. `oriel man` lists all of them."),
    entry("ORL0406", "the config file is there already",
        "`oriel config init` never overwrites a file."),
    entry("ORL0407", "a setting cannot change while oriel runs",
        "Where oriel listens, what it stores and how it logs is set when it starts. The other changes were not taken either, so that a configuration is in force as a whole or not at all. Restart oriel, or undo the change."),
    entry("ORL0702", "a folder or file cannot be written",
        "Choose another data folder with --data DIR or ORIEL_DATA, or make the folder writable."),
    entry("ORL0703", "the database is locked",
        "Another process keeps it locked for longer than oriel waits. Capturing does not need it at once: that goes on beside it, in the spool."),
    entry("ORL0704", "the database is newer than this program",
        "A newer oriel wrote it. Update this one, or use another data folder."),
    entry("ORL0705", "the database is damaged",
        "The file is no SQLite database, or parts of it are broken. Move it away and oriel begins a new one."),
    entry("ORL0706", "the disk is full",
        "Free some space, or use a data folder on another disk with --data DIR."),
    entry("ORL0707", "the store failed",
        "Reading or writing the database failed; the reason given is the system's or SQLite's."),
    entry("ORL0708", "the archive cannot be used now",
        "The database that `database.url` names cannot be reached or takes nothing at present; the reason given is its own. What is captured waits in the file of this machine meanwhile, and --data DIR reads that."),
    entry("ORL0709", "a database refuses this content",
        "It will refuse it each time; the reason given is its own."),
    entry("ORL0710", "the URL of a database cannot be used",
        "It says something that is not known, or the server that it names is too old or not in UTF-8. The message says which."),
    entry("ORL0711", "texts are not indexed here",
        "`oriel flows search` and `text:` of a filter look words up in an index beside a file (oriel.search.db), or beside the flows of an archive. This archive was made by an older oriel: `oriel db migrate` adds them, and flows that come from then on have theirs."),
    entry("ORL0712", "what was captured waits in the spool",
        "The database could not be written when the run ended, so its flows are in files beside it, as durable as it is. The next oriel that can write to the database merges them: each flow once, with the run it belongs to. The reason given is why it cannot be written."),
    entry("ORL0713", "the archive is older than this program",
        "Its tables are those of an older oriel. `oriel db migrate` brings them up to date; whoever owns them may have to do it, with what `oriel db schema` prints."),
    entry("ORL0715", "a folder belongs to somebody else",
        "oriel keeps what it captures, and its certificate authority, in folders that are yours alone. Where there is no HOME that is oriel-UID in $TMPDIR or /tmp, where others can make folders too: one that they made is not used. --data DIR, ORIEL_DATA or HOME name another."),
    entry("ORL0801", "the network failed",
        "Something that this command needs from the network, on this machine or another, did not work."),
    entry("ORL0901", "a file of the service cannot be used",
        "The service keeps its process id and its control socket in $XDG_RUNTIME_DIR/oriel (without it in ~/.cache/oriel/runs), which must be yours alone, and its log in $XDG_STATE_HOME/oriel. The path of a socket has at most 107 octets."),
    entry("ORL0902", "the service does not answer",
        "It runs, since it holds its lock, but says nothing: it was stopped by a signal, or waits for a disk. `oriel stop` ends it, by force if need be."),
    entry("ORL0903", "the service could not be started",
        "It ended before it served, or did not serve in time. What it said stands above, or in `oriel logs`; `oriel serve` shows it in the foreground."),
    entry("ORL0904", "the service cannot be restarted",
        "A service in the foreground belongs to whoever waits for its end, so no other process can take its place; and one restart has to end before the next. Under a service manager that is told how it goes (Type=notify), and after `oriel start`, it can."),
    entry("ORL0905", "the service does not run",
        "What was asked for needs a service that runs: oriel start."),
    entry("ORL7000", "a mistake in oriel",
        "oriel ended with code 70. What is known of it is in a crash-….txt in $XDG_STATE_HOME/oriel (`oriel config path` prints where), with credentials masked: look through it, and send it along with the report. A mistake beside a command ends nothing else, but leaves such a file too."),
];

const fn entry(code: &'static str, title: &'static str, text: &'static str) -> Entry {
    Entry { code, title, text }
}

pub(crate) fn run(context: &Context, code: Option<&str>) -> Result<Exit, Problem> {
    let chosen: Vec<&Entry> = match code {
        Some(code) => vec![find(code)?],
        None => ENTRIES.iter().collect(),
    };
    if context.json() {
        let items: Vec<_> = chosen.iter().map(|entry| to_json(entry)).collect();
        let document = serde_json::json!({"schema": "oriel.explain/1", "items": items});
        print_json(&document)?;
        return Ok(Exit::Success);
    }
    let text: String = match code {
        Some(_) => chosen
            .iter()
            .map(|entry| format!("{}: {}\n\n{}\n", entry.code, entry.title, entry.text))
            .collect(),
        None => chosen
            .iter()
            .map(|entry| format!("{}  {}\n", entry.code, entry.title))
            .collect(),
    };
    print(&text)?;
    Ok(Exit::Success)
}

fn to_json(entry: &Entry) -> serde_json::Value {
    serde_json::json!({"code": entry.code, "title": entry.title, "text": entry.text})
}

fn find(code: &str) -> Result<&'static Entry, Problem> {
    let wanted = code.to_ascii_uppercase();
    ENTRIES
        .iter()
        .find(|entry| entry.code == wanted)
        .ok_or_else(|| {
            let problem =
                Problem::new("ORL0001", Exit::Unknown, format!("there is no code {code}"));
            match nearest(&wanted, ENTRIES.iter().map(|entry| entry.code)) {
                Some(near) => problem.fix(format!("oriel explain {near}")),
                None => problem.fix("oriel explain      lists all codes"),
            }
        })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    /// Collects the codes that are written in the sources below a folder.
    fn codes_in(folder: &Path, codes: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                codes_in(&path, codes);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let found = text
                    .match_indices("\"ORL")
                    .filter_map(|(at, _)| text.get(at + 1..at + 8));
                let is_code = |code: &&str| code.bytes().skip(3).all(|byte| byte.is_ascii_digit());
                codes.extend(found.filter(is_code).map(str::to_owned));
            }
        }
    }

    #[test]
    fn every_code_in_the_sources_is_explained() {
        let mut used = BTreeSet::new();
        codes_in(
            &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
            &mut used,
        );
        let explained: BTreeSet<_> = ENTRIES.iter().map(|entry| entry.code.to_owned()).collect();
        assert_eq!(explained.len(), ENTRIES.len(), "a code is explained twice");
        assert_eq!(used.difference(&explained).collect::<Vec<_>>(), [""; 0]);
    }
}
