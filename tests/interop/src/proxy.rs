//! nginx and Caddy with configurations of ours, beside a site that tells which identity it was told.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::{Context, Outcome, Peer, Stage, free_port, need, wait_for};

const LIMIT: Duration = Duration::from_secs(20);

/// A running proxy with its site.
#[derive(Debug)]
pub struct Proxy {
    /// The port of 127.0.0.1 where it listens.
    pub port: u16,
    peer: Peer,
}

impl Proxy {
    /// nginx with what belongs into `http { … }`. In it, `listen 80` becomes the proxy's port and
    /// `127.0.0.1:3000` the site's.
    pub fn nginx(stage: &Stage, http: &str) -> Outcome<Self> {
        let program = need("nginx", "nginx-light")?;
        let folder = stage.folder("nginx")?;
        let (port, site) = (free_port()?, free_port()?);
        let http = http
            .replace("listen 80;", &format!("listen 127.0.0.1:{port};"))
            .replace("127.0.0.1:3000", &format!("127.0.0.1:{site}"));
        let temp = |name: &str| format!("{name}_temp_path {};\n", folder.join(name).display());
        let temps: String =
            ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].into_iter().map(temp).collect();
        let told = "user=$http_remote_user groups=$http_remote_groups labels=$http_remote_labels \
                    name=$http_remote_name email=$http_remote_email\\n";
        // As root, the workers would run as a user who cannot read the folder.
        let user = if rustix::process::geteuid().is_root() { "user root;\n" } else { "" };
        let text = format!(
            "{user}daemon off;\nworker_processes 1;\npid {pid};\nerror_log stderr;\n\
             events {{ worker_connections 256; }}\n\
             http {{\naccess_log off;\n{temps}{http}\n\
             server {{ listen 127.0.0.1:{site}; location / {{ return 200 \"{told}\"; }} }}\n}}\n",
            pid = folder.join("pid").display(),
        );
        let config = stage.file("nginx/nginx.conf", &text)?;
        let mut command = Command::new(program);
        command.arg("-p").arg(&folder).arg("-c").arg(config).args(["-e", "stderr"]);
        Self::start(stage, "nginx", &mut command, port)
    }

    /// Caddy with this Caddyfile, in which `site` is the address of its one site, `host` stands for
    /// `http://HOST:PORT`, and `127.0.0.1:3000` for the site behind it.
    pub fn caddy(stage: &Stage, caddyfile: &str, host: &str) -> Outcome<Self> {
        let program = need("caddy", "caddy")?;
        let folder = stage.folder("caddy")?;
        let (port, site) = (free_port()?, free_port()?);
        let caddyfile = caddyfile
            .replace(&format!("{host} {{"), &format!("http://{host}:{port} {{\n\tbind 127.0.0.1"))
            .replace("127.0.0.1:3000", &format!("127.0.0.1:{site}"));
        let told = "user={header.Remote-User} groups={header.Remote-Groups} \
                    labels={header.Remote-Labels} name={header.Remote-Name} \
                    email={header.Remote-Email}";
        let text = format!(
            "{{\n\tadmin off\n\tauto_https off\n}}\n{caddyfile}\n\
             http://:{site} {{\n\tbind 127.0.0.1\n\trespond \"{told}\n\"\n}}\n"
        );
        let config = stage.file("caddy/Caddyfile", &text)?;
        let mut command = Command::new(program);
        command.args(["run", "--adapter", "caddyfile", "--config"]).arg(config);
        let home = |command: &mut Command, path: &Path| {
            for variable in ["HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"] {
                command.env(variable, path);
            }
        };
        home(&mut command, &folder);
        Self::start(stage, "caddy", &mut command, port)
    }

    fn start(stage: &Stage, name: &str, command: &mut Command, port: u16) -> Outcome<Self> {
        let mut peer = Peer::start(stage, name, command)?;
        peer.until(&format!("{name} listening"), LIMIT, || {
            std::net::TcpStream::connect(("127.0.0.1", port)).ok()
        })?;
        Ok(Self { port, peer })
    }

    /// What it logged.
    pub fn log(&self) -> String {
        self.peer.log()
    }
}

/// The lines of the first block of this language in a page of the guide.
///
/// # Errors
/// When there is none.
pub fn fenced(page: &str, language: &str) -> Outcome<String> {
    let (_, rest) = page.split_once(&format!("```{language}\n")).during(language)?;
    Ok(rest.split_once("```").during("its end")?.0.to_owned())
}

/// Raises the number of files that this process and its children may open to what they may at most, and
/// gives it.
pub fn many_files() -> u64 {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Waits until something is so, with the usual patience.
///
/// # Errors
/// When it never was.
pub fn eventually(what: &str, mut so: impl FnMut() -> bool) -> Outcome {
    wait_for(what, LIMIT, || so().then_some(()))
}
