//! Who may come in, and with how much.

use super::{App, Fail};
use crate::error::{Error, Invalid};
use crate::service::{Asked, limits};
use crate::store::Page;
use axum::body::{Bytes, to_bytes};
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use sha2::{Digest, Sha256};

/// Proof that a gateway is calling.
pub(super) struct Gateway;
/// Proof that an operator is calling.
pub(super) struct Admin;
/// A body of at most what [`limits`] says.
pub(super) struct Body(pub Bytes);
/// The same, of what is not said to be anything but JSON.
pub(super) struct Json(pub Bytes);
/// A body that was read as JSON, and what names the write if it is to be done once.
pub(super) struct Write<T>(pub T, pub Option<Asked>);
/// A write that says everything by its path: its body is empty, or an empty object. What names it if it is to be done once.
pub(super) struct Act(pub Option<Asked>);
/// Parameters of a query.
pub(super) struct Params<T>(pub T);

impl FromRequestParts<App> for Gateway {
    type Rejection = Fail;
    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Fail> {
        authorise(&parts.headers, &app.config.gateway_token).map(|()| Self)
    }
}

impl FromRequestParts<App> for Admin {
    type Rejection = Fail;
    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Fail> {
        authorise(&parts.headers, &app.config.admin_token).map(|()| Self)
    }
}

impl FromRequest<App> for Body {
    type Rejection = Fail;
    async fn from_request(request: Request, _: &App) -> Result<Self, Fail> {
        let max = usize::try_from(limits().body_bytes_max).unwrap_or(usize::MAX);
        let body = to_bytes(request.into_body(), max).await;
        body.map(Self).map_err(|error| {
            let mut cause: Option<&dyn std::error::Error> = Some(&error);
            while let Some(error) = cause {
                if error.is::<http_body_util::LengthLimitError>() {
                    return Fail(Invalid::TooLarge.because(format!("The body is larger than {max} bytes.")));
                }
                cause = error.source();
            }
            Fail(Invalid::BrokenOff.because("The body broke off."))
        })
    }
}

impl FromRequest<App> for Json {
    type Rejection = Fail;
    async fn from_request(request: Request, app: &App) -> Result<Self, Fail> {
        said_to_be_json(request.headers())?;
        Body::from_request(request, app).await.map(|Body(body)| Self(body))
    }
}

impl<T: DeserializeOwned> FromRequest<App> for Write<T> {
    type Rejection = Fail;
    async fn from_request(request: Request, app: &App) -> Result<Self, Fail> {
        let path = request.uri().path().to_owned();
        let key = idempotency_key(request.headers())?;
        let Json(body) = Json::from_request(request, app).await?;
        let asked = key.map(|key| Asked::new(key, &path, &body));
        Ok(Self(json(&body)?, asked))
    }
}

impl FromRequest<App> for Act {
    type Rejection = Fail;
    async fn from_request(request: Request, app: &App) -> Result<Self, Fail> {
        // Its query says which of several things is meant.
        let path = request.uri().to_string();
        let key = idempotency_key(request.headers())?;
        let Body(body) = Body::from_request(request, app).await?;
        if !matches!(body.trim_ascii(), b"" | b"{}") {
            return Err(Fail(Invalid::Malformed.because("This call takes no body.")));
        }
        Ok(Self(key.map(|key| Asked::new(key, &path, b""))))
    }
}

impl<T: DeserializeOwned> FromRequestParts<App> for Params<T> {
    type Rejection = Fail;
    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Fail> {
        let query = Query::<T>::try_from_uri(&parts.uri);
        query
            .map(|Query(params)| Self(params))
            .map_err(|error| Fail(Invalid::Malformed.because(error.body_text())))
    }
}

/// Which part of a list, and of which status.
#[derive(Deserialize)]
pub(super) struct Listed {
    status: Option<String>,
    #[serde(default, deserialize_with = "whole")]
    cursor: Option<u64>,
    limit: Option<u32>,
}

impl Listed {
    /// The status, if one of `all` is asked for, and the page.
    ///
    /// # Errors
    /// [`Invalid::Malformed`] for a word that is none of them.
    pub(super) fn of<T: Copy>(&self, all: &[(T, &'static str)]) -> Result<(Option<T>, Page), Error> {
        let page = super::page(self.cursor, self.limit);
        let Some(asked) = &self.status else { return Ok((None, page)) };
        let found = all.iter().find(|(_, word)| word == asked).map(|(status, _)| *status);
        let words = || all.iter().map(|(_, word)| *word).collect::<Vec<_>>().join(", ");
        let no = || Invalid::Malformed.because(format!("status is {asked:?}; use one of {}.", words()));
        found.map(|status| (Some(status), page)).ok_or_else(no)
    }
}

/// A whole number of a query, as large as every reader of JSON keeps.
pub(super) fn whole<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    const WHOLE_MAX: u64 = 9_007_199_254_740_991;
    let number = u64::deserialize(from)?;
    let no = || D::Error::custom(format!("{number} is above {WHOLE_MAX}"));
    if number > WHOLE_MAX { Err(no()) } else { Ok(Some(number)) }
}

/// Reads a body.
///
/// # Errors
/// [`Invalid::Malformed`], with what is wrong and where.
pub(super) fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|error| Invalid::Malformed.because(format!("The body: {error}.")))
}

/// Compares digests, so that the time it takes tells nothing about the token.
fn authorise(headers: &HeaderMap, token: &str) -> Result<(), Fail> {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.split_once(' '));
    match given {
        Some((scheme, given))
            if scheme.eq_ignore_ascii_case("bearer")
                && Sha256::digest(given.trim()) == Sha256::digest(token)
                && !token.is_empty() =>
        {
            Ok(())
        }
        _ => Err(Fail(Invalid::Unauthorized.because("Send the right token as Authorization: Bearer."))),
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Error> {
    let Some(key) = headers.get("idempotency-key") else { return Ok(None) };
    let key = key.to_str().ok().filter(|key| (1..=255).contains(&key.len()));
    key.map(|key| Some(key.to_owned()))
        .ok_or_else(|| Invalid::Malformed.because("Idempotency-Key is not 1 to 255 printable characters."))
}

/// Refuses a body that is said to be something other than JSON. What clients write by default, without a thought, is let
/// through: curl and Python's urllib call everything a form.
fn said_to_be_json(headers: &HeaderMap) -> Result<(), Error> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("unreadable"));
    let kind = text(header::CONTENT_TYPE).map(|kind| kind.split(';').next().unwrap_or_default().trim());
    let kind = kind.map(str::to_ascii_lowercase).unwrap_or_default();
    let by_default = [
        "",
        "application/json",
        "application/x-www-form-urlencoded",
        "application/octet-stream",
        "text/plain",
    ];
    if !by_default.contains(&kind.as_str()) && !kind.ends_with("+json") {
        return Err(
            Invalid::NoJson.because(format!("The body is said to be {kind:?}; send application/json."))
        );
    }
    match text(header::CONTENT_ENCODING) {
        None | Some("identity") => Ok(()),
        Some(_) => Err(Invalid::NoJson.because("The body is encoded; send it without a Content-Encoding.")),
    }
}
