//! For gateways without the filter, such as Envoy's `ext_authz` over HTTP: one durable write per request, no refund on failure.
//!
//! `ANY /ext_authz/{endpoint}/{the client's path}`, with the client's `authorization: Bearer {API key}` and the gateway's
//! own token in `x-tollgate-gateway-token`: 200 with `x-tollgate-account` lets the request pass, and it is charged; any
//! other answer is for the client. It is what the filter is measured against.

use super::api::{Holds, Route, Who};
use super::{App, Fail};
use crate::error::{Error, Invalid};
use crate::service::{self, Authz};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use contract::v1::{Problem, Reason, Refusal};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use units::{EndpointId, NodeName};

const HEADER_GATEWAY_TOKEN: &str = "x-tollgate-gateway-token";
const HEADER_ACCOUNT: &str = "x-tollgate-account";
const HEADER_REQUEST_ID: &str = "x-request-id";
/// Under which holds are made for them. A gateway that called itself so would get another incarnation.
const NODE: &str = "ext_authz";
/// Above that many seconds an SDK must not sit and wait by itself.
const RETRY_BY_ITSELF_S: u64 = 60;

/// Names each request once in the life of this process.
#[derive(Default)]
struct Names {
    /// 0 until there is one.
    incarnation: AtomicU64,
    last: AtomicU64,
}

pub(super) fn routes() -> Vec<Route> {
    let names = Arc::new(Names::default());
    let route = {
        let names = Arc::clone(&names);
        async move |State(app): State<App>, Path(endpoint): Path<String>, headers: HeaderMap| {
            authorise(&app, &names, endpoint, &headers).await
        }
    };
    let route_with_path =
        async move |State(app): State<App>,
                    Path((endpoint, _)): Path<(String, String)>,
                    headers: HeaderMap| { authorise(&app, &names, endpoint, &headers).await };
    let says = "Charges the fixed price of one request, in whatever method it came, and says to whom.";
    let authz = |route: Route| {
        let refused = Holds::Problem("RefusalProblem");
        let route = route.says(says).by(Who::Authz).answers(200, Holds::Nothing);
        // A gateway that does not prove to be one is told as any other caller is.
        let route = route.answers(401, Holds::Problem("AuthzProblem"));
        [402, 403, 429].into_iter().fold(route, |route, status| route.answers(status, refused))
    };
    vec![
        authz(Route::any("/ext_authz/{endpoint}", route)),
        authz(Route::any("/ext_authz/{endpoint}/{*path}", route_with_path)),
    ]
}

async fn authorise(
    app: &App,
    names: &Names,
    endpoint: String,
    headers: &HeaderMap,
) -> Result<Response, Fail> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    // Digests, so that the time it takes tells nothing about the token, which is never empty.
    if Sha256::digest(text(HEADER_GATEWAY_TOKEN)) != Sha256::digest(&app.config.gateway_token) {
        let detail = format!("Send the gateway's token as {HEADER_GATEWAY_TOKEN}.");
        return Err(Fail(Invalid::Unauthorized.because(detail)));
    }
    app.metrics.one("tollgate_billing_calls_total", ("call", "ext_authz"));
    let request_id = text(HEADER_REQUEST_ID);
    let bearer = text(header::AUTHORIZATION.as_str()).split_once(' ');
    let key = bearer.filter(|(scheme, key)| scheme.eq_ignore_ascii_case("bearer") && !key.is_empty());
    let Some((_, key)) = key else {
        return Ok(refused(&app.setup.catalog.refusal(Reason::Unauthenticated), request_id));
    };
    let Ok(endpoint) = EndpointId::new(endpoint) else {
        return Ok(refused(&app.setup.catalog.refusal(Reason::EndpointUnknown), request_id));
    };
    let node = NodeName::new(NODE).map_err(|error| Error::Bug(format!("{NODE}: {error}")))?;
    let (known, key) = (names.incarnation.load(Ordering::Relaxed), key.to_owned());
    let id = names.last.fetch_add(1, Ordering::Relaxed).saturating_add(1);
    let (incarnation, answer) = app
        .write(move |work, setup| {
            // Requests that come before the first one is answered take an incarnation each, which does no harm.
            let incarnation = match known {
                0 => service::hello(work, setup, node.clone())?.incarnation,
                known => known,
            };
            let asked = Authz { node, incarnation, id, key, endpoint };
            Ok((incarnation, service::charge_at_once(work, setup, asked)?))
        })
        .await?;
    names.incarnation.store(incarnation, Ordering::Relaxed);
    Ok(match answer {
        Ok(account) => {
            let account =
                HeaderValue::from_str(account.as_str()).map_err(|error| Error::Bug(error.to_string()))?;
            [(HEADER_ACCOUNT, account)].into_response()
        }
        Err(refusal) => refused(&refusal, request_id),
    })
}

/// As the filter says no, for the client.
fn refused(refusal: &Refusal, request_id: &str) -> Response {
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::FORBIDDEN);
    let mut answer = (status, axum::Json(Problem::of(refusal, request_id))).into_response();
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(seconds) = refusal.retry_after_s {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    let soon = refusal.retry_after_s.is_some_and(|seconds| seconds <= RETRY_BY_ITSELF_S);
    headers.insert("x-should-retry", HeaderValue::from_static(if soon { "true" } else { "false" }));
    answer
}
