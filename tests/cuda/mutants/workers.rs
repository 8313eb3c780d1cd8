//! Mutants tried in processes of their own, as many as there are cores: a crash takes one mutant with it.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;

use super::draw::Mutant;
use super::trial::{Bench, Verdict};

/// Set for workers alone.
pub(super) const VARIABLE: &str = "INBATCH_MUTANTS_WORKER";

/// The test that is a worker's whole life.
const WORKER: &str = "mutants::worker";

/// Starts each line of a worker that is an answer: the test harness prints lines of its own.
const ANSWER: &str = "verdict:";

/// The first answer: every case passes on the kernels that ship. Without it a worker's death would look like a kill.
const READY: &str = "ready";

/// A worker's side: an index a line on standard input, a verdict a line on standard output.
pub(super) fn serve(mutants: &[Mutant]) {
    // A mutant makes cases panic, which is no news.
    std::panic::set_hook(Box::new(|_| {}));
    let bench = Bench::new().expect("workers are started on the emulator alone");
    println!("\n{ANSWER}{READY}");
    for line in std::io::stdin().lock().lines() {
        let Some(mutant) = line.ok().and_then(|line| mutants.get(line.parse::<usize>().ok()?)) else { break };
        let (word, case, text) = match bench.try_mutant(mutant) {
            Verdict::Killed { case, kind } => ("killed", case, kind),
            Verdict::Survived { reached } => ("survived", String::new(), reached.to_string()),
            Verdict::Stillborn(message) => ("stillborn", String::new(), message.replace(['\n', '\t'], " ")),
        };
        println!("\n{ANSWER}{word}\t{case}\t{text}");
    }
}

fn parse(answer: &str) -> Option<Verdict> {
    match *answer.split('\t').collect::<Vec<_>>() {
        ["killed", case, kind] => Some(Verdict::Killed { case: case.to_owned(), kind: kind.to_owned() }),
        ["survived", _, reached] => Some(Verdict::Survived { reached: reached == "true" }),
        ["stillborn", _, message] => Some(Verdict::Stillborn(message.to_owned())),
        _ => None,
    }
}

struct Worker {
    process: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Worker {
    fn start() -> Self {
        let program = std::env::current_exe().expect("this program");
        let mut process = Command::new(program)
            .args([WORKER, "--exact", "--ignored", "--nocapture", "--test-threads=1"])
            .env(VARIABLE, "1")
            .env("PTX_EMULATOR", "force")
            // The processes share the cores already.
            .env("PTX_EMULATOR_WORKERS", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a process");
        let orders = process.stdin.take().expect("piped");
        let answers = BufReader::new(process.stdout.take().expect("piped"));
        let mut worker = Self { process, orders, answers };
        let first = worker.answer();
        assert_eq!(first.as_deref(), Some(READY), "the cases fail on the kernels that ship");
        worker
    }

    /// `None` if the process died.
    fn answer(&mut self) -> Option<String> {
        let mut lines = self.answers.by_ref().lines().map_while(Result::ok);
        lines.find_map(|line| line.strip_prefix(ANSWER).map(str::to_owned))
    }

    /// `None` if the process died.
    fn order(&mut self, index: usize) -> Option<Verdict> {
        writeln!(self.orders, "{index}").ok()?;
        parse(&self.answer()?)
    }

    fn end(self) {
        let Self { mut process, orders, .. } = self;
        drop(orders);
        process.wait().expect("the worker ends with its orders");
    }
}

/// Tries all mutants; `progress` hears of each as it is done.
pub(super) fn try_all(mutants: &[Mutant], progress: impl Fn(usize, &Verdict) + Sync) -> Vec<Verdict> {
    let next = Mutex::new(0..mutants.len());
    let verdicts = Mutex::new(vec![None; mutants.len()]);
    let work = || {
        let mut worker = Worker::start();
        while let Some(index) = next.lock().expect("no panic").next() {
            let verdict = worker.order(index).unwrap_or_else(|| {
                std::mem::replace(&mut worker, Worker::start()).end();
                Verdict::Killed { case: "(the process died)".to_owned(), kind: "crash".to_owned() }
            });
            progress(index, &verdict);
            verdicts.lock().expect("no panic")[index] = Some(verdict);
        }
        worker.end();
    };
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..count {
            scope.spawn(work);
        }
    });
    verdicts
        .into_inner()
        .expect("no panic")
        .into_iter()
        .map(|verdict| verdict.expect("all were tried"))
        .collect()
}
