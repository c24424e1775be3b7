//! Bodies that are packed, with gzip (RFC 1952) or zstd (RFC 8878): unpacked piece by piece as they
//! are read, and bounded by what they come to.

use std::io;

use async_compression::{
    tokio::bufread::{GzipDecoder, ZstdDecoder},
    zstd::DParameter,
};
use axum::body::Body;
use futures_util::{StreamExt, TryStreamExt};
use http::{HeaderMap, StatusCode, header::CONTENT_ENCODING};
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::io::{AsyncBufRead, AsyncRead};
use tokio_util::io::{ReaderStream, StreamReader};

use super::{body::BodyError, problem::Problem};

/// How much is unpacked at once, in bytes.
const PIECE_BYTES: usize = 32 * 1024;

/// The largest window of zstd, as a power of two: 8 MiB, what RFC 9659 has receivers support.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// How a body is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    Plain,
    Gzip,
    Zstd,
}

/// A packed body did not arrive.
#[derive(Debug, thiserror::Error)]
pub(super) enum UnpackError {
    /// It broke off, or took too long.
    #[error(transparent)]
    Body(BodyError),
    /// It comes to more than is allowed.
    #[error("the body is longer than {0} bytes once unpacked")]
    TooLarge(u64),
    /// It is not what it is said to be.
    #[error("the body can't be unpacked: {0}")]
    Broken(io::Error),
}

// === impl Packing ===

impl Packing {
    /// What `Content-Encoding` says.
    ///
    /// # Errors
    /// [`Problem`] if that is something else, or several things at once.
    pub(super) fn read(headers: &HeaderMap) -> Result<Self, Problem> {
        let mut encodings = headers.get_all(CONTENT_ENCODING).iter();
        let (first, second) = (encodings.next(), encodings.next());
        let word = first.map_or(Some("identity"), |word| word.to_str().ok());
        match word.map(str::to_ascii_lowercase).as_deref() {
            _ if second.is_some() => {}
            Some("identity") => return Ok(Self::Plain),
            Some("gzip" | "x-gzip") => return Ok(Self::Gzip),
            Some("zstd") => return Ok(Self::Zstd),
            _ => {}
        }
        let detail = "Send the body as it is, or with one Content-Encoding: gzip or zstd.";
        Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_encoding", detail))
    }

    /// The body as it was before it was packed, which may come to `bytes_max`. A plain one stays as
    /// it is.
    pub(super) fn unpack(self, body: Body, bytes_max: u64) -> Body {
        match self {
            Self::Plain => body,
            Self::Gzip => {
                let mut decoder = GzipDecoder::new(packed(body));
                decoder.multiple_members(true);
                bounded(decoder, bytes_max)
            }
            Self::Zstd => {
                let window = DParameter::window_log_max(ZSTD_WINDOW_LOG_MAX);
                let mut decoder = ZstdDecoder::with_params(packed(body), &[window]);
                decoder.multiple_members(true);
                bounded(decoder, bytes_max)
            }
        }
    }
}

/// The bytes of a body as they arrive. Its errors are carried through the decoder.
fn packed(body: Body) -> impl AsyncBufRead + Send {
    StreamReader::new(body.into_data_stream().map_err(|error| io::Error::other(error.into_inner())))
}

/// The body that `unpacked` gives, if it is no longer than `bytes_max`.
fn bounded(unpacked: impl AsyncRead + Send + 'static, bytes_max: u64) -> Body {
    let mut length = 0;
    let pieces = ReaderStream::with_capacity(unpacked, PIECE_BYTES).map(move |piece| {
        let piece = piece.map_err(UnpackError::from)?;
        length += piece.len() as u64;
        if length > bytes_max {
            return Err(UnpackError::TooLarge(bytes_max));
        }
        Ok(Frame::data(piece))
    });
    Body::new(StreamBody::new(pieces))
}

// === impl UnpackError ===

impl From<io::Error> for UnpackError {
    fn from(error: io::Error) -> Self {
        error.downcast::<BodyError>().map_or_else(Self::Broken, Self::Body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_encoding_is_understood() {
        let read = |words: &[&'static str]| {
            let given = words.iter().map(|word| (CONTENT_ENCODING, word.parse().unwrap()));
            let mut headers = HeaderMap::new();
            for (name, value) in given {
                headers.append(name, value);
            }
            Packing::read(&headers).ok()
        };
        assert_eq!(read(&[]), Some(Packing::Plain));
        assert_eq!(read(&["identity"]), Some(Packing::Plain));
        assert_eq!(read(&["GZip"]), Some(Packing::Gzip));
        assert_eq!(read(&["zstd"]), Some(Packing::Zstd));
        for other in [&["br"][..], &["gzip, gzip"], &["gzip", "gzip"], &["gzip", "zstd"], &[""]] {
            assert_eq!(read(other), None, "{other:?}");
        }
    }

    #[test]
    fn what_went_wrong_below_is_known_above() {
        let carried = io::Error::other(BodyError::TimedOut);
        assert!(matches!(UnpackError::from(carried), UnpackError::Body(BodyError::TimedOut)));
        let broken = io::Error::from(io::ErrorKind::UnexpectedEof);
        assert!(matches!(UnpackError::from(broken), UnpackError::Broken(_)));
    }
}
