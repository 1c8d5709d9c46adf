//! Calls that are authorized: by oned's own verdict, and by an external authorizer.

use std::fs;

use countersign_interop::runner::{Case, case};
use countersign_interop::{Context as _, Outcome, Stage, ensure};

use crate::oned::Site;

pub(crate) const CASES: &[Case] =
    &[case("authorize_by_oneds_verdict", verdicts), case("authorize_by_a_program", program)];

fn verdicts(stage: &Stage) -> Outcome {
    let site = Site::new(stage)?;
    let mut oned = site.oned("--authn a")?;
    oned.send("AUTHORIZE  0 2 VM:10:MANAGE:3:0 0\n\nAUTHORIZE  1 2 VM:10:USE:2:1 IMAGE:-:CREATE:2:1 1\n\n")?;
    oned.expect(&["AUTHORIZE FAILURE 0 -", "AUTHORIZE SUCCESS 1 -"])?;
    // Malformed ones are answered, too.
    oned.send("AUTHORIZE  2 2 VM:10 1\n\nAUTHORIZE  3 2 VM:10:USE:2:1 2\n\n")?;
    for id in [2, 3] {
        let refused = oned.answer("AUTHORIZE", id)?;
        ensure!(refused.starts_with(&format!("AUTHORIZE FAILURE {id} ")), "{refused}");
    }
    Ok(())
}

fn program(stage: &Stage) -> Outcome {
    let site = Site::new(stage)?;
    site.program(
        "z",
        "authorize",
        "#!/bin/sh\ncat > call\ngrep -q '<USERNAME>3<' call || { echo 'not 3' >&2; exit 1; }\n",
    )?;
    let mut oned = site.oned(" --authz z")?;
    oned.send("AUTHORIZE  0 2 VM:10:MANAGE:3:0 VM:11:USE:2:1 1\n\n")?;
    let refused = oned.answer("AUTHORIZE", 0)?;
    ensure!(refused == "AUTHORIZE FAILURE 0 not 3", "{refused}");
    let wanted = "<AUTHZ>\n  <USERNAME>2</USERNAME>\n  <REQUESTS>\n    <REQUEST>VM:10:MANAGE:3:0</REQUEST>\n    \
                  <REQUEST>VM:11:USE:2:1</REQUEST>\n    <REQUEST>1</REQUEST>\n  </REQUESTS>\n</AUTHZ>";
    let call = fs::read_to_string(site.var("call")).during("call")?;
    ensure!(call == wanted, "{call}");
    // It replaces the verdict.
    oned.send("AUTHORIZE  1 3 VM:10:MANAGE:3:0 0\n\n")?;
    let granted = oned.answer("AUTHORIZE", 1)?;
    ensure!(granted == "AUTHORIZE SUCCESS 1 -", "{granted}");
    Ok(())
}
