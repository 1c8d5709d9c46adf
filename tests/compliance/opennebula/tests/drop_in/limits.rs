//! Drivers that hang, and many requests.

use std::fs;
use std::time::{Duration, Instant};

use countersign_interop::runner::{Case, case};
use countersign_interop::{Outcome, Stage, ensure, wait_for};

use crate::oned::{PATIENCE, Site};

pub(crate) const CASES: &[Case] = &[
    case("a_driver_that_hangs_delays_no_other", hangs),
    case("a_cancelled_driver_ends", cancelled),
    case("a_manager_that_crashes_leaves_nothing", crashed),
    case("two_hundred_at_once", many),
];

/// Tells its process id and never ends by itself; its child does not, either.
const HANG: &str = "#!/bin/sh\necho $$ >> pids\nsleep 1000 &\nwait\n";
const FINE: &str = "#!/bin/sh\necho \"fine ada x\"\n";

/// The processes that told their id, and are there.
fn alive(site: &Site) -> Vec<String> {
    let told = fs::read_to_string(site.var("pids")).unwrap_or_default();
    told.lines()
        .filter(|pid| {
            // A zombie is nobody.
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
        })
        .map(str::to_owned)
        .collect()
}

fn hangs(stage: &Stage) -> Outcome {
    let site = Site::new(stage)?;
    site.driver("hang", HANG)?;
    site.driver("fine", FINE)?;
    site.settings(
        "[driver.exec.hang]\nprocesses = 15\ntimeout = \"3s\"\nqueue = 50\nqueue_time = \"1s\"\n",
    )?;
    let mut oned = site.oned("--authn hang,fine")?;
    let begun = Instant::now();
    for id in 0..100 {
        oned.send(&format!("AUTHENTICATE  {id} 2 hang ada - eA== \n\n"))?;
    }
    wait_for("fifteen that hang", PATIENCE, || (alive(&site).len() == 15).then_some(()))?;
    oned.send("AUTHENTICATE  500 2 fine ada - eA== \n\n")?;
    // 35 more than can wait were refused at once; the others wait.
    let mut refused = 0;
    loop {
        let line = oned.line()?;
        if line == "AUTHENTICATE SUCCESS 500 fine ada x" {
            break;
        }
        refused += usize::from(line.contains("AUTHENTICATE FAILURE"));
    }
    ensure!(refused >= 35, "{refused} were refused before it");
    ensure!(alive(&site).len() == 15 || begun.elapsed() > Duration::from_secs(3), "too few hang");
    // And every one of them is answered.
    while refused < 100 {
        refused += usize::from(oned.line()?.contains("AUTHENTICATE FAILURE"));
    }
    wait_for("their end", PATIENCE, || alive(&site).is_empty().then_some(()))
}

fn cancelled(stage: &Stage) -> Outcome {
    let site = Site::new(stage)?;
    site.driver("hang", HANG)?;
    let mut oned = site.oned("--authn hang")?;
    oned.send("AUTHENTICATE  7 2 hang ada - eA== \n\n")?;
    wait_for("the driver", PATIENCE, || (alive(&site).len() == 1).then_some(()))?;
    oned.send("DRIVER_CANCEL 7\n")?;
    wait_for("its end", PATIENCE, || alive(&site).is_empty().then_some(()))
}

fn crashed(stage: &Stage) -> Outcome {
    let site = Site::new(stage)?;
    site.driver("hang", HANG)?;
    let mut oned = site.oned("--authn hang")?;
    for id in 0..3 {
        oned.send(&format!("AUTHENTICATE  {id} 2 hang ada - eA== \n\n"))?;
    }
    wait_for("the drivers", PATIENCE, || (alive(&site).len() == 3).then_some(()))?;
    oned.crash()?;
    wait_for("their end", PATIENCE, || alive(&site).is_empty().then_some(()))
}

fn many(stage: &Stage) -> Outcome {
    let site = Site::new(stage)?;
    site.driver("fine", FINE)?;
    let mut oned = site.oned("--authn fine")?;
    let all: String =
        (0..200).map(|id| format!("AUTHENTICATE  {id} 2 fine ada - eA== \n\n")).collect();
    oned.send(&all)?;
    let mut seen = [false; 200];
    for _ in 0..200 {
        let line = oned.line()?;
        let id = line.strip_prefix("AUTHENTICATE SUCCESS ").and_then(|rest| rest.split(' ').next());
        let id = id.and_then(|id| id.parse::<usize>().ok()).filter(|id| *id < 200);
        match id {
            Some(id) => ensure!(!std::mem::replace(&mut seen[id], true), "{id} was answered twice"),
            None => ensure!(false, "{line}"),
        }
    }
    Ok(())
}
