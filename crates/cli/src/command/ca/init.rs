//! `oriel ca init`: makes an authority as it is asked for, and never in the place of another.

use proxy::Authority;
use proxy::tls::authority::NewAuthority;
use proxy::tls::constraints::Subtree;

use super::{settings, show};
use crate::args::CaInit;
use crate::authority::{AuthorityFiles, StoreError, cannot_make, common_name, is_own, store_new};
use crate::clock::now;
use crate::context::Context;
use crate::exit::Exit;
use crate::problem::Problem;

pub(super) fn run(context: &Context, arguments: &CaInit) -> Result<(), Problem> {
    let settings = settings(context, &arguments.authority)?;
    let files = AuthorityFiles::of(&settings)?;
    let new = NewAuthority {
        common_name: arguments.name.clone().unwrap_or_else(common_name),
        organization: arguments.organization.clone(),
        key: arguments.key.into(),
        days: arguments.days,
        path_length: arguments.path_length,
        only: subtrees(&arguments.only)?,
    };
    let authority = Authority::create(&new, now()).map_err(|error| cannot_make(&error))?;
    store_new(&files, &authority).map_err(|error| match error {
        StoreError::Problem(problem) => problem,
        StoreError::Exists(path) => {
            let what = format!("there is a certificate authority in {}", path.display());
            let problem = Problem::new("ORL0307", Exit::Usage, what)
                .why("whoever trusts it would not trust the certificates of another");
            match is_own(&settings) {
                true => problem
                    .fix("oriel ca show        shows it")
                    .fix("oriel ca rotate      takes its place; it stays trusted for a while"),
                false => problem.fix("name other files:  --ca-cert FILE --ca-key FILE"),
            }
        }
    })?;
    show::show(context, &settings, &authority)
}

/// The hosts of `--only`.
pub(super) fn subtrees(texts: &[String]) -> Result<Vec<Subtree>, Problem> {
    let parsed = texts.iter().map(|text| text.parse::<Subtree>());
    parsed.collect::<Result<_, _>>().map_err(|error| {
        Problem::new("ORL0306", Exit::Usage, "cannot make the certificate").why(error.to_string())
    })
}
