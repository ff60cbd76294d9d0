//! `oriel ca rotate`: a new authority of the same kind takes the place of the one in use.

use std::path::Path;
use std::time::Duration;

use proxy::Authority;
use proxy::tls::authority::AuthorityError;
use traffic::Timestamp;

use super::import::{keep, refuse_configured, window};
use super::show;
use super::stale::Stale;
use crate::args::CaRotate;
use crate::authority::{AuthorityFiles, cannot_make, load_or_make, store_over, unwritable};
use crate::clock::now;
use crate::context::Context;
use crate::exit::Exit;
use crate::problem::Problem;
use crate::settings::Purpose;
use crate::trusted;

/// Longest common name that a number is added to; the whole has room for 64 characters.
const NUMBERED_CHARS_MAX: usize = 56;

pub(super) fn run(context: &Context, arguments: &CaRotate) -> Result<(), Problem> {
    let settings = context.settings(Purpose::Serve, arguments.data.layer())?;
    refuse_configured(&settings)?;
    let files = AuthorityFiles::of(&settings)?;
    let current = load_or_make(&settings, now())?;
    let issuer = current.links().into_iter().next();
    if let Some(issuer) = issuer.filter(|own| !own.self_signed) {
        let what = format!("{} was signed by another authority", current.subject());
        return Err(Problem::new("ORL0307", Exit::Usage, what)
            .why(format!("only {} can sign a new one", issuer.issuer))
            .fix("oriel ca import CERT --key FILE --replace"));
    }
    let name = match (&arguments.name, current.common_name()) {
        (Some(name), _) => name.clone(),
        (None, Some(name)) => next_name(&name),
        (None, None) => crate::authority::common_name(),
    };
    let new = current
        .successor(&name, arguments.days, now())
        .map_err(|error| cannot_make(&error))?;
    keep(&files, &current, arguments.overlap.0)?;
    let signed_until = sign(&files, &current, &new, arguments.overlap.0)?;
    store_over(&files, &new)?;
    let stale = Stale::of(&settings, &current, signed_until)?;
    show::show_changed(context, &settings, &new, Some(&stale))
}

/// Has the old authority sign the new one before its key is gone, if it may: what clients that trust
/// the old one alone need. Gives until when they take the new one's leaves.
fn sign(
    files: &AuthorityFiles,
    old: &Authority,
    new: &Authority,
    overlap: Duration,
) -> Result<Option<Timestamp>, Problem> {
    let until = window(old, overlap);
    let signed = match old.certify_successor(new, until, now()) {
        _ if overlap.is_zero() => return Ok(None),
        Err(AuthorityError::PathTooLong { .. }) => return Ok(None),
        signed => signed.map_err(|error| cannot_make(&error))?,
    };
    let folder = files.key.parent().unwrap_or_else(|| Path::new("."));
    let kept = trusted::keep_signed(folder, new, signed, until);
    kept.map_err(|error| unwritable(folder, &error))?;
    Ok(Some(until))
}

/// The name with a number, or with the next one. Some clients find an issuer by its name alone, so
/// that two of the same name would be taken for each other.
fn next_name(name: &str) -> String {
    let numbered = name.rsplit_once(" #").and_then(|(base, number)| {
        let number: u32 = number.parse().ok()?;
        Some((base, number.checked_add(1)?))
    });
    let (base, number) = numbered.unwrap_or((name, 2));
    let base: String = base.chars().take(NUMBERED_CHARS_MAX).collect();
    format!("{base} #{number}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_numbered() {
        assert_eq!(next_name("oriel on a"), "oriel on a #2");
        assert_eq!(next_name("oriel on a #2"), "oriel on a #3");
        assert_eq!(next_name("oriel #x"), "oriel #x #2");
        assert_eq!(next_name(&"x".repeat(64)).len(), 59);
    }
}
