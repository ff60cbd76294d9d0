//! An archive in PostgreSQL, seen with `psql`.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use oriel_store::{
    Archive, ArchiveBatch, Doomed, FlowRecord, FlowState, GapRecord, Keep, Location, Migrated,
    Origin, PostgresArchive, Query, READONLY_ROLE, Reader, RunRecord, Shipper, ShipperOptions,
    StoreError, file_status,
};
use testbed::postgres::PostgresCluster;
use traffic::{Front, Timestamp};

use crate::copies::{record_all_sorts, records};
use crate::script::{Place, START, Script, client, on_connections, upstream};

fn archive(cluster: &PostgresCluster) -> PostgresArchive {
    let mut archive = PostgresArchive::connect(&cluster.url("postgres")).unwrap();
    archive.migrate().unwrap();
    archive
}

fn batch(flows: Vec<FlowRecord>) -> ArchiveBatch {
    ArchiveBatch {
        flows,
        ..ArchiveBatch::default()
    }
}

/// One flow of each sort, of an oriel of a team.
fn all_sorts() -> Vec<FlowRecord> {
    let place = Place::new();
    record_all_sorts(&place);
    let mut flows = records(&place.path(), 100);
    for flow in &mut flows {
        flow.run = Arc::new(RunRecord {
            origin: Origin {
                instance: Some("build-7".to_owned()),
                user: Some("alice".to_owned()),
                tags: vec!["a b".to_owned(), "c".to_owned()],
            },
            ..RunRecord::clone(&flow.run)
        });
    }
    flows
}

fn ask(cluster: &PostgresCluster, sql: &str) -> String {
    cluster.psql("postgres", sql).unwrap().trim_end().to_owned()
}

#[test]
fn every_column_is_filled() {
    let cluster = PostgresCluster::start().unwrap();
    let flows = all_sorts();
    archive(&cluster).write(&batch(flows.clone())).unwrap();
    // The columns of ccproxy's docs/mitm.md (commit 5f5a91c, "CCProxy_HttpTraces Table"), in its order.
    let columns = "trace_id:text proxy_direction:integer session_id:text method:text url:text host:text \
        path:text request_headers:jsonb request_body:bytea request_body_size:integer \
        request_content_type:text status_code:integer response_headers:jsonb response_body:bytea \
        response_body_size:integer response_content_type:text \
        start_time:timestamp without time zone end_time:timestamp without time zone \
        duration_ms:double precision client_ip:text server_ip:text server_port:integer \
        is_https:boolean error_message:text error_type:text traffic_type:text \
        created_at:timestamp without time zone";
    let found = "SELECT string_agg(column_name || ':' || data_type, ' ' ORDER BY ordinal_position)
        FROM information_schema.columns WHERE table_name = 'CCProxy_HttpTraces'";
    assert_eq!(ask(&cluster, found), columns);

    let uuid = |seq: usize| &flows[seq - 1].detail.row.uuid;
    let traced = |seq: usize, columns: &str| {
        let from = "FROM \"CCProxy_HttpTraces\" WHERE trace_id";
        ask(
            &cluster,
            &format!("SELECT {columns} {from} = '{}'", uuid(seq)),
        )
    };
    assert_eq!(
        traced(
            1,
            "proxy_direction, method, url, host, path, request_content_type, status_code"
        ),
        "1|POST|https://api.example.com/v1/messages?a=1|api.example.com|/v1/messages|application/json|200"
    );
    assert_eq!(
        traced(1, "request_headers, response_headers"),
        "{\"host\": \"api.example.com\", \"content-type\": \"application/json\"}\
         |{\"x-two\": [\"1\", \"2\"], \"content-type\": \"text/plain\"}"
    );
    assert_eq!(
        traced(
            1,
            "convert_from(request_body, 'UTF8'), request_body_size,
             convert_from(response_body, 'UTF8'), response_body_size, response_content_type"
        ),
        "{\"ask\":1}|9|hello world|11|text/plain"
    );
    assert_eq!(
        traced(
            1,
            "start_time, end_time, duration_ms, client_ip, server_ip, server_port, is_https"
        ),
        "2026-03-02 09:00:00.001|2026-03-02 09:00:00.0018|0.8|127.0.0.1|192.0.2.7|443|t"
    );
    assert_eq!(
        traced(
            1,
            "error_type IS NULL, error_message IS NULL, now() at time zone 'UTC' - created_at < '1 hour'"
        ),
        "t|t|t"
    );
    // A flow that failed has no status; one whose body was cut has its size; a large one is put together.
    assert_eq!(
        traced(
            3,
            "status_code IS NULL, error_type, error_message, response_headers"
        ),
        "t|refused|it refused|{}"
    );
    assert_eq!(
        traced(
            4,
            "response_body_size, length(response_body), md5(response_body) = md5(repeat('body ', 10000))"
        ),
        "50007|50000|t"
    );
    // Ours beside them.
    let ours = format!(
        "SELECT run_id, seq, kind, state, instance, \"user\", tags, front, pid, process_name, process_path
         FROM flows WHERE trace_id = '{}'",
        uuid(4)
    );
    let expected = format!(
        "{}|4|http|completed|build-7|alice|{{\"a b\",c}}|connect|4711|node|/usr/bin/node",
        flows[0].run.id
    );
    assert_eq!(ask(&cluster, &ours), expected);
    let messages = "SELECT count(*), sum(size) FROM messages";
    assert_eq!(ask(&cluster, messages), "2|7003");
    let indexes = "SELECT count(*) FROM pg_indexes WHERE tablename = 'flows' AND indexdef ~
        '\\((trace_id|start_time|host|traffic_type|created_at|status_code|proxy_direction|session_id|session_id, start_time)\\)$'";
    assert_eq!(ask(&cluster, indexes), "9");
}

