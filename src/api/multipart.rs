//! Reads `multipart/form-data` (RFC 7578, over RFC 2046, section 5.1) piece by piece as it arrives.
//!
//! The next piece is asked for when all of the last one was taken, and no more is kept of it than
//! could be the beginning of a boundary: the memory is the same for parts of any length, and the
//! socket waits for whoever takes them. What no form needs is refused: text before the first part,
//! and more than a little behind the last one.

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body_util::BodyExt;
use memchr::memmem;

use super::{body::broken, media, model::FieldError, problem::Problem};

/// The longest boundary, in bytes (RFC 2046, section 5.1.1).
const BOUNDARY_BYTES_MAX: usize = 70;

/// The longest head of a part, in bytes.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// How much may follow the last part, in bytes.
const REST_BYTES_MAX: usize = 64 * 1024;

/// What ends a line, and what ends a part's head.
const LINE_END: &[u8] = b"\r\n";
const HEAD_END: &[u8] = b"\r\n\r\n";

/// What follows the last boundary.
const CLOSING: &[u8] = b"--";

/// A body made of parts, which are read one after the other.
pub(super) struct Multipart {
    body: Body,
    /// What was read and not given.
    read: BytesMut,
    /// What ends a part: a line's end, and the beginning of the line after it.
    boundary: memmem::Finder<'static>,
    /// The name of the part in hand; empty before the first.
    name: String,
}

/// What a part says of itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) name: String,
    /// Its media type, in lower case and without its parameters; empty if nothing is said.
    pub(super) media_type: String,
}

/// The boundary that a form's media type names.
///
/// # Errors
/// [`Problem`] if it names none that can be one.
pub(super) fn boundary(content_type: &str) -> Result<String, Problem> {
    let is_one = |boundary: &String| {
        let is_allowed =
            |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&byte);
        (1..=BOUNDARY_BYTES_MAX).contains(&boundary.len())
            && boundary.bytes().all(is_allowed)
            && !boundary.ends_with(' ')
    };
    let named = media::parameter(content_type, "boundary").filter(is_one);
    named.ok_or_else(|| malformed("", "Content-Type names no boundary of 1 to 70 characters"))
}

// === impl Multipart ===

impl Multipart {
    /// The parts of a body, with what [`boundary`] has found.
    pub(super) fn new(body: Body, boundary: &str) -> Self {
        let boundary = [LINE_END, CLOSING, boundary.as_bytes()].concat();
        // The first boundary has no line before it.
        let read = BytesMut::from(LINE_END);
        let boundary = memmem::Finder::new(&boundary).into_owned();
        Self { body, read, boundary, name: String::new() }
    }

    /// The next part; `None` once the last one was read and the body has ended well. What was not
    /// taken of the part before is passed over, but for the first: nothing stands before that.
    ///
    /// # Errors
    /// [`Problem`] if the body broke off or is no form.
    pub(super) async fn next_part(&mut self) -> Result<Option<Part>, Problem> {
        if self.name.is_empty() {
            self.begin().await?;
        } else {
            while self.piece().await?.is_some() {}
        }
        self.fill(self.boundary.needle().len() + CLOSING.len()).await?;
        let _boundary = self.read.split_to(self.boundary.needle().len());
        if self.read.starts_with(CLOSING) {
            self.end().await?;
            return Ok(None);
        }
        let head = self.head().await?;
        let part = Part::read(&String::from_utf8_lossy(&head))?;
        self.name.clone_from(&part.name);
        Ok(Some(part))
    }

    /// The next piece of the part in hand; `None` at its end. Nothing is lost if it is not waited for.
    ///
    /// # Errors
    /// As [`Self::next_part`].
    pub(super) async fn piece(&mut self) -> Result<Option<Bytes>, Problem> {
        loop {
            let sure = match self.boundary.find(&self.read) {
                Some(0) => return Ok(None),
                Some(end) => end,
                // The rest may be the beginning of a boundary.
                None => (self.read.len() + 1).saturating_sub(self.boundary.needle().len()),
            };
            if sure > 0 {
                return Ok(Some(self.read.split_to(sure).freeze()));
            }
            self.more().await?;
        }
    }

    /// Reads the first boundary, which is to come at once.
    async fn begin(&mut self) -> Result<(), Problem> {
        self.fill(self.boundary.needle().len()).await?;
        if self.read.starts_with(self.boundary.needle()) {
            return Ok(());
        }
        Err(malformed("", "the body does not begin with the boundary that Content-Type names"))
    }

