//! Users of other systems, groups, and the store as one file.

mod common;

use common::{Folder, Server, run};
use serde_json::{Value, json};

const SIX: &str = "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1";

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn user(folder: &Folder, name: &str) -> Value {
    json_of(&folder.ok(&["user", "show", name, "--json"], ""))
}

#[test]
fn passwd_shadow_and_groups_together() {
    let folder = Folder::with_store();
    let passwd = folder.file(
        "passwd",
        "root:x:0:0:root:/root:/bin/bash\nann:x:1000:100:Ann A:/home/ann:/bin/bash\n\
         ben:x:1001:100::/home/ben:/bin/sh\nbad line\nann:x:1002:100::/x:/bin/sh\n",
    );
    let shadow = format!("root:*:1::::::\nann:{SIX}:19000:0:99999:7:::\nben:!{SIX}:19000::::::\n");
    let shadow = folder.file("shadow", &shadow);
    let group = folder.file("group", "users:x:100:\nops:x:200:ann,nobody\n");
    let [passwd, shadow, group] = [&passwd, &shadow, &group].map(|path| path.to_str().unwrap());
    let mut import = vec![
        "import",
        "passwd",
        passwd,
        "--shadow",
        shadow,
        "--group-file",
        group,
        "--from-uid",
        "1000",
    ];

    import.push("--dry-run");
    let dry = folder.run(&import, "");
    assert_eq!(dry.code, Some(1), "{dry:?}");
    assert!(
        dry.out.contains("would have added 2, updated 0, left 0 as they are, skipped 1, refused 2"),
        "{dry:?}"
    );
    assert_eq!(folder.ok(&["user", "list"], "").lines().count(), 1);
    import.pop();

    let done = folder.run(&import, "");
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(
        done.out.starts_with("created the group `users`\ncreated the group `ops`\n"),
        "{done:?}"
    );
    assert!(
        done.out.contains("added 2, updated 0, left 0 as they are, skipped 1, refused 2"),
        "{done:?}"
    );
    assert!(
        done.err.contains("passwd:4: 2 fields") || done.err.contains("passwd:4: 1 fields"),
        "{done:?}"
    );
    assert!(done.err.contains("passwd:5: `ann`: a second line"), "{done:?}");
    assert!(done.err.contains("passwd:3: `ben`: locked"), "{done:?}");
    assert!(!done.err.contains("$6$") && !done.out.contains("$6$"));
    let ann = user(&folder, "ann");
    assert_eq!(ann["attributes"]["home"], json!(["/home/ann"]));
    assert_eq!(ann["groups"], json!([{"name": "ops"}, {"name": "users"}]));
    assert_eq!(
        (&ann["enabled"], &ann["credentials"][0]["scheme"]),
        (&json!(true), &json!("SHA512-CRYPT"))
    );
    let ben = user(&folder, "ben");
    assert_eq!((&ben["enabled"], ben["credentials"].as_array().unwrap().len()), (&json!(false), 1));
    let shown = folder.ok(&["group", "show", "ops"], "");
    assert!(
        shown.contains("number       200\n") && shown.contains("member       ann\n"),
        "{shown}"
    );
}

#[test]
fn those_who_are_there() {
    let folder = Folder::with_store();
    folder.ok(&["user", "add", "ann", "--no-password"], "");
    let file = folder.file("htpasswd", &format!("ann:{SIX}\nben:{SIX}\ncay:rot13\n"));
    let import = ["import", "htpasswd", file.to_str().unwrap()];
    let refused = folder.run(&import, "");
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.err.contains("htpasswd:1: `ann`: is there already; say --update or --skip"),
        "{refused:?}"
    );
    assert!(refused.err.contains("htpasswd:3: `cay`: no password: "), "{refused:?}");
    assert!(refused.out.contains("added 2,") && refused.out.contains("refused 1"), "{refused:?}");
    let kept = folder.ok(&[&import[..], &["--skip"]].concat(), "");
    assert!(kept.contains("added 0, updated 0, left 3 as they are"), "{kept}");
    assert_eq!(user(&folder, "ann")["credentials"], json!([]));
    let report = folder.path().join("report");
    let update = ["--update", "--report", report.to_str().unwrap()];
    let updated = folder.run(&[&import[..], &update].concat(), "");
    assert!(updated.out.contains("updated 3") && updated.err.is_empty(), "{updated:?}");
    assert!(std::fs::read_to_string(&report).unwrap().contains("`cay`: no password"));
    assert_eq!(user(&folder, "ann")["credentials"][0]["scheme"], "SHA512-CRYPT");
    let audit = folder.ok(&["audit", "--json", "--outcome", "changed"], "");
    assert!(
        audit.contains("htpasswd") && audit.contains("\"import\"") && !audit.contains("$6$"),
        "{audit}"
    );
}

