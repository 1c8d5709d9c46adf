//! Bodies: reading them within limits, and writing them.

use std::collections::HashSet;
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::Stream;
use serde::Serialize;
use serde::de::{self, Deserialize, DeserializeOwned, Deserializer, MapAccess, SeqAccess, Visitor};
use zeroize::Zeroizing;

use super::App;
use super::problem::Problem;

/// Bytes of a request's body.
pub(super) const BODY_BYTES: usize = 64 * 1024;

/// Levels of arrays and objects within each other.
const LEVELS: usize = 16;

/// A JSON body. Extracting it refuses what is not `application/json` (so that no page of another origin
/// can make a browser send one unasked), too long, too deep, or not of the shape of `T`.
pub(super) struct Json<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<App> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let declared = request.headers().get(header::CONTENT_TYPE);
        if !declared.is_some_and(is_json) {
            let error = "send the body as `Content-Type: application/json`";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, error));
        }
        parse(&whole(request, app).await?).map(Self)
    }
}

/// The body of a request, within its limits of length and time.
pub(super) async fn whole(request: Request, app: &App) -> Result<Zeroizing<Vec<u8>>, Problem> {
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.parse().ok());
    let body = read(request.into_body(), length.unwrap_or(0));
    match tokio::time::timeout(app.options.body_timeout, body).await {
        Ok(body) => body,
        Err(_) => {
            let error = "the body did not arrive in time";
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, error)
                .with(header::CONNECTION, HeaderValue::from_static("close")))
        }
    }
}

/// A query string of the shape of `T`.
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<App> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        match axum::extract::Query::try_from_uri(&parts.uri) {
            Ok(axum::extract::Query(query)) => Ok(Self(query)),
            Err(error) => Err(Problem::bad(format!("the query: {}", error.body_text()))),
        }
    }
}

/// Parts of a path, such as a user's name, percent-decoded.
pub(super) struct Path<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<App> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        match axum::extract::Path::from_request_parts(parts, app).await {
            Ok(axum::extract::Path(path)) => Ok(Self(path)),
            Err(error) => Err(Problem::bad(format!("the path: {}", error.body_text()))),
        }
    }
}

/// Reads a value from JSON text within the limits.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    if let Some((line, column)) = too_deep(body) {
        let error =
            format!("the body nests deeper than {LEVELS} levels at line {line} column {column}");
        return Err(Problem::bad(error));
    }
    let wrong = |error: serde_json::Error| {
        Problem::bad(format!("the body: {}", discreet(&error.to_string())))
    };
    let _: NoTwins = serde_json::from_slice(body).map_err(wrong)?;
    // Structs are read from arrays as well, in the order of their fields, which is nobody's contract.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(Problem::bad("the body: it must be an object"));
    }
    serde_json::from_slice(body).map_err(wrong)
}

/// An error about a value without the value: what is in the wrong place may be a password.
fn discreet(error: &str) -> String {
    for what in ["invalid type: ", "invalid value: "] {
        if let Some(rest) = error.strip_prefix(what)
            && let Some(expected) = rest.rfind(", expected ")
        {
            let kind = rest[..expected].split(['"', '`']).next().unwrap_or_default();
            return format!("{what}{}{}", kind.trim_end(), &rest[expected..]);
        }
    }
    error.to_owned()
}

/// Any JSON without an object that has a key twice. JSON leaves open which of the two counts, so that who
/// checks one may be deceived about the other.
struct NoTwins;

impl<'de> Deserialize<'de> for NoTwins {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for NoTwins {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            map.next_value::<Self>()?;
            if let Some(twin) = seen.replace(key) {
                return Err(de::Error::custom(format_args!("duplicate field `{twin}`")));
            }
        }
        Ok(self)
    }
}

