//! The certificate as a configuration profile, which iOS and macOS install (Apple, "Configuration
//! Profile Reference": the payloads `com.apple.security.root` and `com.apple.security.pkcs1`).

use proxy::Authority;

use super::escape_markup;

/// The profile as an XML property list.
pub(crate) fn mobileconfig(authority: &Authority) -> String {
    let name = authority.common_name();
    let name = escape_markup(name.as_deref().unwrap_or_else(|| authority.subject()));
    let own = authority.certificate_der();
    let pem = proxy::tls::pem::certificates(std::slice::from_ref(own));
    let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let root = authority.links().first().is_some_and(|own| own.self_signed);
    let kind = if root { "root" } else { "pkcs1" };
    let fingerprint = authority.sha256();
    let (first, second) = fingerprint.split_at(16);
    let (profile, certificate) = (uuid(first), uuid(second));
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
  <key>PayloadContent</key>
  <array>
    <dict>
      <key>PayloadCertificateFileName</key>
      <string>oriel-ca.crt</string>
      <key>PayloadContent</key>
      <data>{base64}</data>
      <key>PayloadDisplayName</key>
      <string>{name}</string>
      <key>PayloadIdentifier</key>
      <string>oriel.ca.certificate.{certificate}</string>
      <key>PayloadType</key>
      <string>com.apple.security.{kind}</string>
      <key>PayloadUUID</key>
      <string>{certificate}</string>
      <key>PayloadVersion</key>
      <integer>1</integer>
    </dict>
  </array>
  <key>PayloadDescription</key>
  <string>Trusts certificates that the oriel of this name makes. Switch it on afterwards: Settings, General, About, Certificate Trust Settings.</string>
  <key>PayloadDisplayName</key>
  <string>{name}</string>
  <key>PayloadIdentifier</key>
  <string>oriel.ca.{profile}</string>
  <key>PayloadRemovalDisallowed</key>
  <false/>
  <key>PayloadType</key>
  <string>Configuration</string>
  <key>PayloadUUID</key>
  <string>{profile}</string>
  <key>PayloadVersion</key>
  <integer>1</integer>
</dict>
</plist>
"#
    )
}

/// A UUID of version 8 (RFC 9562 section 5.8) from 16 octets, so that the same certificate takes
/// the place of itself.
fn uuid(octets: &[u8]) -> String {
    let hex = |(at, octet): (usize, &u8)| {
        let octet = match at {
            6 => (octet & 0x0f) | 0x80,
            8 => (octet & 0x3f) | 0x80,
            _ => *octet,
        };
        let dash = if matches!(at, 4 | 6 | 8 | 10) {
            "-"
        } else {
            ""
        };
        format!("{dash}{octet:02X}")
    };
    octets.iter().enumerate().map(hex).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_a_uuid() {
        assert_eq!(uuid(&[0xff; 16]), "FFFFFFFF-FFFF-8FFF-BFFF-FFFFFFFFFFFF");
    }
}
