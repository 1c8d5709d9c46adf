//! The one table of what is served. The router is built from it, and a test compares it with the
//! description for machines.

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, delete, get, patch, post, put};

use super::problem::Problem;
use super::{App, administration as admin, login, session};

/// The description for machines, OpenAPI 3.1.
pub const OPENAPI: &str = include_str!("../../../../../docs/protocols/openapi.json");

/// One operation.
pub struct Route {
    /// The method, in capitals.
    pub method: &'static str,
    /// The path, with its parts in braces.
    pub path: &'static str,
    handler: fn() -> MethodRouter<App>,
}

/// Everything that is served.
pub const ROUTES: &[Route] = &[
    Route { method: "GET", path: "/healthz", handler: || get(healthz) },
    Route { method: "GET", path: "/v1/openapi.json", handler: || get(description) },
    Route { method: "POST", path: "/v1/login", handler: || post(login::begin) },
    Route { method: "POST", path: "/v1/login/{id}", handler: || post(login::answer) },
    Route { method: "DELETE", path: "/v1/login/{id}", handler: || delete(login::cancel) },
    Route { method: "GET", path: "/v1/session", handler: || get(session::show) },
    Route { method: "DELETE", path: "/v1/session", handler: || delete(session::end) },
    Route { method: "GET", path: "/v1/users", handler: || get(admin::users) },
    Route { method: "POST", path: "/v1/users", handler: || post(admin::add_user) },
    Route { method: "GET", path: "/v1/users/{name}", handler: || get(admin::user) },
    Route { method: "PATCH", path: "/v1/users/{name}", handler: || patch(admin::change_user) },
    Route { method: "DELETE", path: "/v1/users/{name}", handler: || delete(admin::remove_user) },
    Route {
        method: "PUT",
        path: "/v1/users/{name}/password",
        handler: || put(admin::set_password),
    },
    Route { method: "GET", path: "/v1/groups", handler: || get(admin::groups) },
    Route { method: "POST", path: "/v1/groups", handler: || post(admin::add_group) },
    Route { method: "DELETE", path: "/v1/groups/{name}", handler: || delete(admin::remove_group) },
    Route { method: "GET", path: "/v1/groups/{name}/members", handler: || get(admin::members) },
    Route {
        method: "PUT",
        path: "/v1/groups/{name}/members/{user}",
        handler: || put(admin::add_member),
    },
    Route {
        method: "DELETE",
        path: "/v1/groups/{name}/members/{user}",
        handler: || delete(admin::remove_member),
    },
    Route { method: "GET", path: "/v1/audit", handler: || get(admin::audit) },
];

impl std::fmt::Debug for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

pub(super) fn router(app: App) -> Router {
    let add = |router: Router<App>, route: &Route| router.route(route.path, (route.handler)());
    ROUTES
        .iter()
        .fold(Router::new(), add)
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "there is nothing at this path"))
        .method_not_allowed_fallback(async || {
            Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "this path has no such method; see `Allow`",
            )
        })
        .with_state(app)
}

async fn healthz() -> &'static str {
    "ok\n"
}

async fn description() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI)
}