#[test]
fn many_at_once() {
    let folder = Folder::with_store();
    let lines: String = (0..2500).map(|n| format!("u{n}@example.org:{{SHA512-CRYPT}}{SIX}:5000:5000::/srv/{n}::userdb_quota_rule=*:storage=1G\n")).collect();
    let file = folder.file("users", &lines);
    let out = folder.ok(&["import", "dovecot", file.to_str().unwrap()], "");
    assert!(out.contains("added 2500,"), "{out}");
    let last = user(&folder, "u2499@example.org");
    assert_eq!(last["attributes"]["quota_rule"], json!(["*:storage=1G"]));
}

#[test]
fn groups_from_beginning_to_end() {
    let folder = Folder::with_store();
    let add = ["group", "add", "staff", "--gid", "100", "--description", "Everybody"];
    assert_eq!(folder.ok(&add, ""), "added the group `staff`\n");
    assert!(folder.fails(1, &["group", "add", "other", "--gid", "100"], "").contains("100"));
    assert!(folder.fails(1, &add, "").contains("staff"));
    folder.ok(&["user", "add", "ann", "--no-password", "--admin-of", "staff"], "");
    let list = json_of(&folder.ok(&["group", "list", "--json"], ""));
    assert_eq!(list, json!([{"name": "staff", "gid": 100, "description": "Everybody"}]));
    assert!(folder.ok(&["group", "list"], "").contains("Everybody"));
    folder.ok(&["group", "set", "staff", "--no-gid"], "");
    let show = json_of(&folder.ok(&["group", "show", "staff", "--json"], ""));
    let members = json!([{"name": "ann", "admin": true}]);
    assert_eq!(
        show,
        json!({"name": "staff", "gid": null, "description": "Everybody", "members": members})
    );
    assert!(folder.fails(2, &["group", "set", "staff"], "").contains("nothing to change"));
    let set = [
        "user",
        "set",
        "ann",
        "--remove-group",
        "staff",
        "--add-group",
        "web",
        "--label",
        "top",
        "--attribute",
        "a=b",
    ];
    folder.ok(&set, "");
    folder.ok(&["user", "set", "ann", "--no-label", "top", "--no-attribute", "a"], "");
    assert_eq!(folder.ok(&["group", "remove", "staff"], ""), "removed the group `staff`\n");
    assert!(folder.fails(1, &["group", "show", "staff"], "").contains("no group `staff`"));
}

#[test]
fn a_store_comes_back() {
    let folder = Folder::with_store();
    folder.ok(&["user", "add", "ann", "--no-password"], "");
    let backup = folder.path().join("backup.db");
    let backup = backup.to_str().unwrap();
    assert!(folder.ok(&["backup", backup], "").contains("with 1 users"));
    assert!(folder.fails(3, &["backup", backup], "").contains("backup.db"), "never over a file");
    folder.ok(&["user", "remove", "ann"], "");
    {
        let _server = Server::on(&folder);
        let error = folder.fails(1, &["restore", backup], "");
        assert!(error.contains("another server runs"), "{error}");
    }
    let junk = folder.file("junk", "not a database at all, and long enough to be looked at");
    folder.fails(3, &["restore", junk.to_str().unwrap()], "");
    folder.fails(1, &["user", "show", "ann"], "");
    let out = folder.ok(&["restore", backup], "");
    assert!(out.contains("restored 1 users") && out.contains("accounts.db.replaced-1"), "{out}");
    assert_eq!(user(&folder, "ann")["name"], "ann");
    assert!(folder.ok(&["audit", "--json"], "").contains("\"restore\""));
}

#[test]
fn sessions_that_were_ended_do_not_come_back() {
    let folder = Folder::with_store();
    folder.ok(&["user", "add", "ann", "--password-stdin"], "correct horse\n");
    let backup = folder.path().join("backup.db");
    let backup = backup.to_str().unwrap();
    let agent = ureq::Agent::new_with_config(
        ureq::config::Config::builder().http_status_as_error(false).build(),
    );
    let status = |server: &Server, token: &str| {
        let request = agent.get(format!("{}/v1/session", server.url));
        request.header("authorization", format!("Bearer {token}")).call().unwrap().status().as_u16()
    };
    let token = {
        let server = Server::on(&folder);
        let answers = r#"{"username":"ann","password":"correct horse"}"#;
        let login = ["login", "--server", &server.url, "--json", "--answers", "-"];
        let ended = run(&login, answers);
        let token = json_of(&ended.out)["session"]["token"].as_str().unwrap().to_owned();
        assert_eq!(status(&server, &token), 200);
        folder.ok(&["backup", backup], "");
        folder.ok(&["user", "set", "ann", "--disable"], "");
        assert_eq!(status(&server, &token), 401);
        token
    };
    folder.ok(&["restore", backup], "");
    assert_eq!(user(&folder, "ann")["enabled"], true, "she is as the backup has her");
    assert_eq!(status(&Server::on(&folder), &token), 401, "and logs in again");
}
