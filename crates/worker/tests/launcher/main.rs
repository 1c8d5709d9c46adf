//! A launcher with real processes. The launcher is this test program itself: see [`launcher_process`].

use std::ffi::OsString;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStringExt as _;

use countersign_worker::{
    Access, Confinement, Ended, Job, Launcher, Limits, Program, Running, StartError, User,
};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;

/// Not a test: what the tests start as their launcher.
#[test]
#[ignore = "the launcher of the other tests"]
fn launcher_process() {
    let _ = countersign_worker::launcher::main();
    std::process::exit(0);
}

fn program() -> Program {
    Program::this(["launcher_process", "--exact", "--ignored", "--nocapture", "--test-threads=1"])
}

fn launcher(confinement: Confinement) -> Launcher {
    Launcher::new(program(), confinement)
}

/// `sh -c SCRIPT`, which reads `input`; and what it writes.
async fn shell(launcher: &Launcher, script: &str, input: &[u8]) -> (Running, Receiver) {
    let command = ["/bin/sh", "-c", script].map(OsString::from);
    run(launcher, &command, input).await
}

async fn run(launcher: &Launcher, command: &[OsString], input: &[u8]) -> (Running, Receiver) {
    let (theirs_in, ours_in) = std::io::pipe().unwrap();
    std::io::Write::write_all(&mut { ours_in }, input).unwrap();
    let (ours_out, theirs_out) = std::io::pipe().unwrap();
    let stdio = [theirs_in.as_fd(), theirs_out.as_fd(), theirs_out.as_fd()];
    let running = launcher.start(Job { command, stdio, place: None }).await.unwrap();
    (running, Receiver::from_owned_fd(ours_out.into()).unwrap())
}

async fn told(output: &mut Receiver) -> String {
    let mut told = String::new();
    output.read_to_string(&mut told).await.unwrap();
    told
}

async fn line(output: &mut Receiver) -> String {
    let mut line = Vec::new();
    loop {
        match output.read_u8().await.unwrap() {
            b'\n' => return String::from_utf8(line).unwrap(),
            byte => line.push(byte),
        }
    }
}

async fn said(launcher: &Launcher, script: &str) -> String {
    let (mut running, mut output) = shell(launcher, script, b"").await;
    let said = told(&mut output).await;
    assert!(matches!(running.ended().await, Ended::Exited(_)), "{said}");
    said
}

