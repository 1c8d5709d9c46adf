//! The administrator's API: [`crate::admin`] over HTTP, for members of one group.

use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use countersign::World as _;
use countersign_checkers::accounts::PEOPLE;
use serde::{Deserialize, Serialize};

use super::json::{Json, Path, Query, response};
use super::problem::Problem;
use super::session::{Holder, broken, suffices};
use super::{App, Client};
use crate::admin::{
    ADMINISTRATORS, Admin, AdminError, AdminErrorKind, AuditQuery, AuditView, FactorView,
    GroupRecord, Listing, MemberView, NewGroup, NewPassword, NewUser, ThrottleFilter,
    ThrottleListing, ThrottleView, UserChange, UserLine,
};
use crate::identity::GroupView;

/// A page of users.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Users {
    /// In byte order of their names.
    pub users: Vec<UserLine>,
}

/// A user's factors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserFactors {
    /// Oldest first.
    pub factors: Vec<FactorView>,
}

/// Which factors to remove.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FactorFilter {
    /// Only those of this kind.
    pub kind: Option<String>,
}

/// A page of groups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Groups {
    /// In byte order of their names.
    pub groups: Vec<GroupRecord>,
}

/// A page of a group's members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Members {
    /// In byte order of their names.
    pub members: Vec<MemberView>,
}

/// A page of the audit's recent part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Events {
    /// Newest first.
    pub events: Vec<AuditView>,
}

/// A page of the throttles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Throttles {
    /// In byte order of users and sources.
    pub throttles: Vec<ThrottleView>,
}

/// The body that puts a user into a group.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Membership {
    /// Whether the user administers the group.
    #[serde(default)]
    pub admin: bool,
}

/// An administrator, at work in their own name. Their right is looked up in the store at every request,
/// past every copy: what their session says of groups is of the day of the login. Both must say so: the
/// store alone would make an administrator of whoever another checker proves to have the same name. And the
/// login must be as good as one to the service `web`, whatever it was for.
pub(super) struct Administrator(pub(super) Admin);

impl FromRequestParts<App> for Administrator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let Holder(live) = Holder::from_request_parts(parts, app).await?;
        let session = &live.record;
        let engine = &app.engine;
        let account = engine.store.read_account(&session.subject).await.map_err(broken)?;
        let now = engine.world.now().unix;
        let groups = &live.login.identity.groups;
        let proven = groups.iter().any(|group| group.name == ADMINISTRATORS);
        let client = parts.extensions.get::<Client>();
        // A login to a service that demands less is none to this.
        let enough = client.is_some_and(|client| {
            suffices(app, client, &live, PEOPLE).is_ok() && !live.login.program
        });
        let may = account.is_some_and(|account| {
            proven
                && enough
                && account.enabled
                && account.expires.is_none_or(|end| end > now)
                && account.groups.iter().any(|member| member.group == ADMINISTRATORS)
        });
        match &app.options.admin {
            Some(admin) if may => Ok(Self(admin.by(format!("http {}", session.subject)))),
            Some(_) => {
                let error = "this needs a session of a member of the group `administrators`, whose \
                             login was enough for the service `web`";
                Err(Problem::new(StatusCode::FORBIDDEN, error))
            }
            None => {
                let error = "this listener does not serve the administrator's API";
                Err(Problem::new(StatusCode::NOT_FOUND, error))
            }
        }
    }
}

/// `GET /v1/users`.
pub(super) async fn users(
    Administrator(admin): Administrator,
    Query(listing): Query<Listing>,
) -> Result<Response, Problem> {
    Ok(response(StatusCode::OK, &Users { users: admin.users(&listing).await? }))
}

/// `POST /v1/users`.
pub(super) async fn add_user(
    State(app): State<App>,
    Administrator(admin): Administrator,
    Json(new): Json<NewUser>,
) -> Result<Response, Problem> {
    let place = [(header::LOCATION, format!("/v1/users/{}", encoded(&new.name)))];
    let done = app.see_through(async move { admin.add_user(new).await }).await??;
    Ok((place, response(StatusCode::CREATED, &done)).into_response())
}

/// `GET /v1/users/{name}`.
pub(super) async fn user(
    Administrator(admin): Administrator,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    Ok(response(StatusCode::OK, &admin.user(&name).await?))
}

