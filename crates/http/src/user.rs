//! Somebody who is logged in, for a handler.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use countersign::{Identity, Interface, Logout, Session, Verified};

/// Somebody who is logged in: their avatar, and who they are. A handler finds it in its request's extensions, or
/// takes it as an argument where the feature `axum` is on.
///
/// Who proves themselves with every request is logged in for that request: until the last of these is dropped. A
/// session of a cookie ends when it is over or logged out, whoever still holds it ([`User::is_over`]).
pub struct User<I: Interface>(Arc<Visit<I>>);

struct Visit<I: Interface> {
    // Fields drop in order: logout runs while the avatar is still alive.
    logout: Mutex<Option<Logout>>,
    who: Verified<Identity>,
    avatar: Box<I::Avatar>,
}

impl<I: Interface> User<I> {
    pub(crate) fn new(who: Verified<Identity>, session: Session<I>) -> Self {
        let (avatar, logout) = session.apart();
        Self(Arc::new(Visit { logout: Mutex::new(Some(logout)), who, avatar }))
    }

    /// What the user can do.
    pub fn avatar(&self) -> &I::Avatar {
        &self.0.avatar
    }

    /// Who it is, and how that was proven.
    pub fn who(&self) -> &Verified<Identity> {
        &self.0.who
    }

    /// Whether the session is over.
    pub fn is_over(&self) -> bool {
        self.0.logout.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Logs out and waits until it is done; who comes second finds nothing to do.
    pub async fn logout(&self) {
        if let Some(logout) = self.last() {
            logout.run().await;
        }
    }

    /// Logs out without waiting.
    pub(crate) fn end(&self) {
        drop(self.last());
    }

    /// What is still to be done. Not done here, for the lock is held.
    fn last(&self) -> Option<Logout> {
        self.0.logout.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl<I: Interface> Deref for User<I> {
    type Target = I::Avatar;

    fn deref(&self) -> &I::Avatar {
        self.avatar()
    }
}

impl<I: Interface> Clone for User<I> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<I: Interface> fmt::Debug for User<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "User<{}>({})", I::NAME, self.0.who.subject)
    }
}

#[cfg(feature = "axum")]
mod extract {
    use axum::body::Body;
    use axum::extract::{FromRequestParts, OptionalFromRequestParts};
    use axum::response::{IntoResponse, Response};
    use http::StatusCode;
    use http::request::Parts;

    use super::*;
    use crate::Unanswered;

    /// Nobody is logged in, and this handler is for somebody: 401 with the challenges of the layer.
    #[derive(Debug)]
    pub struct NobodyThere(Option<Unanswered>);

    impl<I, S> FromRequestParts<S> for User<I>
    where
        I: Interface,
        I::Avatar: Sync,
        S: Send + Sync,
    {
        type Rejection = NobodyThere;

        async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, NobodyThere> {
            let user = parts.extensions.get::<Self>();
            user.cloned().ok_or_else(|| NobodyThere(parts.extensions.get().cloned()))
        }
    }

    impl<I, S> OptionalFromRequestParts<S> for User<I>
    where
        I: Interface,
        I::Avatar: Sync,
        S: Send + Sync,
    {
        type Rejection = std::convert::Infallible;

        async fn from_request_parts(
            parts: &mut Parts,
            _: &S,
        ) -> Result<Option<Self>, Self::Rejection> {
            Ok(parts.extensions.get::<Self>().cloned())
        }
    }

    impl IntoResponse for NobodyThere {
        fn into_response(self) -> Response<Body> {
            match self.0 {
                Some(unanswered) => unanswered.response(),
                None => {
                    tracing::error!(
                        "a handler wants a `User`, and no layer `Authenticated` of its interface is before it"
                    );
                    StatusCode::INTERNAL_SERVER_ERROR.into_response()
                }
            }
        }
    }
}

#[cfg(feature = "axum")]
pub use extract::NobodyThere;
