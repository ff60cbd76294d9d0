//! The view of a file with the columns of ccproxy, as a program sees it that knows SQLite alone.

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags};

use crate::copies::record_all_sorts;
use crate::postgres::{PRINTED, record_for_printed};
use crate::script::{Place, Script};

/// As `sqlite3` opens it: without any function of ours.
fn open(place: &Place) -> Connection {
    Connection::open_with_flags(place.path(), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap()
}

/// The rows of an answer, columns between bars.
fn ask(connection: &Connection, sql: &str) -> Vec<String> {
    let mut statement = connection.prepare(sql).unwrap();
    let columns = statement.column_count();
    let rows = statement.query_map((), |row| {
        let values = (0..columns).map(|column| {
            Ok(match row.get(column)? {
                Value::Null => String::new(),
                Value::Integer(number) => number.to_string(),
                Value::Real(number) => number.to_string(),
                Value::Text(text) => text,
                Value::Blob(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            })
        });
        Ok(values.collect::<rusqlite::Result<Vec<_>>>()?.join("|"))
    });
    rows.unwrap().map(Result::unwrap).collect()
}

#[test]
fn the_printed_queries_are_answered_by_a_file() {
    let place = Place::new();
    record_for_printed(&place);
    let connection = open(&place);
    let uuid = place.reader().flow(place.flow(6)).unwrap().row.uuid;
    let printed = |query: usize| ask(&connection, PRINTED[query]);
    assert_eq!(printed(0).len(), 6);
    assert!(printed(0)[0].starts_with(&uuid));
    assert_eq!(printed(2).len(), 6);
    let second = "|1||POST|https://api.example.com/v1/messages?a=1|2026-03-02 09:00:00.005000";
    assert!(printed(2)[1].ends_with(second), "{}", printed(2)[1]);
    assert_eq!(printed(3), [""; 0]);
    assert_eq!(
        printed(4)[0],
        "https://api.example.com/v1/messages?a=1|6|200|0"
    );
    assert_eq!(printed(5), ["api.example.com|1|6|16.67"]);
    // Only PostgreSQL casts like that.
    let types = ask(&connection, &PRINTED[6].replace("::numeric", ""));
    assert!(types[0].starts_with("reverse (client→LiteLLM)|") && types[0].ends_with("|3|4"));
    assert!(types[1].starts_with("forward (LiteLLM→provider)|") && types[1].ends_with("|3|3"));
    assert_eq!(printed(7).len(), printed(1).len());
}

#[test]
fn a_file_shows_the_columns_of_ccproxy() {
    let place = Place::new();
    record_all_sorts(&place);
    let connection = open(&place);
    let columns = ask(
        &connection,
        "SELECT group_concat(name, ' ') FROM pragma_table_info('CCProxy_HttpTraces')",
    );
    assert_eq!(
        columns,
        [
            "trace_id proxy_direction session_id method url host path request_headers request_body \
          request_body_size request_content_type status_code response_headers response_body \
          response_body_size response_content_type start_time end_time duration_ms client_ip server_ip \
          server_port is_https error_message error_type traffic_type created_at"
        ]
    );
    let traced = |seq: u64, columns: &str| {
        let uuid = place.reader().flow(place.flow(seq)).unwrap().row.uuid;
        let sql = format!("SELECT {columns} FROM CCProxy_HttpTraces WHERE trace_id = '{uuid}'");
        ask(&connection, &sql).join("\n")
    };
    assert_eq!(
        traced(
            1,
            "method, host, path, request_body, request_body_size, response_body, response_body_size"
        ),
        "POST|api.example.com|/v1/messages|{\"ask\":1}|9|hello world|11"
    );
    assert_eq!(
        traced(
            1,
            "start_time, end_time, created_at, duration_ms, client_ip, server_ip, server_port, is_https"
        ),
        "2026-03-02 09:00:00.001000|2026-03-02 09:00:00.001800|2026-03-02 09:00:00.001000|0.8\
         |127.0.0.1|192.0.2.7|443|1"
    );
    assert_eq!(
        traced(3, "status_code, error_type, error_message"),
        "|refused|it refused"
    );
    // What is packed is not shown in part.
    assert_eq!(
        traced(
            4,
            "response_body_size, response_body IS NULL, request_headers IS NULL"
        ),
        "50007|1|1"
    );
}

#[test]
fn addresses_of_version_6_and_sockets_are_taken_apart() {
    let place = Place::new();
    for flow in 1..=2 {
        place.record(Script::new(flow).events());
    }
    place.flush();
    Connection::open(place.path())
        .unwrap()
        .execute_batch(
            "UPDATE client_connections SET client_address = '[2001:db8::7]:50123';
             UPDATE upstream_connections SET address = '[::1]:8443';",
        )
        .unwrap();
    let connection = open(&place);
    let addresses = "SELECT DISTINCT client_ip, server_ip, server_port FROM CCProxy_HttpTraces";
    assert_eq!(ask(&connection, addresses), ["2001:db8::7|::1|8443"]);
    Connection::open(place.path())
        .unwrap()
        .execute_batch(
            "UPDATE client_connections SET client_address = 'unix:pid=1,uid=0';
             UPDATE flows SET upstream_connection = NULL;",
        )
        .unwrap();
    assert_eq!(ask(&connection, addresses), ["||443"]);
}
