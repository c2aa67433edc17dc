//! The table of routes, from which both are made: the router that answers, and the document that says what it answers.
//!
//! A route that is not in the table does not exist, so none can be missing from the document.

mod document;
mod schemas;
mod wire;

pub use document::document;

use super::App;
use axum::Router;
use axum::handler::Handler;
use axum::routing::{MethodRouter, any, delete, get, post, put};

/// Who may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// Whoever reaches the port.
    Anybody,
    /// An operator, by the admin token.
    Operator,
    /// A gateway, by its token.
    Gateway,
    /// A customer for whom a gateway vouches.
    Customer,
    /// Stripe, by its signature.
    Stripe,
    /// A gateway without the filter, with the token in a header of its own.
    Authz,
}

/// What a call takes beside its path and query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    /// Nothing that is looked at.
    Nothing,
    /// An empty body, or an empty object.
    Emptiness,
    /// JSON of this schema.
    Json(&'static str),
    /// Bytes whose signature is verified.
    Signed,
}

/// What an answer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    /// Nothing.
    Nothing,
    /// JSON of this schema.
    Json(&'static str),
    /// A problem of this schema.
    Problem(&'static str),
    /// Text.
    Text,
}

/// A parameter of a query.
#[derive(Clone, Copy, Debug)]
pub(super) struct Query {
    pub(super) name: &'static str,
    /// The name of its schema.
    pub(super) schema: &'static str,
    pub(super) says: &'static str,
}

/// Where a list goes on.
pub(super) const CURSOR: Query =
    Query { name: "cursor", schema: "Whole", says: "`next` of the page before; the newest rows if left out" };
/// How long a page is.
pub(super) const LIMIT: Query = Query {
    name: "limit",
    schema: "Limit",
    says: "rows of a page, 100 if left out; 1 to 1000, others are rounded",
};

/// Which request.
pub(super) const REQUEST: Query = Query {
    name: "request_id",
    schema: "Id",
    says: "only of the request that was answered with this x-tollgate-request-id",
};

/// One path, how it is called, and what is said of it.
pub(super) struct Route {
    pub(super) path: &'static str,
    pub(super) methods: &'static [&'static str],
    handler: MethodRouter<App>,
    pub(super) says: &'static str,
    pub(super) who: Who,
    pub(super) takes: Takes,
    pub(super) query: &'static [Query],
    /// Whether it is done once per `Idempotency-Key`.
    pub(super) once: bool,
    /// Statuses beyond those that follow from the rest.
    pub(super) answers: Vec<(u16, Holds)>,
}

impl Route {
    fn new(path: &'static str, methods: &'static [&'static str], handler: MethodRouter<App>) -> Self {
        let (says, who, takes, query, once, answers) =
            ("", Who::Anybody, Takes::Nothing, [].as_slice(), false, Vec::new());
        Self { path, methods, handler, says, who, takes, query, once, answers }
    }

    /// Looks.
    pub(super) fn get<H: Handler<T, App>, T: 'static>(path: &'static str, handler: H) -> Self {
        Self::new(path, &["get"], get(handler))
    }

    /// Does something.
    pub(super) fn post<H: Handler<T, App>, T: 'static>(path: &'static str, handler: H) -> Self {
        Self::new(path, &["post"], post(handler))
    }

    /// Sets something.
    pub(super) fn put<H: Handler<T, App>, T: 'static>(path: &'static str, handler: H) -> Self {
        Self::new(path, &["put"], put(handler))
    }

    /// Ends something.
    pub(super) fn delete<H: Handler<T, App>, T: 'static>(path: &'static str, handler: H) -> Self {
        Self::new(path, &["delete"], delete(handler))
    }

    /// Answers every method alike.
    pub(super) fn any<H: Handler<T, App>, T: 'static>(path: &'static str, handler: H) -> Self {
        let all = &["get", "put", "post", "delete", "options", "head", "patch", "trace"];
        Self::new(path, all, any(handler))
    }

    pub(super) fn says(self, says: &'static str) -> Self {
        Self { says, ..self }
    }

    pub(super) fn by(self, who: Who) -> Self {
        Self { who, ..self }
    }

    pub(super) fn takes(self, takes: Takes) -> Self {
        Self { takes, ..self }
    }

    pub(super) fn asks(self, query: &'static [Query]) -> Self {
        Self { query, ..self }
    }

    pub(super) fn once(self) -> Self {
        Self { once: true, ..self }
    }

    pub(super) fn answers(mut self, status: u16, holds: Holds) -> Self {
        self.answers.push((status, holds));
        self
    }

    /// What is made now is 201, and 200 when it is asked for again.
    pub(super) fn makes(self, schema: &'static str) -> Self {
        self.once().answers(200, Holds::Json(schema)).answers(201, Holds::Json(schema))
    }

    /// Every status that it may answer with, in order.
    pub(super) fn statuses(&self) -> Vec<(u16, Holds)> {
        let mut all = self.answers.clone();
        let mut problems = Vec::new();
        if !matches!(self.who, Who::Anybody | Who::Stripe) {
            problems.push(401);
        }
        if !self.query.is_empty() || self.once {
            problems.push(400);
        }
        if self.path.contains("{id}") {
            problems.push(404);
        }
        if self.once {
            problems.push(409);
        }
        match self.takes {
            Takes::Nothing => {}
            Takes::Emptiness | Takes::Signed => problems.extend([400, 413]),
            Takes::Json(_) => problems.extend([400, 413, 415, 422]),
        }
        if self.who != Who::Anybody {
            problems.extend([500, 503]);
        }
        for status in problems {
            if all.iter().all(|(known, _)| *known != status) {
                all.push((status, Holds::Problem("Problem")));
            }
        }
        all.sort_by_key(|(status, _)| *status);
        all
    }
}

/// Every route of the service.
fn table() -> Vec<Route> {
    [
        super::gateway::routes(),
        super::authz::routes(),
        super::admin::routes(),
        super::events::routes(),
        super::outbox::routes(),
        super::customer::routes(),
        super::usage::routes(),
        super::stripe::routes(),
        super::ops::routes(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The router of the table; whatever is not in it is left to whoever takes the router.
pub(super) fn routed() -> Router<App> {
    table().into_iter().fold(Router::new(), |router, route| router.route(route.path, route.handler))
}
