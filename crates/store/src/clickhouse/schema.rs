//! The statements that make the tables: for one server, and for a cluster.

use super::migrate::{MIGRATIONS, Migration};

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

/// SQL that makes the tables on all servers of a cluster: each table replicated within its shard, and
/// one of the same name that spans the shards. Oriels write to and read from any server. To be run in the
/// database they are to use, before the first of them connects, and again with what a newer oriel says
/// before that one does: what is there already stays.
///
/// The servers have to have the macros `{shard}` and `{replica}`.
#[must_use]
pub fn cluster_schema(cluster: &str) -> String {
    let cluster = format!("'{}'", cluster.replace('\\', "\\\\").replace('\'', "\\'"));
    let mut sql = String::from("-- Tables of oriel for a ClickHouse cluster.\n\n");
    for migration in &MIGRATIONS {
        for statement in statements(migration.sql) {
            sql.push_str(&for_cluster(statement, &cluster));
            sql.push_str("\n\n");
        }
    }
    // Every server has all of it: an oriel looks there first.
    sql.push_str(&format!(
        "CREATE TABLE IF NOT EXISTS oriel_migrations ON CLUSTER {cluster} {STEPS} \
         ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/oriel/oriel_migrations', '{{shard}}-{{replica}}') \
         ORDER BY number;\n\n{}\n",
        steps_applied()
    ));
    sql
}

/// Notes that all steps are applied, so that oriel does not apply them.
fn steps_applied() -> String {
    let row = |(number, migration): (u32, &Migration)| {
        let (name, checksum) = (migration.name, migration.checksum());
        format!("  ({number}, '{name}', '{checksum}')")
    };
    let rows: Vec<String> = (1..).zip(&MIGRATIONS).map(row).collect();
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
    }

    #[test]
    fn a_cluster_has_a_replicated_and_a_distributed_table_for_each() {
        let sql = cluster_schema("it's");
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
        assert!(sql.contains("  (2, '0002_words', '"), "{sql}");
    }
}
