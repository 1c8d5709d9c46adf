//! Logging in with a form, and staying logged in with a cookie.

use std::fmt;
use std::sync::Arc;

use countersign::Transport;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use zeroize::Zeroize;

use crate::SessionLimits;
use crate::refusal::{Answer, Refusal};

/// No form is longer, in bytes.
pub(crate) const FORM: usize = 16 * 1024;
/// No address to return to is longer, in bytes.
const RETURN_TO: usize = 2048;

/// How people log in with a form and stay logged in with a cookie.
///
/// The layer answers two paths by itself, wherever it sees them: `/login` shows a form and takes it, `/logout` ends
/// the session that the cookie names, for `POST` alone. The cookie is a random token and nothing else; its name
/// begins with `__Host-` within TLS, so that no other host can set it. What a page of another site makes a browser
/// send logs nobody in or out, and changes nothing.
///
/// A session ends with the process: sessions that outlive it, and are shared by several, are the server's.
#[derive(Clone)]
pub struct Cookie {
    pub(crate) name: Box<str>,
    pub(crate) login: Box<str>,
    pub(crate) logout: Box<str>,
    pub(crate) home: Box<str>,
    pub(crate) limits: SessionLimits,
    page: Arc<dyn Fn(&LoginForm<'_>) -> String + Send + Sync>,
    own_page: bool,
}

/// What a login page has to show: a form that is sent to `action` by POST, with the fields `username`, `password`
/// and, hidden, `return_to`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct LoginForm<'a> {
    /// Where it is sent.
    pub action: &'a str,
    /// Where people go from there.
    pub return_to: &'a str,
    /// The name that was given last.
    pub username: &'a str,
    /// Why they are not in yet, for people.
    pub message: Option<&'static str>,
}

impl Cookie {
    /// A cookie of this name: letters, digits, `-` and `_`, others are left out.
    pub fn named(name: &str) -> Self {
        let letter = |letter: &char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_');
        Self {
            name: name.chars().filter(letter).collect::<String>().into(),
            login: "/login".into(),
            logout: "/logout".into(),
            home: "/".into(),
            limits: SessionLimits::default(),
            page: Arc::new(page),
            own_page: false,
        }
    }

    /// Other paths than `/login` and `/logout`.
    #[must_use]
    pub fn at(self, login: &str, logout: &str) -> Self {
        Self { login: login.into(), logout: logout.into(), ..self }
    }

    /// Another path than `/` to go to after a log-out, and after a login that was not on the way to anywhere.
    #[must_use]
    pub fn home(self, path: &str) -> Self {
        Self { home: path.into(), ..self }
    }

    /// Other limits.
    #[must_use]
    pub fn limits(self, limits: SessionLimits) -> Self {
        Self { limits, ..self }
    }

