//! What outlives the test process, for as long as it takes to clean up after it.
//!
//! A test process may be killed, and then no `Drop` runs. One small shell per test process reads
//! from a pipe whose other end only that process holds; at its end the shell kills what was started
//! and removes the scratch folder. (A death signal set for the children would not do: it comes with
//! the end of the *thread* that started them.)

use std::{
    fs,
    io::Write as _,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, OnceLock, PoisonError},
};

use tempfile::{Builder, TempDir};

/// Reads `watch PID` and `release PID`. What is killed goes on writing to its folder for a moment,
/// so the removal is repeated.
const SCRIPT: &str = r#"
pids=' '
while read -r verb pid; do
    case $verb in
        watch) pids="$pids$pid " ;;
        release)
            rest=' '
            for p in $pids; do [ "$p" = "$pid" ] || rest="$rest$p "; done
            pids=$rest ;;
    esac
done
for p in $pids; do kill -KILL "$p"; done
for attempt in 1 2 3 4 5 6 7 8 9 10; do
    rm -rf -- "$1" && [ ! -e "$1" ] && break
    sleep 0.2
done
"#;

struct Guardian {
    scratch: PathBuf,
    /// Never waited for: it ends after this process. Its input is the pipe that tells it when.
    shell: Mutex<Child>,
}

fn guardian() -> &'static Guardian {
    static GUARDIAN: OnceLock<Guardian> = OnceLock::new();
    GUARDIAN.get_or_init(|| {
        let scratch = scratch_root().keep();
        let shell = Command::new("sh")
            .args(["-c", SCRIPT, "coord-tests-guardian"])
            .arg(&scratch)
            .stdin(Stdio::piped())
            // Whoever waits for the end of the test's output must not wait for the shell.
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Not in the group that Ctrl-C or a kill of the whole test run reaches.
            .process_group(0)
            .spawn()
            .expect("a shell starts");
        Guardian {
            scratch,
            shell: Mutex::new(shell),
        }
    })
}

fn scratch_root() -> TempDir {
    let mut builder = Builder::new();
    builder.prefix("coord-tests-");
    // In memory where there is such a place: etcd waits for every write to reach its disk.
    let memory = Path::new("/dev/shm");
    let found = if memory.is_dir() {
        builder.tempdir_in(memory)
    } else {
        builder.tempdir()
    };
    found
        .or_else(|_| builder.tempdir())
        .expect("a temporary folder")
}

fn order(verb: &str, pid: u32) {
    let mut shell = guardian()
        .shell
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let orders = shell.stdin.as_mut().expect("its input is piped");
    writeln!(orders, "{verb} {pid}").expect("the guardian lives as long as this process");
}

/// A new folder below this process's scratch folder, removed when it is dropped.
pub(crate) fn scratch(name: &str) -> TempDir {
    let root = &guardian().scratch;
    fs::create_dir_all(root).expect("the scratch folder");
    Builder::new()
        .prefix(name)
        .tempdir_in(root)
        .expect("a folder in the scratch folder")
}

/// From now on the process dies with this one.
pub(crate) fn watch(pid: u32) {
    order("watch", pid);
}

/// The process has been waited for: its number may soon be another's.
pub(crate) fn release(pid: u32) {
    order("release", pid);
}
