//! The files of a command: all that it writes is held against all that it reads, before it does either.

use crate::cli::output::extension;
use crate::data;
use crate::error::{Error, Result};
use crate::expert::AtomicFile;
use crate::store;
use std::path::{Path, PathBuf};

/// An output file of a command.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    path: &'a Path,
    /// Extensions that its name may have.
    extensions: &'static [&'static str],
    /// An input that it may replace.
    replaces: Option<&'a Path>,
}

impl<'a> Target<'a> {
    fn new(path: &'a Path, extensions: &'static [&'static str]) -> Self {
        Self { path, extensions, replaces: None }
    }

    /// Names a matrix or a vector.
    pub fn table(path: &'a Path) -> Self {
        Self::new(path, &["npy", "csv"])
    }

    /// Names a model. A model that a fit goes on from may be replaced by what becomes of it.
    pub fn model(path: &'a Path, start: Option<&'a Path>) -> Self {
        Self { replaces: start, ..Self::new(path, &["safetensors", "json"]) }
    }

    /// Names the history of a fit.
    pub fn history(path: &'a Path) -> Self {
        Self::new(path, &["csv"])
    }

    /// Names a picture.
    pub fn picture(path: &'a Path) -> Self {
        Self::new(path, &["png"])
    }

    /// Names a plot.
    pub fn plot(path: &'a Path) -> Self {
        Self::new(path, &["svg", "png"])
    }

    /// Names a checkpoint, which may have any extension.
    pub fn checkpoint(path: &'a Path) -> Self {
        Self::new(path, &[])
    }

    fn check_name(self) -> Result<()> {
        let path = self.path;
        let refuse = |message: String| Err(Error::Config(format!("{}: {message}", path.display())));
        if is_stream(path) {
            return Ok(());
        }
        if path.is_dir() {
            return refuse("the path is a directory, expected a file".to_owned());
        }
        if self.extensions.is_empty() {
            // Any name may be typed by mistake, so the file that it stands for must be an older checkpoint.
            if path.exists() && !store::may_be_checkpoint(path)? {
                let advice = "name another file, or delete it";
                return refuse(format!("not a checkpoint, and would be replaced; {advice}"));
            }
        } else if !self.extensions.contains(&extension(path).as_str()) {
            let expected: Vec<String> = self.extensions.iter().map(|it| format!(".{it}")).collect();
            let expected = expected.join(" or ");
            return refuse(format!("the name of this output must end in {expected}"));
        }
        Ok(())
    }

    /// Makes a temporary file, which shows that the folder can be written, and deletes it at once.
    fn try_out(self) -> Result<()> {
        if is_stream(self.path) { Ok(()) } else { AtomicFile::create(self.path).map(drop) }
    }
}

/// Checks, before anything is read or written, that no output is an input or another output, and that all outputs can be
/// written. Inputs may be patterns of names.
///
/// # Errors
/// Names the first output that breaks these rules, or the first pattern that nothing matches.
pub fn check_files(inputs: &[&Path], targets: &[Target<'_>]) -> Result<()> {
    let mut read = Vec::new();
    for input in inputs {
        let files = data::expand(input)?;
        read.extend(files.iter().filter(|file| !is_device(file)).map(|file| Identity::of(file)));
    }
    let stdout = Path::new("/dev/stdout");
    let printed = stdout.is_file().then(|| Identity::of(stdout));
    let mut written = Vec::new();
    for target in targets {
        target.check_name()?;
        let identity = Identity::of(target.path);
        let is_replaced = target.replaces.is_some_and(|input| Identity::of(input) == identity);
        let role = if read.contains(&identity) && !is_replaced {
            "an input of the command"
        } else if written.contains(&identity) && target.path != Path::new("/dev/null") {
            "another output of the command"
        } else if printed.as_ref() == Some(&identity) && target.path != stdout {
            "the standard output of the command"
        } else {
            written.push(identity);
            continue;
        };
        let message = format!("{}: this output file is also {role}", target.path.display());
        return Err(Error::Config(message));
    }
    targets.iter().try_for_each(|target| target.try_out())
}

/// Tells which file a path stands for, whatever it is called.
#[derive(Debug, PartialEq, Eq)]
enum Identity {
    /// Device and inode: links to a file have those of the file.
    Node(u64, u64),
    /// The absolute path, of files that do not exist yet and of streams.
    Path(PathBuf),
}

impl Identity {
    fn of(path: &Path) -> Self {
        let metadata = path.metadata().ok().filter(|it| it.is_file());
        if let Some((device, inode)) = metadata.as_ref().and_then(data::node) {
            return Self::Node(device, inode);
        }
        let beside = || {
            let folder = path.parent().filter(|it| *it != Path::new("")).unwrap_or(Path::new("."));
            Some(folder.canonicalize().ok()?.join(path.file_name().unwrap_or_default()))
        };
        let path = path.canonicalize().ok().or_else(beside).unwrap_or_else(|| path.to_owned());
        Self::Path(path)
    }
}

/// Tells whether a path names a terminal, a pipe or the like, which is not replaced when it is written.
fn is_device(path: &Path) -> bool {
    path.metadata().is_ok_and(|it| !it.is_file() && !it.is_dir())
}

/// Tells whether a path names a stream, such as `/dev/stdout` or a pipe, and no replaceable file.
fn is_stream(path: &Path) -> bool {
    let open = ["/dev/stdout", "/dev/stderr", "/dev/fd", "/proc"];
    is_device(path) || open.iter().any(|known| path.starts_with(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_to_one_file_are_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let other = folder.path().join(".").join("file");
        assert_eq!(Identity::of(&path), Identity::of(&other));
        std::fs::write(&path, "").unwrap();
        assert_eq!(Identity::of(&path), Identity::of(&other));
        assert_ne!(Identity::of(&path), Identity::of(folder.path()));
        #[cfg(unix)]
        {
            let links = ["hard", "soft"].map(|name| folder.path().join(name));
            std::fs::hard_link(&path, &links[0]).unwrap();
            std::os::unix::fs::symlink("hard", &links[1]).unwrap();
            links.iter().for_each(|link| assert_eq!(Identity::of(link), Identity::of(&path)));
        }
    }
}
