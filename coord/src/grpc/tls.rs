//! [`Tls`]: how connections to instances are secured.

use std::sync::Arc;

use http::uri::Authority;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        self, ClientConfig, InvalidMessage, RootCertStore,
        crypto::{CryptoProvider, ring},
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    },
};

use crate::{
    options::{Pem, TlsOptions},
    tasks::Tasks,
};

/// What HTTP/2 is called in the handshake.
const H2: &[u8] = b"h2";

/// Certificates and keys, read and checked. Shows none of them.
#[derive(Clone, Debug)]
pub(super) struct Tls {
    config: Arc<ClientConfig>,
    /// Instead of the address's host.
    name: Option<ServerName<'static>>,
}

impl Tls {
    /// Reads what the options name; the errors are all faults. The machine's own authorities are
    /// read aside: there may be many.
    pub(super) async fn read(options: &TlsOptions, tasks: &Tasks) -> Result<Self, Vec<String>> {
        let mut faults = Vec::new();
        let ca = read("ca", options.ca.as_ref(), &mut faults).await;
        let cert = read("cert", options.cert.as_ref(), &mut faults).await;
        let key = read("key", options.key.as_ref(), &mut faults).await;
        match (&options.cert, &options.key) {
            (Some(_), None) => faults.push("`tls.cert` is set, but `tls.key` is not".into()),
            (None, Some(_)) => faults.push("`tls.key` is set, but `tls.cert` is not".into()),
            _ => {}
        }
        let name = options.server_name.clone().map(ServerName::try_from);
        let name = name.transpose().unwrap_or_else(|_| {
            faults.push("`tls.server_name` is no host's name".into());
            None
        });
        let mut roots = RootCertStore::empty();
        if options.ca.is_none() {
            let native = tasks.aside(rustls_native_certs::load_native_certs).await;
            let native = native.map(|native| native.certs).unwrap_or_default();
            if roots.add_parsable_certificates(native).0 == 0 {
                faults.push("this machine has no certificate authorities: set `tls.ca`".into());
            }
        }
        for ca in certificates("ca", ca.as_deref(), &mut faults) {
            if let Err(error) = roots.add(ca) {
                faults.push(format!("`tls.ca`: {error}"));
            }
        }
        let cert = certificates("cert", cert.as_deref(), &mut faults);
        let key = key.map(|key| PrivateKeyDer::from_pem_slice(&key));
        let key = key.transpose().unwrap_or_else(|_| {
            // What the parser says of it may show a part of it.
            faults.push("`tls.key` holds no private key".into());
            None
        });
        if !faults.is_empty() {
            return Err(faults);
        }
        let provider = CryptoProvider::get_default().cloned();
        let provider = provider.unwrap_or_else(|| Arc::new(ring::default_provider()));
        let fault = |error: tokio_rustls::rustls::Error| vec![format!("TLS: {error}")];
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(fault)?
            .with_root_certificates(roots);
        let mut config = match key {
            Some(key) => builder.with_client_auth_cert(cert, key).map_err(fault)?,
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols.push(H2.to_vec());
        Ok(Self {
            config: Arc::new(config),
            name,
        })
    }

    /// The handshake; the error is for people.
    pub(super) async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        authority: &Authority,
        io: S,
    ) -> Result<TlsStream<S>, String> {
        // An IPv6 address stands in brackets there, and without them in a certificate.
        let host = authority.host().trim_matches(['[', ']']);
        let name = match &self.name {
            Some(name) => name.clone(),
            None => ServerName::try_from(host.to_owned())
                .map_err(|_| format!("{host} is no name that a certificate can have"))?,
        };
        let connected = TlsConnector::from(self.config.clone())
            .connect(name, io)
            .await;
        let stream = connected.map_err(|error| told(&error))?;
        match stream.get_ref().1.alpn_protocol() {
            Some(H2) => Ok(stream),
            _ => Err("TLS: the server does not offer HTTP/2".into()),
        }
    }
}

/// Why a handshake failed, for people.
fn told(error: &std::io::Error) -> String {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    match cause {
        Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            "the channel speaks TLS, and the server does not".into()
        }
        _ => format!("TLS: {error}"),
    }
}

async fn read(what: &str, pem: Option<&Pem>, faults: &mut Vec<String>) -> Option<Vec<u8>> {
    let read = pem?.read().await;
    read.inspect_err(|error| faults.push(format!("`tls.{what}` {pem:?}: {error}", pem = pem)))
        .ok()
}

fn certificates(
    what: &str,
    pem: Option<&[u8]>,
    faults: &mut Vec<String>,
) -> Vec<CertificateDer<'static>> {
    let Some(pem) = pem else {
        return Vec::new();
    };
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.unwrap_or_default();
    if all.is_empty() {
        faults.push(format!("`tls.{what}` holds no certificate"));
    }
    all
}
