//! The resolver of the outgoing client: it returns only addresses that may be called.

use std::error::Error;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hyper_util::client::legacy::connect::dns::Name;
use model::failure::EgressError;
use tower_service::Service;

use super::policy::EgressPolicy;

/// The resolver's own failure, to distinguish it from a failed connection.
#[derive(Debug, thiserror::Error)]
#[error("cannot resolve the host name")]
pub(super) struct NotResolved(#[source] pub(super) NetError);

#[derive(Clone)]
pub(super) struct VettingResolver {
    resolver: TokioResolver,
    policy: EgressPolicy,
}

impl VettingResolver {
    pub(super) fn new(policy: EgressPolicy) -> Result<Self, EgressError> {
        let mut builder = TokioResolver::builder_tokio().unwrap_or_else(|error| {
            tracing::warn!(%error, "this machine has no resolver configuration; only its hosts file is used");
            let nothing = ResolverConfig::from_parts(None, vec![], vec![]);
            TokioResolver::builder_with_config(nothing, TokioRuntimeProvider::default())
        });
        // Both families, so that the connector can fall back from one to the other.
        builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        let resolver = builder.build().map_err(|error| EgressError::Client(error.to_string()))?;
        Ok(Self { resolver, policy })
    }
}

impl Service<Name> for VettingResolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let resolver = self.resolver.clone();
        let policy = self.policy.clone();
        Box::pin(async move {
            let found = resolver.lookup_ip(name.as_str()).await.map_err(NotResolved)?;
            // The connector replaces the port 0 with the port of the URL.
            let allowed: Vec<SocketAddr> =
                found.iter().filter(|ip| policy.allows(*ip)).map(|ip| SocketAddr::new(ip, 0)).collect();
            if allowed.is_empty() {
                return Err(EgressError::HostBlocked(name.as_str().to_owned()).into());
            }
            Ok(allowed.into_iter())
        })
    }
}
