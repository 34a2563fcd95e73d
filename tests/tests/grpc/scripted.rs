//! An HTTP/2 server frame by frame: what it does to each request is written down beforehand.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use coord_tests::echo::EchoReply;
use prost::Message as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// What the server does once a request is complete; what is not unary is never complete here, and is
/// met at its headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Answers, with its name.
    Answer,
    /// An answer of headers alone, with this status.
    Status(u8),
    /// Headers of HTTP alone, with no status of gRPC's: 503.
    Unavailable,
    /// RST_STREAM with this code.
    Reset(u32),
    /// GOAWAY with this code, with a last stream before this one; the connection is closed thereafter.
    GoAwayBefore(u32),
    /// GOAWAY that names this one as the last, and then the end of the connection.
    GoAwayAfter(u32),
    /// GOAWAY that names this one as the last, then the answer, and then the end.
    GoAwayAnswer,
    /// The end of the connection.
    Cut,
    /// The headers of an answer, then the end of the connection.
    HeadersCut,
    /// The headers of an answer and its message, then RST_STREAM with this code.
    MessageReset(u32),
    /// The headers of an answer and its message, and no more.
    MessageSilence,
    /// Nothing.
    Silence,
}

pub(crate) const REFUSED_STREAM: u32 = 7;
pub(crate) const CANCEL: u32 = 8;
pub(crate) const INTERNAL_ERROR: u32 = 2;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;
pub(crate) const NO_ERROR: u32 = 0;

/// A server that follows a script, and answers once that is over.
#[derive(Debug)]
pub(crate) struct Scripted {
    pub(crate) address: String,
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: &'static str,
    script: Mutex<VecDeque<Act>>,
    seen: AtomicUsize,
    connections: AtomicUsize,
    /// Streams that the client has reset.
    resets: AtomicUsize,
    /// The header block of the last request.
    headers: Mutex<Vec<u8>>,
}

impl Scripted {
    pub(crate) async fn start(name: &'static str, script: impl IntoIterator<Item = Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let inner = Arc::new(Inner {
            name,
            script: Mutex::new(script.into_iter().collect()),
            seen: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            resets: AtomicUsize::new(0),
            headers: Mutex::default(),
        });
        let serving = inner.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                serving.connections.fetch_add(1, SeqCst);
                let serving = serving.clone();
                // A connection that breaks is what some scripts are about.
                tokio::spawn(async move { drop(serve(&serving, stream).await) });
            }
        });
        Self { address, inner }
    }

    /// Requests that it has met.
    pub(crate) fn seen(&self) -> usize {
        self.inner.seen.load(SeqCst)
    }

    pub(crate) fn connections(&self) -> usize {
        self.inner.connections.load(SeqCst)
    }

    pub(crate) fn resets(&self) -> usize {
        self.inner.resets.load(SeqCst)
    }
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

async fn serve(inner: &Inner, mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await?;
    // INITIAL_WINDOW_SIZE, of each stream; and that of the connection: large requests are read at once.
    let window = (16_u32 << 20).to_be_bytes();
    let settings = [&[0, 4], &window[..]].concat();
    stream.write_all(&frame(SETTINGS, 0, 0, &settings)).await?;
    stream
        .write_all(&frame(WINDOW_UPDATE, 0, 0, &window))
        .await?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let (kind, flags) = (head[3], head[4]);
        let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload).await?;
        match kind {
            SETTINGS if flags & ACK == 0 => {
                stream.write_all(&frame(SETTINGS, ACK, 0, &[])).await?;
            }
            PING if flags & ACK == 0 => stream.write_all(&frame(PING, ACK, 0, &payload)).await?,
            RST_STREAM => {
                inner.resets.fetch_add(1, SeqCst);
            }
            HEADERS => {
                *inner.headers.lock().unwrap() = payload;
            }
            DATA if flags & END_STREAM != 0 => {
                inner.seen.fetch_add(1, SeqCst);
                let act = inner.script.lock().unwrap().pop_front();
                if !perform(inner, &mut stream, id, act.unwrap_or(Act::Answer)).await? {
                    return Ok(());
                }
            }
            _ => {}
        }
    }
}

/// Whether the connection goes on.
async fn perform(
    inner: &Inner,
    stream: &mut TcpStream,
    id: u32,
    act: Act,
) -> std::io::Result<bool> {
    let begun = frame(
        HEADERS,
        END_HEADERS,
        id,
        &headers(200, &[("content-type", "application/grpc")]),
    );
    let alone = |status: u16, headers_: &[(&str, &str)]| {
        frame(
            HEADERS,
            END_HEADERS | END_STREAM,
            id,
            &headers(status, headers_),
        )
    };
    let message = frame(DATA, 0, id, &message(inner.name));
    let ended = {
        let mut block = Vec::new();
        literal(&mut block, "grpc-status", "0");
        frame(HEADERS, END_HEADERS | END_STREAM, id, &block)
    };
    let reset = |code: u32| frame(RST_STREAM, 0, id, &code.to_be_bytes());
    let go_away = |last: u32, code: u32| {
        frame(
            GOAWAY,
            0,
            0,
            &[last.to_be_bytes(), code.to_be_bytes()].concat(),
        )
    };
    let (frames, goes_on) = match act {
        Act::Answer => ([begun, message, ended].concat(), true),
        Act::Status(code) => {
            let code = code.to_string();
            let status = [("content-type", "application/grpc"), ("grpc-status", &code)];
            (alone(200, &status), true)
        }
        Act::Unavailable => (alone(503, &[]), true),
        Act::Reset(code) => (reset(code), true),
        // A client's streams have odd numbers.
        Act::GoAwayBefore(code) => (go_away(id - 1, code), false),
        Act::GoAwayAfter(code) => (go_away(id, code), false),
        Act::GoAwayAnswer => (
            [go_away(id, NO_ERROR), begun, message, ended].concat(),
            false,
        ),
        Act::Cut => (Vec::new(), false),
        Act::HeadersCut => (begun, false),
        Act::MessageReset(code) => ([begun, message, reset(code)].concat(), true),
        Act::MessageSilence => ([begun, message].concat(), true),
        Act::Silence => (Vec::new(), true),
    };
    stream.write_all(&frames).await?;
    if !goes_on {
        stream.shutdown().await?;
        // What the client still says is read, so that a reset does not overtake what was written.
        let _ = tokio::io::copy(stream, &mut tokio::io::sink()).await;
    }
    Ok(goes_on)
}

fn frame(kind: u8, flags: u8, id: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &id.to_be_bytes(), payload].concat()
}

/// A header block without compression.
fn headers(status: u16, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    literal(&mut block, ":status", &status.to_string());
    for (name, value) in headers {
        literal(&mut block, name, value);
    }
    block
}

fn literal(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0);
    for text in [name, value] {
        // Below 127 a length is one byte.
        block.push(u8::try_from(text.len()).unwrap());
        block.extend_from_slice(text.as_bytes());
    }
}

/// gRPC's frame of a reply.
fn message(name: &str) -> Vec<u8> {
    let reply = EchoReply {
        server: name.to_owned(),
        ..EchoReply::default()
    };
    let reply = reply.encode_to_vec();
    let length = u32::try_from(reply.len()).unwrap();
    [&[0], &length.to_be_bytes()[..], &reply].concat()
}
