//! A trust store for Java. A program that is pointed at one trusts nothing else, so it begins as a
//! copy of the roots that come with the Java whose `keytool` is on PATH.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use proxy::tls::pem;
use rustls_pki_types::CertificateDer;

use crate::authority::{make_private_folder, unwritable};
use crate::context::Context;
use crate::exit::Exit;
use crate::problem::Problem;

/// The password of Java's own store. It keeps nothing secret: the certificates are readable without.
const PASSWORD: &str = "changeit";

/// The bytes of a trust store with Java's roots and these certificates.
pub(super) fn trust_store(
    context: &Context,
    certificates: &[CertificateDer<'_>],
) -> Result<Vec<u8>, Problem> {
    let keytool = context.environment.find_program("keytool");
    let keytool = keytool.ok_or_else(|| cannot("there is no keytool on PATH"))?;
    let roots = roots_of(&keytool)?;
    let folder = &context.paths.runtime;
    make_private_folder(folder).map_err(|error| unwritable(folder, &error))?;
    let draft = Draft::beside(folder);
    let copied = std::fs::read(&roots).and_then(|roots| std::fs::write(&draft.store, roots));
    copied.map_err(|error| cannot(format!("cannot copy {}: {error}", roots.display())))?;
    for (position, certificate) in (1..).zip(certificates) {
        let text = pem::certificates(std::slice::from_ref(certificate));
        std::fs::write(&draft.certificate, text)
            .map_err(|error| unwritable(&draft.certificate, &error))?;
        import(&keytool, &draft, &format!("oriel-{position}"))?;
    }
    std::fs::read(&draft.store).map_err(|error| unwritable(&draft.store, &error))
}

/// The roots that come with a Java. `keytool` on PATH is mostly a link to that of the one in use.
fn roots_of(keytool: &Path) -> Result<PathBuf, Problem> {
    let home = std::fs::canonicalize(keytool).ok();
    let home = home.as_deref().and_then(|path| path.parent()?.parent());
    let roots = home.map(|home| home.join("lib/security/cacerts"));
    roots.filter(|roots| roots.is_file()).ok_or_else(|| {
        let keytool = keytool.display();
        cannot(format!("no lib/security/cacerts belongs to {keytool}"))
    })
}

fn import(keytool: &Path, draft: &Draft, alias: &str) -> Result<(), Problem> {
    let output = Command::new(keytool)
        .args(["-importcert", "-noprompt", "-storepass", PASSWORD])
        .args(["-alias", alias, "-keystore"])
        .arg(&draft.store)
        .arg("-file")
        .arg(&draft.certificate)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| cannot(format!("cannot run {}: {error}", keytool.display())))?;
    if output.status.success() {
        return Ok(());
    }
    // It tells its errors on stdout.
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    Err(cannot(format!("keytool says: {}", said.trim())))
}

fn cannot(why: impl Into<String>) -> Problem {
    Problem::new("ORL0312", Exit::Usage, "cannot make a Java trust store")
        .why(why)
        .fix("oriel ca export --format p12      Java reads it; it has no other roots")
}

/// Files that are gone when this is dropped.
struct Draft {
    store: PathBuf,
    certificate: PathBuf,
}

impl Draft {
    fn beside(folder: &Path) -> Self {
        let process = std::process::id();
        Self {
            store: folder.join(format!("java-{process}.store")),
            certificate: folder.join(format!("java-{process}.pem")),
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        for path in [&self.store, &self.certificate] {
            // It may never have been written.
            let _gone = std::fs::remove_file(path);
        }
    }
}
