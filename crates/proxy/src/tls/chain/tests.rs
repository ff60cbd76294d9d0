//! Chains of three, whole and flawed.

use super::*;
use crate::tls::authority::{Authority, CrossSigning, NewAuthority};
use crate::tls::pem;
use crate::tls::request::CertificateRequest;
use crate::tls::tests::{days_from_now, now};

fn authority(name: &str, path_length: u8) -> Authority {
    let new = NewAuthority {
        path_length,
        ..NewAuthority::named(name)
    };
    Authority::create(&new, now()).unwrap()
}

/// `below` as signed by `above`, with its chain.
fn signed_by(above: &Authority, below: &Authority, days: u32, path_length: u8) -> Authority {
    let request = CertificateRequest::from_bytes(below.request(None).unwrap().as_bytes()).unwrap();
    let terms = CrossSigning {
        days,
        path_length,
        only: Vec::new(),
    };
    let signed = above.cross_sign(&request, &terms, now()).unwrap();
    let chain = pem::certificates(&[signed]) + above.certificate_pem();
    Authority::from_pem(&chain, below.key_pem()).unwrap()
}

/// An authority below one below a root.
fn three() -> Authority {
    let (root, middle, below) = (
        authority("root", 2),
        authority("middle", 1),
        authority("below", 0),
    );
    signed_by(&signed_by(&root, &middle, 60, 1), &below, 30, 0)
}

fn subjects(authority: &Authority) -> Vec<String> {
    let links = authority.links();
    links.into_iter().map(|link| link.subject).collect()
}

fn faults(chain: &[CertificateDer<'_>]) -> String {
    let faults = check(chain, now());
    let said: Vec<_> = faults.iter().map(ToString::to_string).collect();
    said.join("\n")
}

#[test]
fn a_whole_chain_holds() {
    let below = three();
    assert_eq!(subjects(&below), ["CN=below", "CN=middle", "CN=root"]);
    assert_eq!(below.check_chain(now()), []);
    let links = below.links();
    let self_signed: Vec<_> = links.iter().map(|link| link.self_signed).collect();
    assert_eq!(self_signed, [false, false, true]);
    assert_eq!(links[1].issuer, "CN=root");
    assert_eq!(links[1].path_length, Some(1));
    // Clients need not be given the root to take the rest.
    assert_eq!(faults(&below.chain()[..2]), "");
}

#[test]
fn any_order_will_do_and_strangers_are_left_out() {
    let below = three();
    let stranger = authority("root", 0);
    let mut mixed = below.chain().to_vec();
    mixed.reverse();
    mixed.insert(0, stranger.certificate_der().clone());
    let mixed = Authority::from_pem(&pem::certificates(&mixed), below.key_pem()).unwrap();
    assert_eq!(mixed.chain(), below.chain());
}

#[test]
fn each_fault_is_named() {
    let below = three();
    let chain = below.chain();
    let stranger = authority("root", 2);
    let namesake = [&chain[..2], &[stranger.certificate_der().clone()]].concat();
    assert_eq!(
        faults(&namesake),
        "CN=middle was not signed by the key of CN=root that follows it"
    );
    let mut broken = chain[2].to_vec();
    *broken.last_mut().unwrap() ^= 1;
    assert_eq!(
        faults(&[CertificateDer::from(broken)]),
        "CN=root names itself as its issuer, and its signature does not hold"
    );
    assert_eq!(
        faults(&[CertificateDer::from(vec![0x30, 0])]),
        "certificate 1 of the chain cannot be read"
    );
    let named = |faults: Vec<ChainFault>| -> Vec<_> {
        let named = faults.into_iter().map(|fault| match fault {
            ChainFault::Expired { subject, .. } => format!("expired {subject}"),
            ChainFault::NotYetValid { subject, .. } => format!("not yet {subject}"),
            other => other.to_string(),
        });
        named.collect()
    };
    assert_eq!(named(check(chain, days_from_now(45))), ["expired CN=below"]);
    assert_eq!(
        named(check(chain, days_from_now(-1))),
        ["not yet CN=below", "not yet CN=middle", "not yet CN=root"]
    );
}

#[test]
fn a_path_that_is_too_long_is_named_and_not_made() {
    let (root, below) = (authority("root", 0), authority("below", 0));
    let request = CertificateRequest::from_bytes(below.request(None).unwrap().as_bytes()).unwrap();
    let terms = |path_length| CrossSigning {
        days: 1,
        path_length,
        only: Vec::new(),
    };
    let refused = root.cross_sign(&request, &terms(0), now()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "CN=root allows 0 authorities between it and a leaf; signing this one takes 1"
    );
    // The bound of the outermost counts as well.
    let middle = signed_by(&authority("outer", 1), &authority("middle", 9), 9, 0);
    let refused = middle.cross_sign(&request, &terms(0), now()).unwrap_err();
    assert!(refused.to_string().starts_with("CN=middle allows 0"));

    let chain = three();
    // The middle one allows one below it.
    let (below, middle) = (&chain.chain()[0], &chain.chain()[1]);
    let deeper = [below.clone(), below.clone(), middle.clone()];
    assert!(faults(&deeper).contains("CN=middle allows 1 authorities below it, and 2 stand there"));
}

/// A root whose signature is of an algorithm of the same length that nobody checks here: the name of
/// ecdsa-with-SHA256 in it made that of ecdsa-with-SHA224 (RFC 5758 section 3.2).
fn root_of_another_algorithm() -> CertificateDer<'static> {
    const SHA256: [u8; 8] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
    let mut der = authority("root", 2).certificate_der().to_vec();
    let places = der.windows(8).enumerate();
    let places = places
        .filter(|(_, octets)| *octets == SHA256)
        .map(|(at, _)| at);
    for at in places.collect::<Vec<_>>() {
        der[at + 7] = 0x01;
    }
    der.into()
}

#[test]
fn a_root_of_an_algorithm_that_nobody_checks_holds_and_is_noted() {
    let root = root_of_another_algorithm();
    let chain = [root];
    assert_eq!(faults(&chain), "");
    let link = &links(&chain)[0];
    assert!(link.self_signed && link.unchecked);
    assert!(!links(three().chain()).iter().any(|link| link.unchecked));
    // Below a root a signature counts.
    let mut middle = three().chain()[1].to_vec();
    let at = middle
        .windows(8)
        .rposition(|octets| octets == [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02]);
    middle[at.unwrap() + 7] = 0x01;
    let chain = [CertificateDer::from(middle), three().chain()[2].clone()];
    assert!(faults(&chain).contains("was not signed by the key of CN=root"));
}

#[test]
fn an_authority_for_other_things_than_servers_is_named() {
    use rcgen::ExtendedKeyUsagePurpose::{Any, ClientAuth, CodeSigning, ServerAuth};
    for (usages, holds) in [
        (vec![], true),
        (vec![ServerAuth], true),
        (vec![ClientAuth, ServerAuth], true),
        (vec![Any], true),
        (vec![ClientAuth], false),
        (vec![CodeSigning, ClientAuth], false),
    ] {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.extended_key_usages = usages.clone();
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let found = faults(&[certificate.der().clone()]);
        assert_eq!(
            !found.contains("without serverAuth"),
            holds,
            "{usages:?}: {found}"
        );
    }
}
