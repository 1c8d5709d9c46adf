//! `cargo xtask dist`: a Debian package in `target/dist`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use countersign_interop::{Profile, binary};

use crate::steps::{SHORT, ask, heading, must, root, target, there};

const NAME: &str = "countersign";

pub(crate) fn main(words: &[&str]) -> Result<bool, String> {
    if let Some(word) = words.first() {
        return Err(format!("`dist` knows no `{word}`"));
    }
    if !there("dpkg-deb") {
        return Err("dpkg-deb is not here; install the package dpkg".into());
    }
    heading("building");
    let binary = binary(Profile::Release).map_err(|e| e.to_string())?;
    heading("packaging");
    let dist = target().join("dist");
    let tree = Tree::new(dist.join("tree"))?;
    fill(&tree, &binary)?;
    let control = control(&binary)?;
    let file = dist.join(format!("{NAME}_{}_{}.deb", env!("CARGO_PKG_VERSION"), architecture()?));
    tree.write("DEBIAN/control", &control, 0o644)?;
    for script in ["postinst", "prerm", "postrm"] {
        tree.copy(&root().join("dist/debian").join(script), &format!("DEBIAN/{script}"), 0o755)?;
    }
    let mut build = Command::new("dpkg-deb");
    build.args(["--root-owner-group", "-Zxz", "--build"]).arg(&tree.root).arg(&file);
    must(&mut build, SHORT)?;
    check(&file, &dist.join("check"))?;
    println!("\n{}", file.display());
    Ok(true)
}

/// Everything that will be on the user's disk.
fn fill(tree: &Tree, binary: &Path) -> Result<(), String> {
    let dist = root().join("dist");
    tree.copy(binary, "usr/bin/countersign", 0o755)?;
    // Symbols would make the package four times as large; a backtrace keeps its names.
    if there("strip") {
        let file = tree.root.join("usr/bin/countersign");
        must(Command::new("strip").arg("--strip-debug").arg(file), SHORT)?;
    }
    for (from, to) in [
        ("countersign.service", "usr/lib/systemd/system/countersign.service"),
        ("countersign.socket", "usr/lib/systemd/system/countersign.socket"),
        ("countersign.sysusers", "usr/lib/sysusers.d/countersign.conf"),
        ("debian/copyright", "usr/share/doc/countersign/copyright"),
    ] {
        tree.copy(&dist.join(from), to, 0o644)?;
    }
    for page in ["README.md", "SECURITY.md"] {
        let from = root().join(page);
        if from.is_file() {
            tree.copy(&from, &format!("usr/share/doc/countersign/{page}"), 0o644)?;
        }
    }
    generated(tree, binary)
}

/// Man pages and completions, which the program itself knows best.
fn generated(tree: &Tree, binary: &Path) -> Result<(), String> {
    for what in ["man", "completions"] {
        let folder = tree.root.with_extension(what);
        fresh(&folder)?;
        must(Command::new(binary).args(["generate", what]).arg(&folder), SHORT)?;
        let mut found = 0;
        for entry in fs::read_dir(&folder).map_err(at(&folder))?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(to) = place(&name) else {
                return Err(format!("`countersign generate {what}` made `{name}`: where to?"));
            };
            tree.copy(&entry.path(), &to, 0o644)?;
            if to.starts_with("usr/share/man") {
                // -n: no time stamp, so that the same commit gives the same package.
                must(Command::new("gzip").arg("-9n").arg(tree.root.join(&to)), SHORT)?;
            }
            found += 1;
        }
        if found == 0 {
            return Err(format!("`countersign generate {what}` made nothing"));
        }
    }
    Ok(())
}

/// Where a generated file belongs, by its name.
fn place(name: &str) -> Option<String> {
    let (stem, end) = name.rsplit_once('.').unwrap_or((name, ""));
    Some(match end {
        "bash" => format!("usr/share/bash-completion/completions/{stem}"),
        "fish" => format!("usr/share/fish/vendor_completions.d/{name}"),
        "1" | "5" | "8" => format!("usr/share/man/man{end}/{name}"),
        "" if name.starts_with('_') => format!("usr/share/zsh/vendor-completions/{name}"),
        // PowerShell and Elvish are made too, and nobody looks for them on Debian.
        "ps1" | "elv" => format!("usr/share/doc/countersign/completions/{name}"),
        _ => return None,
    })
}

fn control(binary: &Path) -> Result<String, String> {
    let bytes = fs::read(binary).map_err(at(binary))?;
    let glibc = newest_glibc(&bytes).ok_or("the binary names no glibc version")?;
    Ok(format!(
        "Package: {NAME}\n\
         Version: {version}\n\
         Architecture: {architecture}\n\
         Maintainer: The Countersign maintainers <maintainers@countersign.invalid>\n\
         Section: net\n\
         Priority: optional\n\
         Depends: libc6 (>= {}.{}), libgcc-s1\n\
         Suggests: postfix | exim4-daemon-heavy, sasl2-bin\n\
         Homepage: https://github.com/countersign-auth/countersign\n\
         Description: pluggable authentication for servers\n \
         Any protocol, any way of proving who you are, any application, wired together\n \
         when they are deployed. Answers mail servers over Dovecot's protocol, Cyrus SASL\n \
         over saslauthd's socket, and everything else over HTTP, from one store of\n \
         accounts and one policy.\n",
        glibc.0,
        glibc.1,
        version = env!("CARGO_PKG_VERSION"),
        architecture = architecture()?,
    ))
}

