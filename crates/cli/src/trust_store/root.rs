//! A file system that trust is installed into: the machine's own, or one that lies in a folder (a
//! container's). In a folder every path is followed as a program inside would follow it, so that a
//! link to `/etc/ssl` leads into the folder and never out of it.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::limits::LINKS_FOLLOWED_MAX;

/// The file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Root {
    /// That of this machine.
    Machine,
    /// That in this folder. Nobody else may change it meanwhile.
    Folder(PathBuf),
}

impl Root {
    /// The one in a folder.
    pub(crate) fn folder(path: &Path) -> io::Result<Self> {
        let folder = path.canonicalize()?;
        match folder.is_dir() {
            true => Ok(Self::Folder(folder)),
            false => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    /// What names it in the journal.
    pub(crate) fn name(&self) -> &Path {
        match self {
            Self::Machine => Path::new("/"),
            Self::Folder(folder) => folder,
        }
    }

    /// Where a path of this file system is, with every link followed; what is not there yet keeps
    /// its name.
    pub(crate) fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        let mut left = parts(path);
        let mut inside = PathBuf::new();
        let mut links = 0;
        while let Some(part) = left.pop_front() {
            if part == ".." {
                inside.pop();
                continue;
            }
            let next = inside.join(&part);
            let Ok(to) = std::fs::read_link(self.name().join(&next)) else {
                inside = next;
                continue;
            };
            links += 1;
            if links > LINKS_FOLLOWED_MAX {
                return Err(io::Error::other(format!(
                    "{}: too many links",
                    path.display()
                )));
            }
            if to.is_absolute() {
                inside = PathBuf::new();
            }
            for part in parts(&to).into_iter().rev() {
                left.push_front(part);
            }
        }
        Ok(self.name().join(inside))
    }

    /// The same without following the last part.
    pub(crate) fn resolve_name(&self, path: &Path) -> io::Result<PathBuf> {
        let folder = path.parent().unwrap_or_else(|| Path::new("/"));
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.resolve(folder)?.join(name))
    }
}

/// The names in a path; `..` is among them.
fn parts(path: &Path) -> VecDeque<OsString> {
    let part = |component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_stay_within_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(at.join("etc/real")).unwrap();
        symlink("/etc/real", at.join("etc/absolute")).unwrap();
        symlink("../../../../etc/real", at.join("etc/relative")).unwrap();
        symlink("loop", at.join("etc/loop")).unwrap();
        symlink("/etc/passwd", at.join("etc/real/file")).unwrap();
        let root = Root::folder(&at).unwrap();
        for (path, found) in [
            ("/etc/absolute/x", "etc/real/x"),
            ("/etc/relative/x", "etc/real/x"),
            ("/etc/real/file", "etc/passwd"),
            ("/../../etc/../x", "x"),
            ("/new/folder/x", "new/folder/x"),
        ] {
            assert_eq!(
                root.resolve(Path::new(path)).unwrap(),
                at.join(found),
                "{path}"
            );
        }
        let named = root.resolve_name(Path::new("/etc/absolute/file")).unwrap();
        assert_eq!(named, at.join("etc/real/file"));
        root.resolve(Path::new("/etc/loop/x")).unwrap_err();
    }
}
