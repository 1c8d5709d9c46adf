//! `[telemetry]`: where traces of logins go.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use countersign_checkers::kinds::{Span, secret_file};
use serde::Deserialize;
use toml::Spanned;

use super::ConfigError;

/// `[telemetry]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TelemetrySection {
    otlp: Spanned<String>,
    service_name: Option<String>,
    sample: Option<Spanned<f64>>,
    headers_file: Option<Spanned<PathBuf>>,
    ca: Option<PathBuf>,
    timeout: Option<Span>,
    #[serde(default)]
    names: bool,
    #[serde(default)]
    addresses: bool,
}

/// Where traces of logins go, and what is in them.
#[derive(Debug, Clone)]
pub struct TelemetryOptions {
    /// The collector's address for traces (OTLP over HTTP).
    pub address: String,
    /// What this server is called there.
    pub service_name: String,
    /// How many of the logins are traced that are not part of somebody's trace, from 0 to 1.
    pub sample: f64,
    /// What every request carries, such as a token.
    pub headers: HeaderMap,
    /// The authorities that the collector's certificate is to be from; none: those of the system.
    pub ca: Option<PathBuf>,
    /// How long a request may take.
    pub timeout: Duration,
    /// Whether the names of users are in traces.
    pub names: bool,
    /// Whether the addresses of users are in traces.
    pub addresses: bool,
}

/// The longest list of headers.
const HEADERS: usize = 32;

impl TelemetrySection {
    /// What it stands for; relative paths are below `base`.
    pub(super) fn read(
        section: Spanned<Self>,
        base: &Path,
    ) -> Result<TelemetryOptions, ConfigError> {
        if cfg!(not(feature = "otel")) {
            let message = "this build has no `otel`; build with `--features otel`";
            return Err(ConfigError::at(section.span(), message));
        }
        let section = section.into_inner();
        let address = address(section.otlp.get_ref()).map_err(|why| {
            let message = format!("`otlp` {why}");
            let help = "give the collector's base address: `otlp = \"http://127.0.0.1:4318\"`";
            ConfigError::at(section.otlp.span(), message).with_help(help)
        })?;
        let sample = match section.sample {
            Some(sample) if !(0.0..=1.0).contains(sample.get_ref()) => {
                let message = "`sample` is a share of the logins, from 0.0 to 1.0";
                return Err(ConfigError::at(sample.span(), message));
            }
            sample => sample.map_or(1.0, Spanned::into_inner),
        };
        let headers = section.headers_file.as_ref().map(|file| {
            let told = |why| {
                let message = format!("`headers_file` {} {why}", file.get_ref().display());
                ConfigError::at(file.span(), message)
            };
            let text = secret_file(base, file.get_ref()).map_err(told)?;
            headers(text.to_str().unwrap_or_default()).map_err(told)
        });
        let headers = headers.transpose()?.unwrap_or_default();
        if let (Some(file), false, true) =
            (&section.headers_file, headers.is_empty(), crosses_in_clear(&address))
        {
            let message =
                "a token in `headers_file` would cross the network where anybody can read it";
            let help = "give a collector at https, or one on this machine";
            return Err(ConfigError::at(file.span(), message).with_help(help));
        }
        Ok(TelemetryOptions {
            address,
            service_name: section.service_name.unwrap_or_else(|| "countersign".to_owned()),
            sample,
            headers,
            ca: section.ca.map(|ca| base.join(ca)),
            timeout: section.timeout.map_or(Duration::from_secs(5), |timeout| timeout.0),
            names: section.names,
            addresses: section.addresses,
        })
    }
}

