//! Which configurations are refused, and what a file may hold.

use super::*;

fn invalid(change: impl FnOnce(&mut MitmConfig)) -> Vec<String> {
    let mut config = MitmConfig::default();
    config.interception.destinations = vec!["*".to_owned()];
    change(&mut config);
    match config.validate() {
        Ok(()) => Vec::new(),
        Err(error) => error.fields.into_iter().map(|wrong| wrong.field).collect(),
    }
}

#[test]
fn every_wrong_field_is_named_at_once() {
    assert_eq!(invalid(|_| ()), [""; 0]);
    let named = invalid(|config| {
        config.interception.destinations = vec!["a.example:0".to_owned(), "b.example".to_owned()];
        config.tls.ca_cert_path = PathBuf::new();
        config.tls.ca_key_path = PathBuf::from("..");
        config.process_attribution.lookup_timeout_ms = 0;
        config.upstream.timeout_ms = 0;
        config.upstream.connect_timeout_ms = u64::MAX;
        config.upstream.retry_delay_ms = u64::MAX;
        config.connection_pool.max_connections_per_host = 0;
        config.connection_pool.idle_timeout_ms = 0;
        config.body.max_size_bytes = 0;
        config.limits.max_concurrent_flows = 0;
        config.limits.max_connections_per_client = 0;
        config.limits.max_held_bytes = 0;
        config.handler.request_timeout_ms = 0;
        config.handler.response_timeout_ms = 0;
    });
    let expected = [
        "interception.destinations[0]",
        "tls.ca_cert_path",
        "tls.ca_key_path",
        "process_attribution.lookup_timeout_ms",
        "upstream.timeout_ms",
        "upstream.connect_timeout_ms",
        "upstream.retry_delay_ms",
        "connection_pool.idle_timeout_ms",
        "handler.request_timeout_ms",
        "handler.response_timeout_ms",
        "connection_pool.max_connections_per_host",
        "body.max_size_bytes",
        "limits.max_concurrent_flows",
        "limits.max_connections_per_client",
        "limits.max_held_bytes",
    ];
    assert_eq!(named, expected);
    let none = invalid(|config| config.interception.destinations.clear());
    assert_eq!(none, ["interception.destinations"]);
    let same = invalid(|config| config.tls.ca_key_path = config.tls.ca_cert_path.clone());
    assert_eq!(same, ["tls.ca_key_path"]);
    // What may be nothing: not to wait before a second try, and not to keep connections.
    let nothing = invalid(|config| {
        config.upstream.retry_delay_ms = 0;
        config.connection_pool.max_idle_per_host = 0;
    });
    assert_eq!(nothing, [""; 0]);
}

#[test]
fn an_error_says_what_and_how_to_mend_it() {
    let mut config = MitmConfig::default();
    config.upstream.timeout_ms = 0;
    let error = config.validate().unwrap_err();
    assert_eq!(
        error.to_string(),
        "interception.destinations: nothing would be opened (name a host, or \"*\" for all); \
         upstream.timeout_ms: 0 ms is no time to wait (set 1 to 86400000 ms)"
    );
}

#[test]
fn a_file_may_leave_out_and_may_not_invent() {
    let config: MitmConfig = toml::from_str(
        "bind = \"127.0.0.1:9090\"\n\
         [tls]\nmin_version = \"tls13\"\n\
         [handler]\non_error = \"allow\"\n",
    )
    .unwrap();
    assert_eq!(config.bind.port(), 9090);
    assert_eq!(config.tls.min_version, MinTlsVersion::Tls13);
    assert_eq!(config.handler.on_error, OnError::Allow);
    assert_eq!(config.upstream, UpstreamConfig::default());
    let text = toml::to_string(&config).unwrap();
    assert_eq!(toml::from_str::<MitmConfig>(&text).unwrap(), config);
    for wrong in [
        "bimd = 1",
        "[tls]\nmin_versoin = \"tls12\"",
        "[tls]\nmin_version = \"tls10\"",
    ] {
        toml::from_str::<MitmConfig>(wrong).unwrap_err();
    }
}