/// The queries of ccproxy's docs/mitm.md (commit 5f5a91c), as they are printed there.
pub(crate) const PRINTED: [&str; 8] = [
    "SELECT * FROM \"CCProxy_HttpTraces\" ORDER BY start_time DESC LIMIT 10;",
    "
  SELECT method, url, status_code, duration_ms
  FROM \"CCProxy_HttpTraces\"
  WHERE traffic_type = 'llm'
  ORDER BY start_time DESC
  LIMIT 5;
",
    "SELECT trace_id, proxy_direction, session_id, method, url, start_time
FROM \"CCProxy_HttpTraces\"
ORDER BY start_time DESC
LIMIT 10;",
    "SELECT
  proxy_direction,
  method,
  url,
  status_code,
  duration_ms,
  start_time
FROM \"CCProxy_HttpTraces\"
WHERE session_id = 'your-session-uuid'
ORDER BY start_time;",
    "SELECT url, duration_ms, status_code, proxy_direction
FROM \"CCProxy_HttpTraces\"
ORDER BY duration_ms DESC NULLS LAST
LIMIT 10;",
    "SELECT
  host,
  COUNT(*) FILTER (WHERE status_code >= 400) AS errors,
  COUNT(*) AS total,
  ROUND(100.0 * COUNT(*) FILTER (WHERE status_code >= 400) / COUNT(*), 2) AS error_rate
FROM \"CCProxy_HttpTraces\"
GROUP BY host
ORDER BY error_rate DESC;",
    "SELECT
  CASE proxy_direction
    WHEN 0 THEN 'reverse (client→LiteLLM)'
    WHEN 1 THEN 'forward (LiteLLM→provider)'
  END AS direction,
  traffic_type,
  COUNT(*) AS requests,
  ROUND(AVG(duration_ms)::numeric, 2) AS avg_duration_ms
FROM \"CCProxy_HttpTraces\"
GROUP BY proxy_direction, traffic_type
ORDER BY proxy_direction, requests DESC;",
    "SELECT
  host,
  method,
  status_code,
  duration_ms,
  session_id,
  proxy_direction,
  start_time
FROM \"CCProxy_HttpTraces\"
WHERE traffic_type = 'llm'
ORDER BY start_time DESC
LIMIT 20;",
];

/// Flows for the printed queries.
pub(crate) fn record_for_printed(place: &Place) {
    // A gateway in front, and what it sends out.
    for flow in 1..=6 {
        let mut script = Script::new(flow);
        script.micros = i64::try_from(flow).unwrap() * 1000;
        if flow == 3 {
            script.response = Some(b"HTTP/1.1 500 X\r\n\r\n".to_vec());
        }
        let mut facts = (*client()).clone();
        if flow % 2 == 0 {
            facts.front = Front::Reverse;
        }
        place.record(on_connections(
            script.events(),
            &Arc::new(facts),
            &upstream(),
        ));
    }
    place.flush();
}