/// The address for traces below a base address (OTLP/HTTP, section "OTLP/HTTP Request").
fn address(base: &str) -> Result<String, String> {
    let wrong = |why: &str| Err(format!("is `{base}`, which {why}"));
    let Ok(uri) = base.parse::<Uri>() else { return wrong("is no address") };
    let Some(authority) = uri.authority() else { return wrong("names no host") };
    if authority.as_str().contains('@') {
        return Err("has a user in it: a token belongs into `headers_file`".to_owned());
    }
    match uri.scheme_str() {
        Some("http" | "https") if uri.query().is_none() => {
            Ok(format!("{}/v1/traces", base.trim_end_matches('/')))
        }
        Some("http" | "https") => wrong("has a query"),
        _ => wrong("is neither http nor https"),
    }
}

/// Whether what is sent there leaves this machine without TLS.
fn crosses_in_clear(address: &str) -> bool {
    let Ok(uri) = address.parse::<Uri>() else { return true };
    let host = uri.host().unwrap_or_default();
    let here = host == "localhost"
        || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    uri.scheme_str() != Some("https") && !here
}

/// `name: value`, a line each. The error shows no value.
fn headers(text: &str) -> Result<HeaderMap, String> {
    const OURS: [HeaderName; 5] = [
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::HOST,
        header::TRANSFER_ENCODING,
    ];
    let mut headers = HeaderMap::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |why: &str| format!("line {}: {why}", index + 1);
        let (name, value) = line
            .split_once(':')
            .ok_or_else(|| wrong("is no `name: value`, such as `authorization: Bearer …`"))?;
        let name = HeaderName::from_bytes(name.trim().as_bytes())
            .map_err(|_| wrong("the name can be no header's"))?;
        if OURS.contains(&name) {
            return Err(wrong(&format!("`{name}` is the server's own")));
        }
        let mut value = HeaderValue::from_str(value.trim())
            .map_err(|_| wrong("the value can be no header's"))?;
        value.set_sensitive(true);
        headers.append(name, value);
        if headers.len() > HEADERS {
            return Err(wrong(&format!("there may be {HEADERS} headers")));
        }
    }
    if headers.is_empty() {
        return Err("has no header in it; write `name: value`, a line each".to_owned());
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_have_their_place_below_the_base() {
        for (base, expected) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("https://otel.example.com/", "https://otel.example.com/v1/traces"),
            ("https://otel.example.com/tenant-1", "https://otel.example.com/tenant-1/v1/traces"),
        ] {
            assert_eq!(address(base).as_deref(), Ok(expected));
        }
        for base in
            ["", "collector:4318", "grpc://collector:4317", "http://", "/v1", "http://c/?token=x"]
        {
            assert!(address(base).is_err(), "{base}");
        }
        let error = address("https://ada:s3cret@collector").unwrap_err();
        assert!(error.contains("headers_file") && !error.contains("s3cret"), "{error}");
    }

    #[test]
    fn a_token_leaves_this_machine_by_tls_alone() {
        for here in
            ["http://127.0.0.1:4318/", "http://[::1]:4318/", "http://localhost/", "https://c/"]
        {
            assert!(!crosses_in_clear(here), "{here}");
        }
        for there in
            ["http://collector:4318/", "http://192.0.2.1/", "http://localhost.example.com/"]
        {
            assert!(crosses_in_clear(there), "{there}");
        }
    }

    #[test]
    fn headers_are_lines_and_are_not_shown() {
        let read = headers("# the collector's\n\nAuthorization: Bearer s3cret\nx-org:1\n").unwrap();
        assert_eq!(
            (&read["authorization"], &read["x-org"]),
            (&"Bearer s3cret".parse().unwrap(), &"1".parse().unwrap())
        );
        assert!(!format!("{read:?}").contains("s3cret"));
        for (text, expected) in [
            ("", "no header"),
            ("s3cret", "line 1"),
            ("x: 1\ns3 cret: 1", "line 2"),
            ("x: s3cret\u{7}", "line 1"),
            ("content-type: s3cret", "own"),
        ] {
            let error = headers(text).unwrap_err();
            assert!(error.contains(expected) && !error.contains("s3cret"), "{error}");
        }
    }
}
