//! Flows are read back from Parquet by the reader of its crate.

use bytes::Bytes;
use oriel_store::{Annotate, Annotator, ParquetWriter};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};

use crate::script::{Place, START, Script};

fn field<'r>(row: &'r Row, name: &str) -> &'r Field {
    let mut columns = row.get_column_iter();
    let found = columns.find(|(known, _)| *known == name);
    found.unwrap_or_else(|| panic!("no column {name}")).1
}

#[test]
fn flows_are_read_back() {
    let place = Place::new();
    let mut one = Script::new(1);
    one.request_body = vec![Bytes::from_static(b"asked \x00\xff")];
    one.response_body = vec![Bytes::from_static(b"answered")];
    let mut two = Script::new(2);
    two.response = None;
    two.response_body.clear();
    place.record([one.events(), two.events()].concat());
    place.flush();
    let change = Annotate {
        add_tags: vec!["gold".to_owned()],
        ..Annotate::default()
    };
    let mut annotator = Annotator::open(&place.path()).unwrap();
    annotator.annotate(place.flow(1), &change).unwrap();

    let reader = place.reader();
    let mut file = Vec::new();
    let mut writer = ParquetWriter::begin(&mut file).unwrap();
    for flow in [1, 2] {
        writer
            .write(&reader.record(place.flow(flow)).unwrap())
            .unwrap();
    }
    assert_eq!(writer.finish().unwrap(), 2);

    let file = SerializedFileReader::new(Bytes::from(file)).unwrap();
    let rows: Vec<Row> = file
        .get_row_iter(None)
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let [one, two] = rows.as_slice() else {
        panic!("{} rows", rows.len());
    };
    let text = |text: &str| Field::Str(text.to_owned());
    assert_eq!(*field(one, "id"), text(&place.flow(1).to_string()));
    assert_eq!(*field(one, "time"), Field::TimestampMicros(START + 1000));
    assert_eq!(*field(one, "status"), Field::Long(200));
    assert_eq!(*field(one, "tags"), text(r#"["gold"]"#));
    assert_eq!(*field(one, "note"), Field::Null);
    assert_eq!(
        *field(one, "request_body"),
        Field::Bytes(b"asked \x00\xff".to_vec().into())
    );
    assert_eq!(
        *field(one, "response_body"),
        Field::Bytes(b"answered".to_vec().into())
    );
    assert!(matches!(field(one, "duration_ms"), Field::Double(_)));
    assert_eq!(*field(two, "status"), Field::Null);
    assert_eq!(*field(two, "response_body"), Field::Null);
    assert_eq!(*field(two, "truncated"), Field::Bool(false));
}