#[test]
fn the_printed_queries_are_answered() {
    let cluster = PostgresCluster::start().unwrap();
    let place = Place::new();
    record_for_printed(&place);
    let flows = records(&place.path(), 100);
    archive(&cluster).write(&batch(flows.clone())).unwrap();
    let answer = |query: usize| ask(&cluster, PRINTED[query]);
    let lines = |query: usize| answer(query).lines().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(lines(0).len(), 6);
    assert!(lines(0)[0].starts_with(&flows[5].detail.row.uuid));
    assert_eq!(lines(2).len(), 6);
    assert!(lines(2)[1].contains("|1||POST|https://api.example.com/v1/messages?a=1|2026-03-02 "));
    assert_eq!(answer(3), "");
    assert_eq!(
        lines(4)[0],
        "https://api.example.com/v1/messages?a=1|6|200|0"
    );
    assert_eq!(answer(5), "api.example.com|1|6|16.67");
    let types: Vec<_> = lines(6);
    assert!(
        types[0].starts_with("reverse (client→LiteLLM)|"),
        "{types:?}"
    );
    assert!(
        types[1].starts_with("forward (LiteLLM→provider)|"),
        "{types:?}"
    );
    assert!(
        types[0].ends_with("|3|4.00") && types[1].ends_with("|3|3.00"),
        "{types:?}"
    );
    // The statement that cleans up, which works on the view as on a table.
    let clean = "DELETE FROM \"CCProxy_HttpTraces\" WHERE created_at < NOW() - INTERVAL '30 days';";
    ask(&cluster, clean);
    assert_eq!(lines(0).len(), 6);
    ask(
        &cluster,
        "UPDATE flows SET created_at = created_at - interval '31 days' WHERE seq <= 2",
    );
    ask(&cluster, clean);
    assert_eq!(lines(0).len(), 4);
}

#[test]
fn the_schema_is_made_once_and_a_newer_one_refused() {
    let cluster = PostgresCluster::start().unwrap();
    let url = cluster.url("postgres");
    let mut steps: Vec<Migrated> = thread::scope(|scope| {
        let migrate = || PostgresArchive::connect(&url).unwrap().migrate().unwrap();
        let others: Vec<_> = (0..4).map(|_| scope.spawn(migrate)).collect();
        let steps = others.into_iter().map(|other| other.join().unwrap());
        steps.collect()
    });
    steps.sort_by_key(|step| step.from);
    assert_eq!(steps.iter().filter(|step| step.from < step.to).count(), 1);
    let known = steps[0].to;
    assert!(steps.iter().all(|step| step.to == known));
    let count = "SELECT count(*) FROM oriel_migrations WHERE length(checksum) = 64";
    assert_eq!(ask(&cluster, count), known.to_string());

    let mut archive = PostgresArchive::connect(&url).unwrap();
    let status = archive.status().unwrap();
    assert_eq!(
        (status.schema, status.known, status.flows),
        (known, known, 0)
    );
    assert!(
        status.server.starts_with("PostgreSQL 1"),
        "{}",
        status.server
    );
    ask(
        &cluster,
        "INSERT INTO oriel_migrations VALUES (99, 'later', 'x')",
    );
    match archive.migrate() {
        Err(StoreError::NewerSchema { found: 99, .. }) => {}
        other => panic!("{other:?}"),
    }
    ask(&cluster, "DELETE FROM oriel_migrations WHERE number = 99");
    ask(
        &cluster,
        "UPDATE oriel_migrations SET checksum = 'x' WHERE number = 1",
    );
    let error = archive.migrate().unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
}

