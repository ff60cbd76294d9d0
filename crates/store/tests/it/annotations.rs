//! What people say about flows.

use oriel_store::{Annotate, AnnotateError, Annotation, Annotator, StoreError, UnknownId};

use crate::script::{Place, Script};

fn tags(tags: &[&str]) -> Vec<String> {
    tags.iter().map(|tag| (*tag).to_owned()).collect()
}

#[test]
fn tags_and_a_note_stay_with_their_flow() {
    let place = Place::new();
    place.record(Script::new(1).events());
    place.record(Script::new(2).events());
    let reader = place.reader();
    let before = reader.marker().unwrap();
    let mut annotator = Annotator::open(&place.path()).unwrap();
    let flow = place.flow(2);

    let change = Annotate {
        add_tags: tags(&["slow", "gold", "slow"]),
        note: Some("look at \"this\"\nagain".to_owned()),
        ..Annotate::default()
    };
    let said = annotator.annotate(flow, &change).unwrap();
    assert_eq!(said.tags, ["gold", "slow"]);
    let row = reader.flow(flow).unwrap().row;
    assert_eq!(row.tags, said.tags);
    assert_eq!(row.note, said.note);
    assert!(reader.flow(place.flow(1)).unwrap().row.tags.is_empty());
    let changes = reader.changes_since(before, None).unwrap();
    assert_eq!(changes.rows, [row]);

    let change = Annotate {
        remove_tags: tags(&["slow", "never"]),
        ..Annotate::default()
    };
    let said = annotator.annotate(flow, &change).unwrap();
    assert_eq!(said.tags, ["gold"]);
    assert!(said.note.is_some());
    let change = Annotate {
        remove_tags: tags(&["gold"]),
        note: Some(String::new()),
        ..Annotate::default()
    };
    let said = annotator.annotate(flow, &change).unwrap();
    assert_eq!(said, Annotation::default());
    let row = reader.flow(flow).unwrap().row;
    assert_eq!((row.tags.len(), row.note), (0, None));
}

#[test]
fn what_is_no_tag_or_flow_is_refused_and_changes_nothing() {
    let place = Place::new();
    place.record(Script::new(1).events());
    place.flush();
    let mut annotator = Annotator::open(&place.path()).unwrap();
    for tag in [
        "",
        "a b",
        "a,b",
        "a*",
        "\"a\"",
        "a/b",
        "a\n",
        &"x".repeat(65),
    ] {
        let change = Annotate {
            add_tags: tags(&["good", tag]),
            ..Annotate::default()
        };
        let error = annotator.annotate(place.flow(1), &change).unwrap_err();
        assert!(matches!(error, AnnotateError::NotATag { .. }), "{tag}");
    }
    let many = (0..33).map(|number| number.to_string()).collect();
    let change = Annotate {
        add_tags: many,
        ..Annotate::default()
    };
    let error = annotator.annotate(place.flow(1), &change).unwrap_err();
    assert!(matches!(error, AnnotateError::TooManyTags));
    let change = Annotate {
        note: Some("x".repeat(4097)),
        ..Annotate::default()
    };
    let error = annotator.annotate(place.flow(1), &change).unwrap_err();
    assert!(matches!(error, AnnotateError::NoteTooLong));
    let error = annotator.annotate(place.flow(2), &Annotate::default());
    assert!(matches!(
        error,
        Err(AnnotateError::Store(StoreError::UnknownId(
            UnknownId::NoFlow { .. }
        )))
    ));
    let row = place.reader().flow(place.flow(1)).unwrap().row;
    assert!(row.tags.is_empty());
}
