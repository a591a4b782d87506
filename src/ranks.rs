//! Ranks: processes that share a fit, and how they talk.
//!
//! Every rank runs the same program on the same settings. What follows from parameters and seeds alone, each rank does for itself;
//! passes over points are shared. This crate knows no network: a library for messages implements [`Ranks`].

use crate::codec;
use crate::error::{DataError, Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Answers a question that another rank asks.
pub type Answer = Arc<dyn Fn(&[u8]) -> Vec<u8> + Send + Sync>;

/// Carries messages between the processes that share a fit.
///
/// Messages from one rank to another arrive in the order in which they were sent. All methods but [`ask`](Self::ask) are called by one
/// thread at a time.
pub trait Ranks: Debug + Send + Sync {
    /// Returns the number of this process, from 0.
    fn rank(&self) -> usize;

    /// Returns the number of processes.
    fn size(&self) -> usize;

    /// Returns the number of ranks on the machine of this one: they share its processors and its memory.
    fn local_size(&self) -> usize {
        self.size()
    }

    /// Ends all ranks at once, with this exit code.
    fn abort(&self, code: i32) -> ! {
        std::process::exit(code)
    }

    /// Sends a message to another rank.
    ///
    /// # Errors
    /// If the other rank cannot be reached.
    fn send(&self, to: usize, message: &[u8]) -> Result<()>;

    /// Waits for the next message of another rank, and returns it in place of what `message` held.
    ///
    /// # Errors
    /// If the other rank has ended.
    fn receive(&self, from: usize, message: &mut Vec<u8>) -> Result<()>;

    /// Replaces `message` on all ranks by that of rank 0, in about log₂ of their number steps.
    ///
    /// # Errors
    /// As [`send`](Self::send) and [`receive`](Self::receive).
    fn broadcast(&self, message: &mut Vec<u8>) -> Result<()> {
        let (rank, size) = (self.rank(), self.size());
        // Rank r hears from the rank without r's highest bit, and then tells r + 2^k for each higher bit k.
        let mut bit = 1;
        while bit <= rank {
            bit <<= 1;
        }
        if rank > 0 {
            self.receive(rank - (bit >> 1), message)?;
        }
        while rank + bit < size {
            self.send(rank + bit, message)?;
            bit <<= 1;
        }
        Ok(())
    }

    /// Waits until all ranks call it.
    ///
    /// # Errors
    /// As [`broadcast`](Self::broadcast).
    fn barrier(&self) -> Result<()> {
        let mut message = Vec::new();
        match self.rank() {
            0 => (1..self.size()).try_for_each(|rank| self.receive(rank, &mut message))?,
            _ => self.send(0, &message)?,
        }
        message.clear();
        self.broadcast(&mut message)
    }

    /// Answers questions of other ranks from now on, whatever this rank does. Returns the number of the answer, which counts calls.
    ///
    /// # Errors
    /// If these ranks cannot ask each other. Ranks that only send and receive cannot.
    fn serve(&self, _answer: Answer) -> Result<usize> {
        Err(Error::Config("these ranks cannot ask each other for points".to_owned()))
    }

    /// Asks another rank, and returns its answer of this number. Waits until that rank serves it. Called by any thread.
    ///
    /// # Errors
    /// If the other rank has ended.
    fn ask(&self, _rank: usize, _number: usize, _question: &[u8]) -> Result<Vec<u8>> {
        Err(Error::Config("these ranks cannot ask each other for points".to_owned()))
    }
}

/// The answers that a rank gives.
#[derive(Default)]
pub struct Answers {
    all: Mutex<Vec<Answer>>,
    more: Condvar,
}

impl Debug for Answers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let n = self.all.lock().unwrap_or_else(PoisonError::into_inner).len();
        f.debug_struct("Answers").field("n", &n).finish()
    }
}

impl Answers {
    /// Adds an answer. Returns its number.
    pub fn add(&self, answer: Answer) -> usize {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(answer);
        self.more.notify_all();
        all.len() - 1
    }

    /// Answers a question, once there is the answer of this number.
    pub fn answer(&self, number: usize, question: &[u8]) -> Vec<u8> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let all = self.more.wait_while(all, |all| all.len() <= number);
        let answer = all.unwrap_or_else(PoisonError::into_inner)[number].clone();
        answer(question)
    }
}

/// Ranks in one process, each on a thread of its own; for tests, and to try out what will run on many machines.
#[derive(Debug)]
pub struct LocalRanks {
    rank: usize,
    to: Vec<Sender<Vec<u8>>>,
    from: Vec<Mutex<Receiver<Vec<u8>>>>,
    /// Those of all ranks.
    answers: Arc<Vec<Answers>>,
}

