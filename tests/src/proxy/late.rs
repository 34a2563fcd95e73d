//! What is still on its way when its sender has gone.

use std::io;

use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use crate::runtime;

/// What clients had sent over connections that are closed on their side. See
/// [`Proxy::detach`](super::Proxy::detach).
///
/// The server knows nothing of that: its side stays open, also after the delivery, until this is
/// dropped.
#[derive(Debug)]
pub struct Late(pub(super) Vec<Stray>);

/// One connection without a client.
#[derive(Debug)]
pub(super) struct Stray {
    pub(super) server: TcpStream,
    pub(super) bytes: Vec<u8>,
}

impl Late {
    /// How many bytes are on their way.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.iter().map(|stray| stray.bytes.len()).sum()
    }

    /// They arrive now, in any order.
    ///
    /// # Panics
    ///
    /// If the server has closed a connection meanwhile.
    pub async fn deliver(&mut self) {
        let strays = std::mem::take(&mut self.0);
        let delivered = runtime::run(async move {
            let mut strays = strays;
            for stray in &mut strays {
                stray.server.write_all(&stray.bytes).await?;
                stray.bytes.clear();
            }
            io::Result::Ok(strays)
        });
        self.0 = delivered.await.expect("the server reads");
    }
}