    /// Another page. Whatever of the form is put into HTML must be [`escaped`].
    #[must_use]
    pub fn page(self, page: impl Fn(&LoginForm<'_>) -> String + Send + Sync + 'static) -> Self {
        Self { page: Arc::new(page), own_page: true, ..self }
    }

    /// The name as it is set for a connection.
    fn full_name(&self, transport: Transport) -> String {
        let prefix = if transport == Transport::Tls { "__Host-" } else { "" };
        format!("{prefix}{}", self.name)
    }

    /// The token in a request's cookie. Of two of the same name none counts: somebody else has set one of them.
    pub(crate) fn token<'h>(
        &self,
        headers: &'h HeaderMap,
        transport: Transport,
    ) -> Option<&'h str> {
        let name = self.full_name(transport);
        let lines =
            headers.get_all(header::COOKIE).into_iter().filter_map(|line| line.to_str().ok());
        let pairs =
            lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let mut values = pairs.filter(|(found, _)| *found == name).map(|(_, value)| value);
        let (value, None) = (values.next()?, values.next()) else { return None };
        Some(value)
    }

    /// What sets the cookie, until the browser is closed.
    pub(crate) fn set(&self, token: &str, transport: Transport) -> String {
        let secure = if transport == Transport::Tls { "; Secure" } else { "" };
        format!("{}={token}; Path=/; HttpOnly; SameSite=Lax{secure}", self.full_name(transport))
    }

    /// What takes it away.
    pub(crate) fn clear(&self, transport: Transport) -> String {
        format!("{}; Max-Age=0", self.set("", transport))
    }

    /// The login page, for the first time or with the reason why it is there again.
    pub(crate) fn form(&self, return_to: &str, username: &str, refusal: Option<Refusal>) -> Answer {
        const SCRIPTLESS: &str =
            "default-src 'none'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
        const OWN: &str = "form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
        let message = refusal.map(|refusal| match refusal {
            Refusal::Unproven(_) => "That did not work.",
            other => other.text(),
        });
        let form = LoginForm { action: &self.login, return_to, username, message };
        let status = refusal.map_or(StatusCode::OK, Refusal::status);
        let policy = if self.own_page { OWN } else { SCRIPTLESS };
        let page = Answer::page(status, (self.page)(&form))
            .with(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy))
            .with(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
        match status {
            StatusCode::UNAUTHORIZED => page.with_text(header::WWW_AUTHENTICATE, &self.challenge()),
            _ => page,
        }
    }

    /// 401 demands a challenge, and no scheme says "fill in a form". Browsers look past one that they do not know.
    pub(crate) fn challenge(&self) -> String {
        format!("Cookie form-action=\"{}\", cookie-name=\"{}\"", self.login, self.name)
    }

    /// The login page's address for somebody on the way to `target`.
    pub(crate) fn address(&self, target: &str) -> String {
        if safe_path(target).is_none() || target == &*self.home {
            return self.login.to_string();
        }
        let mut query = form_urlencoded::Serializer::new(String::new());
        format!("{}?{}", self.login, query.append_pair("return_to", target).finish())
    }

    /// Where somebody goes who wanted to go there.
    pub(crate) fn destination<'a>(&'a self, return_to: &'a str) -> &'a str {
        safe_path(return_to).unwrap_or(&self.home)
    }
}

/// A path of this very site. Two slashes, or a backslash that browsers take for one, begin another host's.
fn safe_path(path: &str) -> Option<&str> {
    let mut letters = path.bytes();
    let here = letters.next() == Some(b'/') && !matches!(letters.next(), Some(b'/' | b'\\'));
    let clean = path.len() <= RETURN_TO
        && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    (here && clean).then_some(path)
}

/// What a login form said.
#[derive(Default)]
pub(crate) struct Said {
    pub(crate) username: String,
    pub(crate) password: String,
    pub(crate) return_to: String,
}

impl Said {
    /// Reads `application/x-www-form-urlencoded`. A field that is there twice is none.
    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        let mut said = Self::default();
        let mut seen = [false; 3];
        for (name, value) in form_urlencoded::parse(body) {
            let (at, field) = match &*name {
                "username" => (0, &mut said.username),
                "password" => (1, &mut said.password),
                "return_to" => (2, &mut said.return_to),
                _ => continue,
            };
            if std::mem::replace(&mut seen[at], true) {
                return None;
            }
            *field = value.into_owned();
        }
        (seen[0] && seen[1]).then_some(said)
    }

    /// The same of a query, for the page.
    pub(crate) fn return_to(query: &str) -> String {
        let mut pairs = form_urlencoded::parse(query.as_bytes());
        pairs
            .find(|(name, _)| name == "return_to")
            .map_or_else(String::new, |(_, value)| value.into())
    }
}

impl Drop for Said {
    fn drop(&mut self) {
        self.password.zeroize();
    }
}

/// Text as it may stand in HTML, in an attribute or outside.
pub fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            other => html.push(other),
        }
    }
    html
}

