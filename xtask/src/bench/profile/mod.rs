//! `cargo xtask bench --profile SCENARIO`: where the instructions of a scenario go, by program and function, exactly.
//!
//! ```text
//! machine stops at the first mark -> every instruction is logged -> machine stops at the second mark
//!                   gdb                        trace                          gdb
//!                    `---------- addresses counted, then named (names) -----------'
//! ```
//! Nothing is sampled: QEMU runs one instruction per block and logs the address of each. Owns: scenarios, tables. Must not know: how anything on the
//! machine works beyond the names of its programs.

mod calls;
mod gdb;
mod trace;

use super::{
    Place, apps,
    machine::{Machine, Mode},
    names::Names,
    ours, peer,
    report::number,
    suites::{Boot, SUITES, Suite},
};
use crate::build;
use anyhow::{Context, Result, bail};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};
use trace::Trace;

/// Functions that the printed tables show; the file shows all.
const SHOWN: usize = 40;
/// Steps of the course that are shown.
const STEPS: usize = 60;

/// What to run and between which places.
struct Scenario {
    suite: &'static str,
    line: String,
    /// Program and function where counting begins and ends.
    from: (&'static str, &'static str),
    to: (&'static str, &'static str),
}

/// Scenarios that are no figures.
const SPANS: [&str; 8] =
    ["start", "total", "start-new", "burst", "start-idle", "total-idle", "boot", "ipc"];

/// Every scenario's name.
pub(crate) fn scenarios() -> Vec<String> {
    let told = SUITES.iter().filter(|suite| suite.takes_figures());
    let places = told.flat_map(|suite| suite.places(false, Mode::Icount));
    let mut names: Vec<String> = places.map(|place| place.measured().to_owned()).collect();
    names.dedup();
    names.extend(SPANS.map(str::to_owned));
    names
}

impl Scenario {
    /// One of [`SPANS`] (`boot` is from root's first instructions, `ipc` is 200 calls), a Python function, or a micro-operation.
    fn find(name: &str) -> Self {
        let marks = (("bench", "bench::mark::begin"), ("bench", "bench::mark::end"));
        let first = ("nothing", "_start");
        let scenario =
            |suite, line: &str, from, to| Self { suite, line: line.to_owned(), from, to };
        match name {
            "start" => scenario("start", "bench=profile", marks.0, first),
            "total" => scenario("start", "bench=profile", marks.0, marks.1),
            "start-new" => scenario("start", "bench=profile-new", marks.0, first),
            "burst" => scenario("start", "bench=profile-burst", marks.0, marks.1),
            "start-idle" => scenario("idle", "bench=profile-idle", marks.0, first),
            "total-idle" => scenario("idle", "bench=profile-idle", marks.0, marks.1),
            "ipc" => scenario("ipc", "bench=ipc", marks.0, marks.1),
            "boot" => scenario("boot.q35", "bench=boot", ("root", "rt_start"), first),
            function if apps::FUNCTIONS.contains(&function) => {
                scenario("apps", &format!("bench=apps figures={function}"), marks.0, marks.1)
            }
            figure => {
                let line = format!("bench=micro figures={figure}");
                scenario("micro", &line, ("lb", "profile_begin"), ("lb", "profile_end"))
            }
        }
    }
}

