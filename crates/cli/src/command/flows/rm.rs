//! `oriel flows rm`: removes flows that somebody chose.

use store::Choice;

use crate::args::FlowsRm;
use crate::command::flows::chosen::Chosen;
use crate::command::flows::{nothing_there, open};
use crate::context::Context;
use crate::exit::Exit;
use crate::problem::Problem;
use crate::removal::{Doomed, refuse_archive, remove};

pub(crate) fn run(context: &Context, arguments: &FlowsRm) -> Result<Exit, Problem> {
    let settings = refuse_archive(context, &arguments.data, "flows rm")?;
    let Some(reader) = open(context, &arguments.data)? else {
        return Err(nothing_there(
            arguments.what.first().map_or("", |word| word),
        ));
    };
    let chosen = Chosen::read(
        context,
        &reader,
        &arguments.data,
        &arguments.what,
        arguments.since,
    )?;
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
    drop(reader);
    remove(context, &settings, &Doomed::Chosen(&choice), &arguments.how)
}
