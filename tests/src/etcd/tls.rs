//! Certificates for one test: an authority, a server and a client.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use tempfile::TempDir;

use crate::guardian;

/// What a server with TLS and its clients need, as PEM and as the paths of PEM files.
///
/// The server's certificate is good for `localhost` and `127.0.0.1`.
#[derive(Debug)]
pub struct Tls {
    dir: TempDir,
    ca: String,
    client_cert: String,
    client_key: String,
}

impl Tls {
    /// New ones.
    ///
    /// # Errors
    ///
    /// If they cannot be made or written.
    pub fn generate() -> anyhow::Result<Self> {
        let mut params = CertificateParams::new([])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "coord-tests authority");
        let key = KeyPair::generate()?;
        let ca = params.self_signed(&key)?.pem();
        let authority = Issuer::new(params, key);

        let (server_cert, server_key) = signed(&authority, "coord-tests server")?;
        let (client_cert, client_key) = signed(&authority, "coord-tests client")?;
        let tls = Self {
            dir: guardian::scratch("tls-"),
            ca,
            client_cert,
            client_key,
        };
        fs::write(tls.ca_path(), &tls.ca)?;
        fs::write(tls.client_cert_path(), &tls.client_cert)?;
        fs::write(tls.client_key_path(), &tls.client_key)?;
        fs::write(tls.server_cert_path(), server_cert)?;
        fs::write(tls.server_key_path(), server_key)?;
        Ok(tls)
    }

    /// The authority's certificate.
    #[must_use]
    pub fn ca(&self) -> &str {
        &self.ca
    }

    /// The client's certificate.
    #[must_use]
    pub fn client_cert(&self) -> &str {
        &self.client_cert
    }

    /// The client's key.
    #[must_use]
    pub fn client_key(&self) -> &str {
        &self.client_key
    }

    /// The file with the authority's certificate.
    #[must_use]
    pub fn ca_path(&self) -> PathBuf {
        self.file("ca.pem")
    }

    /// The file with the client's certificate.
    #[must_use]
    pub fn client_cert_path(&self) -> PathBuf {
        self.file("client.pem")
    }

    /// The file with the client's key.
    #[must_use]
    pub fn client_key_path(&self) -> PathBuf {
        self.file("client-key.pem")
    }

    /// The file with the server's certificate.
    #[must_use]
    pub fn server_cert_path(&self) -> PathBuf {
        self.file("server.pem")
    }

    /// The file with the server's key.
    #[must_use]
    pub fn server_key_path(&self) -> PathBuf {
        self.file("server-key.pem")
    }

    fn file(&self, name: &str) -> PathBuf {
        Path::join(self.dir.path(), name)
    }
}

/// A certificate and its key. etcd shows its server certificate as a client too (its gateway calls
/// itself), so each is good for both.
fn signed(authority: &Issuer<'_, KeyPair>, name: &str) -> anyhow::Result<(String, String)> {
    let mut params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let key = KeyPair::generate()?;
    Ok((
        params.signed_by(&key, authority)?.pem(),
        key.serialize_pem(),
    ))
}
