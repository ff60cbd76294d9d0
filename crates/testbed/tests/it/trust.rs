//! Which certificates a verifying client accepts.

use oriel_testbed::authority::{Authority, Flaw, Identity};
use oriel_testbed::upstream::{Protocols, Upstream, UpstreamOptions};

use crate::{NAME, connect_tls};

async fn handshake(authority: &Authority, identity: Identity, name: &str) -> Result<(), String> {
    let options = UpstreamOptions::https(identity, Protocols::Http1);
    let upstream = Upstream::start(options).await.unwrap();
    match connect_tls(authority, &upstream, name, &["http/1.1"]).await {
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

#[tokio::test]
async fn good_certificates_are_accepted_by_name_and_by_address() {
    let authority = Authority::new("test");
    for name in [NAME, "127.0.0.1", "::1"] {
        let identity = authority.issue(&[NAME, "127.0.0.1", "::1"]);
        handshake(&authority, identity, name).await.unwrap();
    }
}

#[tokio::test]
async fn flawed_certificates_are_refused_for_their_flaw() {
    let authority = Authority::new("test");
    let cases = [
        (Flaw::Expired, "expired"),
        (Flaw::NotYetValid, "not valid yet"),
        (Flaw::SelfSigned, "UnknownIssuer"),
        (Flaw::WrongPurpose, "extended key usage"),
    ];
    for (flaw, reason) in cases {
        let identity = authority.issue_flawed(&[NAME], flaw);
        let error = handshake(&authority, identity, NAME).await.unwrap_err();
        let said = error.to_lowercase();
        assert!(said.contains(&reason.to_lowercase()), "{flaw:?}: {error}");
    }
}

#[tokio::test]
async fn another_name_and_another_authority_are_refused() {
    let (authority, stranger) = (Authority::new("test"), Authority::new("stranger"));
    let error = handshake(&authority, authority.issue(&["other.test"]), NAME).await;
    assert!(error.unwrap_err().contains("not valid for name"));
    let error = handshake(&authority, stranger.issue(&[NAME]), NAME).await;
    assert!(error.unwrap_err().contains("UnknownIssuer"));
}
