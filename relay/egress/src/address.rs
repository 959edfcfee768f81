//! Which addresses are on the public internet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// IPv4 ranges that are not called: the IANA special-purpose registry (RFC 6890 and its successors), multicast, and one
/// address on which a cloud serves its own machines.
const SPECIAL_V4: [Ipv4Net; 17] = [
    v4(0, 0, 0, 0, 8),          // "this network"; connects to the machine itself on Linux
    v4(10, 0, 0, 0, 8),         // private
    v4(100, 64, 0, 0, 10),      // carrier-grade NAT; Alibaba's metadata service is in it
    v4(127, 0, 0, 0, 8),        // loopback
    v4(168, 63, 129, 16, 32),   // Azure's WireServer, a public address that is served only inside Azure
    v4(169, 254, 0, 0, 16),     // link-local; metadata services
    v4(172, 16, 0, 0, 12),      // private
    v4(192, 0, 0, 0, 24),       // IETF protocol assignments; Oracle's metadata service is in it
    v4(192, 0, 2, 0, 24),       // documentation
    v4(192, 88, 99, 0, 24),     // 6to4 relay anycast
    v4(192, 168, 0, 0, 16),     // private
    v4(198, 18, 0, 0, 15),      // benchmarking
    v4(198, 51, 100, 0, 24),    // documentation
    v4(203, 0, 113, 0, 24),     // documentation
    v4(224, 0, 0, 0, 4),        // multicast
    v4(240, 0, 0, 0, 4),        // reserved
    v4(255, 255, 255, 255, 32), // broadcast
];

/// All of global unicast; addresses outside it are not called.
const GLOBAL_V6: Ipv6Net = v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);

/// The special ranges inside [`GLOBAL_V6`].
const SPECIAL_V6: [Ipv6Net; 4] = [
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), // IETF protocol assignments: Teredo, ORCHID, benchmarking
    v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), // documentation
    v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16), // 6to4, which embeds any IPv4 address
    v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), // documentation
];

/// IPv4 addresses as seen through NAT64 (RFC 6052). The addresses that DNS64 returns for an IPv4-only host are in it.
const NAT64: Ipv6Net = v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96);

/// Whether an address is on the public internet.
///
/// For IPv6 the rule is an allow-list, not a block-list: only `2000::/3` without its special ranges. An IPv4-mapped or
/// NAT64 address is judged as the IPv4 address that it leads to. The other ways to embed an IPv4 address
/// (IPv4-compatible, local-use NAT64, 6to4, Teredo) are never public.
#[must_use]
pub fn is_public(ip: IpAddr) -> bool {
    match effective(ip) {
        IpAddr::V4(ip) => !SPECIAL_V4.iter().any(|range| range.contains(&ip)),
        IpAddr::V6(ip) => GLOBAL_V6.contains(&ip) && !SPECIAL_V6.iter().any(|range| range.contains(&ip)),
    }
}

/// Whether an address may be called: it is public, or in one of the ranges that the operator has allowed.
pub(super) fn is_allowed(ip: IpAddr, allow: &[IpNet]) -> bool {
    let effective = effective(ip);
    is_public(ip) || allow.iter().any(|range| range.contains(&effective) || range.contains(&ip))
}

/// The address to which a connection to `ip` leads.
fn effective(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip else { return ip };
    if let Some(v4) = v6.to_ipv4_mapped() {
        return IpAddr::V4(v4);
    }
    if NAT64.contains(&v6) {
        let [.., a, b, c, d] = v6.octets();
        return IpAddr::V4(Ipv4Addr::new(a, b, c, d));
    }
    ip
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(s: [u16; 8], prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7]), prefix)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn ordinary_addresses_are_public() {
        let addresses = [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2001:200::1",
            "2606:4700::1111",
            "2a00:1450:4001::",
            "3ffe::1",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
        ];
        for address in addresses {
            assert!(is_public(ip(address)), "{address}");
        }
    }

    #[test]
    fn special_addresses_are_not_public_up_to_the_ends_of_their_ranges() {
        let addresses = [
            "0.0.0.0",
            "0.255.255.255",
            "10.0.0.0",
            "10.255.255.255",
            "100.64.0.0",
            "100.100.100.200",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.255",
            "168.63.129.16",
            "169.254.169.254",
            "169.254.0.0",
            "172.16.0.0",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.0",
            "192.168.255.255",
            "198.18.0.0",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.7",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::10.0.0.1",
            "::8.8.8.8",
            "::ffff:10.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:0:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::8.8.8.8",
            "100::1",
            "2001::1",
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
            "2001:10::1",
            "2001:20::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:808:808::",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "4000::1",
            "1fff:ffff::1",
        ];
        for address in addresses {
            assert!(!is_public(ip(address)), "{address}");
        }
    }

    #[test]
    fn an_allowed_range_opens_only_itself() {
        let allow = [IpNet::from(v4(10, 1, 0, 0, 16)), "fd00::/8".parse().expect("a range")];
        for address in ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::10.1.2.3", "fd12::1", "8.8.8.8"] {
            assert!(is_allowed(ip(address), &allow), "{address}");
        }
        for address in ["10.2.0.0", "::ffff:10.2.0.0", "::10.1.2.3", "2002:a01:203::", "fc00::1", "127.0.0.1"] {
            assert!(!is_allowed(ip(address), &allow), "{address}");
        }
    }

    proptest! {
        #[test]
        fn every_address_in_a_special_v4_range_is_refused_in_every_form(range in 0..SPECIAL_V4.len(), host: u32) {
            let range = SPECIAL_V4[range];
            let address = Ipv4Addr::from(u32::from(range.network()) | (host & u32::from(range.hostmask())));
            prop_assert!(!is_public(IpAddr::V4(address)));
            prop_assert!(!is_public(IpAddr::V6(address.to_ipv6_mapped())));
            prop_assert!(!is_public(IpAddr::V6(address.to_ipv6_compatible())));
            let [a, b, c, d] = address.octets();
            let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            prop_assert!(!is_public(IpAddr::V6(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low))));
            prop_assert!(!is_public(IpAddr::V6(Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1))));
        }

        #[test]
        fn no_address_that_the_standard_library_calls_special_is_public(bits: u32, bits6: u128) {
            let v4 = Ipv4Addr::from(bits);
            if v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_multicast() || v4.is_broadcast()
                || v4.is_documentation() || v4.is_unspecified()
            {
                prop_assert!(!is_public(IpAddr::V4(v4)));
            }
            let v6 = Ipv6Addr::from(bits6);
            if v6.is_loopback() || v6.is_multicast() || v6.is_unicast_link_local() || v6.is_unique_local() {
                prop_assert!(!is_public(IpAddr::V6(v6)));
            }
        }

        #[test]
        fn no_v6_address_outside_global_unicast_is_public_unless_it_leads_to_v4(bits: u128) {
            let address = Ipv6Addr::from(bits);
            if is_public(IpAddr::V6(address)) {
                prop_assert!(bits >> 125 == 1 || effective(IpAddr::V6(address)).is_ipv4());
            }
        }
    }
}
