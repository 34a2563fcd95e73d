//! [`Target`]: one endpoint, as the options name it, ready to be dialled.

use std::sync::Arc;

use tonic::transport::Endpoint;

use super::dial::Dialer;
use crate::{
    error::{Context, Error, Result},
    options::{Options, endpoint_uri},
};

/// One endpoint of the options. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// As a URL: `http://127.0.0.1:2379`.
    pub(super) name: Arc<str>,
    pub(super) endpoint: Endpoint,
    /// `None`: over TCP.
    pub(super) dialer: Option<Dialer>,
}

const OPERATION: &str = "connect to etcd";

/// Every endpoint of `options`, or every fault in them. Reads the certificate files.
pub(super) async fn targets(options: &Options) -> Result<Vec<Target>> {
    if options.endpoints.is_empty() {
        return Err(Error::NotConfigured {
            context: Context::new(OPERATION),
            detail: "`endpoints` is empty: name etcd's client URLs".into(),
        });
    }
    let mut faults = Vec::new();
    let mut targets = Vec::new();
    let tls = match tls(options).await {
        Ok(tls) => Some(tls),
        Err(mut found) => {
            faults.append(&mut found);
            None
        }
    };
    for text in &options.endpoints {
        match target(text, options, tls.as_ref()) {
            Ok(target) => targets.push(target),
            Err(fault) => faults.push(format!("endpoint `{text}`: {fault}")),
        }
    }
    if faults.is_empty() {
        Ok(targets)
    } else {
        Err(Error::Invalid {
            context: Context::new(OPERATION),
            faults,
        })
    }
}

fn target(text: &str, options: &Options, tls: Option<&Tls>) -> Result<Target, String> {
    // A certificate says that TLS is meant; plain text would then give away the password.
    let tls_is_meant = options.tls != crate::options::TlsOptions::default();
    let bare = !text.contains("://");
    let given = endpoint_uri(text)?;
    let https = given.scheme_str() == Some("https") || (bare && tls_is_meant);
    if !https && tls_is_meant {
        return Err("is plain text although `tls` is set: write `https://`".into());
    }
    let scheme = if https { "https" } else { "http" };
    // An endpoint has a host and a port: it was checked.
    let authority = given.authority().map_or("", http::uri::Authority::as_str);
    let name = format!("{scheme}://{authority}");
    let uri: http::Uri = name
        .parse()
        .map_err(|error| format!("is no URL: {error}"))?;
    let mut endpoint = Endpoint::from(uri)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(options.keep_alive_interval)
        .keep_alive_timeout(options.keep_alive_timeout)
        // etcd closes an idle connection that is pinged.
        .keep_alive_while_idle(false);
    if https {
        // `None`: its faults are already told.
        if let Some(tls) = tls {
            endpoint = tls.apply(endpoint)?;
        }
    }
    Ok(Target {
        name: name.into(),
        endpoint,
        dialer: None,
    })
}

#[cfg(feature = "tls")]
struct Tls(tonic::transport::ClientTlsConfig);

#[cfg(feature = "tls")]
impl Tls {
    fn apply(&self, endpoint: Endpoint) -> Result<Endpoint, String> {
        endpoint
            .tls_config(self.0.clone())
            .map_err(|error| format!("TLS: {}", super::error::in_one_line(&error)))
    }
}

#[cfg(feature = "tls")]
async fn tls(options: &Options) -> Result<Tls, Vec<String>> {
    use tonic::transport::{Certificate, ClientTlsConfig, Identity};

    use crate::options::Pem;

    let mut faults = Vec::new();
    let mut read = async |what: &str, pem: &Option<Pem>| match pem {
        Some(pem) => match pem.read().await {
            Ok(text) => Some(text),
            Err(error) => {
                faults.push(format!("`tls.{what}` {pem:?}: {error}"));
                None
            }
        },
        None => None,
    };
    let ca = read("ca", &options.tls.ca).await;
    let cert = read("cert", &options.tls.cert).await;
    let key = read("key", &options.tls.key).await;
    let mut config = ClientTlsConfig::new();
    config = match ca {
        Some(ca) => config.ca_certificate(Certificate::from_pem(ca)),
        None => config.with_native_roots(),
    };
    match (&options.tls.cert, &options.tls.key) {
        (Some(_), None) => faults.push("`tls.cert` is set, but `tls.key` is not".into()),
        (None, Some(_)) => faults.push("`tls.key` is set, but `tls.cert` is not".into()),
        _ => {}
    }
    if let (Some(cert), Some(key)) = (cert, key) {
        config = config.identity(Identity::from_pem(cert, key));
    }
    if let Some(name) = &options.tls.server_name {
        config = config.domain_name(name);
    }
    if faults.is_empty() {
        Ok(Tls(config))
    } else {
        Err(faults)
    }
}

#[cfg(not(feature = "tls"))]
struct Tls;

#[cfg(not(feature = "tls"))]
impl Tls {
    fn apply(&self, _endpoint: Endpoint) -> Result<Endpoint, String> {
        Err("https needs the feature `tls` of this crate".into())
    }
}

#[cfg(not(feature = "tls"))]
async fn tls(_options: &Options) -> Result<Tls, Vec<String>> {
    Ok(Tls)
}
