//! A private OpenLDAP server.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::postgres::{lowly, own};
use crate::{Context, Outcome, Peer, Stage, Trouble, ensure, free_port, need, run};

const LIMIT: Duration = Duration::from_secs(30);
const PACKAGE: &str = "slapd";

/// A directory under `dc=example` in a private folder, on loopback.
#[derive(Debug)]
pub struct Slapd {
    /// Its port on 127.0.0.1 for `ldap://`, where StartTLS is, too.
    pub port: u16,
    /// Its port for `ldaps://`.
    pub tls_port: u16,
    server: Option<Peer>,
    // Last, so that the server ends before its folder does.
    stage: Stage,
}

/// The server's certificate chain and key, and who vouches for it, as PEM.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// The chain, leaf first.
    pub chain: String,
    /// The key.
    pub key: String,
}

impl Slapd {
    /// Fills a directory with entries (LDIF) and starts its server. Password policies are enforced, by
    /// `cn=policy,dc=example` where that is.
    ///
    /// # Errors
    /// [`NotRun`](Trouble::NotRun) without the package.
    pub fn start(ldif: &str, certificate: Option<&Certificate>) -> Outcome<Self> {
        let (_, slapadd) = (need("slapd", PACKAGE)?, need("slapadd", PACKAGE)?);
        let stage = Stage::new()?;
        let folder = stage.folder("slapd")?;
        let mut text = String::new();
        for schema in ["core", "cosine", "inetorgperson", "nis"] {
            let path = format!("/etc/ldap/schema/{schema}.schema");
            if !PathBuf::from(&path).is_file() {
                return Err(Trouble::not_run(format!("no {path} here")));
            }
            text += &format!("include {path}\n");
        }
        text += "modulepath /usr/lib/ldap\nmoduleload back_mdb\nmoduleload ppolicy\nmoduleload memberof\n";
        text += &format!("pidfile {}\n", folder.join("pid").display());
        if let Some(certificate) = certificate {
            for (name, pem, setting) in [
                ("chain.pem", &certificate.chain, "TLSCertificateFile"),
                ("key.pem", &certificate.key, "TLSCertificateKeyFile"),
            ] {
                fs::write(folder.join(name), pem).during(name)?;
                text += &format!("{setting} {}\n", folder.join(name).display());
            }
        }
        let data = stage.folder("slapd/data")?;
        text += &format!(
            "database mdb\nsuffix dc=example\nrootdn cn=admin,dc=example\nrootpw {}\ndirectory {}\n\
             overlay ppolicy\nppolicy_default cn=policy,dc=example\nppolicy_use_lockout\noverlay memberof\n\
             access to attrs=userPassword by * auth\naccess to * by * read\n",
            Self::PASSWORD,
            data.display(),
        );
        let conf = folder.join("slapd.conf");
        fs::write(&conf, text).during(conf.display())?;
        own(&folder)?;
        let mut add = lowly(&slapadd)?;
        let filled = run(add.arg("-f").arg(&conf).current_dir(&folder), ldif, LIMIT)?;
        ensure!(filled.code == Some(0), "slapadd: {}{}", filled.out, filled.err);
        let (port, tls_port) = (free_port()?, free_port()?);
        let mut this = Self { port, tls_port, server: None, stage };
        this.resume()?;
        Ok(this)
    }

    /// The administrator of the directory.
    pub const ADMIN: &'static str = "cn=admin,dc=example";
    /// Their password.
    pub const PASSWORD: &'static str = "s3cret";

    /// Where it answers in clear text.
    pub fn url(&self) -> String {
        format!("ldap://127.0.0.1:{}", self.port)
    }

    /// Where it answers with TLS.
    pub fn tls_url(&self) -> String {
        format!("ldaps://localhost:{}", self.tls_port)
    }

    /// Ends the server, and every connection with it.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop(&mut self) -> Outcome {
        match self.server.take() {
            Some(server) => server.kill().map(drop),
            None => Ok(()),
        }
    }

    /// Starts the server again on the same data and the same ports.
    ///
    /// # Errors
    /// When it does not answer in time.
    pub fn resume(&mut self) -> Outcome {
        let folder = self.stage.at("slapd");
        let mut command = lowly(&need("slapd", PACKAGE)?)?;
        let urls = format!("{}/ ldaps://127.0.0.1:{}/", self.url(), self.tls_port);
        command.args(["-d", "0", "-h", &urls, "-f"]).arg(folder.join("slapd.conf"));
        let mut server = Peer::start(&self.stage, "slapd", command.current_dir(&folder))?;
        let address = ("127.0.0.1", self.port);
        server.until("slapd answering", LIMIT, || std::net::TcpStream::connect(address).ok())?;
        self.server = Some(server);
        Ok(())
    }

    /// What the server logged.
    pub fn log(&self) -> String {
        self.server.as_ref().map(Peer::log).unwrap_or_default()
    }
}
