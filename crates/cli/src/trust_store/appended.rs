//! A certificate at the end of a file of many, and out of it again, whatever others did to the
//! file meanwhile.

/// Whether what is added to a file has to end its last line first.
pub(super) fn ends_line(before: &[u8]) -> bool {
    !matches!(before.last(), None | Some(b'\n'))
}

/// What is added so that it stands on lines of its own: PEM below a line that says whose.
pub(super) fn text(ends_line: bool, name: &str, pem: &str) -> String {
    let line_end = if ends_line { "\n" } else { "" };
    format!("{line_end}{}{pem}", heading(name))
}

/// The line above a certificate that was added.
pub(super) fn heading(name: &str) -> String {
    format!("# {name}\n")
}

/// Whether a file holds a certificate.
pub(super) fn holds(file: &[u8], pem: &str) -> bool {
    position(file, pem.trim_end().as_bytes()).is_some()
}

/// The file without what was added; `None` if it is not in it. A tool that wrote the file anew from
/// the system's anchors has kept the certificate alone.
pub(super) fn without(file: &[u8], added: &str, pem: &str) -> Option<Vec<u8>> {
    let candidates = [added, added.trim_start(), pem, pem.trim_end()];
    candidates.into_iter().find_map(|text| {
        let at = position(file, text.as_bytes())?;
        let (before, rest) = file.split_at_checked(at)?;
        Some([before, rest.get(text.len()..)?].concat())
    })
}

fn position(file: &[u8], text: &[u8]) -> Option<usize> {
    file.windows(text.len().max(1))
        .position(|part| part == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEM: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

    #[test]
    fn what_was_added_goes_and_all_else_stays() {
        for before in ["", "one\n", "one"] {
            let added = text(ends_line(before.as_bytes()), "oriel-1", PEM);
            let file = format!("{before}{added}");
            assert!(holds(file.as_bytes(), PEM));
            assert_eq!(
                without(file.as_bytes(), &added, PEM).unwrap(),
                before.as_bytes()
            );
            // Others added something.
            let grown = format!("{file}two\n");
            let expected = format!("{before}two\n");
            assert_eq!(
                without(grown.as_bytes(), &added, PEM).unwrap(),
                expected.as_bytes()
            );
            // They took away what was before it, and did not end their line.
            let shrunk = format!("{}zero", added.trim_start());
            assert_eq!(without(shrunk.as_bytes(), &added, PEM).unwrap(), b"zero");
            // A tool wrote it anew.
            let anew = format!("zero\n{PEM}one\n");
            assert_eq!(
                without(anew.as_bytes(), &added, PEM).unwrap(),
                b"zero\none\n"
            );
            assert_eq!(without(b"zero\n", &added, PEM), None);
        }
    }
}
