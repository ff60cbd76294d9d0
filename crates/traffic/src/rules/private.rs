//! Addresses that are not of the public network, and who may have them dialled.
//!
//! A proxy stands in a network that its clients do not: whoever may ask it for any address reaches
//! databases, other people's loopback services and the metadata of the cloud through it. So clients
//! of other machines get nothing of the ranges that IANA sets apart (RFC 6890 and its registries),
//! unless it is allowed. What counts is the address dialled, not the name asked for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::pattern::HostPatterns;
use crate::{ClientAddress, Host, Target};

/// Who may have private addresses dialled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PrivateReach {
    /// Clients on this machine: they could dial them themselves.
    #[default]
    LocalClients,
    /// Every client.
    Everybody,
    /// No client.
    Nobody,
}

/// What clients may have dialled.
#[derive(Clone, Debug, Default)]
pub struct DialGuard {
    /// Who may reach private addresses.
    pub private: PrivateReach,
    /// Hosts and ranges that everybody may reach all the same. A name is allowed whatever address
    /// it has.
    pub allowed: HostPatterns,
}

/// What a client may have dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reach {
    /// Every address.
    Everywhere,
    /// Public addresses, and what is allowed.
    Public,
}

impl DialGuard {
    /// What a client may have dialled.
    #[must_use]
    pub fn reach(&self, client: ClientAddress) -> Reach {
        let is_local = match client {
            ClientAddress::Unix(_) => true,
            ClientAddress::Tcp(address) => address.ip().to_canonical().is_loopback(),
        };
        match (self.private, is_local) {
            (PrivateReach::Everybody, _) | (PrivateReach::LocalClients, true) => Reach::Everywhere,
            (PrivateReach::LocalClients, false) | (PrivateReach::Nobody, _) => Reach::Public,
        }
    }

    /// What keeps an address of the target from being dialled, if anything does.
    #[must_use]
    pub fn denies(&self, reach: Reach, target: &Target, address: IpAddr) -> Option<&'static str> {
        if reach == Reach::Everywhere {
            return None;
        }
        let kind = special(address)?;
        let port = target.port;
        let by_address = |ip| {
            let host = Host::Ip(ip);
            self.allowed.matches(&Target { host, port }).is_some()
        };
        let allowed = self.allowed.matches(target).is_some()
            || by_address(address)
            || by_address(address.to_canonical());
        (!allowed).then_some(kind)
    }
}

/// What an address is if it is not one of the public network.
#[must_use]
pub fn special(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => special_v4(address),
        IpAddr::V6(address) => special_v6(address),
    }
}

/// The IANA IPv4 Special-Purpose Address Registry, multicast, and one address of a cloud.
fn special_v4(address: Ipv4Addr) -> Option<&'static str> {
    const RANGES: [(Ipv4Addr, u8, &str); 16] = [
        (Ipv4Addr::new(0, 0, 0, 0), 8, "of this network"),
        (Ipv4Addr::new(10, 0, 0, 0), 8, "private"),
        (Ipv4Addr::new(100, 64, 0, 0), 10, "shared by a carrier"),
        (Ipv4Addr::new(127, 0, 0, 0), 8, "loopback"),
        (
            Ipv4Addr::new(168, 63, 129, 16),
            32,
            "of the cloud's own services",
        ),
        (Ipv4Addr::new(169, 254, 0, 0), 16, "link-local"),
        (Ipv4Addr::new(172, 16, 0, 0), 12, "private"),
        (Ipv4Addr::new(192, 0, 0, 0), 24, "reserved"),
        (Ipv4Addr::new(192, 0, 2, 0), 24, "for documentation"),
        (Ipv4Addr::new(192, 88, 99, 0), 24, "reserved"),
        (Ipv4Addr::new(192, 168, 0, 0), 16, "private"),
        (Ipv4Addr::new(198, 18, 0, 0), 15, "for benchmarks"),
        (Ipv4Addr::new(198, 51, 100, 0), 24, "for documentation"),
        (Ipv4Addr::new(203, 0, 113, 0), 24, "for documentation"),
        (Ipv4Addr::new(224, 0, 0, 0), 4, "multicast"),
        (Ipv4Addr::new(240, 0, 0, 0), 4, "reserved"),
    ];
    let bits = u32::from(address);
    let covers = |network: Ipv4Addr, prefix: u8| {
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
        bits & mask == u32::from(network)
    };
    let mut ranges = RANGES.iter();
    ranges.find_map(|(network, prefix, kind)| covers(*network, *prefix).then_some(*kind))
}

