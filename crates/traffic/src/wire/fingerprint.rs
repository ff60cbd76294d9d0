//! Names for the TLS library of a client, taken from its ClientHello: JA3 and JA4.
//!
//! JA3 is the method of Althouse, Atkinson and Atkins (Salesforce, 2017), JA4 that of Althouse
//! (FoxIO, 2023, `technical_details/JA4.md` of its description). Both leave out the values of
//! GREASE (RFC 8701), which a client picks anew each time. Clients that shuffle their extensions
//! have another JA3 on every connection and one JA4.
//!
//! Nothing is computed until somebody asks, and nothing is kept: a hello of 64 KiB, the largest
//! that is read, costs a text of less than 200 KB. A fingerprint says what a client looks like.
//! It is no proof of who it is, so nothing that protects may rest on it.

use md5::Md5;
use sha2::{Digest, Sha256};

use super::client_hello::ClientHello;

const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;

/// Hash of a part of JA4 that has nothing to hash.
const NOTHING: &str = "000000000000";
/// Octets that JA4 keeps of a hash: twelve digits.
const HASH_BYTES_KEPT: usize = 6;
/// The greatest number that fits JA4's two digits.
const COUNT_MAX: usize = 99;

/// The JA3 of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ja3 {
    /// Version, ciphers, extensions, groups and point formats as decimal numbers, in the order of
    /// the hello: `771,4865-4866,0-10-11,29-23,0`.
    pub text: String,
    /// MD5 of the text in hex. MD5 is what JA3 is made of; it names, it does not protect.
    pub hash: String,
}

/// The JA3 of a hello.
#[must_use]
pub fn ja3(hello: &ClientHello) -> Ja3 {
    let numbers = hello.ciphers.len() + hello.extensions.len() + hello.groups.len();
    // Five digits and a dash each; what stands around them is short.
    let mut text = String::with_capacity(6 * numbers + 16);
    push_decimal(&mut text, hello.legacy_version);
    for list in [&hello.ciphers, &hello.extensions, &hello.groups] {
        text.push(',');
        push_decimals(&mut text, without_grease(list));
    }
    text.push(',');
    push_decimals(
        &mut text,
        hello.point_formats.iter().copied().map(u16::from),
    );
    let hash = hex(&Md5::digest(text.as_bytes()));
    Ja3 { text, hash }
}

/// The JA4 of a hello that came over TCP, for example `t13d1516h2_8daaf6152771_e5627efa2ab1`.
#[must_use]
pub fn ja4(hello: &ClientHello) -> String {
    let mut ciphers: Vec<u16> = without_grease(&hello.ciphers).collect();
    ciphers.sort_unstable();
    let mut extensions: Vec<u16> = without_grease(&hello.extensions).collect();
    let name = if extensions.contains(&SERVER_NAME) {
        'd'
    } else {
        'i'
    };
    let start = format!(
        "t{}{name}{:02}{:02}{}",
        version(hello),
        ciphers.len().min(COUNT_MAX),
        extensions.len().min(COUNT_MAX),
        protocol(hello),
    );
    // Counted above, but left out of the hash: they say where the client goes, not what it is.
    extensions.retain(|kind| ![SERVER_NAME, ALPN].contains(kind));
    extensions.sort_unstable();

    let ciphers = hash_unless_empty(&hex_list(&ciphers));
    let mut hashed = hex_list(&extensions);
    if !hashed.is_empty() {
        let algorithms: Vec<u16> = without_grease(&hello.signature_algorithms).collect();
        if !algorithms.is_empty() {
            hashed.push('_');
            hashed.push_str(&hex_list(&algorithms));
        }
    }
    format!("{start}_{ciphers}_{}", hash_unless_empty(&hashed))
}

/// The highest version offered, in two characters.
fn version(hello: &ClientHello) -> &'static str {
    let offered = without_grease(&hello.versions).max();
    match offered.unwrap_or(hello.legacy_version) {
        0x0304 => "13",
        0x0303 => "12",
        0x0302 => "11",
        0x0301 => "10",
        0x0300 => "s3",
        0x0002 => "s2",
        _ => "00",
    }
}

/// The first and the last character of the first protocol offered by ALPN. Where one of them is
/// neither letter nor digit, those of the name written in hex stand instead.
fn protocol(hello: &ClientHello) -> String {
    let ends = hello
        .alpn
        .first()
        .and_then(|name| Some((*name.first()?, *name.last()?)));
    match ends {
        None => "00".to_owned(),
        Some((first, last)) if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() => {
            [first, last].map(char::from).iter().collect()
        }
        Some((first, last)) => format!("{:x}{:x}", first >> 4, last & 0xf),
    }
}

/// Whether a cipher, extension, group, version or algorithm is one of the sixteen that mean
/// nothing (RFC 8701 section 2): `0x0a0a`, `0x1a1a` to `0xfafa`.
fn is_grease(value: u16) -> bool {
    let [high, low] = value.to_be_bytes();
    high == low && low & 0xf == 0xa
}

fn without_grease(values: &[u16]) -> impl Iterator<Item = u16> {
    values.iter().copied().filter(|value| !is_grease(*value))
}

fn push_decimals(text: &mut String, values: impl Iterator<Item = u16>) {
    for (index, value) in values.enumerate() {
        if index > 0 {
            text.push('-');
        }
        push_decimal(text, value);
    }
}

// What follows writes digits itself: the formatting of the standard library takes longer for them
// than the hashes do, and a client that shuffles has its JA3 made for each connection.

fn push_decimal(text: &mut String, value: u16) {
    let mut is_leading = true;
    for unit in [10_000, 1_000, 100, 10, 1] {
        let digit = value / unit % 10;
        is_leading &= digit == 0 && unit > 1;
        if !is_leading {
            push_digit(text, digit);
        }
    }
}

/// Numbers of four digits with commas between.
fn hex_list(values: &[u16]) -> String {
    let mut text = String::with_capacity(5 * values.len());
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        push_hex(&mut text, &value.to_be_bytes());
    }
    text
}

fn hash_unless_empty(text: &str) -> String {
    if text.is_empty() {
        return NOTHING.to_owned();
    }
    let hash = Sha256::digest(text.as_bytes());
    hex(hash.get(..HASH_BYTES_KEPT).unwrap_or(&hash))
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    push_hex(&mut text, bytes);
    text
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        push_digit(text, u16::from(byte >> 4));
        push_digit(text, u16::from(byte & 0xf));
    }
}

/// Writes a digit of a number to the base of 16 at most.
fn push_digit(text: &mut String, digit: u16) {
    let digit = char::from_digit(digit.into(), 16);
    text.push(digit.expect("a digit is less than the base"));
}

#[cfg(test)]
mod tests;
