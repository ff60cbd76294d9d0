//! Autobahn's case files for WebSockets, run by kosoku. `websocket_cases.py` has the client,
//! `websocket_server.py` the server, which is of the library websockets.

use std::collections::BTreeMap;

use super::place::Place;
use super::python::version_of;
use super::report::Comparison;
use super::script::Script;
use crate::failure::Failure;

const HTTP1: Script = Script {
    run: "websocket-http1",
    file: "websocket_cases.py",
    arguments: &["http/1.1"],
};
const HTTP2: Script = Script {
    run: "websocket-http2",
    file: "websocket_cases.py",
    arguments: &["h2"],
};

pub(super) fn run(place: &Place) -> Result<Vec<Comparison>, Failure> {
    let http1 = compare(place, &HTTP1, "CONNECT, HTTP/1.1 opened")?;
    let http2 = compare(place, &HTTP2, "CONNECT, HTTP/2 opened (RFC 8441)")?;
    Ok(vec![http1, http2])
}

fn compare(place: &Place, script: &Script, way: &'static str) -> Result<Comparison, Failure> {
    let said = script.run(place)?;
    Ok(Comparison {
        suite: "Autobahn",
        version: format!(
            "case files of kosoku {}; of compression (12, 13) 13 of 18 sizes with 100 messages each",
            version_of("kosoku")?
        ),
        way,
        direct: said.direct,
        through: said.through,
        flows: said.flows,
        reasons: &[],
        classed: BTreeMap::new(),
    })
}
