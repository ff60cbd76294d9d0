//! The statements that make the tables: for one server, and for a cluster.

use super::migrate::MIGRATIONS;
use crate::migration::Migration;

/// The table that says which steps of the schema are applied, but for its engine.
pub(super) const STEPS: &str = "(
  number UInt32, name String, checksum String, applied_at DateTime DEFAULT now()
)";

/// The statements of a script. Those of ours have no semicolon within a line.
pub(super) fn statements(script: &str) -> impl Iterator<Item = &str> {
    script
        .split(";\n")
        .map(str::trim)
        .filter(|statement| statement.lines().any(is_sql))
}

fn is_sql(line: &str) -> bool {
    let line = line.trim_start();
    !line.is_empty() && !line.starts_with("--")
}

/// SQL that makes the tables: on one server as oriel does when it first writes to it, or on all servers of
/// a cluster. Then each table is replicated within its shard, and one of the same name spans the shards;
/// oriels write to and read from any server, all of which have to have the macros `{shard}` and `{replica}`.
///
/// To be run in the database that they are to use before the first of them connects, and again with what a
/// newer oriel says before that one does: what is there already stays.
#[must_use]
pub fn clickhouse_schema(cluster: Option<&str>) -> String {
    let mut sql = String::from("-- Tables of oriel for ClickHouse.\n\n");
    let cluster = cluster.map(quoted);
    let all = MIGRATIONS.iter().map(|migration| migration.sql);
    for statement in all.flat_map(statements) {
        sql.push_str(&match &cluster {
            Some(cluster) => for_cluster(statement, cluster),
            None => format!("{statement};"),
        });
        sql.push_str("\n\n");
    }
    let (of_cluster, engine) = match &cluster {
        // Every server has all of it: an oriel looks there first.
        Some(cluster) => (
            format!(" ON CLUSTER {cluster}"),
            "ReplicatedReplacingMergeTree('/clickhouse/tables/oriel/oriel_migrations', '{shard}-{replica}')",
        ),
        None => (String::new(), "ReplacingMergeTree"),
    };
    sql.push_str(&format!(
        "CREATE TABLE IF NOT EXISTS oriel_migrations{of_cluster} {STEPS} ENGINE = {engine} ORDER BY number;\n\n{}\n",
        steps_applied()
    ));
    sql
}

/// SQL that makes a role `oriel_reader`, which may read an archive and change nothing, on one server or all
/// of a cluster.
#[must_use]
pub fn clickhouse_reader_role(cluster: Option<&str>) -> String {
    let of_cluster = cluster.map(|name| format!(" ON CLUSTER {}", quoted(name)));
    let of_cluster = of_cluster.unwrap_or_default();
    let mut sql = format!(
        "-- A role that may read everything and change nothing. Run this in the database of the tables, then\n\
         -- give it to whom you like: GRANT oriel_reader TO alice\n\
         -- It may change settings of its queries: oriel sets `final`.\n\
         CREATE ROLE IF NOT EXISTS oriel_reader{of_cluster} SETTINGS readonly = 2;\n"
    );
    for table in [
        "runs",
        "flows",
        "messages",
        "gaps",
        "session_names",
        "session_merges",
    ] {
        sql.push_str(&format!(
            "GRANT{of_cluster} SELECT ON {table} TO oriel_reader;\n"
        ));
        if cluster.is_some() {
            sql.push_str(&format!(
                "GRANT{of_cluster} SELECT ON {table}_local TO oriel_reader;\n"
            ));
        }
    }
    for table in ["CCProxy_HttpTraces", "oriel_migrations"] {
        sql.push_str(&format!(
            "GRANT{of_cluster} SELECT ON {table} TO oriel_reader;\n"
        ));
    }
    sql
}

