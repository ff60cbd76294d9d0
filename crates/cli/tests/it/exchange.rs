//! `oriel export` and `oriel import`.

use serde_json::Value;

use crate::world::{World, mode};

#[test]
fn what_is_exported_can_be_imported() {
    let world = World::new();
    world.oriel(&["demo"]);
    let list = world.json(&["flows", "--json", "-n", "100"]);
    for name in ["flows.jsonl", "flows.har", "flows.mitm"] {
        world.oriel(&["export", "-o", name]).succeeded();
        assert_eq!(mode(&world.path(name)), 0o600);
        let text = std::fs::read(world.path(name)).unwrap();
        assert!(!String::from_utf8_lossy(&text).contains("sk-demo-not-a-real-key"));
        let again = world.oriel(&["export", "-o", name]);
        assert_eq!(again.code, Some(2));
        assert!(
            again.stderr.contains("is there already"),
            "{}",
            again.stderr
        );
        assert_eq!(std::fs::read(world.path(name)).unwrap(), text);
        world.oriel(&["export", "--force", "-o", name]).succeeded();
    }
    let left = std::fs::read_dir(world.path("")).unwrap();
    let parts = left.filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_string_lossy().contains(".part")
    });
    assert_eq!(parts.count(), 0);

    // Lines keep their runs: what is there already is not there twice.
    let known = world.json(&["import", "flows.jsonl", "--json"]);
    assert_eq!(known["files"][0]["unchanged"], 7, "{known}");
    let other = World::new();
    let file = |name: &str| world.path(name).display().to_string();
    other.oriel(&["import", &file("flows.jsonl")]);
    assert_eq!(other.json(&["flows", "--json", "-n", "100"]), list);

    let imported = other.json(&["import", &file("flows.har"), "--json"]);
    let item = &imported["files"][0];
    assert_eq!(
        (&item["added"], &item["format"]),
        (&Value::from(6), &Value::from("har"))
    );
    let run = item["run"].as_str().unwrap();
    let shown = other.oriel(&["flows", "show", &format!("{run}.1"), "--full"]);
    assert!(
        shown.stdout.contains("Is the build green?"),
        "{}",
        shown.stdout
    );
    let found = other.json(&["flows", "--json", "--session", "flows.har", "status:401"]);
    assert_eq!(found["total"], 1);

    // The tunnel is none of HTTP there.
    let imported = other.oriel(&["import", &file("flows.mitm")]);
    assert_eq!(imported.code, Some(1), "{}", imported.stderr);
    assert!(
        imported.stderr.contains("imported 6 flows, 1 left out"),
        "{}",
        imported.stderr
    );
}

#[test]
fn some_flows_are_exported() {
    let world = World::new();
    world.oriel(&["demo"]);
    let lines = |arguments: &[&str]| {
        let exported = world.oriel(arguments).succeeded();
        exported.stdout.lines().count()
    };
    assert_eq!(lines(&["export"]), 7);
    assert_eq!(lines(&["export", "@last"]), 7);
    assert_eq!(lines(&["flows", "export", "@last.1", "@last.3"]), 2);
    assert_eq!(lines(&["export", "status:401"]), 1);
    assert_eq!(lines(&["export", "kind:tunnel", "since:1h"]), 1);
    let har = world.json(&["export", "kind:tunnel", "--format", "har"]);
    assert_eq!(har["log"]["entries"], Value::Array(Vec::new()));
    let curl = world
        .oriel(&["export", "@last.1", "--format", "curl"])
        .stdout;
    assert!(curl.starts_with("curl 'https://"), "{curl}");
    assert_eq!(world.oriel(&["export", "@last.99"]).code, Some(5));
    assert_eq!(
        world
            .oriel(&["export", "@last.1", "-o", "no/such/folder.har"])
            .code,
        Some(7)
    );
}

#[test]
fn a_damaged_file_keeps_what_stands_before() {
    let world = World::new();
    world.oriel(&["demo"]);
    world.oriel(&["export", "-o", "flows.har"]);
    let text = std::fs::read_to_string(world.path("flows.har")).unwrap();
    let cut = text.len() - 200;
    world.file("cut.har", text.get(..cut).unwrap());
    let imported = world.oriel(&["import", "cut.har"]);
    assert_eq!(imported.code, Some(1));
    assert!(imported.stderr.contains("ORL0009"), "{}", imported.stderr);
    assert!(
        imported.stderr.contains("damaged at line 7"),
        "{}",
        imported.stderr
    );
    assert!(
        imported.stderr.contains("is imported: 5 flows"),
        "{}",
        imported.stderr
    );
    let found = world.json(&["flows", "--json", "--session", "cut.har"]);
    assert_eq!(found["total"], 5);
    assert_eq!(world.oriel(&["import", "none.har"]).code, Some(2));
    world.file("odd.txt", "hello");
    let odd = world.oriel(&["import", "odd.txt", "--json"]);
    assert_eq!(odd.error()["code"], "ORL0009");
}

#[test]
#[cfg(not(feature = "parquet"))]
fn parquet_is_named_where_it_is_not_built_in() {
    let world = World::new();
    let printed = world.oriel(&["export", "-o", "flows.parquet"]);
    assert_eq!(printed.code, Some(2), "{}", printed.stderr);
    assert!(
        printed.stderr.contains("without Parquet") && printed.stderr.contains("--features parquet"),
        "{}",
        printed.stderr
    );
}

#[test]
fn no_value_is_a_formula_unless_asked_for() {
    let world = World::new();
    world.oriel(&["demo"]);
    let formula = "=HYPERLINK(A1)";
    world.done(&["flows", "note", "@last.1", formula]);
    world.done(&["flows", "mark", "@last.1", "--tag", "@sum"]);
    let csv = ["export", "@last.1", "--format", "csv"];
    let safe = world.done(&csv);
    assert!(safe.contains(",'=HYPERLINK(A1)"), "{safe}");
    let raw = world.done(&[&csv[..], &["--csv-raw"]].concat());
    assert_eq!(safe.replace(",'=", ",="), raw);
    let other = world.oriel(&["export", "--csv-raw"]);
    assert_eq!(other.code, Some(2), "{}", other.stdout);
    let stats = world.done(&["stats", "--by", "tag", "--csv"]);
    assert!(stats.contains("\n'@sum,1,"), "{stats}");
    let stats = world.done(&["stats", "--by", "tag", "--csv", "--csv-raw"]);
    assert!(stats.contains("\n@sum,1,"), "{stats}");
}
