//! The resolver of the outgoing client: it answers only with addresses that may be called.

use std::net::SocketAddr;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::failure::{EgressError, NotResolved};
use super::policy::EgressPolicy;

pub(super) struct VettingResolver {
    resolver: TokioResolver,
    policy: EgressPolicy,
}

impl VettingResolver {
    pub(super) fn new(policy: EgressPolicy) -> Result<Self, EgressError> {
        let mut builder = TokioResolver::builder_tokio().unwrap_or_else(|error| {
            tracing::warn!(%error, "no resolver configuration on this machine: only its hosts file is known");
            let nothing = ResolverConfig::from_parts(None, vec![], vec![]);
            TokioResolver::builder_with_config(nothing, TokioRuntimeProvider::default())
        });
        // Both families, so that the connector can fall back from one to the other.
        builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        let resolver = builder.build().map_err(|error| EgressError::Client(error.to_string()))?;
        Ok(Self { resolver, policy })
    }
}

impl Resolve for VettingResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.resolver.clone();
        let policy = self.policy.clone();
        Box::pin(async move {
            let found = resolver.lookup_ip(name.as_str()).await.map_err(NotResolved)?;
            // Port 0 stands for the port of the URL.
            let allowed: Vec<SocketAddr> =
                found.iter().filter(|ip| policy.allows(*ip)).map(|ip| SocketAddr::new(ip, 0)).collect();
            if allowed.is_empty() {
                return Err(EgressError::HostBlocked(name.as_str().to_owned()).into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}