/// The IANA IPv6 Special-Purpose Address Registry, multicast, and what holds an IPv4 address.
fn special_v6(address: Ipv6Addr) -> Option<&'static str> {
    let bits = u128::from(address);
    let starts = |network: u128, prefix: u32| (bits ^ network) >> (128 - prefix) == 0;
    let embedded = |shift: u32| {
        let low = u32::try_from((bits >> shift) & u128::from(u32::MAX)).unwrap_or_default();
        special_v4(Ipv4Addr::from(low))
    };
    if starts(0xffff << 32, 96) || starts(0x0064_ff9b << 96, 96) {
        // ::ffff:0:0/96 (RFC 4291 section 2.5.5.2) and 64:ff9b::/96 (RFC 6052).
        return embedded(0);
    }
    if starts(0x2002 << 112, 16) {
        // 2002::/16 (RFC 3056).
        return embedded(80);
    }
    if address.is_loopback() {
        return Some("loopback");
    }
    const RANGES: [(u128, u32, &str); 11] = [
        (0, 96, "of this network"),
        (0x0064_ff9b_0001 << 80, 48, "private"),
        (0x0100 << 112, 64, "discarded"),
        (0x2001 << 112, 23, "reserved"),
        (0x2001_0db8 << 96, 32, "for documentation"),
        (0x3fff << 112, 20, "for documentation"),
        (0x5f00 << 112, 16, "reserved"),
        (0xfc00 << 112, 7, "private"),
        (0xfe80 << 112, 10, "link-local"),
        (0xfec0 << 112, 10, "private"),
        (0xff00 << 112, 8, "multicast"),
    ];
    let mut ranges = RANGES.iter();
    ranges.find_map(|(network, prefix, kind)| starts(*network, *prefix).then_some(*kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn special_addresses_are_known_by_their_ranges() {
        for (text, kind) in [
            ("0.0.0.0", "of this network"),
            ("10.255.0.1", "private"),
            ("100.64.0.1", "shared by a carrier"),
            ("100.100.100.200", "shared by a carrier"),
            ("127.0.0.1", "loopback"),
            ("168.63.129.16", "of the cloud's own services"),
            ("169.254.169.254", "link-local"),
            ("172.31.255.255", "private"),
            ("192.168.0.1", "private"),
            ("198.19.0.1", "for benchmarks"),
            ("224.0.0.1", "multicast"),
            ("255.255.255.255", "reserved"),
            ("::", "of this network"),
            ("::1", "loopback"),
            ("::127.0.0.1", "of this network"),
            ("::ffff:10.0.0.1", "private"),
            ("64:ff9b::7f00:1", "loopback"),
            ("64:ff9b:1::1", "private"),
            ("2002:7f00:1::", "loopback"),
            ("2001::1", "reserved"),
            ("2001:db8::1", "for documentation"),
            ("fd00:ec2::254", "private"),
            ("fe80::1", "link-local"),
            ("ff02::1", "multicast"),
        ] {
            assert_eq!(special(address(text)), Some(kind), "{text}");
        }
        for text in [
            "1.1.1.1",
            "100.63.255.255",
            "100.128.0.0",
            "168.63.129.17",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2001:4860:4860::8888",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
            "2002:808:808::",
        ] {
            assert_eq!(special(address(text)), None, "{text}");
        }
    }

    #[test]
    fn who_may_reach_them() {
        let client = |text: &str| ClientAddress::Tcp(text.parse().unwrap());
        let (local, mapped) = (client("127.0.0.5:1"), client("[::ffff:127.0.0.1]:1"));
        let strangers = [client("10.0.0.2:1"), client("[2001:db8::1]:1")];
        for (private, local_reach, strange_reach) in [
            (PrivateReach::LocalClients, Reach::Everywhere, Reach::Public),
            (
                PrivateReach::Everybody,
                Reach::Everywhere,
                Reach::Everywhere,
            ),
            (PrivateReach::Nobody, Reach::Public, Reach::Public),
        ] {
            let guard = DialGuard {
                private,
                ..DialGuard::default()
            };
            assert_eq!(guard.reach(local), local_reach);
            assert_eq!(guard.reach(mapped), local_reach);
            for stranger in strangers {
                assert_eq!(guard.reach(stranger), strange_reach);
            }
        }
    }

    #[test]
    fn what_is_allowed_passes() {
        let guard = DialGuard {
            private: PrivateReach::LocalClients,
            allowed: HostPatterns::parse(&["10.1.0.0/16", "db.corp:5432", "[fd00::7]"]).unwrap(),
        };
        let denies = |target: &str, ip: &str| {
            let target = Target::parse(target, 443).unwrap();
            guard.denies(Reach::Public, &target, address(ip)).is_some()
        };
        for (target, ip, denied) in [
            ("a.example", "10.1.2.3", false),
            ("a.example", "::ffff:10.1.2.3", false),
            ("a.example", "10.2.0.1", true),
            ("10.1.2.3", "10.1.2.3", false),
            ("db.corp:5432", "192.168.0.9", false),
            ("db.corp", "192.168.0.9", true),
            ("a.example", "fd00::7", false),
            ("a.example", "fd00::8", true),
            ("a.example", "8.8.8.8", false),
        ] {
            assert_eq!(denies(target, ip), denied, "{target} at {ip}");
        }
        let target = Target::parse("a.example", 443).unwrap();
        let denied = guard.denies(Reach::Everywhere, &target, address("127.0.0.1"));
        assert_eq!(denied, None);
    }
}