/// The usual page.
fn page(form: &LoginForm<'_>) -> String {
    let [action, return_to, username] = [form.action, form.return_to, form.username].map(escaped);
    let message = form.message.map(|text| format!("<p role=\"alert\">{}</p>\n", escaped(text)));
    let message = message.unwrap_or_default();
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>Log in</title>\n\
         <h1>Log in</h1>\n{message}<form method=\"post\" action=\"{action}\">\n\
         <input type=\"hidden\" name=\"return_to\" value=\"{return_to}\">\n\
         <p><label>Name<br><input name=\"username\" value=\"{username}\" autocomplete=\"username\" \
         autocapitalize=\"none\" required></label></p>\n\
         <p><label>Password<br><input name=\"password\" type=\"password\" \
         autocomplete=\"current-password\" required></label></p>\n\
         <p><button>Log in</button></p>\n</form>\n</html>\n"
    )
}

impl fmt::Debug for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, login, logout, home, limits, .. } = self;
        let mut shown = f.debug_struct("Cookie");
        shown.field("name", name).field("login", login).field("logout", logout);
        shown.field("home", home).field("limits", limits).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_browsers_enforce() {
        let cookie = Cookie::named("site; Domain=x");
        assert_eq!(
            cookie.set("t", Transport::Tls),
            "__Host-siteDomainx=t; Path=/; HttpOnly; SameSite=Lax; Secure"
        );
        let cookie = Cookie::named("site");
        assert_eq!(cookie.set("t", Transport::Local), "site=t; Path=/; HttpOnly; SameSite=Lax");
        assert!(cookie.clear(Transport::Local).ends_with("; Max-Age=0"));
    }

    #[test]
    fn one_value_or_none() {
        let cookie = Cookie::named("site");
        let token = |lines: &[&'static str], transport| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::COOKIE, HeaderValue::from_static(line));
            }
            cookie.token(&headers, transport).map(str::to_owned)
        };
        assert_eq!(token(&["a=b; site=x; c=d"], Transport::Local).as_deref(), Some("x"));
        assert_eq!(token(&["a=b", "__Host-site=x"], Transport::Tls).as_deref(), Some("x"));
        assert_eq!(token(&["site=x"], Transport::Tls), None, "set without TLS");
        assert_eq!(token(&["site=x; site=y"], Transport::Local), None);
        assert_eq!(token(&["site=x", "site=x"], Transport::Local), None);
    }

    #[test]
    fn the_way_back_is_to_this_site() {
        let cookie = Cookie::named("site").home("/home");
        for path in ["/", "/a?b=c&d", "/a//b"] {
            assert_eq!(cookie.destination(path), path);
        }
        for path in
            ["", "//evil", "/\\evil", "\\/evil", "https://evil", "a", "/a b", "/a\r\nb", "/a\\b"]
        {
            assert_eq!(cookie.destination(path), "/home", "{path:?}");
        }
        assert_eq!(cookie.destination(&format!("/{}", "x".repeat(RETURN_TO))), "/home");
        assert_eq!(cookie.address("/a?b=c"), "/login?return_to=%2Fa%3Fb%3Dc");
        assert_eq!(cookie.address("/home"), "/login");
        assert_eq!(cookie.address("//evil"), "/login");
    }

    #[test]
    fn forms_are_read_whole() {
        let said = Said::read(b"username=ada&password=a%26b+c&return_to=%2Fme&more=x").unwrap();
        assert_eq!((&*said.username, &*said.password, &*said.return_to), ("ada", "a&b c", "/me"));
        assert!(Said::read(b"username=ada").is_none() && Said::read(b"").is_none());
        assert!(Said::read(b"username=a&username=b&password=c").is_none());
    }

    #[test]
    fn nothing_that_was_said_becomes_html() {
        let form = LoginForm {
            action: "/login",
            return_to: "/\"><script>",
            username: "<b>'&",
            message: None,
        };
        let html = page(&form);
        assert!(!html.contains("<script>") && !html.contains("<b>"));
        assert!(html.contains("&lt;b&gt;&#39;&amp;"));
    }
}
