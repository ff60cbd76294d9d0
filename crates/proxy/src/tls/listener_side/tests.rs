//! What a minted certificate is for.

use super::*;
use crate::clock;
use crate::tls::authority::Authority;

#[test]
fn a_minted_certificate_is_for_all_names_and_is_kept() {
    let authority = Arc::new(Authority::generate("test", clock::now()).unwrap());
    let leaves = Arc::new(LeafCache::new(authority, 4).unwrap());
    let minted = Minted {
        leaves,
        clock: clock::now,
        names: vec![
            Host::parse("proxy.example").unwrap(),
            Host::parse("127.0.0.1").unwrap(),
            Host::parse("::1").unwrap(),
        ],
        leaf: Mutex::default(),
    };
    let leaf = minted.current().unwrap();
    let facts = crate::tls::certificate::facts(&leaf.cert).unwrap();
    assert_eq!(facts.names, ["proxy.example", "127.0.0.1", "::1"]);
    assert!(Arc::ptr_eq(&leaf, &minted.current().unwrap()));
}
