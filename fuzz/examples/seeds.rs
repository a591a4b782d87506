//! Writes whole files for each reader into `corpus/`, from which cargo-fuzz begins.

use entropysum_fuzz::{READERS, whole_files};
use std::path::Path;

fn main() -> std::io::Result<()> {
    for reader in READERS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(reader);
        std::fs::create_dir_all(&folder)?;
        for (index, bytes) in whole_files(reader).into_iter().enumerate() {
            std::fs::write(folder.join(format!("whole-{index}")), bytes)?;
        }
    }
    Ok(())
}
