//! The software on the other side, from Debian's archive, and no service started.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::steps::{SHORT, ask, heading, must, target, there};

/// Packages that can live beside each other, with a program or file by which each is recognised.
const INSTALLED: [(&str, &str); 33] = [
    ("postfix", "postconf"),
    ("swaks", "swaks"),
    ("gsasl", "gsasl"),
    ("mpop", "mpop"),
    ("sasl2-bin", "testsaslauthd"),
    // Its modules are in a folder of the machine's architecture.
    ("libsasl2-modules", "/usr/share/doc/libsasl2-modules/copyright"),
    ("dovecot-core", "dovecot"),
    ("dovecot-sqlite", "/usr/lib/dovecot/modules/libdriver_sqlite.so"),
    ("sqlite3", "sqlite3"),
    ("tmux", "tmux"),
    ("curl", "curl"),
    ("chromium", "chromium"),
    ("chromium-driver", "chromedriver"),
    ("dovecot-imapd", "/usr/lib/dovecot/imap"),
    ("dovecot-lmtpd", "/usr/lib/dovecot/lmtp"),
    ("libnginx-mod-mail", "/usr/lib/nginx/modules/ngx_mail_module.so"),
    ("postgresql", "pg_ctlcluster"),
    ("nginx-light", "nginx"),
    ("caddy", "caddy"),
    ("prometheus", "promtool"),
    ("slapd", "slapd"),
    ("mariadb-server", "mariadbd"),
    ("fetchmail", "fetchmail"),
    ("isync", "mbsync"),
    ("mutt", "mutt"),
    ("wget", "wget"),
    ("libneon27-gnutls", "/usr/share/doc/libneon27-gnutls/copyright"),
    ("python3-requests", "/usr/lib/python3/dist-packages/requests/__init__.py"),
    ("capnproto", "capnp"),
    ("openssh-client", "ssh"),
    // The other side of OpenNebula's tokens.
    ("openssl", "openssl"),
    ("ruby", "ruby"),
    // The example of OpenNebula's manual.
    ("libxml2-utils", "xmllint"),
];

/// OpenSSH's regression tests, for the FIDO key in software that is among them. They depend on a server, so that they
/// are only unpacked.
const SOFTWARE_KEY: &str = "openssh-tests";

/// Exim cannot be installed beside Postfix, so it is only unpacked. The second package shows
/// it a user database with its own user in it.
const UNPACKED: [&str; 2] = ["exim4-daemon-heavy", "libnss-wrapper"];

const APT_LIMIT: Duration = Duration::from_secs(15 * 60);

/// Services of the packages above, which Debian enables for the next start of the machine.
const SERVICES: [(&str, &str); 9] = [
    ("postfix", "postfix.service"),
    ("dovecot-core", "dovecot.service"),
    ("sasl2-bin", "saslauthd.service"),
    ("postgresql", "postgresql.service"),
    ("nginx-light", "nginx.service"),
    ("caddy", "caddy.service"),
    ("prometheus", "prometheus.service"),
    ("slapd", "slapd.service"),
    ("mariadb-server", "mariadb.service"),
];

/// Installs and unpacks what is missing.
///
/// # Errors
/// Says what could not be had and why; the cases that need it will say so again.
pub(crate) fn provide() -> Result<(), String> {
    let missing: Vec<&str> = INSTALLED
        .iter()
        .filter(|(_, program)| !there(program))
        .map(|(package, _)| *package)
        .collect();
    let exim = target().join("peers/exim");
    let software_key = target().join("peers").join(SOFTWARE_KEY);
    if missing.is_empty() && exim.is_dir() && software_key.is_dir() {
        return Ok(());
    }
    heading("packages");
    if !there("apt-get") {
        return Err(format!("no apt-get here to install {} and exim", missing.join(" ")));
    }
    let mut trouble = Vec::new();
    if !missing.is_empty() {
        trouble.extend(install(&missing).err());
    }
    if !exim.is_dir() {
        let wanted = libraries().map(|libraries| {
            UNPACKED.iter().map(ToString::to_string).chain(libraries).collect::<BTreeSet<_>>()
        });
        trouble.extend(wanted.and_then(|wanted| unpack(&exim, &wanted)).err());
    }
    if !software_key.is_dir() {
        let wanted = BTreeSet::from([SOFTWARE_KEY.to_owned()]);
        trouble.extend(unpack(&software_key, &wanted).err());
    }
    if trouble.is_empty() { Ok(()) } else { Err(trouble.join("; ")) }
}

fn apt(words: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command
        .args(["-o", "DPkg::Lock::Timeout=120", "-o", "Acquire::Retries=2"])
        .args(words)
        .env("DEBIAN_FRONTEND", "noninteractive")
        // Maintainer scripts look at these before they start a service.
        .env("RUNLEVEL", "1")
        .env("SYSTEMD_OFFLINE", "1")
        .stdin(std::process::Stdio::null());
    command
}

