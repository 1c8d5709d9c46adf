//! LOGIN: user name and password in two messages, each asked for by a fixed text. Never standardised
//! (draft-murchison-sasl-login), and still what some mail clients speak.

use std::sync::{Arc, LazyLock};

use countersign::{Answers, BoxExchange, Carrier, Exchange, Fault, Mechanism, Round, Scene, Step};

use crate::carried;

/// Carries the mechanism `password` in two messages.
#[derive(Clone, Copy, Debug, Default)]
pub struct Login;

impl Carrier for Login {
    fn name(&self) -> &str {
        "LOGIN"
    }

    fn carries(&self) -> &str {
        Mechanism::PASSWORD
    }

    fn carry(&self, inner: BoxExchange) -> BoxExchange {
        BoxExchange::new(LoginExchange { inner: Some(inner), waits_for: WaitsFor::Beginning })
    }
}

struct LoginExchange {
    inner: Option<BoxExchange>,
    waits_for: WaitsFor,
}

enum WaitsFor {
    Beginning,
    Name,
    Password { name: Box<str> },
}

impl Exchange for LoginExchange {
    async fn step(&mut self, mut answers: Answers, scene: &Scene<'_>) -> Result<Step, Fault> {
        static NAME: LazyLock<Arc<Round>> =
            LazyLock::new(|| carried::round_with(Some(b"Username:")));
        static PASSWORD: LazyLock<Arc<Round>> =
            LazyLock::new(|| carried::round_with(Some(b"Password:")));

        if matches!(self.waits_for, WaitsFor::Beginning) {
            self.waits_for = WaitsFor::Name;
            return Ok(Step::Ask(Arc::clone(&NAME)));
        }
        let token = match carried::token(&mut answers) {
            Ok(token) => token,
            Err(denial) => return Ok(Step::Deny(denial)),
        };
        let WaitsFor::Password { name } = &self.waits_for else {
            return Ok(match carried::name(token.expose(), "the user name") {
                Err(denial) => Step::Deny(denial),
                Ok(name) => {
                    self.waits_for = WaitsFor::Password { name: name.into() };
                    Step::Ask(Arc::clone(&PASSWORD))
                }
            });
        };
        let Some(inner) = self.inner.take() else {
            return Err(Fault::internal("LOGIN was stepped after its end"));
        };
        carried::drive(inner, name, token, scene).await
    }
}