#[test]
fn a_url_may_name_a_socket_and_a_schema() {
    let cluster = PostgresCluster::start().unwrap();
    ask(&cluster, "CREATE SCHEMA \"team a\"");
    let socket = cluster.socket_url("postgres");
    let url = format!("{socket}?schema=team%20a&sslmode=disable");
    let mut archive = PostgresArchive::connect(&url).unwrap();
    archive.migrate().unwrap();
    archive.write(&batch(all_sorts())).unwrap();
    assert_eq!(archive.status().unwrap().flows, 7);
    let here = |schema| {
        let sql = format!(
            "SELECT count(*) FROM pg_tables WHERE schemaname = '{schema}' AND tablename = 'flows'"
        );
        ask(&cluster, &sql)
    };
    assert_eq!(
        (here("team a"), here("public")),
        ("1".to_owned(), "0".to_owned())
    );
    // From any search path, bodies in chunks as well.
    let place = Place::new();
    let mut script = Script::new(1);
    script.response_body = vec![b"a line of an answer\n".repeat(1000).into()];
    place.record(script.events());
    place.flush();
    archive.write(&batch(records(&place.path(), 100))).unwrap();
    for path in ["public", "nowhere", "pg_catalog"] {
        let chunked = format!(
            "SET search_path = {path};
             SELECT count(*), min(length(traces.response_body)) FROM \"team a\".flows AS flows
               JOIN \"team a\".\"CCProxy_HttpTraces\" AS traces USING (trace_id)
             WHERE flows.response_chunks IS NOT NULL
               AND length(traces.response_body) = traces.response_body_size"
        );
        let found = ask(&cluster, &chunked);
        assert_eq!(found, "1|20000", "{path}");
    }
    let reader = Reader::open_at(&Location::Postgres(url.clone())).unwrap();
    assert_eq!(reader.flows(&Query::default()).unwrap().rows.len(), 8);
    let prune =
        "SELECT \"team a\".oriel_prune((now() AT TIME ZONE 'UTC')::timestamp + interval '1 day')";
    assert_eq!(ask(&cluster, prune), "8");
    archive.write(&batch(all_sorts())).unwrap();
    // What is in another schema is not taken for ours.
    let elsewhere = Reader::open_at(&Location::Postgres(socket));
    assert!(
        matches!(elsewhere, Err(StoreError::NotFound { .. })),
        "{elsewhere:?}"
    );
}

#[test]
fn a_file_is_copied_to_each_schema_of_a_server() {
    let cluster = PostgresCluster::start().unwrap();
    let place = Place::new();
    record_all_sorts(&place);
    let socket = cluster.socket_url("postgres");
    let ship = |parameters: &str| {
        let shipper = Shipper::start(ShipperOptions {
            file: place.path(),
            archive: Location::Postgres(format!("{socket}?{parameters}")),
            origin: Origin::default(),
        });
        let status = shipper.unwrap().stop(Duration::from_secs(20));
        assert_eq!(status.last_error, None);
        status.copied
    };
    ask(&cluster, "CREATE SCHEMA a; CREATE SCHEMA b");
    assert_eq!(ship("schema=a&password=secret"), 7);
    assert_eq!(ship("schema=b"), 7);
    // As before, in another order and with what names no place.
    assert_eq!(ship("sslmode=disable&schema=a"), 0);
    for schema in ["a", "b"] {
        let sql = format!("SELECT count(*) FROM {schema}.flows");
        assert_eq!(ask(&cluster, &sql), "7");
    }
    let names = file_status(&place.path()).unwrap().archives;
    let names: Vec<String> = names.into_iter().map(|known| known.archive).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(
        names.iter().all(|name| !name.contains("secret")),
        "{names:?}"
    );
}

#[test]
fn what_comes_again_replaces_what_was_there() {
    let cluster = PostgresCluster::start().unwrap();
    let mut archive = archive(&cluster);
    let mut flows = all_sorts();
    let open = flows.iter_mut().find(|flow| flow.detail.row.id.seq == 7);
    let open = open.unwrap();
    let early = open.clone();
    open.detail.row.state = FlowState::Completed;
    open.detail.row.status = Some(201);
    archive.write(&batch(vec![early.clone()])).unwrap();
    // Twice in one batch, and the same batch twice: each flow is there once, as it was last.
    let twice = [vec![early.clone()], flows.clone(), flows.clone()].concat();
    archive.write(&batch(twice.clone())).unwrap();
    archive.write(&batch(twice)).unwrap();
    let all = "SELECT count(*), count(DISTINCT trace_id), max(status_code) FROM flows";
    assert_eq!(ask(&cluster, all), "7|7|201");
    assert_eq!(ask(&cluster, "SELECT count(*) FROM messages"), "2");
    assert_eq!(
        ask(
            &cluster,
            "SELECT string_agg(flows::text, ' ' ORDER BY number) FROM batches"
        ),
        "1 7 7"
    );
    // Late, and less: a flow that has ended is not open again.
    archive.write(&batch(vec![early])).unwrap();
    assert_eq!(ask(&cluster, all), "7|7|201");
    // The same place in the run, known by another UUID: it is replaced as well.
    let mut other = flows[0].clone();
    other.detail.row.uuid = "01900000-0000-7000-8000-000000000001".to_owned();
    archive.write(&batch(vec![other])).unwrap();
    assert_eq!(ask(&cluster, all), "7|7|201");
}

