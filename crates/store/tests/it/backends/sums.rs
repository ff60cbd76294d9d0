//! Sessions and groups of flows sum up to the same in every kind of database.

use bytes::Bytes;
use oriel_store::{Archive, Reader, StatsKey};
use rusqlite::Connection;
use traffic::FlowKind;

use super::copy_to;
use crate::copies::record_all_sorts;
use crate::filters::record_sixty;
use crate::script::{Place, Script, new_run};
use crate::search::filter;
use crate::sessions::record_two_sessions;

/// Flows of all sorts in four runs; the sessions of two of these are the same.
pub(super) fn compare(archive: &mut dyn Archive, other: &Reader) {
    let mut place = Place::new();
    for record in [
        record_two_sessions,
        record_all_sorts,
        record_sixty,
        record_two_sessions,
    ] {
        record(&place);
        place.run = place.store.begin_run(new_run(None)).unwrap();
        place.recorder = place.store.recorder(place.run);
    }
    // A day later, a session of which no program is known, and that fails.
    let mut script = Script::new(200_000_000);
    script.kind = FlowKind::Http;
    script.request = b"POST /mcp HTTP/1.1\r\nMcp-Session-Id: tools\r\n\r\n".to_vec();
    script.request_body = vec![Bytes::from_static(
        br#"{"jsonrpc":"2.0","method":"tools/list","id":1}"#,
    )];
    script.response = Some(b"HTTP/1.1 500 No\r\n\r\n".to_vec());
    place.record(script.events());
    Connection::open(place.path())
        .unwrap()
        .execute(
            "UPDATE runs SET origin = '{\"instance\":\"laptop\",\"user\":\"dana\",\"tags\":[]}'
             WHERE id = (SELECT id FROM runs ORDER BY number LIMIT 1)",
            (),
        )
        .unwrap();
    let reader = place.reader();
    copy_to(&reader, archive);

    let sessions = reader.sessions(usize::MAX).unwrap();
    assert_eq!(sessions.len(), 3);
    assert!(sessions[0].agent.is_none() && sessions[0].failed == 1);
    assert_eq!((sessions[1].flows, sessions[1].runs), (4, 2));
    assert_eq!(other.sessions(usize::MAX).unwrap(), sessions);
    assert_eq!(other.sessions(2).unwrap(), sessions[..2]);
    for text in [
        "",
        "status:>=400",
        "type:llm",
        "kind:tunnel",
        "host:nowhere",
    ] {
        let filter = filter(text);
        for by in StatsKey::ALL {
            let stats = reader.stats(by, Some(&filter)).unwrap();
            assert_eq!(
                other.stats(by, Some(&filter)).unwrap(),
                stats,
                "{by:?} {text}"
            );
            let flows: u64 = stats.groups.iter().map(|group| group.flows).sum();
            match by {
                StatsKey::Tag => assert!(flows >= stats.total.flows, "{text}"),
                _ => assert_eq!(flows, stats.total.flows, "{by:?} {text}"),
            }
        }
    }
    let tags = reader.stats(StatsKey::Tag, None).unwrap();
    let in_groups: u64 = tags.groups.iter().map(|group| group.flows).sum();
    assert!(in_groups > tags.total.flows, "a flow with several tags");
    let users = reader.stats(StatsKey::User, None).unwrap().groups;
    assert!(
        users
            .iter()
            .any(|group| group.key.as_deref() == Some("alice"))
    );
    for (by, name) in [(StatsKey::Instance, "laptop"), (StatsKey::Owner, "dana")] {
        let groups = reader.stats(by, None).unwrap().groups;
        let keys: Vec<_> = groups.iter().map(|group| group.key.as_deref()).collect();
        assert_eq!(keys, [None, Some(name)]);
    }
    let days = reader.stats(StatsKey::Day, None).unwrap().groups;
    assert_eq!(days.len(), 2);
    assert_eq!(other.stats(StatsKey::Day, None).unwrap().groups, days);
}
