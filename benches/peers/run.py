"""Compares this crate's command line with other programs: see README.md."""

import argparse
import hashlib
import json
import os
import platform
import resource
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import workloads
from peers import all_peers
from reference import objective
from workloads import WORKLOADS

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
TOLERANCE = {"f64": 1e-9, "f32": 1e-4}
HARD_TOLERANCE = 0.05  # of the inertia: the objectives differ slightly
THREAD_VARIABLES = ["OMP", "OPENBLAS", "MKL", "NUMEXPR"]


def machine_seconds():
    """Processor seconds that all programs on this machine have used."""
    try:
        fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    except OSError:
        return None
    user, nice, system, _, _, irq, soft_irq, stolen = map(int, fields[:8])
    return (user + nice + system + irq + soft_irq + stolen) / os.sysconf("SC_CLK_TCK")


def children_seconds():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def fit(peer, workload, dtype, args):
    """One fit in a process of its own: its report and parameters, or why there are none."""
    with TemporaryDirectory() as folder:
        output = Path(folder) / "parameters.npz"
        job = {
            "peer": peer.name,
            "workload": asdict(workload),
            "dtype": dtype,
            "data": str(workload.data(args.data, dtype)),
            "start": str(workload.start(args.data, "npz")),
            "iterations": args.iterations,
            "threads": args.threads,
            "folder": str(args.folder),
            "binary": str(args.binary),
            "output": str(output),
        }
        threads = {f"{name}_NUM_THREADS": str(args.threads) for name in THREAD_VARIABLES}
        busy, own = machine_seconds(), children_seconds()
        process = subprocess.Popen(
            [sys.executable, HERE / "peers.py", json.dumps(job)],
            env=os.environ | threads,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            answer, errors = process.communicate(timeout=args.limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return f"killed after {args.limit} s", None
        if process.returncode != 0:
            return (errors.strip().splitlines() or [f"exit code {process.returncode}"])[-1], None
        report = json.loads(answer.splitlines()[-1])
        if busy is not None:
            report["others_seconds"] = machine_seconds() - busy - (children_seconds() - own)
        with np.load(output) as arrays:
            return report, {name: arrays[name].astype(np.float64) for name in arrays.files}


class Judge:
    """Objectives of parameters on one file; the same parameters are scored once."""

    def __init__(self, workload, data):
        self.kind, self.x, self.known = workload.kind, np.load(data, mmap_mode="r"), {}

    def __call__(self, parameters):
        key = hashlib.sha256(b"".join(parameters[name].tobytes() for name in sorted(parameters))).digest()
        if key not in self.known:
            self.known[key] = objective(self.kind, self.x, parameters)
        return self.known[key]


def compare(ours, peer, workload, dtype, judge, args):
    """Pairs A B A B; a row of the table."""
    row = {"workload": workload.name, "dtype": dtype, "peer": peer.name, "pairs": []}
    for _ in range(args.pairs):
        pair = {}
        for side, program in (("ours", ours), ("peer", peer)):
            report, parameters = fit(program, workload, dtype, args)
            if parameters is None:
                return row | {"failure": f"{program.name}: {report}"}
            pair[side] = report | {"objective": judge(parameters)}
        row["pairs"].append(pair)

    def values(side, key):
        return [pair[side][key] for pair in row["pairs"]]

    for side in ("ours", "peer"):
        row[f"{side}_seconds"] = median(values(side, "seconds"))
        row[f"{side}_peak_bytes"] = max(filter(None, values(side, "peak_bytes")), default=None)
        row[f"{side}_version"] = row["pairs"][0][side]["version"]
        row[f"{side}_objective"] = row["pairs"][0][side]["objective"]
    ratios = [pair["peer"]["seconds"] / pair["ours"]["seconds"] for pair in row["pairs"]]
    differences = [
        (pair["ours"]["objective"] - pair["peer"]["objective"]) / abs(pair["peer"]["objective"])
        for pair in row["pairs"]
    ]
    row["ratio"], row["ratio_min"], row["ratio_max"] = median(ratios), min(ratios), max(ratios)
    row["difference"] = max(differences, key=abs)
    tolerance = HARD_TOLERANCE if workload.kind == "hard" else TOLERANCE[dtype]
    row["agrees"] = abs(row["difference"]) <= tolerance
    return row


def megabytes(count):
    return "?" if count is None else f"{count / 1e6:.0f}"


def seconds_of(row, side):
    return f"{row[f'{side}_seconds']:.4g}"


def table(rows, unit="s/it", seconds=seconds_of):
    lines = [
        f"| workload | | peer | ours {unit} | peer {unit} | ratio (min-max) | ours MB | peer MB | difference |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for r in rows:
        start = f"| {r['workload']} | {r['dtype']} | {r['peer']} |"
        if "failure" in r:
            lines.append(f"{start} {r['failure']} | | | | | |")
            continue
        sides = " | ".join(seconds(r, side) for side in ("ours", "peer"))
        ratio = f"{r['ratio']:.2f} ({r['ratio_min']:.2f}-{r['ratio_max']:.2f})"
        memory = f"{megabytes(r['ours_peak_bytes'])} | {megabytes(r['peer_peak_bytes'])}"
        verdict = f"{r['difference']:.1e}" + ("" if r["agrees"] else " **differs**")
        lines.append(f"{start} {sides} | {ratio} | {memory} | {verdict} |")
    return "\n".join(lines)


def processor():
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor()


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workloads", nargs="+", choices=list(WORKLOADS), default=list(WORKLOADS))
    parser.add_argument("--files", nargs="+", default=[], metavar="FILE", help=".npy files of real points, in place of workloads")
    parser.add_argument("--kinds", nargs="+", default=["full", "diag", "spherical"], help="for files")
    parser.add_argument("--components", type=int, default=16, help="for files")
    parser.add_argument("--peers", nargs="+", metavar="NAME", help="all by default")
    parser.add_argument("--dtypes", nargs="+", choices=list(TOLERANCE), default=list(TOLERANCE))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="part of the points, for a trial")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds after which a fit is killed")
    parser.add_argument("--folder", type=Path, default=PROJECT / "target/peers", help="that of setup.sh")
    parser.add_argument("--data", type=Path, help="where workloads are kept [default: FOLDER/data]")
    parser.add_argument("--output", type=Path, help="[default: FOLDER/results.json]")
    parser.add_argument("--binary", type=Path, help="entropysum [default: built here]")
    args = parser.parse_args()
    args.data = args.data or args.folder / "data"
    args.output = args.output or args.folder / "results.json"
    if args.binary is None:
        subprocess.run(["cargo", "build", "--release", "--quiet"], cwd=PROJECT, check=True)
        args.binary = Path(os.environ.get("CARGO_TARGET_DIR", PROJECT / "target")) / "release/entropysum"
    args.binary = args.binary.resolve()
    return args


def main():
    args = parse_arguments()
    ours, peers = all_peers(args.folder, args.binary)
    if unknown := set(args.peers or []) - set(peers):
        sys.exit(f"no peer is called {', '.join(unknown)}; there are {', '.join(peers)}")
    results = {
        "machine": {"processor": processor(), "cores": os.cpu_count(), "system": platform.platform()},
        "settings": {key: str(value) for key, value in vars(args).items()},
        "rows": [],
    }
    chosen = [WORKLOADS[name].scaled(args.scale) for name in args.workloads]
    if args.files:
        chosen = [workloads.real(file, kind, args.components) for file in args.files for kind in args.kinds]
    for workload in chosen:
        workloads.write(workload, args.data)
        for dtype in args.dtypes:
            judge = Judge(workload, workload.data(args.data, dtype))
            for peer in peers.values():
                if (args.peers and peer.name not in args.peers) or not peer.supports(workload, dtype):
                    continue
                row = compare(ours, peer, workload, dtype, judge, args)
                results["rows"].append(row)
                print(table([row]).splitlines()[-1], file=sys.stderr, flush=True)
                args.output.write_text(json.dumps(results, indent=1))
    rows = results["rows"]
    versions = {r[f"{s}_version"]: r["peer"] if s == "peer" else ours.name for r in rows for s in ("ours", "peer") if "failure" not in r}
    machine = results["machine"]
    print(f"{machine['processor']}, {args.threads} of {machine['cores']} threads, {args.pairs} pairs, ", end="")
    print(f"{args.iterations} iterations. Ratio: how many times longer the peer takes.\n")
    print(table(rows))
    print("\n" + ", ".join(f"{name} {version}" for version, name in versions.items()))
    if not all(r.get("agrees", True) for r in rows):
        sys.exit("parameters differ")


if __name__ == "__main__":
    main()
