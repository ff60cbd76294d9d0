//! A Python script of ours that drives a client and a server that others wrote. The client trusts
//! the server's authority when direct and oriel's alone otherwise, so that it has no other way.

use std::ffi::OsStr;

use super::place::{Place, Run, Way};
use super::python::interpreter;
use super::verdicts::Verdicts;
use crate::failure::Failure;
use crate::tidy::workspace_root;

/// The script and what it is told.
pub(super) struct Script {
    /// The name of the run's files.
    pub(super) run: &'static str,
    /// The file beside this one.
    pub(super) file: &'static str,
    pub(super) arguments: &'static [&'static str],
}

/// What the script said each way.
pub(super) struct Said {
    pub(super) direct: Verdicts,
    pub(super) through: Verdicts,
    /// How many requests oriel recorded.
    pub(super) flows: u64,
}

impl Script {
    pub(super) fn run(&self, place: &Place) -> Result<Said, Failure> {
        let _proxy = place.authority("script-proxy")?;
        let _upstream = place.authority("script-upstream")?;
        let (direct, _) = self.run_one(place, Way::Direct)?;
        let (through, flows) = self.run_one(place, Way::Through)?;
        Ok(Said {
            direct,
            through,
            flows,
        })
    }

    fn run_one(&self, place: &Place, way: Way) -> Result<(Verdicts, u64), Failure> {
        let folder = workspace_root().join("xtask/src/conformance");
        let (python, script) = (interpreter(place), folder.join(self.file));
        let verdicts = place.fresh("script.verdicts")?;
        let (proxy, proxy_key) = (
            place.path("script-proxy.pem"),
            place.path("script-proxy.key"),
        );
        let (upstream, upstream_roots) = (
            place.path("script-upstream"),
            place.path("script-upstream.pem"),
        );
        let roots = match way {
            Way::Direct => &upstream_roots,
            Way::Through => &proxy,
        };
        let run = Run {
            name: self.run,
            way,
            options: &[
                OsStr::new("--ca-cert"),
                proxy.as_ref(),
                OsStr::new("--ca-key"),
                proxy_key.as_ref(),
                OsStr::new("--upstream-ca"),
                upstream_roots.as_ref(),
            ],
            variables: &[
                ("PYTHONDONTWRITEBYTECODE", "1".as_ref()),
                ("CONFORMANCE_UPSTREAM", upstream.as_ref()),
                ("CONFORMANCE_ROOTS", roots.as_ref()),
                ("CONFORMANCE_VERDICTS", verdicts.as_ref()),
            ],
            folder: &place.path("home"),
        };
        let mut words: Vec<&OsStr> = vec![python.as_ref(), script.as_ref()];
        words.extend(self.arguments.iter().map(OsStr::new));
        let outcome = place.run(&run, &words)?;
        Ok((Verdicts::read(&verdicts)?, outcome.flows()))
    }
}
