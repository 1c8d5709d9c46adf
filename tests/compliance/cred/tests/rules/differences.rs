//! What differs on purpose, in words. The same table is in `docs/guide/coming-from-cred.md`.

use std::path::Path;

use countersign_interop::runner::{Case, case};
use countersign_interop::{Context, Outcome, Stage, ensure};

use crate::beside;

/// A rule of Cred that does not hold here.
pub(crate) struct Difference {
    /// What Cred does.
    pub(crate) cred: &'static str,
    /// What is done here.
    pub(crate) here: &'static str,
    /// The scenarios that show it.
    pub(crate) scenarios: &'static [&'static str],
}

pub(crate) const CASES: &[Case] = &[
    case("differences_in_the_guide_are_these", guide_agrees),
    case("names_of_cred_are_all_in_the_guide", names_are_translated),
];

pub(crate) const DIFFERENCES: &[Difference] = &[
    Difference {
        cred: "Of two checkers for one kind of credentials the last one registered is asked, and no other.",
        here: "All are kept and asked in order; a policy says what each answer comes to.",
        scenarios: &["two_checkers_of_one_kind", "auth_twice"],
    },
    Difference {
        cred: "Credentials of two kinds go to the checker that was registered first.",
        here: "A peer that can prove itself in two ways says which, or sees both in one round.",
        scenarios: &["credentials_of_two_kinds"],
    },
    Difference {
        cred: "A checker for a general kind that was registered earlier hides one for a more specific kind.",
        here: "The checker that offers exactly the mechanism is asked, whenever it was added.",
        scenarios: &["a_general_checker_registered_first"],
    },
    Difference {
        cred: "A realm that is an `async` function gives the protocol a coroutine that nobody awaits.",
        here: "Realms are `async`.",
        scenarios: &["how_a_realm_may_answer"],
    },
    Difference {
        cred: "A checker that returns `None`, `False` or an empty string lets in.",
        here: "Only `Verified::vouch` lets in. A checker that forgets to answer does not compile.",
        scenarios: &["a_checker_that_returns_nothing"],
    },
    Difference {
        cred: "Whatever a realm returns is passed on: a number, another interface, too few values.",
        here: "A realm gives a session of the interface that was asked for, or a denial. Nothing else compiles.",
        scenarios: &["a_realm_that_returns_anything"],
    },
    Difference {
        cred: "That a realm lacks the interface shows at the first login, as an exception.",
        here: "It does not compile; with a realm put together from configuration it is an error of the start.",
        scenarios: &["an_interface_that_the_realm_lacks"],
    },
    Difference {
        cred: "A logout that is called twice runs twice.",
        here: "It runs once: calling it takes the session away.",
        scenarios: &["a_logout_that_is_called_twice"],
    },
    Difference {
        cred: "A client that leaves while the checker works, which then says yes: the avatar is made and never logged out.",
        here: "The login goes with the connection. One that runs on in a task drops its session, which logs out.",
        scenarios: &["avatars_of_clients_that_had_left"],
    },
    Difference {
        cred: "A protocol that refuses the interface it got forgets to log the avatar out.",
        here: "Another interface does not compile, and a session that is refused is dropped, which logs out.",
        scenarios: &["avatars_of_an_interface_that_was_refused"],
    },
    Difference {
        cred: "FTP never logs out.",
        here: "Sessions end with the value that holds them; a protocol has nothing to forget.",
        scenarios: &["avatars_of_clients_that_leave"],
    },
    Difference {
        cred: "Names and passwords are text in some places and bytes in others; the two never match.",
        here: "Names are text and passwords bytes, everywhere.",
        scenarios: &["users_added_as_text", "auth_memory_over_a_protocol"],
    },
    Difference {
        cred: "Challenges come from a generator that is not for secrets.",
        here: "They come from the operating system's.",
        scenarios: &["cram_md5_challenges"],
    },
    Difference {
        cred: "APOP refuses everybody on today's Python: it compares text with bytes.",
        here: "APOP works, in constant time.",
        scenarios: &["apop_over_pop3"],
    },
    Difference {
        cred: "A response to HTTP Digest is accepted again and again.",
        here: "Nonces are counted; the same response is refused the second time.",
        scenarios: &["http_digest_replayed"],
    },
    Difference {
        cred: "HTTP Digest has MD5 and SHA-1, of RFC 2617.",
        here: "MD5, SHA-256 and SHA-512/256, of RFC 7616, each with sessions.",
        scenarios: &["http_digest_algorithms"],
    },
    Difference {
        cred: "A line with an empty password lets in whoever gives none.",
        here: "Nobody logs in by an empty field.",
        scenarios: &["file_plain"],
    },
    Difference {
        cred: "Of two lines for one user the first counts, and with `cache` the last.",
        here: "The first, and the second is logged. There is no choice between cached and uncached.",
        scenarios: &["file_two_lines_for_one_user"],
    },
    Difference {
        cred: "Blanks at the end of a line are cut off the password.",
        here: "They are part of it.",
        scenarios: &["file_trailing_blanks"],
    },
    Difference {
        cred: "A line that begins with `#` is a user.",
        here: "It is a comment, unless `comments=no` is said.",
        scenarios: &["file_comments"],
    },
    Difference {
        cred: "A file that cannot be read refuses every password; `--auth` warns of it and goes on.",
        here: "The program does not start; later, nobody gets in and the record says why.",
        scenarios: &["file_that_cannot_be_read", "auth_file_that_is_not_there"],
    },
    Difference {
        cred: "With `cache`, a file is read again only when its time has become later.",
        here: "It is read again whenever it is another file, or has changed.",
        scenarios: &["file_replaced_within_its_second", "file_replaced_by_an_older_one"],
    },
    Difference {
        cred: "`--help-auth` shows types and arguments.",
        here: "Also what each proves, what is dangerous, and why one cannot be used by this program.",
        scenarios: &["help_auth", "help_auth_type", "help_auth_type_that_the_program_cannot_use"],
    },
    Difference {
        cred: "A bad `--auth` is an unexpected error, and sometimes an exception.",
        here: "The error names the place and the remedy, and shows no secret.",
        scenarios: &[
            "auth_of_unknown_type",
            "auth_that_the_program_cannot_use",
            "auth_memory_with_a_word_too_few",
            "auth_file_without_a_name",
        ],
    },
    Difference {
        cred: "An unknown user is refused with less work than a wrong password, which shows.",
        here: "An unknown user takes the work of a wrong password, once.",
        scenarios: &["work_for_an_unknown_user"],
    },
    Difference {
        cred: "Factors are remembered in the shared checker: a password on one connection and a key on another let the second in.",
        here: "What is proven lives in the attempt, and ends with it.",
        scenarios: &["factors_of_two_connections"],
    },
    Difference {
        cred: "Each protocol has answers of its own to a refusal; some of them repeat the realm's words, or names of classes.",
        here: "One function gives one of four words, and each protocol its own code for each word.",
        scenarios: &[
            "outcomes_by_pop3",
            "outcomes_by_imap",
            "outcomes_by_smtp",
            "outcomes_by_ftp",
            "outcomes_by_telnet",
            "outcomes_by_http",
        ],
    },
    Difference {
        cred: "AUTH in POP3 takes mechanisms of one round only.",
        here: "As many rounds as the mechanism has.",
        scenarios: &["pop3_auth_of_two_rounds"],
    },
    Difference {
        cred: "The sketch of POP3 on the page about Cred does not answer a wrong password at all.",
        here: "`login` gives a `Result`; ignoring the error is a warning of the compiler.",
        scenarios: &["seed_pop3_with_a_wrong_password"],
    },
];

