//! `countersign driver`, with drivers of all kinds.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use common::{Ended, Folder, run};

fn driver(folder: &Folder, text: &str) -> String {
    let path = folder.path().join("authenticate");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

fn try_out(what: &str, program: &str, more: &[&str], password: &str) -> Ended {
    run(&[&["driver", what, program, "--password-stdin"], more].concat(), &format!("{password}\n"))
}

fn stored(folder: &Folder, text: &str) -> String {
    folder.file("stored", &format!("{text}\n")).to_str().unwrap().to_owned()
}

#[test]
fn a_login_is_shown_without_its_secrets() {
    let folder = Folder::bare();
    let text = "#!/bin/sh\ncat >&2\nprintf 'authenticate ada kept *100 7\\nmore\\a'\n";
    let program = driver(&folder, text);
    let stored = stored(&folder, "what is stored");
    let shown = try_out("run", &program, &["--stored", &stored], "a&b secret");
    assert_eq!((shown.code, &*shown.err), (Some(0), ""), "{shown:?}");
    let wanted = "reads\n  <AUTHN>\n    <USERNAME>ada</USERNAME>\n    <PASSWORD>…</PASSWORD>\n    \
                  <SECRET>…</SECRET>\n  </AUTHN>  (no line end)\nwrites to standard output\n  \
                  authenticate ada kept *100 7\n  more\u{fffd}  (no line end)\nwrites to standard error\n  \
                  <AUTHN>\n    <USERNAME>ada</USERNAME>\n    <PASSWORD>…</PASSWORD>\n    <SECRET>…</SECRET>\n  \
                  </AUTHN>  (no line end)\nends after ";
    assert!(shown.out.starts_with(wanted), "{}", shown.out);
    let end = "ms with status 0\nwhich lets `ada` in\n  driver    authenticate\n  user      ada\n  \
               stored    … (4 bytes)\n  groups    *100 7\n";
    assert!(shown.out.ends_with(end), "{}", shown.out);
    assert!(!shown.out.contains("secret") && !shown.out.contains("what is stored"));
}

#[test]
fn refusals_and_what_is_no_answer() {
    let folder = Folder::bare();
    let program = driver(&folder, "#!/bin/sh\necho wrong it is >&2\nexit 3\n");
    let refused = try_out("run", &program, &[], "secret");
    assert_eq!((refused.code, &*refused.err), (Some(1), "error: refused: wrong it is\n"));
    driver(&folder, "#!/bin/sh\nkill -SEGV $$\n");
    let crashed = try_out("run", &program, &[], "secret");
    assert_eq!((crashed.code, &*crashed.err), (Some(1), "error: no answer: ended by signal 11\n"));
    driver(&folder, "#!/bin/sh\nsleep 1000\n");
    let late = try_out("run", &program, &["--timeout", "1"], "secret");
    let said = "error: no answer: no answer within 1000 ms; ended\n";
    assert_eq!((late.code, &*late.err), (Some(1), said));
    fs::set_permissions(&program, fs::Permissions::from_mode(0o644)).unwrap();
    let none = try_out("run", &program, &[], "secret");
    assert_eq!(none.code, Some(2));
    assert!(none.err.contains("is not executable; `chmod +x` makes it so"), "{}", none.err);
}

#[test]
fn new_drivers_pass_the_test() {
    for language in ["python", "sh"] {
        let folder = Folder::bare();
        let made = folder.path().join("length");
        let path = made.to_str().unwrap();
        let new = run(&["driver", "new", path, "--language", language], "");
        assert_eq!((new.code, new.out), (Some(0), format!("wrote {path}/authenticate\n")));
        let again = run(&["driver", "new", path, "--language", language], "");
        assert!(again.code == Some(1) && again.err.contains("File exists"), "{again:?}");

        let program = made.join("authenticate");
        let stored = stored(&folder, "12");
        let tested = try_out("test", path_of(&program), &["--stored", &stored], "twelve chars");
        assert_eq!(tested.code, Some(0), "{language}: {tested:?}");
        assert!(tested.out.ends_with(" tried, 0 wrong\n"), "{}", tested.out);
    }
    let folder = Folder::bare();
    for (language, files) in [
        ("python", &["authenticate", "countersign_driver.py"][..]),
        ("sh", &["authenticate", "countersign-driver.sh"]),
        ("rust", &["Cargo.toml", "src/main.rs"]),
    ] {
        let made = folder.path().join(language);
        let new =
            run(&["driver", "new", path_of(&made), "--language", language, "--persistent"], "");
        assert_eq!(new.code, Some(0), "{new:?}");
        for file in files {
            assert!(made.join(file).is_file(), "{language}: no {file}");
        }
    }
    let spaced = run(&["driver", "new", path_of(&folder.path().join("a b"))], "");
    assert_eq!(spaced.code, Some(2));
}

#[test]
fn the_test_finds_what_is_wrong() {
    let folder = Folder::bare();
    for (text, wrong) in [
        // Everybody, whatever is typed.
        ("#!/bin/sh\ncat > /dev/null\n", "it lets the user in"),
        // What is typed becomes groups.
        (
            "#!/bin/sh\ns=$(sed -n 's/.*<SECRET>\\(.*\\)<\\/SECRET>.*/\\1/p')\n[ \"$s\" = secret ] && echo \"d ada $s\"\n",
            "the password is printed",
        ),
        (
            "#!/bin/sh\nread x; echo 'd ada x'; echo 'AUTHENTICATE SUCCESS 1 x'\n",
            "more than one line",
        ),
        ("#!/bin/sh\necho 'd eve x'\n", "another user, `eve`"),
        ("#!/bin/sh\ngrep -q '<SECRET>secret<' || kill -ABRT $$\n", "ended by signal 6"),
        ("#!/bin/sh\ngrep -q '<SECRET>secret<' || sleep 100\n", "no end within 1 seconds"),
        ("#!/bin/sh\necho yes\n", "its answer is none"),
    ] {
        let program = driver(&folder, text);
        let tested = try_out("test", &program, &["--timeout", "1"], "secret");
        assert_eq!(tested.code, Some(1), "{text}: {tested:?}");
        assert!(
            tested.out.contains("WRONG") && tested.out.contains(wrong),
            "{text}: {}",
            tested.out
        );
    }
}

fn path_of(path: &Path) -> &str {
    path.to_str().unwrap()
}
