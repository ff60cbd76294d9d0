//! The certificate authority whose leaves clients see.

/// A certificate and its key, able to sign leaves.
#[derive(Debug)]
pub struct Authority {}
