//! Jobs of several processes, as users start them: the files of one process, and faults that end all.
//!
//! Needs `mpirun` of Open MPI. Every job has a time limit, since ranks that lose each other would wait for ever.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(120);

fn data(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../data").join(name).display().to_string()
}

/// Starts a job of `n` ranks in a folder; without MPI's launcher if `n` is 0.
fn start(n: usize, folder: &Path, arguments: &str) -> Child {
    let program = env!("CARGO_BIN_EXE_entropysum-mpi");
    let mut command = match n {
        0 => Command::new(program),
        _ => {
            let mut command = Command::new("mpirun");
            command.args(["-n", &n.to_string(), "--oversubscribe", "--bind-to", "none", program]);
            command
        }
    };
    command
        .args(arguments.split_whitespace())
        .args(["--threads", "1"])
        .current_dir(folder)
        // A container's user is root.
        .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
        .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("mpirun of Open MPI is installed")
}

/// Waits for a job, within the limit.
fn end(mut job: Child) -> Output {
    let begin = Instant::now();
    while job.try_wait().unwrap().is_none() {
        if begin.elapsed() > LIMIT {
            job.kill().unwrap();
            panic!("the job does not end: {:?}", job.wait_with_output());
        }
        sleep(Duration::from_millis(20));
    }
    job.wait_with_output().unwrap()
}

/// Runs a job of which each rank has a folder of its own, the first one rank 0's.
fn run_in(folders: &[PathBuf], arguments: &str) -> Output {
    let mut command = Command::new("mpirun");
    command.args(["--oversubscribe", "--bind-to", "none"]);
    for (rank, folder) in folders.iter().enumerate() {
        command.args(if rank == 0 { &[][..] } else { &[":"] });
        command.args(["-n", "1", "-wdir"]).arg(folder).arg(env!("CARGO_BIN_EXE_entropysum-mpi"));
        command.args(arguments.split_whitespace()).args(["--threads", "1"]);
    }
    command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    end(command.spawn().expect("mpirun of Open MPI is installed"))
}

