//! Pages of lists.

use oriel_store::{Order, Query, SortKey, StoreError};
use traffic::Timestamp;
use traffic::rules::filter::Filter;

use crate::script::{Place, START, Script};

/// Twenty flows, some of which are equal in every order.
fn place() -> Place {
    let place = Place::new();
    for flow in 0..20 {
        let mut script = Script::new(flow);
        script.at = START + i64::try_from(flow / 3).unwrap() * 1000;
        script.micros = i64::try_from(flow % 4).unwrap() * 8000;
        script.response_cut = flow % 5;
        place.record(script.events());
    }
    place
}

#[test]
fn pages_give_each_flow_once_in_order() {
    let place = place();
    let reader = place.reader();
    for by in [SortKey::Time, SortKey::Duration, SortKey::Size] {
        for ascending in [true, false] {
            let mut query = Query {
                order: Order { by, ascending },
                limit: 100,
                with_total: true,
                ..Query::default()
            };
            let whole = reader.flows(&query).unwrap();
            assert_eq!((whole.rows.len(), whole.total), (20, Some(20)));
            assert!(whole.next.is_none());
            query.limit = 7;
            let mut pieces = Vec::new();
            loop {
                let page = reader.flows(&query).unwrap();
                assert_eq!(page.total, Some(20));
                pieces.extend(page.rows);
                let Some(next) = page.next else { break };
                query.after = Some(next.to_string().parse().unwrap());
            }
            assert_eq!(pieces, whole.rows, "{by:?} {ascending}");
            let key = |row: &oriel_store::FlowRow| match by {
                SortKey::Time => row.started_at.0,
                SortKey::Duration => row.ended_at.unwrap().0 - row.started_at.0,
                SortKey::Size => i64::try_from(row.response_bytes.unwrap()).unwrap(),
            };
            let sorted = whole.rows.is_sorted_by(|left, right| match ascending {
                true => key(left) <= key(right),
                false => key(left) >= key(right),
            });
            assert!(sorted, "{by:?} {ascending}");
        }
    }
}

#[test]
fn a_page_stays_right_while_flows_are_added() {
    let place = place();
    let reader = place.reader();
    let mut query = Query {
        limit: 5,
        ..Query::default()
    };
    let first = reader.flows(&query).unwrap();
    place.record(Script::new(99).events());
    place.flush();
    query.after = first.next;
    let second = reader.flows(&query).unwrap();
    assert!(second.rows.iter().all(|row| !first.rows.contains(row)));
    assert_eq!(second.rows.len(), 5);
}

#[test]
fn a_cursor_of_another_order_is_refused() {
    let place = place();
    let reader = place.reader();
    let first = reader
        .flows(&Query {
            limit: 5,
            ..Query::default()
        })
        .unwrap();
    let other = Query {
        after: first.next,
        order: Order {
            by: SortKey::Size,
            ascending: false,
        },
        ..Query::default()
    };
    assert!(matches!(reader.flows(&other), Err(StoreError::BadCursor)));
}

#[test]
fn the_total_counts_what_matches() {
    let place = place();
    let query = Query {
        filter: Some(Filter::parse("size:>20", Timestamp(START)).unwrap()),
        run: Some(place.run),
        limit: 2,
        with_total: true,
        ..Query::default()
    };
    let page = place.reader().flows(&query).unwrap();
    assert_eq!((page.rows.len(), page.total), (2, Some(16)));
}
