//! [`Source`]: what the engine needs of a server, so that a script can stand in for one.

use crate::client::{
    CallError, Client, Range, RangeReply, Version, WatchMessage, WatchRequest, WatchStream,
};

/// A server, or a script that plays one.
pub(crate) trait Source: Send + Sync + 'static {
    type Stream: SourceStream;

    fn range(&self, range: Range) -> impl Future<Output = Result<RangeReply, CallError>> + Send;
    fn watch(
        &self,
        request: WatchRequest,
    ) -> impl Future<Output = Result<Self::Stream, CallError>> + Send;
    fn refresh_token(&self) -> impl Future<Output = Result<(), CallError>> + Send;
    fn version_of(&self, member: u64) -> impl Future<Output = Option<Version>> + Send;
    fn leave_endpoint(&self);
}

/// An open stream of a [`Source`].
pub(crate) trait SourceStream: Send + 'static {
    fn next(&mut self) -> impl Future<Output = Result<Option<WatchMessage>, CallError>> + Send;
    fn request_progress(&mut self) -> impl Future<Output = Result<(), CallError>> + Send;
}

impl Source for Client {
    type Stream = WatchStream;

    async fn range(&self, range: Range) -> Result<RangeReply, CallError> {
        self.range(range).await
    }
    async fn watch(&self, request: WatchRequest) -> Result<WatchStream, CallError> {
        self.watch(request).await
    }
    async fn refresh_token(&self) -> Result<(), CallError> {
        self.refresh_token().await
    }
    async fn version_of(&self, member: u64) -> Option<Version> {
        self.version_of(member).await
    }
    fn leave_endpoint(&self) {
        self.leave_endpoint();
    }
}

impl SourceStream for WatchStream {
    async fn next(&mut self) -> Result<Option<WatchMessage>, CallError> {
        self.next().await
    }
    async fn request_progress(&mut self) -> Result<(), CallError> {
        self.request_progress().await
    }
}