/// Runs a scenario and prints where its instructions went.
pub(crate) fn run(place: &Place, seed: u32, name: &str) -> Result<()> {
    let (root, out) = (place.root.as_path(), place.out.as_path());
    let scenario = Scenario::find(name);
    let suite = Suite::named(scenario.suite).next().context("no such suite")?;
    let programs = peer::compile(&root.join("bench/linux/src"), &out.join("programs"))?;
    let trees = super::trees(root, &programs, [suite.boot].into_iter())?;
    let ours = ours::build(root, out, &programs, &trees)?;
    let compiled = build::release(root);
    let mut files: Vec<(&'static str, PathBuf)> =
        ["kernel", "root", "images", "compartments", "personality", "bench", "echo"]
            .map(|name| (name, compiled.join(name)))
            .into();
    files.extend(["lb", "nothing"].map(|name| (name, programs.join(name))));
    // Linux programs may lie at the same addresses: only those that run are named.
    if let Some(tree) = trees.get(&Boot::Functions) {
        files.truncate(7);
        files.push(("python3", fs::canonicalize(tree.join("usr/bin/python3"))?));
    }
    let names = Names::read(&files)?;
    let module = ours.module(suite.boot)?;
    let line = format!("{} {}", scenario.line, module.words());
    let flags = suite.flags(Mode::Icount, seed);
    let (kernel, image) = (ours.kernel(suite)?, module.file.as_path());
    let machine = Machine { flags: &flags, kernel, image, line: &line, more: &[], success: 1 };
    let trace = record(out, &machine, &scenario, &names)
        .with_context(|| format!("the scenario {name:?} could not be profiled"))?;
    let text = tables(name, &trace, &names);
    let file = out.join(format!("profile-{}.txt", name.replace(':', "-")));
    fs::write(&file, &text.all).with_context(|| format!("{} cannot be written", file.display()))?;
    print!("{}", text.short);
    println!("\nall of it: {}", file.strip_prefix(root).unwrap_or(&file).display());
    Ok(())
}

/// Runs the machine and counts between the two places.
fn record(out: &Path, machine: &Machine<'_>, scenario: &Scenario, names: &Names) -> Result<Trace> {
    let find = |(program, function): (&str, &str)| {
        names.address(program, function).with_context(|| format!("{program} has no {function}"))
    };
    let (from, to) = (find(scenario.from)?, find(scenario.to)?);
    // One run works in the folder at a time: a socket that is there is that of one which was ended.
    let socket = out.join("gdb.sock");
    let _ = fs::remove_file(&socket);
    let mut command = machine.command();
    command.arg("-S").arg("-gdb").arg(format!("unix:path={},server=on,wait=off", socket.display()));
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let log = child.stderr.take().context("no pipe to QEMU")?;
    let reader = std::thread::spawn(move || trace::read(log));
    let result = gdb::window(&socket, from, to);
    let _ = child.kill();
    let _ = child.wait();
    let _ = fs::remove_file(&socket);
    result?;
    match reader.join() {
        Ok(trace) if trace.total() > 0 => Ok(trace),
        Ok(_) => bail!("QEMU logged nothing"),
        Err(_) => bail!("the log could not be read"),
    }
}

/// The tables: short for the screen, all for the file.
struct Text {
    short: String,
    all: String,
}

fn tables(name: &str, trace: &Trace, names: &Names) -> Text {
    let total = trace.total();
    let (mut programs, mut functions, mut places, mut callers, mut asked) =
        (BTreeMap::new(), BTreeMap::new(), BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for (context, address, count) in trace.counts() {
        let program = match (names.program(address), names.program(context)) {
            ("kernel", program) => format!("kernel for {program}"),
            (program, _) => program.to_owned(),
        };
        let (function, place) = names.describe(address);
        *programs.entry(program.clone()).or_insert(0) += count;
        if program.starts_with("kernel") {
            let caller = format!("{:12} {}", names.program(context), names.chain(context));
            *asked.entry(format!("{caller}  => {function}")).or_insert(0) += count;
            *callers.entry(caller).or_insert(0) += count;
        }
        *functions.entry(format!("{program:24} {function}")).or_insert(0) += count;
        *places.entry(format!("{program:24} {place}")).or_insert(0) += count;
    }
    let inclusive =
        trace.order().map_or_else(BTreeMap::new, |order| calls::inclusive(order, names));
    let mut text = Text { short: String::new(), all: String::new() };
    let head = format!("profile of {name}: {} instructions\n", number(total as f64));
    text.add(&head, &head);
    for (title, table) in [
        ("by program", programs),
        ("by function, with what is inlined into it", functions),
        ("by function, what is inlined apart", places),
        ("by function, with all that it calls", inclusive),
        ("the kernel's work by who asked for it", callers),
        ("the kernel's functions by who asked for them", asked),
    ] {
        let title = format!("\n{title}:\n");
        text.add(&title, &title);
        let rows = ranking(table, total);
        text.add(&rows.iter().take(SHOWN).cloned().collect::<String>(), &rows.concat());
    }
    let course = course(trace, names);
    let title = "\ncourse (a program with the kernel's work for it):\n";
    let short: String = course.iter().take(STEPS).cloned().collect();
    text.add(&format!("{title}{short}"), &format!("{title}{}", course.concat()));
    text
}

impl Text {
    fn add(&mut self, short: &str, all: &str) {
        self.short.push_str(short);
        self.all.push_str(all);
    }
}

/// Rows of a table, the greatest first.
fn ranking(table: BTreeMap<String, u64>, total: u64) -> Vec<String> {
    let mut rows: Vec<(String, u64)> = table.into_iter().collect();
    rows.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let percent = |count: u64| count as f64 * 100.0 / total as f64;
    rows.into_iter()
        .map(|(name, count)| {
            format!("{:>12} {:5.1} %  {name}\n", number(count as f64), percent(count))
        })
        .collect()
}

/// Which program ran after which, the kernel counted with the program it works for.
fn course(trace: &Trace, names: &Names) -> Vec<String> {
    let mut steps: Vec<(&str, u64, u64)> = Vec::new();
    for (address, count) in trace.runs() {
        let program = names.program(address);
        match steps.last_mut() {
            Some((last, own, kernel)) if program == "kernel" || *last == program => {
                *if program == "kernel" { kernel } else { own } += count;
            }
            _ => steps.push((program, count, 0)),
        }
    }
    steps
        .into_iter()
        .map(|(program, own, kernel)| {
            let (own, kernel) = (number(own as f64), number(kernel as f64));
            format!("{own:>12} + {kernel:>10} in the kernel  {program}\n")
        })
        .collect()
}