/// `PATCH /v1/users/{name}`.
pub(super) async fn change_user(
    State(app): State<App>,
    Administrator(admin): Administrator,
    Path(name): Path<String>,
    Json(change): Json<UserChange>,
) -> Result<Response, Problem> {
    let done = app.see_through(async move { admin.change_user(&name, change).await }).await??;
    Ok(response(StatusCode::OK, &done))
}

/// `DELETE /v1/users/{name}`.
pub(super) async fn remove_user(
    State(app): State<App>,
    Administrator(admin): Administrator,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    app.see_through(async move { admin.remove_user(&name).await }).await??;
    Ok(StatusCode::NO_CONTENT)
}

/// `PUT /v1/users/{name}/password`.
pub(super) async fn set_password(
    State(app): State<App>,
    Administrator(admin): Administrator,
    Path(name): Path<String>,
    Json(new): Json<NewPassword>,
) -> Result<Response, Problem> {
    let done = app.see_through(async move { admin.set_password(&name, new).await }).await??;
    Ok(response(StatusCode::OK, &done))
}

/// `GET /v1/users/{name}/factors`.
pub(super) async fn factors(
    Administrator(admin): Administrator,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    let factors = admin.user_factors(&name).await?;
    Ok(response(StatusCode::OK, &UserFactors { factors }))
}

/// `DELETE /v1/users/{name}/factors`.
pub(super) async fn reset_factors(
    State(app): State<App>,
    Administrator(admin): Administrator,
    Path(name): Path<String>,
    Query(filter): Query<FactorFilter>,
) -> Result<Response, Problem> {
    let reset = async move { admin.reset_factors(&name, filter.kind.as_deref()).await };
    Ok(response(StatusCode::OK, &app.see_through(reset).await??))
}

/// `DELETE /v1/users/{name}/factors/{id}`.
pub(super) async fn remove_factor(
    State(app): State<App>,
    Administrator(admin): Administrator,
    Path((name, id)): Path<(String, i64)>,
) -> Result<Response, Problem> {
    let removed = app.see_through(async move { admin.remove_factor(&name, id).await }).await??;
    Ok(response(StatusCode::OK, &removed))
}

/// `GET /v1/groups`.
pub(super) async fn groups(
    Administrator(admin): Administrator,
    Query(listing): Query<Listing>,
) -> Result<Response, Problem> {
    Ok(response(StatusCode::OK, &Groups { groups: admin.groups(&listing).await? }))
}

/// `POST /v1/groups`.
pub(super) async fn add_group(
    State(app): State<App>,
    Administrator(admin): Administrator,
    Json(new): Json<NewGroup>,
) -> Result<StatusCode, Problem> {
    app.see_through(async move { admin.add_group(new).await }).await??;
    Ok(StatusCode::CREATED)
}

/// What a group has besides its name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupSettings {
    /// Its number; `null`: none. It must be said, so that none is lost by leaving it out.
    #[serde(deserialize_with = "Option::deserialize")]
    pub gid: Option<u32>,
    /// For people.
    pub description: String,
}

/// `GET /v1/groups/{name}`.
pub(super) async fn group(
    Administrator(admin): Administrator,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    Ok(response(StatusCode::OK, &admin.group(&name).await?))
}

