//! Reads the ClientHello at the start of a TLS connection from bytes that stay unconsumed
//! (RFC 8446 section 4.1.2).
//!
//! The engine reads a few bytes, asks a [`HelloReader`], and reads on while the answer is
//! [`Parsed::Incomplete`]. The answer never depends on how the bytes were cut: more bytes turn
//! `Incomplete` into something else and leave every other answer as it is.

use crate::Host;

/// Bytes of the records that hold a ClientHello, together with their headers. A hello with
/// post-quantum key shares has about 2 kB; nobody sends 64 KiB.
pub const HELLO_BYTES_MAX: usize = 64 * 1024;

/// Longest fragment of a record (RFC 8446 section 5.1).
const FRAGMENT_BYTES_MAX: usize = 1 << 14;
const RECORD_HEADER_BYTES: usize = 5;
const MESSAGE_HEADER_BYTES: usize = 4;

const HANDSHAKE_RECORD: u8 = 22;
const CLIENT_HELLO_MESSAGE: u8 = 1;

/// What the bytes at the start of a connection are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// Not a TLS handshake.
    NotTls,
    /// The start of one, so far.
    Incomplete,
    /// A whole ClientHello. Bytes may follow it.
    Hello(ClientHello),
    /// A TLS handshake that does not begin with a ClientHello that can be read.
    Malformed(&'static str),
}

/// What a client says in its first TLS message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// Host name of the server_name extension (RFC 6066 section 3), in lower case. An address
    /// there, which some clients send against the RFC, counts as none.
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
    /// Groups of the supported_groups extension, in the client's order.
    pub groups: Vec<u16>,
    /// Formats of the ec_point_formats extension, in the client's order.
    pub point_formats: Vec<u8>,
    /// Algorithms of the signature_algorithms extension, in the client's order.
    pub signature_algorithms: Vec<u16>,
    /// True if the encrypted_client_hello extension of an outer hello is there (RFC 9849), so that
    /// `sni` may not be the name the client wants.
    pub ech: bool,
}

impl ClientHello {
    /// The newest version of TLS that the client speaks (RFC 8446 section 4.2.1), `0x0303` for TLS
    /// 1.2. Values of GREASE (RFC 8701) do not count.
    #[must_use]
    pub fn newest_version(&self) -> u16 {
        let offered = self.versions.iter().copied();
        let newest = offered.filter(|version| version & 0x0f0f != 0x0a0a).max();
        newest.unwrap_or(self.legacy_version)
    }

    /// Whether the client offers the same as in another hello, in the same order, to whomever: both have the same
    /// [fingerprints](super::fingerprint).
    #[must_use]
    pub fn offers_the_same(&self, other: &Self) -> bool {
        self.extensions == other.extensions && self.offers_the_same_shuffled(other)
    }

    /// Whether it offers the same but for the order of the extensions, which some clients shuffle: both have the
    /// same [JA4](super::fingerprint::ja4).
    #[must_use]
    pub fn offers_the_same_shuffled(&self, other: &Self) -> bool {
        let Self {
            sni: _,
            alpn,
            legacy_version,
            versions,
            ciphers,
            extensions,
            groups,
            point_formats,
            signature_algorithms,
            ech: _,
        } = self;
        let sorted = |extensions: &[u16]| {
            let mut sorted = extensions.to_vec();
            sorted.sort_unstable();
            sorted
        };
        *legacy_version == other.legacy_version
            && *ciphers == other.ciphers
            && *groups == other.groups
            && *point_formats == other.point_formats
            && *signature_algorithms == other.signature_algorithms
            && *versions == other.versions
            && *alpn == other.alpn
            && extensions.len() == other.extensions.len()
            && (*extensions == other.extensions || sorted(extensions) == sorted(&other.extensions))
    }

