//! The limits that a launcher takes upon itself.

use std::io;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetStatus, path_beneath_rules,
};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, set_child_subreaper, set_dumpable_behavior,
    setpriority_process, setrlimit,
};
use rustix::thread::{set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::confinement::{Access, Confinement, User};

/// Confines this process, which has one thread. Gives back what the kernel could not do of it.
///
/// # Errors
/// What is impossible, with the remedy: the launcher then starts nothing.
pub(super) fn confine(confinement: &Confinement) -> Result<String, String> {
    let Confinement { user, limits, nice, may_gain_privileges, access, .. } = confinement;
    let failed =
        |what: &'static str| move |error: rustix::io::Errno| format!("cannot {what}: {error}");
    set_child_subreaper(rustix::process::Pid::from_raw(1))
        .map_err(failed("take processes in that others leave"))?;
    set(Resource::Core, Some(0)).map_err(failed("switch core files off"))?;
    if *nice > 0 {
        setpriority_process(None, (*nice).into()).map_err(failed("set `nice`"))?;
    }
    for (resource, limit, name) in [
        (Resource::Nofile, Some(limits.files), "files"),
        (Resource::Fsize, limits.file_size, "file_size"),
        (Resource::Data, limits.memory, "memory"),
        (Resource::Nproc, limits.processes, "processes"),
    ] {
        set(resource, limit).map_err(|error| {
            format!("cannot set the limit `{name}`: {error}; is it above the hard limit?")
        })?;
    }
    if let Some(User { uid, gid, groups }) = user {
        become_user(*uid, *gid, groups).map_err(|error| {
            format!(
                "cannot run as user {uid}: {error}; leave `user` out, or start the server as root"
            )
        })?;
    }
    // Drivers that run as the same user are not to look into it.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(failed("keep others from looking into it"))?;
    if !may_gain_privileges {
        set_no_new_privs(true).map_err(failed("give up new privileges"))?;
    }
    match access {
        None => Ok(String::new()),
        Some(access) => restrict(access).map_err(|error| format!("Landlock: {error}")),
    }
}

/// Both limits: a process that could raise its own again would not be limited.
fn set(resource: Resource, limit: Option<u64>) -> rustix::io::Result<()> {
    let Some(limit) = limit else { return Ok(()) };
    setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })
}

fn become_user(uid: u32, gid: u32, groups: &[u32]) -> io::Result<()> {
    use rustix::process::{Gid, Uid};
    let number = |number: u32, what| match number {
        u32::MAX => Err(io::Error::other(what)),
        number => Ok(number),
    };
    let uid = Uid::from_raw(number(uid, "the number stands for none")?);
    let gid = Gid::from_raw(number(gid, "the group's number stands for none")?);
    let groups: Vec<Gid> = groups.iter().map(|&group| Gid::from_raw(group)).collect();
    set_thread_groups(&groups)?;
    set_thread_res_gid(gid, gid, gid)?;
    Ok(set_thread_res_uid(uid, uid, uid)?)
}

/// The newest rules that are known here; an older kernel does what it can.
const KNOWN: ABI = ABI::V4;

fn restrict(access: &Access) -> Result<String, String> {
    for path in access.read.iter().chain(&access.write) {
        // Landlock's crate leaves out what is not there, and the driver would not find it.
        path.metadata().map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let wrong = |error: landlock::RulesetError| error.to_string();
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(KNOWN))
        .map_err(wrong)?;
    if !access.network {
        rules = rules.handle_access(AccessNet::from_all(KNOWN)).map_err(wrong)?;
    }
    let status = rules
        .create()
        .map_err(wrong)?
        .add_rules(path_beneath_rules(&access.read, AccessFs::from_read(KNOWN)))
        .map_err(wrong)?
        .add_rules(path_beneath_rules(&access.write, AccessFs::from_all(KNOWN)))
        .map_err(wrong)?
        .no_new_privs(false)
        .restrict_self()
        .map_err(wrong)?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => String::new(),
        RulesetStatus::PartiallyEnforced => {
            "this kernel has an older Landlock, and enforces a part of what is configured".into()
        }
        RulesetStatus::NotEnforced => {
            "this kernel has no Landlock: only the user's permissions count".into()
        }
    })
}
