//! Answers that nobody gives in good faith.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use countersign::{Answer, Answers, CredentialKind, Question, Round, Secret};

use super::fixture::{Answering, Attempt};

/// Something to do to a right answer.
pub(super) struct Twist {
    pub(super) what: &'static str,
    pub(super) make: fn(&[u8]) -> Vec<u8>,
}

/// Secrets that are not the right one, however much they resemble it. The first is looked for in
/// everything that is printed.
pub(super) const SECRETS: &[Twist] = &[
    Twist { what: "a canary", make: |_| b"canary-5f0c1d7e-secret".to_vec() },
    Twist { what: "an empty secret", make: |_| Vec::new() },
    Twist { what: "4 KiB", make: |_| vec![b'a'; 4096] },
    Twist { what: "a megabyte", make: |_| vec![b'a'; 1 << 20] },
    Twist { what: "one NUL", make: |_| vec![0] },
    Twist { what: "invalid UTF-8", make: |_| vec![0xff, 0xfe, 0xc0, 0x80] },
    Twist { what: "the right one and a NUL", make: |right| [right, b"\0"].concat() },
    Twist { what: "the right one, a NUL and more", make: |right| [right, b"\0x"].concat() },
    Twist { what: "the right one and a newline", make: |right| [right, b"\n"].concat() },
    Twist { what: "the right one twice", make: |right| [right, right].concat() },
    Twist {
        what: "the right one without its end",
        make: |right| right.split_last().map_or_else(Vec::new, |(_, rest)| rest.to_vec()),
    },
    Twist { what: "a star", make: |_| b"*".to_vec() },
    Twist { what: "an SQL condition", make: |_| b"' or '1'='1".to_vec() },
    Twist { what: "a shell substitution", make: |_| b"$(id)".to_vec() },
    Twist { what: "the end of a CDATA section", make: |_| b"]]>".to_vec() },
    Twist { what: "lines of a protocol", make: |_| b"x\nOK\t1\tuser=root\n".to_vec() },
];

/// Names that are not the right one. Those made of the right one catch who cuts names at a NUL or a
/// line's end.
pub(super) const NAMES: &[Twist] = &[
    Twist { what: "an empty name", make: |_| Vec::new() },
    Twist { what: "an LDAP filter", make: |_| b"*)(uid=*".to_vec() },
    Twist { what: "a star", make: |_| b"*".to_vec() },
    Twist { what: "an SQL condition", make: |_| b"' or 1=1--".to_vec() },
    Twist { what: "the right name and an SQL comment", make: |right| [right, b"'--"].concat() },
    Twist { what: "a path", make: |_| b"../x".to_vec() },
    Twist { what: "a path to the right name", make: |right| [b"../x/../", right].concat() },
    Twist { what: "an option", make: |_| b"-s".to_vec() },
    Twist { what: "a shell substitution", make: |_| b"$(id)".to_vec() },
    Twist { what: "the end of a CDATA section", make: |_| b"]]>".to_vec() },
    Twist { what: "a format directive", make: |_| b"%s%n{}".to_vec() },
    Twist { what: "a colon", make: |_| b"root:x".to_vec() },
    Twist { what: "a newline", make: |_| b"\n".to_vec() },
    Twist { what: "the right name and a newline", make: |right| [right, b"\n"].concat() },
    Twist { what: "the right name and a NUL", make: |right| [right, b"\0"].concat() },
    Twist { what: "the right name, a NUL and more", make: |right| [right, b"\0root"].concat() },
    Twist { what: "the right name and a tab", make: |right| [right, b"\tuid=0"].concat() },
    Twist { what: "invalid UTF-8", make: |_| vec![0xff, 0xfe] },
    Twist { what: "4 KiB", make: |_| vec![b'a'; 4096] },
];

pub(super) fn is_name(kind: &CredentialKind) -> bool {
    matches!(kind, CredentialKind::AuthName | CredentialKind::Username)
}

/// Answers that must not let in, and whether they ever differed from the right ones: a mechanism that asks
/// for no name is not refused for a name that it never saw.
pub(super) struct Wrong {
    pub(super) answering: Answering,
    differs: Arc<AtomicBool>,
}

impl Wrong {
    /// Answers each round anew, without regard to the right answers.
    pub(super) fn instead(answer: impl Fn(&Round) -> Answers + Send + 'static) -> Self {
        let differs = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&differs);
        let answering = Box::new(move |round: &Round| {
            flag.fetch_or(!round.questions.is_empty(), Relaxed);
            answer(round)
        });
        Self { answering, differs }
    }

    /// The attempt, with `twist` done to its answers to the kinds in question.
    pub(super) fn twisted(attempt: &Attempt, kinds: Kinds, twist: fn(&[u8]) -> Vec<u8>) -> Self {
        Self::changed(attempt, kinds, move |answer| match answer {
            Answer::Value(right) => Answer::Value(Secret::from(twist(right.expose()))),
            other => other.clone(),
        })
    }

    /// The attempt, with its answers to the kinds in question changed.
    pub(super) fn changed(
        attempt: &Attempt,
        kinds: Kinds,
        change: impl Fn(&Answer) -> Answer + Send + 'static,
    ) -> Self {
        let differs = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&differs);
        let mut inner = attempt.begin();
        let answering = Box::new(move |round: &Round| {
            let right = inner(round);
            let one = |question: &Question| {
                let right = right.find(&question.name)?;
                let given = if kinds(&question.kind) { change(right) } else { right.clone() };
                flag.fetch_or(given != *right, Relaxed);
                Some((question.name.clone(), given))
            };
            round.questions.iter().filter_map(one).collect()
        });
        Self { answering, differs }
    }

    /// To be asked when the attempt is over.
    pub(super) fn differs(&self) -> impl Fn() -> bool + use<> {
        let differs = Arc::clone(&self.differs);
        move || differs.load(Relaxed)
    }
}

type Kinds = fn(&CredentialKind) -> bool;