/// The name of a cluster as SQL has it.
fn quoted(name: &str) -> String {
    format!("'{}'", name.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// Notes that all steps are applied, so that oriel does not apply them.
fn steps_applied() -> String {
    let row = |(number, migration): (u32, &Migration)| {
        let (name, checksum) = (migration.name, migration.checksum());
        format!("  ({number}, '{name}', '{checksum}')")
    };
    let rows: Vec<String> = (1..).zip(MIGRATIONS).map(row).collect();
    format!(
        "INSERT INTO oriel_migrations (number, name, checksum) VALUES\n{};",
        rows.join(",\n")
    )
}

fn for_cluster(statement: &str, cluster: &str) -> String {
    if let Some((before, table, after)) = split_at_name(statement, "CREATE TABLE IF NOT EXISTS ") {
        return table_for_cluster((before, table, after), cluster);
    }
    if let Some((before, table, after)) = split_at_name(statement, "ALTER TABLE ") {
        let of_shard = format!("{before}{table}_local ON CLUSTER {cluster} {after};");
        // The table that spans the shards has no indexes.
        return match after.starts_with("ADD COLUMN") {
            true => {
                let (column, _) = after.split_once(" CODEC").unwrap_or((after, ""));
                format!("{of_shard}\n\nALTER TABLE {table} ON CLUSTER {cluster} {column};")
            }
            false => of_shard,
        };
    }
    // The view.
    let on_cluster = format!("CCProxy_HttpTraces ON CLUSTER {cluster} AS");
    format!(
        "{};",
        statement.replacen("CCProxy_HttpTraces AS", &on_cluster, 1)
    )
}

/// A flow is written again to the shard where it was before, since its key decides.
fn table_for_cluster((before, table, after): (&str, &str, &str), cluster: &str) -> String {
    let key = match table {
        "runs" => "uuid",
        "gaps" => "run_uuid",
        "session_names" | "session_merges" => "session_id",
        _ => "trace_id",
    };
    let path = format!("'/clickhouse/tables/{{shard}}/oriel/{table}', '{{replica}}'");
    let local = after
        .replace(
            "ReplacingMergeTree(",
            &format!("ReplicatedReplacingMergeTree({path}, "),
        )
        .replace(
            "ReplacingMergeTree ",
            &format!("ReplicatedReplacingMergeTree({path}) "),
        );
    format!(
        "{before}{table}_local ON CLUSTER {cluster} {local};\n\n\
         CREATE TABLE IF NOT EXISTS {table} ON CLUSTER {cluster} AS {table}_local\n  \
         ENGINE = Distributed({cluster}, currentDatabase(), {table}_local, cityHash64({key}));"
    )
}

/// What stands before the name of the table behind these words, the name, and the rest.
fn split_at_name<'s>(statement: &'s str, words: &str) -> Option<(&'s str, &'s str, &'s str)> {
    let start = statement.find(words)? + words.len();
    let (before, rest) = statement.split_at_checked(start)?;
    let (table, after) = rest.split_once(' ')?;
    Some((before, table, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_cut_into_its_statements() {
        let found = |step: usize| {
            let words = ["CREATE TABLE IF NOT EXISTS ", "ALTER TABLE "];
            let name = |statement| {
                let found = words
                    .iter()
                    .find_map(|words| split_at_name(statement, words));
                found.map_or("", |(_, table, _)| table)
            };
            statements(MIGRATIONS[step].sql)
                .map(name)
                .collect::<Vec<_>>()
        };
        assert_eq!(found(0), ["runs", "flows", "messages", "gaps", ""]);
        assert_eq!(found(1), ["flows", "flows"]);
        assert_eq!(found(2), ["flows"; 4]);
        assert_eq!(found(3), ["session_names", "session_merges"]);
    }

    #[test]
    fn who_reads_a_cluster_reads_the_tables_of_all_shards() {
        let sql = clickhouse_reader_role(Some("c"));
        assert!(sql.contains("GRANT ON CLUSTER 'c' SELECT ON flows_local TO oriel_reader;"));
        assert!(!clickhouse_reader_role(None).contains("_local"));
    }

    #[test]
    fn a_cluster_has_a_replicated_and_a_distributed_table_for_each() {
        let sql = clickhouse_schema(Some("it's"));
        for table in ["runs", "flows", "messages", "gaps"] {
            let local = format!("CREATE TABLE IF NOT EXISTS {table}_local ON CLUSTER 'it\\'s' (");
            assert!(sql.contains(&local), "{sql}");
            let path = format!(
                "ReplicatedReplacingMergeTree('/clickhouse/tables/{{shard}}/oriel/{table}', '{{replica}}'"
            );
            assert!(sql.contains(&path), "{sql}");
            let all =
                format!("CREATE TABLE IF NOT EXISTS {table} ON CLUSTER 'it\\'s' AS {table}_local");
            assert!(sql.contains(&all), "{sql}");
        }
        assert!(sql.contains("CCProxy_HttpTraces ON CLUSTER 'it\\'s' AS SELECT"));
        assert!(!sql.contains(" ReplacingMergeTree"));
        for line in [
            "ALTER TABLE flows_local ON CLUSTER 'it\\'s' ADD COLUMN IF NOT EXISTS words String CODEC(ZSTD(3));",
            "ALTER TABLE flows ON CLUSTER 'it\\'s' ADD COLUMN IF NOT EXISTS words String;",
            "ALTER TABLE flows_local ON CLUSTER 'it\\'s' ADD INDEX IF NOT EXISTS flows_by_words words TYPE",
        ] {
            assert!(sql.contains(line), "{sql}");
        }
        assert!(!sql.contains("ALTER TABLE flows ON CLUSTER 'it\\'s' ADD INDEX"));
        assert!(!sql.contains("ALTER TABLE flows ON CLUSTER 'it\\'s' MODIFY"));
        assert!(sql.contains("  (2, '0002_words', '"), "{sql}");
    }
}
