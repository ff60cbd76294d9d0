//! The project's file, `.oriel.toml`. It lies in a folder that the agent can write to, so it may
//! only make things stricter.

use std::path::{Path, PathBuf};

use crate::config::read::{ReadFile, Reading, read_named};
use crate::config::values::{Redact, SniMismatch, TlsVersion, Unlisted};
use crate::exit::Exit;
use crate::problem::{Excerpt, Problem};

/// Name of the file.
pub(crate) const NAME: &str = ".oriel.toml";

/// The file of the folder or of the nearest folder above it.
pub(crate) fn find(folder: &Path) -> Option<PathBuf> {
    folder
        .ancestors()
        .map(|folder| folder.join(NAME))
        .find(|path| path.is_file())
}

/// Reads the file, with everything that is wrong in it.
pub(crate) fn read(path: &Path) -> Reading {
    let mut reading = read_named(path);
    let loosenings = reading.file.as_ref().map(loosenings);
    reading.problems.extend(loosenings.unwrap_or_default());
    reading
}

/// Everything in the file that would make something less strict.
fn loosenings(file: &ReadFile) -> Vec<Problem> {
    file.spans
        .keys()
        .filter(|path| !tightens(file, path))
        .map(|path| loosening(file, path))
        .collect()
}

fn tightens(file: &ReadFile, path: &str) -> bool {
    match path {
        "intercept.unlisted" => file.values.intercept.unlisted == Some(Unlisted::Block),
        "intercept.sni_mismatch" => file.values.intercept.sni_mismatch == Some(SniMismatch::Deny),
        "intercept.strip_alt_svc" => file.values.intercept.strip_alt_svc == Some(true),
        "tls.min_version" => file.values.tls.min_version == Some(TlsVersion::Tls13),
        "capture.redact" => file.values.capture.redact == Some(Redact::Basic),
        _ => false,
    }
}

fn loosening(file: &ReadFile, path: &str) -> Problem {
    let span = file.spans.get(path).cloned().unwrap_or(0..0);
    let place = file.path.display().to_string();
    Problem::new(
        "ORL0404",
        Exit::Usage,
        format!("a project file may not set `{path}` so"),
    )
    .excerpt(Excerpt::of(&place, &file.text, span))
    .why(
        "an agent can write to the project, so its file may only make things stricter: \
         `intercept.unlisted = \"block\"`, `intercept.sni_mismatch = \"deny\"`, \
         `intercept.strip_alt_svc = true`, `tls.min_version = \"1.3\"`, \
         `capture.redact = \"basic\"`",
    )
    .fix("oriel config path      shows the user's own file, which may set it")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::read::parse;

    fn check(text: &str, refused: &[&str]) {
        let file = parse(Path::new(NAME), text.to_owned()).file.unwrap();
        let got: Vec<_> = loosenings(&file)
            .into_iter()
            .map(|problem| problem.what.clone())
            .collect();
        let expected: Vec<_> = refused
            .iter()
            .map(|path| format!("a project file may not set `{path}` so"))
            .collect();
        assert_eq!(got, expected, "{text}");
    }

    #[test]
    fn may_only_tighten() {
        check("[capture]\nredact = \"basic\"\n", &[]);
        check(
            "[intercept]\nunlisted = \"block\"\nstrip_alt_svc = true\n",
            &[],
        );
        check("[intercept]\nsni_mismatch = \"deny\"\n", &[]);
        check(
            "[intercept]\nsni_mismatch = \"allow\"\n",
            &["intercept.sni_mismatch"],
        );
        check("[tls]\nmin_version = \"1.3\"\n", &[]);
        check("[tls]\nmin_version = \"1.2\"\n", &["tls.min_version"]);
        check("[capture]\nredact = \"none\"\n", &["capture.redact"]);
        check(
            "[intercept]\nunlisted = \"tunnel\"\n",
            &["intercept.unlisted"],
        );
        check(
            "[intercept]\nstrip_alt_svc = false\nhttp3_passthrough = [\"*\"]\n",
            &["intercept.http3_passthrough", "intercept.strip_alt_svc"],
        );
        check(
            "[intercept]\nbypass = [\"*\"]\n[proxy]\nlisten = \":1\"\n",
            &["intercept.bypass", "proxy.listen"],
        );
    }
}
