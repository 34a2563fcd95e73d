//! How clients get in: certificates and the root user.

use std::{ffi::OsString, path::PathBuf};

use etcd_client::{Certificate, Client, ConnectOptions, Identity, TlsOptions};

use super::{EtcdConfig, Tls};

/// The user of an etcd with authentication.
pub const ROOT_USER: &str = "root";

/// Its password.
pub const ROOT_PASSWORD: &str = "coord-tests-root";

#[derive(Debug)]
pub(super) struct Access {
    tls: Option<Tls>,
    auth: bool,
}

impl Access {
    pub(super) fn new(config: &EtcdConfig) -> anyhow::Result<Self> {
        let tls = config.tls.then(Tls::generate).transpose()?;
        Ok(Self {
            tls,
            auth: config.auth,
        })
    }

    pub(super) fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    pub(super) fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    pub(super) fn options(&self) -> ConnectOptions {
        let options = self.options_without_user();
        if !self.auth {
            return options;
        }
        options
            .with_user(ROOT_USER, ROOT_PASSWORD)
            .with_auto_token_refresh(true)
    }

    /// For the time before authentication is on.
    pub(super) fn options_without_user(&self) -> ConnectOptions {
        match &self.tls {
            None => ConnectOptions::new(),
            Some(tls) => ConnectOptions::new().with_tls(
                TlsOptions::new()
                    .ca_certificate(Certificate::from_pem(tls.ca()))
                    .identity(Identity::from_pem(tls.client_cert(), tls.client_key())),
            ),
        }
    }

    pub(super) fn server_arguments(&self) -> Vec<OsString> {
        let Some(tls) = &self.tls else {
            return Vec::new();
        };
        let mut arguments = vec!["--client-cert-auth".into()];
        arguments.extend(file("--trusted-ca-file", tls.ca_path()));
        arguments.extend(file("--cert-file", tls.server_cert_path()));
        arguments.extend(file("--key-file", tls.server_key_path()));
        arguments
    }

    pub(super) fn etcdctl_arguments(&self) -> Vec<OsString> {
        let mut arguments = Vec::new();
        if let Some(tls) = &self.tls {
            arguments.extend(file("--cacert", tls.ca_path()));
            arguments.extend(file("--cert", tls.client_cert_path()));
            arguments.extend(file("--key", tls.client_key_path()));
        }
        if self.auth {
            arguments.push("--user".into());
            arguments.push(format!("{ROOT_USER}:{ROOT_PASSWORD}").into());
        }
        arguments
    }
}

fn file(option: &str, path: PathBuf) -> [OsString; 2] {
    [option.into(), path.into()]
}

/// Adds the root user, and requires users from then on.
pub(super) async fn enable_auth(mut client: Client) -> anyhow::Result<()> {
    client.user_add(ROOT_USER, ROOT_PASSWORD, None).await?;
    client.role_add("root").await?;
    client.user_grant_role(ROOT_USER, "root").await?;
    client.auth_enable().await?;
    Ok(())
}
