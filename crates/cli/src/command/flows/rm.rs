//! `oriel flows rm`: removes flows that somebody chose.

use store::{Choice, Doomed};

use crate::args::FlowsRm;
use crate::command::flows::chosen::Chosen;
use crate::context::Context;
use crate::exit::Exit;
use crate::problem::Problem;
use crate::removal::{Place, remove};

pub(crate) fn run(context: &Context, arguments: &FlowsRm) -> Result<Exit, Problem> {
    let place = Place::where_read(context, &arguments.data)?;
    let (_, chosen) = Chosen::open(context, &arguments.data, &arguments.what, arguments.since)?;
    let chosen = match chosen {
        Chosen::Named(flows) => store::Chosen::Flows(flows),
        Chosen::Found {
            run: None,
            filter: None,
        } => {
            return Err(
                Problem::new("ORL0001", Exit::Usage, "nothing says which flows are meant")
                    .why("an empty filter means all of them")
                    .fix("oriel db prune --older-than 0s      removes all but marked ones"),
            );
        }
        Chosen::Found { run, filter } => store::Chosen::Found { run, filter },
    };
    let choice = Choice {
        chosen,
        forced: arguments.force,
    };
    remove(context, &place, &Doomed::Chosen(&choice), &arguments.how)
}
