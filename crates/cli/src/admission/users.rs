//! A file of users: a name, a colon, and the hash of the password in a line each.
//!
//! The hash is Argon2 in the PHC form (`$argon2id$v=19$m=19456,t=2,p=1$…`, RFC 9106), as `oriel auth
//! hash` writes it. Empty lines and lines that begin with `#` say nothing.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use argon2::password_hash::rand_core::OsRng;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Argon2, Params};
use proxy::{Login, Verifier, VerifierError};
use traffic::secret::Secret;

use crate::exit::Exit;
use crate::limits::USERS_FILE_BYTES_MAX;
use crate::problem::Problem;
use crate::secret_file;

/// The users of a file, as they were when it was read.
#[derive(Clone, Debug)]
pub(crate) struct Users {
    hashes: Arc<HashMap<String, Secret<String>>>,
    /// What the password of a stranger is held against, so that it takes as long.
    nobody: Secret<Arc<str>>,
}

/// Why a line of the file is none, or a user cannot be written there.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum UserError {
    #[error("it has no colon between a name and a hash")]
    NoColon,
    #[error("the name is empty, or has a colon or a control character")]
    Name,
    #[error("the hash is not one of Argon2: $argon2id$…")]
    Hash,
    #[error(
        "hashing takes more than 1 GiB of memory or 20 passes, which every wrong password would cost"
    )]
    TooCostly,
    #[error("the user is there twice")]
    Twice,
    #[error("the password cannot be hashed")]
    Unhashable,
}

impl Users {
    pub(crate) fn read(path: &Path) -> Result<Self, Problem> {
        let what = "the users of";
        let text = secret_file::read(path, USERS_FILE_BYTES_MAX, "ORL0107", what)?;
        Self::parse(&text).map_err(|(line, error)| {
            let what = format!("cannot read {what} {}", path.display());
            Problem::new("ORL0107", Exit::Usage, what)
                .why(format!("line {line}: {error}"))
                .fix("oriel auth hash NAME >> FILE     adds one")
        })
    }

    fn parse(text: &str) -> Result<Self, (usize, UserError)> {
        let mut hashes = HashMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, hash) = parse_line(line).map_err(|error| (number, error))?;
            if hashes
                .insert(name.to_owned(), hash.to_owned().into())
                .is_some()
            {
                return Err((number, UserError::Twice));
            }
        }
        let nobody = hash_password("").map_err(|error| (0, error))?;
        Ok(Self {
            hashes: Arc::new(hashes),
            nobody: Secret::new(nobody.into()),
        })
    }

    fn is_right(&self, login: &Login) -> bool {
        let known = self.hashes.get(&login.user);
        let hash = known.map_or_else(|| &**self.nobody.reveal(), |hash| hash.reveal().as_str());
        let Ok(hash) = PasswordHash::new(hash) else {
            return false;
        };
        let password = login.password.reveal().as_bytes();
        let matches = Argon2::default().verify_password(password, &hash).is_ok();
        matches && known.is_some()
    }
}

impl Verifier for Users {
    fn verify<'a>(
        &'a self,
        login: &'a Login,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<bool, VerifierError>> + Send + 'a>> {
        let (users, login) = (self.clone(), login.clone());
        Box::pin(async move {
            // It takes tens of milliseconds of a core.
            let verified = tokio::task::spawn_blocking(move || users.is_right(&login)).await;
            verified.map_err(|error| VerifierError(error.to_string()))
        })
    }
}

/// The line of a user with this password.
pub(crate) fn hash(name: &str, password: &str) -> Result<String, UserError> {
    check_name(name)?;
    Ok(format!("{name}:{}", hash_password(password)?))
}

fn hash_password(password: &str) -> Result<String, UserError> {
    let salt = SaltString::generate(&mut OsRng);
    let hashed = Argon2::default().hash_password(password.as_bytes(), &salt);
    hashed
        .map(|hash| hash.to_string())
        .map_err(|_error| UserError::Unhashable)
}

fn parse_line(line: &str) -> Result<(&str, &str), UserError> {
    let (name, hash) = line.split_once(':').ok_or(UserError::NoColon)?;
    check_name(name)?;
    let parsed = PasswordHash::new(hash).map_err(|_error| UserError::Hash)?;
    if !parsed.algorithm.as_str().starts_with("argon2") || parsed.hash.is_none() {
        return Err(UserError::Hash);
    }
    let cost = Params::try_from(&parsed).map_err(|_error| UserError::Hash)?;
    // In KiB.
    if cost.m_cost() > 1 << 20 || cost.t_cost() > 20 {
        return Err(UserError::TooCostly);
    }
    Ok((name, hash))
}

/// A name that Basic authentication can carry (RFC 7617 section 2).
fn check_name(name: &str) -> Result<(), UserError> {
    let fits = !name.is_empty() && !name.contains(|char: char| char == ':' || char.is_control());
    fits.then_some(()).ok_or(UserError::Name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_user_is_read_again() {
        let text = format!(
            "# people\n\n{}\n  {}  \n",
            hash("dana", "pa:ss").unwrap(),
            hash("üser", "").unwrap()
        );
        let users = Users::parse(&text).unwrap();
        for (user, password, right) in [
            ("dana", "pa:ss", true),
            ("dana", "pa:sS", false),
            ("Dana", "pa:ss", false),
            ("üser", "", true),
            // What strangers are held against is the empty password.
            ("nobody", "", false),
        ] {
            assert_eq!(users.is_right(&Login::new(user, password)), right, "{user}");
        }
        assert!(!format!("{users:?}").contains("argon2"));
    }

    #[test]
    fn a_wrong_line_is_named() {
        let good = hash("dana", "secret").unwrap();
        let costly = good.replace("m=19456,t=2", "m=2097152,t=2");
        for (line, error) in [
            ("dana", UserError::NoColon),
            (":$argon2id$", UserError::Name),
            ("a\tb:x", UserError::Name),
            ("dana:secret", UserError::Hash),
            ("dana:$2y$05$abcdefghijklmnopqrstuu", UserError::Hash),
            (
                "dana:$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ",
                UserError::Hash,
            ),
            (&costly, UserError::TooCostly),
            (&good, UserError::Twice),
        ] {
            let text = format!("{good}\n{line}\n");
            assert_eq!(Users::parse(&text).unwrap_err(), (2, error), "{line}");
        }
        assert_eq!(hash("a:b", "x"), Err(UserError::Name));
    }
}
