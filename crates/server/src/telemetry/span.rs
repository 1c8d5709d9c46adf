//! A login that has ended as OpenTelemetry's spans. Names and attributes are in `docs/guide/telemetry.md`.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::{Status, status::StatusCode};

use super::trace::{Came, Child, Closed, End, What};

/// Bits of `Span.flags`: sampled; it is known whether the parent is remote; it is.
const SAMPLED: u32 = 1;
const KNOWN: u32 = 0x100;
const REMOTE: u32 = 0x200;

/// The spans of a login: itself, and what it spent time on.
pub(super) fn spans(closed: &Closed) -> Vec<Span> {
    let children = closed.children.iter().enumerate().map(|(index, child)| {
        let number = u64::try_from(index).unwrap_or(u64::MAX).wrapping_add(1);
        span_of(closed, number, child)
    });
    std::iter::once(root(closed)).chain(children).collect()
}

fn root(closed: &Closed) -> Span {
    let mut attributes = vec![
        text("countersign.service", &*closed.service),
        text("countersign.front_end", closed.front_end),
        text("countersign.transport", closed.transport),
    ];
    let mut some =
        |key, value: Option<&str>| attributes.extend(value.map(|value| text(key, value)));
    some("countersign.listener", closed.listener.map(String::as_str));
    some("countersign.mechanism", closed.mechanism.as_deref());
    some("countersign.claimed", closed.claimed.as_deref());
    some("client.address", closed.remote.map(|remote| remote.to_string()).as_deref());
    let mut status = Status::default();
    let mut broken = |class: &str| {
        status.set_code(StatusCode::Error);
        [text("countersign.outcome", "fault"), text("error.type", class)]
    };
    match &closed.end {
        // Nobody got in, whatever the checkers said.
        _ if !closed.recorded => attributes.extend(broken("unrecorded")),
        End::Fault(class) => attributes.extend(broken(class)),
        End::Granted { subject, checker } => {
            attributes.push(text("countersign.outcome", "granted"));
            attributes.extend(subject.as_deref().map(|subject| text("user.name", subject)));
            attributes
                .extend(checker.as_deref().map(|checker| text("countersign.checker", checker)));
        }
        End::Denied { reason, told } => attributes.extend([
            text("countersign.outcome", "denied"),
            text("countersign.reason", *reason),
            text("countersign.told", *told),
        ]),
    }
    attributes.push(number("countersign.rounds", closed.rounds.into()));
    let asked = checkers(&closed.children);
    if !asked.is_empty() {
        attributes.push(list("countersign.checkers", asked));
    }
    if closed.left_out > 0 {
        attributes.push(number("countersign.spans_left_out", closed.left_out.into()));
    }
    let open = &closed.open;
    Span {
        trace_id: open.trace.to_vec(),
        span_id: open.span.to_vec(),
        parent_span_id: open.parent.map(|parent| parent.to_vec()).unwrap_or_default(),
        flags: SAMPLED | KNOWN | if open.parent.is_some() { REMOTE } else { 0 },
        name: "login".to_owned(),
        kind: SpanKind::Server.into(),
        start_time_unix_nano: open.began_unix_ns,
        end_time_unix_nano: open.began_unix_ns.saturating_add(closed.to),
        attributes,
        status: Some(status),
        ..Span::default()
    }
}

/// Each checker that was asked, by which mechanism, with what its last step came to.
fn checkers(children: &[Child]) -> Vec<String> {
    let mut asked: Vec<(&str, &str, &str)> = Vec::new();
    for child in children {
        let What::Check { checker, mechanism, result } = &child.what else { continue };
        let (Came::To(result) | Came::Fault(result)) = *result;
        let same = |known: &&mut (&str, &str, &str)| (known.0, known.1) == (checker, mechanism);
        match asked.iter_mut().find(same) {
            Some((.., last)) => *last = result,
            None => asked.push((checker, mechanism, result)),
        }
    }
    let said = |(checker, mechanism, result)| format!("{checker} {mechanism} {result}");
    asked.into_iter().map(said).collect()
}

fn span_of(closed: &Closed, index: u64, child: &Child) -> Span {
    let open = &closed.open;
    let mut status = Status::default();
    let (name, attributes) = match &child.what {
        What::Wait { round } => {
            ("wait".to_owned(), vec![number("countersign.round", (*round).into())])
        }
        What::Check { checker, mechanism, result } => {
            let (result, class) = match *result {
                Came::To(word) => (word, None),
                Came::Fault(class) => ("fault", Some(class)),
            };
            let mut attributes = vec![
                text("countersign.checker", &**checker),
                text("countersign.mechanism", &**mechanism),
                text("countersign.result", result),
            ];
            if let Some(class) = class {
                status.set_code(StatusCode::Error);
                attributes.push(text("error.type", class));
            }
            (format!("check {checker}"), attributes)
        }
    };
    Span {
        trace_id: open.trace.to_vec(),
        // As hard to meet as the login's own, which is random.
        span_id: u64::from_be_bytes(open.span).wrapping_add(index).to_be_bytes().to_vec(),
        parent_span_id: open.span.to_vec(),
        flags: SAMPLED | KNOWN,
        name,
        kind: SpanKind::Internal.into(),
        start_time_unix_nano: open.began_unix_ns.saturating_add(child.from),
        end_time_unix_nano: open.began_unix_ns.saturating_add(child.to),
        attributes,
        status: Some(status),
        ..Span::default()
    }
}

pub(super) fn text(key: &str, value: impl Into<String>) -> KeyValue {
    attribute(key, Value::StringValue(value.into()))
}

fn number(key: &str, value: i64) -> KeyValue {
    attribute(key, Value::IntValue(value))
}

fn list(key: &str, values: Vec<String>) -> KeyValue {
    let values =
        values.into_iter().map(|value| AnyValue { value: Some(Value::StringValue(value)) });
    attribute(key, Value::ArrayValue(ArrayValue { values: values.collect() }))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}