    /// The head of a part, behind the rest of its boundary's line.
    async fn head(&mut self) -> Result<BytesMut, Problem> {
        loop {
            if let Some(end) = memmem::find(&self.read, HEAD_END) {
                let head = self.read.split_to(end);
                let _end = self.read.split_to(HEAD_END.len());
                return Ok(head);
            }
            if self.read.len() > HEAD_BYTES_MAX {
                return Err(malformed(&self.name, "the head of the next part is too long"));
            }
            self.more().await?;
        }
    }

    /// Reads what is behind the last boundary, to the end of the body.
    async fn end(&mut self) -> Result<(), Problem> {
        let mut rest = self.read.len();
        self.read.clear();
        while let Some(piece) = self.frame().await? {
            rest += piece.len();
            if rest > REST_BYTES_MAX {
                return Err(malformed(&self.name, "the body goes on behind its closing boundary"));
            }
        }
        Ok(())
    }

    /// Reads until there are so many bytes.
    async fn fill(&mut self, bytes: usize) -> Result<(), Problem> {
        while self.read.len() < bytes {
            self.more().await?;
        }
        Ok(())
    }

    async fn more(&mut self) -> Result<(), Problem> {
        let piece = self.frame().await?.ok_or_else(|| {
            malformed(&self.name, "the body ends here, and its closing boundary is missing")
        })?;
        self.read.extend_from_slice(&piece);
        Ok(())
    }

    async fn frame(&mut self) -> Result<Option<Bytes>, Problem> {
        while let Some(frame) = self.body.frame().await {
            if let Ok(piece) = frame.map_err(broken)?.into_data() {
                return Ok(Some(piece));
            }
        }
        Ok(None)
    }
}

// === impl Part ===

impl Part {
    /// Reads the lines of its head. The first one is the rest of the boundary's.
    fn read(head: &str) -> Result<Self, Problem> {
        let mut lines = head.split("\r\n");
        if lines.next().is_none_or(|padding| !padding.trim_matches([' ', '\t']).is_empty()) {
            return Err(malformed("", "a line begins with the boundary and goes on"));
        }
        let (mut name, mut media_type, mut encoding) = (None, String::new(), String::new());
        for line in lines {
            let (field, value) = line
                .split_once(':')
                .ok_or_else(|| malformed("", "a header of a part has no colon"))?;
            match field.to_ascii_lowercase().as_str() {
                "content-disposition" if media::essence(value) == "form-data" => {
                    name = media::parameter(value, "name");
                }
                "content-type" => media_type = media::essence(value),
                "content-transfer-encoding" => encoding = value.trim().to_ascii_lowercase(),
                _ => {}
            }
        }
        let name = name.filter(|name| !name.is_empty()).ok_or_else(|| {
            malformed("", "a part has no Content-Disposition: form-data with a name")
        })?;
        if !["", "7bit", "8bit", "binary"].contains(&encoding.as_str()) {
            let detail = "is encoded; send it as it is";
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Err(refused(status, "unsupported_encoding", &name, detail));
        }
        Ok(Self { name, media_type })
    }
}

/// The problem of one part.
pub(super) fn refused(status: StatusCode, code: &'static str, part: &str, detail: &str) -> Problem {
    let name: String = part.chars().take(64).collect();
    let sentence = format!("The part `{name}` {detail}.");
    let pointer = format!("/{}", name.replace('~', "~0").replace('/', "~1"));
    let error = FieldError { pointer, code: code.into(), detail: sentence.clone() };
    Problem::new(status, code, sentence).with_errors(vec![error])
}