#[test]
fn two_that_store_the_same_flows_at_once_store_each_once() {
    let cluster = PostgresCluster::start().unwrap();
    drop(archive(&cluster));
    let (flows, url) = (all_sorts(), cluster.url("postgres"));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut archive = PostgresArchive::connect(&url).unwrap();
                archive.write(&batch(flows.clone())).unwrap();
            });
        }
    });
    let all = "SELECT count(*), count(DISTINCT trace_id) FROM flows";
    assert_eq!(ask(&cluster, all), "7|7");
}

#[test]
fn runs_of_many_oriels_have_ids_of_their_own() {
    let cluster = PostgresCluster::start().unwrap();
    let mut archive = archive(&cluster);
    let flows = all_sorts();
    let others: Vec<FlowRecord> = all_sorts()
        .into_iter()
        .map(|mut flow| {
            flow.run = Arc::new(RunRecord {
                id: flows[0].run.id,
                ..RunRecord::clone(&flow.run)
            });
            flow
        })
        .collect();
    archive.write(&batch(flows.clone())).unwrap();
    archive.write(&batch(others.clone())).unwrap();
    archive.write(&batch(others.clone())).unwrap();
    assert_eq!(
        ask(
            &cluster,
            "SELECT count(*), count(DISTINCT run_id) FROM flows"
        ),
        "14|2"
    );
    let ended = Arc::new(RunRecord {
        ended_at: Some(Timestamp(START + 5)),
        exit_code: Some(3),
        ..RunRecord::clone(&others[0].run)
    });
    let gap = GapRecord {
        number: 4,
        run: Arc::clone(&ended),
        at: Timestamp(START),
        reason: "queue_full".to_owned(),
        events: 7,
        body_bytes: 9,
    };
    let end = ArchiveBatch {
        runs: vec![ended],
        gaps: vec![gap],
        ..ArchiveBatch::default()
    };
    archive.write(&end).unwrap();
    archive.write(&end).unwrap();
    let run = format!(
        "SELECT id <> '{}', ended_at, exit_code, instance, (SELECT sum(events) FROM gaps WHERE run_id = id)
         FROM runs WHERE uuid = '{}'",
        flows[0].run.id, others[0].run.uuid
    );
    assert_eq!(
        ask(&cluster, &run),
        "t|2026-03-02 09:00:00.000005|3|build-7|7"
    );
}

#[test]
fn texts_that_postgresql_has_no_place_for_lose_no_flow() {
    let cluster = PostgresCluster::start().unwrap();
    let mut archive = archive(&cluster);
    let mut flow = all_sorts().swap_remove(0);
    let row = &mut flow.detail.row;
    row.host = "h\0".repeat(5000);
    row.url = "https://a/\0\u{1f600}".to_owned();
    row.started_at = Timestamp(i64::MIN);
    row.request_bytes = Some(u64::MAX);
    flow.detail.request.fields = vec![("a\0".to_owned(), "b\0\"\\\u{1}".to_owned()); 3];
    flow.request_body = Some(vec![0; 5000]);
    archive.write(&batch(vec![flow])).unwrap();
    let found =
        "SELECT left(host, 4), url, request_headers, request_body_size, length(request_body)
        FROM \"CCProxy_HttpTraces\"";
    assert_eq!(
        ask(&cluster, found),
        "h\u{fffd}h\u{fffd}|https://a/\u{fffd}\u{1f600}|{\"a\u{fffd}\": [\"b\u{fffd}\\\"\\\\\\u0001\", \
         \"b\u{fffd}\\\"\\\\\\u0001\", \"b\u{fffd}\\\"\\\\\\u0001\"]}|2147483647|5000"
    );
}

/// Two hundred requests, each with all that was said before. They are no texts, but bytes that repeat: words
/// have tests of their own.
pub(crate) fn conversation() -> Vec<FlowRecord> {
    let template = all_sorts().swap_remove(0);
    let (mut conversation, mut flows) = (vec![0], Vec::new());
    for turn in 0..200_u64 {
        let words = (turn * 100_000..).flat_map(|word| format!("{} ", word * 7919).into_bytes());
        conversation.extend(words.take(3000));
        let mut flow = template.clone();
        flow.detail.row.id.seq = turn + 1;
        flow.detail.row.uuid = format!("01900000-0000-7000-8000-{turn:012}");
        flow.request_body = Some(conversation.clone());
        flows.push(flow);
    }
    flows
}