impl LocalRanks {
    /// Returns `size` ranks that are connected with each other.
    ///
    /// ```
    /// use entropysum::ranks::{LocalRanks, Ranks};
    /// use std::thread;
    ///
    /// let told = thread::scope(|scope| {
    ///     let tell = |ranks: LocalRanks| {
    ///         let mut message = vec![ranks.rank() as u8 + 7];
    ///         ranks.broadcast(&mut message).unwrap();
    ///         message
    ///     };
    ///     let threads = LocalRanks::new(5).into_iter().map(|ranks| scope.spawn(move || tell(ranks)));
    ///     let threads: Vec<_> = threads.collect();
    ///     threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    /// });
    /// assert_eq!(told, vec![vec![7]; 5]);
    /// ```
    pub fn new(size: usize) -> Vec<Self> {
        let answers: Arc<Vec<Answers>> = Arc::new((0..size).map(|_| Answers::default()).collect());
        let new = |rank| Self { rank, to: Vec::new(), from: Vec::new(), answers: answers.clone() };
        let mut ranks: Vec<Self> = (0..size).map(new).collect();
        for to in 0..size {
            for from in 0..size {
                let (sender, receiver) = channel();
                ranks[from].to.push(sender);
                ranks[to].from.push(Mutex::new(receiver));
            }
        }
        ranks
    }
}

impl Ranks for LocalRanks {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.to.len()
    }

    fn send(&self, to: usize, message: &[u8]) -> Result<()> {
        self.to[to].send(message.to_vec()).map_err(|_| ended(to))
    }

    fn receive(&self, from: usize, message: &mut Vec<u8>) -> Result<()> {
        let receiver = self.from[from].lock().unwrap_or_else(PoisonError::into_inner);
        *message = receiver.recv().map_err(|_| ended(from))?;
        Ok(())
    }

    fn serve(&self, answer: Answer) -> Result<usize> {
        Ok(self.answers[self.rank].add(answer))
    }

    fn ask(&self, rank: usize, number: usize, question: &[u8]) -> Result<Vec<u8>> {
        Ok(self.answers[rank].answer(number, question))
    }
}

fn ended(rank: usize) -> Error {
    Error::Config(format!("rank {rank} has ended before its time: see its message"))
}

/// An error on its way to other ranks.
#[derive(Serialize, Deserialize)]
enum Fault {
    Io(String, String),
    Data { source: String, row: Option<u64>, column: Option<u64>, message: String },
    Model(String),
    Config(String),
    Interrupted,
}

/// Encodes an error for other ranks.
pub(crate) fn encode_error(error: &Error) -> Vec<u8> {
    let fault = match error {
        Error::Io { path, source } => Fault::Io(path.display().to_string(), source.to_string()),
        Error::Data(DataError { source, row, column, message }) => Fault::Data {
            source: source.clone(),
            row: *row,
            column: column.map(|column| column as u64),
            message: message.clone(),
        },
        Error::Model(message) => Fault::Model(message.clone()),
        Error::Config(message) => Fault::Config(message.clone()),
        Error::Interrupted => Fault::Interrupted,
    };
    codec::encode(&fault)
}

/// Decodes an error of another rank.
pub(crate) fn decode_error(bytes: &[u8]) -> Error {
    match codec::decode(bytes) {
        Some(Fault::Io(path, source)) => {
            Error::Io { path: PathBuf::from(path), source: std::io::Error::other(source) }
        }
        Some(Fault::Data { source, row, column, message }) => {
            let column = column.map(|column| column as usize);
            DataError { source, row, column, message }.into()
        }
        Some(Fault::Model(message)) => Error::Model(message),
        Some(Fault::Config(message)) => Error::Config(message),
        Some(Fault::Interrupted) => Error::Interrupted,
        None => out_of_step(),
    }
}

/// Returns the fault of ranks that are not at the same place of the same program.
pub(crate) fn out_of_step() -> Error {
    Error::Config(
        "the ranks are out of step: give all the same program, settings, data and environment"
            .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_the_same_on_other_ranks() {
        let errors = [
            Error::io("a.csv", std::io::Error::other("the disk is full")),
            DataError::new("a.csv", "found no number").at(3, Some(1)).into(),
            Error::Model("a model".to_owned()),
            Error::Config("a setting".to_owned()),
            Error::Interrupted,
        ];
        for error in errors {
            let there = decode_error(&encode_error(&error));
            assert_eq!(there.to_string(), error.to_string());
            assert_eq!(std::mem::discriminant(&there), std::mem::discriminant(&error));
        }
        assert!(decode_error(&[250, 1]).to_string().contains("out of step"));
    }

    #[test]
    fn a_rank_that_has_ended_is_named() {
        let mut ranks = LocalRanks::new(2);
        drop(ranks.pop());
        let fault = ranks[0].receive(1, &mut Vec::new()).unwrap_err();
        assert!(fault.to_string().starts_with("rank 1 has ended"), "{fault}");
    }
}
