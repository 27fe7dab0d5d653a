//! Names to addresses, without the C library: it would read files, and after the seal there are none. `/etc/resolv.conf` and
//! `/etc/hosts` are read once, before it; nothing is remembered from one question to the next.

use std::net::IpAddr;
use std::sync::Arc;

use hickory_resolver::config::{ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::{Hosts, Resolver, system_conf};

/// Answers looked at; each must be allowed, and a name with more is nobody's health endpoint.
const MAX_ADDRESSES: usize = 16;

/// What names are looked up with.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    system: Option<(ResolverConfig, ResolverOpts)>,
    hosts: Arc<Hosts>,
}

impl Names {
    /// What this machine is configured with. Without a resolver only what `/etc/hosts` names is known.
    pub(crate) fn of_this_machine() -> Self {
        let hosts = Hosts::from_system().unwrap_or_else(|error| {
            tracing::debug!(%error, "/etc/hosts can't be read");
            Hosts::default()
        });
        let system = system_conf::read_system_conf()
            .inspect_err(|error| tracing::debug!(%error, "/etc/resolv.conf can't be used"))
            .ok();
        Self { system, hosts: Arc::new(hosts) }
    }

    /// Every address of the name, in the order they came.
    pub(crate) async fn look_up(&self, name: &str) -> Result<Vec<IpAddr>, &'static str> {
        let (config, mut options) = self.system.clone().ok_or("no name server is configured")?;
        options.use_hosts_file = ResolveHosts::Never;
        options.cache_size = 0;
        let builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default()).with_options(options);
        let mut resolver = builder.build().map_err(|_wrong| "the configured name servers can't be used")?;
        resolver.set_hosts(Arc::clone(&self.hosts));
        // The closing dot: no search domain is tried.
        let found = resolver.lookup_ip(format!("{name}.")).await.map_err(|_no_answer| "the name has no address")?;
        let addresses: Vec<IpAddr> = found.iter().take(MAX_ADDRESSES + 1).collect();
        match addresses.len() {
            0 => Err("the name has no address"),
            1..=MAX_ADDRESSES => Ok(addresses),
            _ => Err("the name has too many addresses"),
        }
    }
}
