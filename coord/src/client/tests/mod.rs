//! The client against scripted members, and against a real etcd.

mod etcd;
mod failover;
mod lifetime;
pub(crate) mod live;
mod member;
mod open;
mod writes;

use tokio_util::sync::CancellationToken;

pub(crate) use self::etcd::Etcd;
use self::{
    etcd::open_once_up,
    member::{Answer, Member},
};
use super::*;
use crate::tasks::Thread;

/// Far beyond what anything here takes.
const HANG: Duration = Duration::from_secs(60);

/// Where coord's own tasks run.
pub(crate) struct Here {
    pub(crate) tasks: Tasks,
    pub(crate) clock: Clock,
    _thread: Thread,
}

impl Here {
    pub(crate) fn new() -> Self {
        let thread = Thread::start("client test").unwrap();
        Self {
            tasks: thread.tasks(&CancellationToken::new()),
            clock: Clock::real(thread.clone()),
            _thread: thread,
        }
    }

    async fn open(&self, options: &Options) -> Result<Client> {
        let opening = Client::open(Purpose::Calls, options, None, &self.clock, &self.tasks);
        self.clock.timeout(HANG, opening).await.expect("open hangs")
    }

    async fn until(&self, what: &str, condition: impl Fn() -> bool) {
        let waiting = async {
            while !condition() {
                self.clock.sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(
            self.clock.timeout(HANG, waiting).await.is_ok(),
            "never {what}"
        );
    }
}

fn options<'a>(endpoints: impl IntoIterator<Item = &'a str>) -> Options {
    Options {
        endpoints: endpoints.into_iter().map(Into::into).collect(),
        ..Options::default()
    }
}

fn of(members: &[&Member]) -> Options {
    let urls: Vec<String> = members.iter().map(|member| member.url()).collect();
    options(urls.iter().map(String::as_str))
}

fn read() -> Range {
    Range::new(Span::Key(b"k".to_vec()))
}

/// Which member answers.
async fn asks(client: &Client) -> u64 {
    client.range(read()).await.unwrap().header.member_id
}
