//! `oriel flows mark` and `oriel flows note`: what people say about flows.

use serde::Serialize;
use store::{
    Annotate, AnnotateError, Annotation, Annotator, Archive, FlowRef, Location, Reader, StoreError,
};

use crate::archive;
use crate::args::{DataFlags, FlowsMark, FlowsNote};
use crate::command::flows::{location, nothing_there, open, resolve};
use crate::context::Context;
use crate::exit::Exit;
use crate::output::{print_json, say_line};
use crate::paths::database;
use crate::problem::Problem;
use crate::settings::Purpose;
use crate::store_problem::store_problem;

/// The tag of flows that are marked and no more.
const MARKED: &str = "marked";

/// What is said now.
#[derive(Serialize)]
struct Document {
    schema: &'static str,
    items: Vec<Item>,
}

#[derive(Serialize)]
struct Item {
    id: String,
    tags: Vec<String>,
    note: Option<String>,
}

pub(crate) fn mark(context: &Context, arguments: &FlowsMark) -> Result<Exit, Problem> {
    let mut add_tags = arguments.tags.clone();
    if add_tags.is_empty() && arguments.untags.is_empty() {
        add_tags.push(MARKED.to_owned());
    }
    let change = Annotate {
        add_tags,
        remove_tags: arguments.untags.clone(),
        note: None,
    };
    run(context, &arguments.data, &arguments.ids, &change)
}

pub(crate) fn note(context: &Context, arguments: &FlowsNote) -> Result<Exit, Problem> {
    let change = Annotate {
        note: Some(arguments.text.join(" ")),
        ..Annotate::default()
    };
    let ids = std::slice::from_ref(&arguments.id);
    run(context, &arguments.data, ids, &change)
}

fn run(
    context: &Context,
    data: &DataFlags,
    ids: &[String],
    change: &Annotate,
) -> Result<Exit, Problem> {
    let first = ids.first().map(String::as_str).unwrap_or_default();
    let reader = open(context, data)?.ok_or_else(|| nothing_there(first))?;
    // All ids are understood before anything is written.
    let flows: Result<Vec<FlowRef>, _> = ids.iter().map(|id| resolve(&reader, id)).collect();
    let flows = flows?;
    let mut place = Place::open(context, data)?;
    let mut items = Vec::with_capacity(flows.len());
    for flow in flows {
        let said = place.annotate(&reader, flow, change)?;
        if !context.json() && !context.global.quiet {
            say_line(&sentence(flow, &said));
        }
        items.push(Item {
            id: flow.to_string(),
            tags: said.tags,
            note: said.note,
        });
    }
    if context.json() {
        print_json(&Document {
            schema: "oriel.flows.annotations/1",
            items,
        })?;
    }
    Ok(Exit::Success)
}

/// Where it is written: where flows are read.
enum Place {
    File(Annotator),
    Archive {
        archive: Box<dyn Archive>,
        /// The file of this machine, if there is one: what it copies next says the same.
        file: Option<Annotator>,
    },
}

impl Place {
    fn open(context: &Context, data: &DataFlags) -> Result<Self, Problem> {
        let settings = context.settings(Purpose::Serve, data.layer())?;
        let path = database(&settings.data_folder.value);
        let own = Annotator::open(&path);
        let location = location(context, data)?;
        if location == Location::File(path) {
            return own.map(Self::File).map_err(|error| store_problem(&error));
        }
        let archive = archive::open(&location)?;
        Ok(Self::Archive {
            archive: archive.ok_or_else(|| nothing_there("of it"))?,
            file: match own {
                Ok(annotator) => Some(annotator),
                Err(StoreError::NotFound { .. }) => None,
                Err(error) => return Err(store_problem(&error)),
            },
        })
    }

    /// Changes what is said about a flow that the reader knows by this id.
    fn annotate(
        &mut self,
        reader: &Reader,
        flow: FlowRef,
        change: &Annotate,
    ) -> Result<Annotation, Problem> {
        match self {
            Self::File(annotator) => annotator.annotate(flow, change).map_err(problem),
            Self::Archive { archive, file } => {
                // Another flow may have this id in the file: only the UUID is the same everywhere.
                let uuid = reader.flow(flow).map_err(|error| store_problem(&error))?;
                let uuid = uuid.row.uuid;
                let said = archive.annotate(&uuid, change).map_err(problem)?;
                let said = said.ok_or_else(|| gone(flow))?;
                if let Some(file) = file {
                    file.replace(&uuid, &said)
                        .map_err(|error| store_problem(&error))?;
                }
                Ok(said)
            }
        }
    }
}

fn gone(flow: FlowRef) -> Problem {
    Problem::new("ORL0005", Exit::Unknown, format!("no flow {flow}"))
        .why("it was there a moment ago: somebody removed it")
        .fix(format!("oriel flows --session {}", flow.run))
}

fn sentence(flow: FlowRef, said: &Annotation) -> String {
    let tags = match said.tags.is_empty() {
        true => "no tags".to_owned(),
        false => said.tags.join(", "),
    };
    match said.note {
        Some(_) => format!("{flow}: {tags}, with a note"),
        None => format!("{flow}: {tags}"),
    }
}

fn problem(error: AnnotateError) -> Problem {
    match error {
        AnnotateError::Store(error) => store_problem(&error),
        AnnotateError::NotATag { .. } | AnnotateError::TooManyTags | AnnotateError::NoteTooLong => {
            Problem::new("ORL0001", Exit::Usage, error.to_string())
        }
    }
}
