//! The SQL of filters, for each kind of database.

use super::*;

/// The SQL of a filter and its values, as one text.
fn written(dialect: Dialect, filter: &str) -> String {
    let mut conditions = Conditions::new(dialect);
    conditions.add_filter(Some(&Filter::parse(filter, Timestamp(0)).unwrap()));
    let values: Vec<String> = conditions
        .values()
        .iter()
        .map(|value| match value {
            Value::Text(text) => text.clone(),
            Value::Integer(number) => number.to_string(),
            other => format!("{other:?}"),
        })
        .collect();
    format!("{} <- {}", conditions.sql(), values.join(" | "))
}

#[test]
fn each_database_is_asked_in_its_words() {
    for (filter, sqlite, postgres, clickhouse) in [
        (
            "method:Get",
            "(coalesce(method LIKE ? ESCAPE '\\', FALSE)) <- Get",
            "(coalesce(lower(method COLLATE \"C\") LIKE $1::text ESCAPE '\\', FALSE)) <- get",
            "(coalesce(lower(method) LIKE {p1:String}, FALSE)) <- get",
        ),
        (
            "host:a_B.com",
            "((coalesce(host LIKE ? ESCAPE '\\', FALSE) OR coalesce(host LIKE ? ESCAPE '\\', FALSE))) \
             <- %.a\\_B.com | a\\_B.com",
            "((coalesce(lower(host COLLATE \"C\") LIKE $1::text ESCAPE '\\', FALSE) \
             OR coalesce(lower(host COLLATE \"C\") LIKE $2::text ESCAPE '\\', FALSE))) <- %.a\\_b.com | a\\_b.com",
            "((coalesce(lower(host) LIKE {p1:String}, FALSE) OR coalesce(lower(host) LIKE {p2:String}, FALSE))) \
             <- %.a\\_b.com | a\\_b.com",
        ),
        (
            "-status:>=400",
            "NOT (status_code IS NOT NULL AND status_code >= ?) <- 400",
            "NOT (status_code IS NOT NULL AND status_code >= $1::bigint) <- 400",
            "NOT (status_code IS NOT NULL AND status_code >= {p1:Int64}) <- 400",
        ),
        (
            "sni:x",
            "(client_connection IN (SELECT id FROM client_connections WHERE ((coalesce(tls_sni LIKE ? ESCAPE '\\', FALSE) \
             OR coalesce(tls_sni LIKE ? ESCAPE '\\', FALSE))))) <- %.x | x",
            "((coalesce(lower(tls_sni COLLATE \"C\") LIKE $1::text ESCAPE '\\', FALSE) \
             OR coalesce(lower(tls_sni COLLATE \"C\") LIKE $2::text ESCAPE '\\', FALSE))) <- %.x | x",
            "((coalesce(lower(tls_sni) LIKE {p1:String}, FALSE) OR coalesce(lower(tls_sni) LIKE {p2:String}, FALSE))) \
             <- %.x | x",
        ),
        (
            "since:1970-01-01T00:00:01Z",
            "(id IS NOT NULL AND id >= ?) <- 1024000000",
            "(start_time IS NOT NULL AND start_time >= (timestamp 'epoch' + $1::bigint * interval '1 microsecond')) \
             <- 1000000",
            "(start_time IS NOT NULL AND start_time >= fromUnixTimestamp64Micro({p1:Int64}, 'UTC')) <- 1000000",
        ),
        (
            "session:@-2",
            "(run_id = coalesce((SELECT id FROM runs ORDER BY number DESC LIMIT 1 OFFSET ?), '')) <- 1",
            "(run_id = coalesce((SELECT id FROM runs ORDER BY number DESC LIMIT 1 OFFSET $1::bigint), '')) <- 1",
            "(run_id = coalesce((SELECT id FROM runs ORDER BY started_at DESC, uuid DESC LIMIT 1 OFFSET {p1:Int64}), '')) \
             <- 1",
        ),
    ] {
        assert_eq!(written(Dialect::Sqlite, filter), sqlite);
        assert_eq!(written(Dialect::Postgres, filter), postgres);
        assert_eq!(written(Dialect::ClickHouse, filter), clickhouse);
    }
}

#[test]
fn regular_expressions_mean_the_same() {
    for (filter, postgres, clickhouse) in [
        (
            "url:/v[12]\\/1/",
            "[Vv][1-2]\\U0000002f1",
            "(?i-s)v[12]\\/1",
        ),
        ("url:/(?i)1/", "1", "(?i-s)(?i)1"),
    ] {
        let written = |dialect| written(dialect, filter);
        assert_eq!(
            written(Dialect::Postgres),
            format!("(coalesce(url ~ $1::text, FALSE)) <- {postgres}")
        );
        assert_eq!(
            written(Dialect::ClickHouse),
            format!("(coalesce(match(url, {{p1:String}}), FALSE)) <- {clickhouse}")
        );
    }
}

#[test]
fn fields_are_looked_for_in_the_objects_of_archives() {
    assert_eq!(
        written(Dialect::Postgres, "header.X-A:B"),
        "(EXISTS (SELECT FROM oriel_field_values(request_headers, $1::text) AS value WHERE \
         coalesce(lower(value COLLATE \"C\") LIKE $2::text ESCAPE '\\', FALSE)) OR EXISTS (SELECT FROM \
         oriel_field_values(response_headers, $3::text) AS value WHERE \
         coalesce(lower(value COLLATE \"C\") LIKE $4::text ESCAPE '\\', FALSE))) <- x-a | %b% | x-a | %b%"
    );
    let clickhouse = written(Dialect::ClickHouse, "header.X-A:B");
    assert!(
        clickhouse.starts_with(
            "(arrayExists(value -> coalesce(lower(value) LIKE {p1:String}, FALSE), \
             multiIf(JSONType(request_headers, {p2:String}) = 'Array'"
        ),
        "{clickhouse}"
    );
    assert!(clickhouse.ends_with("<- %b% | x-a | x-a | x-a | x-a | %b% | x-a | x-a | x-a | x-a"));
}

#[test]
fn a_run_is_found_by_what_the_database_has() {
    let run: RunId = "aaaa".parse().unwrap();
    let mut conditions = Conditions::new(Dialect::Postgres);
    conditions.add_run(Some(run));
    conditions.add("seq > ?", [Value::from(7)]);
    assert_eq!(conditions.sql(), "run_id = $1::text AND seq > $2::bigint");
    assert_eq!(Conditions::new(Dialect::ClickHouse).sql(), "TRUE");
}
