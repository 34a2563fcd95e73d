//! [`Caller`]: the caller's name, which goes with each call; [`caller()`]: read by the server.

use http::HeaderValue;
use percent_encoding::{CONTROLS, utf8_percent_encode};
use tonic::{Request, Status, metadata::MetadataMap, service::Interceptor};

/// The header that has the caller's name.
pub const CALLER: &str = "x-coord-client";

/// The caller's name. A [`Channel`](super::Channel) sends its own by itself; as an interceptor, this
/// names the callers of any other channel. A name that the request has already is left as it is.
///
/// ```
/// use coord::grpc::{Caller, caller};
/// use tonic::{Request, service::Interceptor};
///
/// let request = Caller::new("user-service/17").call(Request::new(()))?;
/// assert_eq!(caller(request.metadata()), Some("user-service/17"));
/// # Ok::<(), tonic::Status>(())
/// ```
#[derive(Clone, Debug)]
pub struct Caller(HeaderValue);

impl Caller {
    /// What is not ASCII in `name` is percent-encoded.
    pub fn new(name: &str) -> Self {
        let name = utf8_percent_encode(name, CONTROLS).to_string();
        // Of ASCII, a header's value may have all but control characters, and those are encoded.
        Self(HeaderValue::try_from(name).unwrap_or(HeaderValue::from_static("")))
    }

    pub(super) fn header(&self) -> &HeaderValue {
        &self.0
    }
}

impl Interceptor for Caller {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata_mut();
        if !metadata.contains_key(CALLER)
            && let Ok(value) = self.0.as_bytes().try_into()
        {
            metadata.insert(CALLER, value);
        }
        Ok(request)
    }
}

/// Who calls, as far as the caller says: of a request that came through a
/// [`Channel`](super::Channel) or past a [`Caller`].
///
/// It is a name for logs and metrics, not a proof of identity.
pub fn caller(metadata: &MetadataMap) -> Option<&str> {
    metadata.get(CALLER)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_can_be_sent() {
        for (name, sent) in [
            ("user-service", "user-service"),
            ("a b/c", "a b/c"),
            ("größe\n", "gr%C3%B6%C3%9Fe%0A"),
            ("", ""),
        ] {
            assert_eq!(Caller::new(name).header(), sent);
        }
    }

    #[test]
    fn a_name_that_is_there_stays() {
        let mut request = Request::new(());
        request
            .metadata_mut()
            .insert(CALLER, "first".parse().unwrap());
        let request = Caller::new("second").call(request).unwrap();
        assert_eq!(caller(request.metadata()), Some("first"));
    }
}
