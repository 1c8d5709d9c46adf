//! `countersign import …`: users of another system, with their hashes as they are.

mod entry;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};

use countersign_checkers::hash::Accept;
use countersign_server::admin::{Admin, Existing, Fate};
use countersign_store::{Group, NewAccount};
use indicatif::{ProgressBar, ProgressStyle};
use zeroize::Zeroize as _;

use self::entry::{Entry, GroupFile, Shadow};
use crate::args::{ImportArgs, ImportKind};
use crate::failure::Failure;
use crate::place::{Place, block_on};
use crate::table::shown;

/// Users that are added in one transaction.
const BATCH: usize = 1000;
/// Lines longer than this are no line of any of these files.
const LINE: u64 = 16 * 1024;
/// Remarks that are shown without `--report`.
const SHOWN: usize = 50;
/// Bytes of a shadow or group file, which are kept in memory.
const WHOLE: u64 = 1 << 30;

pub(crate) fn run(args: &ImportArgs) -> Result<(), Failure> {
    let place = Place::of(&args.place)?;
    let counts = block_on(async {
        let admin = place.admin().await?;
        let mut import = Import::new(args)?;
        import.all(&admin, args).await?;
        if !args.dry_run {
            let detail = format!("{} {}: {}", args.kind.word(), args.file.display(), import.counts);
            admin.record_of_store("import", &detail).await;
        }
        import.report.end()?;
        Ok(import.counts)
    });
    if !args.dry_run {
        place.tell();
    }
    let counts = counts?;
    println!("{}{counts}", if args.dry_run { "would have " } else { "" });
    match counts.refused {
        0 => Ok(()),
        one => Err(Failure::refused(format!("{one} were not imported; see above"))),
    }
}

/// What became of everybody.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    added: u64,
    updated: u64,
    kept: u64,
    skipped: u64,
    refused: u64,
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { added, updated, kept, skipped, refused } = self;
        write!(
            f,
            "added {added}, updated {updated}, left {kept} as they are, skipped {skipped}, refused {refused}"
        )
    }
}

struct Import {
    accept: Accept,
    shadow: HashMap<String, Shadow>,
    groups: GroupFile,
    /// Names of groups that the store has, by number.
    numbered: BTreeMap<u32, String>,
    /// Who was in an earlier line.
    seen: HashSet<Box<str>>,
    counts: Counts,
    report: Report,
}

impl Import {
    fn new(args: &ImportArgs) -> Result<Self, Failure> {
        let mut report = Report::to(args.report.as_deref())?;
        let mut shadow = HashMap::new();
        if let Some(path) = &args.shadow {
            let mut text = whole(path)?;
            for (index, line) in text.lines().enumerate() {
                if line.is_empty() || line.starts_with('#') {
                    continue;
                }
                match Entry::shadow(line) {
                    // Of two lines for one user the first counts, as it does for getspnam(3).
                    Ok((name, line)) => drop(shadow.entry(name).or_insert(line)),
                    Err(why) => report.tell(path, index + 1, &why)?,
                }
            }
            text.zeroize();
        }
        let mut groups = GroupFile::default();
        if let Some(path) = &args.group_file {
            let wrong;
            (groups, wrong) = GroupFile::read(&whole(path)?);
            for (line, why) in wrong {
                report.tell(path, line, &why)?;
            }
        }
        let accept = Accept { allow_plain: args.allow_plain, ..Accept::default() };
        let (numbered, seen, counts) = (BTreeMap::new(), HashSet::new(), Counts::default());
        Ok(Self { accept, shadow, groups, numbered, seen, counts, report })
    }