#[tokio::test]
async fn what_comes_out_and_how_it_ends() {
    let launcher = launcher(Confinement::default());
    let (mut running, mut output) = shell(&launcher, "cat; echo no >&2; exit 7", b"in ").await;
    assert_eq!(told(&mut output).await, "in no\n");
    assert_eq!(running.ended().await, Ended::Exited(7));
    let (mut running, _output) = shell(&launcher, "kill -SEGV $$", b"").await;
    assert_eq!(running.ended().await, Ended::Signalled(11));
    for missing in ["/no/such/program", "/etc/passwd", "/"] {
        let (mut running, mut output) = run(&launcher, &[missing.into()], b"").await;
        assert!(matches!(running.ended().await, Ended::NotStarted(_)), "{missing}");
        assert_eq!(told(&mut output).await, "");
    }
    // Any bytes are an argument.
    let bytes = vec![b'a', 0xff, b' ', b'\n'];
    let command = ["/usr/bin/printf".into(), "%s".into(), OsString::from_vec(bytes.clone())];
    let (_running, mut output) = run(&launcher, &command, b"").await;
    let mut printed = Vec::new();
    output.read_to_end(&mut printed).await.unwrap();
    assert_eq!(printed, bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_a_time() {
    let launcher = launcher(Confinement::default());
    let mut running = Vec::new();
    for number in 0..50 {
        running.push((
            number,
            shell(&launcher, "read n; exit $n", format!("{number}\n").as_bytes()).await,
        ));
    }
    for (number, (mut process, _output)) in running {
        assert_eq!(process.ended().await, Ended::Exited(number));
    }
}

#[tokio::test]
async fn a_killed_process_takes_its_group_along() {
    let launcher = launcher(Confinement::default());
    let (mut running, mut output) =
        shell(&launcher, "sh -c 'echo up; exec sleep 1000' & wait", b"").await;
    assert_eq!(line(&mut output).await, "up");
    running.kill();
    assert_eq!(running.ended().await, Ended::Signalled(9));
    // The output ends when nobody holds it any more.
    assert_eq!(told(&mut output).await, "");
}

#[tokio::test]
async fn nothing_outlives_what_was_started() {
    let launcher = launcher(Confinement::default());
    // One that stays in the group, and one that leaves it and has no parent any more.
    let script = "sleep 1000 & setsid sh -c 'echo up; exec sleep 1000' & read nothing; exit 3";
    let (input, ours) = std::io::pipe().unwrap();
    let (output, theirs) = std::io::pipe().unwrap();
    let command = ["/bin/sh", "-c", script].map(OsString::from);
    let stdio = [input.as_fd(), theirs.as_fd(), theirs.as_fd()];
    let mut running = launcher.start(Job { command: &command, stdio, place: None }).await.unwrap();
    drop(theirs);
    let mut output = Receiver::from_owned_fd(output.into()).unwrap();
    assert_eq!(line(&mut output).await, "up");
    drop(ours);
    assert_eq!(running.ended().await, Ended::Exited(3));
    assert_eq!(told(&mut output).await, "");
}

#[tokio::test]
async fn dropped_is_killed() {
    let launcher = launcher(Confinement::default());
    let (running, mut output) = shell(&launcher, "echo up; exec sleep 1000", b"").await;
    assert_eq!(line(&mut output).await, "up");
    drop(running);
    assert_eq!(told(&mut output).await, "");
    // And all of them, with the launcher.
    let (_running, mut output) = shell(&launcher, "echo up; exec sleep 1000", b"").await;
    assert_eq!(line(&mut output).await, "up");
    drop(launcher);
    assert_eq!(told(&mut output).await, "");
}

#[tokio::test]
async fn a_place_is_free_when_the_process_has_ended() {
    let launcher = launcher(Confinement::default());
    let places = std::sync::Arc::new(tokio::sync::Semaphore::new(1));
    let place = places.clone().try_acquire_owned().unwrap();
    let command = ["/bin/sleep", "1000"].map(OsString::from);
    let (input, _ours) = std::io::pipe().unwrap();
    let stdio = [input.as_fd(); 3];
    let job = Job { command: &command, stdio, place: Some(place) };
    let running = launcher.start(job).await.unwrap();
    assert_eq!(places.available_permits(), 0);
    drop(running);
    places.acquire().await.unwrap().forget();
}

#[tokio::test]
async fn a_launcher_that_dies_is_started_anew() {
    let launcher = launcher(Confinement::default());
    let (mut running, mut output) = shell(&launcher, "echo $PPID; exec sleep 1000", b"").await;
    let pid: i32 = line(&mut output).await.parse().unwrap();
    // The shell may be quicker than the report that it runs.
    while running.pid().is_none() {
        tokio::task::yield_now().await;
    }
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    assert_eq!(running.ended().await, Ended::Lost);
    // What it had started is gone, too.
    assert_eq!(told(&mut output).await, "");
    let pause = match launcher.ready().await {
        Err(StartError::Paused { pause, why }) => {
            assert_eq!(why, "it ended");
            pause
        }
        other => panic!("{other:?}"),
    };
    tokio::time::sleep(pause).await;
    assert_eq!(said(&launcher, "echo again").await, "again\n");
}

#[tokio::test]
async fn what_its_processes_inherit() {
    let confinement = Confinement {
        environment: vec![("ONLY".into(), "this".into())],
        directory: "/usr".into(),
        limits: Limits {
            files: 64,
            file_size: Some(4096),
            memory: Some(64 << 20),
            processes: None,
        },
        nice: 19,
        ..Confinement::default()
    };
    let launcher = launcher(confinement);
    // The shell adds what it makes itself.
    let environment = run(&launcher, &["/usr/bin/env".into()], b"").await;
    let (_running, mut output) = environment;
    assert_eq!(told(&mut output).await, "ONLY=this\n");
    let script = "pwd; ulimit -c; ulimit -n; ulimit -Hn; ulimit -d; ulimit -f; /usr/bin/nice";
    assert_eq!(said(&launcher, script).await, "/usr\n0\n64\n64\n65536\n8\n19\n");
    // No socket of the launcher's.
    assert_eq!(said(&launcher, "ls -l /proc/self/fd | /bin/grep socket; exit 0").await, "");
    let status = said(&launcher, "/bin/grep -E 'NoNewPrivs|SigIgn' /proc/self/status").await;
    let (ignored, privileges) = status.trim().split_once('\n').unwrap();
    assert_eq!(privileges, "NoNewPrivs:\t1");
    // Rust ignores SIGPIPE, which a driver is not to inherit.
    let ignored = u64::from_str_radix(ignored.trim_start_matches("SigIgn:").trim(), 16).unwrap();
    assert_eq!(ignored & 1 << 12, 0, "{ignored:x}");
}

#[tokio::test]
async fn another_user() {
    if !rustix::process::geteuid().is_root() {
        let user = Some(User { uid: 0, gid: 0, groups: vec![] });
        let error = launcher(Confinement { user, ..Confinement::default() }).ready().await;
        assert!(error.unwrap_err().to_string().contains("start the server as root"));
        return;
    }
    let user = Some(User { uid: 65534, gid: 65533, groups: vec![65532] });
    let launcher = launcher(Confinement { user, ..Confinement::default() });
    assert_eq!(said(&launcher, "id -u; id -g; id -G").await, "65534\n65533\n65533 65532\n");
    assert!(said(&launcher, "cat /proc/$PPID/environ 2>&1; exit 0").await.contains("denied"));
}

#[tokio::test]
async fn what_is_not_named_is_out_of_reach() {
    let folder = tempfile::tempdir().unwrap();
    let open = folder.path().join("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::write(open.join("file"), "readable").unwrap();
    std::fs::write(folder.path().join("file"), "secret").unwrap();
    let system = ["/usr", "/bin", "/lib", "/lib64", "/etc"].map(std::path::PathBuf::from);
    let mut read: Vec<_> = system.into_iter().filter(|path| path.exists()).collect();
    read.push(open.clone());
    let access = Access { read: read.clone(), write: vec!["/dev/null".into()], network: false };
    let confined = launcher(Confinement { access: Some(access), ..Confinement::default() });
    let script = format!(
        "cat {0}/open/file; cat {0}/file 2>/dev/null || echo ,none; (echo x > {0}/open/new) 2>/dev/null || echo unwritable",
        folder.path().display()
    );
    let seen = said(&confined, &script).await;
    if std::fs::read_to_string("/proc/kallsyms").is_ok_and(|all| !all.contains("landlock")) {
        eprintln!("not run: this kernel has no Landlock");
        return;
    }
    assert_eq!(seen, "readable,none\nunwritable\n");
    // A path that is not there would be left out without a word.
    read.push("/no/such/place".into());
    let access = Access { read, ..Access::default() };
    let error = launcher(Confinement { access: Some(access), ..Confinement::default() });
    let error = error.ready().await.unwrap_err().to_string();
    assert!(error.starts_with("Landlock: /no/such/place: No such file"), "{error}");
}

#[tokio::test]
async fn what_is_no_launcher() {
    let no = |path: &str| Program { path: path.into(), arguments: Vec::new() };
    for (program, said) in [
        (no("/no/such/program"), "cannot start the launcher /no/such/program: No such file"),
        (no("/bin/true"), "is no launcher"),
    ] {
        let launcher = Launcher::new(program, Confinement::default());
        let error = launcher.ready().await.unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
        assert!(matches!(launcher.ready().await, Err(StartError::Paused { .. })));
    }
    let confinement = Confinement { directory: "/no/such/folder".into(), ..Confinement::default() };
    let error = launcher(confinement).ready().await.unwrap_err().to_string();
    assert!(error.contains("/no/such/folder"), "{error}");
}

#[tokio::test]
async fn what_is_too_long_is_refused() {
    let launcher = launcher(Confinement::default());
    let command = ["/bin/true".into(), OsString::from("x".repeat(1 << 20))];
    let (input, _ours) = std::io::pipe().unwrap();
    let stdio = [input.as_fd(); 3];
    let refused = launcher.start(Job { command: &command, stdio, place: None }).await.unwrap_err();
    assert!(matches!(refused, StartError::Asking(_)), "{refused}");
    assert_eq!(said(&launcher, "echo fine").await, "fine\n");
}
