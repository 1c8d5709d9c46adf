//! An executable that decides about calls, in the place of oned's own rules (`--authz`).

use std::pin::Pin;
use std::sync::Arc;

use countersign_checkers::driver::{Exec, ExecSettings, Launcher};
use countersign_checkers::one::{Attempt, Outcome};
use countersign_wire::one::Authz;
use countersign_wire::one::mad::Authorize;

use super::manager::{Authorizer, Ruling};

/// Runs `remotes/auth/NAME/authorize` for each call. Its exit status replaces oned's verdict.
#[derive(Debug)]
pub(super) struct ExecAuthorizer {
    exec: Exec,
}

impl ExecAuthorizer {
    /// One that a launcher starts.
    pub(super) fn new(settings: ExecSettings, launcher: Arc<Launcher>) -> Self {
        Self { exec: Exec::new(settings, launcher) }
    }
}

impl Authorizer for ExecAuthorizer {
    fn authorize<'a>(
        &'a self,
        call: &'a Authorize,
    ) -> Pin<Box<dyn Future<Output = Ruling> + Send + 'a>> {
        Box::pin(async move {
            let requests: Vec<_> = call.requests.iter().map(ToString::to_string).collect();
            let requests: Vec<_> = requests.iter().map(String::as_str).collect();
            let Authorize { user_id, verdict, .. } = *call;
            let document = Authz { user: user_id, requests: &requests, verdict }.encode();
            let Some(document) = document else {
                let why = "a request has a character that XML 1.0 does not allow";
                return Ruling { verdict: Err(why.into()), lines: Vec::new() };
            };
            let Attempt { outcome, lines } = self.exec.decide(document.into()).await;
            let verdict = match outcome {
                Outcome::Accepted(_) => Ok(()),
                Outcome::Refused(why) => Err(why),
                Outcome::Failed(failure) => Err(failure.to_string()),
            };
            Ruling { verdict, lines }
        })
    }
}
