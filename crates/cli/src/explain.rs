//! `countersign explain`: what would happen at a login, and what did happen, without secrets.

use countersign::Carrier as _;
use countersign_sasl::{Login, Plain};
use countersign_server::admin::{AdminErrorKind, AuditQuery, UserView};

use crate::args::ExplainArgs;
use crate::check::{build, mechanisms, order};
use crate::failure::Failure;
use crate::moment::now;
use crate::place::{Place, block_on};
use crate::table::shown;
use crate::{audit, user};

pub(crate) fn run(args: &ExplainArgs) -> Result<(), Failure> {
    let place = Place::of(&args.place)?;
    let ExplainArgs { name, service, mechanism, limit, .. } = args;
    let (account, events) = block_on(async {
        let admin = place.admin().await?;
        let account = match admin.user(name).await {
            Ok(account) => Some(account),
            Err(error) if error.kind() == AdminErrorKind::NotFound => None,
            Err(error) => return Err(error.into()),
        };
        let query =
            AuditQuery { user: Some(name.clone()), limit: Some(*limit), ..AuditQuery::default() };
        Ok((account, admin.audit(query).await?))
    })?;
    println!("{} at {}\n\naccount", shown(name), shown(service));
    match &account {
        Some(account) => user::details(account),
        None => println!("there is no account of this name in {}", place.config.store),
    }
    would(&place, account.as_ref(), mechanism.as_deref())?;
    println!("\nlast decisions");
    match events.is_empty() {
        true => println!("nothing is recorded about this name"),
        false => audit::show(&events),
    }
    Ok(())
}

/// Who would be asked, in which order, and what the accounts would say to a right password.
fn would(place: &Place, account: Option<&UserView>, wanted: Option<&str>) -> Result<(), Failure> {
    let checkers = block_on(build(place))?;
    println!("\nwould be asked; {}", order(place.config.order));
    let mut asked = 0;
    for (checker, built) in place.config.checkers.iter().zip(&checkers) {
        let (name, settings) = checker;
        let checker = match built {
            Ok(checker) => checker,
            Err(error) => {
                println!("  -  {name} cannot be asked, so the server would not start: {error}");
                continue;
            }
        };
        if let Some(wanted) = wanted
            && !checker.mechanisms().iter().any(|mechanism| mechanism.is(inner(wanted)))
        {
            println!("  -  {name} does not offer {}", shown(wanted));
            continue;
        }
        asked += 1;
        println!("  {asked}. {name}: {}", settings.describe());
        println!("     offers {}", mechanisms(checker.as_ref()));
        if name.starts_with("accounts.") {
            println!("     {}", verdict(account));
        }
    }
    if asked == 0 {
        println!("  nobody: the login would be refused as unsupported");
    }
    Ok(())
}

/// What is inside of a SASL mechanism that only carries another.
fn inner(mechanism: &str) -> &str {
    let carriers = [(Plain.name(), Plain.carries()), (Login.name(), Login.carries())];
    let carried = carriers.iter().find(|(outer, _)| outer.eq_ignore_ascii_case(mechanism));
    carried.map_or(mechanism, |(_, inner)| inner)
}

/// What the accounts say to somebody who types the right password.
fn verdict(account: Option<&UserView>) -> &'static str {
    let Some(account) = account else { return "would say: unknown user" };
    let password = account.credentials.iter().any(|credential| {
        credential.kind == "password" && credential.expires.is_none_or(|at| at.0 > now())
    });
    match user::state(account.enabled, account.expires) {
        "disabled" => "would refuse: the account is disabled (`user set NAME --enable`)",
        "expired" => "would refuse: the account has expired (`user set NAME --expires never`)",
        _ if !password => "would refuse: the account has no password (`user passwd NAME`)",
        _ if account.must_change => {
            "would take the right password, then ask for a new one; refuses where nothing can be asked \
             (mail protocols)"
        }
        _ => "would let in with the right password",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carriers_are_taken_off() {
        assert_eq!(inner("plain"), "password");
        assert_eq!(inner("LOGIN"), "password");
        assert_eq!(inner("EXTERNAL"), "EXTERNAL");
    }
}
