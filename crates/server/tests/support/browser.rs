//! What a browser without scripts does: it keeps cookies, fills in forms, follows redirects when told to.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::http::{Reply, Served, raw};

/// A browser.
#[derive(Debug, Default)]
pub(crate) struct Browser {
    pub(crate) cookies: BTreeMap<String, String>,
    /// Further headers of every request.
    pub(crate) headers: Vec<(&'static str, String)>,
}

/// A page that was received.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) reply: Reply,
}

impl Browser {
    pub(crate) async fn get(&mut self, server: &impl Served, path: &str) -> Page {
        self.send(server, "GET", path, "").await
    }

    /// Sends a form's fields.
    pub(crate) async fn post(
        &mut self,
        server: &impl Served,
        path: &str,
        fields: &[(&str, &str)],
    ) -> Page {
        let mut body = String::new();
        for (name, value) in fields {
            let _ = write!(body, "{}={}&", encoded(name), encoded(value));
        }
        self.send(server, "POST", path, body.trim_end_matches('&')).await
    }

    /// Sends the first form of a page to `path`, with its hidden fields and these.
    pub(crate) async fn submit(
        &mut self,
        server: &impl Served,
        page: &Page,
        path: &str,
        fields: &[(&str, &str)],
    ) -> Page {
        let mut all = page.hidden(path);
        all.extend(fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let all: Vec<_> = all.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        self.post(server, path, &all).await
    }

    async fn send(&mut self, server: &impl Served, method: &str, path: &str, body: &str) -> Page {
        let mut request =
            format!("{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n");
        let cookies: Vec<_> = self.cookies.iter().map(|(n, v)| format!("{n}={v}")).collect();
        if !cookies.is_empty() {
            let _ = write!(request, "cookie: {}\r\n", cookies.join("; "));
        }
        for (name, value) in &self.headers {
            let _ = write!(request, "{name}: {value}\r\n");
        }
        if method == "POST" {
            request += "content-type: application/x-www-form-urlencoded\r\n";
        }
        let _ = write!(request, "content-length: {}\r\n\r\n{body}", body.len());
        let reply = raw(server.address(), request.as_bytes()).await;
        for line in reply.head.lines() {
            let Some(cookie) = line.strip_prefix("set-cookie: ") else { continue };
            let (name, value) = cookie.split(';').next().unwrap().split_once('=').unwrap();
            match value {
                "" => self.cookies.remove(name),
                value => self.cookies.insert(name.to_owned(), value.to_owned()),
            };
        }
        Page { reply }
    }
}

impl Page {
    pub(crate) fn status(&self) -> u16 {
        self.reply.status
    }

    /// Where it sends the browser.
    pub(crate) fn location(&self) -> &str {
        self.reply.header("location").unwrap_or_else(|| panic!("no redirect: {:?}", self.reply))
    }

    /// Whether a text is on it.
    pub(crate) fn says(&self, text: &str) -> bool {
        self.reply.body.contains(text)
    }

    /// Fails unless the text is on it.
    pub(crate) fn must_say(&self, text: &str) {
        assert!(self.says(text), "no `{text}` on {}", self.reply.body);
    }

    /// The hidden fields of the first form to `action`.
    pub(crate) fn hidden(&self, action: &str) -> Vec<(String, String)> {
        let begin = format!("action=\"{action}\"");
        let form = self.reply.body.split(&begin).nth(1);
        let form = form.unwrap_or_else(|| panic!("no form to {action}: {}", self.reply.body));
        let form = form.split("</form>").next().unwrap();
        let inputs = form.split("<input").skip(1).filter_map(|rest| rest.split('>').next());
        inputs
            .filter(|input| input.contains("type=\"hidden\""))
            .map(|input| {
                let name = attribute(input, "name").unwrap();
                (name, attribute(input, "value").unwrap_or_default())
            })
            .collect()
    }

    /// An attribute of the input of that name.
    pub(crate) fn of_input(&self, name: &str, wanted: &str) -> Option<String> {
        let mut inputs = self.reply.body.split("<input").skip(1);
        let input = inputs.find(|input| attribute(input, "name").as_deref() == Some(name))?;
        attribute(input.split('>').next().unwrap(), wanted)
    }
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    let value = tag.split(&format!(" {name}=\"")).nth(1)?.split('"').next()?;
    let plain = value.replace("&quot;", "\"").replace("&#x2f;", "/").replace("&#x27;", "'");
    Some(plain.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
}

fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut all, byte| {
        let _ = write!(all, "%{byte:02x}");
        all
    })
}
