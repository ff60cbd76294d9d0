//! Whose a folder is. Where everybody may make folders, as in /tmp, somebody else may have made ours first,
//! and could read or replace what we put there.

use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use crate::authority::make_private_folder;
use crate::exit::Exit;
use crate::problem::Problem;

/// The user that may do everything, whoever a file belongs to.
const ROOT: u32 = 0;

/// Makes a folder that nobody else can enter, or sees to it that one that is there is such a folder.
pub(crate) fn claim(folder: &Path) -> io::Result<()> {
    make_private_folder(folder)?;
    claim_for(folder, user())
}

fn claim_for(folder: &Path, user: u32) -> io::Result<()> {
    let facts = std::fs::symlink_metadata(folder)?;
    if !facts.is_dir() || facts.uid() != user {
        return Err(io::Error::other("it is not our folder"));
    }
    if facts.mode() & 0o077 != 0 {
        let private = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(folder, private)?;
    }
    Ok(())
}

/// The problem of a folder that somebody else made. One that is not there yet is none, nor one of
/// root's; root may use everybody's.
pub(crate) fn refuse_foreign(folder: &Path) -> Result<(), Problem> {
    match foreign_owner(folder, user()) {
        Some(owner) => Err(foreign(folder, &format!("it belongs to the user {owner}"))),
        None => Ok(()),
    }
}

/// Another user that a folder belongs to, or a link in its place.
fn foreign_owner(folder: &Path, user: u32) -> Option<u32> {
    if user == ROOT {
        return None;
    }
    let facts = [std::fs::symlink_metadata(folder), std::fs::metadata(folder)];
    let owners = facts.into_iter().flatten().map(|facts| facts.uid());
    owners
        .into_iter()
        .find(|owner| ![user, ROOT].contains(owner))
}

/// The problem of a folder that cannot be ours.
pub(crate) fn foreign(folder: &Path, why: &str) -> Problem {
    let what = format!("{} cannot be used: it is not ours alone", folder.display());
    Problem::new("ORL0715", Exit::Permission, what)
        .why(format!(
            "{why}, so somebody else could read what is stored there, or put another certificate authority in its place"
        ))
        .fix("name a folder of your own:  --data DIR or ORIEL_DATA")
        .fix("or a home, in which there is one:  HOME=DIR oriel …")
}

fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_somebody_else_is_not_ours() {
        let folder = tempfile::tempdir().unwrap();
        let owner = folder.path().metadata().unwrap().uid();
        let other = owner + 4711;
        assert!(claim_for(folder.path(), owner).is_ok());
        assert!(claim_for(folder.path(), other).is_err());
        // What is root's is not somebody else's.
        let expected = (owner != ROOT).then_some(owner);
        assert_eq!(foreign_owner(folder.path(), other), expected);
        assert_eq!(foreign_owner(folder.path(), owner), None);
        assert_eq!(foreign_owner(folder.path(), ROOT), None);
        assert_eq!(foreign_owner(&folder.path().join("none"), other), None);
    }

    #[test]
    fn a_link_is_not_claimed_and_a_wide_folder_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let wide = folder.path().join("wide");
        std::fs::create_dir(&wide).unwrap();
        std::fs::set_permissions(&wide, std::fs::Permissions::from_mode(0o777)).unwrap();
        claim(&wide).unwrap();
        assert_eq!(wide.metadata().unwrap().mode() & 0o777, 0o700);
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&wide, &link).unwrap();
        assert!(claim(&link).is_err());
    }
}
