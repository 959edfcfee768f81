//! Which URLs may be called: the part of the guard that needs no network.

use std::collections::BTreeSet;
use std::net::IpAddr;

use http::Uri;
use ipnet::IpNet;
use model::failure::EgressError;
use tokio_rustls::rustls::pki_types::ServerName;
use url::{Host, Url};

use super::address::is_allowed;

/// Ports above 1023 on which databases, brokers and administration interfaces listen. An HTTP request to them can do
/// harm before it fails, even on the public internet.
const GUARDED_PORTS: [u16; 22] = [
    1433, 1521, 2375, 2376, 2379, 2380, 3306, 3389, 5432, 5672, 5984, 6379, 6443, 9042, 9092, 9200, 9300, 10250, 11211,
    27017, 27018, 27019,
];

/// What outgoing requests may reach in addition to the public internet: by default nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EgressPolicy {
    /// Ranges that may be called although they are not public, such as the operator's own network.
    pub allow: Vec<IpNet>,
    /// The ports that may be called, on every address.
    pub ports: Ports,
}

/// The ports that may be called.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Ports {
    /// 80, 443 and all ports above 1023, except the well-known ports of databases, brokers and administration
    /// interfaces.
    #[default]
    Usual,
    /// Exactly these.
    Only(BTreeSet<u16>),
    /// Every port except 0.
    Any,
}

impl EgressPolicy {
    /// Parses a list of ranges in CIDR notation, separated by commas, as in the settings. An address is a range of one
    /// address, and an empty text is an empty list.
    ///
    /// # Errors
    /// Returns the first entry that is neither a range nor an address.
    pub fn parse_allow_list(text: &str) -> Result<Vec<IpNet>, EgressError> {
        let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        entries
            .map(|entry| {
                let range = entry.parse::<IpNet>().or_else(|_| entry.parse::<IpAddr>().map(IpNet::from));
                range.map_err(|_| EgressError::AllowList(entry.to_owned()))
            })
            .collect()
    }

    pub(super) fn allows(&self, ip: IpAddr) -> bool {
        is_allowed(ip, &self.allow)
    }

    /// Checks the URL's host as the parser of the `url` crate (WHATWG) has normalised it, which is also what is dialled
    /// later: `0x7f.1`, `2130706433` and `127.0.0.1.` have become 127.0.0.1 by then.
    pub fn check_url(&self, url: &Url) -> Result<(), EgressError> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(EgressError::Scheme(url.scheme().to_owned()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(EgressError::UserInfo);
        }
        let address = match url.host() {
            None => return Err(EgressError::NoHost),
            Some(Host::Domain(name)) if name.trim_matches('.').is_empty() => return Err(EgressError::NoHost),
            Some(Host::Domain(_)) => None,
            Some(Host::Ipv4(ip)) => Some(IpAddr::V4(ip)),
            Some(Host::Ipv6(ip)) => Some(IpAddr::V6(ip)),
        };
        if let Some(ip) = address.filter(|ip| !self.allows(*ip)) {
            return Err(EgressError::AddressBlocked(ip));
        }
        let port = url.port_or_known_default().unwrap_or_default();
        if self.ports.allow(port) { uri(url).map(drop) } else { Err(EgressError::PortBlocked(port)) }
    }
}

/// The URL of a request. A host that contains `{` is valid by the WHATWG standard and invalid in HTTP, and even fewer
/// names are valid in a certificate.
pub(super) fn uri(url: &Url) -> Result<Uri, EgressError> {
    let uri = Uri::try_from(url.as_str()).map_err(|_| EgressError::Unsendable)?;
    let host = uri.host().ok_or(EgressError::Unsendable)?;
    let has_name = url.scheme() != "https" || server_name(host).is_some();
    if has_name { Ok(uri) } else { Err(EgressError::Unsendable) }
}

impl Ports {
    fn allow(&self, port: u16) -> bool {
        match self {
            Self::Usual => matches!(port, 80 | 443) || (port > 1023 && !GUARDED_PORTS.contains(&port)),
            Self::Only(ports) => ports.contains(&port),
            Self::Any => port != 0,
        }
    }
}

