//! `[checker.anonymous.NAME]` and `anonymous`. Reference: `docs/guide/anonymous.md`.

use std::sync::Arc;

use countersign_sasl::Anonymous;
use serde::Deserialize;

use super::{Building, CheckerSettings, Form, Kind, Parts, read};

pub(super) fn kind() -> Kind {
    Kind::new("anonymous", "nobody in particular: whoever asks for that is let in")
        .proving(&["ANONYMOUS"])
        .explained(
            "Lets in everybody who asks for the mechanism ANONYMOUS (RFC 4505), as nobody in particular: they\n\
             have no name, and what they may do is for the program to say. Without this type nobody is ever\n\
             let in without a name. A policy can keep it to some services or networks.",
        )
        .shown("anonymous")
        .from_table(|value, _| Ok(Box::new(read::<AnonymousSettings>(value)?)))
        .from_argument(Form::None, |_| Ok(Box::new(AnonymousSettings {})))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AnonymousSettings {}

impl CheckerSettings for AnonymousSettings {
    fn build<'a>(&'a self, name: &'a str, _: &'a Parts) -> Building<'a> {
        Box::pin(async move { Ok(Arc::new(Anonymous::new(name)) as _) })
    }

    fn describe(&self) -> String {
        "nobody in particular".into()
    }
}