fn guide() -> Outcome<String> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../docs/guide/coming-from-cred.md");
    std::fs::read_to_string(&path).during(path.display())
}

fn guide_agrees(_: &Stage) -> Outcome {
    let guide = guide()?;
    let (_, rest) = guide.split_once("## What differs on purpose").during("the heading")?;
    let section = rest.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let written: Vec<_> = rows.filter_map(|row| row.split_once(" | ")).skip(1).collect();
    let listed: Vec<_> = DIFFERENCES.iter().map(|d| (d.cred, d.here)).collect();
    for row in &listed {
        ensure!(written.contains(row), "not in the guide: | {} | {} |", row.0, row.1);
    }
    for row in &written {
        ensure!(listed.contains(row), "only in the guide: | {} | {} |", row.0, row.1);
    }
    ensure!(written == listed, "the guide has them in another order");
    let scenarios: Vec<_> = DIFFERENCES.iter().flat_map(|d| d.scenarios).collect();
    for (at, scenario) in scenarios.iter().enumerate() {
        ensure!(!scenarios[..at].contains(scenario), "`{scenario}` is there twice");
    }
    Ok(())
}

fn names_are_translated(_: &Stage) -> Outcome {
    let guide = guide()?;
    for name in beside::names("public_names")? {
        ensure!(guide.contains(&format!("`{name}`")), "the guide does not translate `{name}`");
    }
    Ok(())
}