/// The name that the certificate of a host must have; `None` if no certificate can have it.
pub(super) fn server_name(host: &str) -> Option<ServerName<'static>> {
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    ServerName::try_from(host.to_owned()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(policy: &EgressPolicy, url: &str) -> Result<(), &'static str> {
        policy.check_url(&Url::parse(url).expect(url)).map_err(|error| error.code())
    }

    #[test]
    fn ordinary_urls_are_accepted() {
        let policy = EgressPolicy::default();
        for url in [
            "https://example.com/hook?a=b",
            "http://example.com:8080/",
            "https://8.8.8.8/",
            "https://[2606:4700::1111]/",
            "https://b\u{fc}cher.example/",
            "https://example.com./",
            "https://[64:ff9b::808:808]/",
        ] {
            assert_eq!(check(&policy, url), Ok(()), "{url}");
        }
    }

    #[test]
    fn every_spelling_of_a_private_address_is_refused() {
        let policy = EgressPolicy::default();
        for url in [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://0x7f.1/",
            "http://0x7f000001/",
            "http://2130706433/",
            "http://017700000001/",
            "http://127.0.0.1./",
            "http://%31%32%37.0.0.1/",
            "http://\u{ff11}27.0.0.1/",
            "http://169.254.169.254/latest/meta-data/",
            "http://0/",
            "http://[::1]/",
            "http://[::]/",
            "http://[::ffff:10.0.0.1]/",
            "http://[::ffff:a00:1]/",
            "http://[0:0:0:0:0:ffff:0a00:0001]/",
            "http://[::10.0.0.1]/",
            "http://[64:ff9b::10.0.0.1]/",
            "http://[64:ff9b:1::10.0.0.1]/",
            "http://[2002:a00:1::]/",
            "http://[2001:0:a00:1::]/",
            "http://[fd00:ec2::254]/",
            "http://[fe80::1]/",
        ] {
            assert_eq!(check(&policy, url), Err("egress_blocked"), "{url}");
        }
    }

    #[test]
    fn an_allowed_range_is_accepted_in_every_spelling() {
        let policy = EgressPolicy { allow: vec!["127.0.0.0/8".parse().expect("a range")], ports: Ports::Usual };
        for url in ["http://127.0.0.1:8400/", "http://0x7f.1/", "http://[::ffff:127.0.0.1]/"] {
            assert_eq!(check(&policy, url), Ok(()), "{url}");
        }
        assert_eq!(check(&policy, "http://10.0.0.1/"), Err("egress_blocked"));
        assert_eq!(check(&policy, "http://[::1]/"), Err("egress_blocked"));
    }

    #[test]
    fn a_url_that_is_not_plain_http_is_refused() {
        let policy = EgressPolicy::default();
        assert_eq!(check(&policy, "ftp://example.com/"), Err("egress_scheme"));
        assert_eq!(check(&policy, "file:///etc/passwd"), Err("egress_scheme"));
        assert_eq!(check(&policy, "http://user@example.com/"), Err("egress_user_info"));
        assert_eq!(check(&policy, "http://:secret@example.com/"), Err("egress_user_info"));
        assert_eq!(check(&policy, "http://./"), Err("egress_no_host"));
        // The parser itself rejects an empty host and a zone id.
        for url in ["http:///", "http://[fe80::1%25eth0]/", "http://[example.com]/"] {
            assert!(!matches!(Url::parse(url).map(|url| policy.check_url(&url)), Ok(Ok(()))), "{url}");
        }
    }

    #[test]
    fn a_url_that_is_invalid_in_http_is_refused() {
        let policy = EgressPolicy::default();
        for url in [
            "http://{tenant}.example.com/hook",
            "http://a}b.example/",
            "http://a`b.example/",
            "http://a\"b.example/",
            "https://{tenant}.example.com/hook?token=secret",
            "https://a..example/",
        ] {
            let url = Url::parse(url).expect(url);
            let error = policy.check_url(&url).expect_err(url.as_str());
            assert_eq!(error.code(), "egress_url_unsendable", "{url}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        for url in ["http://example.com/{tenant}/`x`?q={\"a\":'b|c^d'}&e=[1]", "https://under_score.example.com/"] {
            assert_eq!(check(&policy, url), Ok(()), "{url}");
        }
    }

    #[test]
    fn ports_follow_the_policy() {
        let mut policy = EgressPolicy::default();
        for url in ["http://example.com:22/", "http://example.com:6379/", "http://example.com:0/", "http://8.8.8.8:25/"]
        {
            assert_eq!(check(&policy, url), Err("egress_port_blocked"), "{url}");
        }
        policy.ports = Ports::Only(BTreeSet::from([8443]));
        assert_eq!(check(&policy, "https://example.com:8443/"), Ok(()));
        assert_eq!(check(&policy, "https://example.com/"), Err("egress_port_blocked"));
        policy.ports = Ports::Any;
        assert_eq!(check(&policy, "https://example.com:22/"), Ok(()));
    }

    #[test]
    fn the_allow_list_is_parsed_and_an_invalid_entry_is_named() {
        let ranges = EgressPolicy::parse_allow_list(" 10.0.0.0/8, ::1 ,127.0.0.1,").expect("good");
        let ranges: Vec<_> = ranges.iter().map(ToString::to_string).collect();
        assert_eq!(ranges, ["10.0.0.0/8", "::1/128", "127.0.0.1/32"]);
        assert_eq!(EgressPolicy::parse_allow_list(""), Ok(vec![]));
        let error = EgressPolicy::parse_allow_list("10.0.0.0/8,10.0.0.0/33").expect_err("bad");
        assert!(error.to_string().contains("10.0.0.0/33"), "{error}");
    }
}
