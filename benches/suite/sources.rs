//! Reading files of points through `DataSource`, in bytes of the file. Values are checked before reading is timed.

use std::hint::black_box;
use std::path::Path;

use crate::common::{assert_close, group};
use criterion::{Criterion, Throughput};
use entropysum::BlockBuf;
use entropysum::Scalar;
use entropysum::data::{self, CsvWriter, DataSource, Dtype, NpyWriter, OpenOptions};

const ROWS: usize = 50_000;
const DIM: usize = 16;

/// Points read at once: 512 KiB of `f64`, as a sweep does.
const COUNT: usize = 4096;

/// Opens a file and reads all its blocks; the sum of all values, which needs every one of them.
fn read_all<T: Scalar>(path: &Path, options: &OpenOptions, buffer: &mut BlockBuf<T>) -> f64 {
    let source = data::open::<T>(path, options).unwrap();
    let (mut start, mut sum) = (0, T::ZERO);
    while start < source.len() {
        let block = source.read(start, COUNT.min((source.len() - start) as usize), buffer).unwrap();
        for column in block.points.col_iter() {
            sum += column[0];
        }
        start += block.len() as u64;
    }
    sum.to_f64()
}

/// The sum that [`read_all`] gives: that of the first row of each block.
fn expected(values: &[f64]) -> f64 {
    values.chunks(COUNT * DIM).map(|block| block[..DIM].iter().sum::<f64>()).sum()
}

fn bench<T: Scalar>(
    criterion: &mut Criterion,
    name: &str,
    path: &Path,
    options: &OpenOptions,
    values: &[f64],
) {
    let mut buffer = BlockBuf::default();
    assert_close(read_all::<T>(path, options, &mut buffer), expected(values), 1e4 * T::EPSILON);
    let bytes = std::fs::metadata(path).unwrap().len();
    let mut group = group(criterion, &format!("sources/{name}"), Throughput::Bytes(bytes));
    group.bench_function(format!("as {}", T::NAME), |bencher| {
        bencher.iter(|| read_all::<T>(black_box(path), options, &mut buffer));
    });
    group.finish();
}

fn sources(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let options = OpenOptions::default();
    let values: Vec<f64> = (0..ROWS * DIM).map(|i| (i * 31 % 251) as f64 + 0.125).collect();
    for (name, dtype) in [("npy f64", Dtype::F64), ("npy f32", Dtype::F32)] {
        let path = folder.path().join(format!("{dtype}.npy"));
        let mut writer = NpyWriter::create(&path, dtype, Some(DIM)).unwrap();
        writer.write(&values).unwrap();
        writer.finish().unwrap();
        bench::<f64>(criterion, name, &path, &options, &values);
        bench::<f32>(criterion, name, &path, &options, &values);
    }

    let path = folder.path().join("points.csv");
    let header: Vec<String> = (0..DIM).map(|d| format!("x{d}")).collect();
    let mut writer = CsvWriter::create(&path, &header).unwrap();
    writer.write_rows(&values).unwrap();
    writer.finish().unwrap();
    bench::<f64>(criterion, "csv", &path, &options, &values);

    let path = folder.path().join("points.raw");
    std::fs::write(&path, values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>()).unwrap();
    let raw = OpenOptions::default().raw(Some((Dtype::F64, DIM)));
    bench::<f64>(criterion, "raw f64", &path, &raw, &values);

    let whole: Vec<f64> = values.iter().map(|v| v.floor()).collect();
    let bytes: Vec<u8> = whole.iter().map(|&v| v as u8).collect();
    let header = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({ROWS}, {DIM}), }}");
    let header = format!("{header:117}\n");
    let length = (header.len() as u16).to_le_bytes();
    let path = folder.path().join("u8.npy");
    std::fs::write(&path, [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), &bytes].concat())
        .unwrap();
    bench::<f64>(criterion, "npy u8", &path, &options, &whole);
    bench::<f32>(criterion, "npy u8", &path, &options, &whole);
}

pub fn benches(criterion: &mut Criterion) {
    sources(criterion);
}
