//! How a call goes out.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::*;

/// Counts what would be system calls.
struct Counted {
    tcp: TcpStream,
    writes: Arc<AtomicUsize>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.tcp).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn a_call_is_one_write() {
    const CALLS: usize = 50;
    let here = Here::new();
    let member = Member::start(1).await;
    let writes = Arc::new(AtomicUsize::new(0));
    let (address, counter) = (member.url(), writes.clone());
    let dialer = Dialer::new(move || {
        let tcp = std::net::TcpStream::connect(address.trim_start_matches("http://"))?;
        tcp.set_nonblocking(true)?;
        Ok(Counted {
            tcp: TcpStream::from_std(tcp)?,
            writes: counter.clone(),
        })
    });
    let options = of(&[&member]);
    let client = Client::open(
        Purpose::Calls,
        &options,
        Some(&dialer),
        &here.clock,
        &here.tasks,
    );
    let client = client.await.unwrap();
    let before = writes.load(Ordering::Relaxed);
    for _ in 0..CALLS {
        assert_eq!(asks(&client).await, 1);
    }
    let sent = writes.load(Ordering::Relaxed) - before;
    // The answers may have to be acknowledged now and then.
    assert!(
        (CALLS..CALLS + CALLS / 2).contains(&sent),
        "{sent} writes for {CALLS} calls"
    );
}