fn architecture() -> Result<String, String> {
    ask(Command::new("dpkg").arg("--print-architecture"))
        .map(|name| name.trim().to_owned())
        .ok_or_else(|| "dpkg does not tell its architecture".into())
}

/// The newest `GLIBC_a.b` that the program's symbols need; older systems cannot start it.
fn newest_glibc(binary: &[u8]) -> Option<(u32, u32)> {
    const MARK: &[u8] = b"GLIBC_";
    memchr::memmem::find_iter(binary, MARK)
        .filter_map(|at| {
            let rest = &binary[at + MARK.len()..];
            let end = rest.iter().position(|b| !(b.is_ascii_digit() || *b == b'.'))?;
            let mut numbers = std::str::from_utf8(&rest[..end]).ok()?.split('.');
            Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
        })
        .max()
}

/// Unpacks the finished package and asks its program whether it lives.
fn check(file: &Path, folder: &Path) -> Result<(), String> {
    fresh(folder)?;
    must(Command::new("dpkg-deb").arg("-x").arg(file).arg(folder), SHORT)?;
    must(Command::new("dpkg-deb").arg("--info").arg(file), SHORT)?;
    must(Command::new(folder.join("usr/bin/countersign")).arg("--version"), SHORT)?;
    if there("systemd-analyze") {
        unit(folder)?;
    }
    Ok(())
}

/// systemd's own reader finds nothing to complain about, which it does on its output alone.
fn unit(folder: &Path) -> Result<(), String> {
    let from = folder.join("usr/lib/systemd/system/countersign.service");
    let text = fs::read_to_string(&from).map_err(at(&from))?;
    // It wants the program to be where the unit says; here that is in the unpacked package.
    let there = folder.join("usr/bin/countersign");
    let copy = folder.join("countersign.service");
    let text = text.replace("/usr/bin/countersign", &there.display().to_string());
    fs::write(&copy, text).map_err(at(&copy))?;
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no"]).arg(&copy);
    let done = countersign_interop::run(&mut verify, "", SHORT).map_err(|e| e.to_string())?;
    let name = copy.display().to_string();
    let said: Vec<_> = done.err.lines().filter(|line| line.contains(&name)).collect();
    if said.is_empty() { Ok(()) } else { Err(said.join("; ")) }
}

fn at(path: &Path) -> impl Fn(std::io::Error) -> String {
    let path = path.display().to_string();
    move |e| format!("{path}: {e}")
}

fn fresh(folder: &Path) -> Result<(), String> {
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(at(folder))?;
    }
    fs::create_dir_all(folder).map_err(at(folder))
}

/// The package's content before it is packed.
struct Tree {
    root: PathBuf,
}

impl Tree {
    fn new(root: PathBuf) -> Result<Self, String> {
        fresh(&root)?;
        // dpkg unpacks folders with the modes that they have here.
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).map_err(at(&root))?;
        Ok(Self { root })
    }

    fn path(&self, to: &str) -> Result<PathBuf, String> {
        let path = self.root.join(to);
        let mut folder = self.root.clone();
        for part in Path::new(to).parent().into_iter().flat_map(Path::components) {
            folder.push(part);
            if !folder.is_dir() {
                fs::create_dir(&folder).map_err(at(&folder))?;
                fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))
                    .map_err(at(&folder))?;
            }
        }
        Ok(path)
    }

    fn copy(&self, from: &Path, to: &str, mode: u32) -> Result<(), String> {
        let path = self.path(to)?;
        fs::copy(from, &path).map_err(at(from))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).map_err(at(&path))
    }

    fn write(&self, to: &str, text: &str, mode: u32) -> Result<(), String> {
        let path = self.path(to)?;
        fs::write(&path, text).map_err(at(&path))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).map_err(at(&path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_counts_and_not_the_last() {
        let bytes = b"\0GLIBC_2.17\0GLIBC_2.34\0GLIBC_2.4\0GLIBC_PRIVATE\0";
        assert_eq!(newest_glibc(bytes), Some((2, 34)));
        assert_eq!(newest_glibc(b"static"), None);
    }

    #[test]
    fn generated_files_have_a_place() {
        assert_eq!(place("countersign-user.1").unwrap(), "usr/share/man/man1/countersign-user.1");
        let bash = place("countersign.bash").unwrap();
        assert_eq!(bash, "usr/share/bash-completion/completions/countersign");
        assert_eq!(place("_countersign").unwrap(), "usr/share/zsh/vendor-completions/_countersign");
        assert_eq!(place("notes.txt"), None);
    }
}
