//! Options of `mett run`, and exit statuses.

use super::{
    Cases,
    home::{Home, IMAGE},
};
use anyhow::{Result, ensure};
use std::fs;

/// Options, a script, its status, standard output, a part of standard error.
type Row = (&'static str, &'static [&'static str], &'static str, i32, &'static str, &'static str);

const ROWS: &[Row] = &[
    ("an environment variable is set", &["-e", "A=1 2"], "echo $A", 0, "1 2\n", ""),
    (
        "the host's environment does not leak",
        &["-e", "NOWHERE"],
        "echo ${HOME}${NOWHERE}",
        0,
        "/root\n",
        "",
    ),
    ("the working directory is made", &["-w", "/a/b"], "pwd", 0, "/a/b\n", ""),
    (
        "a relative working directory is refused",
        &["-w", "a"],
        "pwd",
        125,
        "",
        "not an absolute path",
    ),
    ("a user by name", &["-u", "nobody"], "id -u; id -g", 0, "65534\n65534\n", ""),
    ("a user by numbers", &["-u", "12:34"], "id -u; id -g", 0, "12\n34\n", ""),
    ("an unknown user", &["-u", "ghost"], "id", 125, "", "unable to find user ghost"),
    ("an unknown group", &["-u", "0:ghosts"], "id", 125, "", "ghosts"),
    ("a host name", &["--hostname", "zork"], "hostname; cat /etc/hostname", 0, "zork\nzork\n", ""),
    (
        "an entrypoint gets the words that follow",
        &["--entrypoint", "/bin/echo"],
        "x",
        0,
        "sh -c x\n",
        "",
    ),
    ("files are read-only", &["--read-only"], "touch /x", 1, "", "Read-only file system"),
    (
        "a tmpfs is writable over read-only files",
        &["--read-only", "--tmpfs", "/t"],
        "touch /t/x",
        0,
        "",
        "",
    ),
    (
        "a tmpfs has the size that it was given, and says so",
        &["--tmpfs", "/t:size=1m,mode=700"],
        "cd /t; mkdir d; dd if=/dev/zero of=d/a bs=64k count=15 2>&-; cp d/a b 2>/tmp/e; tail -c 24 /tmp/e; \
         df -k /t | awk 'END {print $2, $3, $4}'; rm b; : > d/a; dd if=/dev/zero of=c bs=1M count=1 2>&- && echo whole; \
         fallocate -l 2m d/b 2>&- || echo none; grep /t /proc/mounts",
        0,
        "No space left on device\n1024 1024 0\nwhole\nnone\ntmpfs /t tmpfs rw,nosuid,nodev,noexec,size=1024k,mode=700 0 0\n",
        "",
    ),
    (
        "the table of mounts says what is read-only",
        &["--read-only", "--tmpfs", "/a b:ro"],
        "sed -n '1p;$p' /proc/mounts; awk 'END {print $1, $2, $3, $5, $6}' /proc/self/mountinfo; stat -c %d '/a b'",
        0,
        "overlay / overlay ro 0 0\ntmpfs /a\\040b tmpfs ro,nosuid,nodev,noexec 0 0\n7 1 0:135 /a\\040b ro,nosuid,nodev,noexec\n135\n",
        "",
    ),
    (
        "nothing is run from a tmpfs, unless it is said to be for that",
        &["--tmpfs", "/t", "--tmpfs", "/x:exec,size=4m"],
        "for d in /t /x /dev/shm; do cp /bin/busybox $d/echo; $d/echo run $d 2>&- || echo $?; done",
        0,
        "126\nrun /x\n126\n",
        "",
    ),
    (
        "/dev/shm has 64 MiB",
        &[],
        "df -k /dev/shm | awk 'END {print $2}'; dd if=/dev/zero of=/dev/shm/x bs=1M count=80 2>&- || echo full",
        0,
        "65536\nfull\n",
        "",
    ),
    (
        "a set-user-ID program on a tmpfs gives nothing",
        &["--tmpfs", "/x:exec,size=4m"],
        "cd /x; for d in / /x; do cp /bin/busybox $d/su; chmod 4755 $d/su; done
         su nobody -s /bin/sh -c '/su -c : 2>&1 </dev/null; /x/su -c : 2>&1'",
        1,
        "Password: \nsu: incorrect password\nsu: must be suid to work properly\n",
        "",
    ),
    (
        "a process that is not waited for keeps its name",
        &[],
        "sh -c 'echo $$ > /tmp/parent; sleep 0 & echo $! > /tmp/child; exec sleep 100' &
         until grep -qs zombie /proc/$(cat /tmp/child 2>&-)/status; do :; done
         cat /proc/$(cat /tmp/child)/comm; kill $(cat /tmp/parent)",
        0,
        "sleep\n",
        "",
    ),
    (
        "an init reaps and is process 1",
        &["--init"],
        "echo $$; tr '\\0' ' ' < /proc/1/cmdline",
        0,
        "2\ninit ",
        "",
    ),
    ("an init passes signals on", &["--init"], "trap 'exit 9' TERM; kill 1; sleep 5", 9, "", ""),
    (
        "a limit of open files",
        &["--ulimit", "nofile=10:20"],
        "ulimit -n; ulimit -Hn",
        0,
        "10\n20\n",
        "",
    ),
    (
        "a limit of processes",
        &["--pids-limit", "2"],
        "sleep 1 & sleep 1 & wait",
        2,
        "",
        "can't fork",
    ),
    ("one CPU of several", &["--cpuset-cpus", "0"], "nproc", 0, "1\n", ""),
    (
        "a share and a bandwidth of the CPU",
        &["--cpu-shares", "2", "--cpus", "0.5"],
        "true",
        0,
        "",
        "",
    ),
    ("a memory limit that suffices", &["-m", "32m"], "true", 0, "", ""),
    ("a status of its own", &[], "exit 42", 42, "", ""),
    (
        "death by a signal of another process",
        &[],
        "sh -c 'kill -KILL $$'; exit $?",
        137,
        "",
        "Killed",
    ),
    ("a volume is refused by name", &["-v", "/a:/b"], "true", 125, "", "--volume"),
    ("a published port is refused by name", &["-p", "80:80"], "true", 125, "", "--publish"),
    ("a network is refused by name", &["--network", "host"], "true", 125, "", "--network"),
    ("an unknown option", &["--nonsense"], "true", 125, "", "--nonsense"),
    ("more CPUs than there are", &["--cpus", "99"], "true", 125, "", "the machine has"),
    ("a CPU that does not exist", &["--cpuset-cpus", "60"], "true", 125, "", "--cpuset-cpus"),
    ("less memory than is needed", &["-m", "4k"], "true", 125, "", "at least 1 MiB"),
    ("a malformed size", &["-m", "lots"], "true", 125, "", "invalid size"),
    ("a malformed limit", &["--ulimit", "nofile"], "true", 125, "", "invalid ulimit"),
    ("an unknown signal", &["--stop-signal", "NOPE"], "true", 125, "", "unknown signal"),
];

pub(super) fn run(cases: &mut Cases<'_>) -> Result<()> {
    for (name, options, script, status, stdout, stderr) in ROWS {
        cases.case(name, |home| home.shell(options, script).is(*status, stdout, stderr));
    }
    cases.case("no such command", |home| {
        home.run(&["run", "--rm", IMAGE, "nosuch"]).refuses(127, "not found in $PATH")
    });
    cases.case("no such file", |home| {
        home.run(&["run", "--rm", IMAGE, "/no/such"]).refuses(127, "no such file")
    });
    cases.case("a file that is not executable", |home| {
        home.run(&["run", "--rm", IMAGE, "/etc/passwd"]).refuses(126, "permission denied")
    });
    cases.case("a directory", |home| {
        home.run(&["run", "--rm", IMAGE, "/bin"]).refuses(126, "permission denied")
    });
    cases.case("an environment file", environment_file);
    cases.case("an identity file", identity_file);
    cases.case("labels are kept", |home| {
        home.run(&["create", "--label", "a=b", "--name", "labelled", IMAGE]).succeeds()?;
        home.run(&["ps", "-a", "--format", "json"]).has(r#""Labels":{"a":"b"}"#)?;
        home.run(&["rm", "labelled"]).succeeds()
    });
    cases.case("a list is of those that a filter admits", filters);
    cases.case("nothing is left behind", |home| home.run(&["ps", "-aq"]).is(0, "", ""));
    Ok(())
}

fn filters(home: &Home<'_>) -> Result<()> {
    home.sleeper("awake")?;
    for (name, labels) in [("first", ["a=1", "b=1"]), ("second", ["a=2", "b=1"])] {
        let [one, other] = labels;
        home.run(&["create", "--name", name, "--label", one, "--label", other, IMAGE])
            .succeeds()?;
    }
    let rows: &[(&[&str], &[&str])] = &[
        (&["label=a"], &["first", "second"]),
        (&["label=a=2"], &["second"]),
        (&["label=a=1", "label=b=1"], &["first"]),
        (&["label=a=1", "label=a=2"], &[]),
        (&["name=fir", "name=sec"], &["first", "second"]),
        (&["status=created", "label=a=1"], &["first"]),
        (&["status=running"], &["awake"]),
        (&["ancestor=shell", "name=awake"], &["awake"]),
        (&["id=zz"], &[]),
    ];
    for (filters, expected) in rows {
        let mut arguments = vec!["ps", "-a", "--format", "json"];
        filters.iter().for_each(|filter| arguments.extend(["-f", filter]));
        let outcome = home.run(&arguments);
        outcome.succeeds()?;
        let mut names = Vec::new();
        for line in outcome.text().lines() {
            let value: serde_json::Value = serde_json::from_str(line)?;
            names.push(value["Names"].as_str().unwrap_or_default().to_owned());
        }
        names.sort();
        ensure!(names == *expected, "{filters:?} admits {names:?}");
    }
    home.run(&["ps", "-q", "--filter", "status=created"]).has("\n")?;
    home.run(&["ps", "--filter", "colour=red"]).refuses(125, "unknown filter")?;
    home.run(&["ps", "--filter", "status=tired"]).refuses(125, "unknown state")?;
    home.run(&["rm", "-f", "awake", "first", "second"]).succeeds()
}

fn environment_file(home: &Home<'_>) -> Result<()> {
    let path = home.path.join("environment");
    fs::write(&path, "# a comment\nB=two\n\nC=three=3\n")?;
    let file = path.display().to_string();
    home.shell(&["--env-file", &file], "echo $B $C").is(0, "two three=3\n", "")?;
    home.shell(&["--env-file", "/no/such"], "true").refuses(125, "/no/such")
}

fn identity_file(home: &Home<'_>) -> Result<()> {
    let path = home.path.join("identity");
    let file = path.display().to_string();
    home.shell(&["--cidfile", &file], "hostname").succeeds()?;
    let identity = fs::read_to_string(&path)?;
    ensure!(identity.len() == 64, "{identity:?} is no identity");
    home.shell(&["--cidfile", &file], "true").refuses(125, "exists")
}
