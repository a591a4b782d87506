//! Learners that are fed blocks or statistics, as bytes: to go on with them later, or on another machine.

use super::stored::Stored;
use super::{files, safetensors};
use crate::em::Stepwise;
use crate::error::{Error, Result};
use crate::model::GenerativeModel;

/// What the bytes of every learner begin with, version included.
const MAGIC: &[u8; 21] = b"entropysum-learner 1\n";

/// Returns a learner as bytes: its model, its running statistics, its settings.
///
/// ```
/// use entropysum::em::{Online, StepSize};
/// use entropysum::family::{Parameters, Regularization, registry};
/// use entropysum::{Block, Executor, Mixture, store};
///
/// let components = vec![vec![0.0, 1.0], vec![4.0, 1.0]];
/// let parameters = Parameters { components, shared: vec![] };
/// let model = Mixture::new(registry::build("gaussian-full", 1)?, vec![0.5, 0.5], parameters)?;
/// let mut online = Online::new(model, StepSize::default(), Regularization::default())?;
/// let executor = Executor::new(Some(1))?;
/// online.partial_fit(Block::from_rows(&[0.1, -0.2, 5.0, 4.8], 1)?, &executor)?;
///
/// let bytes = store::learner_to_bytes(online.learner());
/// let mut again = Online::<f64, Mixture>::from_learner(store::learner_from_bytes(&bytes)?);
/// let block = Block::from_rows(&[0.3, 5.2, 5.1], 1)?;
/// let (a, b) = (online.partial_fit(block, &executor)?, again.partial_fit(block, &executor)?);
/// assert_eq!(a, b);
/// # Ok::<(), entropysum::Error>(())
/// ```
pub fn learner_to_bytes<M: Stored + GenerativeModel>(learner: &Stepwise<M>) -> Vec<u8> {
    let model = safetensors::to_bytes(learner.model());
    let mut bytes = MAGIC.to_vec();
    bytes.extend((model.len() as u64).to_le_bytes());
    bytes.extend(model);
    bytes.extend(learner.save());
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    bytes
}

/// Builds the learner that [`learner_to_bytes`] described.
///
/// # Errors
/// [`Error::Model`] if the bytes are damaged, of another version, or of another kind of model.
pub fn learner_from_bytes<M: Stored + GenerativeModel>(bytes: &[u8]) -> Result<Stepwise<M>> {
    let damaged = || Error::Model("damaged learner: its bytes cannot be read".to_owned());
    let (content, checksum) = bytes.split_last_chunk::<4>().ok_or_else(damaged)?;
    if !content.starts_with(MAGIC) {
        return Err(Error::Model("not a learner, or of another version".to_owned()));
    }
    if crc32fast::hash(content) != u32::from_le_bytes(*checksum) {
        return Err(damaged());
    }
    let (length, rest) = content[MAGIC.len()..].split_first_chunk::<8>().ok_or_else(damaged)?;
    let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| damaged())?;
    let (model, state) = rest.split_at_checked(length).ok_or_else(damaged)?;
    Stepwise::from_saved(files::from_bytes(model)?, state)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::em::StepSize;
    use crate::family::{Parameters, Regularization, registry};
    use crate::model::Mixture;

    #[test]
    fn damaged_bytes_are_refused_whatever_is_damaged() {
        let parameters = Parameters { components: vec![vec![0.0, 1.0]], shared: vec![] };
        let family = registry::build("gaussian-diag", 1).unwrap();
        let model = Mixture::new(family, vec![1.0], parameters).unwrap();
        let learner = Stepwise::new(model, StepSize::default(), Regularization::default()).unwrap();
        let bytes = learner_to_bytes(&learner);
        assert_eq!(learner_to_bytes(&learner_from_bytes::<Mixture>(&bytes).unwrap()), bytes);
        for cut in 0..bytes.len() {
            assert!(learner_from_bytes::<Mixture>(&bytes[..cut]).is_err(), "{cut}");
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            assert!(learner_from_bytes::<Mixture>(&damaged).is_err(), "{at}");
        }
    }
}