fn install(missing: &[&str]) -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err(format!("only root can install {}", missing.join(" ")));
    }
    let _quiet = NoServices::begin()?;
    if missing.contains(&"postfix") {
        // No main.cf in /etc: the machine gets the program and no mail server.
        let choice = "postfix postfix/main_mailer_type select No configuration\n";
        let mut select = Command::new("debconf-set-selections");
        let _ = countersign_interop::run(&mut select, choice, SHORT);
    }
    // --no-remove: a machine that has another mail server keeps it.
    let words = ["install", "--yes", "--no-install-recommends", "--no-remove"];
    let all: Vec<&str> = words.iter().chain(missing).copied().collect();
    let mut done = must(&mut apt(&all), APT_LIMIT);
    if done.is_err() {
        must(&mut apt(&["update"]), APT_LIMIT)?;
        done = must(&mut apt(&all), APT_LIMIT);
    }
    let mut trouble = Vec::new();
    if done.is_err() {
        // One that cannot be had must not keep the others away.
        for package in missing {
            let one: Vec<&str> = words.iter().copied().chain([*package]).collect();
            if must(&mut apt(&one), APT_LIMIT).is_err() {
                trouble.push(format!("apt-get cannot install {package}"));
            }
        }
    }
    for (package, service) in SERVICES {
        if missing.contains(&package) && there("systemctl") {
            // Offline: only the links that the installation made are taken away again.
            let mut disable = Command::new("systemctl");
            let _ = ask(disable.args(["--root=/", "--quiet", "disable", service]));
        }
    }
    if trouble.is_empty() { Ok(()) } else { Err(trouble.join("; ")) }
}

/// While it lives, Debian's maintainer scripts may start nothing.
struct NoServices {
    ours: bool,
}

impl NoServices {
    const PATH: &str = "/usr/sbin/policy-rc.d";

    fn begin() -> Result<Self, String> {
        let path = Path::new(Self::PATH);
        // Somebody else's answer, as in most containers, stays; ours would be the same.
        if path.exists() {
            return Ok(Self { ours: false });
        }
        let say = |e: std::io::Error| format!("{}: {e}", Self::PATH);
        fs::write(path, "#!/bin/sh\nexit 101\n").map_err(say)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(say)?;
        Ok(Self { ours: true })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours {
            let _ = fs::remove_file(Self::PATH);
        }
    }
}

/// Unpacks packages into a private folder.
fn unpack(folder: &Path, wanted: &BTreeSet<String>) -> Result<(), String> {
    let say = |what: &Path| {
        let what = what.display().to_string();
        move |e: std::io::Error| format!("{what}: {e}")
    };
    let debs = folder.with_extension("debs");
    let part = folder.with_extension("part");
    for path in [&debs, &part] {
        if path.exists() {
            fs::remove_dir_all(path).map_err(say(path))?;
        }
        fs::create_dir_all(path).map_err(say(path))?;
    }
    let mut words = vec!["download"];
    words.extend(wanted.iter().map(String::as_str));
    let download = || must(apt(&words).current_dir(&debs), APT_LIMIT);
    if download().is_err() {
        if rustix::process::geteuid().is_root() {
            must(&mut apt(&["update"]), APT_LIMIT)?;
        }
        download().map_err(|e| format!("apt-get cannot download {}: {e}", folder.display()))?;
    }
    for deb in fs::read_dir(&debs).map_err(say(&debs))?.flatten() {
        must(Command::new("dpkg").arg("-x").arg(deb.path()).arg(&part), SHORT)?;
    }
    // Whole or not at all: only a complete folder gets the name that is looked for.
    fs::rename(&part, folder).map_err(say(folder))?;
    fs::remove_dir_all(&debs).map_err(say(&debs))
}

/// The libraries that Exim depends on, at any depth, and that are not installed.
fn libraries() -> Result<BTreeSet<String>, String> {
    let mut depends = Command::new("apt-cache");
    depends.args(["depends", "--recurse", "--no-recommends", "--no-suggests", "--no-conflicts"]);
    depends.args(["--no-breaks", "--no-replaces", "--no-enhances"]).args(UNPACKED);
    let all = ask(&mut depends).ok_or("apt-cache does not know Exim")?;
    let mut installed = BTreeSet::new();
    let mut query = Command::new("dpkg-query");
    query.args(["-W", "-f", "${db:Status-Abbrev} ${Package}\n"]);
    for line in ask(&mut query).unwrap_or_default().lines() {
        if let Some(name) = line.strip_prefix("ii ") {
            installed.insert(name.trim().to_owned());
        }
    }
    Ok(lacking(&all, &installed))
}

fn lacking(depends: &str, installed: &BTreeSet<String>) -> BTreeSet<String> {
    depends
        .lines()
        .filter(|line| line.starts_with("lib") && !line.ends_with("-perl"))
        .map(|line| line.split(':').next().unwrap_or(line).trim().to_owned())
        .filter(|name| !installed.contains(name))
        .collect()
}

/// The version of an installed package, for a report.
pub(crate) fn version(package: &str) -> Option<String> {
    let mut query = Command::new("dpkg-query");
    query.args(["-W", "-f", "${Version}", package]);
    ask(&mut query)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_libraries_that_are_missing_are_unpacked() {
        let depends =
            "exim4-daemon-heavy\n  Depends: libc6\nlibc6\nlibidn12\nlibfoo-perl\nlibx:i386\n";
        let installed = BTreeSet::from(["libc6".to_owned()]);
        let lacking: Vec<_> = lacking(depends, &installed).into_iter().collect();
        assert_eq!(lacking, ["libidn12", "libx"]);
    }
}