/// A value as the reply.
pub(super) fn response<T: Serialize>(code: StatusCode, value: &T) -> Response {
    match serde_json::to_vec(value) {
        Ok(mut body) => {
            body.push(b'\n');
            let json = HeaderValue::from_static("application/json");
            (code, [(header::CONTENT_TYPE, json)], body).into_response()
        }
        Err(error) => {
            // The views are structs, lists and maps with text keys, which always serialize.
            tracing::error!(%error, "a reply cannot be written as JSON");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn is_json(value: &HeaderValue) -> bool {
    let essence = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}

/// The whole body, which is wiped after use: most bodies hold a password.
async fn read(body: Body, declared: usize) -> Result<Zeroizing<Vec<u8>>, Problem> {
    let too_long = || {
        let error = format!("the body is longer than {BODY_BYTES} bytes");
        // What follows is not read: there is no next request on this connection.
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, error)
            .with(header::CONNECTION, HeaderValue::from_static("close"))
    };
    if declared > BODY_BYTES {
        return Err(too_long());
    }
    // With room for all of it from the beginning: growing would leave a copy behind, unwiped.
    let mut whole = Zeroizing::new(Vec::with_capacity(declared));
    let mut stream = pin!(body.into_data_stream());
    while let Some(piece) = poll_fn(|context| stream.as_mut().poll_next(context)).await {
        let piece = piece.map_err(|_| Problem::bad("the body broke off"))?;
        if whole.len() + piece.len() > BODY_BYTES {
            return Err(too_long());
        }
        if whole.len() + piece.len() > whole.capacity() {
            let mut larger = Zeroizing::new(Vec::with_capacity(BODY_BYTES));
            larger.extend_from_slice(&whole);
            whole = larger;
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole)
}

/// Where the text nests too deep, if it does: line and column, both from 1. Text that is no JSON gives
/// any result: parsing it says what is wrong.
fn too_deep(text: &[u8]) -> Option<(usize, usize)> {
    let (mut depth, mut line, mut begin) = (0_usize, 1, 0);
    let (mut quoted, mut escaped) = (false, false);
    for (index, byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'\n' => (line, begin) = (line + 1, index + 1),
            b'[' | b'{' if !quoted => depth += 1,
            b']' | b'}' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > LEVELS {
            return Some((line, index + 1 - begin));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_of_brackets_outside_of_texts() {
        let nested = |levels| format!("\n{}{}", "[".repeat(levels), "]".repeat(levels));
        assert_eq!(too_deep(nested(LEVELS).as_bytes()), None);
        assert_eq!(too_deep(nested(LEVELS + 1).as_bytes()), Some((2, LEVELS + 1)));
        let quoted = format!("{{\"a\\\"\":\"{}\"}}", "[".repeat(100));
        assert_eq!(too_deep(quoted.as_bytes()), None);
    }

    #[test]
    fn an_error_does_not_repeat_the_value() {
        for (body, told) in [
            (r#"{"round":"se\"cr, expected et","answers":{}}"#, "string, expected u16"),
            (r#"{"round":-12345678,"answers":{}}"#, "integer, expected u16"),
            (r#"{"round":1,"answers":"secret"}"#, "string, expected "),
            (r#"{"round":1.5,"answers":{}}"#, "floating point, expected u16"),
        ] {
            let error = match parse::<crate::front::http::RoundAnswers>(body.as_bytes()) {
                Err(problem) => format!("{problem:?}"),
                Ok(_) => panic!("{body}"),
            };
            assert!(error.contains(told), "{error}");
            assert!(!["cr", "12345", "et\"", "1.5"].iter().any(|s| error.contains(s)), "{error}");
        }
    }

    #[test]
    fn json_with_parameters_is_json() {
        for yes in ["application/json", "Application/JSON; charset=utf-8"] {
            assert!(is_json(&HeaderValue::from_static(yes)));
        }
        for no in ["text/plain", "application/jsonp", "", "application/x-www-form-urlencoded"] {
            assert!(!is_json(&HeaderValue::from_static(no)));
        }
    }
}
