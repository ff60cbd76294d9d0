//! The statements that make the tables: for one server, and for a cluster.

/// The tables for one server.
pub(super) const FLOWS: &str = include_str!("../../migrations/clickhouse/0001_flows.sql");

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
/// one of the same name that spans the shards. Oriels write to and read from any server. To be run once,
/// in the database they are to use, before the first of them connects.
///
/// The servers have to have the macros `{shard}` and `{replica}`.
#[must_use]
pub fn cluster_schema(cluster: &str) -> String {
    let cluster = format!("'{}'", cluster.replace('\\', "\\\\").replace('\'', "\\'"));
    let mut sql = String::from("-- Tables of oriel for a ClickHouse cluster.\n\n");
    for statement in statements(FLOWS) {
        sql.push_str(&for_cluster(statement, &cluster));
        sql.push_str("\n\n");
    }
    sql
}

/// A flow is written again to the shard where it was before, since its key decides.
fn for_cluster(statement: &str, cluster: &str) -> String {
    let Some((before, table, after)) = split_table(statement) else {
        // The view.
        let on_cluster = format!("CCProxy_HttpTraces ON CLUSTER {cluster} AS");
        return format!(
            "{};",
            statement.replacen("CCProxy_HttpTraces AS", &on_cluster, 1)
        );
    };
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

/// What stands before the name of the table that a statement makes, the name, and the rest.
fn split_table(statement: &str) -> Option<(&str, &str, &str)> {
    const CREATE: &str = "CREATE TABLE IF NOT EXISTS ";
    let start = statement.find(CREATE)? + CREATE.len();
    let (before, rest) = statement.split_at_checked(start)?;
    let (table, after) = rest.split_once(' ')?;
    Some((before, table, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_cut_into_its_statements() {
        let tables: Vec<_> = statements(FLOWS)
            .filter_map(|statement| split_table(statement).map(|(_, table, _)| table))
            .collect();
        assert_eq!(tables, ["runs", "flows", "messages", "gaps"]);
        assert_eq!(statements(FLOWS).count(), 5);
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
    }
}
