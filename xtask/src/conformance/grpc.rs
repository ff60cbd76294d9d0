//! gRPC with grpcio on both sides: `grpc_cases.py` has the cases. There is no suite to fetch, as
//! gRPC's own interop tests are not published as a package, so the client and the server are
//! theirs and the cases are ours.

use std::collections::BTreeMap;

use super::place::Place;
use super::python::version_of;
use super::report::Comparison;
use super::script::Script;
use crate::failure::Failure;

const SCRIPT: Script = Script {
    run: "grpc",
    file: "grpc_cases.py",
    arguments: &[],
};

pub(super) fn run(place: &Place) -> Result<Vec<Comparison>, Failure> {
    let said = SCRIPT.run(place)?;
    Ok(vec![Comparison {
        suite: "gRPC",
        version: format!("grpcio {}, cases of our own", version_of("grpcio")?),
        way: "CONNECT, HTTP/2 opened",
        direct: said.direct,
        through: said.through,
        flows: said.flows,
        reasons: &[],
        classed: BTreeMap::new(),
    }])
}