    async fn all(&mut self, admin: &Admin, args: &ImportArgs) -> Result<(), Failure> {
        self.make_groups(admin, args).await?;
        let file = open(&args.file)?;
        let length = file.metadata().map_or(0, |found| found.len());
        let progress = ProgressBar::new(length);
        let style = "{bar:40} {percent}% {msg}, {eta} left";
        progress
            .set_style(ProgressStyle::with_template(style).unwrap_or(ProgressStyle::default_bar()));
        let mut reader = BufReader::with_capacity(64 * 1024, file);
        let (mut line, mut number) = (Vec::new(), 0);
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            line.zeroize();
            let read = (&mut reader).take(LINE).read_until(b'\n', &mut line);
            let read = read.map_err(|error| cannot("read", &args.file, &error))?;
            if read == 0 {
                break;
            }
            number += 1;
            progress.inc(read as u64);
            if read as u64 == LINE && !line.ends_with(b"\n") {
                let why =
                    format!("line {number} is longer than {LINE} bytes: this is no such file");
                return Err(Failure::refused(format!("{}: {why}", args.file.display())));
            }
            match self.entry(&line, number, args)? {
                Some(account) => batch.push((number, account)),
                None => continue,
            }
            if batch.len() == BATCH {
                self.add(admin, &mut batch, args).await?;
                progress.set_message(format!("{} added", self.counts.added));
            }
        }
        self.add(admin, &mut batch, args).await?;
        progress.finish_and_clear();
        Ok(())
    }

    /// The account of a line. `None`: it is none, or there is to be none.
    fn entry(
        &mut self,
        line: &[u8],
        number: usize,
        args: &ImportArgs,
    ) -> Result<Option<NewAccount>, Failure> {
        let path = args.file.as_path();
        let Ok(text) = std::str::from_utf8(line) else {
            self.counts.refused += 1;
            self.report.tell(path, number, "it is no UTF-8")?;
            return Ok(None);
        };
        let text = text.trim_end_matches(['\n', '\r']);
        if text.trim().is_empty() || text.starts_with('#') {
            return Ok(None);
        }
        let shadow = &mut self.shadow;
        let read = match args.kind {
            ImportKind::Htpasswd => Entry::htpasswd(text, &self.accept),
            ImportKind::Passwd => Entry::passwd(text, |name| shadow.remove(name), &self.accept),
            ImportKind::Dovecot => Entry::dovecot(text, &self.accept),
            ImportKind::Shadow => Entry::shadow(text)
                .and_then(|(name, shadow)| Entry::of_shadow(&name, &shadow, &self.accept)),
        };
        let Entry { mut account, gid, uid, notes } = match read {
            Ok(entry) => entry,
            Err(why) => {
                self.counts.refused += 1;
                self.report.tell(path, number, &why)?;
                return Ok(None);
            }
        };
        if let (Some(from), Some(uid)) = (args.from_uid, uid)
            && uid < from
        {
            self.counts.skipped += 1;
            return Ok(None);
        }
        // With --update, a second line would bring an older password back.
        if !self.seen.insert(account.name.as_str().into()) {
            self.counts.refused += 1;
            self.report.tell(
                path,
                number,
                &format!("`{}`: a second line; the first counts", shown(&account.name)),
            )?;
            return Ok(None);
        }
        for note in notes {
            self.report.tell(path, number, &format!("`{}`: {note}", shown(&account.name)))?;
        }
        let own =
            gid.and_then(|gid| self.groups.names.get(&gid).or_else(|| self.numbered.get(&gid)));
        let further = self.groups.further.get(&account.name).into_iter().flatten();
        let groups: BTreeSet<_> = own.into_iter().chain(further).collect();
        account.groups = groups.into_iter().map(|name| (name.clone(), false)).collect();
        Ok(Some(account))
    }

    async fn make_groups(&mut self, admin: &Admin, args: &ImportArgs) -> Result<(), Failure> {
        self.numbered = admin.numbered_groups().await?.into_iter().collect();
        if args.dry_run || self.groups.names.is_empty() {
            return Ok(());
        }
        let group = |(gid, name): (&u32, &String)| {
            // A number that is taken stays where it is.
            let gid = (!self.numbered.contains_key(gid)).then_some(*gid);
            Group { name: name.clone(), gid, description: String::new() }
        };
        let groups: Vec<_> = self.groups.names.iter().map(group).collect();
        for name in admin.import_groups(&groups).await? {
            println!("created the group `{}`", shown(&name));
        }
        Ok(())
    }

    async fn add(
        &mut self,
        admin: &Admin,
        batch: &mut Vec<(usize, NewAccount)>,
        args: &ImportArgs,
    ) -> Result<(), Failure> {
        let (lines, accounts): (Vec<_>, Vec<_>) = batch.drain(..).unzip();
        let fates = if args.dry_run {
            let there = admin.which_exist(&accounts).await?;
            there
                .into_iter()
                .map(|there| match (there, args.existing()) {
                    (false, _) => Fate::Added,
                    (true, Existing::Update) => Fate::Updated,
                    (true, Existing::Keep) => Fate::Kept,
                    (true, Existing::Refuse) => {
                        Fate::Refused("is there already; say --update or --skip".to_owned())
                    }
                })
                .collect()
        } else {
            admin.import(&accounts, args.existing()).await?
        };
        for ((line, account), fate) in lines.into_iter().zip(&accounts).zip(fates) {
            match fate {
                Fate::Added => self.counts.added += 1,
                Fate::Updated => self.counts.updated += 1,
                Fate::Kept => self.counts.kept += 1,
                Fate::Refused(why) => {
                    self.counts.refused += 1;
                    let why = format!("`{}`: {why}", shown(&account.name));
                    self.report.tell(&args.file, line, &why)?;
                }
            }
        }
        Ok(())
    }
}

/// Remarks with their lines: the first few for a person, all of them for a file.
struct Report {
    file: Option<(PathBuf, io::BufWriter<File>)>,
    told: usize,
}

impl Report {
    fn to(path: Option<&Path>) -> Result<Self, Failure> {
        let make = |path: &Path| {
            let made = File::options().write(true).create_new(true).open(path);
            let made = made.map_err(|error| cannot("make", path, &error))?;
            Ok::<_, Failure>((path.to_owned(), io::BufWriter::new(made)))
        };
        Ok(Self { file: path.map(make).transpose()?, told: 0 })
    }

    fn tell(&mut self, path: &Path, line: usize, what: &str) -> Result<(), Failure> {
        self.told += 1;
        let text = format!("{}:{line}: {what}", path.display());
        match &mut self.file {
            Some((path, file)) => {
                writeln!(file, "{text}").map_err(|error| cannot("write", path, &error))
            }
            None if self.told <= SHOWN => {
                eprintln!("{text}");
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn end(&mut self) -> Result<(), Failure> {
        match &mut self.file {
            Some((path, file)) => file.flush().map_err(|error| cannot("write", path, &error)),
            None if self.told > SHOWN => {
                eprintln!("… and {} more; --report FILE has them all", self.told - SHOWN);
                Ok(())
            }
            None => Ok(()),
        }
    }
}

fn open(path: &Path) -> Result<File, Failure> {
    File::open(path).map_err(|error| cannot("read", path, &error))
}

fn whole(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = open(path)?.take(WHOLE).read_to_string(&mut text);
    read.map_err(|error| cannot("read", path, &error))?;
    Ok(text)
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::refused(format!("cannot {what} {}: {error}", path.display()))
}
