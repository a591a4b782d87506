//! Output files that are complete, or do not exist.

use crate::error::{Error, Result};
use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tempfile::NamedTempFile;

/// Names of temporary files.
const PREFIX: &str = ".entropysum-";
const SUFFIX: &str = ".tmp";

/// A temporary file is locked by its process well before this time has passed.
const AGE: Duration = Duration::from_secs(2);

/// Whether output files of this process are written.
static IS_WRITING: AtomicBool = AtomicBool::new(true);

/// Lets all files of this process come to nothing from now on: another process writes the same ones.
#[cfg(feature = "cli")]
pub(crate) fn write_nothing() {
    IS_WRITING.store(false, Ordering::Relaxed);
}

/// Writes a file, buffered, that gets its name at [`commit`](Self::commit).
///
/// Until then it is a temporary file in the same directory, which goes away when this value is dropped.
/// A target that exists and is not a regular file (`/dev/stdout`, `/dev/null`, a named pipe) cannot be
/// replaced and is written directly.
#[derive(Debug)]
pub struct AtomicFile {
    path: PathBuf,
    writer: BufWriter<Sink>,
}

#[derive(Debug)]
enum Sink {
    Staged { file: NamedTempFile, target: PathBuf },
    Direct(File),
}

impl AtomicFile {
    /// Starts a file that will be called `path`.
    ///
    /// # Errors
    /// [`Error::Io`] if its directory does not exist or cannot be written.
    pub fn create(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let sink = open_sink(path).map_err(|fault| Error::io(path, fault))?;
        Ok(Self { path: path.to_owned(), writer: BufWriter::with_capacity(1 << 16, sink) })
    }

    /// Returns the path that the file will have.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Brings everything written to the disk and gives the file its name.
    ///
    /// # Errors
    /// [`Error::Io`], for instance if the disk is full. What was at `path` before is then untouched.
    pub fn commit(self) -> Result<()> {
        let Self { path, writer } = self;
        let finish = || match writer.into_inner().map_err(io::IntoInnerError::into_error)? {
            Sink::Direct(mut file) => file.flush(),
            Sink::Staged { file, target } => {
                file.as_file().sync_all()?;
                file.persist(target).map(drop).map_err(|fault| fault.error)
            }
        };
        finish().map_err(|fault| Error::io(&path, fault))
    }
}

/// Writes a whole file through `write`; if that fails, there is no file.
///
/// # Errors
/// [`Error::Io`] with `path`.
///
/// # Example
/// ```
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("answer.txt");
/// entropysum::expert::write_atomically(&path, |file| {
///     use std::io::Write;
///     writeln!(file, "42")
/// })?;
/// assert_eq!(std::fs::read_to_string(&path)?, "42\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn write_atomically(
    path: impl AsRef<Path>,
    write: impl FnOnce(&mut AtomicFile) -> io::Result<()>,
) -> Result<()> {
    let mut file = AtomicFile::create(&path)?;
    write(&mut file).map_err(|fault| Error::io(path, fault))?;
    file.commit()
}

fn open_sink(path: &Path) -> io::Result<Sink> {
    if !IS_WRITING.load(Ordering::Relaxed) {
        let nothing = if cfg!(windows) { "NUL" } else { "/dev/null" };
        return File::options().write(true).open(nothing).map(Sink::Direct);
    }
    let existing = match std::fs::metadata(path) {
        Ok(existing) => Some(existing),
        Err(fault) if is_absent(&fault) => None,
        // A name that is too long, or a circle of links, is as bad when the file is complete.
        Err(fault) => return Err(fault),
    };
    let replaceable = existing.as_ref().is_none_or(std::fs::Metadata::is_file);
    if !replaceable || names_an_open_descriptor(path) {
        let mut file = File::options().write(true).open(path)?;
        // `>> file` and `/dev/stdout`: what is there stays. Pipes and terminals cannot seek.
        let _ = file.seek(SeekFrom::End(0));
        return Ok(Sink::Direct(file));
    }

    // Through a symbolic link, the file it points to is replaced and the link stays.
    let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let folder = match target.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    if !folder.is_dir() {
        let message = format!("there is no directory {}", folder.display());
        return Err(io::Error::new(io::ErrorKind::NotFound, message));
    }

    remove_orphans(folder);
    let mut builder = tempfile::Builder::new();
    builder.prefix(PREFIX).suffix(SUFFIX);
    // Temporary files are private by default; a result is not. The process's umask applies.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644));
    let file = builder.tempfile_in(folder)?;
    // Held as long as the file is open; file systems without locks do without the clean-up.
    let _ = file.as_file().try_lock();
    if let Some(existing) = existing {
        file.as_file().set_permissions(existing.permissions())?;
    }
    Ok(Sink::Staged { file, target })
}

