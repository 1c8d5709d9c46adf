//! LOGIN: user name and password in two messages, each asked for by a fixed text. Never standardised
//! (draft-murchison-sasl-login), and still what some mail clients speak.

use std::sync::{Arc, LazyLock};

use countersign::{Answers, BoxExchange, Carrier, Exchange, Fault, Mechanism, Round, Scene, Step};

use crate::carried::{self, Carried};

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
        BoxExchange::new(LoginExchange { waits_for: WaitsFor::Beginning(inner) })
    }
}

struct LoginExchange {
    waits_for: WaitsFor,
}

enum WaitsFor {
    Beginning(BoxExchange),
    Name(BoxExchange),
    Password {
        inner: BoxExchange,
        name: Box<str>,
    },
    /// The policy wants more than a password: a code, at one more prompt. Few clients show it to somebody;
    /// the others give up, which refuses them.
    More(Box<Carried>),
    Over,
}

impl Exchange for LoginExchange {
    async fn step(&mut self, mut answers: Answers, scene: &Scene<'_>) -> Result<Step, Fault> {
        static NAME: LazyLock<Arc<Round>> =
            LazyLock::new(|| carried::round_with(Some(b"Username:")));
        static PASSWORD: LazyLock<Arc<Round>> =
            LazyLock::new(|| carried::round_with(Some(b"Password:")));

        let waits_for = std::mem::replace(&mut self.waits_for, WaitsFor::Over);
        if let WaitsFor::Beginning(inner) = waits_for {
            self.waits_for = WaitsFor::Name(inner);
            return Ok(Step::Ask(Arc::clone(&NAME)));
        }
        let token = match carried::token(&mut answers) {
            Ok(token) => token,
            Err(denial) => return Ok(Step::Deny(denial)),
        };
        let (mut carried, token) = match waits_for {
            WaitsFor::Name(inner) => {
                return Ok(match carried::name(token.expose(), "the user name") {
                    Err(denial) => Step::Deny(denial),
                    Ok(name) => {
                        self.waits_for = WaitsFor::Password { inner, name: name.into() };
                        Step::Ask(Arc::clone(&PASSWORD))
                    }
                });
            }
            WaitsFor::Password { inner, name } => (Carried::new(inner, &name, token), None),
            WaitsFor::More(carried) => (*carried, Some(token)),
            WaitsFor::Beginning(_) | WaitsFor::Over => {
                return Err(Fault::internal("LOGIN was stepped after its end"));
            }
        };
        let step = carried.prompt(token, scene).await?;
        if matches!(step, Step::Ask(_)) {
            self.waits_for = WaitsFor::More(Box::new(carried));
        }
        Ok(step)
    }
}
