//! nginx as a proxy for mail: it asks us who may log in, and where to.

use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use crate::{Outcome, Peer, Stage, free_port, need};

const LIMIT: Duration = Duration::from_secs(20);
const MODULE: &str = "/usr/lib/nginx/modules/ngx_mail_module.so";

/// A running nginx that proxies IMAP and SMTP.
#[derive(Debug)]
pub struct NginxMail {
    /// Where IMAP listens on 127.0.0.1.
    pub imap: u16,
    /// Where SMTP listens on 127.0.0.1.
    pub smtp: u16,
    _nginx: Peer,
}

impl NginxMail {
    /// Starts it; it asks at `http` (`127.0.0.1:PORT`), with this key.
    ///
    /// # Errors
    /// [`NotRun`](crate::Trouble::NotRun) without nginx or its mail module.
    pub fn start(stage: &Stage, http: &str, key: &str) -> Outcome<Self> {
        let program = need("nginx", "nginx")?;
        need(MODULE, "libnginx-mod-mail")?;
        let folder = stage.folder("nginx-mail")?;
        let (imap, smtp) = (free_port()?, free_port()?);
        let config = format!(
            "daemon off;\n\
             master_process off;\n\
             pid {folder}/pid;\n\
             error_log {folder}/error.log info;\n\
             load_module {MODULE};\n\
             events {{ }}\n\
             mail {{\n  \
             auth_http {http}/mail-auth;\n  \
             auth_http_header X-Auth-Key {key};\n  \
             server {{\n    listen 127.0.0.1:{imap};\n    protocol imap;\n    imap_auth plain login;\n  }}\n  \
             server {{\n    listen 127.0.0.1:{smtp};\n    protocol smtp;\n    smtp_auth plain login;\n    \
             xclient off;\n    server_name mail.test;\n  }}\n}}\n",
            folder = folder.display(),
        );
        let config = stage.file("nginx-mail/nginx.conf", &config)?;
        let log = folder.join("error.log");
        let mut nginx = Peer::start(
            stage,
            "nginx-mail",
            Command::new(program).arg("-e").arg(log).arg("-p").arg(&folder).arg("-c").arg(config),
        )?;
        for port in [imap, smtp] {
            nginx
                .until("nginx listening", LIMIT, || TcpStream::connect(("127.0.0.1", port)).ok())?;
        }
        Ok(Self { imap, smtp, _nginx: nginx })
    }
}