    /// Whether it names another host than the one that was asked for. A client that asked for an
    /// address looked the name up itself, and one without SNI names nobody.
    #[must_use]
    pub fn names_another_than(&self, asked: &Host) -> bool {
        match (asked, &self.sni) {
            (Host::Name(name), Some(sni)) => !name.eq_ignore_ascii_case(sni),
            _ => false,
        }
    }
}

/// Reads the ClientHello at the start of `bytes`.
#[must_use]
pub fn parse(bytes: &[u8]) -> Parsed {
    HelloReader::default().read(bytes)
}

/// Reads a ClientHello that comes piece by piece, and looks at each piece once: for a client that
/// sends octet by octet it does no more than for another.
#[derive(Clone, Debug, Default)]
pub struct HelloReader {
    /// The fragments that came, without the headers of their records.
    message: Vec<u8>,
    /// How many of the bytes were looked at.
    taken: usize,
    /// How many bytes of the current record are yet to come.
    left: usize,
}

impl HelloReader {
    /// Reads on, given all that has come so far: what was there the last time, and what came since.
    /// The answer is the one of [`parse`] for the same bytes, as long as it has been
    /// [`Parsed::Incomplete`] before.
    pub fn read(&mut self, bytes: &[u8]) -> Parsed {
        match self.gather(bytes) {
            Ok(Some(message)) => match read_message(message) {
                Ok(hello) => Parsed::Hello(hello),
                Err(reason) => Parsed::Malformed(reason),
            },
            Ok(None) => Parsed::Incomplete,
            Err(Gather::NotTls) => Parsed::NotTls,
            Err(Gather::Malformed(reason)) => Parsed::Malformed(reason),
        }
    }

    /// Takes the fragments of the records together until the message is whole: the message without
    /// its header, or `None` while bytes are missing.
    fn gather(&mut self, bytes: &[u8]) -> Result<Option<&[u8]>, Gather> {
        let looked_at = bytes.get(..HELLO_BYTES_MAX).unwrap_or(bytes);
        while let Some(rest) = looked_at.get(self.taken..).filter(|rest| !rest.is_empty()) {
            if self.left == 0 {
                check_record_start(rest, self.message.is_empty())?;
                let Some((header, _)) = rest.split_first_chunk::<RECORD_HEADER_BYTES>() else {
                    break;
                };
                self.left = fragment_length(*header)?;
                self.taken += RECORD_HEADER_BYTES;
                continue;
            }
            // What is there of a fragment counts, so that an answer never waits for bytes that
            // cannot change it.
            let (fragment, _) = rest.split_at_checked(self.left).unwrap_or((rest, &[]));
            self.message.extend_from_slice(fragment);
            self.left -= fragment.len();
            self.taken += fragment.len();
            if take_message(&self.message)?.is_some() {
                return take_message(&self.message);
            }
        }
        if bytes.len() >= HELLO_BYTES_MAX {
            return Err(Gather::Malformed("the ClientHello is longer than 64 KiB"));
        }
        Ok(None)
    }
}

