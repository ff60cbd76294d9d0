//! Applications of macOS are folders whose names end in `.app`; `Contents/Info.plist` has their
//! identifier (Apple, "Bundle Programming Guide").

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

/// Octets read of an `Info.plist`, which has a few kilobytes.
const INFO_BYTES_MAX: u64 = 1024 * 1024;

/// The identifier of the application that a program belongs to: of the innermost, where one holds
/// another.
pub(super) fn identifier(exe: &Path) -> Option<String> {
    let is_bundle = |folder: &&Path| folder.extension().is_some_and(|ending| ending == "app");
    let bundle = exe.ancestors().skip(1).find(is_bundle)?;
    let mut text = Vec::new();
    let file = File::open(bundle.join("Contents/Info.plist")).ok()?;
    file.take(INFO_BYTES_MAX).read_to_end(&mut text).ok()?;
    let info = plist::Value::from_reader(Cursor::new(text)).ok()?;
    let identifier = info.as_dictionary()?.get("CFBundleIdentifier")?;
    identifier.as_string().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_bundle_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let outer = folder.path().join("Editor.app/Contents");
        let inner = outer.join("Frameworks/Helper.app/Contents");
        std::fs::create_dir_all(inner.join("MacOS")).unwrap();
        for (contents, id) in [(&outer, "test.editor"), (&inner, "test.editor.helper")] {
            let info = plist::Dictionary::from_iter([("CFBundleIdentifier", id)]);
            let info = plist::Value::Dictionary(info);
            info.to_file_binary(contents.join("Info.plist")).unwrap();
        }
        let of = |path: &Path| identifier(path);
        let helper = Some("test.editor.helper".to_owned());
        assert_eq!(of(&inner.join("MacOS/helper")), helper);
        assert_eq!(of(&outer.join("MacOS/editor")).unwrap(), "test.editor");
        assert_eq!(of(Path::new("/usr/bin/curl")), None);
        std::fs::write(outer.join("Info.plist"), "bplist00 or not").unwrap();
        assert_eq!(of(&outer.join("MacOS/editor")), None);
    }
}
