//! Reads the ClientHello at the start of a TLS connection from bytes that stay unconsumed
//! (RFC 8446 section 4.1.2).

/// What a client says in its first TLS message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// Host name of the server_name extension (RFC 6066 section 3), in lower case.
    pub sni: Option<String>,
    /// Protocol names of the ALPN extension (RFC 7301), in the client's order.
    pub alpn: Vec<Vec<u8>>,
    /// `legacy_version` of the message.
    pub legacy_version: u16,
    /// Versions of the supported_versions extension, in the client's order.
    pub versions: Vec<u16>,
    /// Cipher suites, in the client's order.
    pub ciphers: Vec<u16>,
    /// Extension types, in the client's order.
    pub extensions: Vec<u16>,
    /// True if the encrypted_client_hello extension of an outer hello is there (RFC 9849), so that
    /// `sni` is not the name the client wants.
    pub ech: bool,
}