enum Gather {
    NotTls,
    Malformed(&'static str),
}

/// How long the fragment of a record is.
fn fragment_length([_, _, _, high, low]: [u8; RECORD_HEADER_BYTES]) -> Result<usize, Gather> {
    match usize::from(u16::from_be_bytes([high, low])) {
        0 => Err(Gather::Malformed("a record of the handshake is empty")),
        length if length > FRAGMENT_BYTES_MAX => {
            Err(Gather::Malformed("a record is longer than TLS allows"))
        }
        length => Ok(length),
    }
}

/// Looks at what is there of a record's type and version. The minor version is for nobody to look
/// at (RFC 8446 section 5.1): 0x0300 to 0x0304 are in use.
fn check_record_start(rest: &[u8], first: bool) -> Result<(), Gather> {
    let good = match rest {
        [] => true,
        [kind] => *kind == HANDSHAKE_RECORD,
        [kind, major] => *kind == HANDSHAKE_RECORD && *major == 3,
        [kind, major, minor, ..] => *kind == HANDSHAKE_RECORD && *major == 3 && *minor <= 4,
    };
    match (good, first) {
        (true, _) => Ok(()),
        (false, true) => Err(Gather::NotTls),
        (false, false) => Err(Gather::Malformed(
            "another record stands between the parts of the ClientHello",
        )),
    }
}

/// The body of the message once it is whole.
fn take_message(message: &[u8]) -> Result<Option<&[u8]>, Gather> {
    if message
        .first()
        .is_some_and(|kind| *kind != CLIENT_HELLO_MESSAGE)
    {
        return Err(Gather::Malformed("the first message is not a ClientHello"));
    }
    let Some((header, body)) = message.split_first_chunk::<MESSAGE_HEADER_BYTES>() else {
        return Ok(None);
    };
    let [_, high, middle, low] = *header;
    let length = u32::from_be_bytes([0, high, middle, low]) as usize;
    if length > HELLO_BYTES_MAX - RECORD_HEADER_BYTES - MESSAGE_HEADER_BYTES {
        return Err(Gather::Malformed("the ClientHello is longer than 64 KiB"));
    }
    Ok(body.get(..length))
}

/// Why a message cannot be read.
type Reason = &'static str;

fn read_message(message: &[u8]) -> Result<ClientHello, Reason> {
    const CUT: Reason = "the ClientHello ends within a field";

    let mut reader = Reader(message);
    let mut hello = ClientHello {
        legacy_version: reader.u16().ok_or(CUT)?,
        ..ClientHello::default()
    };
    let _random = reader.take(32).ok_or(CUT)?;
    let session_id = reader.list_u8().ok_or(CUT)?;
    if session_id.0.len() > 32 {
        return Err("the session id is longer than 32 bytes");
    }
    let ciphers = reader.list_u16().ok_or(CUT)?;
    hello.ciphers = ciphers.all_u16().ok_or("the cipher suites are cut")?;
    if hello.ciphers.is_empty() {
        return Err("there is no cipher suite");
    }
    let compression = reader.list_u8().ok_or(CUT)?;
    if compression.0.is_empty() {
        return Err("there is no compression method");
    }
    // A client of TLS 1.2 and before may leave the extensions out altogether.
    if !reader.0.is_empty() {
        let mut extensions = reader.list_u16().ok_or(CUT)?;
        if !reader.0.is_empty() {
            return Err("bytes follow the extensions");
        }
        read_extensions(&mut extensions, &mut hello)?;
    }
    Ok(hello)
}

fn read_extensions(extensions: &mut Reader<'_>, hello: &mut ClientHello) -> Result<(), Reason> {
    const CUT: Reason = "an extension is longer than the extensions";

    while !extensions.0.is_empty() {
        let kind = extensions.u16().ok_or(CUT)?;
        let content = extensions.list_u16().ok_or(CUT)?;
        hello.extensions.push(kind);
        read_extension(kind, content, hello)?;
    }
    // RFC 8446 section 4.2. Two names in two extensions would let two readers see two hosts.
    let mut sorted = hello.extensions.clone();
    sorted.sort_unstable();
    if sorted.windows(2).any(|pair| pair.first() == pair.last()) {
        return Err("an extension is there twice");
    }
    Ok(())
}

fn read_extension(kind: u16, content: Reader<'_>, hello: &mut ClientHello) -> Result<(), Reason> {
    const SERVER_NAME: u16 = 0;
    const SUPPORTED_GROUPS: u16 = 10;
    const EC_POINT_FORMATS: u16 = 11;
    const SIGNATURE_ALGORITHMS: u16 = 13;
    const ALPN: u16 = 16;
    const SUPPORTED_VERSIONS: u16 = 43;
    const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;

    match kind {
        SERVER_NAME => hello.sni = read_server_name(content)?,
        ALPN => hello.alpn = read_alpn(content).ok_or("the ALPN extension is broken")?,
        SUPPORTED_VERSIONS => {
            let versions = content.only_list_u8().and_then(Reader::all_u16);
            hello.versions = versions.ok_or("the supported_versions extension is broken")?;
        }
        SUPPORTED_GROUPS => {
            let groups = content.only_list_u16().and_then(Reader::all_u16);
            hello.groups = groups.ok_or("the supported_groups extension is broken")?;
        }
        EC_POINT_FORMATS => {
            let formats = content.only_list_u8();
            let formats = formats.ok_or("the ec_point_formats extension is broken")?;
            hello.point_formats = formats.0.to_vec();
        }
        SIGNATURE_ALGORITHMS => {
            let algorithms = content.only_list_u16().and_then(Reader::all_u16);
            hello.signature_algorithms =
                algorithms.ok_or("the signature_algorithms extension is broken")?;
        }
        ENCRYPTED_CLIENT_HELLO => hello.ech = true,
        _ => {}
    }
    Ok(())
}

/// The one host name in the list. What is no host name makes the hello unreadable rather than
/// nameless: a reader less careful than this one would take it for a name.
fn read_server_name(content: Reader<'_>) -> Result<Option<String>, Reason> {
    const BROKEN: Reason = "the server_name extension is broken";
    const HOST_NAME: u8 = 0;

    let mut list = content.only_list_u16().ok_or(BROKEN)?;
    let mut found = None;
    while !list.0.is_empty() {
        let kind = list.u8().ok_or(BROKEN)?;
        let name = list.list_u16().ok_or(BROKEN)?;
        if kind != HOST_NAME {
            continue;
        }
        if found.replace(name.0).is_some() {
            return Err("the server_name extension has two host names");
        }
    }
    let name = found.ok_or("the server_name extension has no host name")?;
    let name = std::str::from_utf8(name)
        .ok()
        .filter(|name| name.is_ascii());
    let name = name.ok_or("the SNI is not ASCII")?;
    match Host::parse(name) {
        Ok(Host::Name(name)) => Ok(Some(name.as_ref().to_owned())),
        Ok(Host::Ip(_)) => Ok(None),
        Err(_) => Err("the SNI is not a host name"),
    }
}

fn read_alpn(content: Reader<'_>) -> Option<Vec<Vec<u8>>> {
    let mut list = content.only_list_u16()?;
    let mut names = Vec::new();
    while !list.0.is_empty() {
        let name = list.list_u8()?.0;
        if name.is_empty() {
            return None;
        }
        names.push(name.to_vec());
    }
    Some(names)
}

/// Takes fields from the front of bytes; `None` where they end too early.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn u16(&mut self) -> Option<u16> {
        let (taken, rest) = self.0.split_first_chunk::<2>()?;
        self.0 = rest;
        Some(u16::from_be_bytes(*taken))
    }

    /// A list whose length in bytes stands before it in one octet.
    fn list_u8(&mut self) -> Option<Self> {
        let length = self.u8()?;
        self.take(length.into()).map(Self)
    }

    /// A list whose length in bytes stands before it in two octets.
    fn list_u16(&mut self) -> Option<Self> {
        let length = self.u16()?;
        self.take(length.into()).map(Self)
    }

    /// As `list_u8`, where nothing may follow the list.
    fn only_list_u8(mut self) -> Option<Self> {
        let list = self.list_u8()?;
        self.0.is_empty().then_some(list)
    }

    /// As `list_u16`, where nothing may follow the list.
    fn only_list_u16(mut self) -> Option<Self> {
        let list = self.list_u16()?;
        self.0.is_empty().then_some(list)
    }

    /// All that is left as numbers; `None` if half a number is left over.
    fn all_u16(self) -> Option<Vec<u16>> {
        let (pairs, rest) = self.0.as_chunks::<2>();
        rest.is_empty()
            .then(|| pairs.iter().map(|pair| u16::from_be_bytes(*pair)).collect())
    }
}

#[cfg(test)]
mod tests;