/// A body that is no form, from the part called `name` on.
fn malformed(name: &str, detail: &str) -> Problem {
    let (status, code) = (StatusCode::BAD_REQUEST, "invalid_multipart");
    if name.is_empty() {
        return Problem::new(
            status,
            code,
            format!("The body is no multipart/form-data: {detail}."),
        );
    }
    refused(status, code, name, &format!("does not end well: {detail}"))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;

    use super::*;

    /// Reads a whole body that comes in pieces of this many bytes.
    async fn read(body: &str, piece_bytes: usize) -> Result<Vec<(String, String)>, Problem> {
        let pieces: Vec<_> = body.as_bytes().chunks(piece_bytes).map(<[u8]>::to_vec).collect();
        let pieces = stream::iter(pieces.into_iter().map(Ok::<_, Infallible>));
        let mut form = Multipart::new(Body::from_stream(pieces), "b-1");
        let mut parts = Vec::new();
        while let Some(part) = form.next_part().await? {
            let mut text = Vec::new();
            while let Some(piece) = form.piece().await? {
                assert!(!piece.is_empty());
                text.extend_from_slice(&piece);
            }
            parts.push((part.name, String::from_utf8(text).unwrap()));
        }
        Ok(parts)
    }

    fn part(name: &str, text: &str) -> String {
        format!("--b-1\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{text}\r\n")
    }

    #[tokio::test]
    async fn parts_are_read_however_they_are_cut() {
        let texts = ["{}", "", "a\r\n--b-\r\n-b-1\r\n--b-2", "\r\n--b", "\r\n"];
        let body: String = texts.iter().map(|text| part("x", text)).collect();
        for end in ["--b-1--\r\n", "--b-1--", "--b-1--\r\nsaid afterwards"] {
            for cut in [1, 2, 3, 5, 8, 64, 4_096] {
                let read = read(&format!("{body}{end}"), cut).await.unwrap();
                let read: Vec<_> = read.iter().map(|(_, text)| text.as_str()).collect();
                assert_eq!(read, texts, "{cut}");
            }
        }
    }

    #[tokio::test]
    async fn no_more_is_kept_than_a_boundary_may_need() {
        let text = "0123456789".repeat(10_000);
        let body = part("x", &text) + "--b-1--";
        let pieces: Vec<_> = body.as_bytes().chunks(1_000).map(<[u8]>::to_vec).collect();
        let pieces = stream::iter(pieces.into_iter().map(Ok::<_, Infallible>));
        let mut form = Multipart::new(Body::from_stream(pieces), "b-1");
        form.next_part().await.unwrap();
        let mut given = 0;
        while let Some(piece) = form.piece().await.unwrap() {
            given += piece.len();
            assert!(form.read.len() < 1_000 + "\r\n--b-1".len());
        }
        assert_eq!(given, text.len());
    }

    #[tokio::test]
    async fn what_is_no_form_is_refused() {
        let whole = part("x", "text") + "--b-1--";
        for cut in [1, 4_096] {
            for length in 0..whole.len() {
                assert!(read(&whole[..length], cut).await.is_err(), "{}", &whole[..length]);
            }
        }
        let head = |head: &str| format!("--b-1\r\n{head}\r\n\r\ntext\r\n--b-1--");
        for wrong in [
            format!("before\r\n{whole}"),
            whole.replace("--b-1--", "--b-12"),
            head("Content-Disposition: form-data"),
            head("Content-Disposition: form-data; name=\"\""),
            head("Content-Disposition: attachment; name=\"x\""),
            head("Content-Type: text/csv"),
            head("name=x"),
            head(&format!("X: {}", "x".repeat(HEAD_BYTES_MAX))),
            head("Content-Disposition: form-data; name=x\r\nContent-Transfer-Encoding: base64"),
            format!("{whole}{}", "x".repeat(REST_BYTES_MAX + 1)),
        ] {
            assert!(read(&wrong, 4_096).await.is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_part_says_what_it_is() {
        let said = |head: &str| Part::read(&format!("\r\n{head}")).unwrap();
        let told = said(
            "content-disposition: Form-Data; filename=\"a; name=\\\"b\\\".csv\"; NAME=\"list\"\r\n\
             CONTENT-TYPE: Text/CSV; charset=utf-8\r\nX-More: :",
        );
        assert_eq!(told, Part { name: "list".into(), media_type: "text/csv".into() });
        assert_eq!(said("Content-Disposition: form-data; name=list").name, "list");
    }

    #[test]
    fn a_boundary_is_named_by_the_media_type() {
        let named = |given: &str| boundary(given).ok();
        for (given, wanted) in [
            ("multipart/form-data; boundary=----x9", "----x9"),
            ("multipart/form-data;charset=utf-8;Boundary=\"a:b c\"", "a:b c"),
        ] {
            assert_eq!(named(given).as_deref(), Some(wanted));
        }
        let long = format!("multipart/form-data; boundary={}", "x".repeat(71));
        for given in
            ["multipart/form-data", "multipart/form-data; boundary=", "a;boundary=\"x", &long]
        {
            assert_eq!(named(given), None, "{given}");
        }
    }
}