#[test]
fn a_conversation_costs_what_is_new_in_it() {
    let cluster = PostgresCluster::start().unwrap();
    let mut archive = archive(&cluster);
    let flows = conversation();
    let sizes = flows
        .iter()
        .map(|flow| flow.request_body.as_ref().unwrap().len());
    let (raw, longest) = (sizes.clone().sum::<usize>(), sizes.max().unwrap());
    for part in flows.chunks(20) {
        archive.write(&batch(part.to_vec())).unwrap();
    }
    let stored: usize = ask(&cluster, "SELECT sum(length(data) + 32) FROM chunks")
        .parse()
        .unwrap();
    let lists: usize = ask(
        &cluster,
        "SELECT sum(pg_column_size(request_chunks)) FROM flows",
    )
    .parse()
    .unwrap();
    assert!(
        (stored + lists) * 20 < raw,
        "{stored} and {lists} bytes for {raw}"
    );
    let last = "SELECT md5(oriel_body(request_chunks)) FROM flows WHERE seq = 200";
    let whole = "SELECT length(request_body) FROM \"CCProxy_HttpTraces\" ORDER BY 1 DESC LIMIT 1";
    assert_eq!(ask(&cluster, whole), longest.to_string());
    let before = ask(&cluster, last);
    // What no flow has any more is removed, and nothing else.
    ask(
        &cluster,
        "UPDATE flows SET created_at = created_at - interval '2 days' WHERE seq < 200",
    );
    assert_eq!(
        ask(
            &cluster,
            "SELECT oriel_prune(now()::timestamp - interval '1 day')"
        ),
        "199"
    );
    assert_eq!(ask(&cluster, last), before);
    let left: usize = ask(&cluster, "SELECT sum(length(data)) FROM chunks")
        .parse()
        .unwrap();
    assert_eq!(left, longest);
    // A chunk that is missing is told.
    ask(
        &cluster,
        "DELETE FROM chunks WHERE hash = (SELECT hash FROM chunks LIMIT 1)",
    );
    let error = cluster.psql("postgres", last).unwrap_err().to_string();
    assert!(error.contains("chunks, of which"), "{error}");
}

/// What the archive has of bodies is whole, and there is nothing else.
fn assert_needed_and_whole(cluster: &PostgresCluster, flows: u64) {
    for (sql, expected) in [
        (
            "SELECT count(coalesce(request_body, oriel_body(request_chunks))) FROM flows",
            flows,
        ),
        (
            "SELECT count(*) FROM chunks WHERE hash NOT IN (SELECT unnest(request_chunks) FROM flows)",
            0,
        ),
        (
            "SELECT count(*) FROM batches WHERE batch NOT IN (SELECT batch FROM flows)",
            0,
        ),
    ] {
        assert_eq!(ask(cluster, sql), expected.to_string(), "{sql}");
    }
}