/// `PUT /v1/groups/{name}`.
pub(super) async fn change_group(
    State(app): State<App>,
    Administrator(admin): Administrator,
    Path(name): Path<String>,
    Json(settings): Json<GroupSettings>,
) -> Result<StatusCode, Problem> {
    let GroupSettings { gid, description } = settings;
    let group = NewGroup { name, gid, description };
    app.see_through(async move { admin.change_group(group).await }).await??;
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /v1/groups/{name}`.
pub(super) async fn remove_group(
    State(app): State<App>,
    Administrator(admin): Administrator,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    app.see_through(async move { admin.remove_group(&name).await }).await??;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /v1/groups/{name}/members`.
pub(super) async fn members(
    Administrator(admin): Administrator,
    Path(name): Path<String>,
    Query(listing): Query<Listing>,
) -> Result<Response, Problem> {
    Ok(response(StatusCode::OK, &Members { members: admin.members(&name, &listing).await? }))
}

/// `PUT /v1/groups/{name}/members/{user}`.
pub(super) async fn add_member(
    State(app): State<App>,
    Administrator(admin): Administrator,
    Path((name, user)): Path<(String, String)>,
    Json(membership): Json<Membership>,
) -> Result<StatusCode, Problem> {
    let groups = vec![GroupView { name, admin: membership.admin }];
    let change = UserChange { groups, ..UserChange::default() };
    app.see_through(async move { admin.change_user(&user, change).await }).await??;
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /v1/groups/{name}/members/{user}`.
pub(super) async fn remove_member(
    State(app): State<App>,
    Administrator(admin): Administrator,
    Path((name, user)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    // What the path names is not there: 404, where a change that names it would be a wrong change.
    if !admin.user(&user).await?.groups.iter().any(|group| group.name == name) {
        let error = format!("`{user}` is not in the group `{name}`");
        return Err(Problem::new(StatusCode::NOT_FOUND, error));
    }
    let change = UserChange { remove_groups: vec![name], ..UserChange::default() };
    app.see_through(async move { admin.change_user(&user, change).await }).await??;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /v1/audit`.
pub(super) async fn audit(
    Administrator(admin): Administrator,
    Query(query): Query<AuditQuery>,
) -> Result<Response, Problem> {
    Ok(response(StatusCode::OK, &Events { events: admin.audit(query).await? }))
}

/// `GET /v1/throttles`.
pub(super) async fn throttles(
    Administrator(admin): Administrator,
    Query(listing): Query<ThrottleListing>,
) -> Result<Response, Problem> {
    Ok(response(StatusCode::OK, &Throttles { throttles: admin.throttles(listing).await? }))
}

/// `DELETE /v1/throttles`.
pub(super) async fn clear_throttles(
    State(app): State<App>,
    Administrator(admin): Administrator,
    Query(filter): Query<ThrottleFilter>,
) -> Result<Response, Problem> {
    let filter = filter.checked()?;
    let (user, source) = (filter.user.clone(), filter.source.clone());
    let clear = async move { admin.clear_throttles(filter).await };
    let cleared = app.see_through(clear).await??;
    // The other nodes hear of it from the store; whoever logs in here need not wait for that.
    app.engine.throttle.forget(user.as_deref(), source.as_deref());
    Ok(response(StatusCode::OK, &cleared))
}

impl From<AdminError> for Problem {
    fn from(error: AdminError) -> Self {
        let text = error.to_string();
        match error.kind() {
            AdminErrorKind::Invalid => Self::bad(text),
            AdminErrorKind::NotFound => Self::new(StatusCode::NOT_FOUND, text),
            AdminErrorKind::Exists => Self::new(StatusCode::CONFLICT, text),
            AdminErrorKind::TryLater => {
                tracing::warn!(error = %text, "an administrator's request could not be done now");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, text)
            }
            AdminErrorKind::Broken => {
                tracing::error!(error = %text, "an administrator's request failed");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, text)
            }
        }
    }
}

/// A name as one part of a path (RFC 3986, section 2.3: all but unreserved characters are encoded).
fn encoded(name: &str) -> String {
    use std::fmt::Write as _;
    name.bytes().fold(String::new(), |mut path, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            path.push(char::from(byte));
        } else {
            // Writing to a text cannot fail.
            let _ = write!(path, "%{byte:02X}");
        }
        path
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_part_of_a_path() {
        assert_eq!(encoded("ada.l-1"), "ada.l-1");
        assert_eq!(encoded("a/b ü?"), "a%2Fb%20%C3%BC%3F");
    }

    #[test]
    fn every_kind_of_error_has_its_code() {
        use countersign_store::StoreError;
        let code = |error: StoreError| Response::from(Problem::from(AdminError::from(error)));
        let missing = StoreError::NotFound { what: "user", name: "x".into() };
        assert_eq!(code(missing).status(), StatusCode::NOT_FOUND);
        let there = StoreError::Exists { what: "user", name: "x".into() };
        assert_eq!(code(there).status(), StatusCode::CONFLICT);
        assert_eq!(code(StoreError::Closed).status(), StatusCode::SERVICE_UNAVAILABLE);
    }
}