fn succeed(n: usize, folder: &Path, arguments: &str) -> String {
    let output = end(start(n, folder, arguments));
    assert!(output.status.success(), "{n} ranks, {arguments}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Returns what a job that must fail says.
fn fail(n: usize, folder: &Path, arguments: &str) -> String {
    let output = end(start(n, folder, arguments));
    assert!(!output.status.success(), "{n} ranks, {arguments}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// Returns a history without its seconds.
fn history(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    let seconds = text.lines().next().unwrap().split(',').position(|name| name == "seconds");
    let seconds = seconds.expect("a history has seconds");
    let others = |line: &str| {
        let fields = line.split(',').enumerate().filter(|(i, _)| *i != seconds);
        fields.map(|(_, field)| field).collect::<Vec<_>>().join(",")
    };
    text.lines().map(others).collect()
}

/// Cuts a table into three files of unlike length, and returns the pattern of their names.
fn cut_in_three(folder: &Path, name: &str) -> String {
    let text = fs::read_to_string(data(name)).unwrap();
    let (header, rows) = text.split_once('\n').unwrap();
    let rows: Vec<&str> = rows.lines().collect();
    let cuts = [0, rows.len() / 7, rows.len() / 2, rows.len()];
    for (k, cut) in cuts.windows(2).enumerate() {
        let part = rows[cut[0]..cut[1]].join("\n");
        fs::write(folder.join(format!("part-{k}.csv")), format!("{header}\n{part}\n")).unwrap();
    }
    "part-*.csv".to_owned()
}

#[test]
fn files_have_the_bytes_of_one_process() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let weights: String = (0..178).map(|i| format!("{}\n", 0.5 + f64::from(i % 3))).collect();
    fs::write(folder.join("weights.csv"), weights).unwrap();
    let (china, counts, bits) =
        (data("china.npy"), data("doctor_visits.npy"), data("digits_binary.npy"));
    let wine = data("wine.csv");
    let parts = cut_in_three(folder, "wine.csv");
    let fits = [
        format!("fit {china} -k 6 --max-iter 4"),
        format!("fit {china} -k 6 --precision f32 --max-iter 4"),
        format!("fit {china} -k 6 --model gaussian-tied --batch-size 2000 --epochs 2 --polish 1"),
        format!("fit {counts} -k 3 --model poisson --max-iter 6"),
        format!("fit {wine} -k 3 --model gaussian-diag --weights weights.csv --max-iter 6"),
        format!("fit {parts} -k 2 --max-iter 6"),
        format!("fit {china} -k 3 --model mfa --latent 1 --precision f32 --max-iter 3"),
        format!("fit {bits} --model sbn --latent 3 --batch-size 400 --epochs 2"),
        format!("fit {china} --model ppca --latent 2 --algorithm em --max-iter 4"),
    ];
    for (i, fit) in fits.iter().enumerate() {
        let run = |n: usize| {
            succeed(n, folder, &format!("{fit} --tol 0 --seed 2 -o {n}.json --history {n}.csv"));
            let model = fs::read(folder.join(format!("{n}.json"))).unwrap();
            (model, history(&folder.join(format!("{n}.csv"))))
        };
        let alone = run(0);
        // All sizes for the first, which has the most lanes.
        for n in if i == 0 { vec![1, 2, 3, 4, 7] } else { vec![2, 3] } {
            assert!(run(n) == alone, "{n} ranks: {fit}");
        }
    }
}

#[test]
fn ranks_may_have_files_of_their_own() {
    let place = tempfile::tempdir().unwrap();
    // The header of the array is 128 bytes long.
    let pixels = fs::read(data("china.npy")).unwrap().split_off(128);
    let n = pixels.len() / 3;
    let cuts = [0, n / 10, n / 4, n].map(|row| 3 * row);
    let folders: Vec<PathBuf> = (0..3).map(|k| place.path().join(format!("rank{k}"))).collect();
    for (folder, cut) in folders.iter().zip(cuts.windows(2)) {
        fs::create_dir(folder).unwrap();
        fs::write(folder.join("part.raw"), &pixels[cut[0]..cut[1]]).unwrap();
    }
    let all = "rank0/part.raw rank1/part.raw rank2/part.raw";
    let raw = "--dtype u8 --dim 3";
    for fit in ["-k 6 --max-iter 4", "-k 4 --batch-size 3000 --epochs 1 --precision f32"] {
        let outputs = "--tol 0 -o model.json --history history.csv";
        succeed(0, place.path(), &format!("fit {all} {raw} {fit} {outputs}"));
        let job = run_in(&folders, &format!("fit part.raw --private-files {raw} {fit} {outputs}"));
        assert!(job.status.success(), "{job:?}");
        let read = |folder: &Path| {
            (fs::read(folder.join("model.json")).unwrap(), history(&folder.join("history.csv")))
        };
        assert!(read(&folders[0]) == read(place.path()), "{fit}");
        assert!(!folders[1].join("model.json").exists(), "rank 1 writes nothing");
    }
    fs::copy(folders[0].join("model.json"), folders[1].join("model.json")).unwrap();
    fs::copy(folders[0].join("model.json"), folders[2].join("model.json")).unwrap();
    succeed(0, place.path(), &format!("predict model.json {all} {raw} -o labels.npy"));
    let predict = format!("predict model.json part.raw --private-files {raw} -o labels.npy");
    assert!(run_in(&folders, &predict).status.success());
    let [one, other] = [place.path(), &folders[0]].map(|it| fs::read(it.join("labels.npy")));
    assert!(one.unwrap() == other.unwrap());

    fs::remove_file(folders[2].join("part.raw")).unwrap();
    let job = run_in(&folders, &format!("fit part.raw --private-files {raw} -k 2"));
    let told = String::from_utf8(job.stderr).unwrap();
    assert!(!job.status.success() && told.contains("part.raw"), "{told}");
}

#[test]
fn other_commands_are_shared_too() {
    let place = tempfile::tempdir().unwrap();
    let (folder, china) = (place.path(), data("china.npy"));
    succeed(0, folder, &format!("fit {china} -k 4 --max-iter 3 -o m.json"));
    let run = |n: usize| {
        succeed(n, folder, &format!("predict m.json {china} -o labels{n}.npy"));
        let score = succeed(n, folder, &format!("score m.json {china} --json"));
        let chosen = succeed(n, folder, &format!("select {} -k 1..3", data("geyser.csv")));
        // Seconds differ.
        let best = chosen.lines().find(|line| line.contains("best")).map(str::to_owned);
        (fs::read(folder.join(format!("labels{n}.npy"))).unwrap(), score, best)
    };
    let alone = run(0);
    assert!(alone.0.len() > 100_000 && alone.2.is_some(), "{alone:?}");
    assert!(run(3) == alone);
}

#[test]
fn faults_end_all_ranks_and_are_told_once() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let told = |arguments: &str, expected: &str| {
        let told = fail(3, folder, arguments);
        let lines = told.lines().filter(|line| line.contains("error: ")).collect::<Vec<_>>();
        assert!(lines.len() == 1 && lines[0].contains(expected), "{arguments}: {told}");
    };
    told("fit nothing.npy -k 2", "nothing.npy");
    told(&format!("fit {} -k two", data("china.npy")), "two");

    // The point at fault is in the share of the last rank.
    let rows: Vec<String> = (0..5000).map(|i| format!("{},{}\n", i % 7, i % 11)).collect();
    let bad = rows.iter().enumerate().map(|(i, row)| if i == 4900 { "1e999,1\n" } else { row });
    fs::write(folder.join("bad.csv"), format!("a,b\n{}", bad.collect::<String>())).unwrap();
    told("fit bad.csv -k 2", "row 4900");

    // A disk that is full is known to rank 0 alone.
    told(&format!("fit {} -k 2 --max-iter 2 -o /dev/full", data("geyser.csv")), "No space");
}

/// Returns the processes that a process has started.
fn children(parent: u32) -> Vec<u32> {
    let folders = fs::read_dir("/proc").unwrap().flatten();
    let numbers = folders.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_child = |process: &u32| {
        let text = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        // The name may hold anything but a closing bracket and a space.
        let parent_of = text.rsplit_once(") ").and_then(|it| it.1.split(' ').nth(1)?.parse().ok());
        parent_of == Some(parent)
    };
    numbers.filter(is_child).collect()
}

fn wait_for(path: &Path) {
    let begin = Instant::now();
    while !path.exists() {
        assert!(begin.elapsed() < LIMIT, "{} does not appear", path.display());
        sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_killed_job_goes_on_with_another_number_of_ranks_to_the_same_bytes() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let fit = format!("fit {} -k 8 --tol 0 --max-iter 30", data("china.npy"));
    succeed(2, folder, &format!("{fit} -o whole.json"));
    let kept = format!("{fit} -o kept.json --checkpoint state --checkpoint-every 0.01");
    let job = start(3, folder, &kept);
    wait_for(&folder.join("state"));
    let ranks = children(job.id());
    assert_eq!(ranks.len(), 3);
    let killed = Command::new("kill").args(["-9", &ranks[1].to_string()]).status().unwrap();
    assert!(killed.success());
    let output = end(job);
    assert!(!output.status.success() && !folder.join("kept.json").exists(), "{output:?}");
    assert!(children(std::process::id()).iter().all(|child| !ranks.contains(child)));

    succeed(2, folder, &format!("{kept} --resume"));
    let [whole, kept] = ["whole.json", "kept.json"].map(|it| fs::read(folder.join(it)).unwrap());
    assert!(whole == kept);
}