/// Tells whether a path could not be looked at since there is nothing.
fn is_absent(fault: &io::Error) -> bool {
    matches!(fault.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Removes temporary files that killed processes have left in a folder: those that nobody holds locked.
fn remove_orphans(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let old = || entry.metadata().and_then(|it| it.modified()).ok()?.elapsed().ok();
        if !(name.starts_with(PREFIX) && name.ends_with(SUFFIX)) || old().is_none_or(|it| it < AGE)
        {
            continue;
        }
        let is_orphan = |file: File| file.try_lock().is_ok();
        if File::options().write(true).open(entry.path()).is_ok_and(is_orphan) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Whether a name stands for a file that is already open, which a rename would miss.
fn names_an_open_descriptor(path: &Path) -> bool {
    cfg!(unix)
        && ["/dev/stdout", "/dev/stderr", "/dev/fd", "/proc"].iter().any(|it| path.starts_with(it))
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }
    // Not the loop of the trait: values come a few bytes at a time.
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer.write_all(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

impl Seek for AtomicFile {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.writer.seek(position)
    }
}

impl Sink {
    fn file(&mut self) -> &mut File {
        match self {
            Self::Staged { file, .. } => file.as_file_mut(),
            Self::Direct(file) => file,
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file().write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file().flush()
    }
}

impl Seek for Sink {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.file().seek(position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_committed_file_replaces_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        fs::write(&path, "old").unwrap();
        let mut file = AtomicFile::create(&path).unwrap();
        file.write_all(b"new").unwrap();
        file.flush().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        file.commit().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(names(folder.path()), ["out"]);
    }

    #[test]
    fn files_that_killed_processes_left_go_with_the_next_save_and_no_others_do() {
        let folder = tempfile::tempdir().unwrap();
        let old = std::time::SystemTime::now() - 10 * AGE;
        let make = |name: &str, modified| {
            let file = File::create(folder.path().join(name)).unwrap();
            file.set_modified(modified).unwrap();
            file
        };
        drop(make(".entropysum-killed.tmp", old));
        drop(make(".entropysum-begins.tmp", std::time::SystemTime::now()));
        drop(make("a user's.tmp", old));
        let running = make(".entropysum-runs.tmp", old);
        running.lock().unwrap();
        write_atomically(folder.path().join("out"), |file| file.write_all(b"new")).unwrap();
        let left = [".entropysum-begins.tmp", ".entropysum-runs.tmp", "a user's.tmp", "out"];
        assert_eq!(names(folder.path()), left);
    }

    #[test]
    fn a_failed_or_dropped_file_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let fault = write_atomically(&path, |file| {
            file.write_all(b"half")?;
            Err(io::Error::other("no more"))
        })
        .unwrap_err();
        assert_eq!(fault.to_string(), format!("{}: no more", path.display()));
        drop(AtomicFile::create(&path).unwrap());
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn a_missing_directory_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let fault = AtomicFile::create(folder.path().join("nowhere/out")).unwrap_err().to_string();
        assert!(fault.contains("there is no directory") && fault.contains("nowhere"), "{fault}");
    }

    #[cfg(unix)]
    #[test]
    fn a_name_that_no_file_can_have_is_refused_at_the_start() {
        let folder = tempfile::tempdir().unwrap();
        for (name, expected) in [("x".repeat(256), "too long"), ("circle".to_owned(), "symbolic")] {
            let path = folder.path().join(name);
            let _ = std::os::unix::fs::symlink(&path, &path);
            let fault = AtomicFile::create(&path).unwrap_err().to_string();
            assert!(fault.contains(expected), "{fault}");
        }
        assert!(AtomicFile::create(folder.path().join("x".repeat(255))).is_ok());
    }

    #[cfg(unix)]
    #[test]
    fn permissions_are_those_of_a_normal_file_or_of_the_old_one() {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let folder = tempfile::tempdir().unwrap();
        let [plain, fresh, private] =
            ["plain", "fresh", "private"].map(|it| folder.path().join(it));
        File::create(&plain).unwrap();
        write_atomically(&fresh, |_| Ok(())).unwrap();
        assert_eq!(mode(&fresh), mode(&plain) & 0o644);

        File::create(&private).unwrap();
        fs::set_permissions(&private, fs::Permissions::from_mode(0o600)).unwrap();
        write_atomically(&private, |_| Ok(())).unwrap();
        assert_eq!(mode(&private), 0o600);
    }

    #[cfg(unix)]
    #[test]
    fn a_symbolic_link_stays_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let [real, link] = ["real", "link"].map(|it| folder.path().join(it));
        fs::write(&real, "old").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        write_atomically(&link, |file| file.write_all(b"new")).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&real).unwrap(), "new");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn special_files_are_written_directly() {
        use std::os::unix::fs::FileTypeExt;
        write_atomically("/dev/null", |file| file.write_all(b"gone")).unwrap();
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
        // A disk without space: the bytes fit the buffer, so only `commit` can tell.
        let fault = write_atomically("/dev/full", |file| file.write_all(b"gone")).unwrap_err();
        assert!(
            matches!(&fault, Error::Io { path, .. } if path == Path::new("/dev/full")),
            "{fault}"
        );
    }
}
