//! Says who has a port that was asked for.

use std::net::SocketAddr;

use crate::exit::Exit;
use crate::problem::Problem;
use crate::sockets;

/// The problem of a port in use, with its holder as far as it can be told.
pub(crate) fn port_in_use(address: SocketAddr, flag: &'static str) -> Problem {
    let what = format!("port {} is in use", address.port());
    let mut problem = Problem::new("ORL0103", Exit::Busy, what);
    problem = match sockets::listener_on(address) {
        Some(pid) => {
            let name = sockets::name_of(pid).unwrap_or_else(|| "a program".to_owned());
            let stop = match &*name {
                "oriel" => {
                    format!("stop it:           oriel stop, or kill {pid} if it is no service")
                }
                _ => format!("stop it:           kill {pid}"),
            };
            problem
                .why(format!("{name} (pid {pid}) listens on {address}"))
                .fix(stop)
        }
        None => problem.why(format!(
            "another program listens on {address}; which one cannot be told from here"
        )),
    };
    problem.fix(format!("or another port:   {flag} {}:0", address.ip()))
}
