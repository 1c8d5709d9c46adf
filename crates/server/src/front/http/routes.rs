//! The one table of what is served. The router is built from it, and a test compares it with the
//! description for machines.

use axum::Router;
use axum::http::{Method, Request, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, any, delete, get, patch, post, put};

use super::pages::PAGES;
use super::parts::Part;
use super::problem::Problem;
use super::{
    App, administration as admin, events, forward_auth, health, login, mail_auth, session,
};

/// The description for machines, OpenAPI 3.1.
pub const OPENAPI: &str = include_str!("../../../../../docs/protocols/openapi.json");

/// The method of a route that takes every one: whoever asks repeats its client's.
pub const ANY: &str = "ANY";

/// The one operation that is asked for with every request of a site. Its handler is called without the
/// router, which costs as much as the answer.
const DIRECT: &str = "/forward-auth";

/// One operation.
pub struct Route {
    /// The method, in capitals, or [`ANY`].
    pub method: &'static str,
    /// The path, with its parts in braces.
    pub path: &'static str,
    /// The part that it belongs to.
    pub part: Part,
    handler: fn() -> MethodRouter<App>,
}

/// Everything that is served.
pub const ROUTES: &[Route] = &[
    Route { method: "GET", path: "/healthz", part: Part::Health, handler: || get(health::alive) },
    Route { method: "GET", path: "/readyz", part: Part::Health, handler: || get(health::ready) },
    Route {
        method: "GET",
        path: "/metrics",
        part: Part::Metrics,
        handler: || get(health::metrics),
    },
    Route {
        method: "GET",
        path: DIRECT,
        part: Part::ForwardAuth,
        handler: || get(forward_auth::by_query),
    },
    Route {
        method: ANY,
        path: "/forward-auth/{*path}",
        part: Part::ForwardAuth,
        handler: || any(forward_auth::by_default),
    },
    Route {
        method: ANY,
        path: "/forward-auth-for/{options}",
        part: Part::ForwardAuth,
        handler: || any(forward_auth::by_prefix),
    },
    Route {
        method: ANY,
        path: "/forward-auth-for/{options}/{*path}",
        part: Part::ForwardAuth,
        handler: || any(forward_auth::by_prefix),
    },
    Route {
        method: "GET",
        path: "/v1/session/events",
        part: Part::Api,
        handler: || get(events::listen),
    },
    Route {
        method: "POST",
        path: "/v1/notices",
        part: Part::Admin,
        handler: || post(events::notify),
    },
    Route {
        method: "GET",
        path: "/v1/openapi.json",
        part: Part::Api,
        handler: || get(description),
    },
    Route { method: "POST", path: "/v1/login", part: Part::Api, handler: || post(login::begin) },
    Route {
        method: "POST",
        path: "/v1/login/{id}",
        part: Part::Api,
        handler: || post(login::answer),
    },
    Route {
        method: "DELETE",
        path: "/v1/login/{id}",
        part: Part::Api,
        handler: || delete(login::cancel),
    },
    Route { method: "GET", path: "/v1/session", part: Part::Api, handler: || get(session::show) },
    Route {
        method: "DELETE",
        path: "/v1/session",
        part: Part::Api,
        handler: || delete(session::end),
    },
    Route { method: "GET", path: "/v1/users", part: Part::Admin, handler: || get(admin::users) },
    Route {
        method: "POST",
        path: "/v1/users",
        part: Part::Admin,
        handler: || post(admin::add_user),
    },
    Route {
        method: "GET",
        path: "/v1/users/{name}",
        part: Part::Admin,
        handler: || get(admin::user),
    },
    Route {
        method: "PATCH",
        path: "/v1/users/{name}",
        part: Part::Admin,
        handler: || patch(admin::change_user),
    },
    Route {
        method: "DELETE",
        path: "/v1/users/{name}",
        part: Part::Admin,
        handler: || delete(admin::remove_user),
    },
    Route {
        method: "PUT",
        path: "/v1/users/{name}/password",
        part: Part::Admin,
        handler: || put(admin::set_password),
    },
    Route {
        method: "GET",
        path: "/v1/users/{name}/factors",
        part: Part::Admin,
        handler: || get(admin::factors),
    },
    Route {
        method: "DELETE",
        path: "/v1/users/{name}/factors",
        part: Part::Admin,
        handler: || delete(admin::reset_factors),
    },
    Route {
        method: "DELETE",
        path: "/v1/users/{name}/factors/{id}",
        part: Part::Admin,
        handler: || delete(admin::remove_factor),
    },
    Route { method: "GET", path: "/v1/groups", part: Part::Admin, handler: || get(admin::groups) },
    Route {
        method: "POST",
        path: "/v1/groups",
        part: Part::Admin,
        handler: || post(admin::add_group),
    },
    Route {
        method: "GET",
        path: "/v1/groups/{name}",
        part: Part::Admin,
        handler: || get(admin::group),
    },
    Route {
        method: "PUT",
        path: "/v1/groups/{name}",
        part: Part::Admin,
        handler: || put(admin::change_group),
    },
    Route {
        method: "DELETE",
        path: "/v1/groups/{name}",
        part: Part::Admin,
        handler: || delete(admin::remove_group),
    },
    Route {
        method: "GET",
        path: "/v1/groups/{name}/members",
        part: Part::Admin,
        handler: || get(admin::members),
    },
    Route {
        method: "PUT",
        path: "/v1/groups/{name}/members/{user}",
        part: Part::Admin,
        handler: || put(admin::add_member),
    },
    Route {
        method: "DELETE",
        path: "/v1/groups/{name}/members/{user}",
        part: Part::Admin,
        handler: || delete(admin::remove_member),
    },
    Route {
        method: "GET",
        path: "/mail-auth",
        part: Part::MailAuth,
        handler: || get(mail_auth::ask),
    },
    Route { method: "GET", path: "/v1/audit", part: Part::Admin, handler: || get(admin::audit) },
    Route {
        method: "GET",
        path: "/v1/throttles",
        part: Part::Admin,
        handler: || get(admin::throttles),
    },
    Route {
        method: "DELETE",
        path: "/v1/throttles",
        part: Part::Admin,
        handler: || delete(admin::clear_throttles),
    },
];

impl std::fmt::Debug for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

pub(super) fn router(app: App) -> Router {
    let add = |router: Router<App>, route: &Route| {
        let router = router.route(route.path, (route.handler)());
        // The rest of a path is at least a letter: the root of a site is none.
        match route.path.strip_suffix("{*path}") {
            Some(root) => router.route(root, (route.handler)()),
            None => router,
        }
    };
    let parts = app.options.parts;
    let pages = PAGES.iter().filter(|_| parts.serve(Part::Pages));
    let pages = pages.fold(Router::new(), |router, (path, page)| router.route(path, page()));
    ROUTES
        .iter()
        .filter(|route| parts.serve(route.part))
        .fold(pages, add)
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "there is nothing at this path"))
        .method_not_allowed_fallback(async || {
            Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "this path has no such method; see `Allow`",
            )
        })
        .with_state(app)
}

/// Whether a request is for the operation that needs no router. Its other methods are left to the router.
pub(super) fn is_direct<B>(app: &App, request: &Request<B>) -> bool {
    request.method() == Method::GET
        && request.uri().path() == DIRECT
        && app.options.parts.serve(Part::ForwardAuth)
}

async fn description() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI)
}
