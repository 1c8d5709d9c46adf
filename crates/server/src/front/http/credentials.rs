//! The schemes of HTTP authentication that forward-auth takes for a login of their own.

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use countersign_http::{Credentials, Scheme, Schemes, Unproven};
use countersign_sasl::digest::{Asked, Digest};
use tokio::sync::OnceCell;

use super::problem::Problem;
use super::session::broken;
use super::{App, Client};

/// The realm of challenges, and of Digest's keys.
const REALM: &str = "Countersign";

/// The name of the deployment's secret that tags the nonces of Digest.
const NONCES: &str = "http-digest";

const ORIGINAL_URI: HeaderName = HeaderName::from_static("x-original-uri");
const ORIGINAL_URL: HeaderName = HeaderName::from_static("x-original-url");
const ORIGINAL_METHOD: HeaderName = HeaderName::from_static("x-original-method");
const FORWARDED_METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");

/// The schemes of a listener, made when they are first needed.
#[derive(Debug, Default)]
pub(super) struct Taken(OnceCell<Schemes>);

/// Where a request was for, of which its Digest response speaks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Original<'a> {
    pub(super) method: &'a str,
    pub(super) target: &'a str,
}

impl App {
    /// Whether a request's header is of a scheme that is a login of its own here.
    pub(super) fn takes(&self, scheme: Scheme) -> bool {
        match scheme {
            Scheme::Basic => self.options.basic,
            Scheme::Digest => !self.options.digest.is_empty(),
            Scheme::Bearer => self.options.bearer,
        }
    }

    /// The scheme of a request's header, if it is taken.
    pub(super) fn scheme(&self, headers: &HeaderMap) -> Option<Scheme> {
        let any = self.options.basic || self.options.bearer || !self.options.digest.is_empty();
        // Most requests have a cookie and nothing else, and this is all that they see of it.
        let scheme = if any { Credentials::scheme(headers) } else { None };
        scheme.filter(|scheme| self.takes(*scheme))
    }

    /// What challenges are made of, and credentials are read by. Tokens are always asked for: sessions have one.
    pub(super) async fn schemes(&self) -> Result<&Schemes, Problem> {
        let make = async || {
            let schemes = Schemes::NONE.and_bearer("");
            let options = &self.options;
            let schemes = if options.basic { schemes.and_basic(REALM) } else { schemes };
            if options.digest.is_empty() {
                return Ok(schemes);
            }
            let engine = &self.engine;
            let key = engine.store.secret(NONCES).await.map_err(broken)?;
            let digest = Digest::new(REALM, &engine.world).offering(options.digest.iter().copied());
            Ok(schemes.and_digest(digest.keyed(key, &engine.world)))
        };
        self.schemes.0.get_or_try_init(make).await
    }

    /// The values of `WWW-Authenticate`.
    pub(super) async fn challenges(&self, why: Unproven) -> Result<Vec<HeaderValue>, Problem> {
        let schemes = self.schemes().await?;
        Ok(schemes.challenges(why, true, &self.engine.world).collect())
    }
}

impl<'a> Original<'a> {
    /// What the client asked the proxy for. `below`: what a proxy puts before its client's address (Envoy), in our
    /// own.
    pub(super) fn of(
        client: &Client,
        method: &'a Method,
        headers: &'a HeaderMap,
        uri: &'a Uri,
        below: &str,
    ) -> Self {
        let own = uri.path_and_query().map_or("/", |target| target.as_str());
        let own = Self { method: method.as_str(), target: own.strip_prefix(below).unwrap_or(own) };
        // What others say of themselves is not what a proxy says of them.
        if !client.proxied {
            return own;
        }
        let said = |names: &[HeaderName]| {
            let value = names.iter().find_map(|name| headers.get(name))?;
            value.to_str().ok()
        };
        Self {
            method: said(&[ORIGINAL_METHOD, FORWARDED_METHOD]).unwrap_or(own.method),
            target: said(&[ORIGINAL_URI, super::client::FORWARDED_URI, ORIGINAL_URL])
                .unwrap_or(own.target),
        }
    }

    pub(super) fn asked(&self) -> Asked<'a> {
        Asked { method: self.method, target: self.target, body: None }
    }
}

/// Puts challenges into a reply that has none of its own.
pub(super) fn put(headers: &mut HeaderMap, challenges: Vec<HeaderValue>) {
    headers.remove(header::WWW_AUTHENTICATE);
    for challenge in challenges {
        headers.append(header::WWW_AUTHENTICATE, challenge);
    }
}