#[test]
fn old_flows_go_while_others_store_the_same_bodies() {
    let cluster = PostgresCluster::start().unwrap();
    let mut archive = archive(&cluster);
    let old = conversation();
    let since = Timestamp(old[0].detail.row.started_at.0 + 1);
    let later = |place: usize, round: u64| {
        let mut flow = old[place].clone();
        flow.detail.row.started_at = since;
        flow.detail.row.id.seq += round * 1000;
        let round = format!("019{round:05}");
        flow.detail.row.uuid = flow.detail.row.uuid.replacen("01900000", &round, 1);
        flow
    };
    let keep = Keep {
        flows_since: Some(since),
        ..Keep::default()
    };
    let doomed = Doomed::Old(&keep);
    archive.write(&batch(old.clone())).unwrap();
    let mut remover = PostgresArchive::connect(&cluster.url("postgres")).unwrap();
    // Whoever stops it finds the rest the next time.
    let begun = remover.remove(&doomed, &mut |_progress| false).unwrap();
    assert_eq!((begun.flows, begun.body_bytes), (200, 0));
    archive.write(&batch(old.clone())).unwrap();

    // While it is looked for what no flow has, and between the steps in which that goes, others store what is
    // about to go.
    let mut rounds = 0;
    let mut store_some = || {
        rounds += 1;
        let place = usize::try_from(rounds).unwrap() * 8 - 1;
        let flows = (place < old.len()).then(|| later(place, rounds));
        archive.write(&batch(flows.into_iter().collect())).unwrap();
    };
    let done = remover.remove(&doomed, &mut |progress| {
        if progress.done == progress.all {
            store_some();
        }
        true
    });
    assert_eq!(done.unwrap().flows, 200);
    assert!((3..25).contains(&rounds), "{rounds}");
    assert_needed_and_whole(&cluster, rounds);

    // Nor does it matter when they do.
    let stored: Vec<FlowRecord> = (0..100).step_by(7).map(|place| later(place, 99)).collect();
    let count = stored.len() as u64;
    archive.write(&batch(old.clone())).unwrap();
    let writer = thread::spawn(move || {
        for _ in 0..20 {
            archive.write(&batch(stored.clone())).unwrap();
        }
    });
    remover.remove(&doomed, &mut |_progress| true).unwrap();
    writer.join().unwrap();
    // The last batch of all is remembered, whatever became of its flows.
    remover.write(&batch(old[..1].to_vec())).unwrap();
    remover.write(&batch(vec![later(0, 99)])).unwrap();
    remover.remove(&doomed, &mut |_progress| true).unwrap();
    assert_needed_and_whole(&cluster, rounds + count);
}

#[test]
fn one_connection_is_enough_for_all_that_is_done() {
    let cluster = PostgresCluster::start().unwrap();
    ask(&cluster, "CREATE ROLE lonely LOGIN CONNECTION LIMIT 1");
    ask(&cluster, "CREATE DATABASE narrow OWNER lonely");
    let url = cluster.url("narrow").replace("oriel@", "lonely@") + "?connection_limit=1";
    let mut archive = PostgresArchive::connect(&url).unwrap();
    archive.migrate().unwrap();
    let reader = Reader::open_at(&Location::Postgres(url.clone())).unwrap();
    let mut another = PostgresArchive::connect(&url).unwrap();
    let flows = all_sorts();
    for flow in &flows {
        archive.write(&batch(vec![flow.clone()])).unwrap();
        another.write(&batch(vec![flow.clone()])).unwrap();
    }
    let query = Query::default();
    let count = |reader: &Reader| reader.flows(&query).unwrap().rows.len();
    assert_eq!(count(&reader), flows.len());
    // The server lets nobody else in, whoever does not share.
    let stranger = PostgresArchive::connect(&url.replace("limit=1", "limit=2"));
    assert!(matches!(stranger, Err(StoreError::Unavailable { .. })));
    let keep = Keep {
        flows_since: Some(Timestamp(START + 1_000_000_000_000)),
        ..Keep::default()
    };
    let mut goes_on = |_progress| true;
    let removal = another.remove(&Doomed::Old(&keep), &mut goes_on).unwrap();
    let is_open = |flow: &&FlowRecord| flow.detail.row.state == FlowState::Open;
    let left = flows.iter().filter(is_open).count();
    assert_eq!(removal.flows, (flows.len() - left) as u64);
    assert_eq!(count(&reader), left);
    assert_eq!(archive.status().unwrap().flows, left as u64);
}

#[test]
fn the_readonly_role_reads_and_changes_nothing() {
    let cluster = PostgresCluster::start().unwrap();
    archive(&cluster).write(&batch(all_sorts())).unwrap();
    ask(&cluster, READONLY_ROLE);
    // Twice is once.
    ask(&cluster, READONLY_ROLE);
    let as_reader = |sql: &str| cluster.psql("postgres", &format!("SET ROLE oriel_reader; {sql}"));
    let count = as_reader("SELECT count(response_body) FROM \"CCProxy_HttpTraces\"").unwrap();
    assert_eq!(count.trim_end(), "3");
    for sql in [
        "DELETE FROM \"CCProxy_HttpTraces\"",
        "UPDATE flows SET host = ''",
        "INSERT INTO chunks VALUES ('', '')",
        "SELECT oriel_prune('infinity')",
        "CREATE TABLE mine (n int)",
    ] {
        assert!(as_reader(sql).is_err(), "{sql}");
    }
    assert_eq!(ask(&cluster, "SELECT count(*) FROM flows"), "7");
}
